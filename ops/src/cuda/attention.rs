//! Sliding-window attention. Kernels take heads of whole lines of memory; others are padded with zeros, which changes nothing that
//! is seen: scores and results gain zeros.

use kernels_cu::View;
use kernels_cu::swa_attention::{
    Caches, Inputs, Sizes, backward, backward_workspace, double_backward,
    double_backward_workspace, forward,
};

use super::Cuda;
use crate::Tensor;
use crate::dtype::DType;
use crate::error::Result;

/// Heads are multiples of so many elements.
const LINE: usize = 8;

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
            h: q[2].next_multiple_of(LINE),
            used: q[2],
            window,
        }
    }

    /// [.., h] with each head padded.
    fn padded(&self, x: &Tensor) -> Result<Tensor> {
        let [t, n, h] = [0, 1, 2].map(|a| x.shape()[a]);
        match h % LINE {
            0 => Ok(x.clone()),
            _ => self.pad(x, [t * n, h, 1], 0, &[t, n, h.next_multiple_of(LINE)]),
        }
    }

    fn all_padded(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        x.iter().map(|x| self.padded(x)).collect()
    }

    /// The first h elements of each head.
    fn unpadded(&self, x: Tensor, h: usize) -> Result<Tensor> {
        let [t, n, wide] = [0, 1, 2].map(|a| x.shape()[a]);
        match wide == h {
            true => Ok(x),
            false => self.slice(&x, [t * n, wide, 1], [0, h], &[t, n, h]),
        }
    }

    /// o, and lse in f32, for [q, k, v of the cache, k, v].
    pub(crate) fn swa_attention(&self, x: &[&Tensor], window: usize) -> Result<Vec<Tensor>> {
        let sizes = self.attention_sizes(x, window);
        let o = self.output(&[sizes.t, sizes.n, sizes.h])?;
        let lse = self.output_of(&[sizes.t, sizes.n], DType::F32)?;
        let wide = self.all_padded(x)?;
        let x = self.views(&wide);
        self.run(forward(
            &sizes,
            &inputs(&x),
            &self.view(&o),
            &self.view(&lse),
        ))?;
        Ok(vec![self.unpadded(o, sizes.used)?, lse])
    }

    /// Those of [dq, dk, dv of the cache, dk, dv] that are wanted, for the inputs of the forward op, do, o and lse.
    pub(crate) fn swa_attention_bwd(
        &self,
        x: &[&Tensor],
        window: usize,
        wanted: [bool; 5],
    ) -> Result<Vec<Tensor>> {
        let sizes = self.attention_sizes(x, window);
        let (wide, lse) = (self.all_padded(&x[..7])?, self.view(x[7]));
        let results = self.outputs([0, 1, 2, 3, 4].map(|i| &wide[i]), wanted)?;
        let workspace = self.scratch(backward_workspace(&sizes))?;
        let v = self.views(&wide);
        let caches = Caches {
            o: &v[6],
            lse: &lse,
        };
        let d = results.each_ref().map(|d| d.as_ref().map(|x| self.view(x)));
        let d = d.each_ref().map(Option::as_ref);
        self.run_all(backward(&sizes, &inputs(&v), &v[5], &caches, d, &workspace))?;
        let results = results.into_iter().flatten();
        results.map(|x| self.unpadded(x, sizes.used)).collect()
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
        let (wide, lse) = (self.all_padded(&x[..7])?, self.view(x[7]));
        let results = self.outputs([0, 1, 2, 3, 4, 5].map(|i| &wide[i]), wanted)?;
        let workspace = self.scratch(double_backward_workspace(&sizes))?;
        let v = self.views(&wide);
        let caches = Caches {
            o: &v[6],
            lse: &lse,
        };
        let mut wide_ct = [const { None }; 5];
        for (wide, ct) in wide_ct.iter_mut().zip(ct) {
            *wide = ct.map(|x| self.padded(x)).transpose()?;
        }
        let ct = wide_ct
            .each_ref()
            .map(|ct| ct.as_ref().map(|x| self.view(x)));
        let ct = ct.each_ref().map(Option::as_ref);
        let d = results.each_ref().map(|d| d.as_ref().map(|x| self.view(x)));
        let d = d.each_ref().map(Option::as_ref);
        let x = inputs(&v);
        self.run_all(double_backward(
            &sizes, &x, &v[5], &caches, ct, d, &workspace,
        ))?;
        let results = results.into_iter().flatten();
        results.map(|x| self.unpadded(x, sizes.used)).collect()
    }
}

fn inputs(x: &[View]) -> Inputs<'_> {
    Inputs {
        q: &x[0],
        cached: [&x[1], &x[2]],
        current: [&x[3], &x[4]],
    }
}
