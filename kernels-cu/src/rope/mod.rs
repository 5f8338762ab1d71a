#![doc = include_str!("README.md")]

use crate::error::{Error, Result};
use crate::launch::{Cost, Launch, View};
use crate::list::Entry;
use crate::program::{DType, Program};

const FILES: &[(&str, &str)] = &[
    ("tile/base.cuh", include_str!("../tile/base.cuh")),
    ("rope.cu", include_str!("rope.cu")),
];

const THREADS: u32 = 128;

/// Pairs of a thread: as many as fill 16 bytes of f32.
fn vector(half: usize) -> usize {
    let widths = [4, 2].into_iter();
    widths
        .filter(|v| half.is_multiple_of(*v))
        .max()
        .unwrap_or(1)
}

fn program(h: usize, dtype: DType) -> Program {
    let constants = [
        ("HALF", (h / 2).to_string()),
        ("VECTOR", vector(h / 2).to_string()),
        ("ELEMENT", dtype.device_name().to_string()),
    ];
    Program::new("rope", FILES, constants)
}

/// y, the turned x [t, n, h], by tables cos and sin [t, h/2] of f32; `inverse` turns back.
///
/// # Errors
/// Arrays of other sizes, an odd h.
pub fn rope(
    [t, n, h]: [usize; 3],
    dtype: DType,
    x: &View,
    [cos, sin]: [&View; 2],
    inverse: bool,
    y: &View,
) -> Result<Launch> {
    let bytes = t * n * h * dtype.bytes();
    let table = t * (h / 2) * 4;
    let fits = [x, y].iter().all(|view| view.bytes() == bytes)
        && [cos, sin].iter().all(|view| view.bytes() == table);
    if h == 0 || !h.is_multiple_of(2) || !fits {
        let message = format!(
            "x {x:?}, y {y:?}, tables {cos:?}, {sin:?} are not [{t}, {n}, {h}] {dtype:?} and [{t}, {h}/2] F32"
        );
        return Err(Error::shape("rope", message));
    }
    let threads = t * (h / 2 / vector(h / 2));
    let blocks = threads.div_ceil(THREADS as usize).max(1);
    let too_many = |_| Error::shape("rope", format!("{t} positions are too many"));
    Ok(Launch {
        program: program(h, dtype),
        entry: "rotate",
        grid: [u32::try_from(blocks).map_err(too_many)?, 1, 1],
        block: [THREADS, 1, 1],
        shared: 0,
        args: vec![
            x.into(),
            cos.into(),
            sin.into(),
            y.into(),
            (t as u64).into(),
            (n as u32).into(),
            (if inverse { -1.0f32 } else { 1.0 }).into(),
        ],
        cost: Cost {
            flops: 0,
            bytes: (2 * bytes + 2 * table) as u64,
        },
    })
}

pub(crate) fn list() -> Vec<Entry> {
    let of = |(h, dtype): (usize, DType)| Entry {
        program: program(h, dtype),
        entry: "rotate",
        variant: format!("h {h} {dtype:?}"),
        threads: THREADS,
        shared: 0,
        registers: 64,
    };
    [(64, DType::F32), (80, DType::BF16), (6, DType::F32)]
        .map(of)
        .into()
}
