//! Kernels on single elements: dropout, rotary embedding, histogram, gather, transpose.

use half::f16;

use crate::{Corpus, EPSILON, EPSILON_F16, close, doubles, random, whole};

/// First word of Philox 4x32 with 10 rounds (Salmon et al. 2011), for a counter and a key of one word.
fn philox(counter: u32, key: u32) -> u32 {
    let (mut c, mut k) = ([counter, 0, 0, 0], [key, 0]);
    for _ in 0..10 {
        let product = |a: u32, b: u32| u64::from(a) * u64::from(b);
        let (a, b) = (product(0xd251_1f53, c[0]), product(0xcd9e_8d57, c[2]));
        c = [
            (b >> 32) as u32 ^ c[1] ^ k[0],
            b as u32,
            (a >> 32) as u32 ^ c[3] ^ k[1],
            a as u32,
        ];
        k = [
            k[0].wrapping_add(0x9e37_79b9),
            k[1].wrapping_add(0xbb67_ae85),
        ];
    }
    c[0]
}

#[test]
fn dropout() {
    let (count, keep, seed) = (1000, 0.7f32, 1234);
    let x = random(1, count, |x| x);
    let mut c = Corpus::new("dropout");
    let (input, out) = (c.put(&x), c.room::<f32>(count));
    let args = [
        input.into(),
        out.into(),
        (count as i32).into(),
        keep.into(),
        seed.into(),
    ];
    c.triton("dropout", [count.div_ceil(256) as u32, 1, 1], &args);
    let kept = |i: usize| {
        let bits = philox(i as u32, seed as u32) as i32;
        let positive = if bits < 0 { -(bits + 1) } else { bits };
        positive as f32 * 4.656_612_7e-10 < keep
    };
    let want: Vec<f64> = (0..count)
        .map(|i| {
            if kept(i) {
                f64::from(x[i]) / f64::from(keep)
            } else {
                0.0
            }
        })
        .collect();
    // a division that may be off by two units
    close("dropout", &c.get_f64::<f32>(out, count), &want, |i| {
        4.0 * EPSILON * want[i].abs()
    });
}

#[test]
fn rope() {
    let (length, heads, d) = (5, 3, 64);
    let x = random(1, length * heads * d, f16::from_f32);
    let angles: Vec<f32> = (0..length * d / 2)
        .map(|i| (i / (d / 2)) as f32 / 10f32.powf((i % (d / 2)) as f32 / 8.0))
        .collect();
    let cosine: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
    let sine: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
    let mut c = Corpus::new("rope");
    let [px, pc, ps] = [c.put(&x), c.put(&cosine), c.put(&sine)];
    let out = c.room::<f16>(x.len());
    let mut args = [px, pc, ps, out].map(|p| p.into()).to_vec();
    args.push((heads as i32).into());
    c.triton("rope", [length as u32, heads as u32, 1], &args);
    let values = doubles(&x);
    let want: Vec<f64> = (0..x.len())
        .map(|at| {
            let (row, i) = (at / d, at % d);
            let angle = row / heads * (d / 2) + i % (d / 2);
            let (co, si) = (f64::from(cosine[angle]), f64::from(sine[angle]));
            let (a, b) = (
                values[row * d + i % (d / 2)],
                values[row * d + d / 2 + i % (d / 2)],
            );
            if i < d / 2 {
                a * co - b * si
            } else {
                a * si + b * co
            }
        })
        .collect();
    let tolerance = |i: usize| EPSILON_F16 * want[i].abs() + 4.0 * EPSILON;
    close("rope", &c.get_f64::<f16>(out, x.len()), &want, tolerance);
}

#[test]
fn histogram() {
    let (count, bins) = (900, 64);
    let x: Vec<i32> = whole(3, count, bins).iter().map(|v| *v as i32).collect();
    let mut c = Corpus::new("histogram_triton");
    let (input, counts) = (c.put(&x), c.put(&vec![0i32; bins as usize]));
    let args = [input.into(), counts.into(), (count as i32).into()];
    c.triton("histogram", [count.div_ceil(256) as u32, 1, 1], &args);
    let mut want = vec![0; bins as usize];
    x.iter().for_each(|v| want[*v as usize] += 1);
    assert_eq!(c.get::<i32>(counts, bins as usize), want);
}

#[test]
fn gather() {
    let (m, n) = (32, 16);
    let x = random(1, m * n, |x| x);
    let index: Vec<i32> = whole(2, m * n, m as u64)
        .iter()
        .map(|v| *v as i32)
        .collect();
    let mut c = Corpus::new("gather");
    let (px, pi, out) = (c.put(&x), c.put(&index), c.room::<f32>(m * n));
    c.triton("gather", [1, 1, 1], &[px.into(), pi.into(), out.into()]);
    let want: Vec<f32> = (0..m * n)
        .map(|at| x[index[at] as usize * n + at % n])
        .collect();
    assert_eq!(c.get::<f32>(out, m * n), want);
}

#[test]
fn transpose() {
    let (rows, columns) = (50, 70);
    let x: Vec<u8> = whole(1, rows * columns, 256)
        .iter()
        .map(|v| *v as u8)
        .collect();
    let mut c = Corpus::new("transpose");
    let (input, out) = (c.put(&x), c.room::<u8>(x.len()));
    let args = [
        input.into(),
        out.into(),
        (rows as i32).into(),
        (columns as i32).into(),
    ];
    let report = c.triton("transpose", [2, 3, 1], &args);
    assert!(report.counters.total.shared_wavefronts > 0);
    let want: Vec<u8> = (0..x.len())
        .map(|at| x[at % rows * columns + at / rows])
        .collect();
    assert_eq!(c.get::<u8>(out, x.len()), want);
}
