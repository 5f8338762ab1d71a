//! Matrix products in all types.

use half::{bf16, f16};

use crate::{Corpus, EPSILON, EPSILON_BF16, EPSILON_F16, Number, close, doubles, random, whole};

/// A [m, k] times B [k, n], and the same product of absolute values.
fn product(a: &[f64], b: &[f64], [m, n, k]: [usize; 3]) -> (Vec<f64>, Vec<f64>) {
    let (mut sum, mut size) = (vec![0.0; m * n], vec![0.0; m * n]);
    for i in 0..m {
        for q in 0..k {
            for j in 0..n {
                let term = a[i * k + q] * b[q * n + j];
                sum[i * n + j] += term;
                size[i * n + j] += term.abs();
            }
        }
    }
    (sum, size)
}

/// Sizes that fill no tile.
const SIZES: [usize; 3] = [50, 70, 90];

/// Runs the kernel `product` of a file on A and B and returns C.
fn run<T: Number, S: Number>(file: &str, a: &[T], b: &[T], tile: usize) -> Vec<S> {
    let [m, n, k] = SIZES;
    let mut c = Corpus::new(file);
    let (pa, pb, pc) = (c.put(a), c.put(b), c.room::<S>(m * n));
    let grid = [m.div_ceil(tile) as u32, n.div_ceil(tile) as u32, 1];
    let mut args = [pa, pb, pc].map(|p| p.into()).to_vec();
    args.extend([m, n, k].map(|size| (size as i32).into()));
    let report = c.triton("product", grid, &args);
    // every tile is multiplied in full, by matrix instructions; f32 has none
    let padded = m.next_multiple_of(tile) * n.next_multiple_of(tile) * k.next_multiple_of(tile);
    let flops = if file == "product_f32" {
        0
    } else {
        2 * padded as u64
    };
    assert_eq!(report.counters.total.matrix_flops, flops, "{file}");
    c.get(pc, m * n)
}

#[test]
fn floats() {
    let [m, n, k] = SIZES;
    let (a, b) = (
        random(1, m * k, bf16::from_f32),
        random(2, k * n, bf16::from_f32),
    );
    let (want, size) = product(&doubles(&a), &doubles(&b), SIZES);
    // a sum of k products: k roundings at most
    let rounding = k as f64 * EPSILON;
    let got = doubles(&run::<_, f32>("product_bf16", &a, &b, 32));
    close("bf16", &got, &want, |i| rounding * size[i]);

    let (a, b) = (
        random(3, m * k, f16::from_f32),
        random(4, k * n, f16::from_f32),
    );
    let (want, size) = product(&doubles(&a), &doubles(&b), SIZES);
    // the sum is kept in f16, and rounded once for each of k / 16 products of 16
    let got = doubles(&run::<_, f16>("product_f16", &a, &b, 32));
    close("f16", &got, &want, |i| {
        (k / 16 + 2) as f64 * EPSILON_F16 * size[i]
    });

    let (a, b) = (random(5, m * k, |x| x), random(6, k * n, |x| x));
    let (want, size) = product(&doubles(&a), &doubles(&b), SIZES);
    let got = doubles(&run::<_, f32>("product_f32", &a, &b, 16));
    close("f32", &got, &want, |i| rounding * size[i]);
    // tf32 leaves out 13 bits, by truncation at worst: 2^-10 of either factor
    let got = doubles(&run::<_, f32>("product_tf32", &a, &b, 32));
    close("tf32", &got, &want, |i| (2.1 / 1024.0 + rounding) * size[i]);
}

#[test]
fn bytes() {
    let [m, n, k] = SIZES;
    let bytes = |seed, count| -> Vec<i8> {
        whole(seed, count, 256)
            .iter()
            .map(|v| *v as u8 as i8)
            .collect()
    };
    let (a, b) = (bytes(1, m * k), bytes(2, k * n));
    let (want, _) = product(&doubles(&a), &doubles(&b), SIZES);
    let got = run::<_, i32>("product_s8", &a, &b, 32);
    assert_eq!(doubles(&got), want);
}

/// B [k, n] from B [n, k].
fn transposed(b: &[f64], n: usize, k: usize) -> Vec<f64> {
    (0..k * n).map(|at| b[at % n * k + at / n]).collect()
}

#[test]
fn split_and_persistent() {
    let [m, n, k] = [64, 96, 128];
    let (a, b) = (
        random(1, m * k, bf16::from_f32),
        random(2, k * n, bf16::from_f32),
    );
    let (want, size) = product(&doubles(&a), &transposed(&doubles(&b), n, k), [m, n, k]);
    let sizes = [m, n, k].map(|size| (size as i32).into());

    let mut c = Corpus::new("product_split");
    let (pa, pb, pc) = (c.put(&a), c.put(&b), c.put(&vec![0f32; m * n]));
    let args: Vec<_> = [pa, pb, pc]
        .map(|p| p.into())
        .into_iter()
        .chain(sizes.clone())
        .collect();
    c.triton("product_split", [m as u32 / 32, n as u32 / 32, 2], &args);
    let rounding = k as f64 * EPSILON;
    close("split", &c.get_f64::<f32>(pc, m * n), &want, |i| {
        rounding * size[i]
    });

    let mut c = Corpus::new("product_persistent");
    let (pa, pb, pc) = (c.put(&a), c.put(&b), c.room::<bf16>(m * n));
    let args: Vec<_> = [pa, pb, pc]
        .map(|p| p.into())
        .into_iter()
        .chain(sizes)
        .collect();
    // four blocks take six tiles
    c.triton("product_persistent", [4, 1, 1], &args);
    let swish: Vec<f64> = want.iter().map(|x| x / (1.0 + (-x).exp())).collect();
    // the slope of the unit is at most 1.1; f32 functions of numbers below 20 add a few tens of ε
    let tolerance = |i: usize| {
        EPSILON_BF16 * swish[i].abs()
            + 1.1 * rounding * size[i]
            + 60.0 * EPSILON * (1.0 + want[i].abs())
    };
    close(
        "persistent",
        &c.get_f64::<bf16>(pc, m * n),
        &swish,
        tolerance,
    );
}
