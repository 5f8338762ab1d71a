//! Every op on the device, against the CPU in f64.

use ::ops::list::{Case, cases};
use ::ops::{DType, Device, Tensor};
use tests::{Failures, Place, Random, largest, longest_sum, orders, worst};

use crate::process::on_device;

/// Results of orders 0, 1 and 2 with every cotangent there.
fn results(case: &Case, x: &[Tensor], truth: bool) -> ops::Result<[Vec<Tensor>; 3]> {
    let f = case.meaning.as_ref().filter(|_| truth).unwrap_or(&case.f);
    orders(f, x, 1)
}

use ::ops;

/// What kernels do not take.
fn refused(case: &Case) -> Option<&'static str> {
    match case.op {
        "cast" => Some("f64"),
        "swa_attention" if !case.shapes[0][2].is_multiple_of(8) => Some("multiple of 8"),
        _ => None,
    }
}

/// # Tolerance
///
/// That of a fused op against its meaning in f32 (`tests::compare_f32`): twice the error of the CPU in f32, and what any computation in
/// f32 needs.
#[test]
fn every_op_is_as_good_as_on_the_cpu() {
    if !on_device("ops::every_op_is_as_good_as_on_the_cpu") {
        return;
    }
    let mut failures = Failures::default();
    for case in &cases() {
        let x = Random::new(0).inputs(case, DType::F64);
        let narrow: Vec<Tensor> = x.iter().map(|x| x.cast(DType::F32)).collect();
        let moved = narrow.iter().map(|x| x.to(Device::Cuda(0)));
        let moved: Vec<Tensor> = moved.collect::<ops::Result<_>>().expect("a device");
        if let Some(why) = refused(case) {
            let error = results(case, &moved, false).expect_err("a refusal");
            assert!(error.to_string().contains(why), "{error}");
            continue;
        }
        let exact = results(case, &x, true).expect("the meaning in f64");
        let cpu = results(case, &narrow, true).expect("the meaning in f32");
        let got = match results(case, &moved, false) {
            Ok(got) => got,
            Err(error) => {
                failures.note(format!("{} ({}): {error}", case.op, case.what));
                continue;
            }
        };
        let n = longest_sum(&case.shapes);
        let allowance = 4.0 * n.sqrt() * f32::EPSILON as f64;
        for order in 0..3 {
            let floor = exact[order]
                .iter()
                .map(|x| largest(x) / n)
                .fold(0.0, f64::max);
            for (result, exact) in exact[order].iter().enumerate() {
                let [got, cpu] = [&got, &cpu].map(|x| worst(&x[order][result], exact));
                let place = Place {
                    case,
                    order,
                    dtype: DType::F32,
                    seed: 0,
                    present: &[],
                    result,
                };
                let allowed = 2.0 * cpu.off + allowance * largest(exact).max(floor);
                failures.check(place, got, allowed);
            }
        }
    }
    failures.finish();
}
