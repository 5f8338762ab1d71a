//! Kernels run in the PTX interpreter: any finding is a failure, outputs start as NaN that nobody wrote.

use half::bf16;
pub use kernels::{Interpreted, compiler};
use kernels_cu::DType;
use ptx::Asynchrony;

/// Runs a test with late and with early copies, where there is a compiler; the results must be the same bits.
pub fn late_and_early(test: impl Fn(&mut Interpreted) -> Vec<Vec<f64>>) {
    let runs = [Asynchrony::Late, Asynchrony::Early].map(|asynchrony| {
        let mut device = Interpreted::new(asynchrony)?;
        Some(test(&mut device))
    });
    let [late, early] = runs;
    let bits = |run: Option<Vec<Vec<f64>>>| -> Option<Vec<u64>> {
        Some(run?.into_iter().flatten().map(f64::to_bits).collect())
    };
    assert!(
        bits(late) == bits(early),
        "late and early copies give other bits"
    );
}

/// A number in a type's precision.
pub fn round(x: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F32 => f64::from(x as f32),
        // from_f64 looks at 20 bits of the fraction, and takes what is just beside a tie for one
        DType::BF16 => bf16::from_f32(x as f32).to_f64(),
    }
}

/// Panics unless the error of `got` against `truth` is at most twice that of `rough`, the meaning in the same precision. In a small case
/// the meaning can be right by accident, so an allowance is added that any chain of a few operations needs: four roundings of the largest
/// number.
pub fn no_worse_than_twice(what: &str, got: &[f64], truth: &[f64], rough: &[f64], dtype: DType) {
    within(what, got, truth, rough, 4.0 * rounding(dtype));
}

/// The same for chains of sums of up to n terms, all of them in f32: their allowance is that of
/// [`compare_f32`](crate::compare_f32), which derives it.
pub fn sums_no_worse_than_twice(n: usize, what: &str, [got, truth, rough]: [&[f64]; 3]) {
    let allowance = 4.0 * (n as f64).sqrt() * f64::from(f32::EPSILON);
    within(what, got, truth, rough, allowance);
}

/// Half the distance of 1 from the next number.
fn rounding(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => f64::from(f32::EPSILON) / 2.0,
        DType::BF16 => bf16::EPSILON.to_f64() / 2.0,
    }
}

/// The allowance is a share of the largest number.
fn within(what: &str, got: &[f64], truth: &[f64], rough: &[f64], allowance: f64) {
    let [e, of_meaning] = [got, rough].map(|x| {
        assert_eq!(x.len(), truth.len(), "{what}");
        let errors = x.iter().zip(truth).map(|(x, truth)| (x - truth).abs());
        // a NaN is no number's maximum
        errors.fold(0.0, |most: f64, e| if e <= most { most } else { e })
    });
    let largest = truth.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    let allowed = 2.0 * of_meaning + allowance * largest;
    assert!(
        e <= allowed,
        "{what}: error {e:e}, allowed {allowed:e}, largest {largest:e}"
    );
}
