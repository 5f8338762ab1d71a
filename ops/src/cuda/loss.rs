//! The loss, of whole logits and of an output matrix.

use kernels_cu::View;
use kernels_cu::{cross_entropy, linear_cross_entropy as linear};

use super::Cuda;
use crate::Tensor;
use crate::dtype::DType;
use crate::error::Result;

impl Cuda {
    fn ids(&self, ids: &[u32]) -> Result<View> {
        self.upload(bytemuck::cast_slice(ids))
    }

    /// A vector of f32, as losses are whatever the dtype of the op.
    fn vector(&self, t: usize) -> Result<Tensor> {
        self.output_of(&[t], DType::F32)
    }

    /// x in f32.
    fn wide(&self, x: &Tensor) -> Result<Tensor> {
        self.cast(x, DType::F32)
    }

    /// Results in f32 in the dtype of the op.
    fn narrow(&self, x: Tensor) -> Result<Tensor> {
        self.cast(&x, self.dtype)
    }

    fn logits(&self, z: &Tensor) -> cross_entropy::Shape {
        cross_entropy::Shape {
            t: z.shape()[0],
            v: z.shape()[1],
            dtype: self.kernel_type,
        }
    }

    /// nll and lse of logits z [t, V].
    pub(crate) fn cross_entropy(&self, z: &Tensor, ids: &[u32]) -> Result<Vec<Tensor>> {
        let shape = self.logits(z);
        let (nll, lse) = (self.vector(shape.t)?, self.vector(shape.t)?);
        let [zv, nv, lv] = [z, &nll, &lse].map(|x| self.view(x));
        self.run(cross_entropy::forward(
            &shape,
            &zv,
            &self.ids(ids)?,
            &nv,
            &lv,
        ))?;
        Ok(vec![nll, lse])
    }

    /// dz of [z, dn, lse].
    pub(crate) fn cross_entropy_bwd(&self, x: &[&Tensor], ids: &[u32]) -> Result<Tensor> {
        let (shape, dz) = (self.logits(x[0]), self.output(x[0].shape())?);
        let (dn, lse) = (self.wide(x[1])?, self.wide(x[2])?);
        let [zv, dnv, lsev, dzv] = [x[0], &dn, &lse, &dz].map(|x| self.view(x));
        let launch = cross_entropy::backward(&shape, &zv, &self.ids(ids)?, [&dnv, &lsev], &dzv);
        self.run(launch)?;
        Ok(dz)
    }

    /// dz2 and ddn of [z, dn, a, lse].
    pub(crate) fn cross_entropy_bwd_bwd(&self, x: &[&Tensor], ids: &[u32]) -> Result<Vec<Tensor>> {
        let shape = self.logits(x[0]);
        let (dz2, ddn) = (self.output(x[0].shape())?, self.vector(shape.t)?);
        let (dn, lse) = (self.wide(x[1])?, self.wide(x[3])?);
        let [z, dnv, a, lsev] = [x[0], &dn, x[2], &lse].map(|x| self.view(x));
        let [dz2v, ddnv] = [&dz2, &ddn].map(|x| self.view(x));
        let ids = self.ids(ids)?;
        let launch =
            cross_entropy::double_backward(&shape, &z, &ids, [&dnv, &lsev], &a, [&dz2v, &ddnv]);
        self.run(launch)?;
        Ok(vec![dz2, ddn])
    }

    fn output_matrix(&self, x: &Tensor, w: &Tensor) -> linear::Shape {
        linear::Shape {
            t: x.shape()[0],
            d: x.shape()[1],
            v: w.shape()[0],
            dtype: self.kernel_type,
        }
    }

