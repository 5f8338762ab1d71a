#![doc = include_str!("README.md")]

mod fused;
mod views;

use crate::error::{Error, Result};
use crate::gemm::{Gemm, TileSize, Transpose, Views};
use crate::launch::{Launch, View};
use crate::program::DType;

pub(crate) use fused::list;
pub use views::{Backward, DoubleBackward, Forward};

pub(crate) const NAME: &str = "swiglu_mlp";

/// y = (silu(x G') * (x U')) D' for x [t, d], G and U [ff, d], D [d, ff].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwigluMlp {
    /// Rows.
    pub t: usize,
    /// Width of x and y.
    pub d: usize,
    /// Width between.
    pub ff: usize,
    /// Type of x, the weights and all else but the gradients of weights.
    pub dtype: DType,
    /// Type of the gradients of weights: the same, or f32.
    pub gradients: DType,
    /// The size of tiles; None for what should be the fastest. Other sizes give other bits.
    pub tile: Option<TileSize>,
}

impl SwigluMlp {
    /// All of one type.
    pub fn new([t, d, ff]: [usize; 3], dtype: DType) -> Self {
        SwigluMlp {
            t,
            d,
            ff,
            dtype,
            gradients: dtype,
            tile: None,
        }
    }

    fn rows(&self, width: usize) -> usize {
        self.t * width * self.dtype.bytes()
    }

    /// A product with rows of x, y or what is between as C: [t, n] over k.
    fn wide(&self, transpose: Transpose, n: usize, k: usize) -> Gemm {
        Gemm {
            tile: self.tile,
            ..Gemm::new(transpose, [self.t, n, k], self.dtype)
        }
    }

    /// The gradient of a weight [m, n].
    fn weight(&self, m: usize, n: usize) -> Gemm {
        Gemm {
            output: self.gradients,
            tile: self.tile,
            ..Gemm::new(Transpose::A, [m, n, self.t], self.dtype)
        }
    }

    /// Bytes of workspace that any of the three needs: five matrices [t, ff], and the sums of a product's parts.
    pub fn workspace(&self) -> usize {
        let SwigluMlp { d, ff, .. } = *self;
        let products = [
            self.wide(Transpose::B, d, ff),
            self.wide(Transpose::None, d, ff),
            self.wide(Transpose::None, ff, d),
            self.weight(ff, d),
            self.weight(d, ff),
        ];
        let parts = products.map(|gemm| gemm.workspace(1).max(gemm.workspace(2)));
        5 * self.room() + parts.into_iter().fold(0, usize::max)
    }

    /// Bytes of a matrix [t, ff] in the workspace.
    fn room(&self) -> usize {
        self.rows(self.ff).next_multiple_of(256)
    }

    /// The workspace cut up: five matrices [t, ff] and the rest.
    fn cut(&self, workspace: &View) -> ([View; 5], View) {
        let room = self.room();
        let matrices = std::array::from_fn(|i| workspace.part(i * room, self.rows(self.ff)));
        let rest = workspace.part(5 * room, workspace.bytes() - 5 * room);
        (matrices, rest)
    }

    /// y, g and u.
    ///
    /// # Errors
    /// Views of other sizes.
    pub fn forward(&self, v: &Forward) -> Result<Vec<Launch>> {
        v.check(self)?;
        let ([h, ..], rest) = self.cut(v.workspace);
        let mut launches = self.fused_forward(v, &h);
        let y = self.wide(Transpose::B, self.d, self.ff);
        launches.extend(y.launch(&with(&rest, Views::new(&h, v.down, v.y)))?);
        Ok(launches)
    }

