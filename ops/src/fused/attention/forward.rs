//! O = softmax(s Q K') V, a tile of scores at a time, by online softmax: of the tiles so far a row has its maximum mu, the sum
//! l of e^(S - mu), and the sum of e^(S - mu) V; all three are rescaled when the maximum rises.

use std::ops::Range;

use super::Inputs;
use super::geometry::{Geometry, Tile};
use super::slab::{Slab, join};
use crate::buffer::Buffer;
use crate::dtype::Float;
use crate::gemm::{Into, gemm_strided, mat};
use crate::{Tensor, par};

/// [o [t, n, h], lse [t, n]].
pub(super) fn forward<T: Float>(g: &Geometry, x: &Inputs<T>) -> [Tensor; 2] {
    let scale: T = g.scale();
    let parts = g.for_parts(|part| {
        let mut o = Slab::scratch(&part.rows, &part.query_heads, g.h);
        let mut lse = Slab::scratch(&part.rows, &part.query_heads, 1);
        let mut scores = Buffer::scratch(g.tile_len::<T>());
        let [mut mu, mut l] = [(); 2].map(|()| vec![T::ZERO; g.block_rows().min(g.t)]);
        for block in Geometry::blocks(part.rows.clone(), g.block_rows()) {
            let (tiles, joined) = match g.joined_tile(&block) {
                None => (g.tiles::<T>(&block).collect(), None),
                Some((tile, rows)) => {
                    let joined = [x.k, x.v].map(|x| join_rows(x, &rows, g.m * g.h));
                    (vec![tile], Some(joined))
                }
            };
            let [joined_k, joined_v] = joined.as_ref().map_or([&[][..]; 2], |[k, v]| [k, v]);
            let sources = [[x.k[0], x.k[1], joined_k], [x.v[0], x.v[1], joined_v]];
            for head in part.query_heads.clone() {
                let kv = head / g.group();
                let q = g.query_rows(x.q, &block, head);
                mu.fill(T::NEG_INFINITY);
                l.fill(T::ZERO);
                let mut into = Into::Replace;
                for tile in &tiles {
                    let (rows, width) = (block.len(), tile.keys.len());
                    let p = &mut scores[..rows * width];
                    let [k, v] = sources.map(|x| g.key_rows(x[tile.source], &tile.keys, kv));
                    // S = s Q K'
                    gemm_strided(p, width, Into::Replace, scale, q, k.transpose());
                    par::simd(
                        #[inline(always)]
                        || {
                            for (r, row) in p.chunks_exact_mut(width).enumerate() {
                                let i = block.start + r;
                                let shrink = softmax(g, tile, i, row, &mut mu[r], &mut l[r]);
                                if shrink < T::ONE {
                                    o.row(i, head).iter_mut().for_each(|o| *o *= shrink);
                                }
                            }
                        },
                    );
                    o.product(block.start, head, into, mat(p, rows, width), v);
                    into = Into::Add;
                }
                for (r, i) in block.clone().enumerate() {
                    let inverse = T::ONE / l[r];
                    o.row(i, head).iter_mut().for_each(|o| *o *= inverse);
                    lse.row(i, head)[0] = mu[r] + Float::ln(l[r]);
                }
            }
        }
        [Some(o), Some(lse)]
    });
    let [o, lse] = join(parts, [g.queries(), [g.t, g.n, 1]]).map(|y| y.expect("made by each part"));
    let lse = lse.reshape(&[g.t, g.n]).expect("as many elements");
    [o, lse]
}

/// Rows of `width` elements of the cached and the current keys, one behind the other.
fn join_rows<T: Float>(x: [&[T]; 2], rows: &[Range<usize>; 2], width: usize) -> Buffer<T> {
    let [cached, current] =
        std::array::from_fn(|i| &x[i][rows[i].start * width..rows[i].end * width]);
    let mut joined = Buffer::scratch(cached.len() + current.len());
    joined[..cached.len()].copy_from_slice(cached);
    joined[cached.len()..].copy_from_slice(current);
    joined
}

/// One row of a tile of scores becomes e^(S - mu), and 0 where query i sees nothing; mu and l take it in. Returns what the
/// sums so far are to be multiplied by.
#[inline(always)]
fn softmax<T: Float>(
    g: &Geometry,
    tile: &Tile,
    i: usize,
    row: &mut [T],
    mu: &mut T,
    l: &mut T,
) -> T {
    let seen = g.columns(tile, i);
    row[..seen.start].fill(T::ZERO);
    row[seen.end..].fill(T::ZERO);
    let row = &mut row[seen];
    if row.is_empty() {
        return T::ONE;
    }
    let max = par::row_max(row);
    let mut shrink = T::ONE;
    if *mu < max {
        if T::NEG_INFINITY < *mu {
            shrink = Float::exp(*mu - max);
            *l *= shrink;
        }
        *mu = max;
    }
    *l += par::exp_and_sum(row, *mu);
    shrink
}
