//! Sums of thin products a'b, evaluated when read.
//!
//! The gradient of a weight that many mini-batches share is a sum of products a'b, one per mini-batch, each of a few rows.
//! Formed one by one, they write and add the whole weight shape every time. Kept as pairs (a, b) and stacked, they are one
//! product with many rows: the same FLOPs, at the speed of a large product, and the sum costs nothing.

use std::sync::{Mutex, OnceLock};

use crate::Tensor;
use crate::buffer::Buffer;
use crate::dtype::{DType, Float, for_float};
use crate::error::Result;
use crate::gemm::{Into, gemm, mat};
use crate::tensor::Data;

/// Products of more rows than this gain nothing from waiting.
pub(crate) const THIN: usize = 512;
/// Results of fewer elements than this are as cheap to add as to remember.
const SMALL: usize = 1 << 10;
/// Waiting rows are multiplied out when there are this many, so that what waits stays small.
const FLUSH: usize = 2048;

/// total + sum of a'b, [m, n].
pub struct Products {
    pub dtype: DType,
    pub shape: [usize; 2],
    /// What is not multiplied out yet; taken when the value is made.
    waiting: Mutex<Option<Waiting>>,
    value: OnceLock<Data>,
}

#[derive(Clone, Default)]
struct Waiting {
    total: Option<Tensor>,
    pairs: Vec<(Tensor, Tensor)>,
    rows: usize,
}

impl Products {
    /// a'b for a [k, m] and b [k, n], if it is worth waiting with.
    pub fn of(a: &Tensor, b: &Tensor) -> Option<Tensor> {
        let (&[k, m], &[_, n]) = (a.shape(), b.shape()) else {
            return None;
        };
        if k == 0 || k > THIN || m * n < SMALL {
            return None;
        }
        let waiting = Waiting {
            total: None,
            pairs: vec![(a.clone(), b.clone())],
            rows: k,
        };
        Some(waiting.into_tensor([m, n], a.dtype()))
    }

    /// a + b, if one of them is a sum of products that nobody has read yet.
    pub fn add(a: &Tensor, b: &Tensor) -> Result<Option<Tensor>> {
        let &[m, n] = a.shape() else { return Ok(None) };
        let waiting = |t: &Tensor| t.products()?.waiting.lock().ok()?.clone();
        let (mut sum, other, rest) = match (waiting(a), waiting(b)) {
            (Some(a), other) => (a, other, b),
            (None, Some(b)) => (b, None, a),
            (None, None) => return Ok(None),
        };
        match other {
            Some(other) => {
                sum.pairs.extend(other.pairs);
                sum.rows += other.rows;
                if let Some(total) = other.total {
                    sum.add_total(total)?;
                }
            }
            None => sum.add_total(rest.clone())?,
        }
        if sum.rows >= FLUSH {
            sum.multiply_out([m, n], a.dtype())?;
        }
        Ok(Some(sum.into_tensor([m, n], a.dtype())))
    }

    /// The sum, made once.
    pub fn value(&self) -> &Data {
        self.value.get_or_init(|| {
            let mut waiting = self.waiting.lock().unwrap_or_else(|e| e.into_inner());
            let mut sum = waiting.take().unwrap_or_default();
            let done = sum.multiply_out(self.shape, self.dtype);
            let total = done.ok().and(sum.total);
            total
                .expect("products of one shape and float type")
                .into_data()
        })
    }
}

impl Waiting {
    fn into_tensor(self, shape: [usize; 2], dtype: DType) -> Tensor {
        let products = Products {
            dtype,
            shape,
            waiting: Mutex::new(Some(self)),
            value: OnceLock::new(),
        };
        Tensor::from_products(&shape, products)
    }

    fn add_total(&mut self, total: Tensor) -> Result<()> {
        match &mut self.total {
            Some(sum) => sum.add_assign(&total)?,
            none => *none = Some(total),
        }
        Ok(())
    }

    /// Everything that waits becomes part of the total.
    fn multiply_out(&mut self, shape: [usize; 2], dtype: DType) -> Result<()> {
        let pairs = std::mem::take(&mut self.pairs);
        let rows = std::mem::take(&mut self.rows);
        if pairs.is_empty() {
            return Ok(());
        }
        for_float!("matmul", dtype, T => {
            let [m, n] = shape;
            let multiply = |a: &[T], b: &[T]| {
                let (a, b) = (mat(a, rows, m).transpose(), mat(b, rows, n));
                Tensor::build(&shape, |out: &mut [T]| gemm(out, Into::Replace, <T as Float>::ONE, a, b))
            };
            let product = match &pairs[..] {
                [(a, b)] => multiply(a.data(), b.data()),
                _ => {
                    let a = stack::<T>(rows, m, pairs.iter().map(|p| &p.0));
                    let b = stack::<T>(rows, n, pairs.iter().map(|p| &p.1));
                    drop(pairs);
                    multiply(&a, &b)
                }
            };
            match &mut self.total {
                None => self.total = Some(product),
                Some(total) => total.add_assign(&product)?,
            }
        });
        Ok(())
    }
}

/// Row blocks of width `width` on top of one another.
fn stack<'a, T: Float>(
    rows: usize,
    width: usize,
    parts: impl Iterator<Item = &'a Tensor>,
) -> Buffer<T> {
    let mut out = Buffer::scratch(rows * width);
    let mut at = 0;
    for part in parts {
        let part = part.data::<T>();
        out[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    debug_assert_eq!(at, rows * width);
    out
}
