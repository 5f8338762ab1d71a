//! Sums along axes.

use kernels_cu::DType::F32;
use kernels_cu::reduce::Sum;

use super::Cuda;
use crate::Tensor;
use crate::dtype::DType;
use crate::error::Result;

impl Cuda {
    /// x with the axes summed whose size in `shape`, of the same rank, is 1.
    pub(crate) fn sum(&self, x: &Tensor, shape: &[usize]) -> Result<Tensor> {
        let mut x = x.clone();
        // last axes first: what is summed then lies together. Neighbours are summed as one
        let mut end = shape.len();
        while end > 0 {
            let summed = |a: usize| shape[a] == 1 && x.shape()[a] != 1;
            if !summed(end - 1) {
                end -= 1;
                continue;
            }
            let mut start = end - 1;
            while start > 0 && summed(start - 1) {
                start -= 1;
            }
            let size = |axes: &[usize]| -> usize { axes.iter().product() };
            let all = x.shape();
            let sizes = [
                size(&all[..start]),
                size(&all[start..end]),
                size(&all[end..]),
            ];
            let left: Vec<usize> = [&all[..start], &shape[start..]].concat();
            x = self.sum_middle(&x, sizes)?.reshape(&left)?;
            end = start;
        }
        self.cast(&x, self.dtype)
    }

    /// [outer, inner] of x [outer, k, inner], in f32 where there were several chunks to add.
    fn sum_middle(&self, x: &Tensor, mut sizes: [usize; 3]) -> Result<Tensor> {
        let (mut x, mut from) = (x.clone(), super::kernel_type(self.op, x.dtype())?);
        loop {
            let sum = Sum { sizes };
            let chunks = sum.chunks();
            let (dtype, to) = match chunks {
                1 => (self.dtype, self.kernel_type),
                _ => (DType::F32, F32),
            };
            let [outer, _, inner] = sizes;
            let y = self.output_of(&[outer, chunks, inner], dtype)?;
            self.run(sum.launch([from, to], &self.view(&x), &self.view(&y)))?;
            if chunks == 1 {
                return Ok(y);
            }
            (x, from, sizes) = (y, F32, [outer, chunks, inner]);
        }
    }
}
