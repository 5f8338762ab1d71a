//! Functions of f16, bf16, f32 and f64, and functions that are called.

use half::{bf16, f16};
use ptx::Launch;

use crate::{Corpus, EPSILON, EPSILON_BF16, EPSILON_F16, close, doubles, random, whole};

/// The error function by its series, for arguments below 3.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..80 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

#[test]
fn of_f32() {
    let x = random(1, 64, |x| 2.0 * x);
    let mut c = Corpus::new("functions");
    let (input, out) = (c.put(&x), c.room::<f32>(6 * 64));
    c.triton("functions", [1, 1, 1], &[input.into(), out.into()]);
    let rows: [fn(f64) -> f64; 6] = [
        erf,
        f64::tanh,
        f64::sin,
        |v| (v.abs() + 0.5).ln(),
        |v| v.abs().powf(1.5),
        |v| (v * 7.5).floor(),
    ];
    for (row, f) in rows.iter().enumerate() {
        let want: Vec<f64> = doubles(&x).iter().map(|v| f(*v)).collect();
        let got = c.get_f64::<f32>(out + 256 * row as u64, 64);
        // the library promises 8 units in the last place for each of these
        let tolerance = |i: usize| 16.0 * EPSILON * want[i].abs().max(0.1);
        close(&format!("function {row}"), &got, &want, tolerance);
    }
}

#[test]
fn of_f64() {
    let count = 100;
    let x = random(1, count, |x| 2.0 * f64::from(x));
    let mut c = Corpus::new("doubles");
    let (input, out) = (c.put(&x), c.room::<f64>(8 * count));
    let args = [input.into(), out.into(), (count as i32).into()];
    c.launch("functions", Launch::linear(4, 32), &args);
    let rows: [fn(f64) -> f64; 8] = [
        f64::exp,
        |v| (v.abs() + 0.25).ln(),
        f64::sin,
        |v| (v * 100.0).cos(),
        |v| (v.abs() + 0.1).powf(2.5),
        |v| 1.0 / (v * v + 1.0).cbrt(),
        erf,
        |v| v % 0.3,
    ];
    for (row, f) in rows.iter().enumerate() {
        let want: Vec<f64> = x.iter().map(|v| f(*v)).collect();
        let got = c.get::<f64>(out + (8 * count * row) as u64, count);
        // two units in the last place of numbers below 10; the series above loses a few digits more
        let allowed = if row == 6 { 1e-14 } else { 4e-16 };
        close(&format!("function {row}"), &got, &want, |i| {
            allowed * want[i].abs().max(0.5)
        });
    }
}

#[test]
fn bodies() {
    let (count, eps) = (100, 0.01);
    let body = random(1, 4 * count, f64::from);
    let mut c = Corpus::new("doubles");
    let (input, out) = (c.put(&body), c.room::<f64>(3 * count));
    let args = [input.into(), out.into(), (count as i32).into(), eps.into()];
    c.launch("bodies", Launch::linear(2, 64), &args);
    let (mut want, mut size) = (vec![0.0; 3 * count], vec![0.0; 3 * count]);
    for (i, me) in body.chunks(4).enumerate() {
        for other in body.chunks(4) {
            let d = [0, 1, 2].map(|axis| other[axis] - me[axis]);
            let square = d.iter().map(|v| v * v).sum::<f64>() + eps;
            for axis in 0..3 {
                let term = d[axis] * other[3] / (square * square.sqrt());
                want[3 * i + axis] += term;
                size[3 * i + axis] += f64::abs(term);
            }
        }
    }
    // each term is off by ten roundings at most, and there are 100 of them to add
    close("out", &c.get::<f64>(out, 3 * count), &want, |i| {
        110.0 * f64::EPSILON * size[i]
    });
}

