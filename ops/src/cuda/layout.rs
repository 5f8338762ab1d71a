//! Ops that move elements, and rows by their numbers.

use kernels_cu::embedding::{Places, Shape, gather, scatter_add};
use kernels_cu::layout::{Axis, copy};

use super::Cuda;
use crate::Tensor;
use crate::error::Result;

/// Axes of these sizes, laid end to end on both sides.
fn axes<const N: usize>(axes: [[usize; 3]; N]) -> [Axis; N] {
    axes.map(|[size, from, to]| Axis { size, from, to })
}

impl Cuda {
    /// Copies elements at `axes` of x from element `from` on to y from element `to` on.
    fn copy(&self, axes: &[Axis], x: &Tensor, from: usize, y: &Tensor, to: usize) -> Result<()> {
        if axes.iter().any(|axis| axis.size == 0) {
            return Ok(());
        }
        let rest = |x: &Tensor, start: usize| {
            let (view, start) = (self.view(x), start * x.dtype().size());
            view.part(start, view.bytes() - start)
        };
        let launch = copy(self.kernel_type, axes, &rest(x, from), &rest(y, to));
        self.run(launch)
    }

    /// Writes the elements of x over those of y from `start` on. Where x is a part of y the elements of y are copied first, as those
    /// of any tensor that is shared.
    pub(crate) fn put(&self, y: &mut Tensor, start: usize, x: &Tensor) -> Result<()> {
        self.own(y)?;
        let size = x.dtype().size();
        let part = self.view(y).part(start * size, x.len() * size);
        Ok(self.gpu.copy(&self.view(x), &part)?)
    }

    /// A tensor of this shape whose axis a has the step `steps[a]` in x; 0 repeats.
    pub(crate) fn strided(&self, x: &Tensor, shape: &[usize], steps: &[usize]) -> Result<Tensor> {
        let y = self.output(shape)?;
        let mut to = 1;
        let mut all = vec![];
        for (&size, &from) in shape.iter().zip(steps).rev() {
            all.push(Axis { size, from, to });
            to *= size;
        }
        all.reverse();
        self.copy(&all, x, 0, &y, 0)?;
        Ok(y)
    }

    /// Places `start..end` of the middle axis of x, [outer, size, inner], as a tensor of this shape.
    pub(crate) fn slice(
        &self,
        x: &Tensor,
        [outer, size, inner]: [usize; 3],
        [start, end]: [usize; 2],
        shape: &[usize],
    ) -> Result<Tensor> {
        let y = self.output(shape)?;
        let row = (end - start) * inner;
        let axes = axes([[outer, size * inner, row], [row, 1, 1]]);
        self.copy(&axes, x, start * inner, &y, 0)?;
        Ok(y)
    }

    /// x, [outer, size, inner], behind `before` zeros of the middle axis; zeros fill a tensor of this shape.
    pub(crate) fn pad(
        &self,
        x: &Tensor,
        [outer, size, inner]: [usize; 3],
        before: usize,
        shape: &[usize],
    ) -> Result<Tensor> {
        let y = self.zeros(shape)?;
        let row = size * inner;
        let axes = axes([[outer, row, y.len() / outer.max(1)], [row, 1, 1]]);
        self.copy(&axes, x, 0, &y, before * inner)?;
        Ok(y)
    }

    /// Tensors, each [outer, .., inner], laid end to end along the middle axis: a tensor of this shape.
    pub(crate) fn concat(&self, x: &[&Tensor], outer: usize, shape: &[usize]) -> Result<Tensor> {
        let y = self.output(shape)?;
        let wide = y.len() / outer.max(1);
        let mut at = 0;
        for x in x {
            let row = x.len() / outer.max(1);
            let axes = axes([[outer, row, wide], [row, 1, 1]]);
            self.copy(&axes, x, 0, &y, at)?;
            at += row;
        }
        Ok(y)
    }

    /// Of a table of this shape.
    fn table(&self, shape: &[usize], count: usize) -> Shape {
        Shape {
            rows: shape[0],
            count,
            d: shape[1..].iter().product(),
            dtype: self.kernel_type,
        }
    }

    /// Rows `ids` of x: a tensor of this shape.
    pub(crate) fn gather(&self, x: &Tensor, ids: &[u32], shape: &[usize]) -> Result<Tensor> {
        let (table, y) = (self.table(x.shape(), ids.len()), self.output(shape)?);
        let ids = self.upload(bytemuck::cast_slice(ids))?;
        let [xv, yv] = [x, &y].map(|x| self.view(x));
        self.run(gather(&table, &xv, &ids, &yv))?;
        Ok(y)
    }

    /// The rows of x, added at the rows `ids` of zeros: a tensor of this shape.
    pub(crate) fn scatter_add(&self, x: &Tensor, ids: &[u32], shape: &[usize]) -> Result<Tensor> {
        let (table, y) = (self.table(shape, ids.len()), self.output(shape)?);
        let Places { starts, order } = Places::of(ids, shape[0]);
        let [starts, order] = [starts, order].map(|x| self.upload(bytemuck::cast_slice(&x)));
        let (starts, order) = (starts?, order?);
        let [xv, yv] = [x, &y].map(|x| self.view(x));
        self.run(scatter_add(&table, &xv, [&starts, &order], &yv))?;
        Ok(y)
    }
}
