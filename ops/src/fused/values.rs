//! The fused ops and their first derivatives on values, for a backward pass that is written by hand.
//!
//! Each function is the op of its name: the same code gives the same numbers. Nothing is recorded, so nothing is kept but what
//! the caller holds on to, and a backward function computes those gradients alone that its caller asks for. In names and
//! formulas `d` + name is the gradient by that name. Weights may be f32 where activations are bf16; their gradients are f32 then.
//!
//! ```
//! use ops::{DType, Tensor, values};
//! let x = Tensor::from_vec(&[1, 2], vec![3f64, 4.])?;
//! let w = Tensor::from_vec(&[2], vec![1f64, 1.])?;
//! let y = values::rms_norm(&x, &w, 0.0)?;
//! // the norm of a row does not depend on its length: no gradient along the row
//! let dx = values::rms_norm_bwd(&x, &w, &x, 0.0)?.to_f64s();
//! assert!((y.to_f64s()[0] - 3.0 / 12.5f64.sqrt()).abs() < 1e-15);
//! assert!(dx[0].abs() < 1e-15 && dx[1].abs() < 1e-15);
//! # Ok::<(), ops::Error>(())
//! ```

use std::sync::Arc;

use autograd::Op;

use super::Present;
use super::attention::{SwaAttention, SwaAttentionBwd};
use super::linear_cross_entropy::LinearCrossEntropy;
use super::rms_norm::{RmsNorm, RmsNormBwd};
use super::rope::Rope;
use super::sgd::same;
use super::swiglu_mlp::{SwigluMlp, SwigluMlpBwd};
use crate::dtype::{DType, Float, for_float};
use crate::error::{Error, Result};
use crate::gemm::{Into, gemm, mat};
use crate::{Device, Element, Tensor, Transpose, cuda, par};

/// What an op gives that always has N results.
fn all<const N: usize>(results: Vec<Tensor>) -> [Tensor; N] {
    results.try_into().expect("as many results as the op has")
}

fn one(results: Vec<Tensor>) -> Tensor {
    let [x] = all(results);
    x
}

/// An error unless x has this shape and the dtype of `other`.
fn expect(op: &'static str, x: &Tensor, shape: &[usize], other: &Tensor) -> Result<()> {
    match x.shape() == shape && x.dtype() == other.dtype() {
        true => Ok(()),
        false => {
            let message = format!("{x:?} is not {} {shape:?}", other.dtype());
            Err(Error::shape(op, message))
        }
    }
}

/// A weight as `x` reads it: one of f32 is rounded where x is bf16.
fn read(w: &Tensor, x: &Tensor) -> Result<Tensor> {
    match (x.dtype(), w.dtype()) {
        (DType::BF16, DType::F32) => cast(w, DType::BF16),
        _ => Ok(w.clone()),
    }
}

/// [`rms_norm`](crate::rms_norm) over the last axis.
pub fn rms_norm(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    Ok(one(RmsNorm { eps }.eval(&[x, &read(w, x)?])?))
}

/// dx of [`rms_norm`] from dy.
pub fn rms_norm_bwd(x: &Tensor, w: &Tensor, dy: &Tensor, eps: f64) -> Result<Tensor> {
    let op = RmsNormBwd { eps, weight: false };
    Ok(one(op.eval(&[x, &read(w, x)?, dy])?))
}

/// [`cast`](crate::cast).
pub fn cast(x: &Tensor, dtype: DType) -> Result<Tensor> {
    match cuda::of("cast", [x])? {
        Some(cuda) => cuda.cast(x, dtype),
        None => Ok(x.cast(dtype)),
    }
}

/// x w' for x [t, ..] with rows of `in` elements and w [out, in]: [t, out].
///
/// Errors: shapes that do not fit, dtypes that differ.
pub fn linear(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let w = &read(w, x)?;
    let misfit = || {
        let message =
            format!("x {x:?} and weight {w:?} are not [t, in] and [out, in] of one dtype");
        Error::shape("linear", message)
    };
    let (Some(&t), &[out, width]) = (x.shape().first(), w.shape()) else {
        return Err(misfit());
    };
    if width == 0 || t * width != x.len() || x.dtype() != w.dtype() {
        return Err(misfit());
    }
    if let Some(cuda) = cuda::of("linear", [x, w])? {
        return cuda.matmul(Transpose::B, [1, t, width, out], [x, w], &[t, out]);
    }
    Ok(for_float!("linear", x.dtype(), T => {
        Tensor::build(&[t, out], |y: &mut [T]| {
            let w = mat(w.data(), out, width).transpose();
            gemm(y, Into::Replace, T::ONE, mat(x.data(), t, width), w);
        })
    }))
}

