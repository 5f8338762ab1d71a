//! Which keys a block of queries sees, and what all three passes share.

use std::ops::Range;

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::dtype::{Element, Float};
use crate::error::{Error, Result};
use crate::gemm::{Mat, strided};
use crate::{Tensor, par};

/// Sizes of one attention: see the letters in the module above.
#[derive(Clone, Copy)]
pub(super) struct Geometry {
    pub t: usize,
    pub tk: usize,
    /// Query heads.
    pub n: usize,
    /// Key/value heads.
    pub m: usize,
    /// Head size.
    pub h: usize,
    pub window: usize,
}

/// A run of query rows and the keys that any of them sees.
#[derive(Clone)]
pub(super) struct Block {
    pub rows: Range<usize>,
    pub keys: Range<usize>,
}

impl Geometry {
    pub fn of(op: &'static str, q: &Tensor, k: &Tensor, v: &Tensor, window: usize) -> Result<Self> {
        let fits = match (q.shape(), k.shape()) {
            (&[t, n, h], &[tk, m, hk]) => {
                (t <= tk && m > 0 && n > 0 && n % m == 0 && h == hk && h > 0).then_some(Geometry {
                    t,
                    tk,
                    n,
                    m,
                    h,
                    window,
                })
            }
            _ => None,
        };
        let same = k.shape() == v.shape() && q.dtype() == k.dtype() && k.dtype() == v.dtype();
        match fits {
            Some(g) if same && window > 0 => Ok(g),
            _ => Err(Error::shape(
                op,
                format!(
                    "q {q:?}, k {k:?}, v {v:?}, window {window}: expected [t, n, h] and twice [tk, m, h] with tk >= t, \
                     n a multiple of m, n and h not 0, one dtype, and a window of at least 1"
                ),
            )),
        }
    }

    /// 1/sqrt(h).
    pub fn scale<T: Element>(&self) -> T {
        T::from_f64(1.0 / (self.h as f64).sqrt())
    }

    /// Rows per block: long enough for fast products, short enough that a small window does not drown in masked keys.
    pub fn block_rows(&self) -> usize {
        if self.window < 128 { 32 } else { 64 }
    }

    pub fn block(&self, i: usize) -> Block {
        let rows = i * self.block_rows()..((i + 1) * self.block_rows()).min(self.t);
        let first = self.visible(rows.start);
        let last = self.visible(rows.end - 1);
        Block {
            rows,
            keys: first.start..last.end,
        }
    }

    pub fn blocks(&self) -> impl Iterator<Item = Block> {
        (0..self.t.div_ceil(self.block_rows())).map(|i| self.block(i))
    }

    /// Most keys that a block can see.
    pub fn strip_width(&self) -> usize {
        (self.window.saturating_add(self.block_rows())).min(self.tk)
    }

    /// Keys that query i sees.
    pub fn visible(&self, i: usize) -> Range<usize> {
        let position = i + self.tk - self.t;
        (position + 1).saturating_sub(self.window)..position + 1
    }

    /// Columns of the block's strip that its row i (a row of q) sees.
    pub fn columns(&self, block: &Block, i: usize) -> Range<usize> {
        let seen = self.visible(i);
        seen.start - block.keys.start..seen.end - block.keys.start
    }

    /// Rows of one query head of a [t, n, h] array.
    pub fn query_rows<'a, T: Float>(
        &self,
        x: &'a [T],
        rows: &Range<usize>,
        head: usize,
    ) -> Mat<'a, T> {
        let start = (rows.start * self.n + head) * self.h;
        strided(&x[start..], rows.len(), self.h, self.n * self.h)
    }

    /// Rows of one key/value head of a [tk, m, h] array.
    pub fn key_rows<'a, T: Float>(
        &self,
        x: &'a [T],
        keys: &Range<usize>,
        head: usize,
    ) -> Mat<'a, T> {
        let start = (keys.start * self.m + head) * self.h;
        strided(&x[start..], keys.len(), self.h, self.m * self.h)
    }

    /// Runs `f` for every key/value head, on as many threads as there are.
    pub fn for_heads<R: Send>(&self, f: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
        match par::worth_sharing(self.t * self.n * self.strip_width()) {
            true => (0..self.m).into_par_iter().map(f).collect(),
            false => (0..self.m).map(f).collect(),
        }
    }
}

/// Rewrites a strip of scores as probabilities: row i becomes e^(S - lse_i) on the columns it sees and 0 elsewhere.
#[inline(always)]
pub(super) fn probabilities<T: Float>(row: &mut [T], seen: Range<usize>, lse: T) {
    row[..seen.start].fill(T::ZERO);
    row[seen.end..].fill(T::ZERO);
    for x in &mut row[seen] {
        *x = Float::exp(*x - lse);
    }
}

/// Joins per-head parts [rows, g, h] (g heads each) to one [rows, g * parts, h] tensor.
pub(super) fn join<T: Float>(rows: usize, h: usize, parts: &[Buffer<T>]) -> Tensor {
    let heads = parts.len();
    let width = parts[0].len().checked_div(rows).unwrap_or(0);
    Tensor::build(&[rows, heads * width / h.max(1), h], |out: &mut [T]| {
        for (i, out) in out.chunks_mut((heads * width).max(1)).enumerate() {
            for (part, out) in parts.iter().zip(out.chunks_mut(width.max(1))) {
                out.copy_from_slice(&part[i * width..(i + 1) * width]);
            }
        }
    })
}
