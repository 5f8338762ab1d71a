#![doc = include_str!("README.md")]

mod fused;

use crate::error::{Error, Result};
use crate::launch::{Arg, Cost, Launch, View};
use crate::list::Entry;
use crate::program::{DType, Program};

pub use fused::{
    FastMatrix, Room, clipped_update, clipped_workspace, gradient_parts, unclipped_update,
};

const NAME: &str = "inner_update";

const FILES: &[(&str, &str)] = &[
    ("tile/base.cuh", include_str!("../tile/base.cuh")),
    ("tile/reduce.cuh", include_str!("../tile/reduce.cuh")),
    ("tile/fours.cuh", include_str!("../tile/fours.cuh")),
    ("inner_update.cu", include_str!("inner_update.cu")),
];

const THREADS: u32 = 256;

/// Fours of elements that a thread of `dot` adds up.
const DOT_FOURS: usize = 4;

/// Types of weights and of gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Types {
    /// Of weights, and of the second factor of a dot product.
    pub weight: DType,
    /// Of gradients, and of the first factor of a dot product.
    pub gradient: DType,
}

impl Types {
    /// The pairs there are kernels for.
    pub const ALL: [Types; 3] = [
        Types::new(DType::F32, DType::F32),
        Types::new(DType::F32, DType::BF16),
        Types::new(DType::BF16, DType::BF16),
    ];

    /// Types of weights and gradients.
    pub const fn new(weight: DType, gradient: DType) -> Self {
        Types { weight, gradient }
    }

    fn program(self) -> Program {
        let constants = [
            ("WEIGHT", self.weight.device_name().to_string()),
            ("GRADIENT", self.gradient.device_name().to_string()),
            ("THREADS", THREADS.to_string()),
            ("FOURS", DOT_FOURS.to_string()),
        ];
        Program::new(NAME, FILES, constants)
    }
}

/// Fails for the first view that has not so many bytes.
fn check(views: &[(&str, Option<&View>, usize)]) -> Result<()> {
    for (name, view, bytes) in views {
        if let Some(view) = view
            && view.bytes() != *bytes
        {
            let message = format!("{name} has {} bytes, not {bytes}", view.bytes());
            return Err(Error::shape(NAME, message));
        }
    }
    Ok(())
}

/// A launch of so many blocks.
fn launch(
    types: Types,
    entry: &'static str,
    blocks: usize,
    args: Vec<Arg>,
    bytes: usize,
) -> Result<Launch> {
    let blocks = u32::try_from(blocks.max(1));
    let blocks = blocks.map_err(|_| Error::shape(NAME, "more than 2^32 blocks"))?;
    Ok(Launch {
        program: types.program(),
        entry,
        grid: [blocks, 1, 1],
        block: [THREADS, 1, 1],
        shared: 0,
        args,
        cost: Cost {
            flops: 0,
            bytes: bytes as u64,
        },
    })
}

/// 1 if n and all addresses are multiples that let four elements be read at once.
fn whole(n: usize, views: &[&View]) -> Arg {
    let aligned = views.iter().all(|view| view.address().is_multiple_of(16));
    u32::from(n.is_multiple_of(4) && aligned).into()
}

/// How many partial sums a dot product of n elements has.
pub fn dot_parts(n: usize) -> usize {
    n.div_ceil(4 * DOT_FOURS * THREADS as usize).max(1)
}

/// Partial sums of `a[i] b[i]` for n elements; `parts` has room for [`dot_parts`] f32. With a = b, of squares.
///
/// # Errors
/// Views of other sizes.
pub fn dot(types: Types, n: usize, a: &View, b: &View, parts: &View) -> Result<Launch> {
    let bytes = [n * types.gradient.bytes(), n * types.weight.bytes()];
    check(&[
        ("a", Some(a), bytes[0]),
        ("b", Some(b), bytes[1]),
        ("the room for partial sums", Some(parts), dot_parts(n) * 4),
    ])?;
    let args = vec![
        a.into(),
        b.into(),
        parts.into(),
        (n as u64).into(),
        whole(n, &[a, b]),
    ];
    launch(types, "dot", dot_parts(n), args, bytes[0] + bytes[1])
}

