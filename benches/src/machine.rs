//! What the machine can do at best, to compare with.

use std::hint::black_box;
use std::time::Instant;

use ops::{Result, Tensor, Transpose, Var, matmul};

/// What the machine did at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// FLOP/s of a 1024-cube product in f32.
    pub product: f64,
    /// Bytes per second, read and written, of a plain copy.
    pub copy: f64,
}

impl Rates {
    /// Measures both; the copy moves `bytes` in all, so that it is served by the same cache as an op that moves as many.
    pub fn measure(bytes: f64) -> Result<Self> {
        Ok(Rates {
            product: product()?,
            copy: copy(bytes),
        })
    }
}

/// Bytes of a copy that no cache holds.
pub const LARGE_COPY: f64 = (1u64 << 29) as f64;

/// The best of three.
fn product() -> Result<f64> {
    const N: usize = 1024;
    let x: Vec<f32> = (0..N * N).map(|i| (i % 17) as f32 / 17.0).collect();
    let x = Var::constant(Tensor::from_vec(&[N, N], x)?);
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let start = Instant::now();
        black_box(matmul(&x, &x, Transpose::None)?);
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(2.0 * (N as f64).powi(3) / best)
}

/// On one thread or on all, whichever is faster.
fn copy(bytes: f64) -> f64 {
    let n = (bytes / 8.0).ceil().max(1.0) as usize;
    let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let mut y = x.clone();
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    copy_on(1, &x, &mut y).max(copy_on(all, &x, &mut y))
}

/// The best of three turns of copying `x` to `y` on so many threads, each turn long enough not to notice their start.
fn copy_on(threads: usize, x: &[f32], y: &mut [f32]) -> f64 {
    const TURN: usize = 1 << 28;
    let moved = 2 * size_of_val(x);
    let repeats = TURN.div_ceil(moved);
    let part = x.len().div_ceil(threads);
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for (x, y) in x.chunks(part).zip(y.chunks_mut(part)) {
                scope.spawn(move || {
                    for _ in 0..repeats {
                        black_box(&mut *y).copy_from_slice(black_box(x));
                    }
                });
            }
        });
        best = best.min(start.elapsed().as_secs_f64());
    }
    (moved * repeats) as f64 / best
}
