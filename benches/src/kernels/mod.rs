//! CUDA kernels at the sizes of the published recipe: what runs, what it must equal, and what it costs.

mod attention;
mod elementwise;
mod losses;
mod products;
mod rows;
mod steps;
mod truth;

use kernels::{Machine, from_bytes, to_bytes};
use kernels_cu::{DType, Launch, Result, View};

/// Which sizes of a case are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Small ones, whose results are compared.
    Check,
    /// Those that are timed.
    Real,
}

/// Puts a case on a machine.
pub type Make = Box<dyn Fn(&mut dyn Machine, Size) -> Result<Made>>;

/// One variant of a kernel at one set of shapes.
pub struct KernelCase {
    /// Folder of the kernel.
    pub kernel: &'static str,
    /// Level, variant, type.
    pub variant: String,
    /// Type of the elements.
    pub dtype: DType,
    /// The real shapes, in words.
    pub what: String,
    /// Puts inputs on a machine and makes the launches.
    pub make: Make,
}

/// Launches, and what they leave.
pub struct Made {
    /// In order. If sizes are small they begin with what the level needs of those below.
    pub launches: Vec<Launch>,
    /// What is compared, if sizes are small.
    pub expected: Vec<Expected>,
}

/// A result and what it should be.
pub struct Expected {
    /// Where it is.
    pub view: View,
    /// Its type.
    pub dtype: DType,
    /// What it should be.
    pub truth: Vec<f64>,
}

impl KernelCase {
    /// Name of the benchmark, for criterion and its filter.
    pub fn name(&self) -> String {
        format!("{} / {} / {}", self.kernel, self.variant, self.what)
    }

    /// Runs the small sizes and compares; the error says what is off, and by how much.
    pub fn check(&self, machine: &mut dyn Machine) -> std::result::Result<(), String> {
        let said = |error: kernels_cu::Error| format!("{}: {error}", self.name());
        let made = (self.make)(machine, Size::Check).map_err(said)?;
        for launch in &made.launches {
            machine.launch(launch).map_err(said)?;
        }
        if made.expected.is_empty() {
            return Err(format!("{}: nothing to compare", self.name()));
        }
        for (i, expected) in made.expected.iter().enumerate() {
            let bytes = machine.download_bytes(&expected.view).map_err(said)?;
            let got = from_bytes(&bytes, expected.dtype);
            let off = relative_error(&got, &expected.truth);
            if off > tolerance(self.dtype) || off.is_nan() {
                return Err(format!(
                    "{}: result {i} is off by {off:e} of its largest element",
                    self.name()
                ));
            }
        }
        Ok(())
    }
}

/// Rounding of sums of a few thousand terms, amplified by two derivatives: the tests hold kernels to far less.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 1e-4,
        DType::BF16 => 5e-2,
    }
}

/// The largest difference as a share of the largest number; infinite for other lengths, NaN where a result is.
fn relative_error(got: &[f64], truth: &[f64]) -> f64 {
    if got.len() != truth.len() {
        return f64::INFINITY;
    }
    let largest = truth.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    let differences = got.iter().zip(truth).map(|(x, y)| (x - y).abs());
    let worst = differences.fold(0.0f64, |most, x| if x <= most { most } else { x });
    worst / largest.max(f64::MIN_POSITIVE)
}

/// Numbers on a machine: rounded ones that look random where results are compared, NaN where only time is.
pub(crate) fn input(
    machine: &mut dyn Machine,
    size: Size,
    n: usize,
    dtype: DType,
    seed: u64,
) -> Result<(View, Vec<f64>)> {
    if size == Size::Real {
        return Ok((machine.room(n * dtype.bytes())?, vec![]));
    }
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut number = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    };
    let bytes = to_bytes(&(0..n).map(|_| number()).collect::<Vec<_>>(), dtype);
    Ok((machine.upload_bytes(&bytes)?, from_bytes(&bytes, dtype)))
}

/// Every case.
pub fn cases() -> Vec<KernelCase> {
    [
        attention::cases(),
        elementwise::cases(),
        products::cases(),
        rows::cases(),
        losses::cases(),
        steps::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
