//! Clusters: blocks that run together and reach one another's shared memory.
//!
//! The state of the block that runs lies in [`Env`], that of the others in their seats. Accesses of one block to the
//! memory of another are checked for bounds, initialisation and copies in flight, not for races.

use std::collections::HashMap;

use super::barrier::NamedBarrier;
use super::block::{Env, Place};
use super::mbarrier::Mbarrier;
use super::memory::{fault, write_register};
use super::registers::LANES;
use super::shared::{Shared, Site};
use super::warp::{Next, Status, Warp};
use crate::finding::Kind;
use crate::program::Register;
use crate::shadow::Toucher;
use crate::types::Space;

/// Addresses of shared memory carry the rank of their block plus one above this bit; 0 is the block's own.
const RANK_SHIFT: u32 = 24;

/// What belongs to one block.
pub(super) struct Seat {
    pub block: [u32; 3],
    pub number: u64,
    pub toucher: Toucher,
    pub shared: Shared,
    pub barriers: Vec<NamedBarrier>,
    pub mbarriers: HashMap<u64, Mbarrier>,
    pub done: bool,
}

/// Where a warp stands with the barrier of the cluster.
#[derive(Default)]
pub(super) struct Arrival {
    /// Lanes that have arrived while others have not.
    lanes: u32,
    /// Opening of the barrier at which the warp may go on.
    phase: u64,
}

/// The blocks of a cluster.
pub(super) struct Cluster {
    /// Rank of the running block, whose seat is empty.
    pub rank: usize,
    pub seats: Vec<Seat>,
    /// How often the barrier of the cluster has opened.
    phase: u64,
    /// By block: clocks of those that arrived.
    clocks: Vec<Vec<u32>>,
}

impl Cluster {
    /// The first block runs first.
    pub fn new(seats: Vec<Seat>) -> Self {
        Cluster {
            rank: 0,
            clocks: vec![vec![]; seats.len()],
            seats,
            phase: 0,
        }
    }
}

impl Env<'_> {
    /// Makes another block of the cluster the running one.
    pub fn switch(&mut self, rank: usize) {
        let current = self.cluster.rank;
        if rank != current {
            self.swap(current);
            self.swap(rank);
            self.cluster.rank = rank;
        }
    }

    pub fn swap(&mut self, rank: usize) {
        let seat = &mut self.cluster.seats[rank];
        std::mem::swap(&mut self.block, &mut seat.block);
        std::mem::swap(&mut self.number, &mut seat.number);
        std::mem::swap(&mut self.toucher, &mut seat.toucher);
        std::mem::swap(&mut self.shared, &mut seat.shared);
        std::mem::swap(&mut self.barriers, &mut seat.barriers);
        std::mem::swap(&mut self.mbarriers, &mut seat.mbarriers);
    }

    /// Rank and offset of an address in shared memory; an address of no block is out of bounds in the own one.
    pub fn home(&self, address: u64) -> (usize, u64) {
        let rank = (address >> RANK_SHIFT) as usize;
        if rank == 0 || rank > self.cluster.seats.len() {
            (self.cluster.rank, address)
        } else {
            (rank - 1, address & ((1 << RANK_SHIFT) - 1))
        }
    }

    /// The memory of a block, if it holds these bytes and the block still runs; reports what is wrong otherwise.
    pub fn holds(&mut self, site: Site, rank: usize, address: u64, bytes: usize) -> bool {
        if rank == self.cluster.rank {
            let inside = self.shared.holds(address, bytes);
            if !inside {
                fault(self, site, Space::Shared, address, bytes, Kind::OutOfBounds);
            }
            return inside;
        }
        let seat = &self.cluster.seats[rank];
        let (inside, done) = (seat.shared.holds(address, bytes), seat.done);
        if !inside {
            fault(self, site, Space::Shared, address, bytes, Kind::OutOfBounds);
        } else if done {
            let place = Place::at(site, Space::Shared, address);
            let message = "the block whose shared memory this is has exited";
            self.report(Kind::UseAfterFree, place, message);
        }
        inside && !done
    }
}

