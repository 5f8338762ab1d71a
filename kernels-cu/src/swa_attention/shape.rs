//! How the work is cut, and launches from it. The cut follows from the dtype and the head size alone.

use super::Sizes;
use crate::launch::{Arg, Cost, Launch};
use crate::list::Entry;
use crate::program::{DType, Program};

/// Registers of a multiprocessor, and of a thread at most.
const REGISTERS: [u32; 2] = [65536, 255];

/// Cut of one kernel: a block's *own* rows stay, tiles of *other* rows go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Warps of a block.
    pub warps: usize,
    /// Each has 16 times so many rows.
    pub count: usize,
    /// Rows of a tile of others.
    pub tile: usize,
    /// Rows of it that are worked on at a time.
    pub step: usize,
    /// Own rows are kept in registers.
    pub held: bool,
    /// Blocks that share the columns of a result.
    pub parts: usize,
    /// Blocks that a multiprocessor is to hold, as far as registers go.
    pub blocks: usize,
}

/// A kernel before it is specialised.
pub(super) struct Kernel {
    /// Its entry, and its program's name.
    pub entry: &'static str,
    pub files: &'static [(&'static str, &'static str)],
    pub shape: fn(DType, usize) -> Shape,
    /// Arrays of own rows and of tiles that lie in shared memory.
    pub own: usize,
    pub other: usize,
    /// Floats that come with each row of a tile.
    pub numbers: usize,
}

impl Shape {
    fn rows(&self) -> usize {
        self.warps * 16 * self.count
    }

    fn threads(&self) -> u32 {
        self.warps as u32 * 32
    }

    fn constants(&self, dtype: DType, h: usize) -> [(&'static str, String); 9] {
        [
            ("ELEMENT", dtype.device_name().into()),
            ("HEAD", h.to_string()),
            ("WARPS", self.warps.to_string()),
            ("COUNT", self.count.to_string()),
            ("TILE", self.tile.to_string()),
            ("STEP", self.step.to_string()),
            ("HELD", self.held.to_string()),
            ("PARTS", self.parts.to_string()),
            ("BLOCKS", self.blocks.to_string()),
        ]
    }
}

impl Kernel {
    /// A run over `rows` own rows of `heads` heads.
    pub fn launch(
        &self,
        sizes: &Sizes,
        rows: usize,
        heads: usize,
        args: Vec<Arg>,
        cost: Cost,
    ) -> Launch {
        let Sizes { dtype, h, .. } = *sizes;
        let shape = (self.shape)(dtype, h);
        Launch {
            program: self.program(dtype, h),
            entry: self.entry,
            grid: [
                rows.div_ceil(shape.rows()).max(1) as u32,
                heads as u32,
                shape.parts as u32,
            ],
            block: [shape.threads(), 1, 1],
            shared: self.shared(dtype, h),
            args: args.into_iter().chain(sizes.args()).collect(),
            cost,
        }
    }

    fn program(&self, dtype: DType, h: usize) -> Program {
        let constants = (self.shape)(dtype, h).constants(dtype, h);
        Program::new(self.entry, self.files, constants)
    }

    /// Own rows, and two stages of a tile.
    fn shared(&self, dtype: DType, h: usize) -> u32 {
        let (shape, pitch) = ((self.shape)(dtype, h), pitch(dtype, h));
        let stage = shape.tile * (self.other * pitch + 4 * self.numbers);
        (self.own * shape.rows() * pitch + 2 * stage) as u32
    }

    pub fn list(&self, dtype: DType, h: usize) -> Entry {
        let shape = (self.shape)(dtype, h);
        let [all, most] = REGISTERS;
        Entry {
            program: self.program(dtype, h),
            entry: self.entry,
            variant: format!("{dtype:?} head {h}"),
            threads: shape.threads(),
            shared: self.shared(dtype, h),
            registers: most.min(all / (shape.threads() * shape.blocks as u32)),
        }
    }
}

/// Bytes from row to row in shared memory: `Tile::PITCH` of tile/rows.cuh.
fn pitch(dtype: DType, h: usize) -> usize {
    let columns = if h <= 96 { h.next_multiple_of(16) } else { 128 };
    let used = columns * dtype.bytes();
    match dtype {
        DType::F32 => used.next_multiple_of(128),
        DType::BF16 => used,
    }
}
