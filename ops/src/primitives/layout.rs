//! Primitives that move elements: reshape, permute, slice and pad (adjoint), concat.

use autograd::{At, Op, apply1};

use crate::dtype::for_float;
use crate::error::{Error, Result};
use crate::{Tensor, Var, cuda};

struct Reshape(Vec<usize>);

impl Op<Tensor> for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }
    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        Ok(vec![x[0].reshape(&self.0)?])
    }
    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let back = |g: &Var| reshape(g, at.x[0].value().shape());
        Ok(vec![ct[0].as_ref().map(back).transpose()?])
    }
}

/// The same elements under another shape.
pub fn reshape(x: &Var, shape: &[usize]) -> Result<Var> {
    apply1(Reshape(shape.to_vec()), &[x])
}

struct Permute(Vec<usize>);

impl Op<Tensor> for Permute {
    fn name(&self) -> &'static str {
        "permute"
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let (x, axes) = (x[0], &self.0);
        let mut sorted = axes.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..x.shape().len()) {
            return Err(Error::shape("permute", format!("axes {axes:?} of {x:?}")));
        }
        let shape: Vec<usize> = axes.iter().map(|&a| x.shape()[a]).collect();
        let strides = strides(x.shape());
        let strides: Vec<usize> = axes.iter().map(|&a| strides[a]).collect();
        if let Some(cuda) = cuda::of("permute", [x])? {
            return Ok(vec![cuda.strided(x, &shape, &strides)?]);
        }
        Ok(vec![for_float!("permute", x.dtype(), T => {
            let data = x.data::<T>();
            Tensor::build(&shape, |out: &mut [T]| {
                let inner = *shape.last().unwrap_or(&1);
                let step = *strides.last().unwrap_or(&1);
                for (row, out) in out.chunks_mut(inner.max(1)).enumerate() {
                    // the row's first source element: digits of `row` in the mixed radix of the outer axes
                    let (mut rest, mut from) = (row, 0);
                    for a in (0..shape.len().saturating_sub(1)).rev() {
                        from += rest % shape[a] * strides[a];
                        rest /= shape[a];
                    }
                    for (i, o) in out.iter_mut().enumerate() {
                        *o = data[from + i * step];
                    }
                }
            })
        })])
    }

    fn vjp(&self, _: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let mut inverse = vec![0; self.0.len()];
        for (i, &a) in self.0.iter().enumerate() {
            inverse[a] = i;
        }
        let back = |g: &Var| permute(g, &inverse);
        Ok(vec![ct[0].as_ref().map(back).transpose()?])
    }
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

/// Axes reordered: axis `i` of the result is axis `axes[i]` of `x`.
pub fn permute(x: &Var, axes: &[usize]) -> Result<Var> {
    apply1(Permute(axes.to_vec()), &[x])
}

/// `(elements before the axis, size of the axis, elements after it)`.
fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (
        shape[..axis].iter().product(),
        shape[axis],
        shape[axis + 1..].iter().product(),
    )
}

struct Slice {
    axis: usize,
    start: usize,
    end: usize,
}

impl Op<Tensor> for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let (x, &Slice { axis, start, end }) = (x[0], self);
        if axis >= x.shape().len() || start > end || end > x.shape()[axis] {
            let message = format!("{start}..{end} of axis {axis} of {x:?}");
            return Err(Error::shape("slice", message));
        }
        if axis == 0 {
            return Ok(vec![x.rows(start, end)?]);
        }
        let (outer, size, inner) = around(x.shape(), axis);
        let mut shape = x.shape().to_vec();
        shape[axis] = end - start;
        if let Some(cuda) = cuda::of("slice", [x])? {
            let sizes = [outer, size, inner];
            return Ok(vec![cuda.slice(x, sizes, [start, end], &shape)?]);
        }
        Ok(vec![for_float!("slice", x.dtype(), T => {
            let data = x.data::<T>();
            Tensor::build(&shape, |out: &mut [T]| {
                let row = (end - start) * inner;
                for i in 0..outer {
                    let from = (i * size + start) * inner;
                    out[i * row..(i + 1) * row].copy_from_slice(&data[from..from + row]);
                }
            })
        })])
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let size = at.x[0].value().shape()[self.axis];
        let back = |g: &Var| pad(g, self.axis, self.start, size - self.end);
        Ok(vec![ct[0].as_ref().map(back).transpose()?])
    }
}