/// out = factor times the sum of partial sums (f32, any number), in an order that their number alone decides; out is one f32.
///
/// # Errors
/// Views of other sizes.
pub fn sum(parts: &View, out: &View, factor: f32) -> Result<Launch> {
    let n = parts.bytes() / 4;
    check(&[
        ("partial sums", Some(parts), n * 4),
        ("the sum", Some(out), 4),
    ])?;
    let args = vec![parts.into(), out.into(), (n as u32).into(), factor.into()];
    launch(Types::ALL[0], "sum", 1, args, parts.bytes() + 4)
}

/// step = [s, norm] in f32, for partial sums of squares of all gradients: s = eta min(1, c / norm), or eta if c is 0.
///
/// # Errors
/// Views of other sizes.
pub fn clip(parts: &View, step: &View, eta: f32, c: f32) -> Result<Launch> {
    let n = parts.bytes() / 4;
    check(&[
        ("partial sums", Some(parts), n * 4),
        ("the step", Some(step), 8),
    ])?;
    let args = vec![
        parts.into(),
        step.into(),
        (n as u32).into(),
        eta.into(),
        c.into(),
    ];
    launch(Types::ALL[0], "clip", 1, args, parts.bytes() + 8)
}

/// out = w - s g for n elements and one f32 s on the device, and out once more in bf16 if there is room; out may be w.
///
/// # Errors
/// Views of other sizes.
pub fn sgd_update(
    types: Types,
    n: usize,
    [w, g, s]: [&View; 3],
    out: &View,
    shadow: Option<&View>,
) -> Result<Launch> {
    let [weight, gradient] = [n * types.weight.bytes(), n * types.gradient.bytes()];
    check(&[
        ("w", Some(w), weight),
        ("g", Some(g), gradient),
        ("s", Some(s), 4),
        ("the result", Some(out), weight),
        ("its shadow", shadow, n * 2),
    ])?;
    let views: Vec<&View> = [w, g, out].into_iter().chain(shadow).collect();
    let args = vec![
        w.into(),
        g.into(),
        s.into(),
        out.into(),
        shadow.into(),
        (n as u64).into(),
        whole(n, &views),
    ];
    let bytes = 2 * weight + gradient + shadow.map_or(0, View::bytes);
    launch(
        types,
        "update",
        n.div_ceil(4 * THREADS as usize),
        args,
        bytes,
    )
}

/// out = factor s x for n elements and one f32 s on the device; x has the gradients' type, out the weights'.
///
/// # Errors
/// Views of other sizes.
pub fn times(
    types: Types,
    n: usize,
    s: &View,
    x: &View,
    out: &View,
    factor: f32,
) -> Result<Launch> {
    let [to, from] = [n * types.weight.bytes(), n * types.gradient.bytes()];
    check(&[
        ("s", Some(s), 4),
        ("x", Some(x), from),
        ("the result", Some(out), to),
    ])?;
    let args = vec![
        s.into(),
        x.into(),
        out.into(),
        (n as u64).into(),
        factor.into(),
        whole(n, &[x, out]),
    ];
    launch(
        types,
        "times",
        n.div_ceil(4 * THREADS as usize),
        args,
        to + from,
    )
}

pub(crate) fn list() -> Vec<Entry> {
    let of = |types: Types| {
        ["dot", "sum", "clip", "update", "times"].map(|entry| Entry {
            program: types.program(),
            entry,
            variant: format!("weights {:?}, gradients {:?}", types.weight, types.gradient),
            threads: THREADS,
            shared: 0,
            registers: 40,
        })
    };
    Types::ALL.into_iter().flat_map(of).collect()
}
