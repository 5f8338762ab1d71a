//! The textbook forms, composed from primitives: what the fused ops mean. Slow and obvious.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::primitives::*;
use crate::{Tensor, Var};

/// Shape with the last axis reduced to 1.
fn reduced(shape: &[usize]) -> Vec<usize> {
    let mut shape = shape.to_vec();
    if let Some(last) = shape.last_mut() {
        *last = 1;
    }
    shape
}

/// Row maxima over the last axis, detached: a shift by a constant leaves softmax and log-sum-exp, and all their
/// derivatives, exactly as they are.
fn row_max(x: &Var) -> Result<Var> {
    let value = x.value();
    let row = value.shape().last().copied().unwrap_or(1).max(1);
    let max = |row: &[f64]| row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let maxima: Vec<f64> = value.to_f64s().chunks(row).map(max).collect();
    let maxima = Tensor::from_f64s(&reduced(value.shape()), value.dtype(), &maxima)?;
    let maxima = maxima.to(value.device())?;
    broadcast(&Var::constant(maxima), value.shape())
}

/// e^(x - row maximum), its row sums, and the row maximum.
fn shifted_exp(x: &Var) -> Result<(Var, Var, Var)> {
    let max = row_max(x)?;
    let e = exp(&sub(x, &max)?)?;
    let total = sum(&e, &reduced(x.value().shape()))?;
    Ok((e, total, max))
}

/// Softmax over the last axis.
pub fn softmax(x: &Var) -> Result<Var> {
    let (e, total, _) = shifted_exp(x)?;
    mul(&e, &broadcast(&recip(&total)?, x.value().shape())?)
}

/// log sum_j e^(x_j) over the last axis, which keeps size 1.
pub fn log_sum_exp(x: &Var) -> Result<Var> {
    let (_, total, max) = shifted_exp(x)?;
    let first = slice(&max, max.value().shape().len() - 1, 0, 1)?;
    add(&log(&total)?, &first)
}

/// x sigmoid(x).
pub fn silu(x: &Var) -> Result<Var> {
    mul(x, &sigmoid(x)?)
}

/// silu(gate) up, elementwise.
pub fn swiglu(gate: &Var, up: &Var) -> Result<Var> {
    mul(&silu(gate)?, up)
}

/// (silu(x gate') * (x up')) down' for x [t, d], gate and up [ff, d], down [d, ff].
pub fn swiglu_mlp(x: &Var, gate: &Var, up: &Var, down: &Var) -> Result<Var> {
    let (g, u) = (matmul(x, gate, Transpose::B)?, matmul(x, up, Transpose::B)?);
    matmul(&swiglu(&g, &u)?, down, Transpose::B)
}

/// x / sqrt(mean(x^2) + eps) w over the last axis; `w` has the size of that axis.
pub fn rms_norm(x: &Var, w: &Var, eps: f64) -> Result<Var> {
    let shape = x.value().shape();
    let d = shape.last().copied().unwrap_or(1);
    let few = reduced(shape);
    let mean = scale(&sum(&mul(x, x)?, &few)?, 1.0 / d as f64)?;
    let eps = mean.value().full_like(&few, eps)?;
    let r = rsqrt(&add(&mean, &Var::constant(eps))?)?;
    let mut one_row = vec![1; shape.len()];
    one_row[shape.len() - 1] = d;
    let w = broadcast(&reshape(w, &one_row)?, shape)?;
    mul(&mul(x, &broadcast(&r, shape)?)?, &w)
}

/// Cosines and sines of rotary position embedding, each [t, h/2]: the angle of pair i at position p is
/// p theta^(-2i/h). Angles are computed in f64.
pub fn rope_tables(
    start: usize,
    t: usize,
    head_dim: usize,
    theta: f64,
    dtype: crate::DType,
) -> Result<(Tensor, Tensor)> {
    let half = head_dim / 2;
    let angle = |i: usize| {
        let (position, pair) = (start + i / half, i % half);
        position as f64 * theta.powf(-2.0 * pair as f64 / head_dim as f64)
    };
    let angles: Vec<f64> = (0..t * half).map(angle).collect();
    let table = |f: fn(f64) -> f64| {
        let values: Vec<f64> = angles.iter().map(|&a| f(a)).collect();
        Tensor::from_f64s(&[t, half], dtype.wide(), &values)
    };
    Ok((table(f64::cos)?, table(f64::sin)?))
}

/// Rotary position embedding of x [t, n, h] with tables [t, h/2]; pairs are (i, i + h/2).
pub fn rope(x: &Var, cos: &Tensor, sin: &Tensor) -> Result<Var> {
    let &[t, n, h] = x.value().shape() else {
        return Err(Error::shape(
            "rope",
            format!("{:?} is not [t, n, h]", x.value()),
        ));
    };
    let table = |m: &Tensor| {
        let m = reshape(&Var::constant(m.clone()), &[t, 1, h / 2])?;
        broadcast(&m, &[t, n, h / 2])
    };
    let (cos, sin) = (table(cos)?, table(sin)?);
    let (x1, x2) = (slice(x, 2, 0, h / 2)?, slice(x, 2, h / 2, h)?);
    let y1 = sub(&mul(&x1, &cos)?, &mul(&x2, &sin)?)?;
    let y2 = add(&mul(&x2, &cos)?, &mul(&x1, &sin)?)?;
    concat(&[&y1, &y2], 2)
}

