//! Barriers in shared memory: arrivals and bytes of copies end a phase.
//!
//! Copies that end at a barrier are delivered when somebody waits for its phase and only bytes are missing.

use std::collections::VecDeque;

use super::asynchronous::PendingCopy;
use super::block::{Env, Place, early};
use super::bulk::Arriving;
use super::memory::{fault, note};
use super::registers::{LANES, lanes};
use super::rows::addresses;
use super::shared::Site;
use super::warp::{Next, Warp};
use crate::finding::Kind;
use crate::hopper::TOKEN_SHIFT;
use crate::program::{Address, MbarrierOp, resolve};
use crate::types::Space;

/// Bytes that may be outstanding, in either direction.
const MOST_BYTES: i64 = (1 << 20) - 1;

/// Barrier in shared memory.
#[derive(Default)]
pub(super) struct Mbarrier {
    expected: i64,
    pending: i64,
    /// Bytes that are expected and have not come.
    bytes: i64,
    phase: u64,
    /// Clocks of those that arrived in this phase, and in the one before.
    clocks: Vec<u32>,
    released: Vec<u32>,
    /// Arrivals that follow copies.
    pub after: Vec<(Site, Vec<PendingCopy>)>,
    /// Copies that have not been delivered.
    pub arriving: VecDeque<Arriving>,
    /// Warps whose last test failed.
    polled: u32,
}

impl std::fmt::Display for Mbarrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Mbarrier { pending, bytes, .. } = self;
        write!(f, "still expects {pending} arrivals and {bytes} bytes")
    }
}

impl Mbarrier {
    fn new(count: i64) -> Self {
        Mbarrier {
            expected: count,
            pending: count,
            ..Mbarrier::default()
        }
    }

    /// True if the last test of a warp failed.
    pub fn waits(&self, warp: usize) -> bool {
        self.polled >> warp & 1 == 1
    }

    /// Ends the phase if nothing is missing.
    fn settle(&mut self) {
        if self.pending == 0 && self.bytes == 0 {
            self.phase += 1;
            self.pending = self.expected;
            self.released = std::mem::take(&mut self.clocks);
        }
    }

    /// Counts arrivals; true if there were more than the phase expects.
    fn arrive(&mut self, count: i64) -> bool {
        let beyond = count > self.pending;
        self.pending = (self.pending - count).max(0);
        self.settle();
        beyond
    }

    /// Counts bytes that have come, for those ordered behind `clocks`.
    pub fn deliver(&mut self, bytes: usize, clocks: &[u32]) {
        if self.clocks.len() < clocks.len() {
            self.clocks.resize(clocks.len(), 0);
        }
        for (to, from) in self.clocks.iter_mut().zip(clocks) {
            *to = (*to).max(*from);
        }
        self.bytes -= bytes as i64;
        self.settle();
    }

    fn done(&self, phase: u64, parity: bool) -> bool {
        if parity {
            self.phase & 1 != phase & 1
        } else {
            self.phase & ((1 << TOKEN_SHIFT) - 1) != phase & ((1 << TOKEN_SHIFT) - 1)
        }
    }
}

const NOT_INITIALISED: &str = "the barrier in memory was not initialised";
const BEYOND: &str = "more arrivals than the barrier expects";

/// Rank and offset of a barrier, if a block has memory there.
pub(super) fn locate(
    env: &mut Env,
    site: Site,
    space: Space,
    address: u64,
) -> Option<(usize, u64)> {
    let (space, address) = resolve(space, address);
    if space != Space::Shared {
        fault(env, site, space, address, 8, Kind::OutOfBounds);
        return None;
    }
    let (rank, at) = env.home(address);
    if at % 8 != 0 {
        fault(env, site, space, at, 8, Kind::Misaligned);
        return None;
    }
    env.holds(site, rank, at, 8).then_some((rank, at))
}

pub(super) fn execute(
    warp: &mut Warp,
    env: &mut Env,
    address: &Address,
    shared: bool,
    op: &MbarrierOp,
    pc: usize,
    mask: u32,
) -> Next {
    let addresses = addresses(&warp.registers, address);
    let space = if shared {
        Space::Shared
    } else {
        Space::Generic
    };
    let own = env.cluster.rank;
    let mut failed = false;
    for lane in lanes(mask) {
        let site = warp.site(pc, lane);
        let Some((rank, at)) = locate(env, site, space, addresses[lane]) else {
            continue;
        };
        if let MbarrierOp::Test { dest, .. } = op {
            let done = if rank == own {
                test(warp, env, op, site, at)
            } else {
                fault(
                    env,
                    site,
                    Space::Shared,
                    addresses[lane],
                    8,
                    Kind::OutOfBounds,
                );
                true
            };
            let bits = if done { u32::MAX } else { 0 };
            warp.registers.set_predicate(*dest, bits, 1 << lane);
            failed |= !done;
            continue;
        }
        if let (MbarrierOp::Init { .. }, true) = (op, rank == own) {
            // everybody else must be ordered behind it
            let hazard = env.shared.write(
                site,
                at as usize,
                8,
                super::shared::Write::Plain { same: false },
            );
            note(env, site, at, hazard);
        } else if rank == own && env.mbarriers.contains_key(&at) {
            let hazard = env.shared.read(site, at as usize, 8, false);
            note(env, site, at, hazard);
        }
        env.switch(rank);
        let complaint = change(warp, env, op, site, at, rank != own);
        env.switch(own);
        if let Some(message) = complaint {
            env.report(Kind::Mbarrier, Place::at(site, Space::Shared, at), message);
        }
    }
    if failed { Next::Yield } else { Next::Go }
}