#[test]
fn pairs_of_halves() {
    let pairs = 70;
    let (x, y) = (
        random(1, 2 * pairs, f16::from_f32),
        random(2, 2 * pairs, f16::from_f32),
    );
    let mut c = Corpus::new("halves");
    let (px, py) = (c.put(&x), c.put(&y));
    let (out, sum) = (c.room::<f16>(2 * pairs), c.put(&[f16::ZERO, f16::ZERO]));
    let mut args = [px, py, out, sum].map(|p| p.into()).to_vec();
    args.extend([0.3f32.into(), (pairs as i32).into()]);
    c.launch("half_pairs", Launch::linear(1, 32), &args);
    let a = f16::from_f32(0.3).to_f64();
    let want: Vec<f16> = (0..2 * pairs)
        .map(|i| f16::from_f64((a * x[i].to_f64() + y[i].to_f64()).max(0.0)))
        .collect();
    assert_eq!(c.get::<f16>(out, 2 * pairs), want);
    for half in 0..2 {
        let total: f64 = want.iter().skip(half).step_by(2).map(|v| v.to_f64()).sum();
        // 3 sums in a thread and 32 atomics, each rounded at no more than the total
        let got = c.get_f64::<f16>(sum + 2 * half as u64, 1);
        close("sum", &got, &[total], |_| 35.0 * EPSILON_F16 * total);
    }
}

#[test]
fn functions_of_halves() {
    let count = 64;
    let mut x = random(1, count, f16::from_f32);
    let y = random(2, count, f16::from_f32);
    (x[3], x[4], x[5]) = (f16::NAN, y[4], f16::INFINITY);
    let mut c = Corpus::new("halves");
    let (px, py) = (c.put(&x), c.put(&y));
    let (out, flags) = (c.room::<f16>(6 * count), c.room::<i32>(count));
    let mut args = [px, py, out, flags].map(|p| p.into()).to_vec();
    args.push((count as i32).into());
    c.launch("half_functions", Launch::linear(1, 64), &args);
    let got = |row: usize| c.get::<f16>(out + (2 * count * row) as u64, count);
    let exact: [fn(f64, f64) -> f64; 4] = [
        |a, b| a + b,
        |a, b| {
            if (a * b).is_nan() {
                0.0
            } else {
                (a * b).clamp(0.0, 1.0)
            }
        },
        |a, b| a * b + a,
        f64::max,
    ];
    let same = |a: f16, b: f16| a == b || a.is_nan() && b.is_nan();
    for (row, f) in exact.iter().enumerate() {
        for (i, got) in got(row).into_iter().enumerate() {
            let want = f16::from_f64(f(x[i].to_f64(), y[i].to_f64()));
            assert!(
                same(got, want),
                "{row} of {}, {}: {got}, not {want}",
                x[i],
                y[i]
            );
        }
    }
    for i in (0..count).filter(|i| x[*i].is_finite()) {
        // through f32, then rounded; the exponential of halves is off by two units of f16
        let root = x[i].to_f64().abs().sqrt();
        assert!((got(4)[i].to_f64() - root).abs() <= 1.1 * EPSILON_F16 * root);
        let power = y[i].to_f64().exp();
        assert!((got(5)[i].to_f64() - power).abs() <= 2.0 * EPSILON_F16 * power);
    }
    let want: Vec<i32> = (0..count)
        .map(|i| {
            let (a, b) = (x[i], y[i]);
            let unordered = a.is_nan() || b.is_nan();
            let bits = [a < b, a >= b, a.is_nan(), a == b || unordered];
            bits.iter()
                .rev()
                .fold(0, |all, bit| all << 1 | i32::from(*bit))
        })
        .collect();
    assert_eq!(c.get::<i32>(flags, count), want);
}

#[test]
fn norms_of_bf16() {
    let (rows, pairs) = (3, 50);
    let x = random(1, rows * 2 * pairs, bf16::from_f32);
    let mut c = Corpus::new("halves");
    let input = c.put(&x);
    let (out, largest) = (c.room::<f32>(rows), c.room::<bf16>(2 * rows));
    let args = [
        input.into(),
        out.into(),
        largest.into(),
        (pairs as i32).into(),
    ];
    c.launch("bf16_norms", Launch::linear(rows as u32, 32), &args);
    let square = |v: &bf16| v.to_f64() * v.to_f64();
    let want: Vec<f64> = x
        .chunks(2 * pairs)
        .map(|row| row.iter().map(square).sum())
        .collect();
    // squares are rounded to bf16, sums of 4 and a tree of 5 to f32
    let got = c.get_f64::<f32>(out, rows);
    close("norms", &got, &want, |i| {
        (EPSILON_BF16 + 10.0 * EPSILON) * want[i]
    });
    let most = |at: usize| {
        let row = &x[at / 2 * 2 * pairs..][..2 * pairs];
        row.iter()
            .skip(at % 2)
            .step_by(2)
            .copied()
            .fold(bf16::NEG_INFINITY, bf16::max)
    };
    assert_eq!(
        c.get::<bf16>(largest, 2 * rows),
        (0..2 * rows).map(most).collect::<Vec<_>>()
    );
}

