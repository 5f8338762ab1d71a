//! dQ, dK, dV from dO: the row pass and the column pass in one sweep over the strips of a key/value head.

use super::strip::{Geometry, join, probabilities};
use crate::buffer::Buffer;
use crate::dtype::Float;
use crate::gemm::{Into, gemm, gemm_strided, mat};
use crate::{Tensor, par};

/// [dq, dk, dv].
pub(super) fn backward<T: Float>(
    g: &Geometry,
    q: &[T],
    k: &[T],
    v: &[T],
    do_: &[T],
    lse: &[T],
) -> [Tensor; 3] {
    let group = g.n / g.m;
    let scale: T = g.scale();
    let parts = g.for_heads(|kv| {
        let mut dq = Buffer::scratch(g.t * group * g.h);
        let mut dk = Buffer::zeros(g.tk * g.h);
        let mut dv = Buffer::zeros(g.tk * g.h);
        let mut p = Buffer::scratch(g.block_rows() * g.strip_width());
        let mut ds = Buffer::scratch(g.block_rows() * g.strip_width());
        for block in g.blocks() {
            let (rows, width) = (block.rows.len(), block.keys.len());
            let (p, ds) = (&mut p[..rows * width], &mut ds[..rows * width]);
            let (k, v) = (
                g.key_rows(k, &block.keys, kv),
                g.key_rows(v, &block.keys, kv),
            );
            let keys = block.keys.start * g.h..block.keys.end * g.h;
            for local in 0..group {
                let head = kv * group + local;
                let q = g.query_rows(q, &block.rows, head);
                let do_rows = g.query_rows(do_, &block.rows, head);
                // S = s Q K'
                gemm(p, Into::Replace, scale, q, k.transpose());
                // dP = dO V'
                gemm(ds, Into::Replace, T::ONE, do_rows, v.transpose());
                // P = e^(S - lse), D = rowsum(P dP), dS = s P (dP - D)
                par::simd(
                    #[inline(always)]
                    || {
                        let strips = p.chunks_exact_mut(width).zip(ds.chunks_exact_mut(width));
                        for (r, (p, ds)) in strips.enumerate() {
                            let i = block.rows.start + r;
                            probabilities(p, g.columns(&block, i), lse[i * g.n + head]);
                            let d = par::dot(p, ds);
                            for (ds, p) in ds.iter_mut().zip(p) {
                                *ds = scale * *p * (*ds - d);
                            }
                        }
                    },
                );
                let (p, ds) = (mat(p, rows, width), mat(ds, rows, width));
                // dQ = dS K
                let dq = &mut dq[(block.rows.start * group + local) * g.h..];
                gemm_strided(dq, group * g.h, Into::Replace, T::ONE, ds, k);
                // dK = dS' Q
                gemm(&mut dk[keys.clone()], Into::Add, T::ONE, ds.transpose(), q);
                // dV = P' dO
                gemm(
                    &mut dv[keys.clone()],
                    Into::Add,
                    T::ONE,
                    p.transpose(),
                    do_rows,
                );
            }
        }
        [dq, dk, dv]
    });
    let [mut dq, mut dk, mut dv] = [const { vec![] }; 3];
    for [a, b, c] in parts {
        dq.push(a);
        dk.push(b);
        dv.push(c);
    }
    [
        join(g.t, g.h, &dq),
        join(g.tk, g.h, &dk),
        join(g.tk, g.h, &dv),
    ]
}
