//! The sixteen named barriers of a block.

use super::block::{Env, Place};
use super::registers::lanes;
use super::warp::{Next, Status, Warp};
use crate::finding::Kind;
use crate::program::{Barrier, BarrierReduce, Register};

#[derive(Default)]
pub(super) struct NamedBarrier {
    /// Warps that have arrived since it last opened.
    arrived: usize,
    /// Warps it waits for; None for all of the block.
    expected: Option<usize>,
    waiting: Vec<Waiting>,
    /// Clocks of those that arrived.
    clocks: Vec<u32>,
    /// Threads whose predicate holds, and threads.
    votes: u32,
    threads: u32,
    /// Opened: the waiting warps may go on.
    opened: Vec<Opened>,
}

struct Waiting {
    warp: usize,
    pc: usize,
    reduce: Option<(BarrierReduce, Register)>,
}

struct Opened {
    waiting: Vec<Waiting>,
    clocks: Vec<u32>,
    votes: u32,
    threads: u32,
}

impl NamedBarrier {
    fn open(&mut self) {
        let opened = Opened {
            waiting: std::mem::take(&mut self.waiting),
            clocks: std::mem::take(&mut self.clocks),
            votes: std::mem::take(&mut self.votes),
            threads: std::mem::take(&mut self.threads),
        };
        self.arrived = 0;
        self.opened.push(opened);
    }
}

pub(super) fn arrive(
    warp: &mut Warp,
    env: &mut Env,
    barrier: &Barrier,
    pc: usize,
    mask: u32,
) -> Next {
    let place = Place::new(pc, warp.index);
    if mask != warp.live {
        let message = format!(
            "lanes {mask:#010x} reach the barrier, {:#010x} are alive",
            warp.live
        );
        env.report(Kind::BarrierDivergence, place, &message);
        env.stop = true;
        return Next::Wait;
    }
    let lane = mask.trailing_zeros() as usize;
    let id = warp.registers.words[barrier.id][lane] as usize;
    let expected = barrier.threads.map(|slot| warp.registers.words[slot][lane]);
    if id >= env.barriers.len() {
        env.report(
            Kind::OutOfBounds,
            place,
            &format!("there is no barrier {id}"),
        );
        env.stop = true;
        return Next::Wait;
    }
    env.progress = true;
    let warps = env.setting.warps();
    let expected = expected.map(|threads| threads.div_ceil(32) as usize);
    let state = &mut env.barriers[id];
    if state.arrived > 0 && state.expected != expected {
        let message = "warps wait at the same barrier for different numbers of threads";
        env.report(Kind::BarrierDivergence, place, message);
        env.stop = true;
        return Next::Wait;
    }
    state.expected = expected;
    state.arrived += 1;
    env.shared.release(warp.index, &mut state.clocks);
    if let Some((_, _, predicate, negated)) = barrier.reduce {
        let bits = warp.registers.predicates[predicate];
        let holds = if negated { !bits } else { bits } & mask;
        state.votes += holds.count_ones();
        state.threads += mask.count_ones();
    }
    if barrier.wait {
        state.waiting.push(Waiting {
            warp: warp.index,
            pc,
            reduce: barrier.reduce.map(|(op, dest, ..)| (op, dest)),
        });
    }
    if state.arrived == expected.unwrap_or(warps) {
        state.open();
    }
    if barrier.wait { Next::Wait } else { Next::Go }
}

/// Lets warps go on whose barrier has opened. A barrier of the whole block opens when all warps that are left are
/// there; that others have exited is a finding.
pub(super) fn settle(env: &mut Env, warps: &mut [Warp]) {
    let done = warps
        .iter()
        .filter(|warp| warp.status == Status::Done)
        .count();
    for id in 0..env.barriers.len() {
        let state = &mut env.barriers[id];
        if done > 0
            && state.expected.is_none()
            && !state.waiting.is_empty()
            && state.arrived + done == warps.len()
        {
            let (pc, warp) = (state.waiting[0].pc, state.waiting[0].warp);
            state.open();
            let message = format!("{done} warps have exited and never reach this barrier");
            env.report(Kind::BarrierDivergence, Place::new(pc, warp), &message);
        }
        for opened in std::mem::take(&mut env.barriers[id].opened) {
            env.progress = true;
            for waiting in opened.waiting {
                let warp = &mut warps[waiting.warp];
                env.shared.acquire(waiting.warp, &opened.clocks);
                warp.status = Status::Running;
                let Some((op, dest)) = waiting.reduce else {
                    continue;
                };
                let holds = match op {
                    BarrierReduce::Popc => {
                        for lane in lanes(warp.live) {
                            warp.registers.words[dest.slot][lane] = opened.votes;
                        }
                        continue;
                    }
                    BarrierReduce::And => opened.votes == opened.threads,
                    BarrierReduce::Or => opened.votes > 0,
                };
                let bits = if holds { u32::MAX } else { 0 };
                warp.registers.set_predicate(dest.slot, bits, warp.live);
            }
        }
    }
}