    /// Gradients of x and the weights, those of them that there is room for, and the cache dh.
    ///
    /// # Errors
    /// Views of other sizes; room for a gradient that no cotangent reaches.
    pub fn backward(&self, v: &Backward) -> Result<Vec<Launch>> {
        v.check(self)?;
        let ([dg, du, h, ..], rest) = self.cut(v.workspace);
        let mut launches = self.fused_backward(v, [&dg, &du, &h]);
        // without dy, dg and du are eg and eu
        let [dg, du] = match v.dy {
            Some(_) => [Some(&dg), Some(&du)],
            None => [v.eg, v.eu],
        };
        let [x, gate, up, ..] = v.x;
        if let Some(dx) = v.dx {
            let pairs = [dg.map(|dg| [dg, gate]), du.map(|du| [du, up])];
            let dx_of = self.wide(Transpose::None, self.d, self.ff);
            launches.extend(sum(&dx_of, pairs, dx, &rest)?);
        }
        let ff_d = self.weight(self.ff, self.d);
        for (da, gradient) in [(dg, v.dgate), (du, v.dup)] {
            if let (Some(da), Some(gradient)) = (da, gradient) {
                launches.extend(ff_d.launch(&with(&rest, Views::new(da, x, gradient)))?);
            }
        }
        if let (Some(dy), Some(ddown)) = (v.dy, v.ddown) {
            let d_ff = self.weight(self.d, self.ff);
            launches.extend(d_ff.launch(&with(&rest, Views::new(dy, &h, ddown)))?);
        }
        Ok(launches)
    }

    /// Second derivatives: the cotangents of the backward's inputs, those of them that there is room for.
    ///
    /// # Errors
    /// Views of other sizes; room for a cotangent that is zero.
    pub fn double_backward(&self, v: &DoubleBackward) -> Result<Vec<Launch>> {
        v.check(self)?;
        let ([dg, du, ddh, h, h2], rest) = self.cut(v.workspace);
        let [_, _, _, down, _, _, dy] = v.x;
        let mut launches = vec![];
        if let Some(dddown) = v.dddown {
            let product = self.wide(Transpose::None, self.ff, self.d);
            launches.extend(product.launch(&with(&rest, Views::new(dy, dddown, &h2)))?);
        }
        launches.extend(self.fused_double_backward(v, [&dg, &du, &ddh, &h, &h2]));
        if let Some(dx2) = v.dx2 {
            let pairs = [v.ddgate.map(|w| [&dg, w]), v.ddup.map(|w| [&du, w])];
            let product = self.wide(Transpose::None, self.d, self.ff);
            launches.extend(sum(&product, pairs, dx2, &rest)?);
        }
        let ff_d = self.weight(self.ff, self.d);
        for (da, gradient) in [(&dg, v.dgate2), (&du, v.dup2)] {
            if let (Some(ddx), Some(gradient)) = (v.ddx, gradient) {
                launches.extend(ff_d.launch(&with(&rest, Views::new(da, ddx, gradient)))?);
            }
        }
        if let Some(ddy) = v.ddy {
            let pairs = [Some([&ddh, down]), v.dddown.map(|w| [&h, w])];
            let product = self.wide(Transpose::B, self.d, self.ff);
            launches.extend(sum(&product, pairs, ddy, &rest)?);
        }
        if let Some(ddown2) = v.ddown2 {
            let d_ff = self.weight(self.d, self.ff);
            launches.extend(d_ff.launch(&with(&rest, Views::new(dy, &ddh, ddown2)))?);
        }
        Ok(launches)
    }
}

/// C as the sum of the products that are there, in one kernel.
fn sum(gemm: &Gemm, pairs: [Option<[&View; 2]>; 2], c: &View, rest: &View) -> Result<Vec<Launch>> {
    let mut pairs = pairs.into_iter().flatten();
    let Some([a, b]) = pairs.next() else {
        return Err(Error::shape(NAME, "room for a sum of no products"));
    };
    let views = Views {
        second: pairs.next(),
        ..Views::new(a, b, c)
    };
    gemm.launch(&with(rest, views))
}

fn with<'v>(rest: &'v View, views: Views<'v>) -> Views<'v> {
    Views {
        workspace: Some(rest),
        ..views
    }
}
