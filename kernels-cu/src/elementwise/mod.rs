#![doc = include_str!("README.md")]

use crate::error::{Error, Result};
use crate::launch::{Arg, Cost, Launch, View};
use crate::list::Entry;
use crate::program::{DType, Program};

const FILES: &[(&str, &str)] = &[
    ("tile/base.cuh", include_str!("../tile/base.cuh")),
    ("elementwise.cu", include_str!("elementwise.cu")),
];

const THREADS: u32 = 256;

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unary {
    /// -x.
    Neg,
    /// c x.
    Scale(f32),
    /// 1 / x.
    Recip,
    /// e^x.
    Exp,
    /// Natural logarithm.
    Log,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// 1 / sqrt(x).
    Rsqrt,
}

/// A function of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// x + y.
    Add,
    /// x y.
    Mul,
}

impl Unary {
    fn entry(self) -> &'static str {
        match self {
            Unary::Neg => "neg",
            Unary::Scale(_) => "scale",
            Unary::Recip => "recip",
            Unary::Exp => "exponential",
            Unary::Log => "logarithm",
            Unary::Sigmoid => "sigmoid",
            Unary::Rsqrt => "reciprocal_root",
        }
    }
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

fn other(dtype: DType) -> DType {
    match dtype {
        DType::F32 => DType::BF16,
        DType::BF16 => DType::F32,
    }
}

fn program(dtype: DType) -> Program {
    let names = [("ELEMENT", dtype), ("OTHER", other(dtype))];
    let constants = names.map(|(name, dtype)| (name, dtype.device_name().to_string()));
    Program::new("elementwise", FILES, constants)
}

/// A launch of `entry` on n elements, `each` of them per thread. `arrays` are views with the bytes they must have.
fn launch(
    entry: &'static str,
    dtype: DType,
    n: usize,
    each: usize,
    arrays: &[(&View, usize)],
    args: Vec<Arg>,
) -> Result<Launch> {
    if let Some((view, bytes)) = arrays.iter().find(|(view, bytes)| view.bytes() != *bytes) {
        let message =
            format!("{entry}: {view:?} is not {bytes} bytes, for {n} elements of {dtype:?}");
        return Err(Error::shape("elementwise", message));
    }
    let blocks = u32::try_from(n.div_ceil(THREADS as usize * each).max(1));
    let blocks =
        blocks.map_err(|_| Error::shape("elementwise", format!("{n} elements are too many")))?;
    Ok(Launch {
        program: program(dtype),
        entry,
        grid: [blocks, 1, 1],
        block: [THREADS, 1, 1],
        shared: 0,
        args,
        cost: Cost {
            flops: 0,
            bytes: arrays.iter().map(|(_, bytes)| *bytes as u64).sum(),
        },
    })
}

/// Elements that a thread moves at once.
fn vector(dtype: DType) -> usize {
    16 / dtype.bytes()
}

/// z = f(x) for n elements each; z may be x.
///
/// # Errors
/// Arrays of other sizes.
pub fn unary(f: Unary, dtype: DType, n: usize, x: &View, z: &View) -> Result<Launch> {
    let mut args = vec![x.into(), z.into(), (n as u64).into()];
    if let Unary::Scale(c) = f {
        args.push(c.into());
    }
    let arrays = [x, z].map(|view| (view, n * dtype.bytes()));
    launch(f.entry(), dtype, n, vector(dtype), &arrays, args)
}

/// z = f(x, y) for n elements each; z may be x or y.
///
/// # Errors
/// Arrays of other sizes.
pub fn binary(f: Binary, dtype: DType, n: usize, x: &View, y: &View, z: &View) -> Result<Launch> {
    let args = vec![x.into(), y.into(), z.into(), (n as u64).into()];
    let arrays = [x, y, z].map(|view| (view, n * dtype.bytes()));
    launch(f.entry(), dtype, n, vector(dtype), &arrays, args)
}

/// z = x where `choose` (a byte per element) is not 0, y elsewhere; n elements each.
///
/// # Errors
/// Arrays of other sizes.
pub fn select(dtype: DType, n: usize, choose: &View, [x, y, z]: [&View; 3]) -> Result<Launch> {
    let args = vec![
        choose.into(),
        x.into(),
        y.into(),
        z.into(),
        (n as u64).into(),
    ];
    let bytes = n * dtype.bytes();
    let arrays = [(choose, n), (x, bytes), (y, bytes), (z, bytes)];
    launch("select", dtype, n, vector(dtype), &arrays, args)
}

/// z = x where `of` is above `limit`, y elsewhere; n elements each.
///
/// # Errors
/// Arrays of other sizes.
pub fn select_above(
    dtype: DType,
    n: usize,
    of: &View,
    limit: f32,
    [x, y, z]: [&View; 3],
) -> Result<Launch> {
    let mut args: Vec<Arg> = [of, x, y, z].map(Arg::from).into();
    args.extend([(n as u64).into(), limit.into()]);
    let arrays = [of, x, y, z].map(|view| (view, n * dtype.bytes()));
    launch("select_above", dtype, n, vector(dtype), &arrays, args)
}

/// z = c, n elements.
///
/// # Errors
/// An array of another size.
pub fn fill(dtype: DType, n: usize, c: f32, z: &View) -> Result<Launch> {
    let args = vec![z.into(), (n as u64).into(), c.into()];
    launch("fill", dtype, n, 1, &[(z, n * dtype.bytes())], args)
}

/// z of the other type = x of type `dtype`, n elements each, rounded to nearest.
///
/// # Errors
/// Arrays of other sizes.
pub fn cast(dtype: DType, n: usize, x: &View, z: &View) -> Result<Launch> {
    let args = vec![x.into(), z.into(), (n as u64).into()];
    let arrays = [(x, n * dtype.bytes()), (z, n * other(dtype).bytes())];
    launch("cast", dtype, n, 1, &arrays, args)
}

pub(crate) fn list() -> Vec<Entry> {
    let unary = [
        Unary::Neg,
        Unary::Scale(1.0),
        Unary::Recip,
        Unary::Exp,
        Unary::Log,
        Unary::Sigmoid,
        Unary::Rsqrt,
    ];
    let others = ["select", "select_above", "fill", "cast"];
    let entries = unary.map(Unary::entry).into_iter();
    let entries = entries.chain(Binary::ALL.map(Binary::entry)).chain(others);
    let entries: Vec<&'static str> = entries.collect();
    let of = |dtype| {
        entries.iter().map(move |entry| Entry {
            program: program(dtype),
            entry,
            variant: format!("{dtype:?}"),
            threads: THREADS,
            shared: 0,
            registers: 32,
        })
    };
    DType::ALL.into_iter().flat_map(of).collect()
}
