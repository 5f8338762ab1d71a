//! A kernel decoded once into what the interpreter runs.

use crate::counters::Class;
use crate::exec::registers::{Bank, Registers};
use crate::hopper::{Hopper, Misuse};
use crate::text::ast::Threads;
use crate::types::Space;

/// Generic addresses of shared memory start here, and every space has 2^32 bytes at most.
pub(crate) const SHARED_WINDOW: u64 = 0x7f00_0000_0000;
/// Generic addresses of local memory.
pub(crate) const LOCAL_WINDOW: u64 = 0x7e00_0000_0000;
/// Addresses of functions: each has one of its own, and no memory.
pub(crate) const FUNCTION_WINDOW: u64 = 0x7c00_0000_0000;
/// Generic addresses of kernel arguments.
pub(crate) const PARAM_WINDOW: u64 = 0x7d00_0000_0000;
/// Shared variables start here, as on Hopper: address 0 is nobody's.
pub(crate) const SHARED_START: u64 = 1024;
/// The branch target "leave the function": nothing comes after.
pub(crate) const NOWHERE: u32 = u32::MAX;

#[derive(Default)]
pub(crate) struct Program {
    pub name: String,
    pub code: Vec<Inst>,
    /// What every instruction needs of `code`, close together.
    pub steps: Vec<Step>,
    pub predicates: usize,
    pub words: usize,
    pub doubles: usize,
    /// Registers that hold one value throughout.
    pub fills: Vec<(Bank, usize, Fill)>,
    pub params: Vec<Param>,
    pub param_bytes: usize,
    /// Static shared memory ends here; dynamic memory follows.
    pub shared_end: u64,
    /// Bytes of local memory per thread.
    pub local_bytes: u64,
    pub threads: Option<Threads>,
    /// Blocks per cluster, where the kernel says.
    pub cluster: Option<[u32; 3]>,
    /// Instructions that touch registers of matrix products in flight.
    pub misuses: Vec<Misuse>,
    /// Bytes of shared memory that are checked as one: the narrowest access there is.
    pub granule: u64,
    /// Blocks wait for or follow one another (atomics, volatile accesses): they run one after another.
    pub ordered: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Param {
    pub name: String,
    pub offset: usize,
    pub bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fill {
    Value(u64),
    /// Address of a variable of the module, plus an offset.
    Variable(usize, i64),
    Special(Special),
}

/// Special registers that keep their value while a thread runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    Lane,
    Warp,
    Warps,
    LaneMask(LaneMask),
    DynamicShared,
    TotalShared,
    /// Coordinates of the cluster, and clusters of the grid.
    ClusterId(u8),
    Clusters(u8),
    /// Coordinates of the block in its cluster, and blocks of a cluster.
    BlockInCluster(u8),
    BlocksInCluster(u8),
    ClusterRank,
    ClusterSize,
    /// 1 if there are clusters of more than one block.
    Clustered,
    /// What is always 0 here: %smid, %gridid.
    Zero,
    /// What is always 1 here: %nsmid.
    One,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum LaneMask {
    Eq,
    Le,
    Lt,
    Ge,
    Gt,
}

/// Computes in registers, for the lanes of the mask.
pub(crate) type Compute = Box<dyn Fn(&mut Registers, u32) + Send + Sync>;

pub(crate) struct Inst {
    pub action: Action,
    pub guard: Option<Guard>,
    pub class: Class,
    /// Line of the PTX text.
    pub line: u32,
    /// File and line of the source.
    pub source: Option<(u32, u32)>,
    /// For a branch: where its lanes meet again.
    pub meet: u32,
}

/// An instruction as a warp first looks at it.
pub(crate) struct Step {
    pub guard: Option<Guard>,
    /// For a computation, which has left the instruction.
    pub compute: Option<Compute>,
}

impl Step {
    pub fn of(inst: &mut Inst) -> Self {
        let compute = match std::mem::replace(&mut inst.action, Action::Computation) {
            Action::Compute(compute) => Some(compute),
            action => {
                inst.action = action;
                None
            }
        };
        Step {
            guard: inst.guard,
            compute,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Guard {
    pub predicate: usize,
    pub negated: bool,
}

/// A register, as the target or source of an access narrower than or as wide as it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Register {
    pub bank: Bank,
    pub slot: usize,
    pub bits: u8,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Address {
    pub base: Register,
    pub offset: i64,
}

/// A load or store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access {
    pub space: Space,
    pub address: Address,
    /// Bytes per element.
    pub bytes: usize,
    /// Elements.
    pub count: usize,
    /// Volatile, relaxed, acquire, release: meant to meet accesses of others.
    pub strong: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtomicOp {
    Add,
    Min,
    Max,
    Inc,
    Dec,
    And,
    Or,
    Xor,
    Exchange,
    Compare,
}

/// Element type of an atomic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtomicType {
    Unsigned,
    Signed,
    F32,
    F64,
    F16,
    BF16,
    F16x2,
    BF16x2,
}

#[derive(Debug, Clone)]
pub(crate) struct Atomic {
    pub access: Access,
    pub op: AtomicOp,
    pub ty: AtomicType,
    /// By element; empty for `red`.
    pub dest: Vec<Option<Register>>,
    /// By element.
    pub values: Vec<Register>,
    /// `cas` compares with the value, and this is what it stores.
    pub swap: Option<Register>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShuffleMode {
    Up,
    Down,
    Butterfly,
    Index,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VoteMode {
    All,
    Any,
    Uniform,
    Ballot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReduceMode {
    Add,
    MinUnsigned,
    MaxUnsigned,
    MinSigned,
    MaxSigned,
    And,
    Or,
    Xor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BarrierReduce {
    Popc,
    And,
    Or,
}

/// What a barrier instruction does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Barrier {
    /// Slot of the barrier's number.
    pub id: usize,
    /// Slot of the number of threads; all of the block where absent.
    pub threads: Option<usize>,
    /// False for `arrive`.
    pub wait: bool,
    /// Destination, predicate, and whether that is negated.
    pub reduce: Option<(BarrierReduce, Register, usize, bool)>,
}

/// Element type of the factors of a matrix product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Factor {
    F16,
    BF16,
    TF32,
    S8,
    U8,
    E4M3,
    E5M2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accumulator {
    F16,
    F32,
    S32,
}

/// `mma.sync.m16n8k*`: slots of the fragments.
#[derive(Debug, Clone)]
pub(crate) struct Mma {
    pub k: usize,
    pub a_type: Factor,
    pub b_type: Factor,
    pub result: Accumulator,
    pub addend: Accumulator,
    pub saturate: bool,
    pub d: Vec<usize>,
    pub a: Vec<usize>,
    pub b: Vec<usize>,
    pub c: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct AsyncCopy {
    pub shared: Address,
    pub global: Address,
    /// 4, 8 or 16.
    pub bytes: usize,
    /// Bytes that are read; the rest is zero.
    pub source_bytes: Option<usize>,
    /// Predicate of `ignore-src`, and whether it is negated.
    pub ignore: Option<(usize, bool)>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum MbarrierOp {
    Init {
        count: usize,
    },
    Invalidate,
    /// Slots of count and token, and of the bytes that are to come.
    Arrive {
        count: Option<usize>,
        token: Option<usize>,
        drop: bool,
        expect: Option<usize>,
        /// `noComplete`
        holds_back: bool,
    },
    /// Slot of the bytes that are to come, or that have come.
    Expect {
        bytes: usize,
    },
    Complete {
        bytes: usize,
    },
    /// Waits for the phase of a token, or of a parity.
    Test {
        dest: usize,
        phase: usize,
        parity: bool,
    },
    /// `cp.async.mbarrier.arrive`: arrives when the copies so far are complete.
    ArriveAfterCopies {
        noinc: bool,
    },
}

/// A call: of one function, or of that whose address is in a register.
#[derive(Debug, Clone, Default)]
pub(crate) struct Call {
    pub callees: Vec<Callee>,
    /// Slot of the address.
    pub by: Option<usize>,
}

/// A function that may be called, and how its parameters are handed over.
#[derive(Debug, Clone)]
pub(crate) struct Callee {
    pub address: u64,
    pub target: u32,
    pub arguments: Vec<Pass>,
    pub results: Vec<Pass>,
}

/// A parameter handed over.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pass {
    /// Places in local memory.
    Bytes {
        from: u64,
        to: u64,
        bytes: u64,
    },
    Register {
        from: Register,
        to: Register,
    },
}

pub(crate) enum Action {
    /// Until its step takes it.
    Compute(Compute),
    /// In the step.
    Computation,
    Load {
        access: Access,
        dest: Vec<Option<Register>>,
        signed: bool,
    },
    Store {
        access: Access,
        source: Vec<Register>,
    },
    Atomic(Atomic),
    Branch(u32),
    /// `brx.idx`: slot of the index, targets.
    BranchIndexed(usize, Vec<u32>),
    Call(Call),
    /// `vprintf` and `__assertfail`: places of the arguments and of the result in local memory.
    Print {
        assertion: bool,
        arguments: Vec<u64>,
        result: Option<u64>,
    },
    Return,
    Exit,
    Trap,
    Barrier(Barrier),
    /// Slot of the mask of lanes.
    WarpBarrier(usize),
    Fence,
    Shuffle {
        mode: ShuffleMode,
        dest: usize,
        valid: Option<usize>,
        value: usize,
        lane: usize,
        clamp: usize,
        members: usize,
    },
    Vote {
        mode: VoteMode,
        /// A predicate, or a word for `ballot`.
        dest: usize,
        predicate: usize,
        negated: bool,
        members: usize,
    },
    /// `match.any` or `match.all`, the latter with an optional predicate.
    Match {
        all: bool,
        dest: usize,
        predicate: Option<usize>,
        value: Register,
        members: usize,
    },
    Reduce {
        mode: ReduceMode,
        dest: usize,
        value: usize,
        members: usize,
    },
    Elect {
        dest: Option<usize>,
        predicate: usize,
        members: usize,
    },
    Clock(Register),
    Mma(Box<Mma>),
    LoadMatrix {
        address: Address,
        dest: Vec<usize>,
        transpose: bool,
    },
    StoreMatrix {
        address: Address,
        source: Vec<usize>,
        transpose: bool,
    },
    MoveMatrix {
        dest: usize,
        source: usize,
    },
    AsyncCopy(AsyncCopy),
    AsyncCommit,
    /// All but so many groups; None for everything, committed or not.
    AsyncWait(Option<u32>),
    Mbarrier {
        address: Address,
        shared: bool,
        op: MbarrierOp,
    },
    Hopper(Box<Hopper>),
}

/// The space a generic address lies in, and the address in that space.
#[inline(always)]
pub(crate) fn resolve(space: Space, address: u64) -> (Space, u64) {
    if space != Space::Generic {
        (space, address)
    } else if address < PARAM_WINDOW {
        (Space::Global, address)
    } else if address < LOCAL_WINDOW {
        (Space::Param, address - PARAM_WINDOW)
    } else if address < SHARED_WINDOW {
        (Space::Local, address - LOCAL_WINDOW)
    } else {
        (Space::Shared, address - SHARED_WINDOW)
    }
}
