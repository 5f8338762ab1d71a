//! What a query sees, exactly: keys outside its window change nothing, and a chunk with a cache is a part of the whole.

use ops::{DType, Result, Tensor, Var, swa_attention};
use tests::{Failures, Random, largest, orders, raise, values, worst};

fn attention(window: usize) -> impl Fn(&[Var]) -> Result<Vec<Var>> {
    move |x| Ok(vec![swa_attention(&x[0], &x[1], &x[2], window)?])
}

/// `x` with rows `rows` multiplied by -1000.
fn disturbed(x: &Tensor, rows: std::ops::Range<usize>) -> Tensor {
    let row = x.len() / x.shape()[0];
    let mut numbers = x.to_f64s();
    for x in &mut numbers[rows.start * row..rows.end * row] {
        *x *= -1000.0;
    }
    Tensor::from_f64s(x.shape(), x.dtype(), &numbers).expect("as many numbers")
}

/// Keys that no query sees: nothing changes at any order, and their own gradients are zero.
#[test]
fn keys_that_no_query_sees() {
    let mut failures = Failures::default();
    for dtype in [DType::F32, DType::F64] {
        for (t, tk, window) in [(100, 300, 64), (7, 300, 150), (65, 200, 1), (1, 90, 33)] {
            let unseen = tk - t + 1 - window;
            let mut random = Random::new(3);
            let [q, k, v] =
                [[t, 4, 16], [tk, 2, 16], [tk, 2, 16]].map(|s| random.tensor(&s, dtype));
            let far = [&k, &v].map(|x| disturbed(x, 0..unseen));
            let [a, b] = [[k, v], far]
                .map(|[k, v]| orders(attention(window), &[q.clone(), k, v], 5).expect("attention"));
            for (order, (a, b)) in a.iter().zip(&b).enumerate() {
                for (result, (a, b)) in a.iter().zip(b).enumerate() {
                    let place = format!(
                        "{dtype} t {t} tk {tk} window {window} order {order} result {result}"
                    );
                    failures.same_bits(&place, b, a);
                    if order > 0 && a.shape()[0] == tk && tk != t {
                        let dead = a.rows(0, unseen).expect("rows");
                        failures.close(
                            format!("{place}: gradient of an unseen key"),
                            largest(&dead),
                            0.0,
                            0.0,
                        );
                    }
                }
            }
        }
    }
    failures.finish();
}

/// Key `j` is seen by queries `j` to `j + window - 1`: the rows of o and dq of every other query keep their bits.
#[test]
fn keys_that_some_queries_see() {
    let mut failures = Failures::default();
    let (t, tk, window) = (130, 150, 40);
    for dtype in [DType::F32, DType::F64] {
        for j in [0, 19, 20, 63, 64, 109, 149] {
            let mut random = Random::new(3);
            let [q, k, v, do_] = [[t, 2, 16], [tk, 1, 16], [tk, 1, 16], [t, 2, 16]]
                .map(|s| random.tensor(&s, dtype));
            let far = [&k, &v].map(|x| disturbed(x, j..j + 1));
            let [a, b] = [[k, v], far].map(|[k, v]| {
                let x = [q.clone(), k, v, do_.clone()];
                let o = values(attention(window), &x[..3])
                    .expect("order 0")
                    .remove(0);
                let dq = values(raise(attention(window), 3, &[true]), &x)
                    .expect("order 1")
                    .remove(0);
                [o, dq]
            });
            for i in 0..t {
                let position = i + tk - t;
                let sees = j <= position && position < j + window;
                for (name, (a, b)) in ["o", "dq"].iter().zip(a.iter().zip(&b)) {
                    let [a, b] = [a, b].map(|x| x.rows(i, i + 1).expect("a row"));
                    let place = format!("{dtype} key {j}, {name} of query {i}");
                    if !sees {
                        failures.same_bits(place, &b, &a);
                    } else if a.to_f64s() == b.to_f64s() && window > 1 {
                        failures.note(format!("{place}: seen, but changed nothing"));
                    }
                }
            }
        }
    }
    failures.finish();
}

