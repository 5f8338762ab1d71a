//! C = A B' for up to four rows, as in decoding: bound by reading B.

use super::{Gemm, Transpose, Views};
use crate::launch::{Arg, Launch};
use crate::list::Entry;
use crate::program::{DType, Program};

const FILES: &[(&str, &str)] = &[
    ("tile/base.cuh", include_str!("../tile/base.cuh")),
    ("tile/reduce.cuh", include_str!("../tile/reduce.cuh")),
    ("tile/fours.cuh", include_str!("../tile/fours.cuh")),
    ("finish.cuh", include_str!("finish.cuh")),
    ("few_rows.cu", include_str!("few_rows.cu")),
];

const THREADS: u32 = 128;

/// Columns of a block: four of a warp.
const COLUMNS: usize = 4 * (THREADS as usize / 32);

/// Entries and how many rows they have.
const ENTRIES: [(&str, usize); 2] = [("one_row", 1), ("four_rows", 4)];

fn program(dtype: DType) -> Program {
    let constants = [
        ("ELEMENT", dtype.device_name().to_string()),
        ("THREADS", THREADS.to_string()),
    ];
    Program::new("gemm", FILES, constants)
}

pub(super) fn takes(gemm: &Gemm) -> bool {
    gemm.transpose == Transpose::B && gemm.m <= 4
}

/// The launch for sizes that were checked.
pub(super) fn launch(gemm: &Gemm, views: &Views) -> Launch {
    let Gemm { m, n, k, .. } = *gemm;
    let args: Vec<Arg> = vec![
        views.factors[0].into(),
        views.factors[1].into(),
        views.c.into(),
        (m as u32).into(),
        (n as u32).into(),
        (k as u32).into(),
        ((m * k) as u64).into(),
        ((k * n) as u64).into(),
        gemm.alpha.into(),
        gemm.beta.into(),
        gemm.flags(views, n, &[Some(views.c)], gemm.output).into(),
    ];
    let entry = ENTRIES.iter().find(|(_, rows)| m <= *rows);
    Launch {
        program: program(gemm.input),
        entry: entry.expect("at most four rows").0,
        grid: [n.div_ceil(COLUMNS) as u32, gemm.batch as u32, 1],
        block: [THREADS, 1, 1],
        shared: 0,
        args,
        cost: gemm.cost(views),
    }
}

pub(super) fn list() -> Vec<Entry> {
    let of = |dtype| {
        ENTRIES.map(|(entry, _)| Entry {
            program: program(dtype),
            entry,
            variant: format!("{dtype:?}, few rows (decoding)"),
            threads: THREADS,
            shared: 0,
            registers: 128,
        })
    };
    DType::ALL.into_iter().flat_map(of).collect()
}
