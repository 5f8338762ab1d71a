//! The one matrix product: every op's products go through [`gemm`], which hands them to the `faer` crate.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use crate::dtype::Float;

/// A strided view of a matrix; `.transpose()` is free.
pub(crate) type Mat<'a, T> = MatRef<'a, T>;

/// A product below this many FLOPs stays on one thread: starting a second costs about as much.
const WORTH_SHARING: usize = 1 << 23;
/// FLOPs in the time that an element takes to come from memory: what a product of few rows spends on each of a large matrix.
const FLOPS_PER_ELEMENT: usize = 32;

/// Larger products are cut into at most this many bands of rows or columns, of at least `BAND` each. The cut depends on the
/// shape alone, never on the number of threads.
const BANDS: usize = 16;
const BAND: usize = 64;

/// What a product does with its destination.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Into {
    /// c = alpha a b
    Replace,
    /// c += alpha a b
    Add,
}

/// Row-major matrix view of a slice.
pub(crate) fn mat<T: Float>(x: &[T], rows: usize, cols: usize) -> Mat<'_, T> {
    MatRef::from_row_major_slice(x, rows, cols)
}

/// View of `cols` columns of rows that lie `stride` elements apart, the first at `x[0]`.
pub(crate) fn strided<T: Float>(x: &[T], rows: usize, cols: usize, stride: usize) -> Mat<'_, T> {
    let end = if rows == 0 {
        0
    } else {
        (rows - 1) * stride + cols
    };
    MatRef::from_row_major_slice_with_stride(&x[..end], rows, cols, stride)
}

/// The matrix of `rows` rows of `cols` elements, `stride` elements apart, the first at `c[0]`.
fn view<T: Float>(c: &mut [T], rows: usize, cols: usize, stride: usize) -> MatMut<'_, T> {
    let end = if rows == 0 {
        0
    } else {
        (rows - 1) * stride + cols
    };
    // a row-major view by way of its transpose: faer 0.24.4's own constructor for a mutable one swaps the strides and writes
    // outside the slice
    let c = MatMut::from_column_major_slice_with_stride_mut(&mut c[..end], cols, rows, stride);
    c.transpose_mut()
}

fn accum(into: Into) -> Accum {
    match into {
        Into::Replace => Accum::Replace,
        Into::Add => Accum::Add,
    }
}

/// `c (+)= alpha a b` on one thread, for a row-major `c` whose rows lie `stride` elements apart, the first at `c[0]`.
pub(crate) fn gemm_strided<T: Float>(
    c: &mut [T],
    stride: usize,
    into: Into,
    alpha: T,
    a: Mat<'_, T>,
    b: Mat<'_, T>,
) {
    assert_eq!(a.ncols(), b.nrows(), "inner dimensions");
    let c = view(c, a.nrows(), b.ncols(), stride);
    matmul(c, accum(into), a, b, alpha, Par::Seq);
}

/// `c (+)= alpha a b` for a row-major `c` of `a.nrows()` by `b.ncols()`; transposes are strides of the views. Uses the
/// threads of rayon's current pool where the product is large enough; the bits of `c` do not depend on how many.
pub(crate) fn gemm<T: Float>(c: &mut [T], into: Into, alpha: T, a: Mat<'_, T>, b: Mat<'_, T>) {
    let (m, k, n) = (a.nrows(), a.ncols(), b.ncols());
    let loads = FLOPS_PER_ELEMENT * k * m.max(n);
    if (2 * m * n * k).max(loads) < WORTH_SHARING {
        return gemm_strided(c, n, into, alpha, a, b);
    }
    assert_eq!(k, b.nrows(), "inner dimensions");
    // faer's own threads are not used: cutting the product here keeps its bits independent of their number
    let by_rows = m >= n;
    let length = m.max(n);
    let band = length.div_ceil(BANDS).next_multiple_of(16).max(BAND);
    let mut bands = vec![];
    let mut rest = view(c, m, n, n);
    for start in (0..length).step_by(band) {
        let size = band.min(length - start);
        let (first, others) = match by_rows {
            true => rest.split_at_row_mut(size),
            false => rest.split_at_col_mut(size),
        };
        bands.push((start, size, first));
        rest = others;
    }
    let accum = accum(into);
    let one = |(start, size, c): (usize, usize, MatMut<'_, T>)| match by_rows {
        true => matmul(c, accum, a.subrows(start, size), b, alpha, Par::Seq),
        false => matmul(c, accum, a, b.subcols(start, size), alpha, Par::Seq),
    };
    match rayon::current_num_threads() {
        1 => bands.into_iter().for_each(one),
        _ => bands.into_par_iter().for_each(one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every element of a strided destination, and nothing between its rows or after them.
    #[test]
    fn a_strided_destination() {
        for (m, k, n, stride) in [(3, 4, 5, 5), (5, 4, 3, 7), (2, 3, 1, 4), (70, 33, 20, 50)] {
            let numbers = |len: usize, modulus: usize| -> Vec<f64> {
                (0..len).map(|i| (i * 7 % modulus) as f64 - 4.0).collect()
            };
            let (a, b) = (numbers(m * k, 11), numbers(k * n, 13));
            for into in [Into::Replace, Into::Add] {
                let mut c = vec![1.0; m * stride + 40];
                gemm_strided(&mut c, stride, into, 2.0, mat(&a, m, k), mat(&b, k, n));
                for (at, &got) in c.iter().enumerate() {
                    let (i, j) = (at / stride, at % stride);
                    let product = || (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum::<f64>();
                    let want = match (i < m && j < n, into) {
                        (false, _) => 1.0,
                        (true, Into::Replace) => 2.0 * product(),
                        (true, Into::Add) => 1.0 + 2.0 * product(),
                    };
                    assert_eq!(got, want, "element {i}, {j} of {m} x {k} x {n}");
                }
            }
        }
    }
}
