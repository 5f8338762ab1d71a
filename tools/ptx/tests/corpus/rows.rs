//! Kernels that give a row to a block.

use half::{bf16, f16};

use crate::{Corpus, EPSILON, EPSILON_BF16, EPSILON_F16, close, doubles, random, whole};

#[test]
fn softmax() {
    let (rows, columns) = (5, 300);
    let x = random(1, rows * columns, |x| 20.0 * x);
    let mut c = Corpus::new("softmax");
    let (input, out) = (c.put(&x), c.room::<f32>(x.len()));
    let args = [input.into(), out.into(), (columns as i32).into()];
    c.triton("softmax", [rows as u32, 1, 1], &args);
    let mut want = vec![];
    for row in doubles(&x).chunks(columns) {
        let total: f64 = row.iter().map(|v| v.exp()).sum();
        want.extend(row.iter().map(|v| v.exp() / total));
    }
    // differences of up to 40 are rounded, times log2 e are rounded again: 2 * 40 ε; sums and the quotient add some
    let tolerance = |i: usize| 100.0 * EPSILON * want[i] + 1e-30;
    close("softmax", &c.get_f64::<f32>(out, x.len()), &want, tolerance);
}

/// Rows of f16, and of each row its mean, 1 / deviation and normalised values.
fn normalised(x: &[f64], columns: usize, eps: f64) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (mut mean, mut rstd, mut unit) = (vec![], vec![], vec![]);
    for row in x.chunks(columns) {
        let n = columns as f64;
        let m = row.iter().sum::<f64>() / n;
        let r = 1.0 / (row.iter().map(|v| (v - m).powi(2)).sum::<f64>() / n + eps).sqrt();
        unit.extend(row.iter().map(|v| (v - m) * r));
        mean.push(m);
        rstd.push(r);
    }
    (mean, rstd, unit)
}

#[test]
fn layer_norm() {
    let (rows, columns, eps) = (6, 200, 1e-5f32);
    let x = random(1, rows * columns, f16::from_f32);
    let (weight, bias) = (random(2, columns, |x| x), random(3, columns, |x| x));
    let (mean, rstd, unit) = normalised(&doubles(&x), columns, f64::from(eps));
    let mut c = Corpus::new("layer_norm_forward");
    let [px, pw, pb] = [c.put(&x), c.put(&weight), c.put(&bias)];
    let out = c.room::<f16>(x.len());
    let (pm, pr) = (c.room::<f32>(rows), c.room::<f32>(rows));
    let mut args = [px, pw, pb, out, pm, pr].map(|p| p.into()).to_vec();
    args.extend([(columns as i32).into(), eps.into()]);
    c.triton("layer_norm_forward", [rows as u32, 1, 1], &args);
    let want: Vec<f64> = (0..x.len())
        .map(|i| unit[i] * f64::from(weight[i % columns]) + f64::from(bias[i % columns]))
        .collect();
    // sums of 200 terms below 1 in a tree: 8 + log2 of it roundings, the mean of them is used in every value
    let tolerance = |i: usize| EPSILON_F16 * want[i].abs() + 40.0 * EPSILON;
    close("out", &c.get_f64::<f16>(out, x.len()), &want, tolerance);
    close("mean", &c.get_f64::<f32>(pm, rows), &mean, |_| {
        16.0 * EPSILON
    });
    close("rstd", &c.get_f64::<f32>(pr, rows), &rstd, |i| {
        16.0 * EPSILON * rstd[i]
    });
}

