//! Cotangents of q, k, v and dO from cotangents A, B, C of dQ, dK, dV. Absent cotangents are zero and their products are left
//! out: for cached keys that are constants there is neither B nor C, which leaves 8 products of 12.
//!
//! gamma and rho are sums over whole rows. The strips of a block (P, dP and G; dO C' where there is a C) are made tile by tile
//! and kept until the sums are known: rebuilding them would cost three products more, and a block has so few rows that its
//! strips stay in cache. With D known beforehand, rho = rowsum(P (G (dP - D) + dO C')) - gamma D needs no second pass.

use super::backward::probabilities;
use super::geometry::{Geometry, SOURCES};
use super::slab::{Slab, join};
use super::{Caches, Inputs};
use crate::buffer::Buffer;
use crate::dtype::Float;
use crate::gemm::{Into, gemm_strided, mat};
use crate::{Tensor, par};

/// Those of [dq2, dk2, dv2 of the cache, dk2, dv2, ddo] that are wanted, for cotangents `ct` of [dq, dk, dv of the cache, dk,
/// dv].
pub(super) fn double_backward<T: Float>(
    g: &Geometry,
    x: &Inputs<T>,
    do_: &[T],
    caches: &Caches<T>,
    ct: [Option<&[T]>; 5],
    wanted: [bool; 6],
) -> [Option<Tensor>; 6] {
    let scale: T = g.scale();
    let [a, cached_b, cached_c, b, c] = ct;
    let (b, c) = ([cached_b, b], [cached_c, c]);
    let any_c = c.iter().any(Option::is_some);
    let block_rows = g.strip_rows::<T>(3 + any_c as usize);
    let parts = g.for_parts(|part| {
        let queries =
            |wanted: bool| wanted.then(|| Slab::scratch(&part.rows, &part.query_heads, g.h));
        let keys = |wanted: bool, source: usize| {
            wanted.then(|| Slab::zeros(&part.keys[source], &part.heads, g.h))
        };
        let [mut dq2, mut ddo] = [0, 5].map(|i| queries(wanted[i]));
        let mut dk2 = SOURCES.map(|s| keys(wanted[1 + 2 * s], s));
        let mut dv2 = SOURCES.map(|s| keys(wanted[2 + 2 * s], s));
        let most_rows = block_rows.min(g.t);
        let strip = most_rows * g.strip_width();
        let mut strips = [strip, strip, strip, strip * any_c as usize].map(Buffer::scratch);
        let [mut d, mut gamma, mut rho] = [(); 3].map(|()| vec![T::ZERO; most_rows]);
        for block in Geometry::blocks(part.rows.clone(), block_rows) {
            let rows = block.len();
            for head in part.query_heads.clone() {
                let kv = head / g.group();
                let query_rows = |x| g.query_rows(x, &block, head);
                let (q, do_rows, a) = (query_rows(x.q), query_rows(do_), a.map(query_rows));
                caches.row_sums(g, do_, &block, head, &mut d);
                gamma.fill(T::ZERO);
                rho.fill(T::ZERO);
                let mut rest = strips.each_mut().map(|x| &mut x[..]);
                for tile in g.tiles::<T>(&block) {
                    let width = tile.keys.len();
                    let key_rows = |x| g.key_rows(x, &tile.keys, kv);
                    let [k, v] = [x.k, x.v].map(|x| key_rows(x[tile.source]));
                    let [b, c] = [b, c].map(|x| x[tile.source].map(key_rows));
                    let [p, dp, gs, doc] = rest.each_mut().map(|x| take(x, rows * width));
                    // S = s Q K', dP = dO V'
                    gemm_strided(p, width, Into::Replace, scale, q, k.transpose());
                    gemm_strided(dp, width, Into::Replace, T::ONE, do_rows, v.transpose());
                    // G = s (A K' + Q B')
                    match a {
                        Some(a) => gemm_strided(gs, width, Into::Replace, scale, a, k.transpose()),
                        None => gs.fill(T::ZERO),
                    }
                    if let Some(b) = b {
                        gemm_strided(gs, width, Into::Add, scale, q, b.transpose());
                    }
                    // dO C'
                    if let Some(c) = c {
                        gemm_strided(doc, width, Into::Replace, T::ONE, do_rows, c.transpose());
                    }
                    par::simd(
                        #[inline(always)]
                        || {
                            for r in 0..rows {
                                let (i, row) = (block.start + r, r * width..(r + 1) * width);
                                let p = &mut p[row.clone()];
                                probabilities(g, &tile, i, p, caches.lse[i * g.n + head]);
                                let (dp, gs) = (&dp[row.clone()], &gs[row.clone()]);
                                gamma[r] += par::dot(p, gs);
                                rho[r] += centred(p, gs, dp, d[r]);
                                if c.is_some() {
                                    rho[r] += par::dot(p, &doc[row]);
                                }
                            }
                        },
                    );
                }
                for ((rho, gamma), d) in rho.iter_mut().zip(&gamma).zip(&d) {
                    *rho -= *gamma * *d;
                }
                let mut rest = strips.each_mut().map(|x| &mut x[..]);
                let mut into = Into::Replace;
                for tile in g.tiles::<T>(&block) {
                    let width = tile.keys.len();
                    let key_rows = |x| g.key_rows(x, &tile.keys, kv);
                    let [k, v] = [x.k, x.v].map(|x| key_rows(x[tile.source]));
                    let [b, c] = [b, c].map(|x| x[tile.source].map(key_rows));
                    let [p, dp, gs, doc] = rest.each_mut().map(|x| take(x, rows * width));
                    // dS over dP, E over G, and Sb over dO C', or over P where there is no C
                    par::simd(
                        #[inline(always)]
                        || {
                            for r in 0..rows {
                                let row = r * width..(r + 1) * width;
                                let (dp, gs) = (&mut dp[row.clone()], &mut gs[row.clone()]);
                                let p = &mut p[row.clone()];
                                let sb = c.is_some().then(|| &mut doc[row]);
                                if g.alone(block.start + r) {
                                    dp.fill(T::ZERO);
                                    gs.fill(T::ZERO);
                                    sb.unwrap_or(p).fill(T::ZERO);
                                    continue;
                                }
                                let sums = [d[r], gamma[r], rho[r]];
                                let both = dp.iter_mut().zip(gs);
                                match sb {
                                    Some(sb) => {
                                        for ((p, sb), (dp, gs)) in p.iter().zip(sb).zip(both) {
                                            *sb = score(scale, sums, *p, dp, gs, *sb);
                                        }
                                    }
                                    None => {
                                        for (p, (dp, gs)) in p.iter_mut().zip(both) {
                                            *p = score(scale, sums, *p, dp, gs, T::ZERO);
                                        }
                                    }
                                }
                            }
                        },
                    );
                    let [p, ds, e, doc] = [&*p, &*dp, &*gs, &*doc];
                    let sb = if c.is_some() { doc } else { p };
                    let [p, ds, e, sb] = [p, ds, e, sb].map(|x| mat(x, rows, width));
                    // dQ2 = Sb K + dS B
                    if let Some(dq2) = &mut dq2 {
                        dq2.product(block.start, head, into, sb, k);
                        if let Some(b) = b {
                            dq2.product(block.start, head, Into::Add, ds, b);
                        }
                    }
                    // dK2 = Sb' Q + dS' A
                    if let Some(dk2) = &mut dk2[tile.source] {
                        dk2.product(tile.keys.start, kv, Into::Add, sb.transpose(), q);
                        if let Some(a) = a {
                            dk2.product(tile.keys.start, kv, Into::Add, ds.transpose(), a);
                        }
                    }
                    // dV2 = E' dO
                    if let Some(dv2) = &mut dv2[tile.source] {
                        dv2.product(tile.keys.start, kv, Into::Add, e.transpose(), do_rows);
                    }
                    // ddO = E V + P C
                    if let Some(ddo) = &mut ddo {
                        ddo.product(block.start, head, into, e, v);
                        if let Some(c) = c {
                            ddo.product(block.start, head, Into::Add, p, c);
                        }
                    }
                    into = Into::Add;
                }
            }
        }
        let ([cached_dk2, dk2], [cached_dv2, dv2]) = (dk2, dv2);
        [dq2, cached_dk2, cached_dv2, dk2, dv2, ddo]
    });
    let [cached, current] = g.keys();
    let shapes = [g.queries(), cached, cached, current, current, g.queries()];
    join(parts, shapes)
}