/// dx [t, in] of several [`linear`] layers that read the same x: the sum of dy w over their pairs (dy, w), dy [t, ..] with rows of
/// `out` elements and w [out, in].
///
/// Errors: shapes that do not fit, dtypes that differ, no layer at all.
pub fn linear_bwd(layers: &[(&Tensor, &Tensor)]) -> Result<Tensor> {
    let misfit = || {
        let message = format!("{layers:?} are not pairs [t, out] and [out, in] of one dtype");
        Error::shape("linear_bwd", message)
    };
    let read = |&(dy, w): &(&Tensor, &Tensor)| read(w, dy);
    let weights: Vec<Tensor> = layers.iter().map(read).collect::<Result<_>>()?;
    let pairs = layers.iter().zip(&weights).map(|(layer, w)| (layer.0, w));
    let layers = &pairs.collect::<Vec<_>>()[..];
    let Some(&(first, w)) = layers.first() else {
        return Err(misfit());
    };
    let (Some(&t), &[_, width]) = (first.shape().first(), w.shape()) else {
        return Err(misfit());
    };
    let fits = |&(dy, w): &(&Tensor, &Tensor)| {
        let &[out, w_width] = w.shape() else {
            return false;
        };
        let dtypes = dy.dtype() == first.dtype() && w.dtype() == first.dtype();
        out > 0
            && dy.shape().first() == Some(&t)
            && dy.len() == t * out
            && w_width == width
            && dtypes
    };
    if !layers.iter().all(fits) {
        return Err(misfit());
    }
    let all = layers.iter().flat_map(|layer| [layer.0, layer.1]);
    if let Some(cuda) = cuda::of("linear_bwd", all)? {
        return cuda.linear_bwd(layers, [t, width]);
    }
    Ok(for_float!("linear_bwd", first.dtype(), T => {
        Tensor::build(&[t, width], |dx: &mut [T]| {
            let mut into = Into::Replace;
            for (dy, w) in layers {
                let out = w.shape()[0];
                gemm(dx, into, T::ONE, mat(dy.data(), t, out), mat(w.data(), out, width));
                into = Into::Add;
            }
        })
    }))
}

/// [`rope`](crate::rope).
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    rotate(x, cos, sin, false)
}

/// dx of [`rope`] from dy: the rotation back.
pub fn rope_bwd(dy: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    rotate(dy, cos, sin, true)
}

fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor, inverse: bool) -> Result<Tensor> {
    let (cos, sin) = (cos.clone(), sin.clone());
    Ok(one(Rope { cos, sin, inverse }.eval(&[x])?))
}

/// o [t, n, h] of [`swa_attention`](crate::swa_attention), and the logarithm of the sum of each softmax, lse [t, n].
pub fn swa_attention(
    q: &Tensor,
    cached: [&Tensor; 2],
    current: [&Tensor; 2],
    window: usize,
) -> Result<[Tensor; 2]> {
    let x = [q, cached[0], cached[1], current[0], current[1]];
    Ok(all(SwaAttention { window }.eval(&x)?))
}

/// [dq, dk, dv] of [`swa_attention`] by queries and current keys and values, from do [t, n, h] and what the forward function
/// gave. Cached keys and values are constants.
pub fn swa_attention_bwd(
    q: &Tensor,
    cached: [&Tensor; 2],
    current: [&Tensor; 2],
    window: usize,
    do_: &Tensor,
    [o, lse]: [&Tensor; 2],
) -> Result<[Tensor; 3]> {
    let op = SwaAttentionBwd {
        window,
        wanted: Present([true, false, false, true, true]),
    };
    for x in [do_, o] {
        expect(op.name(), x, q.shape(), q)?;
    }
    let rows = &q.shape()[..q.shape().len().min(2)];
    if lse.shape() != rows || lse.dtype() != q.dtype().wide() {
        let message = format!(
            "lse {lse:?} is not {} {rows:?} for q {q:?}",
            q.dtype().wide()
        );
        return Err(Error::shape(op.name(), message));
    }
    let x = [q, cached[0], cached[1], current[0], current[1], do_, o, lse];
    Ok(all(op.eval(&x)?))
}

/// [y, g, u] of [`swiglu_mlp`](crate::swiglu_mlp) with the matrices gate, up, down: y [t, d], and g = x gate' and u = x up',
/// [t, ff] each.
pub fn swiglu_mlp(x: &Tensor, [gate, up, down]: [&Tensor; 3]) -> Result<[Tensor; 3]> {
    let [gate, up, down] = [gate, up, down].map(|w| read(w, x));
    Ok(all(SwigluMlp.eval(&[x, &gate?, &up?, &down?])?))
}

