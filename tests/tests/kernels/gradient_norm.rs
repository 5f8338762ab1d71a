//! The norm of many arrays, what clips it, and a search for what is no number.

use kernels::Machine;
use kernels_cu::gradient_norm::{clip, first_non_finite, parts, squares};
use kernels_cu::{DType, View};
use tests::Random;
use tests::interpreted::{Interpreted, late_and_early, round};

/// Sizes of one thread, of a block, of several, and of more than there are blocks.
const SIZES: [usize; 5] = [1, 7, 1003, 40_000, 16384 * 257 + 4];

fn numbers(n: usize, dtype: DType) -> Vec<f64> {
    let mut random = Random::new(n as u64);
    (0..n).map(|_| round(random.normal(), dtype)).collect()
}

/// Factor and norm of arrays.
fn norm(device: &mut Interpreted, dtype: DType, arrays: &[(usize, View)], c: f64) -> Vec<f64> {
    let all: usize = arrays.iter().map(|(n, _)| parts(*n)).sum();
    let room = device.output(2 * all, DType::F32);
    let mut start = 0;
    for (n, x) in arrays {
        let part = room.part(8 * start, 8 * parts(*n));
        start += parts(*n);
        let launch = squares(dtype, *n, x, &part).expect("a launch");
        let total = device.run(&launch).counters.total;
        assert!(
            !n.is_multiple_of(4)
                || total.global_sectors as f64 <= 1.05 * total.global_sectors_ideal as f64,
            "{n} {total:?}"
        );
    }
    let result = device.output(2, DType::F32);
    device.run(&clip(&room, &result, c as f32).expect("a launch"));
    device.download(&result, DType::F32)
}

#[test]
fn the_norm_is_exact_to_the_last_rounding() {
    late_and_early(|device| {
        let mut results = vec![];
        for dtype in DType::ALL {
            let arrays = SIZES.map(|n| numbers(n, dtype));
            let square: f64 = arrays.iter().flatten().map(|x| x * x).sum();
            let truth = square.sqrt();
            // sums in another order, then one rounding to f32
            let n = SIZES.iter().sum::<usize>() as f64;
            let allowed = n * f64::EPSILON + f64::from(f32::EPSILON) / 2.0;
            let views: Vec<(usize, View)> = arrays
                .iter()
                .map(|x| (x.len(), device.upload(x, dtype)))
                .collect();
            for c in [0.0, 1.0, 1e6] {
                let got = norm(device, dtype, &views, c);
                let factor = if c == 1.0 { 1.0 / truth } else { 1.0 };
                for (got, truth) in got.iter().zip([factor, truth]) {
                    assert!(
                        (got - truth).abs() <= allowed * truth,
                        "{dtype:?}, c = {c}: {got:e}, {truth:e}"
                    );
                }
                results.push(got);
            }
        }
        results
    });
}

#[test]
fn only_what_is_no_number_has_no_norm() {
    late_and_early(|device| {
        let mut results = vec![];
        let largest = f64::from(f32::MAX);
        for (x, finite) in [
            ([1.0, 0.5 * largest, 2.0], true),
            ([0.0; 3], true),
            ([1.0, f64::NAN, 2.0], false),
            ([1.0, 2.0, f64::NEG_INFINITY], false),
        ] {
            let x = device.upload(&x, DType::F32);
            let got = norm(device, DType::F32, &[(3, x)], 1.0);
            assert_eq!(got[1].is_finite(), finite, "{got:?}");
            // a NaN has many bits
            results.push(vec![f64::from(got[1].is_finite())]);
        }
        results
    });
}

#[test]
fn the_first_that_is_no_number_is_found() {
    late_and_early(|device| {
        let mut results = vec![];
        for dtype in DType::ALL {
            for n in SIZES.into_iter().take(4) {
                for wrong in [&[][..], &[0], &[n / 2, n - 1], &[n - 1]] {
                    let mut x = numbers(n, dtype);
                    for (i, at) in wrong.iter().enumerate() {
                        x[*at] = [f64::INFINITY, f64::NAN][i % 2];
                    }
                    let x = device.upload(&x, dtype);
                    let room = device.output(2 * parts(n), DType::F32);
                    let result = device.output(2, DType::F32);
                    for launch in first_non_finite(dtype, n, &x, &room, &result).expect("launches")
                    {
                        device.run(&launch);
                    }
                    let bytes = device.download_bytes(&result).expect("8 bytes");
                    let found = u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
                    let want = wrong.first().map_or(u64::MAX, |at| *at as u64);
                    assert_eq!(found, want, "{dtype:?} {n} {wrong:?}");
                    results.push(vec![found as f64]);
                }
            }
        }
        results
    });
}
