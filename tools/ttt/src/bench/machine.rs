//! What the machine does meanwhile.

use std::time::Instant;

use model::Result;
use ops::{Tensor, Transpose, Var, matmul};

/// FLOP/s of the best of three 1024-cube products, of the dtype and on the device of `like`.
pub fn gemm_rate(like: &Tensor) -> Result<f64> {
    let n = 1024;
    let x: Vec<f64> = (0..n * n).map(|i| (i % 17) as f64 / 17.0).collect();
    let x = Tensor::from_f64s(&[n, n], like.dtype(), &x)?;
    let x = Var::constant(x.to(like.device())?);
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let start = Instant::now();
        let y = matmul(&x, &x, Transpose::None)?;
        // a number of it is there once all of it is
        y.value().reshape(&[n * n])?.rows(0, 1)?.item()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(2.0 * (n as f64).powi(3) / best)
}

/// The middle one, or the mean of the two in the middle.
pub fn median(x: &mut [f64]) -> f64 {
    x.sort_by(f64::total_cmp);
    let n = x.len();
    (x[(n - 1) / 2] + x[n / 2]) / 2.0
}

/// Highest resident set of this process so far, from the kernel; 0 where it does not tell.
pub fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.map_or(0, |kib| kib * 1024)
}
