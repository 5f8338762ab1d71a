//! Sums and products element by element.

use kernels_cu::DType;
use kernels_cu::elementwise::{Binary, binary};
use tests::Random;
use tests::interpreted::{late_and_early, round};

#[test]
fn sums_and_products_are_rounded_once() {
    late_and_early(|device| {
        let mut results = vec![];
        for dtype in DType::ALL {
            for n in [1, 7, 1000, 4096] {
                let mut random = Random::new(n as u64);
                let mut numbers =
                    || -> Vec<f64> { (0..n).map(|_| round(random.normal(), dtype)).collect() };
                let (a, b) = (numbers(), numbers());
                let [x, y] = [&a, &b].map(|x| device.upload(x, dtype));
                for f in Binary::ALL {
                    let z = device.output(n, dtype);
                    let launch = binary(f, dtype, n, &x, &y, &z).expect("a launch");
                    let report = device.run(&launch);
                    let total = &report.counters.total;
                    assert!(
                        total.global_sectors as f64 <= 1.05 * total.global_sectors_ideal as f64
                    );
                    let z = device.download(&z, dtype);
                    let want = a.iter().zip(&b).map(|(a, b)| match f {
                        Binary::Add => round(a + b, dtype),
                        Binary::Mul => round(a * b, dtype),
                    });
                    assert!(z.iter().copied().eq(want), "{f:?} {dtype:?} {n}");
                    results.push(z);
                }
            }
        }
        results
    });
}