#[test]
fn polynomials() {
    let count = 96;
    let x = random(1, count, |x| x);
    let mut c = Corpus::new("calls");
    let input = c.put(&x);
    let results = [(); 3].map(|()| c.room::<f32>(count));
    let mut args = vec![input.into()];
    args.extend(results.map(|p| p.into()));
    c.launch("polynomials", Launch::linear(3, 32), &args);
    let (mut value, mut re, mut im) = (vec![], vec![], vec![]);
    for (i, x) in doubles(&x).into_iter().enumerate() {
        let n = 1 + i % 7;
        value.push((0..n).rev().fold(0.0, |sum, c| sum * x + (c + 1) as f64));
        let power = (0..n).fold((1.0, 0.0), |(a, b), _| (a * x - b, a + b * x));
        re.push(power.0);
        im.push(power.1);
    }
    // 14 roundings of numbers below 28; 21 of numbers below 2^3.5
    close(
        "value",
        &c.get_f64::<f32>(results[0], count),
        &value,
        |_| 14.0 * 28.0 * EPSILON,
    );
    close("real", &c.get_f64::<f32>(results[1], count), &re, |_| {
        21.0 * 12.0 * EPSILON
    });
    close(
        "imaginary",
        &c.get_f64::<f32>(results[2], count),
        &im,
        |_| 21.0 * 12.0 * EPSILON,
    );
}

#[test]
fn medians() {
    let count = 90;
    let x: Vec<i32> = whole(1, count, 100).iter().map(|v| *v as i32).collect();
    let mut c = Corpus::new("calls");
    let (input, out) = (c.put(&x), c.room::<i32>(count));
    c.launch(
        "medians",
        Launch::linear(3, 32),
        &[input.into(), out.into(), (count as i32).into()],
    );
    let median = |i: usize| {
        let mut five = [0, 1, 2, 3, 4].map(|n| x[(i + n).clamp(2, count + 1) - 2]);
        five.sort();
        five[2]
    };
    assert_eq!(
        c.get::<i32>(out, count),
        (0..count).map(median).collect::<Vec<_>>()
    );
}

#[test]
fn calls_through_a_table() {
    let count = 64;
    let [which, a, b] = [(1, 4), (2, 1000), (3, 1000)].map(|(seed, end)| {
        whole(seed, count, end)
            .iter()
            .map(|v| *v as i32)
            .collect::<Vec<_>>()
    });
    let mut c = Corpus::new("calls");
    let args = [&which, &a, &b].map(|x| c.put(x));
    let out = c.room::<i32>(count);
    let args = [args[0], args[1], args[2], out].map(|p| p.into());
    c.launch("table", Launch::linear(1, count as u32), &args);
    let want: Vec<i32> = (0..count)
        .map(|i| match which[i] {
            0 => a[i] + b[i],
            1 => a[i] - b[i],
            2 => a[i] * b[i],
            _ => (a[i] - b[i]).abs(),
        })
        .collect();
    assert_eq!(c.get::<i32>(out, count), want);
}

#[test]
fn text_is_printed() {
    let x = random(1, 32, |x| x);
    let mut c = Corpus::new("calls");
    let input = c.put(&x);
    let report = c.launch("say", Launch::linear(2, 32), &[input.into()]);
    let mut want = String::new();
    for block in 0..2 {
        for thread in [0, 10, 20, 30] {
            let value = x[thread];
            want += &format!("block {block}, thread {thread:2}: {value:.3} units 10000000000%\n");
        }
    }
    assert_eq!(report.printed, want);
}
