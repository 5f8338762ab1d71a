//! Rotary position embedding: linear, and its adjoint is the rotation by the opposite angle.

use autograd::{At, Op, apply1};

use crate::dtype::{Float, for_float};
use crate::error::{Error, Result};
use crate::{Tensor, Var, cuda, par};

pub(super) struct Rope {
    pub(super) cos: Tensor,
    pub(super) sin: Tensor,
    /// Rotate by minus the angle.
    pub(super) inverse: bool,
}

impl Op<Tensor> for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let x = x[0];
        let (cos, sin) = (&self.cos, &self.sin);
        let misfit = |x: &Tensor| {
            let message =
                format!("x {x:?} with tables {cos:?} and {sin:?}, expected [t, n, h] and [t, h/2]");
            Error::shape("rope", message)
        };
        let &[t, n, h] = x.shape() else {
            return Err(misfit(x));
        };
        let fits = |m: &Tensor| *m.shape() == [t, h / 2] && m.dtype() == x.dtype().wide();
        if h % 2 != 0 || !fits(cos) || !fits(sin) {
            return Err(misfit(x));
        }
        if let Some(cuda) = cuda::of("rope", [x, cos, sin])? {
            return Ok(vec![cuda.rope(x, [cos, sin], self.inverse)?]);
        }
        Ok(vec![for_float!("rope", x.dtype(), T => {
            let (x_, cos, sin) = (x.data::<T>(), cos.data::<T>(), sin.data::<T>());
            let sign = if self.inverse { -T::ONE } else { T::ONE };
            let half = h / 2;
            Tensor::build(x.shape(), |out: &mut [T]| {
                par::pieces(out, n * h, 2, |first, out| {
                    par::simd(#[inline(always)] || {
                        for (i, out) in out.chunks_exact_mut(n * h).enumerate() {
                            let p = first + i;
                            let cos = &cos[p * half..][..half];
                            let sin = &sin[p * half..][..half];
                            let x = &x_[p * n * h..][..n * h];
                            for (y, x) in out.chunks_exact_mut(h).zip(x.chunks_exact(h)) {
                                rotate(y, x, cos, sin, sign);
                            }
                        }
                    })
                })
            })
        })])
    }

    fn vjp(&self, _: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let back = |g: &Var| {
            let (cos, sin) = (self.cos.clone(), self.sin.clone());
            let inverse = !self.inverse;
            apply1(Rope { cos, sin, inverse }, &[g])
        };
        Ok(vec![ct[0].as_ref().map(back).transpose()?])
    }
}

/// y1 = x1 cos - x2 sin, y2 = x2 cos + x1 sin on the two halves of one head.
#[inline(always)]
fn rotate<T: Float>(y: &mut [T], x: &[T], cos: &[T], sin: &[T], sign: T) {
    let half = cos.len();
    let (y1, y2) = y.split_at_mut(half);
    let (x1, x2) = x.split_at(half);
    for i in 0..half {
        let (c, s) = (cos[i], sign * sin[i]);
        y1[i] = x1[i] * c - x2[i] * s;
        y2[i] = x2[i] * c + x1[i] * s;
    }
}

/// Rotates each pair (i, i + h/2) of every head of x [t, n, h] by the angle of its position; tables [t, h/2] from
/// [`rope_tables`](crate::derived::rope_tables), of the type of x, or f32 where x is bf16.
pub fn rope(x: &Var, cos: &Tensor, sin: &Tensor) -> Result<Var> {
    let (cos, sin, inverse) = (cos.clone(), sin.clone(), false);
    apply1(Rope { cos, sin, inverse }, &[x])
}
