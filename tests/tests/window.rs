//! What a query sees, exactly: keys outside its window change nothing, and a chunk with a cache is a part of the whole.

use ops::{DType, Result, Tensor, Var, swa_attention};
use tests::{Failures, Random, largest, orders, raise, values, worst};

fn attention(window: usize) -> impl Fn(&[Var]) -> Result<Vec<Var>> {
    move |x| {
        let o = swa_attention(&x[0], [&x[1], &x[2]], [&x[3], &x[4]], window)?;
        Ok(vec![o])
    }
}

/// [q, k and v of the cache, k, v] from q [t, n, h] and from k and v [c + t, m, h].
fn split(q: &Tensor, k: &Tensor, v: &Tensor) -> Vec<Tensor> {
    let (end, t) = (k.shape()[0], q.shape()[0]);
    let rows = |x: &Tensor, start, end| x.rows(start, end).expect("rows");
    let [cached, current] =
        [(0, end - t), (end - t, end)].map(|(start, end)| [k, v].map(|x| rows(x, start, end)));
    [std::slice::from_ref(q), &cached[..], &current[..]].concat()
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
                .map(|[k, v]| orders(attention(window), &split(&q, &k, &v), 5).expect("attention"));
            for (order, (a, b)) in a.iter().zip(&b).enumerate() {
                for (result, (a, b)) in a.iter().zip(b).enumerate() {
                    let place = format!(
                        "{dtype} t {t} tk {tk} window {window} order {order} result {result}"
                    );
                    failures.same_bits(&place, b, a);
                    // results are cotangents of the inputs: those of the cached keys and values stand at 1 and 2
                    if order > 0 && (1..3).contains(&result) {
                        let dead = a.rows(0, unseen.min(tk - t)).expect("rows");
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
                let mut x = split(&q, &k, &v);
                x.push(do_.clone());
                let o = values(attention(window), &x[..5])
                    .expect("order 0")
                    .remove(0);
                let dq = values(raise(attention(window), 5, &[true]), &x)
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
            let mut x = split(&q, &k, &v);
            let whole = values(attention(window), &x).expect("order 0");
            let gradients = raise(attention(window), 5, &[true]);
            x.push(do_.clone());
            let [dq, _, _, dk, dv]: [Tensor; 5] = values(&gradients, &x)
                .expect("order 1")
                .try_into()
                .expect("five gradients");
            let mut sums = [&dk, &dv].map(|x| vec![0.0; x.len()]);
            let mut start = 0usize;
            for size in [96, 1, 64, 7, 132] {
                let end = start + size;
                let first = (start + 1).saturating_sub(window);
                let part = |x: &Tensor, first| x.rows(first, end).expect("rows");
                let mut x = split(&part(&q, start), &part(&k, first), &part(&v, first));
                let place = |what| format!("{dtype} window {window}, chunk {start}..{end}: {what}");
                let o = values(attention(window), &x).expect("order 0").remove(0);
                let want = part(&whole[0], start);
                failures.check(place("o"), worst(&o, &want), tolerance * largest(&want));
                x.push(part(&do_, start));
                let d = values(&gradients, &x).expect("order 1");
                let want = part(&dq, start);
                failures.check(
                    place("dq"),
                    worst(&d[0], &want),
                    tolerance * largest(&dq).max(1.0),
                );
                for (i, d) in d[1..].iter().enumerate() {
                    // dk and dv of the cache, then of the chunk
                    let (sum, from) = (&mut sums[i % 2], if i < 2 { first } else { start });
                    let row: usize = d.shape()[1..].iter().product();
                    for (sum, d) in sum[from * row..].iter_mut().zip(d.to_f64s()) {
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

/// A query that sees one key alone has nothing to choose: its scores have gradients of exactly zero, not of rounding size, at
/// both orders.
#[test]
fn one_visible_key_has_no_score_gradient() {
    for dtype in [DType::F64, DType::F32] {
        for c in [0, 7] {
            let shapes = [
                [40, 2, 10],
                [c, 2, 10],
                [c, 2, 10],
                [40, 2, 10],
                [40, 2, 10],
            ];
            let x = shapes.map(|s| Random::new(4).tensor(&s, dtype));
            let [_, first, second] = orders(attention(1), &x, 5).expect("attention");
            for d in [&first, &second] {
                for i in [0, 1, 3] {
                    assert_eq!(largest(&d[i]), 0.0, "{dtype}, result {i}");
                }
            }
            assert!(largest(&first[4]) > 0.1);
            // the derivative by dO is P C, with a P of one
            assert!(largest(&second[5]) > 0.1);
        }
    }
}

/// Cached keys and values that are constants, as in the inner gradient of test-time training: nothing is computed for them, and
/// everything else is what it is with them among the variables, and what the meaning says.
///
/// # Tolerance
///
/// Against the general op, the same products in the same order: the same bits. Against the meaning: see `compare_f64`.
#[test]
fn a_cache_of_constants() {
    type Attention = fn(&Var, [&Var; 2], [&Var; 2], usize) -> Result<Var>;
    let mut failures = Failures::default();
    for (t, c, n, m, h, window) in [
        (16, 24, 2, 2, 16, 25),
        (16, 3, 2, 1, 16, 24),
        (70, 90, 4, 2, 8, 64),
        (20, 1500, 1, 1, 4, 1400),
        (530, 40, 1, 1, 8, 300),
    ] {
        let mut random = Random::new(6);
        let shapes = [[t, n, h], [c, m, h], [c, m, h], [t, m, h], [t, m, h]];
        let x = shapes.map(|s| random.tensor(&s, DType::F64));
        let constants: [Var; 2] = [1, 2].map(|i| Var::constant(x[i].clone()));
        let constant = |f: Attention| {
            let [k, v] = constants.clone();
            move |x: &[Var]| Ok(vec![f(&x[0], [&k, &v], [&x[1], &x[2]], window)?])
        };
        let free = [0, 3, 4].map(|i| x[i].clone());
        let [fused, meaning] = [swa_attention as Attention, ops::derived::swa_attention]
            .map(|f| orders(constant(f), &free, 7).expect("attention"));
        let place = |what: &str, order: usize, result: usize| {
            format!("t {t} c {c} window {window}, {what}: order {order}, result {result}")
        };
        let tolerance = 1e-11 * ((t + c) as f64 / 512.0).powf(1.5).max(1.0);
        for (order, (got, want)) in fused.iter().zip(&meaning).enumerate() {
            for (result, (got, want)) in got.iter().zip(want).enumerate() {
                let allowed = tolerance * largest(want);
                failures.check(place("meaning", order, result), worst(got, want), allowed);
            }
        }

        // the general op, without cotangents for what was constant
        let general = attention(window);
        let mut random = Random::new(7);
        let do_ = random.like(&fused[0]);
        let first = raise(&general, 5, &[true]);
        let x1 = [&x[..], &do_].concat();
        let directions = random.like(&free);
        let second = raise(&first, 6, &[true, false, false, true, true]);
        let x2 = [&x1[..], &directions].concat();
        let pick = |all: Vec<Tensor>, places: &[usize]| -> Vec<Tensor> {
            places.iter().map(|&i| all[i].clone()).collect()
        };
        let want = [
            values(&general, &x).expect("order 0"),
            pick(values(&first, &x1).expect("order 1"), &[0, 3, 4]),
            pick(values(&second, &x2).expect("order 2"), &[0, 3, 4, 5]),
        ];
        for (order, (got, want)) in fused.iter().zip(&want).enumerate() {
            for (result, (got, want)) in got.iter().zip(want).enumerate() {
                failures.same_bits(place("general op", order, result), got, want);
            }
        }

        // the outer gradient asks for the cached keys after all: the general op of order two gives the same
        let outer = move |x: &[Var]| {
            let [cached, current] = [1, 3].map(|i| [&x[i], &x[i + 1]]);
            let o = swa_attention(&x[0], cached, current, window)?;
            let wrt = [0, 3, 4].map(|i| x[i].clone());
            let d = ops::vjp(&[o], &[Some(x[5].clone())], &wrt)?;
            Ok(d.into_iter().flatten().collect())
        };
        let got = values(raise(outer, 6, &[true; 3]), &x2).expect("order 2");
        let want = values(&second, &x2).expect("order 2");
        for (result, (got, want)) in got.iter().zip(&want).enumerate() {
            failures.same_bits(place("outer gradient", 2, result), got, want);
        }
    }
    failures.finish();
}
