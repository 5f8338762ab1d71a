//! Atomics, lane after lane.

use half::{bf16, f16};

use super::block::Env;
use super::count::count;
use super::memory::{fault, global_outcome, meet_others, note, read_lane, shared_row, write_lane};
use super::registers::lanes;
use super::rows::addresses;
use super::shared::Write;
use super::warp::Warp;
use crate::finding::Kind;
use crate::program::{Atomic, AtomicOp, AtomicType, resolve};
use crate::types::Space;

pub(super) fn execute(warp: &mut Warp, env: &mut Env, atomic: &Atomic, pc: usize, mask: u32) {
    let access = &atomic.access;
    let bytes = access.bytes * access.count;
    let addresses = addresses(&warp.registers, &access.address);
    count(env, access.space, &addresses, mask, bytes, pc);
    if matches!(access.space, Space::Global | Space::Generic) {
        meet_others(env);
    }
    for lane in lanes(mask) {
        let site = warp.site(pc, lane);
        let (space, address) = resolve(access.space, addresses[lane]);
        if space == Space::Shared {
            if env.home(address).0 != env.cluster.rank {
                super::cluster::access(
                    env,
                    site,
                    address,
                    access.bytes,
                    access.count,
                    |element, old| Some(next(warp, atomic, element, lane, old)),
                );
                continue;
            }
            let address = env.home(address).1;
            let Some(at) = shared_row(env, site, address, bytes) else {
                continue;
            };
            let hazard = env.shared.read(site, at, bytes, true);
            note(env, site, address, hazard);
            let hazard = env.shared.write(site, at, bytes, Write::Strong);
            note(env, site, address, hazard);
            for element in 0..access.count {
                let at = at + element * access.bytes;
                let old = env.shared.load(at, access.bytes);
                let new = next(warp, atomic, element, lane, old);
                env.shared.store(at, access.bytes, new);
            }
            env.progress = true;
        } else if space != Space::Global {
            fault(env, site, space, address, bytes, Kind::OutOfBounds);
        } else if address % bytes as u64 != 0 {
            fault(env, site, space, address, bytes, Kind::Misaligned);
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
                    for element in 0..access.count {
                        let at = at + element * access.bytes;
                        let old = allocation.load(at, access.bytes);
                        let new = next(warp, atomic, element, lane, old);
                        allocation.store(at, access.bytes, new);
                    }
                }
                Err(kind) => fault(env, site, space, address, bytes, kind),
            }
        }
    }
}

/// Gives a lane the old value of an element, and returns the new one.
fn next(warp: &mut Warp, atomic: &Atomic, element: usize, lane: usize, old: u64) -> u64 {
    let Atomic { access, op, ty, .. } = atomic;
    let registers = &mut warp.registers;
    let value = read_lane(registers, atomic.values[element], lane);
    let swap = atomic
        .swap
        .map_or(0, |swap| read_lane(registers, swap, lane));
    if let Some(Some(dest)) = atomic.dest.get(element) {
        write_lane(registers, *dest, lane, old);
    }
    update(*op, *ty, access.bytes, old, value, swap)
}

/// What an atomic stores.
pub(super) fn update(
    op: AtomicOp,
    ty: AtomicType,
    bytes: usize,
    old: u64,
    value: u64,
    swap: u64,
) -> u64 {
    let keep = u64::MAX >> (64 - 8 * bytes);
    let (old, value, swap) = (old & keep, value & keep, swap & keep);
    let signed = |v: u64| crate::decode::sign_extend(v, 8 * bytes as u8) as i64;
    let new = match op {
        AtomicOp::Add => add(ty, old, value),
        AtomicOp::Min if ty == AtomicType::Signed => signed(old).min(signed(value)) as u64,
        AtomicOp::Max if ty == AtomicType::Signed => signed(old).max(signed(value)) as u64,
        AtomicOp::Min | AtomicOp::Max if !matches!(ty, AtomicType::Unsigned) => {
            extreme(ty, old, value, op == AtomicOp::Min)
        }
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

/// The smaller or larger half, or halves; the other one if one is not a number.
fn extreme(ty: AtomicType, old: u64, value: u64, less: bool) -> u64 {
    let pick = |a: f32, b: f32| if less { a.min(b) } else { a.max(b) };
    let f16 = |a: u64, b: u64| {
        let [a, b] = [a, b].map(|v| f16::from_bits(v as u16).to_f32());
        u64::from(f16::from_f32(pick(a, b)).to_bits())
    };
    let bf16 = |a: u64, b: u64| {
        let [a, b] = [a, b].map(|v| bf16::from_bits(v as u16).to_f32());
        u64::from(bf16::from_f32(pick(a, b)).to_bits())
    };
    match ty {
        AtomicType::F16 => f16(old, value),
        AtomicType::BF16 => bf16(old, value),
        AtomicType::F16x2 => f16(old, value) | f16(old >> 16, value >> 16) << 16,
        _ => bf16(old, value) | bf16(old >> 16, value >> 16) << 16,
    }
}
