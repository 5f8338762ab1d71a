//! Who sees what, and how the work is cut: parts for threads, blocks of query rows, tiles of keys. All of it depends on the
//! shapes alone.

use std::ops::Range;

use rayon::prelude::*;

use crate::Tensor;
use crate::dtype::{Element, Float};
use crate::error::{Error, Result};
use crate::gemm::{Mat, strided};

/// Bytes of a tile of scores: two of them, the tiles of k and v and their gradients fit a second-level cache.
const TILE: usize = 1 << 17;
/// Bytes of all strips of a block, where more than one pass needs whole rows.
const STRIPS: usize = 1 << 23;
/// Rows of a block are a multiple of this.
const FEWEST_ROWS: usize = 16;
/// Scores below which the whole work is one part: a second thread would come too late.
const WORTH_SHARING: usize = 1 << 17;
/// About how many parts the work is cut into.
const PARTS: usize = 16;
/// Keys of both sources that a block sees are copied into one tile if there are at most this many: the copy is soon made, and a
/// product less to start for every head and block counts for more.
const FEW_KEYS: usize = 64;
/// Queries (of all heads of a group) that a part has at least: each part zeroes and adds its own gradients of all keys it
/// sees.
const FEWEST_QUERIES: usize = 512;

/// The two places that keys come from.
pub(super) const SOURCES: [usize; 2] = [CACHED, CURRENT];
const CACHED: usize = 0;
const CURRENT: usize = 1;
/// A third one, of [`Geometry::joined_tile`].
const JOINED: usize = 2;

/// Sizes of one attention: see the letters in the module above.
#[derive(Clone, Copy)]
pub(super) struct Geometry {
    pub t: usize,
    pub c: usize,
    /// Query heads.
    pub n: usize,
    /// Key/value heads.
    pub m: usize,
    /// Head size.
    pub h: usize,
    pub window: usize,
}

/// What one thread does at a time: some query rows and some key/value heads.
#[derive(Clone)]
pub(super) struct Part {
    pub rows: Range<usize>,
    /// Key/value heads.
    pub heads: Range<usize>,
    /// Query heads.
    pub query_heads: Range<usize>,
    /// Rows of the cached and of the current keys that any of the queries sees.
    pub keys: [Range<usize>; 2],
}

/// A run of keys of one source.
pub(super) struct Tile {
    pub source: usize,
    /// Rows of that source.
    pub keys: Range<usize>,
    /// Position of the first.
    position: usize,
}

impl Geometry {
    /// From the inputs q, k and v of the cache, k and v.
    pub fn of(op: &'static str, x: &[&Tensor], window: usize) -> Result<Self> {
        let [q, cached_k, cached_v, k, v] = [x[0], x[1], x[2], x[3], x[4]];
        let fits = match (q.shape(), cached_k.shape(), k.shape()) {
            (&[t, n, h], &[c, mc, hc], &[tk, m, hk]) => {
                let fits = t == tk && m > 0 && n > 0 && n % m == 0 && h == hk && h > 0;
                (fits && [mc, hc] == [m, h]).then_some(Geometry {
                    t,
                    c,
                    n,
                    m,
                    h,
                    window,
                })
            }
            _ => None,
        };
        let same = k.shape() == v.shape()
            && cached_k.shape() == cached_v.shape()
            && x[..5].iter().all(|x| x.dtype() == q.dtype());
        match fits {
            Some(g) if same && window > 0 => Ok(g),
            _ => Err(Error::shape(
                op,
                format!(
                    "q {q:?}, cached k {cached_k:?} and v {cached_v:?}, k {k:?}, v {v:?}, window {window}: expected [t, n, h], \
                     twice [c, m, h] and twice [t, m, h] with n a multiple of m, n and h not 0, one dtype, and a window of at \
                     least 1"
                ),
            )),
        }
    }

    /// 1/sqrt(h).
    pub fn scale<T: Element>(&self) -> T {
        T::from_f64(1.0 / (self.h as f64).sqrt())
    }

    /// Query heads that share a key/value head.
    pub fn group(&self) -> usize {
        self.n / self.m
    }

    /// Shape of q and of what is like it.
    pub fn queries(&self) -> [usize; 3] {
        [self.t, self.n, self.h]
    }

    /// Shapes of the keys, cached and current.
    pub fn keys(&self) -> [[usize; 3]; 2] {
        [[self.c, self.m, self.h], [self.t, self.m, self.h]]
    }

    /// Positions that query i sees.
    pub fn visible(&self, i: usize) -> Range<usize> {
        let position = self.c + i;
        (position + 1).saturating_sub(self.window)..position + 1
    }

    /// True if query i sees one key alone, its own. It has nothing to choose, and the gradients of its scores are zero. The
    /// kernels set them to zero, for what they would compute is the rounding error of dP - D.
    pub fn alone(&self, i: usize) -> bool {
        self.visible(i).len() == 1
    }

    /// Positions that any of these queries sees.
    fn visible_to(&self, rows: &Range<usize>) -> Range<usize> {
        match rows.is_empty() {
            true => self.c..self.c,
            false => self.visible(rows.start).start..self.c + rows.end,
        }
    }

