//! Every fused op of the list at orders 0, 1 and 2, at the largest of its listed shapes, in f32: first compared
//! with its meaning, then timed.
//!
//! `cargo bench -p benches`, or `cargo bench -p benches -- attention` for some.

use std::collections::BTreeMap;

use criterion::{Criterion, criterion_group, criterion_main};
use ops::derived::relative_error;
use ops::list::{Case, Function, cases};
use ops::{DType, Tensor, Var, vjp};

/// Results of `f`, of its vjp, or of the vjp of that, at fixed inputs and cotangents.
fn run(f: &Function, inputs: &[Tensor], order: usize) -> Vec<Tensor> {
    let cotangents = |y: &[Var]| -> Vec<Option<Var>> {
        let like = |y: &Var| Some(Var::leaf(waves(y.value().shape())));
        y.iter().map(like).collect()
    };
    let x: Vec<Var> = inputs.iter().map(|t| Var::leaf(t.clone())).collect();
    let mut y = f(&x).expect("a listed case");
    for _ in 0..order {
        let ct = cotangents(&y);
        let dx = vjp(&y, &ct, &x).expect("a rule for every level");
        y = dx.into_iter().flatten().collect();
    }
    y.into_iter().map(Var::into_value).collect()
}

/// Numbers between -1 and 1 without a pattern that sums to zero.
fn waves(shape: &[usize]) -> Tensor {
    let len: usize = shape.iter().product();
    let values: Vec<f64> = (0..len).map(|i| (1.0 + i as f64 * 0.7).sin()).collect();
    Tensor::from_f64s(shape, DType::F32, &values).expect("as many numbers as elements")
}

/// The largest listed case of each op that has a meaning.
fn largest() -> BTreeMap<&'static str, Case> {
    let size = |case: &Case| {
        case.shapes
            .iter()
            .map(|s| s.iter().product::<usize>())
            .sum::<usize>()
    };
    let mut largest: BTreeMap<&'static str, Case> = BTreeMap::new();
    for case in cases().into_iter().filter(|c| c.meaning.is_some()) {
        let bigger = largest.get(case.op).is_none_or(|l| size(&case) > size(l));
        if bigger {
            largest.insert(case.op, case);
        }
    }
    largest
}

fn fused(c: &mut Criterion) {
    for (op, case) in largest() {
        let inputs: Vec<Tensor> = case.shapes.iter().map(|s| waves(s)).collect();
        let meaning = case.meaning.as_ref().expect("chosen for having one");
        for order in 0..3 {
            for (got, expected) in run(&case.f, &inputs, order)
                .iter()
                .zip(run(meaning, &inputs, order))
            {
                // f32 rounding over sums of a few hundred terms, amplified by two derivatives
                let error = relative_error(got, &expected);
                assert!(
                    error < 1e-4,
                    "{op} at order {order} is off by {error:e}: not timed"
                );
            }
            c.bench_function(&format!("{op} order {order}"), |b| {
                b.iter(|| run(&case.f, &inputs, order))
            });
            c.bench_function(&format!("{op} order {order} meaning"), |b| {
                b.iter(|| run(meaning, &inputs, order))
            });
        }
    }
}

criterion_group!(benches, fused);
criterion_main!(benches);
