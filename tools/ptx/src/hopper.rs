//! Actions that came with sm_90.

use crate::program::{Accumulator, Address, AtomicOp, AtomicType, Factor, Register};
use crate::tensor_map::Field;
use crate::types::Space;

/// The token of an arrival holds the phase in its low bits and the arrivals that were missing above.
pub(crate) const TOKEN_SHIFT: u32 = 40;

#[derive(Debug)]
pub(crate) enum Hopper {
    /// `fence.proxy.async` for shared memory.
    ProxyFence,
    Copy(BulkCopy),
    Tensor(TensorCopy),
    CommitCopies,
    /// All but so many groups; `read`: only their sources must be free again.
    WaitCopies {
        groups: u32,
        read: bool,
    },
    /// `tensormap.replace`
    Replace {
        space: Space,
        map: Address,
        field: Field,
        value: Register,
    },
    /// `tensormap.cp_fenceproxy`: shared to global memory.
    CopyMap {
        to: Address,
        from: Address,
    },
    Product(Product),
    /// `wgmma.fence`
    ProductFence,
    CommitProducts,
    /// All but so many groups.
    WaitProducts(u32),
    /// `st.async` and `red.async`: a store to another block that counts at a barrier.
    StoreAsync {
        address: Address,
        barrier: Address,
        /// Bytes of an element.
        bytes: usize,
        values: Vec<Register>,
        reduce: Option<Reduction>,
    },
    /// `mapa`: the same address in the block with the rank in a slot.
    MapAddress {
        dest: Register,
        address: Address,
        rank: usize,
    },
    RankOf {
        dest: Register,
        address: Address,
    },
    ClusterArrive,
    ClusterWait,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reduction {
    pub op: AtomicOp,
    pub ty: AtomicType,
    /// Bytes of an element.
    pub bytes: usize,
}

/// From where to where a bulk copy goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// Counted at a barrier in memory.
    GlobalToShared,
    SharedToShared,
    /// Waited for in groups.
    SharedToGlobal,
    /// Global memory to the cache: nothing to see.
    Prefetch,
}

/// `cp.async.bulk` and `cp.reduce.async.bulk`
#[derive(Debug)]
pub(crate) struct BulkCopy {
    pub route: Route,
    pub to: Address,
    pub from: Address,
    /// Slot of the number of bytes.
    pub bytes: usize,
    pub barrier: Option<Address>,
    /// Slot of the mask of blocks that all get the bytes.
    pub blocks: Option<usize>,
    /// Slot of the mask of the bytes of 16 that are written.
    pub byte_mask: Option<usize>,
    pub reduce: Option<Reduction>,
}

/// `cp.async.bulk.tensor` and `cp.reduce.async.bulk.tensor`
#[derive(Debug)]
pub(crate) struct TensorCopy {
    pub route: Route,
    pub map: Address,
    /// Slots, the fastest coordinate first.
    pub coordinates: Vec<usize>,
    pub shared: Address,
    pub barrier: Option<Address>,
    pub blocks: Option<usize>,
    pub reduce: Option<AtomicOp>,
}

/// Where a factor of a product comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    /// Slots of a fragment.
    Registers(Vec<usize>),
    /// Slot of a matrix descriptor.
    Shared(usize),
}

/// `wgmma.mma_async`: `d = a b + d`, with a [64, k], b [k, n], d [64, n], of which a warp has 16 rows.
#[derive(Debug)]
pub(crate) struct Product {
    pub n: usize,
    pub k: usize,
    pub a_type: Factor,
    pub b_type: Factor,
    pub result: Accumulator,
    pub d: Vec<usize>,
    pub a: Source,
    pub b: usize,
    /// Predicate that says whether d is added, and whether it is negated.
    pub add: (usize, bool),
    pub negate_a: bool,
    pub negate_b: bool,
    /// The rows of a, or columns of b, lie side by side in memory.
    pub transpose_a: bool,
    pub transpose_b: bool,
    pub saturate: bool,
}

/// An instruction that touches registers it should not touch there, as far as the text shows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Misuse {
    pub at: usize,
    /// The product the registers belong to; None where a fence is missing.
    pub product: Option<usize>,
}

/// Slots of the words an instruction names: those it may write, and the others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Touched {
    pub writes: Vec<usize>,
    pub reads: Vec<usize>,
}
