//! swiglu(g, u) = silu(g) u, elementwise, to second order.
//!
//! With sigma = 1/(1+e^-g), s = g sigma:
//!
//! ```text
//! s'  = sigma (1 + g (1 - sigma))        s'' = sigma (1 - sigma) (2 + g (1 - 2 sigma))
//! y   = s u
//! dg  = dy u s'       du = dy s                                         (bwd)
//! cotangents A of dg, B of du:                                          (bwd_bwd)
//! dg2 = A dy u s'' + B dy s'      du2 = A dy s'      ddy = A u s' + B s
//! ```

use autograd::{At, Op, apply, apply1};

use super::{Present, vjp_of, vjp_of_meaning};
use crate::dtype::{Float, for_float};
use crate::error::{Error, Result};
use crate::{Tensor, Var, derived, par};

fn check(x: &[&Tensor]) -> Result<()> {
    match x
        .iter()
        .all(|t| t.shape() == x[0].shape() && t.dtype() == x[0].dtype())
    {
        true => Ok(()),
        false => Err(Error::shape("swiglu", format!("{x:?} differ"))),
    }
}

/// (s, s', s'') at g.
#[inline(always)]
fn silu<T: Float>(g: T) -> (T, T, T) {
    let sigma = T::ONE / (T::ONE + Float::exp(-g));
    let rest = T::ONE - sigma;
    let first = sigma * (T::ONE + g * rest);
    let second = sigma * rest * (T::ONE + T::ONE + g * (rest - sigma));
    (g * sigma, first, second)
}

struct Swiglu;

impl Op<Tensor> for Swiglu {
    fn name(&self) -> &'static str {
        "swiglu"
    }
    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        check(x)?;
        Ok(vec![for_float!("swiglu", x[0].dtype(), T => {
            Tensor::build(x[0].shape(), |out: &mut [T]| {
                par::map2(out, x[0].data(), x[1].data(), |g, u| silu(g).0 * u)
            })
        })])
    }
    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let Some(dy) = &ct[0] else {
            return Ok(vec![None, None]);
        };
        let [dg, du] = swiglu_bwd(&at.x[0], &at.x[1], dy)?;
        Ok(vec![Some(dg), Some(du)])
    }
}

/// silu(gate) up, elementwise: the gated unit of a SwiGLU MLP.
pub fn swiglu(gate: &Var, up: &Var) -> Result<Var> {
    apply1(Swiglu, &[gate, up])
}

struct SwigluBwd;

impl Op<Tensor> for SwigluBwd {
    fn name(&self) -> &'static str {
        "swiglu_bwd"
    }
    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        check(x)?;
        Ok(for_float!("swiglu_bwd", x[0].dtype(), T => {
            let shape = x[0].shape();
            elementwise([x[0].data::<T>(), x[1].data(), x[2].data()], |[g, u, dy]| {
                let (s, s1, _) = silu(g);
                [dy * u * s1, dy * s]
            })
            .map(|y| Tensor::from_buffer(shape, y))
            .to_vec()
        }))
    }
    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let [g, u, dy] = [&at.x[0], &at.x[1], &at.x[2]];
        let d = swiglu_bwd_bwd(g, u, dy, [&ct[0], &ct[1]])?;
        Ok(d.into_iter().map(Some).collect())
    }
}

/// [dg, du].
pub(crate) fn swiglu_bwd(g: &Var, u: &Var, dy: &Var) -> Result<[Var; 2]> {
    let d = apply(SwigluBwd, &[g, u, dy])?;
    Ok(d.try_into().expect("two outputs"))
}

struct SwigluBwdBwd(Present<2>);

