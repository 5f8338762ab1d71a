//! Gather and scatter-add of rows (adjoint), and select, by a mask or by a limit.

use std::sync::Arc;

use autograd::{At, Op, apply1};

use crate::dtype::{Element, for_float};
use crate::error::{Error, Result};
use crate::{Tensor, Var, cuda};

fn check(op: &'static str, ids: &[u32], limit: usize) -> Result<()> {
    match ids.iter().position(|&i| i as usize >= limit) {
        None => Ok(()),
        Some(position) => Err(Error::Index {
            op,
            index: ids[position] as usize,
            position,
            limit,
        }),
    }
}

struct Gather(Arc<[u32]>);

impl Op<Tensor> for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let (x, ids) = (x[0], &self.0);
        let Some((&n, rest)) = x.shape().split_first() else {
            return Err(Error::shape("gather", "a scalar has no rows"));
        };
        check("gather", ids, n)?;
        let row: usize = rest.iter().product();
        let shape: Vec<usize> = [&[ids.len()], rest].concat();
        if let Some(cuda) = cuda::of("gather", [x])? {
            return Ok(vec![cuda.gather(x, ids, &shape)?]);
        }
        Ok(vec![for_float!("gather", x.dtype(), T => {
            let data = x.data::<T>();
            Tensor::build(&shape, |out: &mut [T]| {
                for (out, &i) in out.chunks_mut(row.max(1)).zip(ids.iter()) {
                    out.copy_from_slice(&data[i as usize * row..][..row]);
                }
            })
        })])
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let back = |g: &Var| scatter_add(g, &self.0, at.x[0].value().shape()[0]);
        Ok(vec![ct[0].as_ref().map(back).transpose()?])
    }
}

/// Rows `ids` of the first axis of `x`, in that order, repeats allowed: an embedding lookup.
pub fn gather(x: &Var, ids: &Arc<[u32]>) -> Result<Var> {
    apply1(Gather(ids.clone()), &[x])
}

struct ScatterAdd {
    ids: Arc<[u32]>,
    rows: usize,
}

impl Op<Tensor> for ScatterAdd {
    fn name(&self) -> &'static str {
        "scatter_add"
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let (x, ids) = (x[0], &self.ids);
        let Some((_, rest)) = x.shape().split_first().filter(|s| *s.0 == ids.len()) else {
            let message = format!("{} rows named, {x:?} given", ids.len());
            return Err(Error::shape("scatter_add", message));
        };
        check("scatter_add", ids, self.rows)?;
        let row: usize = rest.iter().product();
        let shape: Vec<usize> = [&[self.rows], rest].concat();
        if let Some(cuda) = cuda::of("scatter_add", [x])? {
            return Ok(vec![cuda.scatter_add(x, ids, &shape)?]);
        }
        Ok(vec![for_float!("scatter_add", x.dtype(), T => {
            let data = x.data::<T>();
            Tensor::build(&shape, |out: &mut [T]| {
                out.fill(<T as crate::dtype::Float>::ZERO);
                for (x, &i) in data.chunks(row.max(1)).zip(ids.iter()) {
                    for (o, x) in out[i as usize * row..][..row].iter_mut().zip(x) {
                        *o += *x;
                    }
                }
            })
        })])
    }

    fn vjp(&self, _: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let back = |g: &Var| gather(g, &self.ids);
        Ok(vec![ct[0].as_ref().map(back).transpose()?])
    }
}

/// `rows` rows of zeros, to which row `i` of `x` is added at `ids[i]`: the adjoint of [`gather`].
pub fn scatter_add(x: &Var, ids: &Arc<[u32]>, rows: usize) -> Result<Var> {
    let ids = ids.clone();
    apply1(ScatterAdd { ids, rows }, &[x])
}

struct Select(Arc<[bool]>);

impl Op<Tensor> for Select {
    fn name(&self) -> &'static str {
        "select"
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let (a, b) = (x[0], x[1]);
        if a.shape() != b.shape() || a.dtype() != b.dtype() || self.0.len() != a.len() {
            let message = format!("{} choices between {a:?} and {b:?}", self.0.len());
            return Err(Error::shape("select", message));
        }
        if let Some(cuda) = cuda::of("select", [a, b])? {
            return Ok(vec![cuda.select(&self.0, a, b)?]);
        }
        Ok(vec![for_float!("select", a.dtype(), T => {
            let (ad, bd) = (a.data::<T>(), b.data::<T>());
            Tensor::build(a.shape(), |out: &mut [T]| {
                for (i, o) in out.iter_mut().enumerate() {
                    *o = if self.0[i] { ad[i] } else { bd[i] };
                }
            })
        })])
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let Some(g) = &ct[0] else {
            return Ok(vec![None, None]);
        };
        let zero = Var::constant(g.value().zeros_like()?);
        Ok(vec![
            at.needs[0].then(|| select(&self.0, g, &zero)).transpose()?,
            at.needs[1].then(|| select(&self.0, &zero, g)).transpose()?,
        ])
    }
}

/// `a` where `choose` is true, `b` elsewhere; equal shapes.
pub fn select(choose: &Arc<[bool]>, a: &Var, b: &Var) -> Result<Var> {
    apply1(Select(choose.clone()), &[a, b])
}

struct SelectAbove(f64);

impl Op<Tensor> for SelectAbove {
    fn name(&self) -> &'static str {
        "select_above"
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let [of, a, b] = [x[0], x[1], x[2]];
        let same = |t: &Tensor| t.shape() == of.shape() && t.dtype() == of.dtype();
        if !same(a) || !same(b) {
            let message = format!("{of:?} does not choose between {a:?} and {b:?}");
            return Err(Error::shape("select_above", message));
        }
        if let Some(cuda) = cuda::of("select_above", [of, a, b])? {
            return Ok(vec![cuda.select_above([of, a, b], self.0)?]);
        }
        Ok(vec![for_float!("select_above", a.dtype(), T => {
            let [of, ad, bd] = [of, a, b].map(|x| x.data::<T>());
            Tensor::build(a.shape(), |out: &mut [T]| {
                for (i, o) in out.iter_mut().enumerate() {
                    *o = if of[i].to_f64() > self.0 { ad[i] } else { bd[i] };
                }
            })
        })])
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let Some(g) = &ct[0] else {
            return Ok(vec![None, None, None]);
        };
        let (of, zero) = (at.x[0].detach(), Var::constant(g.value().zeros_like()?));
        let half = |a: &Var, b: &Var| select_above(&of, self.0, a, b);
        Ok(vec![
            None,
            at.needs[1].then(|| half(g, &zero)).transpose()?,
            at.needs[2].then(|| half(&zero, g)).transpose()?,
        ])
    }
}

/// `a` where `x` is above `limit`, `b` elsewhere; equal shapes. The choice itself has no gradient.
pub fn select_above(x: &Var, limit: f64, a: &Var, b: &Var) -> Result<Var> {
    apply1(SelectAbove(limit), &[x, a, b])
}
