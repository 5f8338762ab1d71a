//! Matrix products.

use kernels_cu::View;
use kernels_cu::gemm::{self, Gemm, Views};

use super::Cuda;
use crate::error::Result;
use crate::{Tensor, Transpose};

impl Cuda {
    fn gemm(&self, gemm: Gemm, [a, b, c]: [&View; 3]) -> Result<()> {
        let workspace = self.scratch(gemm.workspace(1))?;
        let views = Views {
            workspace: Some(&workspace),
            ..Views::new(a, b, c)
        };
        self.run_all(gemm.launch(&views))
    }

    /// a b of each pair in a batch, as a tensor of this shape; sizes [batch, m, k, n].
    pub(crate) fn matmul(
        &self,
        transpose: Transpose,
        [batch, m, k, n]: [usize; 4],
        [a, b]: [&Tensor; 2],
        shape: &[usize],
    ) -> Result<Tensor> {
        let c = self.output(shape)?;
        let transpose = match transpose {
            Transpose::None => gemm::Transpose::None,
            Transpose::A => gemm::Transpose::A,
            Transpose::B => gemm::Transpose::B,
        };
        let gemm = Gemm {
            batch,
            ..Gemm::new(transpose, [m, n, k], self.kernel_type)
        };
        let views = [a, b, &c].map(|x| self.view(x));
        self.gemm(gemm, views.each_ref())?;
        Ok(c)
    }

    /// The sum of dy w over pairs dy [t, out] and w [out, width].
    pub(crate) fn linear_bwd(
        &self,
        layers: &[(&Tensor, &Tensor)],
        [t, width]: [usize; 2],
    ) -> Result<Tensor> {
        let dx = self.output(&[t, width])?;
        for (i, (dy, w)) in layers.iter().enumerate() {
            let sizes = [t, width, w.shape()[0]];
            let gemm = Gemm {
                beta: if i == 0 { 0.0 } else { 1.0 },
                ..Gemm::new(gemm::Transpose::None, sizes, self.kernel_type)
            };
            let views = [dy, w, &dx].map(|x| self.view(x));
            self.gemm(gemm, views.each_ref())?;
        }
        Ok(dx)
    }
}
