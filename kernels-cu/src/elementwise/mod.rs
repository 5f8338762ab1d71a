#![doc = include_str!("README.md")]

use crate::error::{Error, Result};
use crate::launch::{Cost, Launch, View};
use crate::list::Entry;
use crate::program::{DType, Program};

const FILES: &[(&str, &str)] = &[
    ("tile/base.cuh", include_str!("../tile/base.cuh")),
    ("elementwise.cu", include_str!("elementwise.cu")),
];

const THREADS: u32 = 256;

/// A function of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// x + y.
    Add,
    /// x y.
    Mul,
}

impl Binary {
    /// All of them.
    pub const ALL: [Binary; 2] = [Binary::Add, Binary::Mul];

    fn entry(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Mul => "mul",
        }
    }
}

fn program(dtype: DType) -> Program {
    let constants = [("ELEMENT", dtype.device_name().to_string())];
    Program::new("elementwise", FILES, constants)
}

/// z = f(x, y) for n elements each; z may be x or y.
///
/// # Errors
/// Arrays of other sizes.
pub fn binary(f: Binary, dtype: DType, n: usize, x: &View, y: &View, z: &View) -> Result<Launch> {
    let bytes = n * dtype.bytes();
    if [x, y, z].iter().any(|view| view.bytes() != bytes) {
        let message = format!("{x:?}, {y:?} and {z:?} are not {n} elements of {dtype:?}");
        return Err(Error::shape("elementwise", message));
    }
    let per_block = THREADS as usize * 16 / dtype.bytes();
    let blocks = u32::try_from(n.div_ceil(per_block).max(1));
    let blocks =
        blocks.map_err(|_| Error::shape("elementwise", format!("{n} elements are too many")))?;
    Ok(Launch {
        program: program(dtype),
        entry: f.entry(),
        grid: [blocks, 1, 1],
        block: [THREADS, 1, 1],
        shared: 0,
        args: vec![x.into(), y.into(), z.into(), (n as u64).into()],
        cost: Cost {
            flops: 0,
            bytes: 3 * bytes as u64,
        },
    })
}

pub(crate) fn list() -> Vec<Entry> {
    let of = |dtype| {
        Binary::ALL.map(|f| Entry {
            program: program(dtype),
            entry: f.entry(),
            variant: format!("{dtype:?}"),
            threads: THREADS,
            shared: 0,
            registers: 32,
        })
    };
    DType::ALL.into_iter().flat_map(of).collect()
}
