//! cross_entropy(z, y)_i = lse(z_i) - z_i[y_i] to second order.
//!
//! ```text
//! p   = e^(z - lse)
//! dz  = dn (p - onehot(y))                                              (bwd)
//! cotangent A of dz, alpha = sum_j p_j A_j:                             (bwd_bwd)
//! dz2 = dn p (A - alpha)              ddn = alpha - A[y]
//! ```
//!
//! lse is a cache of a function of z: no cotangent goes to it.

use std::sync::Arc;

use autograd::{At, Cost, Op, apply, apply1};

use super::{vjp_of, vjp_of_meaning};
use crate::dtype::{Float, for_float};
use crate::error::{Error, Result};
use crate::{Tensor, Var, cuda, derived, par};

type Ids = Arc<[u32]>;

fn check(op: &'static str, z: &Tensor, ids: &[u32]) -> Result<usize> {
    match *z.shape() {
        [t, v] if t == ids.len() && v > 0 => match ids.iter().position(|&i| i as usize >= v) {
            None => Ok(v),
            Some(position) => Err(Error::Index {
                op,
                index: ids[position] as usize,
                position,
                limit: v,
            }),
        },
        _ => Err(Error::shape(
            op,
            format!("logits {z:?} for {} tokens", ids.len()),
        )),
    }
}

struct CrossEntropy(Ids);

impl Op<Tensor> for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }
    fn cost(&self) -> Cost {
        Cost::Costly
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let (z, ids) = (x[0], &self.0);
        let v = check("cross_entropy", z, ids)?;
        if let Some(cuda) = cuda::of("cross_entropy", [z])? {
            return cuda.cross_entropy(z, ids);
        }
        Ok(for_float!("cross_entropy", z.dtype(), T => {
            let data = z.data::<T>();
            let lse = Tensor::build(&[ids.len()], |out: &mut [T]| {
                par::pieces(out, 1, 4 * v, |first, out| {
                    par::simd(#[inline(always)] || {
                        for (i, o) in out.iter_mut().enumerate() {
                            *o = log_sum_exp(&data[(first + i) * v..][..v]);
                        }
                    })
                })
            });
            let nll = Tensor::build(&[ids.len()], |out: &mut [T]| {
                for (i, o) in out.iter_mut().enumerate() {
                    *o = lse.data::<T>()[i] - data[i * v + ids[i] as usize];
                }
            });
            vec![nll, lse]
        }))
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let Some(dn) = &ct[0] else {
            return Ok(vec![None]);
        };
        Ok(vec![Some(cross_entropy_bwd(
            &at.x[0],
            dn,
            &at.y[1].detach(),
            &self.0,
        )?)])
    }
}

#[inline(always)]
fn log_sum_exp<T: Float>(row: &[T]) -> T {
    let max = par::row_max(row);
    let mut lanes = [T::ZERO; 16];
    let (head, tail) = row.as_chunks::<16>();
    for x in head {
        for i in 0..16 {
            lanes[i] += Float::exp(x[i] - max);
        }
    }
    for (l, x) in lanes.iter_mut().zip(tail) {
        *l += Float::exp(*x - max);
    }
    max + Float::ln(par::row_sum(&lanes))
}

/// Negative log-likelihood in nats of token `ids[i]` under row i of `logits` [t, V]: a vector `[t]`.
pub fn cross_entropy(logits: &Var, ids: &Ids) -> Result<Var> {
    Ok(apply(CrossEntropy(ids.clone()), &[logits])?.swap_remove(0))
}

struct CrossEntropyBwd(Ids);

impl Op<Tensor> for CrossEntropyBwd {
    fn name(&self) -> &'static str {
        "cross_entropy_bwd"
    }
    fn cost(&self) -> Cost {
        Cost::Costly
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let (z, dn, lse, ids) = (x[0], x[1], x[2], &self.0);
        let v = check("cross_entropy_bwd", z, ids)?;
        if let Some(cuda) = cuda::of("cross_entropy_bwd", x.iter().copied())? {
            return Ok(vec![cuda.cross_entropy_bwd(x, ids)?]);
        }
        Ok(vec![for_float!("cross_entropy_bwd", z.dtype(), T => {
            let (z_, dn, lse) = (z.data::<T>(), dn.data::<T>(), lse.data::<T>());
            Tensor::build(z.shape(), |out: &mut [T]| {
                par::pieces(out, v, 4, |first, out| {
                    par::simd(#[inline(always)] || {
                        for (i, out) in out.chunks_exact_mut(v).enumerate() {
                            let i = first + i;
                            for (o, z) in out.iter_mut().zip(&z_[i * v..][..v]) {
                                *o = dn[i] * Float::exp(*z - lse[i]);
                            }
                            out[ids[i] as usize] -= dn[i];
                        }
                    })
                })
            })
        })])
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let Some(a) = &ct[0] else {
            return Ok(vec![None, None, None]);
        };
        let [dz2, ddn] = cross_entropy_bwd_bwd(&at.x[0], &at.x[1], a, &at.x[2], &self.0)?;
        Ok(vec![Some(dz2), Some(ddn), None])
    }
}