#[test]
fn layer_norm_backward() {
    let (rows, columns) = (6, 200);
    let x = random(1, rows * columns, f16::from_f32);
    let grads = random(2, rows * columns, f16::from_f32);
    let weight = random(3, columns, |x| x);
    let (mean, rstd, unit) = normalised(&doubles(&x), columns, 1e-5);
    let narrow = |x: &[f64]| x.iter().map(|v| *v as f32).collect::<Vec<_>>();
    let mut c = Corpus::new("layer_norm_backward");
    let [px, pw, pg] = [c.put(&x), c.put(&weight), c.put(&grads)];
    let [pm, pr] = [c.put(&narrow(&mean)), c.put(&narrow(&rstd))];
    let dx = c.room::<f16>(x.len());
    let [dw, db] = [c.put(&vec![0f32; columns]), c.put(&vec![0f32; columns])];
    let lock = c.put(&[0i32]);
    let mut args = [px, pw, pm, pr, pg, dx, dw, db, lock]
        .map(|p| p.into())
        .to_vec();
    args.push((columns as i32).into());
    c.triton("layer_norm_backward", [rows as u32, 1, 1], &args);
    let (g, w) = (doubles(&grads), doubles(&weight));
    let mut want = vec![];
    let (mut want_w, mut want_b) = (vec![0.0; columns], vec![0.0; columns]);
    for (row, rstd) in rstd.iter().enumerate() {
        let at = |i: usize| row * columns + i;
        let mean_of = |f: &dyn Fn(usize) -> f64| (0..columns).map(f).sum::<f64>() / columns as f64;
        let c1 = mean_of(&|i| unit[at(i)] * g[at(i)] * w[i]);
        let c2 = mean_of(&|i| g[at(i)] * w[i]);
        for i in 0..columns {
            want.push((g[at(i)] * w[i] - unit[at(i)] * c1 - c2) * rstd);
            want_w[i] += g[at(i)] * unit[at(i)];
            want_b[i] += g[at(i)];
        }
    }
    // a handful of f32 operations on numbers below 2, times a deviation below 2; then f16
    let tolerance = |i: usize| EPSILON_F16 * want[i].abs() + 60.0 * EPSILON;
    close("dx", &c.get_f64::<f16>(dx, x.len()), &want, tolerance);
    // six terms below 2
    close("dw", &c.get_f64::<f32>(dw, columns), &want_w, |_| {
        60.0 * EPSILON
    });
    close("db", &c.get_f64::<f32>(db, columns), &want_b, |_| {
        60.0 * EPSILON
    });
    assert_eq!(c.get::<i32>(lock, 1), [0]);
}

#[test]
fn cross_entropy() {
    let (rows, columns) = (7, 450);
    let x = random(1, rows * columns, |x| bf16::from_f32(8.0 * x));
    let mut labels: Vec<i64> = whole(2, rows, columns as u64)
        .iter()
        .map(|v| *v as i64)
        .collect();
    labels[3] = -1;
    let mut c = Corpus::new("cross_entropy");
    let [px, pl] = [c.put(&x), c.put(&labels)];
    let (loss, grad) = (c.room::<f32>(rows), c.room::<bf16>(x.len()));
    let mut args = [px, pl, loss, grad].map(|p| p.into()).to_vec();
    args.push((columns as i32).into());
    c.triton("cross_entropy", [rows as u32, 1, 1], &args);
    let (mut want, mut want_grad) = (vec![], vec![]);
    for (row, label) in doubles(&x).chunks(columns).zip(&labels) {
        let total: f64 = row.iter().map(|v| v.exp()).sum();
        want.push(if *label < 0 {
            0.0
        } else {
            total.ln() - row[*label as usize]
        });
        want_grad.extend(row.iter().enumerate().map(|(i, v)| {
            let one = if i as i64 == *label { 1.0 } else { 0.0 };
            if *label < 0 {
                0.0
            } else {
                v.exp() / total - one
            }
        }));
    }
    // logits differ by up to 16
    close("loss", &c.get_f64::<f32>(loss, rows), &want, |_| {
        60.0 * EPSILON
    });
    let tolerance = |i: usize| EPSILON_BF16 * want_grad[i].abs() + 60.0 * EPSILON;
    close(
        "grad",
        &c.get_f64::<bf16>(grad, x.len()),
        &want_grad,
        tolerance,
    );
}

#[test]
fn argmax() {
    let (rows, columns) = (4, 256);
    // few values, so that there are equals
    let x: Vec<f32> = whole(5, rows * columns, 20)
        .iter()
        .map(|v| *v as f32)
        .collect();
    let mut c = Corpus::new("argmax");
    let input = c.put(&x);
    let (most, least) = (c.room::<i32>(rows), c.room::<i32>(rows));
    c.triton(
        "argmax",
        [rows as u32, 1, 1],
        &[input.into(), most.into(), least.into()],
    );
    let first = |row: &[f32], better: fn(f32, f32) -> bool| {
        (0..columns).fold(
            0,
            |best, i| if better(row[i], row[best]) { i } else { best },
        ) as i32
    };
    let rows_of = |better| {
        x.chunks(columns)
            .map(|row| first(row, better))
            .collect::<Vec<_>>()
    };
    assert_eq!(c.get::<i32>(most, rows), rows_of(|a, b| a > b));
    assert_eq!(c.get::<i32>(least, rows), rows_of(|a, b| a < b));
}

#[test]
fn sort() {
    let (rows, columns) = (3, 128);
    let x: Vec<i32> = whole(9, rows * columns, 1 << 32)
        .iter()
        .map(|v| *v as u32 as i32)
        .collect();
    let mut c = Corpus::new("sort");
    let (input, out) = (c.put(&x), c.room::<i32>(x.len()));
    c.triton("sort", [rows as u32, 1, 1], &[input.into(), out.into()]);
    let mut want = x;
    want.chunks_mut(columns).for_each(|row| row.sort());
    assert_eq!(c.get::<i32>(out, want.len()), want);
}
