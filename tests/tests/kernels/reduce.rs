//! Sums along an axis.

use kernels_cu::DType;
use kernels_cu::reduce::Sum;
use tests::Random;
use tests::interpreted::{late_and_early, round};

/// Sums are f64 and are rounded once per chunk: to f32, and then to the type of the result.
#[test]
fn sums_are_rounded_once() {
    late_and_early(|device| {
        let mut results = vec![];
        for dtype in DType::ALL {
            for sizes in [
                [1, 1, 1],
                [3, 40, 1],
                [2, 3000, 1],
                [1, 1024, 7],
                [5, 3, 33],
                [2, 2500, 3],
                [4, 0, 2],
            ] {
                let [outer, k, inner] = sizes;
                let mut random = Random::new(2);
                let n = outer * k * inner;
                let x: Vec<f64> = (0..n).map(|_| round(random.normal(), dtype)).collect();
                let sum = Sum { sizes };
                let chunks = sum.chunks();
                let (from, to) = (
                    device.upload(&x, dtype),
                    device.output(outer * chunks * inner, dtype),
                );
                let launch = sum.launch([dtype, dtype], &from, &to).expect("a launch");
                device.run(&launch);
                let got = device.download(&to, dtype);
                let chunk = k.div_ceil(chunks);
                let want = (0..outer * chunks * inner).map(|at| {
                    let (i, c, o) = (at % inner, at / inner % chunks, at / inner / chunks);
                    let terms = c * chunk..k.min((c + 1) * chunk);
                    let sum: f64 = terms.map(|j| x[(o * k + j) * inner + i]).sum();
                    round(round(sum, DType::F32), dtype)
                });
                // lanes add in another order: f64 may differ in its last bits, and a rounding may fall the other way
                let unit = match dtype {
                    DType::F32 => f64::from(f32::EPSILON),
                    DType::BF16 => f64::from(f32::EPSILON) * 65536.0,
                };
                for (got, want) in got.iter().zip(want) {
                    assert!(
                        (got - want).abs() <= unit * want.abs(),
                        "{sizes:?} {dtype:?}"
                    );
                }
                results.push(got);
            }
        }
        results
    });
}

#[test]
fn each_input_is_read_once() {
    late_and_early(|device| {
        for dtype in DType::ALL {
            for sizes in [[4, 1024, 1], [2, 64, 128]] {
                let [outer, k, inner] = sizes;
                let x = device.upload(&vec![1.0; outer * k * inner], dtype);
                let y = device.output(outer * inner, dtype);
                let launch = Sum { sizes }.launch([dtype, dtype], &x, &y);
                let total = device.run(&launch.expect("a launch")).counters.total;
                let [sectors, ideal] = [total.global_sectors, total.global_sectors_ideal];
                assert!(sectors as f64 <= 1.05 * ideal as f64, "{sizes:?} {dtype:?}");
                assert!(device.download(&y, dtype).iter().all(|y| *y == k as f64));
            }
        }
        vec![]
    });
}
