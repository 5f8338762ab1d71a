//! O = softmax(s Q K') V, a strip at a time.

use super::strip::{Geometry, probabilities};
use crate::buffer::Buffer;
use crate::dtype::Float;
use crate::gemm::{Into, gemm, gemm_strided};
use crate::{Tensor, par};

/// [o [t, n, h], lse [t, n]].
pub(super) fn forward<T: Float>(g: &Geometry, q: &[T], k: &[T], v: &[T]) -> [Tensor; 2] {
    let mut o = Buffer::scratch(g.t * g.n * g.h);
    let mut lse = Buffer::scratch(g.t * g.n);
    let scale: T = g.scale();
    let block_rows = g.block_rows();
    let one_block = |i: usize, o: &mut [T], lse: &mut [T]| {
        let block = g.block(i);
        let width = block.keys.len();
        let mut p = Buffer::scratch(block.rows.len() * width);
        for head in 0..g.n {
            let kv = head / (g.n / g.m);
            let (q, k) = (
                g.query_rows(q, &block.rows, head),
                g.key_rows(k, &block.keys, kv),
            );
            gemm(&mut p, Into::Replace, scale, q, k.transpose());
            par::simd(
                #[inline(always)]
                || {
                    for (r, row) in p.chunks_exact_mut(width).enumerate() {
                        let seen = g.columns(&block, block.rows.start + r);
                        let max = par::row_max(&row[seen.clone()]);
                        probabilities(row, seen.clone(), max);
                        let total = par::row_sum(&row[seen.clone()]);
                        let inverse = T::ONE / total;
                        for x in &mut row[seen] {
                            *x *= inverse;
                        }
                        lse[r * g.n + head] = max + Float::ln(total);
                    }
                },
            );
            let p = crate::gemm::mat(&p, block.rows.len(), width);
            let v = g.key_rows(v, &block.keys, kv);
            gemm_strided(&mut o[head * g.h..], g.n * g.h, Into::Replace, T::ONE, p, v);
        }
    };
    let (o_block, lse_block) = (block_rows * g.n * g.h, block_rows * g.n);
    if par::worth_sharing(g.t * g.n * g.strip_width()) {
        use rayon::prelude::*;
        let blocks = o.par_chunks_mut(o_block).zip(lse.par_chunks_mut(lse_block));
        blocks
            .enumerate()
            .for_each(|(i, (o, lse))| one_block(i, o, lse));
    } else if g.t > 0 {
        let blocks = o.chunks_mut(o_block).zip(lse.chunks_mut(lse_block));
        blocks
            .enumerate()
            .for_each(|(i, (o, lse))| one_block(i, o, lse));
    }
    [
        Tensor::from_buffer(&[g.t, g.n, g.h], o),
        Tensor::from_buffer(&[g.t, g.n], lse),
    ]
}
