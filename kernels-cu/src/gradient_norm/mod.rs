#![doc = include_str!("README.md")]

use crate::error::{Error, Result};
use crate::launch::{Arg, Cost, Launch, View};
use crate::list::Entry;
use crate::program::{DType, Program};

const NAME: &str = "gradient_norm";

const FILES: &[(&str, &str)] = &[
    ("tile/base.cuh", include_str!("../tile/base.cuh")),
    ("tile/fours.cuh", include_str!("../tile/fours.cuh")),
    ("gradient_norm.cu", include_str!("gradient_norm.cu")),
];

const THREADS: u32 = 256;
/// Threads of the one block that adds parts.
const CLIP_THREADS: u32 = 1024;
/// Elements of a block, at least.
const SHARE: usize = 16384;
/// Parts of an array, at most: blocks enough to keep the memory of an A100 busy.
const PARTS: usize = 256;

/// How many partial results an array of n elements has; each takes 8 bytes.
pub fn parts(n: usize) -> usize {
    n.div_ceil(SHARE).clamp(1, PARTS)
}

fn program(dtype: DType) -> Program {
    Program::new(NAME, FILES, [("ELEMENT", dtype.device_name().to_string())])
}

/// Fails for a view that has not so many bytes.
fn check(what: &str, view: &View, bytes: usize) -> Result<()> {
    match view.bytes() == bytes {
        true => Ok(()),
        false => {
            let message = format!("{what} has {} bytes, not {bytes}", view.bytes());
            Err(Error::shape(NAME, message))
        }
    }
}

/// A launch over an array of n elements, with room for its [`parts`].
fn over(entry: &'static str, dtype: DType, n: usize, x: &View, room: &View) -> Result<Launch> {
    check("x", x, n * dtype.bytes())?;
    check("the room for parts", room, 8 * parts(n))?;
    let whole = n.is_multiple_of(4) && x.address().is_multiple_of(16);
    Ok(Launch {
        program: program(dtype),
        entry,
        grid: [parts(n) as u32, 1, 1],
        block: [THREADS, 1, 1],
        shared: 0,
        args: vec![
            x.into(),
            room.into(),
            (n as u64).into(),
            u32::from(whole).into(),
        ],
        cost: Cost {
            flops: 0,
            bytes: (x.bytes() + room.bytes()) as u64,
        },
    })
}

/// A launch that makes one result of parts of 8 bytes.
fn of_parts(
    entry: &'static str,
    threads: u32,
    room: &View,
    result: &View,
    more: Option<Arg>,
) -> Result<Launch> {
    let n = room.bytes() / 8;
    check("the parts", room, n * 8)?;
    check("the result", result, 8)?;
    let count = u32::try_from(n);
    let count = count.map_err(|_| Error::shape(NAME, format!("{n} parts are too many")))?;
    let args = [room.into(), result.into(), count.into()];
    Ok(Launch {
        program: program(DType::F32),
        entry,
        grid: [1, 1, 1],
        block: [threads, 1, 1],
        shared: 0,
        args: args.into_iter().chain(more).collect(),
        cost: Cost {
            flops: 0,
            bytes: (room.bytes() + 8) as u64,
        },
    })
}

/// Partial sums of the squares of n elements, f64, to `room` of [`parts`] of them.
///
/// # Errors
/// Views of other sizes.
pub fn squares(dtype: DType, n: usize, x: &View, room: &View) -> Result<Launch> {
    over("squares", dtype, n, x, room)
}

/// result = [min(1, c / norm), norm] in f32, for the partial sums of squares of any number of arrays, side by side; the factor is 1 if c
/// is 0. The norm is NaN or infinite where an element is.
///
/// # Errors
/// Views of other sizes.
pub fn clip(room: &View, result: &View, c: f32) -> Result<Launch> {
    of_parts("clip", CLIP_THREADS, room, result, Some(c.into()))
}

/// result = place of the first of n elements that is NaN or infinite, a u64; all bits set if there is none. `room` is for [`parts`] u64.
///
/// # Errors
/// Views of other sizes.
pub fn first_non_finite(
    dtype: DType,
    n: usize,
    x: &View,
    room: &View,
    result: &View,
) -> Result<[Launch; 2]> {
    let blocks = over("first_of_blocks", dtype, n, x, room)?;
    Ok([blocks, of_parts("first_of_parts", 32, room, result, None)?])
}

pub(crate) fn list() -> Vec<Entry> {
    let of = |dtype: DType| {
        let entry = move |entry, threads| Entry {
            program: program(dtype),
            entry,
            variant: format!("{dtype:?}"),
            threads,
            shared: 0,
            registers: 40,
        };
        let mut all = vec![entry("squares", THREADS), entry("first_of_blocks", THREADS)];
        if dtype == DType::F32 {
            all.extend([entry("clip", CLIP_THREADS), entry("first_of_parts", 32)]);
        }
        all
    };
    DType::ALL.into_iter().flat_map(of).collect()
}