/// Everything but waiting, at a barrier of the block that is switched to; what is wrong with it.
fn change(
    warp: &mut Warp,
    env: &mut Env,
    op: &MbarrierOp,
    site: Site,
    at: u64,
    foreign: bool,
) -> Option<&'static str> {
    let lane = site.lane;
    let word = |warp: &Warp, slot: usize| i64::from(warp.registers.words[slot][lane]);
    if let MbarrierOp::Init { count } = op {
        let count = word(warp, *count);
        env.mbarriers.insert(at, Mbarrier::new(count));
        return (count == 0).then_some("a barrier must expect at least one arrival");
    }
    if !env.mbarriers.contains_key(&at) {
        return Some(NOT_INITIALISED);
    }
    env.progress = true;
    let barrier = env.mbarriers.get_mut(&at)?;
    let mut complaint = None;
    match op {
        MbarrierOp::Arrive {
            count,
            token,
            drop,
            expect,
            holds_back,
        } => {
            let count = count.map_or(1, |slot| word(warp, slot));
            if let Some(token) = token {
                let state = barrier.phase | (barrier.pending as u64) << TOKEN_SHIFT;
                warp.registers.doubles[*token][lane] = state;
            }
            if !foreign {
                env.shared.release(warp.index, &mut barrier.clocks);
            }
            if let Some(bytes) = expect {
                barrier.bytes += word(warp, *bytes);
            }
            if *drop {
                barrier.expected -= count;
            }
            let phase = barrier.phase;
            if barrier.arrive(count) {
                complaint = Some(BEYOND);
            } else if *holds_back && barrier.phase != phase {
                complaint = Some("an arrival that must not end its phase did");
            }
        }
        MbarrierOp::Expect { bytes } => {
            barrier.bytes += word(warp, *bytes);
        }
        MbarrierOp::Complete { bytes } => barrier.deliver(word(warp, *bytes) as usize, &[]),
        MbarrierOp::ArriveAfterCopies { noinc } => {
            if !noinc {
                barrier.pending += 1;
            }
            let last = [u32::MAX; LANES];
            let copies = super::asynchronous::take(&mut warp.copies, 1 << lane, &last);
            barrier.after.push((site, copies));
            if early(env) {
                arrive_after_copies(env, at);
            }
        }
        _ => {
            env.mbarriers.remove(&at);
        }
    }
    if let Some(barrier) = env.mbarriers.get(&at)
        && barrier.bytes.abs() > MOST_BYTES
    {
        complaint = Some("the barrier expects more bytes than it can count");
    }
    complaint
}

/// Whether the phase is over; delivers what it waits for.
fn test(warp: &mut Warp, env: &mut Env, op: &MbarrierOp, site: Site, at: u64) -> bool {
    let MbarrierOp::Test { phase, parity, .. } = op else {
        return true;
    };
    let phase = if *parity {
        u64::from(warp.registers.words[*phase][site.lane])
    } else {
        warp.registers.doubles[*phase][site.lane]
    };
    let place = Place::at(site, Space::Shared, at);
    let Some(barrier) = env.mbarriers.get(&at) else {
        env.report(Kind::Mbarrier, place, NOT_INITIALISED);
        return true;
    };
    if !barrier.done(phase, *parity) {
        if !barrier.after.is_empty() {
            arrive_after_copies(env, at);
        }
        deliver(env, at, |barrier| barrier.done(phase, *parity));
    }
    let hazard = env.shared.read(site, at as usize, 8, false);
    note(env, site, at, hazard);
    let Some(barrier) = env.mbarriers.get_mut(&at) else {
        return true;
    };
    let done = barrier.done(phase, *parity);
    let bit = 1 << warp.index;
    if done {
        barrier.polled &= !bit;
        env.shared.acquire(warp.index, &barrier.released);
        env.progress = true;
    } else {
        barrier.polled |= bit;
    }
    done
}

/// Delivers copies one after another, until enough have come.
fn deliver(env: &mut Env, at: u64, enough: impl Fn(&Mbarrier) -> bool) {
    while let Some(barrier) = env.mbarriers.get_mut(&at) {
        if enough(barrier) || barrier.pending > 0 {
            return;
        }
        let Some(copy) = barrier.arriving.pop_front() else {
            return;
        };
        env.progress = true;
        super::bulk::arrive(env, at, &copy);
    }
}

/// Completes the copies that arrivals at a barrier wait for, and arrives.
fn arrive_after_copies(env: &mut Env, at: u64) {
    let Some(barrier) = env.mbarriers.get_mut(&at) else {
        return;
    };
    for (site, copies) in std::mem::take(&mut barrier.after) {
        for copy in &copies {
            super::asynchronous::complete(env, copy);
        }
        let Some(barrier) = env.mbarriers.get_mut(&at) else {
            return;
        };
        env.progress = true;
        env.shared.release(site.warp, &mut barrier.clocks);
        if barrier.arrive(1) {
            env.report(Kind::Mbarrier, Place::at(site, Space::Shared, at), BEYOND);
        }
    }
}