/// Those of [dx, dgate, dup, ddown] of [`swiglu_mlp`] that `needs` asks for, from dy [t, d] and what the forward function gave.
pub fn swiglu_mlp_bwd(
    x: &Tensor,
    [gate, up, down]: [&Tensor; 3],
    [g, u]: [&Tensor; 2],
    dy: &Tensor,
    needs: [bool; 4],
) -> Result<[Option<Tensor>; 4]> {
    let op = SwigluMlpBwd {
        ct: Present([true, false, false]),
        results: Present(needs),
    };
    expect(op.name(), dy, x.shape(), x)?;
    for inner in [g, u] {
        let rows = x.shape().first().into_iter();
        let shape: Vec<usize> = rows.chain(gate.shape().first()).copied().collect();
        expect(op.name(), inner, &shape, x)?;
    }
    let [a, b, c] = [gate, up, down].map(|w| read(w, x));
    let d = op.eval(&[x, &a?, &b?, &c?, g, u, dy])?;
    let [dx, dgate, dup, ddown] = op.results.spread(&d);
    let back = |d: Option<Tensor>, w: &Tensor| d.map(|d| cast(&d, w.dtype())).transpose();
    Ok([dx, back(dgate, gate)?, back(dup, up)?, back(ddown, down)?])
}

/// nll `[t]` of [`linear_cross_entropy`](crate::linear_cross_entropy), and r [t, d], the gradient of nll_i by x_i, in one pass
/// over the logits, of which no more than a tile exists at a time.
pub fn linear_cross_entropy(x: &Tensor, w: &Tensor, ids: &Arc<[u32]>) -> Result<[Tensor; 2]> {
    let op = LinearCrossEntropy {
        ids: ids.clone(),
        gradient: true,
    };
    let [nll, r, _] = all(op.eval(&[x, &read(w, x)?])?);
    Ok([nll, r])
}

/// w - s g in place of w; copies w first if its buffer is shared.
///
/// Errors: shapes or dtypes that differ.
pub fn sgd_update(w: &mut Tensor, g: &Tensor, s: f64) -> Result<()> {
    same("sgd_update", w, g)?;
    if let Some(cuda) = cuda::of("sgd_update", [&*w, g])? {
        return cuda.sgd_update_assign(w, g, s);
    }
    for_float!("sgd_update", w.dtype(), T => {
        let s = T::from_f64(s);
        let w = w.make_mut::<T>().expect("dispatched on this dtype");
        par::update(w, g.data(), |w, g| *w -= s * g);
    });
    Ok(())
}

/// W <- W - s g in place, with s = eta min(1, c / |g|) for the norm of all gradients together, accumulated in f64; s = eta if c is 0.
/// Copies a matrix first if its buffer is shared.
///
/// Errors: shapes or dtypes that differ.
pub fn inner_update(w: &mut [&mut Tensor], g: &[&Tensor], eta: f64, c: f64) -> Result<()> {
    if w.len() != g.len() {
        let message = format!("{} matrices and {} gradients", w.len(), g.len());
        return Err(Error::shape("inner_update", message));
    }
    for (w, g) in w.iter().zip(g) {
        same("inner_update", w, g)?;
    }
    let all = g.iter().copied().chain(w.iter().map(|w| &**w));
    if let Some(cuda) = cuda::of("inner_update", all)? {
        return cuda.inner_update(w, g, eta, c);
    }
    let norm = norm(g)?.item()?;
    let s = if c > 0.0 && norm > c {
        eta * c / norm
    } else {
        eta
    };
    for (w, g) in w.iter_mut().zip(g) {
        sgd_update(w, g, s)?;
    }
    Ok(())
}

/// The norm of all tensors together, a scalar where they live: in f64, or in f32 on a device; accumulated in f64 in a fixed order.
///
/// Errors: no tensor; dtypes that nothing computes in.
pub fn norm(x: &[&Tensor]) -> Result<Tensor> {
    if x.is_empty() {
        return Err(Error::shape("norm", "no tensor"));
    }
    if let Some(cuda) = cuda::of("norm", x.iter().copied())? {
        return cuda.norm(x);
    }
    let mut square = 0.0;
    for x in x {
        for_float!("norm", x.dtype(), T => {
            square += par::sum(x.data::<T>(), |x: T| x.to_f64() * x.to_f64());
        });
    }
    Ok(Tensor::scalar(DType::F64, square.sqrt()))
}

/// The values of scalars of one dtype or several. From a device they come together, in one wait.
///
/// Errors: a tensor of another number of elements than one; scalars on several devices; work on the device that failed.
pub fn items(x: &[&Tensor]) -> Result<Vec<f64>> {
    let Some(cuda) = cuda::of("items", x.iter().copied())? else {
        return x.iter().map(|x| x.item()).collect();
    };
    if let Some(x) = x.iter().find(|x| x.len() != 1) {
        return Err(Error::shape("items", format!("{x:?} has not one element")));
    }
    let all = cuda.concat(x, 1, &[x.len()])?;
    Ok(all.to(Device::Cpu)?.to_f64s())
}
