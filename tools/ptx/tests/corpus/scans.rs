//! Scans of Triton, and scans across blocks of NVRTC.

use ptx::Launch;

use crate::{Corpus, EPSILON, close, doubles, random, whole};

#[test]
fn recurrence() {
    let (rows, length) = (3, 300);
    let decay = random(1, rows * length, |x| 0.9 + 0.1 * x);
    let x = random(2, rows * length, |x| x);
    let mut c = Corpus::new("recurrence");
    let args = [c.put(&decay), c.put(&x)];
    let out = c.room::<f32>(x.len());
    let args = [
        args[0].into(),
        args[1].into(),
        out.into(),
        (length as i32).into(),
    ];
    c.triton("recurrence", [rows as u32, 1, 1], &args);
    let (mut want, mut size) = (vec![], vec![]);
    for row in 0..rows {
        let (mut state, mut bound) = (0.0f64, 0.0f64);
        for t in row * length..(row + 1) * length {
            state = f64::from(decay[t]) * state + f64::from(x[t]);
            bound = f64::from(decay[t]) * bound + f64::from(x[t]).abs();
            want.push(state);
            size.push(bound);
        }
    }
    // a term goes through 7 steps of the scan of 128, each a product and a sum, and as many when it is handed on
    close("state", &c.get_f64::<f32>(out, x.len()), &want, |i| {
        40.0 * EPSILON * size[i]
    });
}

#[test]
fn running() {
    let (n, columns) = (64, 4);
    let x: Vec<i32> = whole(4, n * columns, 2000)
        .iter()
        .map(|v| *v as i32 - 1000)
        .collect();
    let mut c = Corpus::new("running");
    let input = c.put(&x);
    let out = [
        c.room::<i32>(x.len()),
        c.room::<i32>(x.len()),
        c.room::<f32>(x.len()),
    ];
    let args = [input, out[0], out[1], out[2]].map(|p| p.into());
    c.triton("running", [1, 1, 1], &args);
    let column = |j: usize| (0..n).map(move |i| i * columns + j);
    let (mut sums, mut backward, mut products) = (x.clone(), x.clone(), vec![0.0; x.len()]);
    for j in 0..columns {
        let (mut sum, mut product) = (0, 1.0);
        for at in column(j) {
            sum += x[at];
            sums[at] = sum;
            product *= 1.0 + f64::from(x[at]) * f64::from(0.001f32);
            products[at] = product;
        }
        sum = 0;
        for at in column(j).rev() {
            sum += x[at];
            backward[at] = sum;
        }
    }
    assert_eq!(c.get::<i32>(out[0], x.len()), sums);
    assert_eq!(c.get::<i32>(out[1], x.len()), backward);
    // factors are off by ε of 1 + 1 at most, however small they are; that counts once for every factor
    let smallest = |i: usize| {
        let column = column(i % columns).take(i / columns + 1);
        column
            .map(|at| 1.0 / (1.0 + f64::from(x[at]) * 0.001).abs().max(1e-9))
            .sum::<f64>()
    };
    let tolerance = |i: usize| 2.0 * EPSILON * products[i].abs() * (smallest(i) + 64.0);
    close(
        "products",
        &c.get_f64::<f32>(out[2], x.len()),
        &products,
        tolerance,
    );
}

#[test]
fn scan_across_blocks() {
    let (count, threads) = (1000, 128);
    let x: Vec<u32> = whole(4, count, 1 << 32).iter().map(|v| *v as u32).collect();
    let blocks = count.div_ceil(threads);
    let mut c = Corpus::new("scan");
    let [input, state] = [c.put(&x), c.put(&vec![0u64; blocks])];
    let out = c.room::<u32>(count);
    let launch = Launch {
        dynamic_shared: 4 * threads as u32,
        ..Launch::linear(blocks as u32, threads as u32)
    };
    let args = [
        input.into(),
        out.into(),
        state.into(),
        (count as i32).into(),
    ];
    c.launch("scan", launch, &args);
    let mut sum = 0u32;
    let want: Vec<u32> = x
        .iter()
        .map(|v| {
            sum = sum.wrapping_add(*v);
            sum
        })
        .collect();
    assert_eq!(c.get::<u32>(out, count), want);
}

#[test]
fn last_block_adds_up() {
    let (count, blocks) = (3000, 5);
    let x = random(1, count, |x| x);
    let mut c = Corpus::new("scan");
    let [input, done] = [c.put(&x), c.put(&[0u32])];
    let (parts, total) = (c.room::<f32>(blocks), c.room::<f32>(1));
    let mut args = [input, parts, done, total].map(|p| p.into()).to_vec();
    args.push((count as i32).into());
    c.launch("last_block", Launch::linear(blocks as u32, 128), &args);
    let want: f64 = doubles(&x).iter().sum();
    let size: f64 = doubles(&x).iter().map(|v| v.abs()).sum();
    // 5 sums in a thread, 7 in the tree, 5 at the end
    close("total", &c.get_f64::<f32>(total, 1), &[want], |_| {
        17.0 * EPSILON * size
    });
    assert_eq!(c.get::<u32>(done, 1), [0]);
}
