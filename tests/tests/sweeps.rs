//! A gradient is the same bits however it is asked for: recorded or not, for all inputs at once or for one of them.

use ops::list::cases;
use ops::{DType, Tensor, Var, backward_with, vjp};
use tests::{Failures, Random, values};

#[test]
fn recorded_or_not_together_or_alone() {
    let mut failures = Failures::default();
    for case in &cases() {
        let mut random = Random::new(1);
        let x = random.inputs(case, DType::F64);
        let y = values(&case.f, &x).expect("order 0");
        let ct: Vec<_> = (random.like(&y).into_iter()).map(Some).collect();
        let place = |how: &str, input: usize| {
            format!(
                "{} ({}) {:?}: input {input} {how}",
                case.op, case.what, case.shapes
            )
        };

        let leaves: Vec<Var> = x.iter().cloned().map(Var::leaf).collect();
        let y = (case.f)(&leaves).expect("order 0");
        let recorded_ct: Vec<_> = (ct.iter())
            .map(|ct| ct.clone().map(Var::constant))
            .collect();
        let recorded = vjp(&y, &recorded_ct, &leaves).expect("recorded");
        let detached = backward_with(&y, &ct, &leaves).expect("detached");
        let or_zero = |dx: Option<Tensor>, i: usize| {
            dx.unwrap_or_else(|| Tensor::zeros(x[i].shape(), x[i].dtype()))
        };
        for (i, (recorded, detached)) in recorded.into_iter().zip(detached).enumerate() {
            let detached = or_zero(detached, i);
            let recorded = or_zero(recorded.map(Var::into_value), i);
            failures.same_bits(place("detached", i), &detached, &recorded);

            let alone: Vec<Var> = (x.iter().cloned().enumerate())
                .map(|(j, x)| {
                    if i == j {
                        Var::leaf(x)
                    } else {
                        Var::constant(x)
                    }
                })
                .collect();
            let y = (case.f)(&alone).expect("order 0");
            let mut dx = backward_with(&y, &ct, &alone[i..=i]).expect("alone");
            failures.same_bits(place("alone", i), &or_zero(dx.remove(0), i), &recorded);
        }
    }
    failures.finish();
}