impl Op<Tensor> for SwigluBwdBwd {
    fn name(&self) -> &'static str {
        "swiglu_bwd_bwd"
    }
    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        check(x)?;
        let [a, b] = self.0.spread(&x[3..]);
        Ok(for_float!("swiglu_bwd_bwd", x[0].dtype(), T => {
            let shape = x[0].shape();
            let (g, u, dy) = (x[0].data::<T>(), x[1].data::<T>(), x[2].data::<T>());
            let a_part = |g: T, u: T, dy: T, a: T| {
                let (_, s1, s2) = silu(g);
                [a * dy * u * s2, a * dy * s1, a * u * s1]
            };
            let b_part = |g: T, dy: T, b: T| {
                let (s, s1, _) = silu(g);
                [b * dy * s1, T::ZERO, b * s]
            };
            match (a, b) {
                (Some(a), Some(b)) => elementwise(
                    [g, u, dy, a.data(), b.data()],
                    |[g, u, dy, a, b]| {
                        let (s, s1, s2) = silu(g);
                        let adu = a * u;
                        [dy * (adu * s2 + b * s1), a * dy * s1, adu * s1 + b * s]
                    },
                ),
                (Some(a), None) => elementwise([g, u, dy, a.data()], |[g, u, dy, a]| a_part(g, u, dy, a)),
                (None, Some(b)) => elementwise([g, dy, b.data()], |[g, dy, b]| b_part(g, dy, b)),
                (None, None) => elementwise([g], |_| [T::ZERO; 3]),
            }
            .map(|y| Tensor::from_buffer(shape, y))
            .to_vec()
        }))
    }
    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let present = self.0;
        let meaning = move |x: &[Var]| {
            let bwd = |x: &[Var]| {
                let y = |x: &[Var]| Ok(vec![derived::swiglu(&x[0], &x[1])?]);
                vjp_of(y, &x[..2], &[Some(x[2].clone())])
            };
            vjp_of(bwd, &x[..3], &present.spread(&x[3..]))
        };
        vjp_of_meaning(meaning, at.x.len(), at, ct)
    }
}

/// [dg2, du2, ddy] for cotangents of [dg, du].
pub(crate) fn swiglu_bwd_bwd(
    g: &Var,
    u: &Var,
    dy: &Var,
    ct: [&Option<Var>; 2],
) -> Result<[Var; 3]> {
    let (present, x) = Present::inputs(&[g, u, dy], ct);
    let d = apply(SwigluBwdBwd(present), &x)?;
    Ok(d.try_into().expect("three outputs"))
}

/// N inputs, M outputs, one function per element, one pass over memory.
fn elementwise<T: Float, const N: usize, const M: usize>(
    x: [&[T]; N],
    f: impl Fn([T; N]) -> [T; M] + Sync,
) -> [crate::buffer::Buffer<T>; M] {
    const LANES: usize = 16;
    let len = x[0].len();
    let mut out = [(); M].map(|_| crate::buffer::Buffer::scratch(len));
    let slices = out.each_mut().map(|o| &mut o[..]);
    par::pieces_of(slices, |start, out| {
        let len = out[0].len();
        let x = x.map(|x| x[start..start + len].as_chunks::<LANES>());
        let mut out = out.map(|o| o.as_chunks_mut::<LANES>());
        par::simd(
            #[inline(always)]
            || {
                // whole vectors, then what is left as one vector padded with zeros; plain loops over the arrays, because
                // closures given to array methods are not compiled for the instruction set chosen here
                for c in 0..len.div_ceil(LANES) {
                    let whole = c < len / LANES;
                    let mut xs = [[T::ZERO; LANES]; N];
                    for (to, (vectors, tail)) in xs.iter_mut().zip(&x) {
                        match whole {
                            true => *to = vectors[c],
                            false => to[..tail.len()].copy_from_slice(tail),
                        }
                    }
                    let mut ys = [[T::ZERO; LANES]; M];
                    for lane in 0..LANES {
                        let mut values = [T::ZERO; N];
                        for (value, x) in values.iter_mut().zip(&xs) {
                            *value = x[lane];
                        }
                        let values = f(values);
                        for (y, value) in ys.iter_mut().zip(&values) {
                            y[lane] = *value;
                        }
                    }
                    for ((vectors, tail), y) in out.iter_mut().zip(&ys) {
                        match whole {
                            true => vectors[c] = *y,
                            false => tail.copy_from_slice(&y[..tail.len()]),
                        }
                    }
                }
            },
        );
    });
    out
}
