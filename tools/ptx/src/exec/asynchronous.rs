//! Copies of a few bytes that complete later, and their groups.
//!
//! A copy writes when it is waited for (late) or at once (early); in both cases its bytes count as in flight until
//! then.

use super::block::{Env, early};
use super::count::count;
use super::memory::{fault, global_outcome, note};
use super::registers::{LANES, Row, lanes, lanes_of};
use super::rows::{addresses, extent, shared_places};
use super::shared::{Site, Write};
use super::warp::Warp;
use crate::device::Allocation;
use crate::finding::Kind;
use crate::program::AsyncCopy;
use crate::types::Space;
use crate::wide::wide;

/// Copies of the lanes of one instruction.
#[derive(Debug, Clone)]
pub(super) struct PendingCopy {
    /// Of lane 0.
    site: Site,
    /// Lanes that are still to copy.
    mask: u32,
    bytes: usize,
    /// Address and length of what all lanes together read, if that is aligned and lies in one allocation.
    source: Option<(u64, usize)>,
    lanes: Box<Lanes>,
}

/// What each lane copies.
#[derive(Debug, Clone)]
struct Lanes {
    /// Group that it belongs to.
    group: Row<u32>,
    shared: Row<u32>,
    global: Row<u64>,
    /// Bytes that are read; the rest is zero.
    reads: Row<u32>,
}

pub(super) fn copy(warp: &mut Warp, env: &mut Env, copy: &AsyncCopy, pc: usize, mask: u32) {
    wide(
        #[inline(always)]
        || copy_in(warp, env, copy, pc, mask),
    );
}

#[inline(always)]
fn copy_in(warp: &mut Warp, env: &mut Env, copy: &AsyncCopy, pc: usize, mask: u32) {
    let to = addresses(&warp.registers, &copy.shared);
    let from = addresses(&warp.registers, &copy.global);
    let bytes = copy.bytes;
    let ignored = copy.ignore.map_or(0, |(predicate, negated)| {
        warp.registers.predicates[predicate] ^ if negated { u32::MAX } else { 0 }
    });
    let mut reads = [bytes as u32; LANES];
    if let Some(slot) = copy.source_bytes {
        for (reads, size) in reads.iter_mut().zip(&warp.registers.words[slot]) {
            *reads = (*size).min(bytes as u32);
        }
    }
    let mut some = [0; LANES];
    for (lane, reads) in reads.iter_mut().enumerate() {
        *reads = if ignored >> lane & 1 == 1 { 0 } else { *reads };
        some[lane] = u8::from(*reads > 0);
    }
    let reading = lanes_of(&some) & mask;
    count(env, Space::Shared, &to, mask, bytes, pc);
    count(env, Space::Global, &from, reading, bytes, pc);
    let mut pending = PendingCopy {
        site: warp.site(pc, 0),
        mask,
        bytes,
        source: None,
        lanes: Box::new(Lanes {
            group: warp.groups,
            shared: [0; LANES],
            global: from,
            reads,
        }),
    };
    for group in &mut pending.lanes.group {
        *group += 1;
    }
    pending.source = source(env, &pending, reading);
    match shared_places(env, &to, mask, bytes) {
        Some(places) if pending.source.is_some() || reading == 0 => pending.lanes.shared = places,
        _ => check_lanes(env, &mut pending, &to),
    }
    let PendingCopy { site, mask, .. } = pending;
    let starts = Write::CopyStarts;
    let places = &pending.lanes.shared;
    let clean = env.shared.clean_writes(site, places, mask, bytes, starts);
    start(env, &pending, clean);
    for lane in lanes(mask & !clean) {
        let (at, site) = (pending.lanes.shared[lane] as usize, Site { lane, ..site });
        let hazard = env.shared.write(site, at, bytes, starts);
        note(env, site, to[lane], hazard);
        start(env, &pending, 1 << lane);
    }
    if mask != 0 {
        warp.copies.push(pending);
    }
}

/// Address and length of what the lanes of `reading` read, if that is aligned and lies in one allocation.
#[inline(always)]
fn source(env: &mut Env, copy: &PendingCopy, reading: u32) -> Option<(u64, usize)> {
    let (low, least, most) = extent(&copy.lanes.global, reading);
    if reading == 0 || low & (copy.bytes as u64 - 1) != 0 {
        return None;
    }
    // the last one may read less than the others
    let bytes = (most - least).checked_add(copy.bytes as u64)? as usize;
    let device = env.setting.device;
    device.locate(&mut env.hint, least, bytes).ok()?;
    Some((least, bytes))
}

/// Takes out lanes that cannot copy, and tells why.
fn check_lanes(env: &mut Env, copy: &mut PendingCopy, to: &Row<u64>) {
    let (bytes, site) = (copy.bytes, copy.site);
    for lane in lanes(copy.mask) {
        let site = Site { lane, ..site };
        let (from, reads) = (copy.lanes.global[lane], copy.lanes.reads[lane] as usize);
        let Some(at) = super::memory::shared_row(env, site, to[lane], bytes) else {
            copy.mask &= !(1 << lane);
            continue;
        };
        copy.lanes.shared[lane] = at as u32;
        // an address that is not read is not checked
        if reads == 0 {
            continue;
        }
        let wrong = if !from.is_multiple_of(bytes as u64) {
            Some((bytes, Kind::Misaligned))
        } else {
            let found = env.setting.device.locate(&mut env.hint, from, reads);
            found.err().map(|kind| (reads, kind))
        };
        if let Some((bytes, kind)) = wrong {
            copy.mask &= !(1 << lane);
            fault(env, site, Space::Global, from, bytes, kind);
        }
    }
}

