//! Steps of gradient descent, and the numbers they are made of: nothing of it waits for the device.

use kernels_cu::View;
use kernels_cu::adamw::{self, adamw};
use kernels_cu::gradient_norm;
use kernels_cu::inner_update::{Types, clip, dot, dot_parts, sgd_update, sum, times};

use super::Cuda;
use crate::dtype::DType;
use crate::error::Result;
use crate::{AdamW, Tensor};

impl Cuda {
    fn types(&self) -> Types {
        Types::new(self.kernel_type, self.kernel_type)
    }

    /// A scalar as kernels read it.
    fn f32(&self, s: &Tensor) -> Result<Tensor> {
        self.cast(s, DType::F32)
    }

    /// Partial sums of <a, b> over pairs.
    fn parts(&self, pairs: &[[&Tensor; 2]]) -> Result<View> {
        let bytes = |[a, _]: &[&Tensor; 2]| 4 * dot_parts(a.len());
        let parts = self.scratch(pairs.iter().map(bytes).sum())?;
        let mut at = 0;
        for pair in pairs {
            let part = parts.part(at, bytes(pair));
            let [a, b] = pair.map(|x| self.view(x));
            self.run(dot(self.types(), pair[0].len(), &a, &b, &part))?;
            at += part.bytes();
        }
        Ok(parts)
    }

    /// <a, b>, in f32.
    pub(crate) fn dot(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let parts = self.parts(&[[a, b]])?;
        let y = self.output_of(&[], DType::F32)?;
        self.run(sum(&parts, &self.view(&y), 1.0))?;
        Ok(y)
    }

    /// The norm of all tensors together, in f32.
    pub(crate) fn norm(&self, x: &[&Tensor]) -> Result<Tensor> {
        let bytes = |x: &Tensor| 8 * gradient_norm::parts(x.len());
        let room = self.scratch(x.iter().map(|x| bytes(x)).sum())?;
        let mut at = 0;
        for x in x {
            let part = room.part(at, bytes(x));
            self.run(gradient_norm::squares(
                self.kernel_type,
                x.len(),
                &self.view(x),
                &part,
            ))?;
            at += part.bytes();
        }
        // the factor of clipping, and the norm
        let result = self.output_of(&[2], DType::F32)?;
        self.run(gradient_norm::clip(&room, &self.view(&result), 0.0))?;
        result.rows(1, 2)?.reshape(&[])
    }

    /// w <- w - s g with s = eta min(1, c / |g|) for the norm of all of g together; eta if c is 0.
    pub(crate) fn inner_update(
        &self,
        w: &mut [&mut Tensor],
        g: &[&Tensor],
        eta: f64,
        c: f64,
    ) -> Result<()> {
        let pairs: Vec<_> = g.iter().map(|g| [*g, *g]).collect();
        let parts = self.parts(&pairs)?;
        // the step, and the norm
        let step = self.output_of(&[2], DType::F32)?;
        self.run(clip(&parts, &self.view(&step), eta as f32, c as f32))?;
        let s = step.rows(0, 1)?;
        let mut pairs = w.iter_mut().zip(g);
        pairs.try_for_each(|(w, g)| self.descend(w, g, &s))
    }

    /// w <- w - s g for one f32 number s.
    fn descend(&self, w: &mut Tensor, g: &Tensor, s: &Tensor) -> Result<()> {
        self.own(w)?;
        let [wv, gv, sv] = [w, g, s].map(|x| self.view(x));
        self.run(sgd_update(
            self.types(),
            g.len(),
            [&wv, &gv, &sv],
            &wv,
            None,
        ))
    }

    /// w <- w - s g.
    pub(crate) fn sgd_update_assign(&self, w: &mut Tensor, g: &Tensor, s: f64) -> Result<()> {
        let s = self.f32(&self.full(&[], s)?)?;
        self.descend(w, g, &s)
    }

    /// w - s g for a scalar s.
    pub(crate) fn sgd_update(&self, w: &Tensor, g: &Tensor, s: &Tensor) -> Result<Tensor> {
        let (s, y) = (self.f32(s)?, self.output(w.shape())?);
        let [wv, gv, sv, yv] = [w, g, &s, &y].map(|x| self.view(x));
        self.run(sgd_update(
            self.types(),
            w.len(),
            [&wv, &gv, &sv],
            &yv,
            None,
        ))?;
        Ok(y)
    }

    /// s x for a scalar s.
    pub(crate) fn times(&self, s: &Tensor, x: &Tensor) -> Result<Tensor> {
        let (s, y) = (self.f32(s)?, self.output(x.shape())?);
        let [sv, xv, yv] = [&s, x, &y].map(|x| self.view(x));
        self.run(times(self.types(), x.len(), &sv, &xv, &yv, 1.0))?;
        Ok(y)
    }

    /// One step of AdamW on [w, m, v] with the gradient `g` times `scale`.
    pub(crate) fn adamw(
        &self,
        of: &AdamW,
        state: [&mut Tensor; 3],
        g: &Tensor,
        scale: f64,
    ) -> Result<()> {
        let constants = adamw::AdamW {
            learning_rate: of.learning_rate,
            beta1: of.beta1,
            beta2: of.beta2,
            eps: of.eps,
            weight_decay: of.weight_decay,
            step: of.step,
        };
        let scale = self.full(&[], scale)?;
        let mut views = vec![];
        for x in state {
            self.own(x)?;
            views.push(self.view(x));
        }
        let views = adamw::Views {
            w: &views[0],
            m: &views[1],
            v: &views[2],
            shadow: None,
        };
        let [gv, sv] = [g, &scale].map(|x| self.view(x));
        self.run(adamw(&constants, g.len(), &views, &gv, Some(&sv)))
    }
}
