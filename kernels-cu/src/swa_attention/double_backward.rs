//! Double backward.

use super::backward::row_sums;
use super::files::{BASE, COPY, File, MMA, NUMBERS, ROWS, WINDOW};
use super::shape::{Kernel, Shape};
use super::{Caches, Inputs, Sizes, bytes, offset};
use crate::error::Result;
use crate::launch::{Arg, Cost, Launch, View};
use crate::program::DType;

const COMMON: File = ("double_backward.cuh", include_str!("double_backward.cuh"));
const BLOCK: File = ("query_block.cuh", include_str!("query_block.cuh"));

pub(super) const SUMS: Kernel = Kernel {
    entry: "swa_attention_double_backward_sums",
    files: &[
        BASE,
        COPY,
        MMA,
        ROWS,
        WINDOW,
        NUMBERS,
        COMMON,
        BLOCK,
        (
            "double_backward_sums.cu",
            include_str!("double_backward_sums.cu"),
        ),
    ],
    shape: sum_shape,
    own: 3,
    other: 4,
    numbers: 0,
};

pub(super) const QUERIES: Kernel = Kernel {
    entry: "swa_attention_double_backward_rows",
    files: &[
        BASE,
        COPY,
        MMA,
        ROWS,
        WINDOW,
        NUMBERS,
        COMMON,
        BLOCK,
        (
            "double_backward_rows.cu",
            include_str!("double_backward_rows.cu"),
        ),
    ],
    shape: row_shape,
    own: 3,
    other: 4,
    numbers: 0,
};

pub(super) const KEYS: Kernel = Kernel {
    entry: "swa_attention_double_backward_columns",
    files: &[
        BASE,
        COPY,
        MMA,
        ROWS,
        WINDOW,
        NUMBERS,
        COMMON,
        (
            "double_backward_columns.cu",
            include_str!("double_backward_columns.cu"),
        ),
    ],
    shape: column_shape,
    own: 4,
    other: 3,
    numbers: 4,
};

const KEYS_ALONE: Kernel = Kernel { own: 2, ..KEYS };

fn sum_shape(dtype: DType, h: usize) -> Shape {
    let rows = Shape {
        parts: 1,
        ..row_shape(dtype, h)
    };
    match (dtype, h) {
        (DType::BF16, ..=64) => Shape { count: 2, ..rows },
        (DType::BF16, ..=80) => Shape {
            warps: 8,
            tile: 64,
            blocks: 1,
            ..rows
        },
        _ => rows,
    }
}

fn row_shape(dtype: DType, h: usize) -> Shape {
    let common = Shape {
        warps: 4,
        count: 1,
        tile: 32,
        step: 16,
        held: true,
        parts: 1,
        blocks: 2,
    };
    match (dtype, h) {
        (DType::BF16, ..=80) => common,
        (DType::BF16, _) => Shape {
            warps: 8,
            held: false,
            blocks: 1,
            ..common
        },
        (DType::F32, _) => Shape {
            tile: 16,
            held: false,
            parts: if h <= 96 { 1 } else { 2 },
            blocks: 1,
            ..common
        },
    }
}

fn column_shape(dtype: DType, h: usize) -> Shape {
    let rows = row_shape(dtype, h);
    match (dtype, h) {
        (DType::BF16, ..=64) => Shape {
            count: 2,
            held: false,
            ..rows
        },
        (DType::BF16, ..=80) => Shape {
            warps: 8,
            tile: 64,
            step: 32,
            blocks: 1,
            ..rows
        },
        (DType::BF16, 97..) => Shape { warps: 4, ..rows },
        (DType::F32, 97..) => Shape { warps: 2, ..rows },
        _ => rows,
    }
}

/// Bytes of the workspace of [`double_backward`].
pub fn double_backward_workspace(sizes: &Sizes) -> usize {
    2 * sizes.numbers()
}