    /// nll of [x, W]; with `gradient` r and lse as well.
    pub(crate) fn linear_cross_entropy(
        &self,
        x: &[&Tensor],
        ids: &[u32],
        gradient: bool,
    ) -> Result<Vec<Tensor>> {
        let shape = self.output_matrix(x[0], x[1]);
        let (nll, lse) = (self.vector(shape.t)?, self.vector(shape.t)?);
        let r = gradient.then(|| self.output(x[0].shape())).transpose()?;
        let workspace = self.scratch(shape.workspace())?;
        let [xv, wv, nv, lv] = [x[0], x[1], &nll, &lse].map(|x| self.view(x));
        let (ids, rv) = (self.ids(ids)?, r.as_ref().map(|r| self.view(r)));
        let of = linear::Inputs {
            x: &xv,
            w: &wv,
            ids: &ids,
        };
        let launches = linear::forward(&shape, &of, [&nv, &lv], rv.as_ref(), &workspace);
        self.run_all(launches)?;
        match r {
            None => Ok(vec![nll]),
            Some(r) => Ok(vec![nll, r, lse]),
        }
    }

    /// Those of dx, dW that are wanted, for [x, W], cotangents [dn, R] and caches [lse, r].
    pub(crate) fn linear_cross_entropy_bwd(
        &self,
        x: [&Tensor; 2],
        ids: &[u32],
        [dn, big_r]: [Option<&Tensor>; 2],
        [lse, r]: [&Tensor; 2],
        wanted: [bool; 2],
    ) -> Result<Vec<Tensor>> {
        let shape = self.output_matrix(x[0], x[1]);
        let dx = wanted[0].then(|| self.output(x[0].shape())).transpose()?;
        let dw = || self.output_of(x[1].shape(), DType::F32);
        let dw = wanted[1].then(dw).transpose()?;
        let workspace = self.scratch(shape.workspace())?;
        let (dn, lse) = (dn.map(|dn| self.wide(dn)).transpose()?, self.wide(lse)?);
        let [xv, wv, lsev, rv] = [x[0], x[1], &lse, r].map(|x| self.view(x));
        let ids = self.ids(ids)?;
        let of = linear::Inputs {
            x: &xv,
            w: &wv,
            ids: &ids,
        };
        let caches = linear::Caches { lse: &lsev, r: &rv };
        let ct = [dn.as_ref(), big_r].map(|ct| ct.map(|x| self.view(x)));
        let d = [&dx, &dw].map(|d| d.as_ref().map(|x| self.view(x)));
        let [ct, d] = [&ct, &d].map(|x| x.each_ref().map(Option::as_ref));
        self.run_all(linear::backward(&shape, &of, ct, &caches, d, &workspace))?;
        let dw = dw.map(|dw| self.narrow(dw)).transpose()?;
        Ok(dx.into_iter().chain(dw).collect())
    }

    /// dx2, dW2 and ddn of [x, W, dn, B, lse].
    pub(crate) fn linear_cross_entropy_bwd_bwd(
        &self,
        x: &[&Tensor],
        ids: &[u32],
    ) -> Result<Vec<Tensor>> {
        let shape = self.output_matrix(x[0], x[1]);
        let (dx2, ddn) = (self.output(x[0].shape())?, self.vector(shape.t)?);
        let dw2 = self.output_of(x[1].shape(), DType::F32)?;
        let workspace = self.scratch(shape.workspace())?;
        let (dn, lse) = (self.wide(x[2])?, self.wide(x[4])?);
        let [xv, wv, dnv, bv, lsev] = [x[0], x[1], &dn, x[3], &lse].map(|x| self.view(x));
        let ids = self.ids(ids)?;
        let of = linear::Inputs {
            x: &xv,
            w: &wv,
            ids: &ids,
        };
        let [dx2v, dw2v, ddnv] = [&dx2, &dw2, &ddn].map(|x| self.view(x));
        let d = [&dx2v, &dw2v, &ddnv];
        let launches = linear::double_backward(&shape, &of, [&dnv, &lsev], &bv, d, &workspace);
        self.run_all(launches)?;
        Ok(vec![dx2, self.narrow(dw2)?, ddn])
    }
}
