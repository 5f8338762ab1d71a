//! rms_norm(x, w) = x r w with r = (mean(x^2) + eps)^(-1/2), rows of size d, to second order.
//!
//! Per row, with xh = x r, u = dy w, m = mean(xh u):
//!
//! ```text
//! dx  = r (u - xh m)          dw = sum over rows of dy xh                              (bwd)
//! cotangents A of dx, B of dw; a = mean(A xh), e = A.u - d a m (the derivative by r):  (bwd_bwd)
//! ddy = w r (A - a xh) + B xh
//! dw2 = sum over rows of dy r (A - a xh)
//! h   = B dy - r (m A + a u)                                    (the derivative by xh)
//! dx2 = r (h - xh (mean(h xh) + r e / d))
//! ```

use autograd::{At, Op, apply, apply1};

use super::{Present, read, vjp_of, vjp_of_meaning};
use crate::dtype::{Float, for_float};
use crate::error::{Error, Result};
use crate::{Element, Tensor, Var, cuda, derived, par};

fn check(op: &'static str, x: &Tensor, w: &Tensor) -> Result<usize> {
    match (x.shape().last(), w.shape()) {
        (Some(&d), [n]) if d == *n && d > 0 && x.dtype() == w.dtype() => Ok(d),
        _ => Err(Error::shape(op, format!("x {x:?} with weight {w:?}"))),
    }
}

/// 1 / sqrt(mean(x^2) + eps) of one row.
#[inline(always)]
fn reciprocal_rms<T: Float>(x: &[T], eps: f64) -> T {
    let mean = par::dot(x, x) / T::from_f64(x.len() as f64);
    T::ONE / Float::sqrt(mean + T::from_f64(eps))
}

pub(super) struct RmsNorm {
    pub(super) eps: f64,
}

impl Op<Tensor> for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let (x, w, eps) = (x[0], x[1], self.eps);
        let d = check("rms_norm", x, w)?;
        if let Some(cuda) = cuda::of("rms_norm", [x, w])? {
            return Ok(vec![cuda.rms_norm([x, w], eps)?]);
        }
        Ok(vec![for_float!("rms_norm", x.dtype(), T => {
            let (x_, w) = (x.data::<T>(), w.data::<T>());
            Tensor::build(x.shape(), |out: &mut [T]| {
                par::pieces(out, d, 2, |first, out| {
                    par::simd(#[inline(always)] || {
                        for (i, y) in out.chunks_exact_mut(d).enumerate() {
                            let x = &x_[(first + i) * d..][..d];
                            let r = reciprocal_rms(x, eps);
                            for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                                *y = *x * r * *w;
                            }
                        }
                    })
                })
            })
        })])
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let Some(dy) = &ct[0] else {
            return Ok(vec![None, None]);
        };
        let mut d = rms_norm_bwd(&at.x[0], &at.x[1], dy, self.eps, at.needs[1])?;
        d.resize(2, None);
        Ok(d)
    }
}

/// x / sqrt(mean(x^2) + eps) w over the last axis; w has the size of that axis, and may be f32 where x is bf16.
pub fn rms_norm(x: &Var, w: &Var, eps: f64) -> Result<Var> {
    apply1(RmsNorm { eps }, &[x, &read(w, x)?])
}

/// Inputs x, w, dy. Results: dx, and dw if it is wanted.
pub(super) struct RmsNormBwd {
    pub(super) eps: f64,
    pub(super) weight: bool,
}

/// dx of one row; returns r.
#[inline(always)]
fn row_bwd<T: Float>(dx: &mut [T], x: &[T], w: &[T], dy: &[T], eps: f64) -> T {
    let r = reciprocal_rms(x, eps);
    for ((dx, dy), w) in dx.iter_mut().zip(dy).zip(w) {
        *dx = *dy * *w;
    }
    let rm = r * r * par::dot(dx, x) / T::from_f64(x.len() as f64);
    for (dx, x) in dx.iter_mut().zip(x) {
        *dx = r * (*dx - *x * rm);
    }
    r
}

impl Op<Tensor> for RmsNormBwd {
    fn name(&self) -> &'static str {
        "rms_norm_bwd"
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let (x, w, dy, eps) = (x[0], x[1], x[2], self.eps);
        let d = check("rms_norm_bwd", x, w)?;
        if dy.shape() != x.shape() || dy.dtype() != x.dtype() {
            let message = format!("x {x:?} with cotangent {dy:?}");
            return Err(Error::shape("rms_norm_bwd", message));
        }
        if let Some(cuda) = cuda::of("rms_norm_bwd", [x, w, dy])? {
            return cuda.rms_norm_bwd([x, w, dy], eps, self.weight);
        }
        Ok(for_float!("rms_norm_bwd", x.dtype(), T => {
            let (x_, w, dy) = (x.data::<T>(), w.data::<T>(), dy.data::<T>());
            let row = |i: usize| i * d..(i + 1) * d;
            let mut dx = crate::buffer::Buffer::scratch(x.len());
            let dw = match self.weight {
                false => {
                    par::pieces(&mut dx, d, 4, |first, dx| {
                        par::simd(#[inline(always)] || {
                            for (i, dx) in dx.chunks_exact_mut(d).enumerate() {
                                let row = row(first + i);
                                row_bwd(dx, &x_[row.clone()], w, &dy[row], eps);
                            }
                        })
                    });
                    None
                }
                true => Some(par::rows_and_sum([&mut dx], d, #[inline(always)] |first, [dx], dw: &mut [T]| {
                    for (i, dx) in dx.chunks_exact_mut(d).enumerate() {
                        let row = row(first + i);
                        let (x, dy) = (&x_[row.clone()], &dy[row]);
                        let r = row_bwd(dx, x, w, dy, eps);
                        for ((dw, dy), x) in dw.iter_mut().zip(dy).zip(x) {
                            *dw += *dy * *x * r;
                        }
                    }
                })),
            };
            let dw = dw.map(|dw| Tensor::from_buffer(&[d], dw));
            [Tensor::from_buffer(x.shape(), dx)].into_iter().chain(dw).collect()
        }))
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let [x, w, dy] = [&at.x[0], &at.x[1], &at.x[2]];
        let ct = [&ct[0], ct.get(1).unwrap_or(&None)];
        let d = rms_norm_bwd_bwd(x, w, dy, ct, self.eps)?;
        Ok(d.into_iter().map(Some).collect())
    }
}