/// For one query and key: s Sb, and s dS over dP and E over G.
/// Pb = G (dP - D) - gamma dP + dO C', Sb = P (Pb - rho).
#[inline(always)]
fn score<T: Float>(scale: T, [d, gamma, rho]: [T; 3], p: T, dp: &mut T, g: &mut T, doc: T) -> T {
    let sp = scale * p;
    let pb = *g * (*dp - d) - gamma * *dp + doc;
    *dp = sp * (*dp - d);
    *g = p * (*g - gamma);
    sp * (pb - rho)
}

/// The first `len` elements, which `rest` loses; none of an empty one.
fn take<'a, T>(rest: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    let all = std::mem::take(rest);
    let (first, others) = all.split_at_mut(len.min(all.len()));
    *rest = others;
    first
}

/// Sum of p g (dp - d) over a row: sixteen interleaved partial sums.
#[inline(always)]
fn centred<T: Float>(p: &[T], g: &[T], dp: &[T], d: T) -> T {
    let [(p, p_tail), (g, g_tail), (dp, dp_tail)] = [p, g, dp].map(|x| x.as_chunks::<16>());
    let mut lanes = [T::ZERO; 16];
    for ((p, g), dp) in p.iter().zip(g).zip(dp) {
        for i in 0..16 {
            lanes[i] += p[i] * g[i] * (dp[i] - d);
        }
    }
    for (((l, p), g), dp) in lanes.iter_mut().zip(p_tail).zip(g_tail).zip(dp_tail) {
        *l += *p * *g * (*dp - d);
    }
    par::row_sum(&lanes)
}
