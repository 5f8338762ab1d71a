//! sgd_update(w, g, s) = w - s g with a scalar s that is differentiated too (it holds the clipping factor).

use autograd::{At, Op, apply1};

use kernels_cu::elementwise::Binary;

use crate::dtype::for_float;
use crate::error::{Error, Result};
use crate::primitives::{neg, scale};
use crate::{Tensor, Var, cuda, derived, par};

struct SgdUpdate;

impl Op<Tensor> for SgdUpdate {
    fn name(&self) -> &'static str {
        "sgd_update"
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let (w, g, s) = (x[0], x[1], x[2]);
        same("sgd_update", w, g)?;
        if !s.shape().is_empty() || s.dtype() != w.dtype() {
            let message = format!("step {s:?} is not a scalar of the dtype of w {w:?}");
            return Err(Error::shape("sgd_update", message));
        }
        if let Some(cuda) = cuda::of("sgd_update", [w, g, s])? {
            return Ok(vec![cuda.sgd_update(w, g, s)?]);
        }
        let s = s.item()?;
        Ok(vec![for_float!("sgd_update", w.dtype(), T => {
            let s = <T as crate::Element>::from_f64(s);
            Tensor::build(w.shape(), |out: &mut [T]| {
                par::map2(out, w.data(), g.data(), move |w, g| w - s * g)
            })
        })])
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let Some(dw) = &ct[0] else {
            return Ok(vec![None, None, None]);
        };
        let dg = || times(&neg(&at.x[2])?, dw);
        let ds = || scale(&dot(&at.x[1], dw)?, -1.0);
        Ok(vec![
            Some(dw.clone()),
            at.needs[1].then(dg).transpose()?,
            at.needs[2].then(ds).transpose()?,
        ])
    }
}

/// w - s g for a scalar s: one step of gradient descent.
pub fn sgd_update(w: &Var, g: &Var, s: &Var) -> Result<Var> {
    apply1(SgdUpdate, &[w, g, s])
}

pub(super) fn same(op: &'static str, a: &Tensor, b: &Tensor) -> Result<()> {
    match a.shape() == b.shape() && a.dtype() == b.dtype() {
        true => Ok(()),
        false => Err(Error::shape(op, format!("{a:?} and {b:?} differ"))),
    }
}

/// s x for a scalar s and <a, b>: each the other's rule.
struct Times;
struct Dot;

impl Op<Tensor> for Times {
    fn name(&self) -> &'static str {
        "times"
    }
    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let (s, x) = (x[0], x[1]);
        if let Some(cuda) = cuda::of("times", [s, x])? {
            return Ok(vec![cuda.times(s, x)?]);
        }
        let s = s.item()?;
        Ok(vec![for_float!("times", x.dtype(), T => {
            let s = <T as crate::Element>::from_f64(s);
            Tensor::build(x.shape(), |out: &mut [T]| par::map1(out, x.data(), move |x| s * x))
        })])
    }
    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let Some(g) = &ct[0] else {
            return Ok(vec![None, None]);
        };
        Ok(vec![
            at.needs[0].then(|| dot(&at.x[1], g)).transpose()?,
            at.needs[1].then(|| times(&at.x[0], g)).transpose()?,
        ])
    }
}

impl Op<Tensor> for Dot {
    fn name(&self) -> &'static str {
        "dot"
    }
    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let (a, b) = (x[0], x[1]);
        same("dot", a, b)?;
        if let Some(cuda) = cuda::of("dot", [a, b])? {
            return Ok(vec![cuda.dot(a, b)?]);
        }
        let dot = for_float!("dot", a.dtype(), T => par::dot_f64(a.data::<T>(), b.data::<T>()));
        Ok(vec![Tensor::scalar(a.dtype(), dot)])
    }
    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let Some(g) = &ct[0] else {
            return Ok(vec![None, None]);
        };
        Ok(vec![
            at.needs[0].then(|| times(g, &at.x[1])).transpose()?,
            at.needs[1].then(|| times(g, &at.x[0])).transpose()?,
        ])
    }
}

/// <x, x>.
struct Squares;

impl Op<Tensor> for Squares {
    fn name(&self) -> &'static str {
        "squares"
    }
    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        if let Some(cuda) = cuda::of(self.name(), [x[0]])? {
            // sums in f64, as on the CPU
            let norm = cuda.norm(&[x[0]])?;
            return Ok(vec![cuda.binary(Binary::Mul, &norm, &norm)?]);
        }
        Dot.eval(&[x[0], x[0]])
    }
    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let Some(g) = &ct[0] else {
            return Ok(vec![None]);
        };
        Ok(vec![Some(times(&scale(g, 2.0)?, &at.x[0])?)])
    }
}

/// min(1, c / norm) for the norm of all `grads` together, a scalar; 1 if `c` is 0 (no clipping).
///
/// Errors: no gradients.
pub fn clip_factor(grads: &[Var], c: f64) -> Result<Var> {
    let squares = |g: &Var| apply1(Squares, &[g]);
    derived::clip_factor_of(grads, c, squares)
}

/// s x for a scalar s.
fn times(s: &Var, x: &Var) -> Result<Var> {
    apply1(Times, &[s, x])
}

/// Sum of the products of all elements, accumulated in f64.
pub fn dot(a: &Var, b: &Var) -> Result<Var> {
    apply1(Dot, &[a, b])
}
