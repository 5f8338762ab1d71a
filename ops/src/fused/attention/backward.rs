//! Cotangents of q, k and v from dO, a tile of scores at a time: P is rebuilt from lse, and D = rowsum(dO O) comes before all
//! tiles. Only what is wanted is computed: for keys that are constants, 3 products instead of 5.

use super::geometry::{Geometry, SOURCES, Tile};
use super::slab::{Slab, join};
use super::{Caches, Inputs};
use crate::buffer::Buffer;
use crate::dtype::Float;
use crate::gemm::{Into, gemm_strided, mat};
use crate::{Tensor, par};

/// Those of [dq, dk, dv of the cache, dk, dv] that are wanted.
pub(super) fn backward<T: Float>(
    g: &Geometry,
    x: &Inputs<T>,
    do_: &[T],
    caches: &Caches<T>,
    wanted: [bool; 5],
) -> [Option<Tensor>; 5] {
    let scale: T = g.scale();
    let parts = g.for_parts(|part| {
        let slab = |wanted: bool, source: usize| {
            wanted.then(|| Slab::zeros(&part.keys[source], &part.heads, g.h))
        };
        let mut dq = wanted[0].then(|| Slab::scratch(&part.rows, &part.query_heads, g.h));
        let mut dk = SOURCES.map(|s| slab(wanted[1 + 2 * s], s));
        let mut dv = SOURCES.map(|s| slab(wanted[2 + 2 * s], s));
        let mut tiles = [(); 2].map(|()| Buffer::scratch(g.tile_len::<T>()));
        let mut d = vec![T::ZERO; g.block_rows().min(g.t)];
        for block in Geometry::blocks(part.rows.clone(), g.block_rows()) {
            for head in part.query_heads.clone() {
                let kv = head / g.group();
                let [q, do_rows] = [x.q, do_].map(|x| g.query_rows(x, &block, head));
                caches.row_sums(g, do_, &block, head, &mut d);
                let mut into = Into::Replace;
                for tile in g.tiles::<T>(&block) {
                    let (rows, width, keys) = (block.len(), tile.keys.len(), tile.keys.start);
                    let [p, ds] = tiles.each_mut().map(|x| &mut x[..rows * width]);
                    let [k, v] = [x.k, x.v].map(|x| g.key_rows(x[tile.source], &tile.keys, kv));
                    let (dk, dv) = (&mut dk[tile.source], &mut dv[tile.source]);
                    // S = s Q K'
                    gemm_strided(p, width, Into::Replace, scale, q, k.transpose());
                    // dP = dO V'
                    gemm_strided(ds, width, Into::Replace, T::ONE, do_rows, v.transpose());
                    // P = e^(S - lse), dS = s P (dP - D)
                    par::simd(
                        #[inline(always)]
                        || {
                            let rows = p.chunks_exact_mut(width).zip(ds.chunks_exact_mut(width));
                            for (r, (p, ds)) in rows.enumerate() {
                                let i = block.start + r;
                                probabilities(g, &tile, i, p, caches.lse[i * g.n + head]);
                                if g.alone(i) {
                                    ds.fill(T::ZERO);
                                    continue;
                                }
                                for (ds, p) in ds.iter_mut().zip(p) {
                                    *ds = scale * *p * (*ds - d[r]);
                                }
                            }
                        },
                    );
                    let [p, ds] = [&*p, &*ds].map(|x| mat(x, rows, width));
                    // dQ = dS K
                    if let Some(dq) = &mut dq {
                        dq.product(block.start, head, into, ds, k);
                    }
                    // dK = dS' Q
                    if let Some(dk) = dk {
                        dk.product(keys, kv, Into::Add, ds.transpose(), q);
                    }
                    // dV = P' dO
                    if let Some(dv) = dv {
                        dv.product(keys, kv, Into::Add, p.transpose(), do_rows);
                    }
                    into = Into::Add;
                }
            }
        }
        let ([cached_dk, dk], [cached_dv, dv]) = (dk, dv);
        [dq, cached_dk, cached_dv, dk, dv]
    });
    let [cached, current] = g.keys();
    join(parts, [g.queries(), cached, cached, current, current])
}

/// One row of a tile of scores becomes e^(S - lse), and 0 where query i sees nothing.
#[inline(always)]
pub(super) fn probabilities<T: Float>(g: &Geometry, tile: &Tile, i: usize, row: &mut [T], lse: T) {
    let seen = g.columns(tile, i);
    row[..seen.start].fill(T::ZERO);
    row[seen.end..].fill(T::ZERO);
    par::exp_and_sum(&mut row[seen], lse);
}
