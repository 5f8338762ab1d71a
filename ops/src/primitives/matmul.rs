//! Matrix products in three transposes, closed under differentiation.

use autograd::{At, Cost, Op, apply1};

use crate::dtype::for_float;
use crate::error::{Error, Result};
use crate::gemm::{Into, gemm, mat};
use crate::products::Products;
use crate::{Tensor, Var, cuda};

/// Which operand of a product is transposed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Transpose {
    /// c = a b
    None,
    /// c = a b'
    B,
    /// c = a' b
    A,
}

struct Matmul(Transpose);

/// Leading batch size and the two matrix axes of rank 2 or 3.
fn axes(x: &Tensor) -> Option<(usize, usize, usize)> {
    match *x.shape() {
        [m, n] => Some((1, m, n)),
        [b, m, n] => Some((b, m, n)),
        _ => None,
    }
}

impl Op<Tensor> for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn cost(&self) -> Cost {
        Cost::Costly
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let (a, b) = (x[0], x[1]);
        let misfit = || {
            let message = format!("{a:?} and {b:?} with transpose {:?} do not fit", self.0);
            Error::shape("matmul", message)
        };
        let ((batch, am, an), (b_batch, bm, bn)) = axes(a).zip(axes(b)).ok_or_else(misfit)?;
        let (m, k) = if self.0 == Transpose::A {
            (an, am)
        } else {
            (am, an)
        };
        let (bk, n) = if self.0 == Transpose::B {
            (bn, bm)
        } else {
            (bm, bn)
        };
        if batch != b_batch
            || k != bk
            || a.shape().len() != b.shape().len()
            || a.dtype() != b.dtype()
        {
            return Err(misfit());
        }
        let shape = if a.shape().len() == 2 {
            vec![m, n]
        } else {
            vec![batch, m, n]
        };
        if let Some(cuda) = cuda::of("matmul", [a, b])? {
            let sizes = [batch, m, k, n];
            return Ok(vec![cuda.matmul(self.0, sizes, [a, b], &shape)?]);
        }
        if self.0 == Transpose::A
            && let Some(thin) = Products::of(a, b)
        {
            return Ok(vec![thin]);
        }
        Ok(vec![for_float!("matmul", a.dtype(), T => {
            let (ad, bd) = (a.data::<T>(), b.data::<T>());
            Tensor::build(&shape, |out: &mut [T]| {
                if k == 0 {
                    out.fill(<T as crate::dtype::Float>::ZERO);
                    return;
                }
                for i in 0..batch {
                    let a = mat(&ad[i * m * k..(i + 1) * m * k], am, an);
                    let b = mat(&bd[i * k * n..(i + 1) * k * n], bm, bn);
                    let a = if self.0 == Transpose::A { a.transpose() } else { a };
                    let b = if self.0 == Transpose::B { b.transpose() } else { b };
                    let out = &mut out[i * m * n..(i + 1) * m * n];
                    gemm(out, Into::Replace, <T as crate::dtype::Float>::ONE, a, b);
                }
            })
        })])
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        use Transpose::{A, B, None as N};
        let Some(g) = &ct[0] else {
            return Ok(vec![None, None]);
        };
        let (a, b) = (&at.x[0], &at.x[1]);
        let da = || match self.0 {
            N => matmul(g, b, B),
            B => matmul(g, b, N),
            A => matmul(b, g, B),
        };
        let db = || match self.0 {
            N => matmul(a, g, A),
            B => matmul(g, a, A),
            A => matmul(a, g, N),
        };
        Ok(vec![
            at.needs[0].then(da).transpose()?,
            at.needs[1].then(db).transpose()?,
        ])
    }
}

/// Matrix product of rank-2 tensors, or of each pair in a batch of rank-3 tensors; `transpose` says which operand is read
/// transposed. Linear layers with `[out, in]` weights are `matmul(x, w, Transpose::B)`.
///
/// ```
/// use ops::{Tensor, Transpose, Var, matmul};
/// let x = Var::constant(Tensor::from_vec(&[1, 2], vec![1f64, 2.])?);
/// let w = Var::constant(Tensor::from_vec(&[3, 2], vec![1f64, 0., 0., 1., 1., 1.])?);
/// assert_eq!(matmul(&x, &w, Transpose::B)?.value().to_f64s(), [1., 2., 3.]);
/// # Ok::<(), ops::Error>(())
/// ```
pub fn matmul(a: &Var, b: &Var, transpose: Transpose) -> Result<Var> {
    apply1(Matmul(transpose), &[a, b])
}
