//! The update of all fast matrices from the factors of their gradients.

use super::{NAME, Types, clip, sgd_update};
use crate::error::{Error, Result};
use crate::gemm::{Gemm, Transpose, Views};
use crate::launch::{Launch, View};
use crate::program::DType;

/// A fast matrix W [m, n] in f32, and the factors of its gradient dY' X, for dY [t, m] and X [t, n].
#[derive(Debug, Clone, Copy)]
pub struct FastMatrix<'v> {
    /// Rows and columns.
    pub shape: [usize; 2],
    /// dY and X.
    pub factors: [&'v View; 2],
    /// W.
    pub weight: &'v View,
    /// Room for the new W; it may be `weight`.
    pub updated: &'v View,
    /// Room for the new W in bf16.
    pub shadow: Option<&'v View>,
    /// Room for the gradient in f32.
    pub gradient: &'v View,
}

/// Its gradient, for t rows and factors of a type.
fn gradient([m, n]: [usize; 2], t: usize, dtype: DType) -> Gemm {
    Gemm {
        output: DType::F32,
        ..Gemm::new(Transpose::A, [m, n, t], dtype)
    }
}

/// How many sums of squares the gradient of a matrix has.
pub fn gradient_parts(shape: [usize; 2], t: usize, dtype: DType) -> usize {
    gradient(shape, t, dtype).squares(1)
}

/// Bytes of workspace for matrices of these shapes.
pub fn clipped_workspace(shapes: &[[usize; 2]], t: usize, dtype: DType) -> usize {
    let bytes = shapes.iter().map(|s| gradient(*s, t, dtype).workspace(1));
    bytes.fold(0, usize::max)
}

/// Memory that the update of all matrices together needs.
#[derive(Debug, Clone, Copy)]
pub struct Room<'v> {
    /// Sums of squares in f32: the [`gradient_parts`] of all matrices.
    pub parts: &'v View,
    /// s and the norm of the gradient in f32.
    pub step: &'v View,
    /// At least [`clipped_workspace`] bytes.
    pub workspace: &'v View,
}

/// W - s dY' X for all fast matrices, s = eta min(1, c / norm) with the norm of all gradients together (c = 0 clips nothing): gradients,
/// whose products leave their sums of squares; the step, on the device; updates. There are t rows, and factors of a type.
///
/// # Errors
/// Views of other sizes.
pub fn clipped_update(
    matrices: &[FastMatrix],
    t: usize,
    dtype: DType,
    [eta, c]: [f32; 2],
    room: Room,
) -> Result<Vec<Launch>> {
    let mut launches = vec![];
    let counts = matrices.iter().map(|m| gradient_parts(m.shape, t, dtype));
    let bytes = 4 * counts.clone().sum::<usize>();
    if room.parts.bytes() != bytes {
        let message = format!(
            "the room for sums of squares has {} bytes, not {bytes}",
            room.parts.bytes()
        );
        return Err(Error::shape(NAME, message));
    }
    let mut start = 0;
    for (matrix, count) in matrices.iter().zip(counts) {
        let squares = room.parts.part(4 * start, 4 * count);
        start += count;
        let [dy, x] = matrix.factors;
        let views = Views {
            squares: Some(&squares),
            workspace: Some(room.workspace),
            ..Views::new(dy, x, matrix.gradient)
        };
        launches.extend(gradient(matrix.shape, t, dtype).launch(&views)?);
    }
    launches.push(clip(room.parts, room.step, eta, c)?);
    let s = room.step.part(0, 4);
    let types = Types::new(DType::F32, DType::F32);
    for matrix in matrices {
        let FastMatrix {
            shape: [m, n],
            weight,
            updated,
            shadow,
            gradient,
            ..
        } = *matrix;
        launches.push(sgd_update(
            types,
            m * n,
            [weight, gradient, &s],
            updated,
            shadow,
        )?);
    }
    Ok(launches)
}

/// w <- w - eta dY' X in the product's own kernel, for w [m, n] in f32, dY [t, m] and X [t, n]: no gradient is written. The new w is
/// written to `shadow` in bf16 too.
///
/// # Errors
/// Views of other sizes; a workspace smaller than [`clipped_workspace`].
pub fn unclipped_update(
    [m, n, t]: [usize; 3],
    dtype: DType,
    eta: f32,
    [dy, x]: [&View; 2],
    w: &View,
    shadow: Option<&View>,
    workspace: &View,
) -> Result<Vec<Launch>> {
    let gemm = Gemm {
        alpha: -eta,
        beta: 1.0,
        ..gradient([m, n], t, dtype)
    };
    gemm.launch(&Views {
        shadow,
        workspace: Some(workspace),
        ..Views::new(dy, x, w)
    })
}
