//! Elementwise ops.

use kernels_cu::elementwise::{Binary, Unary, binary, cast, fill, select, select_above, unary};

use super::{Cuda, kernel_type};
use crate::Tensor;
use crate::dtype::DType;
use crate::error::Result;

impl Cuda {
    /// f(x).
    pub(crate) fn unary(&self, f: Unary, x: &Tensor) -> Result<Tensor> {
        let y = self.output(x.shape())?;
        let [xv, yv] = [x, &y].map(|x| self.view(x));
        self.run(unary(f, self.kernel_type, x.len(), &xv, &yv))?;
        Ok(y)
    }

    /// f(a, b).
    pub(crate) fn binary(&self, f: Binary, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let y = self.output(a.shape())?;
        let [av, bv, yv] = [a, b, &y].map(|x| self.view(x));
        self.run(binary(f, self.kernel_type, a.len(), &av, &bv, &yv))?;
        Ok(y)
    }

    /// a where `choose` is true, b elsewhere.
    pub(crate) fn select(&self, choose: &[bool], a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let bytes: Vec<u8> = choose.iter().map(|&c| u8::from(c)).collect();
        let choose = self.upload(&bytes)?;
        let y = self.output(a.shape())?;
        let [av, bv, yv] = [a, b, &y].map(|x| self.view(x));
        self.run(select(self.kernel_type, a.len(), &choose, [&av, &bv, &yv]))?;
        Ok(y)
    }

    /// a where x is above `limit`, b elsewhere.
    pub(crate) fn select_above(&self, x: [&Tensor; 3], limit: f64) -> Result<Tensor> {
        let y = self.output(x[0].shape())?;
        let [xv, av, bv, yv] = [x[0], x[1], x[2], &y].map(|x| self.view(x));
        let (n, limit) = (y.len(), limit as f32);
        self.run(select_above(
            self.kernel_type,
            n,
            &xv,
            limit,
            [&av, &bv, &yv],
        ))?;
        Ok(y)
    }

    /// A tensor of one number.
    pub(crate) fn full(&self, shape: &[usize], x: f64) -> Result<Tensor> {
        let y = self.output(shape)?;
        self.run(fill(self.kernel_type, y.len(), x as f32, &self.view(&y)))?;
        Ok(y)
    }

    /// Zeros.
    pub(crate) fn zeros(&self, shape: &[usize]) -> Result<Tensor> {
        let y = self.output(shape)?;
        self.gpu.fill(&self.view(&y), 0)?;
        Ok(y)
    }

    /// x in f32 or bf16. Memory of f32 keeps its copy in bf16 until it is written: weights are read through it again and again.
    pub(crate) fn cast(&self, x: &Tensor, dtype: DType) -> Result<Tensor> {
        if x.dtype() == dtype {
            return Ok(x.clone());
        }
        let kept = x.array().filter(|array| {
            let whole = x.len() * x.dtype().size() == array.view.bytes();
            whole && dtype == DType::BF16
        });
        if let Some(copy) = kept.and_then(|array| array.shadow.get()) {
            return copy.reshape(x.shape());
        }
        let copy = self.copy_in(x, dtype)?;
        if let Some(array) = kept {
            // a copy that another thread made in the meantime is as good
            let _ = array.shadow.set(copy.clone());
        }
        Ok(copy)
    }

    fn copy_in(&self, x: &Tensor, dtype: DType) -> Result<Tensor> {
        kernel_type(self.op, dtype)?;
        let y = self.output_of(x.shape(), dtype)?;
        let [xv, yv] = [x, &y].map(|x| self.view(x));
        let from = kernel_type(self.op, x.dtype())?;
        self.run(cast(from, x.len(), &xv, &yv))?;
        Ok(y)
    }

    /// x <- c x.
    pub(crate) fn scale_assign(&self, x: &mut Tensor, c: f64) -> Result<()> {
        self.own(x)?;
        let view = self.view(x);
        let scale = Unary::Scale(c as f32);
        self.run(unary(scale, self.kernel_type, x.len(), &view, &view))
    }

    /// x <- x + y.
    pub(crate) fn add_assign(&self, x: &mut Tensor, y: &Tensor) -> Result<()> {
        self.own(x)?;
        let [xv, yv] = [&*x, y].map(|x| self.view(x));
        self.run(binary(
            Binary::Add,
            self.kernel_type,
            y.len(),
            &xv,
            &yv,
            &xv,
        ))
    }
}