/// Reads and writes of one lane to an address that is not the block's own: `update` gets the old value of each
/// element and gives the new one, None for a read.
pub(super) fn access(
    env: &mut Env,
    site: Site,
    address: u64,
    bytes: usize,
    count: usize,
    mut update: impl FnMut(usize, u64) -> Option<u64>,
) {
    let (rank, at) = env.home(address);
    let own = env.cluster.rank;
    if !env.holds(site, rank, at, bytes * count) {
        return;
    }
    env.progress = true;
    env.switch(rank);
    let mut written = false;
    for i in 0..count {
        let at = at as usize + i * bytes;
        if let Some(new) = update(i, env.shared.load(at, bytes)) {
            env.shared.store(at, bytes, new);
            written = true;
        }
    }
    let hazard = env.shared.foreign(at as usize, bytes * count, written);
    env.switch(own);
    super::memory::note(env, site, at, hazard);
}

/// `mapa`: the address that the same variable has in another block.
pub(super) fn map(address: u64, rank: u32) -> u64 {
    let keep = (1 << RANK_SHIFT) - 1;
    let low = address & u64::from(u32::MAX);
    (address - low) | (low & keep) | (u64::from(rank) + 1) << RANK_SHIFT
}

/// `getctarank`: the rank of the block an address lies in.
pub(super) fn rank_of(env: &Env, address: u64) -> u32 {
    let low = address & u64::from(u32::MAX);
    env.home(low).0 as u32
}

/// `mapa` and `getctarank` for all lanes.
pub(super) fn each(warp: &mut Warp, dest: Register, mask: u32, values: [u64; LANES]) {
    write_register(&mut warp.registers, dest, mask, |lane| values[lane]);
}

/// `barrier.cluster.arrive`
pub(super) fn arrive(warp: &mut Warp, env: &mut Env, pc: usize, mask: u32) -> Next {
    let arrival = &mut warp.later.arrival;
    if arrival.lanes & mask != 0 || arrival.phase > env.cluster.phase {
        let message = "threads arrive again at the barrier of the cluster without having waited";
        env.report(Kind::BarrierDivergence, Place::new(pc, warp.index), message);
        env.stop = true;
        return Next::Wait;
    }
    env.progress = true;
    arrival.lanes |= mask;
    if arrival.lanes & warp.live == warp.live {
        *arrival = Arrival {
            lanes: 0,
            phase: env.cluster.phase + 1,
        };
    }
    let rank = env.cluster.rank;
    let clocks = &mut env.cluster.clocks[rank];
    env.shared.release(warp.index, clocks);
    Next::Go
}

/// `barrier.cluster.wait`
pub(super) fn wait(warp: &Warp, env: &mut Env, pc: usize) -> Next {
    if warp.later.arrival.phase == 0 {
        let message = "the warp waits at the barrier of the cluster without having arrived";
        env.report(Kind::BarrierDivergence, Place::new(pc, warp.index), message);
        env.stop = true;
    }
    Next::Wait
}

/// Opens the barrier of the cluster when all warps that are left are there, and lets those go on that wait.
pub(super) fn settle(env: &mut Env, blocks: &mut [Vec<Warp>], waits: impl Fn(&Warp) -> bool) {
    let next = env.cluster.phase + 1;
    let mut left = blocks
        .iter()
        .flatten()
        .filter(|warp| warp.status != Status::Done)
        .peekable();
    if left.peek().is_some() && left.all(|warp| warp.later.arrival.phase == next) {
        env.cluster.phase = next;
        env.progress = true;
        let clocks = env.cluster.clocks.iter_mut();
        let clocks: Vec<_> = clocks.map(std::mem::take).collect();
        // who does not wait is ordered a little too well
        for (rank, warps) in blocks.iter().enumerate() {
            env.switch(rank);
            for warp in warps {
                env.shared.acquire(warp.index, &clocks[rank]);
            }
        }
    }
    for warp in blocks.iter_mut().flatten() {
        if warp.status == Status::Waiting
            && waits(warp)
            && env.cluster.phase >= warp.later.arrival.phase
        {
            env.progress = true;
            warp.status = Status::Running;
        }
    }
}
