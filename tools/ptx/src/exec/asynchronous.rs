//! Copies that complete later, their groups, and barriers in memory.
//!
//! A copy writes when it is waited for (late) or at once (early); in both cases its bytes count as in flight until
//! then.

use super::block::{Env, Place, early};
use super::memory::{addresses, count, fault, global_outcome, note};
use super::registers::{LANES, lanes};
use super::shared::{Site, Write};
use super::warp::{Next, Warp};
use crate::finding::Kind;
use crate::program::{Address, AsyncCopy, MbarrierOp, resolve};
use crate::types::Space;

/// A copy of one lane.
#[derive(Debug, Clone)]
pub(super) struct PendingCopy {
    site: Site,
    /// Group of the lane that it belongs to.
    group: u32,
    shared: usize,
    global: u64,
    bytes: usize,
    /// Bytes that are read; the rest is zero.
    reads: usize,
}

/// Barrier in shared memory.
#[derive(Default)]
pub(super) struct Mbarrier {
    expected: i64,
    pending: i64,
    phase: u64,
    /// Clocks of those that arrived in this phase, and in the one before.
    clocks: Vec<u32>,
    released: Vec<u32>,
    /// Arrivals that follow copies.
    after: Vec<(Site, Vec<PendingCopy>)>,
}

pub(super) fn copy(warp: &mut Warp, env: &mut Env, copy: &AsyncCopy, pc: usize, mask: u32) {
    let to = addresses(&warp.registers, &copy.shared);
    let from = addresses(&warp.registers, &copy.global);
    let bytes = copy.bytes;
    let mut reading = 0;
    let reads: [usize; LANES] = std::array::from_fn(|lane| {
        let ignored = copy.ignore.is_some_and(|(predicate, negated)| {
            (warp.registers.predicates[predicate] >> lane & 1 == 1) != negated
        });
        match copy.source_bytes {
            _ if ignored => 0,
            Some(slot) => bytes.min(warp.registers.words[slot][lane] as usize),
            None => bytes,
        }
    });
    for lane in lanes(mask) {
        reading |= u32::from(reads[lane] > 0) << lane;
    }
    count(env, Space::Shared, &to, mask, bytes, pc);
    count(env, Space::Global, &from, reading, bytes, pc);
    for lane in lanes(mask) {
        let site = warp.site(pc, lane);
        let Some(at) = super::memory::shared_row(env, site, to[lane], bytes) else {
            continue;
        };
        // an address that is not read is not checked
        if reads[lane] > 0 {
            if !from[lane].is_multiple_of(bytes as u64) {
                fault(
                    env,
                    site,
                    Space::Global,
                    from[lane],
                    bytes,
                    Kind::Misaligned,
                );
                continue;
            }
            if let Err(kind) = env
                .setting
                .device
                .locate(&mut env.hint, from[lane], reads[lane])
            {
                fault(env, site, Space::Global, from[lane], reads[lane], kind);
                continue;
            }
        }
        let hazard = env.shared.write(site, at, bytes, Write::CopyStarts);
        note(env, site, to[lane], hazard);
        let pending = PendingCopy {
            site,
            group: warp.groups[lane] + 1,
            shared: at,
            global: from[lane],
            bytes,
            reads: reads[lane],
        };
        if early(env) {
            transfer(env, &pending);
        } else {
            env.shared.bytes[at..at + bytes].fill(0xff);
        }
        warp.copies.push(pending);
    }
}

fn transfer(env: &mut Env, copy: &PendingCopy) {
    let mut data = [0; 16];
    if copy.reads > 0 {
        let setting = env.setting;
        let found = setting
            .device
            .locate(&mut env.hint, copy.global, copy.reads);
        let Ok((allocation, at)) = found else {
            return;
        };
        for (i, byte) in data[..copy.reads].iter_mut().enumerate() {
            *byte = allocation.load(at + i, 1) as u8;
        }
        if setting.options.checks {
            for word in at / 4..(at + copy.reads).div_ceil(4) {
                let touched = (at + copy.reads - 4 * word).min(4);
                let mask = (1 << touched) - 1;
                let outcome = env.toucher.touch(&allocation.cells[word], mask, false);
                global_outcome(env, copy.site, copy.global, outcome, false);
            }
        }
    }
    env.shared.bytes[copy.shared..copy.shared + copy.bytes].copy_from_slice(&data[..copy.bytes]);
}

/// The bytes are there from now on.
fn complete(env: &mut Env, copy: &PendingCopy) {
    if !early(env) {
        transfer(env, copy);
    }
    env.shared
        .write(copy.site, copy.shared, copy.bytes, Write::CopyEnds);
}

pub(super) fn commit(warp: &mut Warp, mask: u32) {
    for lane in lanes(mask) {
        warp.groups[lane] += 1;
    }
}

