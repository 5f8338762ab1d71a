//! Sliding-window attention.

use kernels_cu::View;
use kernels_cu::swa_attention::{
    Caches, Inputs, Sizes, backward, backward_workspace, double_backward,
    double_backward_workspace, forward,
};

use super::Cuda;
use crate::Tensor;
use crate::dtype::DType;
use crate::error::Result;

impl Cuda {
    /// Of q, k and v of the cache, k and v.
    fn attention_sizes(&self, x: &[&Tensor], window: usize) -> Sizes {
        let (q, k) = (x[0].shape(), x[3].shape());
        Sizes {
            dtype: self.kernel_type,
            t: q[0],
            c: x[1].shape()[0],
            n: q[1],
            m: k[1],
            h: q[2],
            window,
        }
    }

    /// o, and lse in f32, for [q, k, v of the cache, k, v].
    pub(crate) fn swa_attention(&self, x: &[&Tensor], window: usize) -> Result<Vec<Tensor>> {
        let sizes = self.attention_sizes(x, window);
        let o = self.output(x[0].shape())?;
        let lse = self.output_of(&[sizes.t, sizes.n], DType::F32)?;
        let x = self.views(x);
        self.run(forward(
            &sizes,
            &inputs(&x),
            &self.view(&o),
            &self.view(&lse),
        ))?;
        Ok(vec![o, lse])
    }

    /// Those of [dq, dk, dv of the cache, dk, dv] that are wanted, for the inputs of the forward op, do, o and lse.
    pub(crate) fn swa_attention_bwd(
        &self,
        x: &[&Tensor],
        window: usize,
        wanted: [bool; 5],
    ) -> Result<Vec<Tensor>> {
        let sizes = self.attention_sizes(x, window);
        let results = self.outputs([0, 1, 2, 3, 4].map(|i| x[i]), wanted)?;
        let workspace = self.scratch(backward_workspace(&sizes))?;
        let v = self.views(x);
        let caches = Caches {
            o: &v[6],
            lse: &v[7],
        };
        let d = results.each_ref().map(|d| d.as_ref().map(|x| self.view(x)));
        let d = d.each_ref().map(Option::as_ref);
        self.run_all(backward(&sizes, &inputs(&v), &v[5], &caches, d, &workspace))?;
        Ok(results.into_iter().flatten().collect())
    }

    /// Those of [dq2, dk2, dv2 of the cache, dk2, dv2, ddo] that are wanted, for what the backward op has and cotangents of its
    /// results.
    pub(crate) fn swa_attention_bwd_bwd(
        &self,
        x: &[&Tensor],
        window: usize,
        ct: [Option<&Tensor>; 5],
        wanted: [bool; 6],
    ) -> Result<Vec<Tensor>> {
        let sizes = self.attention_sizes(x, window);
        let results = self.outputs([0, 1, 2, 3, 4, 5].map(|i| x[i]), wanted)?;
        let workspace = self.scratch(double_backward_workspace(&sizes))?;
        let v = self.views(&x[..8]);
        let caches = Caches {
            o: &v[6],
            lse: &v[7],
        };
        let ct = ct.map(|ct| ct.map(|x| self.view(x)));
        let ct = ct.each_ref().map(Option::as_ref);
        let d = results.each_ref().map(|d| d.as_ref().map(|x| self.view(x)));
        let d = d.each_ref().map(Option::as_ref);
        let x = inputs(&v);
        self.run_all(double_backward(
            &sizes, &x, &v[5], &caches, ct, d, &workspace,
        ))?;
        Ok(results.into_iter().flatten().collect())
    }
}

fn inputs(x: &[View]) -> Inputs<'_> {
    Inputs {
        q: &x[0],
        cached: [&x[1], &x[2]],
        current: [&x[3], &x[4]],
    }
}
