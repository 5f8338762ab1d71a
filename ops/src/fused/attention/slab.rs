//! What one part of the work contributes to an array [rows, heads, h].

use std::ops::Range;

use crate::buffer::Buffer;
use crate::dtype::Float;
use crate::gemm::{Into, Mat, gemm_strided};
use crate::{Tensor, par};

/// Some rows of some heads.
pub(super) struct Slab<T: Float> {
    x: Buffer<T>,
    rows: Range<usize>,
    heads: Range<usize>,
    h: usize,
}

impl<T: Float> Slab<T> {
    /// With unspecified contents.
    pub fn scratch(rows: &Range<usize>, heads: &Range<usize>, h: usize) -> Self {
        Slab {
            x: Buffer::scratch(rows.len() * heads.len() * h),
            rows: rows.clone(),
            heads: heads.clone(),
            h,
        }
    }

    /// All zeros.
    pub fn zeros(rows: &Range<usize>, heads: &Range<usize>, h: usize) -> Self {
        let mut slab = Self::scratch(rows, heads, h);
        slab.x.fill(T::ZERO);
        slab
    }

    fn start(&self, row: usize, head: usize) -> usize {
        ((row - self.rows.start) * self.heads.len() + head - self.heads.start) * self.h
    }

    /// One row of one head.
    pub fn row(&mut self, row: usize, head: usize) -> &mut [T] {
        let start = self.start(row, head);
        &mut self.x[start..][..self.h]
    }

    /// The rows of one head from `row` on become, or gain, the rows of a b.
    pub fn product(&mut self, row: usize, head: usize, into: Into, a: Mat<'_, T>, b: Mat<'_, T>) {
        let start = self.start(row, head);
        let stride = self.heads.len() * self.h;
        gemm_strided(&mut self.x[start..], stride, into, T::ONE, a, b);
    }
}

/// Puts the results of the parts together, in order: where slabs overlap they are added. Result i has shape `shapes[i]`, or is
/// `None` if no part has it.
pub(super) fn join<T: Float, const N: usize>(
    parts: Vec<[Option<Slab<T>>; N]>,
    shapes: [[usize; 3]; N],
) -> [Option<Tensor>; N] {
    let mut results = [const { vec![] }; N];
    for part in parts {
        for (slabs, slab) in results.iter_mut().zip(part) {
            slabs.extend(slab);
        }
    }
    let mut shapes = shapes.into_iter();
    results.map(|slabs| {
        let shape = shapes.next().expect("a shape for each result");
        (!slabs.is_empty()).then(|| sum(shape, slabs))
    })
}

fn sum<T: Float>(shape: [usize; 3], mut slabs: Vec<Slab<T>>) -> Tensor {
    let [rows, heads, h] = shape;
    if let [one] = &slabs[..]
        && (one.rows.len(), one.heads.len()) == (rows, heads)
        && let Some(one) = slabs.pop()
    {
        return Tensor::from_buffer(&shape, one.x);
    }
    let width = heads * h;
    Tensor::build(&shape, |out: &mut [T]| {
        par::pieces(out, width, 1, |first, out| {
            out.fill(T::ZERO);
            let end = first + out.len() / width;
            for slab in &slabs {
                let part = slab.heads.len() * h;
                for row in slab.rows.start.max(first)..slab.rows.end.min(end) {
                    let from = &slab.x[(row - slab.rows.start) * part..][..part];
                    let to = &mut out[(row - first) * width + slab.heads.start * h..][..part];
                    for (to, from) in to.iter_mut().zip(from) {
                        *to += *from;
                    }
                }
            }
        });
    })
}
