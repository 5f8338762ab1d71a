//! Every fused op against its meaning: at orders 0 to 3, with independent random cotangents, and with every subset of the
//! second order's cotangents absent. The tolerances are derived where the comparisons are.

use ops::Device;
use ops::list::cases;
use tests::{Closest, Failures, compare_f32, compare_f64};

const SEEDS: std::ops::Range<u64> = 0..2;

#[test]
fn f64_agrees_with_the_meaning() {
    let (mut failures, mut closest) = (Failures::default(), Closest::default());
    for case in cases().iter().filter(|c| c.meaning.is_some()) {
        for seed in SEEDS {
            compare_f64(case, seed, &mut failures, &mut closest);
        }
    }
    closest.print();
    failures.finish();
}

#[test]
fn f32_is_as_good_as_the_meaning() {
    let (mut failures, mut closest) = (Failures::default(), Closest::default());
    for case in cases().iter().filter(|c| c.meaning.is_some()) {
        for seed in SEEDS {
            compare_f32(case, seed, Device::Cpu, &mut failures, &mut closest);
        }
    }
    closest.print();
    failures.finish();
}