/// Negative log-likelihood in nats of the token `ids[i]` under row i of `logits` [t, V]: a vector `[t]`.
pub fn cross_entropy(logits: &Var, ids: &Arc<[u32]>) -> Result<Var> {
    let &[t, v] = logits.value().shape() else {
        let message = format!("{:?} is not [t, V]", logits.value());
        return Err(Error::shape("cross_entropy", message));
    };
    let positions: Arc<[u32]> = (ids.iter().enumerate())
        .map(|(i, &id)| (i * v) as u32 + id)
        .collect();
    let flat = reshape(logits, &[t * v])?;
    let lse = reshape(&log_sum_exp(logits)?, &[t])?;
    sub(&lse, &gather(&flat, &positions)?)
}

/// [`cross_entropy`] of the logits x w', for x [t, d] and w [V, d].
pub fn linear_cross_entropy(x: &Var, w: &Var, ids: &Arc<[u32]>) -> Result<Var> {
    cross_entropy(&matmul(x, w, Transpose::B)?, ids)
}

/// Sliding-window causal attention (MATH: S = s Q K', P = softmax(S), O = P V with s = 1/sqrt(h)) of queries q [t, n, h] over
/// `cached` keys and values [c, m, h] and `current` ones [t, m, h]; n is a multiple of m (grouped queries). Query i stands at
/// position c + i and sees the `window` last keys up to and including its own position.
pub fn swa_attention(q: &Var, cached: [&Var; 2], current: [&Var; 2], window: usize) -> Result<Var> {
    let (&[t, n, h], &[c, m, _]) = (q.value().shape(), cached[0].value().shape()) else {
        let (q, k) = (q.value(), cached[0].value());
        return Err(Error::shape(
            "swa_attention",
            format!("{q:?} and {k:?} are not of rank 3"),
        ));
    };
    let (group, positions) = (n / m, c + t);
    let heads = |cached: &Var, current: &Var| {
        let x = concat(&[cached, current], 0)?;
        let x = reshape(&x, &[positions, m, 1, h])?;
        let x = broadcast(&x, &[positions, m, group, h])?;
        permute(&reshape(&x, &[positions, n, h])?, &[1, 0, 2])
    };
    let (k, v) = (heads(cached[0], current[0])?, heads(cached[1], current[1])?);
    let q = permute(q, &[1, 0, 2])?;
    let s = scale(&matmul(&q, &k, Transpose::B)?, 1.0 / (h as f64).sqrt())?;
    let seen: Arc<[bool]> = (0..n * t * positions)
        .map(|at| {
            let (i, j) = (c + at / positions % t, at % positions);
            j <= i && j + window > i
        })
        .collect();
    let shape = s.value().shape();
    let hidden = s.value().full_like(shape, -1e30)?;
    let p = softmax(&select(&seen, &s, &Var::constant(hidden))?)?;
    permute(&matmul(&p, &v, Transpose::None)?, &[1, 0, 2])
}

/// min(1, c / norm) for the global norm of `grads` (all of them together), a scalar; 1 if `c` is 0 (no clipping).
/// With norm² in hand the factor is c rsqrt(norm²) where norm² > c², else the constant 1.
pub fn clip_factor(grads: &[Var], c: f64) -> Result<Var> {
    clip_factor_of(grads, c, |g| sum_all(&mul(g, g)?))
}

/// The same from the sum of a gradient's squares.
pub(crate) fn clip_factor_of(
    grads: &[Var],
    c: f64,
    squares: impl Fn(&Var) -> Result<Var>,
) -> Result<Var> {
    let Some(first) = grads.first() else {
        return Err(Error::shape("clip_factor", "no gradients"));
    };
    let one = Var::constant(first.value().full_like(&[], 1.0)?);
    if c == 0.0 {
        return Ok(one);
    }
    let mut square = squares(first)?;
    for g in &grads[1..] {
        square = add(&square, &squares(g)?)?;
    }
    // the unclipped branch must not even evaluate rsqrt at zero
    let safe = select_above(&square, c * c, &square, &one)?;
    select_above(&square, c * c, &scale(&rsqrt(&safe)?, c)?, &one)
}

/// w - s g for a scalar s.
pub fn sgd_update(w: &Var, g: &Var, s: &Var) -> Result<Var> {
    let ones = vec![1; w.value().shape().len()];
    let s = broadcast(&reshape(s, &ones)?, w.value().shape())?;
    sub(w, &mul(&s, g)?)
}

/// Largest relative difference between two tensors of one shape, relative to the largest element of `b`.
pub fn relative_error(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_f64s(), b.to_f64s());
    let scale = b.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let worst = (a.iter().zip(&b)).fold(0.0f64, |m, (a, b)| match (a - b).abs() {
        d if d.is_nan() => f64::INFINITY,
        d => m.max(d),
    });
    if worst == 0.0 {
        0.0
    } else {
        worst / scale.max(f64::MIN_POSITIVE)
    }
}