/// Waits for all but the latest `groups` groups; for everything if that is None.
pub(super) fn wait(warp: &mut Warp, env: &mut Env, groups: Option<u32>, mask: u32) {
    let committed = warp.groups;
    let due = |copy: &PendingCopy| {
        let lane = copy.site.lane;
        let last = groups.map_or(u32::MAX, |groups| committed[lane].saturating_sub(groups));
        mask >> lane & 1 == 1 && copy.group <= last
    };
    let mut completed: Vec<PendingCopy> = warp.copies.extract_if(.., |copy| due(copy)).collect();
    for barrier in env.mbarriers.values_mut() {
        for (site, copies) in &mut barrier.after {
            if site.warp == warp.index {
                completed.extend(copies.extract_if(.., |copy| due(copy)));
            }
        }
    }
    completed.sort_by_key(|copy| (copy.site.issue, copy.site.lane));
    for copy in &completed {
        complete(env, copy);
    }
}

/// Lanes exit: what they asked for still happens.
pub(super) fn finish(warp: &mut Warp, env: &mut Env, mask: u32) {
    if !warp.copies.is_empty() {
        wait(warp, env, None, mask);
    }
}

impl Mbarrier {
    /// Counts arrivals; true if there were more than the phase expects.
    fn arrive(&mut self, count: i64) -> bool {
        self.pending -= count;
        let beyond = self.pending < 0;
        if self.pending <= 0 {
            self.phase += 1;
            self.pending = self.expected;
            self.released = std::mem::take(&mut self.clocks);
        }
        beyond
    }

    fn done(&self, phase: u64, parity: bool) -> bool {
        if parity {
            self.phase & 1 != phase & 1
        } else {
            self.phase != phase
        }
    }
}

const NOT_INITIALISED: &str = "the barrier in memory was not initialised";
const BEYOND: &str = "more arrivals than the barrier expects";

pub(super) fn mbarrier(
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
    let mut failed = false;
    for lane in lanes(mask) {
        let site = warp.site(pc, lane);
        let (found, at) = resolve(space, addresses[lane]);
        if found != Space::Shared || !env.shared.holds(at, 8) {
            fault(env, site, found, at, 8, Kind::OutOfBounds);
            continue;
        }
        if at % 8 != 0 {
            fault(env, site, found, at, 8, Kind::Misaligned);
            continue;
        }
        if let MbarrierOp::Init { count } = op {
            let count = i64::from(warp.registers.words[*count][lane]);
            let barrier = Mbarrier {
                expected: count,
                pending: count,
                ..Mbarrier::default()
            };
            env.mbarriers.insert(at, barrier);
            continue;
        }
        if let MbarrierOp::Test {
            dest,
            phase,
            parity,
        } = op
        {
            let phase = if *parity {
                u64::from(warp.registers.words[*phase][lane])
            } else {
                warp.registers.doubles[*phase][lane]
            };
            if env
                .mbarriers
                .get(&at)
                .is_some_and(|barrier| !barrier.done(phase, *parity))
            {
                arrive_after_copies(env, at);
            }
            let done = match env.mbarriers.get(&at) {
                Some(barrier) => {
                    let done = barrier.done(phase, *parity);
                    if done {
                        env.shared.acquire(warp.index, &barrier.released);
                        env.progress = true;
                    }
                    done
                }
                None => {
                    env.report(
                        Kind::Mbarrier,
                        Place::at(site, Space::Shared, at),
                        NOT_INITIALISED,
                    );
                    true
                }
            };
            warp.registers
                .set_predicate(*dest, if done { u32::MAX } else { 0 }, 1 << lane);
            failed |= !done;
            continue;
        }
        let Some(barrier) = env.mbarriers.get_mut(&at) else {
            env.report(
                Kind::Mbarrier,
                Place::at(site, Space::Shared, at),
                NOT_INITIALISED,
            );
            continue;
        };
        env.progress = true;
        let mut beyond = false;
        match op {
            MbarrierOp::Arrive { count, token, drop } => {
                let count = count.map_or(1, |slot| i64::from(warp.registers.words[slot][lane]));
                if let Some(token) = token {
                    warp.registers.doubles[*token][lane] = barrier.phase;
                }
                env.shared.release(warp.index, &mut barrier.clocks);
                if *drop {
                    barrier.expected -= count;
                }
                beyond = barrier.arrive(count);
            }
            MbarrierOp::ArriveAfterCopies { noinc } => {
                if !noinc {
                    barrier.pending += 1;
                }
                let copies = warp
                    .copies
                    .extract_if(.., |copy| copy.site.lane == lane)
                    .collect();
                barrier.after.push((site, copies));
                if early(env) {
                    arrive_after_copies(env, at);
                }
            }
            _ => {
                env.mbarriers.remove(&at);
            }
        }
        if beyond {
            env.report(Kind::Mbarrier, Place::at(site, Space::Shared, at), BEYOND);
        }
    }
    if failed { Next::Yield } else { Next::Go }
}

/// Completes the copies that arrivals at a barrier wait for, and arrives.
fn arrive_after_copies(env: &mut Env, at: u64) {
    let Some(barrier) = env.mbarriers.get_mut(&at) else {
        return;
    };
    for (site, copies) in std::mem::take(&mut barrier.after) {
        for copy in &copies {
            complete(env, copy);
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
