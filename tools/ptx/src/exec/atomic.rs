//! Atomics, lane after lane.

use half::{bf16, f16};

use super::block::Env;
use super::memory::{fault, global_outcome, meet_others, note, read_lane, shared_row, write_lane};
use super::registers::lanes;
use super::rows::{addresses, count};
use super::shared::Write;
use super::warp::Warp;
use crate::finding::Kind;
use crate::program::{Atomic, AtomicOp, AtomicType, resolve};
use crate::types::Space;

pub(super) fn execute(warp: &mut Warp, env: &mut Env, atomic: &Atomic, pc: usize, mask: u32) {
    let Atomic { access, op, ty, .. } = atomic;
    let bytes = access.bytes;
    let addresses = addresses(&warp.registers, &access.address);
    count(env, access.space, &addresses, mask, bytes, pc);
    if matches!(access.space, Space::Global | Space::Generic) {
        meet_others(env);
    }
    for lane in lanes(mask) {
        let site = warp.site(pc, lane);
        let (space, address) = resolve(access.space, addresses[lane]);
        let value = read_lane(&warp.registers, atomic.value, lane);
        let swap = atomic
            .swap
            .map_or(0, |swap| read_lane(&warp.registers, swap, lane));
        let new = |old| update(*op, *ty, bytes, old, value, swap);
        let old = if space == Space::Shared {
            let Some(at) = shared_row(env, site, address, bytes) else {
                continue;
            };
            let hazard = env.shared.read(site, at, bytes, true);
            note(env, site, address, hazard);
            let hazard = env.shared.write(site, at, bytes, Write::Strong);
            note(env, site, address, hazard);
            let old = env.shared.load(at, bytes);
            env.shared.store(at, bytes, new(old));
            env.progress = true;
            old
        } else if space != Space::Global {
            fault(env, site, space, address, bytes, Kind::OutOfBounds);
            continue;
        } else if address % bytes as u64 != 0 {
            fault(env, site, space, address, bytes, Kind::Misaligned);
            continue;
        } else {
            let setting = env.setting;
            match setting.device.locate(&mut env.hint, address, bytes) {
                Ok((allocation, at)) => {
                    if setting.options.checks {
                        for word in at / 4..(at + bytes).div_ceil(4) {
                            let touched = if bytes >= 4 { 0xf } else { 3 << (at % 4) };
                            let outcome = env.toucher.atomic(&allocation.cells[word], touched);
                            global_outcome(env, site, address, outcome, false);
                        }
                    }
                    // blocks with atomics run one after another
                    let old = allocation.load(at, bytes);
                    allocation.store(at, bytes, new(old));
                    old
                }
                Err(kind) => {
                    fault(env, site, space, address, bytes, kind);
                    continue;
                }
            }
        };
        if let Some(dest) = atomic.dest {
            write_lane(&mut warp.registers, dest, lane, old);
        }
    }
}

/// What an atomic stores.
fn update(op: AtomicOp, ty: AtomicType, bytes: usize, old: u64, value: u64, swap: u64) -> u64 {
    let keep = u64::MAX >> (64 - 8 * bytes);
    let (old, value, swap) = (old & keep, value & keep, swap & keep);
    let signed = |v: u64| crate::decode::sign_extend(v, 8 * bytes as u8) as i64;
    let new = match op {
        AtomicOp::Add => add(ty, old, value),
        AtomicOp::Min if ty == AtomicType::Signed => signed(old).min(signed(value)) as u64,
        AtomicOp::Max if ty == AtomicType::Signed => signed(old).max(signed(value)) as u64,
        AtomicOp::Min => old.min(value),
        AtomicOp::Max => old.max(value),
        AtomicOp::Inc => {
            if old >= value {
                0
            } else {
                old + 1
            }
        }
        AtomicOp::Dec => {
            if old == 0 || old > value {
                value
            } else {
                old - 1
            }
        }
        AtomicOp::And => old & value,
        AtomicOp::Or => old | value,
        AtomicOp::Xor => old ^ value,
        AtomicOp::Exchange => value,
        AtomicOp::Compare => {
            if old == value {
                swap
            } else {
                old
            }
        }
    };
    new & keep
}

fn add(ty: AtomicType, old: u64, value: u64) -> u64 {
    let f16 =
        |a: u64, b: u64| u64::from((f16::from_bits(a as u16) + f16::from_bits(b as u16)).to_bits());
    let bf16 = |a: u64, b: u64| {
        u64::from((bf16::from_bits(a as u16) + bf16::from_bits(b as u16)).to_bits())
    };
    match ty {
        AtomicType::Unsigned | AtomicType::Signed => old.wrapping_add(value),
        AtomicType::F32 => {
            u64::from((f32::from_bits(old as u32) + f32::from_bits(value as u32)).to_bits())
        }
        AtomicType::F64 => (f64::from_bits(old) + f64::from_bits(value)).to_bits(),
        AtomicType::F16 => f16(old, value),
        AtomicType::BF16 => bf16(old, value),
        AtomicType::F16x2 => f16(old, value) | f16(old >> 16, value >> 16) << 16,
        AtomicType::BF16x2 => bf16(old, value) | bf16(old >> 16, value >> 16) << 16,
    }
}