    /// Rows of the cached and of the current keys at these positions.
    pub fn in_sources(&self, positions: Range<usize>) -> [Range<usize>; 2] {
        let (start, end) = (positions.start, positions.end);
        let current = start.max(self.c) - self.c..end - self.c;
        [start.min(self.c)..end.min(self.c), current]
    }

    /// Rows per block: long enough for fast products, short enough that a small window does not drown in masked keys.
    pub fn block_rows(&self) -> usize {
        match self.window {
            0..128 => 32,
            128..2048 => 64,
            _ => 128,
        }
    }

    /// Most keys that a block can see.
    pub fn strip_width(&self) -> usize {
        (self.window.saturating_add(self.block_rows())).min(self.c + self.t)
    }

    /// Rows per block of a kernel that keeps `strips` scores per query and key: as above, and few enough that the strips stay
    /// within their bytes, where that is possible.
    pub fn strip_rows<T>(&self, strips: usize) -> usize {
        let rows = STRIPS / (strips * size_of::<T>() * self.strip_width().max(1));
        let whole = rows / FEWEST_ROWS * FEWEST_ROWS;
        whole.clamp(FEWEST_ROWS, self.block_rows())
    }

    /// Most keys of a tile.
    fn tile_keys<T>(&self) -> usize {
        TILE / (size_of::<T>() * self.block_rows())
    }

    /// Elements of the largest tile.
    pub fn tile_len<T>(&self) -> usize {
        self.block_rows().min(self.t) * self.tile_keys::<T>().min(self.strip_width())
    }

    /// Runs of `size` rows.
    pub fn blocks(rows: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
        let Range { start, end } = rows;
        (start..end)
            .step_by(size)
            .map(move |start| start..(start + size).min(end))
    }

    /// The keys that a block sees: runs of about one size within each source.
    pub fn tiles<T>(&self, block: &Range<usize>) -> impl Iterator<Item = Tile> {
        let sources = self.in_sources(self.visible_to(block));
        let (most, c) = (self.tile_keys::<T>(), self.c);
        sources
            .into_iter()
            .enumerate()
            .flat_map(move |(source, keys)| {
                let count = keys.len().div_ceil(most).max(1);
                let size = keys.len().div_ceil(count).next_multiple_of(16).min(most);
                Self::blocks(keys, size.max(1)).map(move |keys| Tile {
                    source,
                    position: keys.start + source * c,
                    keys,
                })
            })
    }

    /// The keys that a block sees as one tile and their rows in the sources, if both have some and they are few. The rows are to be
    /// put one behind the other.
    pub fn joined_tile(&self, block: &Range<usize>) -> Option<(Tile, [Range<usize>; 2])> {
        let positions = self.visible_to(block);
        let sources = self.in_sources(positions.clone());
        let both = sources.iter().all(|keys| !keys.is_empty());
        (both && positions.len() <= FEW_KEYS).then(|| {
            let tile = Tile {
                source: JOINED,
                position: positions.start,
                keys: 0..positions.len(),
            };
            (tile, sources)
        })
    }

    /// Columns of the tile that query i sees.
    pub fn columns(&self, tile: &Tile, i: usize) -> Range<usize> {
        let seen = self.visible(i);
        let column = |position: usize| position.saturating_sub(tile.position).min(tile.keys.len());
        column(seen.start)..column(seen.end)
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

    /// One row of one query head of a [t, n, h] array.
    pub fn query_row<'a, T>(&self, x: &'a [T], i: usize, head: usize) -> &'a [T] {
        &x[(i * self.n + head) * self.h..][..self.h]
    }

    /// Rows of one key/value head of an array of keys.
    pub fn key_rows<'a, T: Float>(
        &self,
        x: &'a [T],
        keys: &Range<usize>,
        head: usize,
    ) -> Mat<'a, T> {
        let start = (keys.start * self.m + head) * self.h;
        strided(&x[start..], keys.len(), self.h, self.m * self.h)
    }

    /// Small work in one part; else every key/value head is cut into runs of rows.
    fn parts(&self) -> Vec<Part> {
        let part = |rows: Range<usize>, heads: Range<usize>| Part {
            query_heads: heads.start * self.group()..heads.end * self.group(),
            keys: self.in_sources(self.visible_to(&rows)),
            rows,
            heads,
        };
        if self.t * self.n * self.strip_width() < WORTH_SHARING {
            return vec![part(0..self.t, 0..self.m)];
        }
        let fewest = FEWEST_QUERIES.div_ceil(self.group());
        let size = (self.t * self.m).div_ceil(PARTS).max(fewest);
        let size = size.next_multiple_of(self.block_rows());
        (0..self.m)
            .flat_map(|head| Self::blocks(0..self.t, size).map(move |rows| (rows, head..head + 1)))
            .map(|(rows, heads)| part(rows, heads))
            .collect()
    }

    /// Runs `f` for every part, on as many threads as there are; results in a fixed order.
    pub fn for_parts<R: Send>(&self, f: impl Fn(&Part) -> R + Sync + Send) -> Vec<R> {
        let parts = self.parts();
        match parts.len() > 1 && rayon::current_num_threads() > 1 {
            true => parts.par_iter().map(f).collect(),
            false => parts.iter().map(f).collect(),
        }
    }
}
