//! Backward.

use super::files::{BASE, COPY, MMA, NUMBERS, ROWS, WINDOW};
use super::shape::{Kernel, Shape};
use super::{Caches, Inputs, Sizes, bytes, offset};
use crate::error::Result;
use crate::launch::{Arg, Cost, Launch, View};
use crate::list::Entry;
use crate::program::{DType, Program};

pub(super) const QUERIES: Kernel = Kernel {
    entry: "swa_attention_backward_rows",
    files: &[
        BASE,
        COPY,
        MMA,
        ROWS,
        WINDOW,
        NUMBERS,
        ("backward_rows.cu", include_str!("backward_rows.cu")),
    ],
    shape: row_shape,
    own: 2,
    other: 2,
    numbers: 0,
};

pub(super) const KEYS: Kernel = Kernel {
    entry: "swa_attention_backward_columns",
    files: &[
        BASE,
        COPY,
        MMA,
        ROWS,
        WINDOW,
        NUMBERS,
        ("backward_columns.cu", include_str!("backward_columns.cu")),
    ],
    shape: column_shape,
    own: 2,
    other: 2,
    numbers: 2,
};

fn row_shape(dtype: DType, h: usize) -> Shape {
    let common = Shape {
        warps: 8,
        count: 1,
        tile: 64,
        step: 32,
        held: h <= 96,
        parts: 1,
        blocks: 1,
    };
    match (dtype, h) {
        (DType::BF16, ..=80) => Shape {
            warps: 4,
            count: 2,
            step: 16,
            parts: 1,
            blocks: 2,
            ..common
        },
        (DType::BF16, ..=96) => common,
        (DType::BF16, _) => Shape { tile: 32, ..common },
        (DType::F32, _) => Shape {
            warps: 4,
            tile: 16,
            step: 16,
            held: false,
            ..common
        },
    }
}

fn column_shape(dtype: DType, h: usize) -> Shape {
    let common = Shape {
        warps: 8,
        count: 1,
        tile: 64,
        step: 32,
        held: h <= 80,
        parts: 1,
        blocks: 1,
    };
    match (dtype, h) {
        (DType::BF16, ..=64) => Shape {
            warps: 4,
            count: 2,
            tile: 32,
            step: 16,
            held: false,
            blocks: 2,
            ..common
        },
        (DType::BF16, ..=96) => common,
        (DType::BF16, _) => Shape { tile: 32, ..common },
        (DType::F32, _) => Shape {
            warps: 4,
            tile: 16,
            step: 16,
            held: false,
            parts: if h <= 96 { 1 } else { 2 },
            ..common
        },
    }
}

const SUMS: &str = "row_sums";
const SUM_THREADS: u32 = 128;
/// Rows of a block, four threads each.
const SUM_ROWS: usize = 32;

fn sums_program(dtype: DType, h: usize) -> Program {
    let files = &[BASE, ("row_sums.cu", include_str!("row_sums.cu"))];
    let element = dtype.device_name().to_string();
    Program::new(
        "swa_attention_row_sums",
        files,
        [("ELEMENT", element), ("HEAD", h.to_string())],
    )
}

pub(super) fn list_sums(dtype: DType, h: usize) -> Entry {
    Entry {
        program: sums_program(dtype, h),
        entry: SUMS,
        variant: format!("{dtype:?} head {h}"),
        threads: SUM_THREADS,
        shared: 0,
        registers: 64,
    }
}

/// What the other kernels want to know of rows, into `rows`.
pub(super) fn row_sums(sizes: &Sizes, do_: &View, caches: &Caches, rows: &View) -> Launch {
    let Sizes { dtype, t, n, h, .. } = *sizes;
    let [t32, n32, pitch] = [t, n, sizes.pitch()].map(|x| x as u32);
    Launch {
        program: sums_program(dtype, h),
        entry: SUMS,
        grid: [sizes.pitch().div_ceil(SUM_ROWS).max(1) as u32, n32, 1],
        block: [SUM_THREADS, 1, 1],
        shared: 0,
        args: vec![
            do_.into(),
            caches.o.into(),
            caches.lse.into(),
            rows.into(),
            t32.into(),
            n32.into(),
            pitch.into(),
        ],
        cost: Cost {
            flops: 0,
            bytes: bytes([do_, caches.o, caches.lse, rows].map(Some)),
        },
    }
}

/// Bytes of the workspace of [`backward`].
pub fn backward_workspace(sizes: &Sizes) -> usize {
    sizes.numbers()
}

/// Those of the cotangents [dq, dk and dv of the cache, dk, dv] that have a view, for the cotangent do of o: each is shaped like what it
/// belongs to. Cached keys that are constants cost 3 products each instead of 5. `workspace` has [`backward_workspace`] bytes, which
/// may be used again when the launches have run, in their order.
///
/// # Errors
/// Sizes that the kernels do not take, views of other sizes.
pub fn backward(
    sizes: &Sizes,
    x: &Inputs,
    do_: &View,
    caches: &Caches,
    d: [Option<&View>; 5],
    workspace: &View,
) -> Result<Vec<Launch>> {
    sizes.expect_inputs(x)?;
    sizes.expect_queries("do", do_)?;
    sizes.expect_caches(caches)?;
    sizes.expect_like_inputs("the cotangent of", d)?;
    sizes.expect("workspace", workspace, backward_workspace(sizes), 1)?;
    let [dq, keys @ ..] = d;
    let pitch = Arg::U32(sizes.pitch() as u32);
    let mut launches = vec![row_sums(sizes, do_, caches, workspace)];
    if let Some(dq) = dq {
        let all = x.all().into_iter().chain([do_, workspace, dq]);
        let cost = Cost {
            flops: sizes.flops([3, 3]),
            bytes: bytes(all.clone().map(Some)),
        };
        let args = all.map(Arg::from).chain([pitch.clone()]).collect();
        launches.push(QUERIES.launch(sizes, sizes.t, sizes.n, args, cost));
    }
    let sources = [
        (x.cached, [keys[0], keys[1]]),
        (x.current, [keys[2], keys[3]]),
    ];
    for (source, ([k, v], [dk, dv])) in sources.into_iter().enumerate() {
        let count = [sizes.c, sizes.t][source];
        let wanted = [dk, dv].into_iter().flatten().count() as u64;
        if wanted == 0 || count == 0 {
            continue;
        }
        // the row pass has made the scores already, if there was one
        let products = wanted + if dq.is_some() { 0 } else { 2 };
        let all = [
            Some(x.q),
            Some(k),
            Some(v),
            Some(do_),
            Some(workspace),
            dk,
            dv,
        ];
        let cost = Cost {
            flops: sizes.flops([0, 1].map(|s| if s == source { products } else { 0 })),
            bytes: bytes(all),
        };
        let numbers = [count, offset(sizes, source)].map(|x| Arg::U32(x as u32));
        let numbers = numbers.into_iter().chain([pitch.clone()]);
        let args = all.into_iter().map(Arg::from).chain(numbers).collect();
        launches.push(KEYS.launch(sizes, count, sizes.m, args, cost));
    }
    Ok(launches)
}
