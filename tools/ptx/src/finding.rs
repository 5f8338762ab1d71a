//! What is wrong with a kernel, as far as a launch showed it.

use serde::{Deserialize, Serialize};

use crate::types::Space;

/// Kinds of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Two parties touch the same bytes, one of them writes, and nothing orders them.
    Race,
    /// Two parties store the same value to the same place, unordered. A note.
    SameValue,
    /// An address outside of every allocation, variable or argument.
    OutOfBounds,
    /// An address that is no multiple of the size of its access.
    Misaligned,
    /// A read of bytes nobody has written.
    Uninitialised,
    /// An access to bytes or registers that an asynchronous copy or matrix product is still to write or to read.
    InFlight,
    /// An asynchronous access without a fence behind the ordinary ones before it.
    MissingFence,
    /// An address in memory that was freed.
    UseAfterFree,
    /// Some lanes or warps reach a barrier, others do not.
    BarrierDivergence,
    /// Every warp that is left waits.
    Deadlock,
    /// A shuffle, vote or other warp instruction whose lanes are not all there.
    MissingLanes,
    /// A barrier in memory used without having been initialised, or beyond its count.
    Mbarrier,
    /// A tensor map that no copy can use.
    TensorMap,
    /// `trap`
    Trap,
    /// More instructions than the launch allows.
    Runaway,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The kernel is wrong.
    Error,
    /// Worth knowing.
    Note,
}

/// A line of the source that was compiled to PTX.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLine {
    /// Path as the compiler wrote it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
}

/// The other side of a race.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Block; the finding's own where the space is shared.
    pub block: [u32; 3],
    /// Warp, where known.
    pub warp: Option<u32>,
    /// Lane, where known.
    pub lane: Option<u32>,
    /// Line of the PTX text, where known.
    pub ptx_line: Option<u32>,
}

/// One thing that is wrong, at the first place it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// How bad.
    pub severity: Severity,
    /// Name of the kernel.
    pub kernel: String,
    /// Line of the PTX text.
    pub ptx_line: u32,
    /// Line of the source, where `.loc` says.
    pub source: Option<SourceLine>,
    /// Block.
    pub block: [u32; 3],
    /// Warp in the block.
    pub warp: u32,
    /// Lane in the warp, where one lane is at fault.
    pub lane: Option<u32>,
    /// Space of the address.
    pub space: Option<Space>,
    /// Address in its space.
    pub address: Option<u64>,
    /// The other side.
    pub other: Option<Party>,
    /// How often this kind was seen at this line.
    pub count: u64,
    /// One sentence more.
    pub message: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Finding {
            kernel,
            block,
            warp,
            ptx_line,
            ..
        } = self;
        write!(f, "{:?} in {kernel}, PTX line {ptx_line}", self.kind)?;
        if let Some(SourceLine { file, line }) = &self.source {
            write!(f, " ({file}:{line})")?;
        }
        write!(
            f,
            ", block ({}, {}, {}), warp {warp}",
            block[0], block[1], block[2]
        )?;
        if let Some(lane) = self.lane {
            write!(f, ", lane {lane}")?;
        }
        if let (Some(space), Some(address)) = (self.space, self.address) {
            write!(f, ", {space} address {address:#x}")?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(party) = &self.other {
            let Party {
                block,
                warp,
                lane,
                ptx_line,
            } = party;
            write!(
                f,
                "; other side: block ({}, {}, {})",
                block[0], block[1], block[2]
            )?;
            if let Some(warp) = warp {
                write!(f, ", warp {warp}")?;
            }
            if let Some(lane) = lane {
                write!(f, ", lane {lane}")?;
            }
            if let Some(line) = ptx_line {
                write!(f, ", PTX line {line}")?;
            }
        }
        if self.count > 1 {
            write!(f, " ({} times)", self.count)?;
        }
        Ok(())
    }
}
