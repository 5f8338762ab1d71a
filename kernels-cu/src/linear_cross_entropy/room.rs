//! How the workspace is used.

use crate::gemm::Views;
use crate::launch::View;
use crate::program::DType;

use super::Shape;

/// Parts of the workspace.
pub(super) struct Room {
    /// Two tiles of f32: logits, and the products of cotangents.
    pub wide: [View; 2],
    /// Two tiles of elements: factors of the products that follow. Of f32, they lie where the wide ones do.
    factors: [View; 2],
    factor_bytes: usize,
    /// [t, d] of f32: sums over tiles of what is rounded in the end.
    pub sums: View,
    /// Two numbers a row.
    pub rows: [View; 2],
    /// What the products need.
    gemm: View,
}

/// Parts begin at multiples of this.
const ALIGNMENT: usize = 256;

impl Room {
    /// Sizes of the parts: a wide tile, a tile of elements, sums, a number a row, what the products need.
    fn sizes(s: &Shape) -> [usize; 5] {
        let tile = s.t * s.columns();
        let (factor, sums) = match s.dtype {
            DType::F32 => (0, 0),
            DType::BF16 => (2 * tile, 4 * s.t * s.d),
        };
        // the last tile may be narrower, and its products cut in another way
        let widths = s.tiles().map(|(_, c)| c);
        let gemm = widths.flat_map(|c| {
            [
                s.logits(c).workspace(1),
                s.by_x(0, c).workspace(1),
                s.by_x(0, c).workspace(2),
                s.by_w(c).workspace(1),
                s.by_w(c).workspace(2),
            ]
        });
        let sizes = [4 * tile, factor, sums, 4 * s.t, gemm.max().unwrap_or(0)];
        sizes.map(|bytes| bytes.next_multiple_of(ALIGNMENT))
    }

    /// Bytes of all.
    pub fn bytes(s: &Shape) -> usize {
        let [wide, factor, sums, row, gemm] = Self::sizes(s);
        2 * (wide + factor + row) + sums + gemm
    }

    /// Cuts a workspace of that many bytes.
    pub fn new(s: &Shape, workspace: &View) -> Self {
        let [wide, factor, sums, row, gemm] = Self::sizes(s);
        let mut at = 0;
        let mut take = |bytes: usize| {
            at += bytes;
            workspace.part(at - bytes, bytes)
        };
        let wide = [take(wide), take(wide)];
        let factors = match s.dtype {
            DType::F32 => wide.clone(),
            DType::BF16 => [take(factor), take(factor)],
        };
        Room {
            wide,
            factors,
            factor_bytes: s.dtype.bytes(),
            sums: take(sums).part(0, if sums == 0 { 0 } else { 4 * s.t * s.d }),
            rows: [take(row), take(row)].map(|view| view.part(0, 4 * s.t)),
            gemm: take(gemm),
        }
    }

    /// Room for n elements that are a factor.
    pub fn factor(&self, i: usize, n: usize) -> View {
        self.factors[i].part(0, n * self.factor_bytes)
    }

    /// Memory of a product.
    pub fn views<'v>(&'v self, a: &'v View, b: &'v View, c: &'v View) -> Views<'v> {
        Views {
            workspace: Some(&self.gemm),
            ..Views::new(a, b, c)
        }
    }
}
