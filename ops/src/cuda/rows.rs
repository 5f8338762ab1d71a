//! RMSNorm and rotary position embedding.

use kernels_cu::rms_norm::{Shape, backward, double_backward, forward};
use kernels_cu::rope::rope;

use super::Cuda;
use crate::Tensor;
use crate::error::Result;

impl Cuda {
    fn rows_of(&self, x: &Tensor, w: &Tensor, eps: f64) -> Shape {
        Shape {
            rows: x.len() / w.len(),
            d: w.len(),
            dtype: self.kernel_type,
            weight: self.kernel_type,
            eps: eps as f32,
        }
    }

    /// y.
    pub(crate) fn rms_norm(&self, [x, w]: [&Tensor; 2], eps: f64) -> Result<Tensor> {
        let (shape, y) = (self.rows_of(x, w, eps), self.output(x.shape())?);
        let [xv, wv, yv] = [x, w, &y].map(|x| self.view(x));
        self.run(forward(&shape, &xv, &wv, &yv))?;
        Ok(y)
    }

    /// dx, and dw if it is wanted.
    pub(crate) fn rms_norm_bwd(
        &self,
        [x, w, dy]: [&Tensor; 3],
        eps: f64,
        weight: bool,
    ) -> Result<Vec<Tensor>> {
        let (shape, dx) = (self.rows_of(x, w, eps), self.output(x.shape())?);
        let [xv, wv, dyv, dxv] = [x, w, dy, &dx].map(|x| self.view(x));
        let x = [&xv, &wv, &dyv];
        if !weight {
            self.run_all(backward(&shape, x, &dxv, None))?;
            return Ok(vec![dx]);
        }
        let dw = self.output(w.shape())?;
        let workspace = self.scratch(shape.workspace())?;
        self.run_all(backward(
            &shape,
            x,
            &dxv,
            Some((&self.view(&dw), &workspace)),
        ))?;
        Ok(vec![dx, dw])
    }

    /// dx2, dw2, ddy for those cotangents of dx and dw that are there.
    pub(crate) fn rms_norm_bwd_bwd(
        &self,
        [x, w, dy]: [&Tensor; 3],
        ct: [Option<&Tensor>; 2],
        eps: f64,
    ) -> Result<Vec<Tensor>> {
        let shape = self.rows_of(x, w, eps);
        let results = [x, w, x].map(|like| self.output(like.shape()));
        let results: Vec<Tensor> = results.into_iter().collect::<Result<_>>()?;
        let workspace = self.scratch(shape.workspace())?;
        let x = [x, w, dy].map(|x| self.view(x));
        let ct = ct.map(|ct| ct.map(|x| self.view(x)));
        let d = [0, 1, 2].map(|i| self.view(&results[i]));
        let ct = ct.each_ref().map(Option::as_ref);
        self.run_all(double_backward(
            &shape,
            x.each_ref(),
            ct,
            d.each_ref(),
            &workspace,
        ))?;
        Ok(results)
    }

    /// x [t, n, h] turned by the tables, or back.
    pub(crate) fn rope(&self, x: &Tensor, tables: [&Tensor; 2], inverse: bool) -> Result<Tensor> {
        let y = self.output(x.shape())?;
        let sizes = [x.shape()[0], x.shape()[1], x.shape()[2]];
        let [xv, cos, sin, yv] = [x, tables[0], tables[1], &y].map(|x| self.view(x));
        self.run(rope(
            sizes,
            self.kernel_type,
            &xv,
            [&cos, &sin],
            inverse,
            &yv,
        ))?;
        Ok(y)
    }
}