/// The bytes are in flight from now on, or there already.
#[inline(always)]
fn start(env: &mut Env, copy: &PendingCopy, mask: u32) {
    if early(env) {
        return transfer(env, copy, mask);
    }
    match copy.bytes {
        4 => forget::<4>(env, copy, mask),
        8 => forget::<8>(env, copy, mask),
        _ => forget::<16>(env, copy, mask),
    }
}

#[inline(always)]
fn forget<const BYTES: usize>(env: &mut Env, copy: &PendingCopy, mask: u32) {
    for lane in lanes(mask) {
        let at = copy.lanes.shared[lane] as usize;
        env.shared.bytes[at..at + BYTES].copy_from_slice(&[0xff; BYTES]);
    }
}

fn transfer(env: &mut Env, copy: &PendingCopy, mask: u32) {
    wide(
        #[inline(always)]
        || match copy.bytes {
            4 => transfer_of::<4>(env, copy, mask),
            8 => transfer_of::<8>(env, copy, mask),
            _ => transfer_of::<16>(env, copy, mask),
        },
    );
}

#[inline(always)]
fn transfer_of<const BYTES: usize>(env: &mut Env, copy: &PendingCopy, mask: u32) {
    let device = env.setting.device;
    let together = copy.source.and_then(|(address, bytes)| {
        let (allocation, at) = device.locate(&mut env.hint, address, bytes).ok()?;
        Some((allocation, address - at as u64))
    });
    for lane in lanes(mask) {
        let (at, reads) = (
            copy.lanes.shared[lane] as usize,
            copy.lanes.reads[lane] as usize,
        );
        if reads == 0 {
            env.shared.bytes[at..at + BYTES].copy_from_slice(&[0; BYTES]);
            continue;
        }
        let address = copy.lanes.global[lane];
        let (allocation, from) = if let Some((allocation, base)) = together {
            (allocation, (address - base) as usize)
        } else if let Ok(place) = device.locate(&mut env.hint, address, reads) {
            place
        } else {
            continue;
        };
        let to = &mut env.shared.bytes[at..at + BYTES];
        if reads == BYTES {
            to.copy_from_slice(&allocation.words_at::<BYTES>(from));
        } else {
            for (i, byte) in to.iter_mut().enumerate() {
                *byte = if i < reads {
                    allocation.load(from + i, 1) as u8
                } else {
                    0
                };
            }
        }
        if env.setting.options.checks {
            check_source(env, copy, lane, allocation, from);
        }
    }
}

/// Notes what a lane reads from an offset of an allocation, and reports what is wrong with it.
#[inline(always)]
fn check_source(
    env: &mut Env,
    copy: &PendingCopy,
    lane: usize,
    allocation: &Allocation,
    from: usize,
) {
    let reads = copy.lanes.reads[lane] as usize;
    let cells = &allocation.cells[from / 4..(from + reads).div_ceil(4)];
    if reads.is_multiple_of(4) && env.toucher.reads_are_clean(cells) {
        return;
    }
    let site = Site { lane, ..copy.site };
    for (i, cell) in cells.iter().enumerate() {
        let touched = (reads - 4 * i).min(4);
        let outcome = env.toucher.touch(cell, (1 << touched) - 1, false);
        global_outcome(env, site, copy.lanes.global[lane], outcome, false);
    }
}

/// The bytes are there from now on.
pub(super) fn complete(env: &mut Env, copy: &PendingCopy) {
    if !early(env) {
        transfer(env, copy, copy.mask);
    }
    let PendingCopy {
        site,
        mask,
        bytes,
        lanes,
        ..
    } = copy;
    let ends = Write::CopyEnds;
    wide(
        #[inline(always)]
        || {
            let places = &lanes.shared;
            env.shared.clean_writes(*site, places, *mask, *bytes, ends)
        },
    );
}

pub(super) fn commit(warp: &mut Warp, mask: u32) {
    for lane in lanes(mask) {
        warp.groups[lane] += 1;
    }
}

/// Waits for all but the latest `groups` groups; for everything if that is None.
pub(super) fn wait(warp: &mut Warp, env: &mut Env, groups: Option<u32>, mask: u32) {
    let last = |committed: u32| groups.map_or(u32::MAX, |groups| committed.saturating_sub(groups));
    let last = warp.groups.map(last);
    let mut completed = take(&mut warp.copies, mask, &last);
    for barrier in env.mbarriers.values_mut() {
        for (site, copies) in &mut barrier.after {
            if site.warp == warp.index {
                completed.extend(take(copies, mask, &last));
            }
        }
    }
    // an instruction's lanes may have parted, and go by their numbers
    completed.sort_by_key(|copy| (copy.site.issue, copy.mask.trailing_zeros()));
    for copy in &completed {
        complete(env, copy);
    }
}

/// Takes out what lanes of `mask` copy in groups up to `last`.
pub(super) fn take(copies: &mut Vec<PendingCopy>, mask: u32, last: &Row<u32>) -> Vec<PendingCopy> {
    let mut taken = vec![];
    for mut copy in std::mem::take(copies) {
        let mut due = [0; LANES];
        for (due, (group, last)) in due.iter_mut().zip(copy.lanes.group.iter().zip(last)) {
            *due = u8::from(group <= last);
        }
        let due = lanes_of(&due) & mask & copy.mask;
        if due == copy.mask {
            taken.push(copy);
            continue;
        }
        if due != 0 {
            copy.mask &= !due;
            let mut now = copy.clone();
            now.mask = due;
            taken.push(now);
        }
        copies.push(copy);
    }
    taken
}

/// Lanes exit: what they asked for still happens.
pub(super) fn finish(warp: &mut Warp, env: &mut Env, mask: u32) {
    if !warp.copies.is_empty() {
        wait(warp, env, None, mask);
    }
    super::departing::finish(warp, env, mask);
}