/// Positions `start..end` of an axis.
pub fn slice(x: &Var, axis: usize, start: usize, end: usize) -> Result<Var> {
    apply1(Slice { axis, start, end }, &[x])
}

struct Pad {
    axis: usize,
    before: usize,
    after: usize,
}

impl Op<Tensor> for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let (
            x,
            &Pad {
                axis,
                before,
                after,
            },
        ) = (x[0], self);
        if axis >= x.shape().len() {
            return Err(Error::shape("pad", format!("axis {axis} of {x:?}")));
        }
        let (outer, size, inner) = around(x.shape(), axis);
        let mut shape = x.shape().to_vec();
        shape[axis] = before + size + after;
        if let Some(cuda) = cuda::of("pad", [x])? {
            return Ok(vec![cuda.pad(x, [outer, size, inner], before, &shape)?]);
        }
        Ok(vec![for_float!("pad", x.dtype(), T => {
            let data = x.data::<T>();
            Tensor::build(&shape, |out: &mut [T]| {
                let zero = <T as crate::dtype::Float>::ZERO;
                let (row, wide) = (size * inner, (before + size + after) * inner);
                for i in 0..outer {
                    let out = &mut out[i * wide..(i + 1) * wide];
                    let (left, rest) = out.split_at_mut(before * inner);
                    let (middle, right) = rest.split_at_mut(row);
                    left.fill(zero);
                    middle.copy_from_slice(&data[i * row..(i + 1) * row]);
                    right.fill(zero);
                }
            })
        })])
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let size = at.x[0].value().shape()[self.axis];
        let back = |g: &Var| slice(g, self.axis, self.before, self.before + size);
        Ok(vec![ct[0].as_ref().map(back).transpose()?])
    }
}

/// Zeros before and after an axis.
pub fn pad(x: &Var, axis: usize, before: usize, after: usize) -> Result<Var> {
    apply1(
        Pad {
            axis,
            before,
            after,
        },
        &[x],
    )
}

struct Concat {
    axis: usize,
}

impl Op<Tensor> for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let axis = self.axis;
        let fits = |t: &&Tensor| {
            t.dtype() == x[0].dtype()
                && t.shape().len() == x[0].shape().len()
                && (0..t.shape().len()).all(|a| a == axis || t.shape()[a] == x[0].shape()[a])
        };
        if x.is_empty() || axis >= x[0].shape().len() || !x.iter().all(fits) {
            return Err(Error::shape("concat", format!("{x:?} along axis {axis}")));
        }
        let mut shape = x[0].shape().to_vec();
        shape[axis] = x.iter().map(|t| t.shape()[axis]).sum();
        let (outer, size, inner) = around(&shape, axis);
        if let Some(cuda) = cuda::of("concat", x.iter().copied())? {
            return Ok(vec![cuda.concat(x, outer, &shape)?]);
        }
        Ok(vec![for_float!("concat", x[0].dtype(), T => {
            Tensor::build(&shape, |out: &mut [T]| {
                let mut at = 0;
                for t in x {
                    let (data, row) = (t.data::<T>(), t.shape()[axis] * inner);
                    for i in 0..outer {
                        let to = i * size * inner + at;
                        out[to..to + row].copy_from_slice(&data[i * row..(i + 1) * row]);
                    }
                    at += row;
                }
            })
        })])
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let Some(g) = &ct[0] else {
            return Ok(vec![None; at.x.len()]);
        };
        let mut start = 0;
        let piece = |(x, needed): (&Var, &bool)| {
            let end = start + x.value().shape()[self.axis];
            let piece = needed.then(|| slice(g, self.axis, start, end)).transpose();
            start = end;
            piece
        };
        at.x.iter().zip(&at.needs).map(piece).collect()
    }
}

/// Tensors laid end to end along an axis.
pub fn concat(x: &[&Var], axis: usize) -> Result<Var> {
    apply1(Concat { axis }, x)
}