/// dx, and dw if `weight` asks for it.
fn rms_norm_bwd(x: &Var, w: &Var, dy: &Var, eps: f64, weight: bool) -> Result<Vec<Option<Var>>> {
    let d = apply(RmsNormBwd { eps, weight }, &[x, w, dy])?;
    Ok(d.into_iter().map(Some).collect())
}

struct RmsNormBwdBwd {
    eps: f64,
    present: Present<2>,
}

impl Op<Tensor> for RmsNormBwdBwd {
    fn name(&self) -> &'static str {
        "rms_norm_bwd_bwd"
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let [a, b] = self.present.spread(&x[3..]);
        let (x, w, dy, eps) = (x[0], x[1], x[2], self.eps);
        let d = check("rms_norm_bwd_bwd", x, w)?;
        let all = [x, w, dy].into_iter().chain(a).chain(b);
        if let Some(cuda) = cuda::of("rms_norm_bwd_bwd", all)? {
            return cuda.rms_norm_bwd_bwd([x, w, dy], [a, b], eps);
        }
        Ok(for_float!("rms_norm_bwd_bwd", x.dtype(), T => {
            let (x_, w_, dy_) = (x.data::<T>(), w.data::<T>(), dy.data::<T>());
            let (a_, b) = (a.map(|a| a.data::<T>()), b.map(|b| b.data::<T>()));
            let inverse_d = T::ONE / T::from_f64(d as f64);
            let mut dx2 = crate::buffer::Buffer::scratch(x.len());
            let mut ddy = crate::buffer::Buffer::scratch(x.len());
            let dw2 = par::rows_and_sum([&mut dx2, &mut ddy], d, #[inline(always)] |first: usize, [dx2, ddy]: [&mut [T]; 2], dw2: &mut [T]| {
                let outputs = dx2.chunks_exact_mut(d).zip(ddy.chunks_exact_mut(d));
                for (i, (dx2, ddy)) in outputs.enumerate() {
                    let row = (first + i) * d..(first + i + 1) * d;
                    let (x, dy) = (&x_[row.clone()], &dy_[row.clone()]);
                    let r = reciprocal_rms(x, eps);
                    // dx2 holds h, the derivative by xh, until the end
                    let mut e = T::ZERO;
                    match a_ {
                        None => {
                            dx2.fill(T::ZERO);
                            ddy.fill(T::ZERO);
                        }
                        Some(a) => {
                            let a = &a[row];
                            for i in 0..d {
                                ddy[i] = dy[i] * w_[i]; // u, for now
                            }
                            let mean_ax = r * par::dot(a, x) * inverse_d;
                            let m = r * par::dot(ddy, x) * inverse_d;
                            e = par::dot(a, ddy) - T::from_f64(d as f64) * mean_ax * m;
                            for i in 0..d {
                                dx2[i] = -r * (m * a[i] + mean_ax * ddy[i]);
                                let t = r * (a[i] - mean_ax * r * x[i]);
                                ddy[i] = w_[i] * t;
                                dw2[i] += dy[i] * t;
                            }
                        }
                    }
                    if let Some(b) = b {
                        for i in 0..d {
                            dx2[i] += b[i] * dy[i];
                            ddy[i] += b[i] * r * x[i];
                        }
                    }
                    let c = r * ((r * par::dot(dx2, x) + r * e) * inverse_d);
                    for (h, x) in dx2.iter_mut().zip(x) {
                        *h = r * (*h - *x * c);
                    }
                }
            });
            vec![
                Tensor::from_buffer(x.shape(), dx2),
                Tensor::from_buffer(&[d], dw2),
                Tensor::from_buffer(x.shape(), ddy),
            ]
        }))
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let (eps, present) = (self.eps, self.present);
        let meaning = move |x: &[Var]| {
            let bwd = |x: &[Var]| {
                let y = |x: &[Var]| Ok(vec![derived::rms_norm(&x[0], &x[1], eps)?]);
                vjp_of(y, &x[..2], &[Some(x[2].clone())])
            };
            vjp_of(bwd, &x[..3], &present.spread(&x[3..]))
        };
        vjp_of_meaning(meaning, at.x.len(), at, ct)
    }
}

/// [dx2, dw2, ddy] for cotangents of [dx, dw].
pub(crate) fn rms_norm_bwd_bwd(
    x: &Var,
    w: &Var,
    dy: &Var,
    ct: [&Option<Var>; 2],
    eps: f64,
) -> Result<[Var; 3]> {
    let (present, x) = Present::inputs(&[x, w, dy], ct);
    let d = apply(RmsNormBwdBwd { eps, present }, &x)?;
    Ok(d.try_into().expect("three outputs"))
}
