#![doc = include_str!("README.md")]

use crate::error::{Error, Result};
use crate::launch::{Cost, Launch, View};
use crate::list::Entry;
use crate::program::Program;

const FILES: &[(&str, &str)] = &[
    ("tile/base.cuh", include_str!("../tile/base.cuh")),
    ("tile/fours.cuh", include_str!("../tile/fours.cuh")),
    ("adamw.cu", include_str!("adamw.cu")),
];

const THREADS: u32 = 256;

/// Constants of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, times the learning rate.
    pub weight_decay: f64,
    /// Number of this step, from 1.
    pub step: u64,
}

/// What a step changes, n elements of f32 each.
#[derive(Debug, Clone, Copy)]
pub struct Views<'v> {
    /// Weights.
    pub w: &'v View,
    /// First moment.
    pub m: &'v View,
    /// Second moment.
    pub v: &'v View,
    /// Room for the weights once more, in bf16.
    pub shadow: Option<&'v View>,
}

/// One step on n elements with gradient g, times the f32 number `scale` on the device if there is one.
///
/// # Errors
/// Views of other sizes.
pub fn adamw(
    of: &AdamW,
    n: usize,
    views: &Views,
    g: &View,
    scale: Option<&View>,
) -> Result<Launch> {
    let Views { w, m, v, shadow } = *views;
    let fits = [w, m, v, g].iter().all(|view| view.bytes() == 4 * n)
        && shadow.is_none_or(|view| view.bytes() == 2 * n)
        && scale.is_none_or(|view| view.bytes() == 4);
    if !fits {
        let message = format!("{views:?}, gradient {g:?}, scale {scale:?} are not of {n} elements");
        return Err(Error::shape("adamw", message));
    }
    let blocks = u32::try_from(n.div_ceil(4 * THREADS as usize).max(1));
    let blocks = blocks.map_err(|_| Error::shape("adamw", format!("{n} elements are too many")))?;
    let aligned = [w, m, v, g]
        .into_iter()
        .chain(shadow)
        .all(|view| view.address().is_multiple_of(16));
    let unbias = |b: f64| (1.0 / (1.0 - b.powf(of.step as f64))) as f32;
    Ok(Launch {
        program: program(),
        entry: "adamw",
        grid: [blocks, 1, 1],
        block: [THREADS, 1, 1],
        shared: 0,
        args: vec![
            w.into(),
            m.into(),
            v.into(),
            g.into(),
            scale.into(),
            shadow.into(),
            (n as u64).into(),
            (of.beta1 as f32).into(),
            (of.beta2 as f32).into(),
            unbias(of.beta1).into(),
            unbias(of.beta2).into(),
            (of.learning_rate as f32).into(),
            ((1.0 - of.learning_rate * of.weight_decay) as f32).into(),
            (of.eps as f32).into(),
            u32::from(aligned && n.is_multiple_of(4)).into(),
        ],
        cost: Cost {
            flops: 0,
            bytes: (28 * n + shadow.map_or(0, View::bytes)) as u64,
        },
    })
}

fn program() -> Program {
    Program::new("adamw", FILES, [])
}

pub(crate) fn list() -> Vec<Entry> {
    vec![Entry {
        program: program(),
        entry: "adamw",
        variant: "F32".into(),
        threads: THREADS,
        shared: 0,
        registers: 64,
    }]
}