/// Outputs and gradients of a sequence in chunks, each with the last `window - 1` keys before it as its cache, are those
/// of the whole sequence.
///
/// # Tolerance
///
/// The same sums of at most n = length terms in another order: see `compare_f64` and `compare_f32`. With window 1 the
/// gradients by q and k are rounding errors of terms of size one.
#[test]
fn chunks_with_a_cache_are_the_whole() {
    let mut failures = Failures::default();
    let length = 300;
    for (dtype, tolerance) in [
        (DType::F32, 4.0 * 300f64.sqrt() * f32::EPSILON as f64),
        (DType::F64, 1e-11),
    ] {
        for window in [1, 17, 64, 140, 1000] {
            let mut random = Random::new(4);
            let [q, k, v, do_] = [
                [length, 4, 16],
                [length, 2, 16],
                [length, 2, 16],
                [length, 4, 16],
            ]
            .map(|s| random.tensor(&s, dtype));
            let whole =
                values(attention(window), &[q.clone(), k.clone(), v.clone()]).expect("order 0");
            let gradients = raise(attention(window), 3, &[true]);
            let [dq, dk, dv]: [Tensor; 3] =
                values(&gradients, &[q.clone(), k.clone(), v.clone(), do_.clone()])
                    .expect("order 1")
                    .try_into()
                    .expect("three gradients");
            let mut sums = [&dk, &dv].map(|x| vec![0.0; x.len()]);
            let mut start = 0usize;
            for size in [96, 1, 64, 7, 132] {
                let end = start + size;
                let first = (start + 1).saturating_sub(window);
                let part = |x: &Tensor, first| x.rows(first, end).expect("rows");
                let x = [
                    part(&q, start),
                    part(&k, first),
                    part(&v, first),
                    part(&do_, start),
                ];
                let place = |what| format!("{dtype} window {window}, chunk {start}..{end}: {what}");
                let o = values(attention(window), &x[..3])
                    .expect("order 0")
                    .remove(0);
                let want = part(&whole[0], start);
                failures.check(place("o"), worst(&o, &want), tolerance * largest(&want));
                let d = values(&gradients, &x).expect("order 1");
                let want = part(&dq, start);
                failures.check(
                    place("dq"),
                    worst(&d[0], &want),
                    tolerance * largest(&dq).max(1.0),
                );
                for (sum, d) in sums.iter_mut().zip(&d[1..]) {
                    let row = d.len() / d.shape()[0];
                    for (sum, d) in sum[first * row..].iter_mut().zip(d.to_f64s()) {
                        *sum += d;
                    }
                }
                start = end;
            }
            assert_eq!(start, length);
            for (want, sum) in [&dk, &dv].into_iter().zip(sums) {
                let got =
                    Tensor::from_f64s(want.shape(), DType::F64, &sum).expect("as many numbers");
                let place = format!("{dtype} window {window}: dk or dv, chunks added up");
                failures.check(place, worst(&got, want), tolerance * largest(want).max(1.0));
            }
        }
    }
    failures.finish();
}

/// A query that sees one key alone has nothing to choose: its scores have gradients of exactly zero, not of rounding size.
#[test]
fn one_visible_key_has_no_score_gradient() {
    for dtype in [ops::DType::F64, ops::DType::F32] {
        let mut random = tests::Random::new(4);
        let shapes = [vec![40, 2, 10], vec![47, 2, 10], vec![47, 2, 10]];
        let x: Vec<ops::Var> = random
            .tensors(&shapes, dtype)
            .into_iter()
            .map(ops::Var::leaf)
            .collect();
        let o = ops::swa_attention(&x[0], &x[1], &x[2], 1).expect("fitting shapes");
        let ct = random.tensor(o.value().shape(), dtype);
        let ct = Some(ops::Var::leaf(ct));
        let d = ops::vjp(&[o], &[ct], &x).expect("a rule");
        let largest = |i: usize| {
            let d = d[i].as_ref().expect("a gradient").value().to_f64s();
            d.iter().fold(0.0f64, |m, x| m.max(x.abs()))
        };
        assert_eq!((largest(0), largest(1)), (0.0, 0.0), "{dtype}");
        assert!(largest(2) > 0.1);
    }
}
