//! Every op on the device, against the CPU in f64.

use ::ops::list::{Case, cases};
use ::ops::{DType, Device, Tensor};
use tests::{Closest, Failures, Place, Random, compare_f32, largest, longest_sum, orders, worst};

use crate::process::on_device;

/// Results of orders 0, 1 and 2 with every cotangent there.
fn results(case: &Case, x: &[Tensor], truth: bool) -> ops::Result<[Vec<Tensor>; 3]> {
    let f = case.meaning.as_ref().filter(|_| truth).unwrap_or(&case.f);
    orders(f, x, 1)
}

use ::ops;

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
        if case.op == "cast" {
            // to f64, which kernels do not take
            let error = results(case, &moved, false).expect_err("a refusal");
            assert!(error.to_string().contains("f64"), "{error}");
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

/// Kernels leave out what a cotangent that is not there would have added: see `tests::compare_f32`.
#[test]
fn fused_ops_with_every_subset_of_cotangents() {
    if !on_device("ops::fused_ops_with_every_subset_of_cotangents") {
        return;
    }
    let (mut failures, mut closest) = (Failures::default(), Closest::default());
    for case in cases().iter().filter(|case| case.meaning.is_some()) {
        compare_f32(case, 2, Device::Cuda(0), &mut failures, &mut closest);
    }
    closest.print();
    failures.finish();
}

/// Which inputs are weights: they stay f32 where activations are bf16. `None`: the op is used in f32 alone.
fn weights(case: &Case) -> Option<&'static [usize]> {
    match case.op {
        "rms_norm" | "linear_cross_entropy" => Some(&[1]),
        "swiglu_mlp" => Some(&[1, 2, 3]),
        "swa_attention" | "rope" => Some(&[]),
        _ => None,
    }
}

/// # Tolerance
///
/// A result is a smooth function of the roundings on the way to it. In bf16 there are no more of them than in f32, because sums are f32
/// in both, and each is at most 2^15 times as large (2^-9 of a number for 2^-24). So twice the error of the CPU in f32 times that (the
/// largest of eight draws and of all results of an order, because that of one is a matter of luck), and 2^-8 of the largest number for the rounding of
/// results and cotangents, which a result that f32 has exactly does not show.
#[test]
fn fused_ops_in_bf16_with_weights_in_f32() {
    if !on_device("ops::fused_ops_in_bf16_with_weights_in_f32") {
        return;
    }
    let mut failures = Failures::default();
    for case in cases().iter().filter(|case| case.op != "cast") {
        let Some(weights) = weights(case) else {
            continue;
        };
        let x = Random::new(0).inputs(case, DType::F64);
        let narrow: Vec<Tensor> = x.iter().map(|x| x.cast(DType::F32)).collect();
        let moved = narrow
            .iter()
            .enumerate()
            .map(|(i, x)| match weights.contains(&i) {
                true => x.to(Device::Cuda(0)),
                false => x.cast(DType::BF16).to(Device::Cuda(0)),
            });
        let moved: Vec<Tensor> = moved.collect::<ops::Result<_>>().expect("a device");
        let exact = results(case, &x, true).expect("the meaning in f64");
        let got = match results(case, &moved, false) {
            Ok(got) => got,
            Err(error) => {
                failures.note(format!("{} ({}): {error}", case.op, case.what));
                continue;
            }
        };
        for &i in weights {
            // orders 1 and 2 give a cotangent of each input, in its type
            assert_eq!(got[1][i].dtype(), DType::F32, "{}", case.op);
            assert_eq!(got[2][i].dtype(), DType::F32, "{}", case.op);
        }
        let n = longest_sum(&case.shapes);
        let floor = |order: &[Tensor]| order.iter().map(|x| largest(x) / n).fold(0.0, f64::max);
        let mut relative = [0.0f64; 3];
        for seed in 0..8 {
            let x = Random::new(seed).inputs(case, DType::F64);
            let narrow: Vec<Tensor> = x.iter().map(|x| x.cast(DType::F32)).collect();
            let [exact, cpu] = [&x, &narrow].map(|x| results(case, x, true).expect("the meaning"));
            for order in 0..3 {
                let floor = floor(&exact[order]);
                for (x, exact) in cpu[order].iter().zip(&exact[order]) {
                    let error = worst(x, exact).off / largest(exact).max(floor);
                    relative[order] = relative[order].max(error);
                }
            }
        }
        for order in 0..3 {
            let floor = floor(&exact[order]);
            for (result, exact) in exact[order].iter().enumerate() {
                let got = worst(&got[order][result], exact);
                let place = Place {
                    case,
                    order,
                    dtype: DType::BF16,
                    seed: 0,
                    present: &[],
                    result,
                };
                let allowed = 2f64.powi(16) * relative[order] + 2f64.powi(-8);
                failures.check(place, got, allowed * largest(exact).max(floor));
            }
        }
    }
    failures.finish();
}

/// A kernel that is asked for less first and for more later: it then takes more shared memory than when it was loaded.
#[test]
fn a_kernel_may_take_more_later() {
    if !on_device("ops::a_kernel_may_take_more_later") {
        return;
    }
    let mut random = Random::new(5);
    let [queries, cached, current] = [[20, 2, 80], [30, 2, 80], [20, 2, 80]];
    let x = [queries, cached, cached, current, current].map(|s| random.tensor(&s, DType::F32));
    let second = |device: Device, wrt: &[usize]| -> ops::Result<Vec<Tensor>> {
        let x: Vec<ops::Var> = (x.iter())
            .map(|x| Ok(ops::Var::leaf(x.to(device)?)))
            .collect::<ops::Result<_>>()?;
        let of: Vec<ops::Var> = wrt.iter().map(|&i| x[i].clone()).collect();
        let o = ops::swa_attention(&x[0], [&x[1], &x[2]], [&x[3], &x[4]], 25)?;
        let g = ops::grad(&ops::sum_all(&ops::mul(&o, &o)?)?, &of)?;
        let mut sum = ops::Var::constant(x[0].value().full_like(&[], 0.0)?);
        for g in g.iter().flatten() {
            sum = ops::add(&sum, &ops::sum_all(&ops::mul(g, g)?)?)?;
        }
        let d = ops::backward(&sum, &x)?;
        Ok(d.into_iter().flatten().collect())
    };
    for wrt in [&[0][..], &[0, 3, 4], &[0, 1, 2, 3, 4]] {
        let [cpu, got] = [Device::Cpu, Device::Cuda(0)]
            .map(|device| second(device, wrt).expect("a second derivative"));
        assert_eq!(cpu.len(), 5);
        for (cpu, got) in cpu.iter().zip(&got) {
            // sums of 25 x 80 terms, twice: far below what a wrong tile would be off
            let off = worst(got, cpu).off / largest(cpu);
            assert!(off < 1e-4, "{wrt:?}: {off:e}");
        }
    }
}
