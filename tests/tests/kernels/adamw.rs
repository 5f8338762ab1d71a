//! The outer optimiser's step.

use kernels_cu::DType;
use kernels_cu::adamw::{AdamW, Views, adamw};
use ops::Tensor;
use tests::Random;
use tests::interpreted::{late_and_early, no_worse_than_twice, round};

#[test]
fn a_step_follows_the_op() {
    late_and_early(|device| {
        let mut results = vec![];
        for (n, step) in [(1, 1), (1003, 2), (4096, 700)] {
            let mut random = Random::new(n as u64);
            let mut numbers =
                || -> Vec<f64> { (0..n).map(|_| round(random.normal(), DType::F32)).collect() };
            let (w, m, g) = (numbers(), numbers(), numbers());
            let v: Vec<f64> = numbers()
                .into_iter()
                .map(|x| round(x * x, DType::F32))
                .collect();
            let scale = round(0.37, DType::F32);
            let of = AdamW {
                learning_rate: 3e-3,
                beta1: 0.9,
                beta2: 0.95,
                eps: 1e-8,
                weight_decay: 0.1,
                step,
            };
            let by_op = |dtype: ops::DType| {
                let AdamW {
                    learning_rate,
                    beta1,
                    beta2,
                    eps,
                    weight_decay,
                    step,
                } = of;
                let op = ops::AdamW {
                    learning_rate,
                    beta1,
                    beta2,
                    eps,
                    weight_decay,
                    step,
                };
                let [mut w, mut m, mut v, g] =
                    [&w, &m, &v, &g].map(|x| Tensor::from_f64s(&[n], dtype, x).expect("n numbers"));
                op.update(&mut w, &mut m, &mut v, &g, scale)
                    .expect("a step");
                [w, m, v].map(|x| x.to_f64s())
            };
            let (truth, rough) = (by_op(ops::DType::F64), by_op(ops::DType::F32));
            let [w, m, v, g, scale] =
                [&w, &m, &v, &g, &vec![scale]].map(|x| device.upload(x, DType::F32));
            let shadow = device.output(n, DType::BF16);
            let views = Views {
                w: &w,
                m: &m,
                v: &v,
                shadow: Some(&shadow),
            };
            let launch = adamw(&of, n, &views, &g, Some(&scale)).expect("a launch");
            let total = device.run(&launch).counters.total;
            let whole = n.is_multiple_of(1024);
            assert!(
                !whole || total.global_sectors as f64 <= 1.05 * total.global_sectors_ideal as f64,
                "{total:?}"
            );
            let got = [&w, &m, &v].map(|x| device.download(x, DType::F32));
            for (i, name) in ["w", "m", "v"].into_iter().enumerate() {
                no_worse_than_twice(
                    &format!("{name} {n}"),
                    &got[i],
                    &truth[i],
                    &rough[i],
                    DType::F32,
                );
            }
            let rounded: Vec<f64> = got[0].iter().map(|x| round(*x, DType::BF16)).collect();
            assert_eq!(device.download(&shadow, DType::BF16), rounded);
            results.extend(got);
        }
        results
    });
}
