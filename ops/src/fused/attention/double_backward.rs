//! dQ2, dK2, dV2, ddO from cotangents A, B, C of dQ, dK, dV. Absent cotangents are zero and their products are left out.
//!
//! The three strips of a block (P, dP, G) stay in cache between the row sums and the products that need them, so P, dP and G
//! are computed once: 12 products per query-key pair instead of 15.

use super::strip::{Geometry, join, probabilities};
use crate::buffer::Buffer;
use crate::dtype::Float;
use crate::gemm::{Into, gemm, gemm_strided, mat};
use crate::{Tensor, par};

/// [dq2, dk2, dv2, ddo] for x = [q, k, v, do, lse].
pub(super) fn double_backward<T: Float>(
    g: &Geometry,
    x: [&[T]; 5],
    [a, b, c]: [Option<&[T]>; 3],
) -> [Tensor; 4] {
    let [q, k, v, do_, lse] = x;
    let group = g.n / g.m;
    let scale: T = g.scale();
    let parts = g.for_heads(|kv| {
        let [mut dq2, mut ddo] = [(); 2].map(|()| Buffer::scratch(g.t * group * g.h));
        let [mut dk2, mut dv2] = [(); 2].map(|()| Buffer::zeros(g.tk * g.h));
        let mut strips = [(); 4].map(|()| Buffer::scratch(g.block_rows() * g.strip_width()));
        for block in g.blocks() {
            let (rows, width) = (block.rows.len(), block.keys.len());
            let [p, dp, gs, pb] = strips.each_mut().map(|s| &mut s[..rows * width]);
            let key_rows = |x| g.key_rows(x, &block.keys, kv);
            let (k, v) = (key_rows(k), key_rows(v));
            let (b, c) = (b.map(key_rows), c.map(key_rows));
            let keys = block.keys.start * g.h..block.keys.end * g.h;
            for local in 0..group {
                let head = kv * group + local;
                let query_rows = |x| g.query_rows(x, &block.rows, head);
                let (q, do_rows, a) = (query_rows(q), query_rows(do_), a.map(query_rows));
                // S = s Q K', dP = dO V'
                gemm(p, Into::Replace, scale, q, k.transpose());
                gemm(dp, Into::Replace, T::ONE, do_rows, v.transpose());
                // G = s (A K' + Q B')
                match (a, b) {
                    (Some(a), _) => gemm(gs, Into::Replace, scale, a, k.transpose()),
                    (None, _) => gs.fill(T::ZERO),
                }
                if let Some(b) = b {
                    gemm(gs, Into::Add, scale, q, b.transpose());
                }
                // Pb = dO C', so far
                match c {
                    Some(c) => gemm(pb, Into::Replace, T::ONE, do_rows, c.transpose()),
                    None => pb.fill(T::ZERO),
                }
                par::simd(
                    #[inline(always)]
                    || {
                        let row = |r: usize| r * width..(r + 1) * width;
                        for r in 0..rows {
                            let i = block.rows.start + r;
                            let (p, dp) = (&mut p[row(r)], &mut dp[row(r)]);
                            let (gs, pb) = (&mut gs[row(r)], &mut pb[row(r)]);
                            probabilities(p, g.columns(&block, i), lse[i * g.n + head]);
                            let d = par::dot(p, dp);
                            let gamma = par::dot(p, gs);
                            // Pb = G (dP - D) - gamma dP + dO C', then dS = s P (dP - D) over dP
                            for j in 0..width {
                                pb[j] += gs[j] * (dp[j] - d) - gamma * dp[j];
                            }
                            let rho = par::dot(p, pb);
                            for j in 0..width {
                                let sp = scale * p[j];
                                dp[j] = sp * (dp[j] - d);
                                // Sb over Pb (times s), E over G
                                pb[j] = sp * (pb[j] - rho);
                                gs[j] = p[j] * (gs[j] - gamma);
                            }
                        }
                    },
                );
                let [p, ds, e, sb] = [&*p, &*dp, &*gs, &*pb].map(|s| mat(s, rows, width));
                let at = (block.rows.start * group + local) * g.h;
                let (dq2, ddo) = (&mut dq2[at..], &mut ddo[at..]);
                let (dk2, dv2) = (&mut dk2[keys.clone()], &mut dv2[keys.clone()]);
                let stride = group * g.h;
                // dQ2 = Sb K + dS B
                gemm_strided(dq2, stride, Into::Replace, T::ONE, sb, k);
                if let Some(b) = b {
                    gemm_strided(dq2, stride, Into::Add, T::ONE, ds, b);
                }
                // dK2 = Sb' Q + dS' A
                gemm(dk2, Into::Add, T::ONE, sb.transpose(), q);
                if let Some(a) = a {
                    gemm(dk2, Into::Add, T::ONE, ds.transpose(), a);
                }
                // dV2 = E' dO
                gemm(dv2, Into::Add, T::ONE, e.transpose(), do_rows);
                // ddO = E V + P C
                gemm_strided(ddo, stride, Into::Replace, T::ONE, e, v);
                if let Some(c) = c {
                    gemm_strided(ddo, stride, Into::Add, T::ONE, p, c);
                }
            }
        }
        [dq2, dk2, dv2, ddo]
    });
    let [mut dq2, mut dk2, mut dv2, mut ddo] = [const { vec![] }; 4];
    for [a, b, c, d] in parts {
        dq2.push(a);
        dk2.push(b);
        dv2.push(c);
        ddo.push(d);
    }
    [
        join(g.t, g.h, &dq2),
        join(g.tk, g.h, &dk2),
        join(g.tk, g.h, &dv2),
        join(g.t, g.h, &ddo),
    ]
}
