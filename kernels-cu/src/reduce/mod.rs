#![doc = include_str!("README.md")]

use crate::error::{Error, Result};
use crate::launch::{Arg, Cost, Launch, View};
use crate::list::Entry;
use crate::program::{DType, Program};

const FILES: &[(&str, &str)] = &[
    ("tile/base.cuh", include_str!("../tile/base.cuh")),
    ("tile/reduce.cuh", include_str!("../tile/reduce.cuh")),
    ("sum.cu", include_str!("sum.cu")),
];

const THREADS: u32 = 128;

/// Terms that are added in one go.
const CHUNK: usize = 1024;

fn program([from, to]: [DType; 2]) -> Program {
    let names = [("FROM", from), ("TO", to)];
    let constants = names.map(|(name, dtype)| (name, dtype.device_name().to_string()));
    Program::new("sum", FILES, constants)
}

fn blocks(n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| Error::shape("sum", format!("{n} blocks are too many")))
}

/// Sizes [outer, k, inner] of x and how y is to be made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    /// Sums next to one another in x, and their terms, and places inside a term.
    pub sizes: [usize; 3],
}

impl Sum {
    /// Chunks of each sum: y is [outer, chunks, inner].
    pub fn chunks(&self) -> usize {
        self.sizes[1].div_ceil(CHUNK).max(1)
    }

    /// y = the sums of all chunks of x, of types `[x, y]`.
    ///
    /// # Errors
    /// Arrays of other sizes.
    pub fn launch(&self, dtypes: [DType; 2], x: &View, y: &View) -> Result<Launch> {
        let ([outer, k, inner], chunks) = (self.sizes, self.chunks());
        let bytes = [
            outer * k * inner * dtypes[0].bytes(),
            outer * chunks * inner * dtypes[1].bytes(),
        ];
        if [x.bytes(), y.bytes()] != bytes {
            let message = format!("{x:?} and {y:?} are not {bytes:?} bytes, for {self:?}");
            return Err(Error::shape("sum", message));
        }
        let chunk = k.div_ceil(chunks).max(1);
        let mut args: Vec<Arg> = vec![x.into(), y.into()];
        let sums = outer * chunks * inner;
        let (entry, count, sizes) = match inner {
            1 => ("sum_rows", sums.div_ceil(4), vec![outer, k, chunk, chunks]),
            _ => (
                "sum_columns",
                sums.div_ceil(THREADS as usize),
                vec![outer, k, inner, chunk, chunks],
            ),
        };
        args.extend(sizes.into_iter().map(|size| Arg::U64(size as u64)));
        Ok(Launch {
            program: program(dtypes),
            entry,
            grid: [blocks(count)?.max(1), 1, 1],
            block: [THREADS, 1, 1],
            shared: 0,
            args,
            cost: Cost {
                flops: 0,
                bytes: (bytes[0] + bytes[1]) as u64,
            },
        })
    }
}

pub(crate) fn list() -> Vec<Entry> {
    let mut all = vec![];
    for dtype in DType::ALL {
        for to in DType::ALL {
            for entry in ["sum_rows", "sum_columns"] {
                all.push(Entry {
                    program: program([dtype, to]),
                    entry,
                    variant: format!("{dtype:?} to {to:?}"),
                    threads: THREADS,
                    shared: 0,
                    registers: 40,
                });
            }
        }
    }
    all
}
