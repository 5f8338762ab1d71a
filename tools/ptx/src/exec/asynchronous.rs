//! Copies of a few bytes that complete later, and their groups.
//!
//! A copy writes when it is waited for (late) or at once (early); in both cases its bytes count as in flight until
//! then.

use super::block::{Env, early};
use super::memory::{addresses, count, fault, global_outcome, note};
use super::registers::{LANES, lanes};
use super::shared::{Site, Write};
use super::warp::Warp;
use crate::finding::Kind;
use crate::program::AsyncCopy;
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

impl PendingCopy {
    pub fn site(&self) -> Site {
        self.site
    }
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
pub(super) fn complete(env: &mut Env, copy: &PendingCopy) {
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
    super::departing::finish(warp, env, mask);
}