/// dz.
pub(crate) fn cross_entropy_bwd(z: &Var, dn: &Var, lse: &Var, ids: &Ids) -> Result<Var> {
    apply1(CrossEntropyBwd(ids.clone()), &[z, dn, lse])
}

struct CrossEntropyBwdBwd(Ids);

impl Op<Tensor> for CrossEntropyBwdBwd {
    fn name(&self) -> &'static str {
        "cross_entropy_bwd_bwd"
    }
    fn cost(&self) -> Cost {
        Cost::Costly
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let (z, dn, a, lse, ids) = (x[0], x[1], x[2], x[3], &self.0);
        let v = check("cross_entropy_bwd_bwd", z, ids)?;
        if let Some(cuda) = cuda::of("cross_entropy_bwd_bwd", x.iter().copied())? {
            return cuda.cross_entropy_bwd_bwd(x, ids);
        }
        Ok(for_float!("cross_entropy_bwd_bwd", z.dtype(), T => {
            let (z_, dn, a, lse) = (z.data::<T>(), dn.data::<T>(), a.data::<T>(), lse.data::<T>());
            let dz2 = Tensor::build(z.shape(), |out: &mut [T]| {
                par::pieces(out, v, 6, |first, out| {
                    par::simd(#[inline(always)] || {
                        for (i, out) in out.chunks_exact_mut(v).enumerate() {
                            let i = first + i;
                            let (z, a) = (&z_[i * v..][..v], &a[i * v..][..v]);
                            for (o, z) in out.iter_mut().zip(z) {
                                *o = Float::exp(*z - lse[i]);
                            }
                            let alpha = par::dot(out, a);
                            for (o, a) in out.iter_mut().zip(a) {
                                *o *= dn[i] * (*a - alpha);
                            }
                        }
                    })
                })
            });
            // alpha is not kept apart: dn may be zero, so it cannot be read off dz2
            let ddn = Tensor::build(&[ids.len()], |out: &mut [T]| {
                par::pieces(out, 1, 6 * v, |first, out| {
                    par::simd(#[inline(always)] || {
                        for (i, o) in out.iter_mut().enumerate() {
                            let i = first + i;
                            let (z, a) = (&z_[i * v..][..v], &a[i * v..][..v]);
                            *o = softmax_dot(z, a, lse[i]) - a[ids[i] as usize];
                        }
                    })
                })
            });
            vec![dz2, ddn]
        }))
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let ids = self.0.clone();
        let meaning = move |x: &[Var]| {
            let bwd = |x: &[Var]| {
                let y = |x: &[Var]| Ok(vec![derived::cross_entropy(&x[0], &ids)?]);
                vjp_of(y, &x[..1], &[Some(x[1].clone())])
            };
            vjp_of(bwd, &x[..2], &[Some(x[2].clone())])
        };
        vjp_of_meaning(meaning, 3, at, ct)
    }
}

/// sum_j e^(z_j - lse) a_j.
#[inline(always)]
fn softmax_dot<T: Float>(z: &[T], a: &[T], lse: T) -> T {
    let mut lanes = [T::ZERO; 16];
    let (z16, z_tail) = z.as_chunks::<16>();
    let (a16, a_tail) = a.as_chunks::<16>();
    for (z, a) in z16.iter().zip(a16) {
        for i in 0..16 {
            lanes[i] += Float::exp(z[i] - lse) * a[i];
        }
    }
    for ((l, z), a) in lanes.iter_mut().zip(z_tail).zip(a_tail) {
        *l += Float::exp(*z - lse) * *a;
    }
    par::row_sum(&lanes)
}

/// [dz2, ddn] for the cotangent `a` of dz.
pub(crate) fn cross_entropy_bwd_bwd(
    z: &Var,
    dn: &Var,
    a: &Var,
    lse: &Var,
    ids: &Ids,
) -> Result<[Var; 2]> {
    let d = apply(CrossEntropyBwdBwd(ids.clone()), &[z, dn, a, lse])?;
    Ok(d.try_into().expect("two outputs"))
}
