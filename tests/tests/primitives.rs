//! Every op without a meaning, and every meaning, against finite differences in f64.

use autograd::{Check, check_grads};
use ops::DType;
use ops::list::{Case, Function, cases};
use tests::{Failures, Random};

const SEEDS: std::ops::Range<u64> = 0..3;

/// Above this many input elements finite differences are left to the smaller cases of the same op.
const SMALL: usize = 600;

fn check(case: &Case, f: &Function, order: usize, failures: &mut Failures) {
    for seed in SEEDS {
        let x = Random::new(seed).inputs(case, DType::F64);
        let check = Check {
            order,
            seed,
            ..Check::default()
        };
        failures.count();
        if let Err(e) = check_grads(|x| f(x), &x, &check) {
            let Case {
                op, what, shapes, ..
            } = case;
            failures.note(format!("{op} ({what}) {shapes:?}, seed {seed}: {e}"));
        }
    }
}

#[test]
fn primitives_to_order_three() {
    let mut failures = Failures::default();
    for case in cases().iter().filter(|c| c.meaning.is_none()) {
        check(case, &case.f, 3, &mut failures);
    }
    failures.finish();
}

#[test]
fn meanings_to_order_three() {
    let mut failures = Failures::default();
    for case in &cases() {
        let len: usize = case
            .shapes
            .iter()
            .map(|s| s.iter().product::<usize>())
            .sum();
        if let Some(meaning) = case.meaning.as_ref().filter(|_| len <= SMALL) {
            check(case, meaning, 3, &mut failures);
        }
    }
    failures.finish();
}
