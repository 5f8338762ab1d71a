#![doc = include_str!("README.md")]

use crate::error::{Error, Result};
use crate::launch::{Arg, Cost, Launch, View};
use crate::list::Entry;
use crate::program::{DType, Program};

const FILES: &[(&str, &str)] = &[
    ("tile/base.cuh", include_str!("../tile/base.cuh")),
    ("copy.cu", include_str!("copy.cu")),
];

const THREADS: u32 = 256;
const AXES: usize = 5;

/// An axis of a copy: its size, and the elements from one place to the next on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// Places.
    pub size: usize,
    /// Step where elements come from; 0 repeats them.
    pub from: usize,
    /// Step where they go.
    pub to: usize,
}

/// Bytes of a word, and its type in device code.
const WORDS: [(usize, &str); 3] = [(16, "uint4"), (4, "u32"), (2, "u16")];

fn program(word: &str) -> Program {
    Program::new("layout", FILES, [("WORD", word.to_string())])
}

/// Copies what lies at these axes (first to last, the last innermost) of `from` to those of `to`, which do not overlap.
///
/// # Errors
/// More than five axes that cannot be merged; places outside the views; more than 2^32 words.
pub fn copy(dtype: DType, axes: &[Axis], from: &View, to: &View) -> Result<Launch> {
    let misfit = |message: String| Error::shape("layout", message);
    let size = dtype.bytes();
    let n: usize = axes.iter().map(|axis| axis.size).product();
    if n == 0 {
        return Err(misfit(format!("{axes:?} have no element")));
    }
    let last = |step: fn(&Axis) -> usize| -> usize {
        axes.iter().map(|axis| (axis.size - 1) * step(axis)).sum()
    };
    let read = 1 + last(|axis| axis.from);
    if read * size > from.bytes() || (1 + last(|axis| axis.to)) * size > to.bytes() {
        return Err(misfit(format!(
            "{axes:?} of {dtype:?} reach beyond {from:?} or {to:?}"
        )));
    }
    let axes = merged(axes);
    // in words; elements are the smallest of them
    let fits = |word: usize| {
        let divides = |elements: usize| (elements * size).is_multiple_of(word);
        let (inner, outer) = axes.split_last().expect("at least one");
        let whole = (inner.from, inner.to) == (1, 1) && divides(inner.size);
        let addresses = [from, to]
            .iter()
            .all(|view| view.address().is_multiple_of(word as u64));
        word == size || whole && addresses && outer.iter().all(|a| divides(a.from) && divides(a.to))
    };
    let fitting = WORDS.iter().find(|word| word.0 >= size && fits(word.0));
    let &(word, name) = fitting.expect("one word is an element");
    let each = word / size;
    let mut all = [Axis {
        size: 1,
        from: 0,
        to: 0,
    }; AXES];
    let Some(skip) = AXES.checked_sub(axes.len()) else {
        return Err(misfit(format!("more than {AXES} axes: {axes:?}")));
    };
    for (i, axis) in axes.iter().enumerate() {
        let inner = i + 1 == axes.len();
        all[skip + i] = match inner && each > 1 {
            true => Axis {
                size: axis.size / each,
                ..*axis
            },
            false => Axis {
                size: axis.size,
                from: axis.from / each,
                to: axis.to / each,
            },
        };
    }
    let many = |_| misfit(format!("{n} elements are too many"));
    let words = u32::try_from(n / each).map_err(many)?;
    let mut args = vec![from.into(), to.into(), words.into()];
    // no size is above the number of words
    args.extend(all[1..].iter().map(|axis| Arg::U32(axis.size as u32)));
    args.extend(all.iter().map(|axis| Arg::U64(axis.from as u64)));
    args.extend(all.iter().map(|axis| Arg::U64(axis.to as u64)));
    Ok(Launch {
        program: program(name),
        entry: "copy",
        grid: [words.div_ceil(THREADS), 1, 1],
        block: [THREADS, 1, 1],
        shared: 0,
        args,
        cost: Cost {
            flops: 0,
            bytes: ((read.min(n) + n) * size) as u64,
        },
    })
}

/// The same places along as few axes as possible.
fn merged(axes: &[Axis]) -> Vec<Axis> {
    let mut all: Vec<Axis> = vec![];
    for axis in axes.iter().filter(|axis| axis.size > 1) {
        match all.last_mut() {
            Some(outer)
                if outer.from == axis.size * axis.from && outer.to == axis.size * axis.to =>
            {
                *outer = Axis {
                    size: outer.size * axis.size,
                    ..*axis
                };
            }
            _ => all.push(*axis),
        }
    }
    if all.is_empty() {
        all.push(Axis {
            size: 1,
            from: 1,
            to: 1,
        });
    }
    all
}

pub(crate) fn list() -> Vec<Entry> {
    let of = |(bytes, name): (usize, &str)| Entry {
        program: program(name),
        entry: "copy",
        variant: format!("words of {bytes} bytes"),
        threads: THREADS,
        shared: 0,
        registers: 32,
    };
    WORDS.map(of).into()
}
