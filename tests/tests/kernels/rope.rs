//! Rotary position embedding, there and back.

use kernels_cu::DType;
use kernels_cu::rope::rope;
use tests::Random;
use tests::interpreted::{late_and_early, no_worse_than_twice, round};

#[test]
fn pairs_are_turned_and_turned_back() {
    late_and_early(|device| {
        let mut results = vec![];
        for [t, n, h] in [[1, 1, 2], [7, 3, 6], [33, 2, 64], [5, 4, 80]] {
            for dtype in DType::ALL {
                let mut random = Random::new((t * h) as u64);
                let mut numbers = |n: usize, dtype: DType| -> Vec<f64> {
                    (0..n).map(|_| round(random.normal(), dtype)).collect()
                };
                let x = numbers(t * n * h, dtype);
                // any numbers do for tables
                let [cos, sin] = [0, 1].map(|_| numbers(t * (h / 2), DType::F32));
                let [on_x, on_cos, on_sin] = [(&x, dtype), (&cos, DType::F32), (&sin, DType::F32)]
                    .map(|(x, d)| device.upload(x, d));
                for inverse in [false, true] {
                    let y = device.output(t * n * h, dtype);
                    let launch = rope([t, n, h], dtype, &on_x, [&on_cos, &on_sin], inverse, &y)
                        .expect("a launch");
                    let total = device.run(&launch).counters.total;
                    let aligned = (h / 2 * dtype.bytes()).is_multiple_of(32);
                    assert!(
                        !aligned
                            || total.global_sectors as f64
                                <= 1.05 * total.global_sectors_ideal as f64,
                        "{total:?}"
                    );
                    let turn = |q: &dyn Fn(f64) -> f64| -> Vec<f64> {
                        let of = |i: usize| {
                            let (p, j) = (i / (n * h), i % h);
                            let table = p * (h / 2) + j % (h / 2);
                            let (c, s) =
                                (cos[table], if inverse { -sin[table] } else { sin[table] });
                            match j < h / 2 {
                                true => q(q(x[i] * c) - q(x[i + h / 2] * s)),
                                false => q(q(x[i] * c) + q(x[i - h / 2] * s)),
                            }
                        };
                        (0..t * n * h).map(of).collect()
                    };
                    let y = device.download(&y, dtype);
                    let what = format!("{t} {n} {h} {dtype:?} {inverse}");
                    no_worse_than_twice(
                        &what,
                        &y,
                        &turn(&|x| x),
                        &turn(&|x| round(x, dtype)),
                        dtype,
                    );
                    results.push(y);
                }
            }
        }
        results
    });
}
