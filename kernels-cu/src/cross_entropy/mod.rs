#![doc = include_str!("README.md")]

use crate::error::{Error, Result};
use crate::launch::{Arg, Cost, Launch, View};
use crate::list::Entry;
use crate::program::{DType, Program};

const FILES: &[(&str, &str)] = &[
    ("tile/base.cuh", include_str!("../tile/base.cuh")),
    ("tile/reduce.cuh", include_str!("../tile/reduce.cuh")),
    ("cross_entropy.cu", include_str!("cross_entropy.cu")),
];

const THREADS: u32 = 256;

/// What the arrays look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows: tokens.
    pub t: usize,
    /// Columns: the vocabulary.
    pub v: usize,
    /// Type of logits, their cotangents and gradients; all else is f32.
    pub dtype: DType,
}

impl Shape {
    fn program(&self) -> Program {
        let constants = [("ELEMENT", self.dtype.device_name().to_string())];
        Program::new("cross_entropy", FILES, constants)
    }

    fn launch(
        &self,
        entry: &'static str,
        wide: &[&View],
        vectors: &[&View],
        args: Vec<Arg>,
    ) -> Result<Launch> {
        let wrong = |message| Err(Error::shape("cross_entropy", message));
        let bytes = self.t * self.v * self.dtype.bytes();
        if let Some(view) = wide.iter().find(|view| view.bytes() != bytes) {
            return wrong(format!(
                "{view:?} is not [{}, {}] {:?}",
                self.t, self.v, self.dtype
            ));
        }
        if let Some(view) = vectors.iter().find(|view| view.bytes() != self.t * 4) {
            return wrong(format!("{view:?} is not {} numbers of 4 bytes", self.t));
        }
        let most = i32::MAX as usize;
        if self.t == 0 || self.v == 0 || self.t > most || self.v > most {
            return wrong(format!(
                "[{}, {}] is not between [1, 1] and [{most}, {most}]",
                self.t, self.v
            ));
        }
        Ok(Launch {
            program: self.program(),
            entry,
            grid: [self.t as u32, 1, 1],
            block: [THREADS, 1, 1],
            shared: 0,
            args: args.into_iter().chain([Arg::U32(self.v as u32)]).collect(),
            cost: Cost {
                flops: 0,
                bytes: (wide.len() * bytes) as u64,
            },
        })
    }
}

/// nll and lse `[t]` of logits z [t, v] and ids `[t]`, u32 below v.
///
/// # Errors
/// Arrays of other sizes. The ids are the caller's to check.
pub fn forward(shape: &Shape, z: &View, ids: &View, nll: &View, lse: &View) -> Result<Launch> {
    let args = [z, ids, nll, lse].map(Arg::from).into();
    shape.launch("forward", &[z], &[ids, nll, lse], args)
}

/// dz from dn.
///
/// # Errors
/// Those of [`forward`].
pub fn backward(
    shape: &Shape,
    z: &View,
    ids: &View,
    [dn, lse]: [&View; 2],
    dz: &View,
) -> Result<Launch> {
    let args = [z, ids, dn, lse, dz].map(Arg::from).into();
    shape.launch("backward", &[z, dz], &[ids, dn, lse], args)
}

/// dz2 and ddn for the cotangent a of dz.
///
/// # Errors
/// Those of [`forward`].
pub fn double_backward(
    shape: &Shape,
    z: &View,
    ids: &View,
    [dn, lse]: [&View; 2],
    a: &View,
    [dz2, ddn]: [&View; 2],
) -> Result<Launch> {
    let args = [z, ids, dn, lse, a, dz2, ddn].map(Arg::from).into();
    shape.launch("double_backward", &[z, a, dz2], &[ids, dn, lse, ddn], args)
}

pub(crate) fn list() -> Vec<Entry> {
    let of = |dtype: DType| {
        let shape = Shape { t: 1, v: 1, dtype };
        ["forward", "backward", "double_backward"].map(|entry| Entry {
            program: shape.program(),
            entry,
            variant: format!("{dtype:?}"),
            threads: THREADS,
            shared: 0,
            registers: 64,
        })
    };
    DType::ALL.into_iter().flat_map(of).collect()
}
