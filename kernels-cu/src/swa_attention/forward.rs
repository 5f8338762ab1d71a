//! Forward.

use super::files::{BASE, COPY, MMA, ROWS, WINDOW};
use super::shape::{Kernel, Shape};
use super::{Inputs, Sizes, bytes};
use crate::error::Result;
use crate::launch::{Cost, Launch, View};
use crate::program::DType;

pub(super) const FORWARD: Kernel = Kernel {
    entry: "swa_attention_forward",
    files: &[
        BASE,
        COPY,
        MMA,
        ROWS,
        WINDOW,
        ("forward.cu", include_str!("forward.cu")),
    ],
    shape,
    own: 1,
    other: 2,
    numbers: 0,
};

fn shape(dtype: DType, h: usize) -> Shape {
    let common = Shape {
        warps: 4,
        count: 2,
        tile: 64,
        step: 64,
        held: true,
        parts: 1,
        blocks: 2,
    };
    match (dtype, h) {
        (DType::BF16, ..=80) => common,
        (DType::BF16, _) => Shape {
            tile: 32,
            step: 32,
            held: h <= 96,
            ..common
        },
        (DType::F32, _) => Shape {
            count: 1,
            tile: 32,
            step: if h <= 96 { 32 } else { 16 },
            held: false,
            parts: 1,
            blocks: 1,
            ..common
        },
    }
}

/// o [t, n, h] = softmax(q k' / sqrt(h)) v over the keys that each query sees, and lse [t, n], the natural logarithm of the sum of each
/// softmax, in f32.
///
/// # Errors
/// Sizes that the kernels do not take, views of other sizes.
pub fn forward(sizes: &Sizes, x: &Inputs, o: &View, lse: &View) -> Result<Launch> {
    sizes.expect_inputs(x)?;
    sizes.expect_queries("o", o)?;
    sizes.expect("lse", lse, sizes.t * sizes.n, 4)?;
    let all = x.all().into_iter().chain([o, lse]);
    let cost = Cost {
        flops: sizes.flops([2, 2]),
        bytes: bytes(all.clone().map(Some)),
    };
    let args = all.map(Into::into).collect();
    Ok(FORWARD.launch(sizes, sizes.t, sizes.n, args, cost))
}
