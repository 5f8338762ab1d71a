#![doc = include_str!("README.md")]

mod backward;
mod double_backward;
mod files;
mod forward;
mod shape;

pub use backward::{backward, backward_workspace};
pub use double_backward::{double_backward, double_backward_workspace};
pub use forward::forward;

use crate::error::{Error, Result};
use crate::launch::{Arg, View};
use crate::list::Entry;
use crate::program::DType;

const NAME: &str = "swa_attention";

/// Sizes of one attention: queries q [t, n, h] over `cached` keys and values [c, m, h] and current ones [t, m, h].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Type of all arrays but lse, which is f32.
    pub dtype: DType,
    /// Queries, and current keys.
    pub t: usize,
    /// Cached keys, which come before the current ones; may be 0.
    pub c: usize,
    /// Query heads, a multiple of m.
    pub n: usize,
    /// Key/value heads.
    pub m: usize,
    /// Head size, a multiple of 8, at most 128.
    pub h: usize,
    /// Elements of a head, of which scores are scaled by 1 / sqrt: h, or fewer if the rest of each head is zeros.
    pub used: usize,
    /// Positions that a query sees, its own included.
    pub window: usize,
}

/// The inputs of the forward op, in its order.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// [t, n, h].
    pub q: &'a View,
    /// k and v [c, m, h].
    pub cached: [&'a View; 2],
    /// k and v [t, m, h].
    pub current: [&'a View; 2],
}

/// What the forward op leaves for the backward ones.
#[derive(Debug, Clone, Copy)]
pub struct Caches<'a> {
    /// [t, n, h].
    pub o: &'a View,
    /// [t, n], f32.
    pub lse: &'a View,
}

impl<'a> Inputs<'a> {
    /// In the order of the op's inputs.
    fn all(&self) -> [&'a View; 5] {
        let ([cached_k, cached_v], [k, v]) = (self.cached, self.current);
        [self.q, cached_k, cached_v, k, v]
    }
}

/// Bytes of those views that are there.
fn bytes<'a>(views: impl IntoIterator<Item = Option<&'a View>>) -> u64 {
    let there = views.into_iter().flatten();
    there.map(|view| view.bytes() as u64).sum()
}

/// Position of the first of the cached (0) or current (1) keys.
fn offset(sizes: &Sizes, source: usize) -> usize {
    source * sizes.c
}

impl Sizes {
    /// An error unless the kernels take these sizes.
    fn check(&self) -> Result<()> {
        let Sizes {
            t,
            c,
            n,
            m,
            h,
            used,
            window,
            ..
        } = *self;
        let heads = m > 0 && n > 0 && n % m == 0 && n < 1 << 16;
        let head = used > 0 && used <= h && h % 8 == 0 && h <= 128;
        // positions are signed numbers of 32 bits, and so are strides
        let counts = t < 1 << 28 && c < 1 << 28 && n * h < 1 << 28;
        match heads && head && counts && window > 0 {
            true => Ok(()),
            false => Err(Error::shape(
                NAME,
                format!(
                    "{self:?}: expected n a multiple of m, h a multiple of 8 of at most 128, a window of at least 1, and less than 2^28 \
                     positions"
                ),
            )),
        }
    }

    /// An error unless a view has `elements` elements of `bytes` bytes.
    fn expect(&self, name: &str, view: &View, elements: usize, bytes: usize) -> Result<()> {
        match view.bytes() == elements * bytes {
            true => Ok(()),
            false => Err(Error::shape(
                NAME,
                format!(
                    "{name} {view:?} is not {elements} elements of {bytes} bytes, for {self:?}"
                ),
            )),
        }
    }

    fn expect_caches(&self, caches: &Caches) -> Result<()> {
        self.expect_queries("o", caches.o)?;
        self.expect("lse", caches.lse, self.t * self.n, 4)
    }