/// Those of the cotangents [dq2, dk2 and dv2 of the cache, dk2, dv2, ddo] of q, the keys and values and do that have a view, for
/// cotangents `ct` of [dq, dk and dv of the cache, dk, dv], of which those without a view are zero: their products are left out. In
/// test-time training the cached keys have none, which leaves 8 products of 12. `workspace` has [`double_backward_workspace`] bytes,
/// which may be used again when the launches have run, in their order.
///
/// # Errors
/// Sizes that the kernels do not take, views of other sizes.
pub fn double_backward(
    sizes: &Sizes,
    x: &Inputs,
    do_: &View,
    caches: &Caches,
    ct: [Option<&View>; 5],
    d: [Option<&View>; 6],
    workspace: &View,
) -> Result<Vec<Launch>> {
    sizes.expect_inputs(x)?;
    sizes.expect_queries("do", do_)?;
    sizes.expect_caches(caches)?;
    sizes.expect_like_inputs("the cotangent of the gradient of", ct)?;
    let [dq2, k0, v0, k1, v1, ddo] = d;
    sizes.expect_like_inputs("the cotangent of", [dq2, k0, v0, k1, v1])?;
    if let Some(ddo) = ddo {
        sizes.expect_queries("ddo", ddo)?;
    }
    sizes.expect("workspace", workspace, double_backward_workspace(sizes), 1)?;
    let half = sizes.numbers();
    let (rows, sums) = (&workspace.part(0, half), &workspace.part(half, half));
    let pitch = Arg::U32(sizes.pitch() as u32);
    let [a, cotangents @ ..] = ct;
    let inputs = x.all().into_iter().chain([do_]).map(Some).chain(ct);

    let mut launches = vec![row_sums(sizes, do_, caches, rows)];
    let all = inputs.clone().chain([Some(rows), Some(sums)]);
    // of each pair: S, dP; A K'; Q B', dO C' (those that are there)
    let scores = |source: usize| {
        let of_keys = cotangents[2 * source..][..2].iter().flatten().count();
        2 + u64::from(a.is_some()) + of_keys as u64
    };
    let cost = Cost {
        flops: sizes.flops([scores(0), scores(1)]),
        bytes: bytes(all.clone()),
    };
    let args = all.map(Arg::from).chain([pitch.clone()]).collect();
    launches.push(SUMS.launch(sizes, sizes.t, sizes.n, args, cost));

    if dq2.is_some() || ddo.is_some() {
        let all = inputs.chain([Some(rows), Some(sums), dq2, ddo]);
        // Sb K and dS B, E V and P C
        let sums = |source: usize| {
            let with = |d: Option<&View>, ct: Option<&View>| match d {
                Some(_) => 1 + u64::from(ct.is_some()),
                None => 0,
            };
            with(dq2, cotangents[2 * source]) + with(ddo, cotangents[2 * source + 1])
        };
        let cost = Cost {
            flops: sizes.flops([sums(0), sums(1)]),
            bytes: bytes(all.clone()),
        };
        let args = all.map(Arg::from).chain([pitch.clone()]).collect();
        launches.push(QUERIES.launch(sizes, sizes.t, sizes.n, args, cost));
    }

    let sources = [(x.cached, [k0, v0]), (x.current, [k1, v1])];
    for (source, ([k, v], [dk2, dv2])) in sources.into_iter().enumerate() {
        let count = [sizes.c, sizes.t][source];
        if count == 0 || (dk2.is_none() && dv2.is_none()) {
            continue;
        }
        let [b, c] = [0, 1].map(|i| cotangents[2 * source + i]);
        let [q, k, v, do_] = [x.q, k, v, do_].map(Some);
        let all = [q, k, v, do_, a, b, c, Some(rows), Some(sums), dk2, dv2];
        // Sb' Q and dS' A, E' dO
        let of_k = dk2.map_or(0, |_| 1 + u64::from(a.is_some()));
        let products = of_k + u64::from(dv2.is_some());
        let cost = Cost {
            flops: sizes.flops([0, 1].map(|s| if s == source { products } else { 0 })),
            bytes: bytes(all),
        };
        let numbers = [count, offset(sizes, source)].map(|x| Arg::U32(x as u32));
        let numbers = numbers.into_iter().chain([pitch.clone()]);
        let args = all.into_iter().map(Arg::from).chain(numbers).collect();
        // b and c have no room where there is neither
        let kernel = if b.or(c).is_some() {
            &KEYS
        } else {
            &KEYS_ALONE
        };
        launches.push(kernel.launch(sizes, count, sizes.m, args, cost));
    }
    Ok(launches)
}
