//! What the lanes of a warp do together.

use super::block::{Env, Place};
use super::memory::read_lane;
use super::registers::{ALL, LANES, Lane, Row, lanes, lanes_of};
use super::warp::Warp;
use crate::finding::Kind;
use crate::program::{Action, ReduceMode, ShuffleMode, VoteMode};
use crate::wide::wide;

/// Reports lanes that a mask names and that are not there, and lanes that are there and that it does not name.
fn check_members(warp: &Warp, env: &mut Env, members: usize, pc: usize, mask: u32) {
    let named = &warp.registers.words[members];
    if mask == ALL && named.iter().fold(ALL, |all, named| all & named) == ALL {
        return;
    }
    for lane in lanes(mask) {
        // lanes that have exited are forgiven, as by the hardware
        let wrong = (named[lane] ^ mask) & warp.live;
        if wrong != 0 {
            let place = Place {
                lane: Some(lane),
                ..Place::new(pc, warp.index)
            };
            let message = format!(
                "the mask of lanes is {:#010x}, active are {mask:#010x}",
                named[lane]
            );
            env.report(Kind::MissingLanes, place, &message);
            return;
        }
    }
}

pub(super) fn execute(warp: &mut Warp, env: &mut Env, action: &Action, pc: usize, mask: u32) {
    match action {
        Action::WarpBarrier(members) => check_members(warp, env, *members, pc, mask),
        Action::Shuffle { members, .. } => {
            check_members(warp, env, *members, pc, mask);
            shuffle(warp, env, action, pc, mask);
        }
        Action::Vote {
            mode,
            dest,
            predicate,
            negated,
            members,
        } => {
            check_members(warp, env, *members, pc, mask);
            let bits = warp.registers.predicates[*predicate];
            let votes = if *negated { !bits } else { bits } & mask;
            let all = |yes: bool| if yes { u32::MAX } else { 0 };
            match mode {
                VoteMode::Ballot => u32::set(&mut warp.registers, *dest, [votes; LANES], mask),
                VoteMode::All => warp
                    .registers
                    .set_predicate(*dest, all(votes == mask), mask),
                VoteMode::Any => warp.registers.set_predicate(*dest, all(votes != 0), mask),
                VoteMode::Uniform => {
                    let uniform = votes == mask || votes == 0;
                    warp.registers.set_predicate(*dest, all(uniform), mask);
                }
            }
        }
        Action::Match {
            all,
            dest,
            predicate,
            value,
            members,
        } => {
            check_members(warp, env, *members, pc, mask);
            let values: [u64; LANES] =
                std::array::from_fn(|lane| read_lane(&warp.registers, *value, lane));
            let equal = |lane: usize| {
                let same = lanes(mask).filter(|other| values[*other] == values[lane]);
                same.fold(0, |bits, other| bits | 1u32 << other)
            };
            let groups: [u32; LANES] = std::array::from_fn(|lane| {
                if mask >> lane & 1 == 1 {
                    equal(lane)
                } else {
                    0
                }
            });
            if *all {
                let agreed = groups[mask.trailing_zeros() as usize] == mask;
                let (bits, yes) = if agreed { (mask, u32::MAX) } else { (0, 0) };
                u32::set(&mut warp.registers, *dest, [bits; LANES], mask);
                if let Some(predicate) = predicate {
                    warp.registers.set_predicate(*predicate, yes, mask);
                }
            } else {
                u32::set(&mut warp.registers, *dest, groups, mask);
            }
        }
        Action::Reduce {
            mode,
            dest,
            value,
            members,
        } => {
            check_members(warp, env, *members, pc, mask);
            let values = warp.registers.words[*value];
            let active = lanes(mask).map(|lane| values[lane]);
            let result = active.reduce(|a, b| match mode {
                ReduceMode::Add => a.wrapping_add(b),
                ReduceMode::MinUnsigned => a.min(b),
                ReduceMode::MaxUnsigned => a.max(b),
                ReduceMode::MinSigned => (a as i32).min(b as i32) as u32,
                ReduceMode::MaxSigned => (a as i32).max(b as i32) as u32,
                ReduceMode::And => a & b,
                ReduceMode::Or => a | b,
                ReduceMode::Xor => a ^ b,
            });
            u32::set(
                &mut warp.registers,
                *dest,
                [result.unwrap_or(0); LANES],
                mask,
            );
        }
        Action::Elect {
            dest,
            predicate,
            members,
        } => {
            check_members(warp, env, *members, pc, mask);
            let leader = mask.trailing_zeros();
            warp.registers.set_predicate(*predicate, 1 << leader, mask);
            if let Some(dest) = dest {
                u32::set(&mut warp.registers, *dest, [leader; LANES], mask);
            }
        }
        _ => unreachable!("control flow and memory are handled before"),
    }
}

fn shuffle(warp: &mut Warp, env: &mut Env, action: &Action, pc: usize, mask: u32) {
    let Action::Shuffle {
        mode,
        dest,
        valid,
        value,
        lane,
        clamp,
        ..
    } = action
    else {
        return;
    };
    let registers = &warp.registers;
    let values = registers.words[*value];
    let (by, clamps) = (&registers.words[*lane], &registers.words[*clamp]);
    let (from, inside) = wide(
        #[inline(always)]
        || match mode {
            ShuffleMode::Up => sources(by, clamps, |me, by, _, highest| {
                let valid = me as i32 - by as i32 >= highest as i32;
                (me.wrapping_sub(by), valid)
            }),
            ShuffleMode::Down => sources(by, clamps, |me, by, _, highest| {
                (me + by, me + by <= highest)
            }),
            ShuffleMode::Butterfly => sources(by, clamps, |me, by, _, highest| {
                (me ^ by, me ^ by <= highest)
            }),
            ShuffleMode::Index => sources(by, clamps, |me, by, segment, highest| {
                let from = (me & segment) | (by & !segment);
                (from, from <= highest)
            }),
        },
    );
    let out = from.map(|from| values[from as usize % LANES]);
    let is_absent = |lane: &usize| mask >> from[*lane] & 1 == 0;
    let absent = if mask == ALL {
        None
    } else {
        lanes(mask).find(is_absent).map(|lane| (lane, from[lane]))
    };
    u32::set(&mut warp.registers, *dest, out, mask);
    if let Some(valid) = valid {
        warp.registers.set_predicate(*valid, inside, mask);
    }
    if let Some((lane, from)) = absent {
        let place = Place {
            lane: Some(lane),
            ..Place::new(pc, warp.index)
        };
        env.report(
            Kind::MissingLanes,
            place,
            &format!("reads lane {from}, which is not active"),
        );
    }
}

/// The lane that each reads, by its number, operand, segment and highest lane; itself where that is not valid. And
/// the lanes where it is.
#[inline(always)]
fn sources(
    by: &Row<u32>,
    clamps: &Row<u32>,
    source: impl Fn(u32, u32, u32, u32) -> (u32, bool),
) -> (Row<u32>, u32) {
    let (mut from, mut inside) = ([0; LANES], [0; LANES]);
    for lane in 0..LANES {
        let (bound, segment) = (clamps[lane] & 31, clamps[lane] >> 8 & 31);
        let me = lane as u32;
        let highest = (me & segment) | (bound & !segment);
        let (other, valid) = source(me, by[lane] & 31, segment, highest);
        from[lane] = if valid { other & 31 } else { me };
        inside[lane] = u8::from(valid);
    }
    (from, lanes_of(&inside))
}