    /// Views like q, k and v of the cache, k and v, where they are there.
    fn expect_like_inputs(&self, what: &str, views: [Option<&View>; 5]) -> Result<()> {
        let names = ["q", "cached k", "cached v", "k", "v"];
        for (i, (name, view)) in names.into_iter().zip(views).enumerate() {
            let rows = [self.t * self.n, self.c * self.m, self.t * self.m][i.div_ceil(2)];
            if let Some(view) = view {
                let name = format!("{what} {name}");
                self.expect(&name, view, rows * self.h, self.dtype.bytes())?;
            }
        }
        Ok(())
    }

    /// Rows of arrays with two numbers for each query, which begin at a multiple of 16 bytes for each head.
    fn pitch(&self) -> usize {
        self.t.next_multiple_of(2)
    }

    /// Bytes of such an array.
    fn numbers(&self) -> usize {
        self.n * self.pitch() * 8
    }

    fn expect_queries(&self, name: &str, view: &View) -> Result<()> {
        self.expect(name, view, self.t * self.n * self.h, self.dtype.bytes())
    }

    fn expect_cached(&self, name: &str, view: &View) -> Result<()> {
        self.expect(name, view, self.c * self.m * self.h, self.dtype.bytes())
    }

    fn expect_current(&self, name: &str, view: &View) -> Result<()> {
        self.expect(name, view, self.t * self.m * self.h, self.dtype.bytes())
    }

    fn expect_inputs(&self, x: &Inputs) -> Result<()> {
        self.check()?;
        self.expect_queries("q", x.q)?;
        for (name, cached, current) in [
            ("k", x.cached[0], x.current[0]),
            ("v", x.cached[1], x.current[1]),
        ] {
            self.expect_cached(&format!("cached {name}"), cached)?;
            self.expect_current(name, current)?;
        }
        Ok(())
    }

    /// The arguments that say who sees what.
    fn args(&self) -> [Arg; 6] {
        let window = self.window.min(self.c + self.t);
        let [t, c, n, m, window] = [self.t, self.c, self.n, self.m, window].map(|x| x as u32);
        let scale = (1.0 / (self.used as f64).sqrt()) as f32;
        [t, c, n, m, window]
            .map(Arg::U32)
            .into_iter()
            .chain([Arg::F32(scale)])
            .collect::<Vec<_>>()
            .try_into()
            .expect("six of them")
    }

    /// Pairs of a query and a key that it sees, of all query heads: cached keys and current ones.
    fn pairs(&self) -> [u64; 2] {
        let of = |i: usize| {
            let seen = self.window.min(self.c + i + 1);
            let current = self.window.min(i + 1);
            [seen - current, current]
        };
        let sums = (0..self.t)
            .map(of)
            .fold([0, 0], |[a, b], [x, y]| [a + x, b + y]);
        sums.map(|pairs| (pairs * self.n) as u64)
    }

    /// Operations of matrix products: so many per pair with a cached key and with a current one.
    fn flops(&self, [cached, current]: [u64; 2]) -> u64 {
        let [a, b] = self.pairs();
        2 * self.h as u64 * (a * cached + b * current)
    }
}

/// Head sizes of published models and of small ones; others are compiled when they are asked for.
const HEADS: [usize; 4] = [64, 80, 96, 128];

pub(crate) fn list() -> Vec<Entry> {
    let kernels = [
        forward::FORWARD,
        backward::QUERIES,
        backward::KEYS,
        double_backward::SUMS,
        double_backward::QUERIES,
        double_backward::KEYS,
    ];
    let variants = DType::ALL
        .into_iter()
        .flat_map(|dtype| HEADS.map(|h| (dtype, h)));
    let of = |(dtype, h)| {
        let sums = backward::list_sums(dtype, h);
        kernels
            .iter()
            .map(move |k| k.list(dtype, h))
            .chain([sums])
            .collect::<Vec<_>>()
    };
    variants.flat_map(of).collect()
}
