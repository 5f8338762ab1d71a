//! Runs of bytes in global, shared and parameter memory, for what copies more than registers hold.

use super::block::{Env, Place};
use super::memory::{fault, global_outcome, note};
use super::shared::{Site, Write};
use crate::finding::Kind;
use crate::hopper::Reduction;
use crate::program::resolve;
use crate::types::Space;

/// Calls `piece(offset, length)` for pieces of up to 4 bytes that do not cross a word.
fn pieces(at: usize, bytes: usize, mut piece: impl FnMut(usize, usize)) {
    let mut offset = 0;
    while offset < bytes {
        let mut length = (4 - (at + offset) % 4).min(bytes - offset);
        if length == 3 {
            length = if (at + offset).is_multiple_of(2) {
                2
            } else {
                1
            };
        }
        piece(offset, length);
        offset += length;
    }
}

fn mask(at: usize, length: usize) -> u64 {
    ((1 << length) - 1) << (at % 4)
}

/// Reads global memory; false if nothing there can be read.
pub(super) fn read_global(env: &mut Env, site: Site, address: u64, out: &mut [u8]) -> bool {
    let setting = env.setting;
    let found = setting.device.locate(&mut env.hint, address, out.len());
    let (allocation, at) = match found {
        Ok(found) => found,
        Err(kind) => {
            fault(env, site, Space::Global, address, out.len(), kind);
            return false;
        }
    };
    let mut outcome = crate::shadow::Outcome::default();
    pieces(at, out.len(), |offset, length| {
        let value = allocation.load(at + offset, length) as u32;
        out[offset..offset + length].copy_from_slice(&value.to_le_bytes()[..length]);
        if setting.options.checks {
            let cell = &allocation.cells[(at + offset) / 4];
            let now = env.toucher.touch(cell, mask(at + offset, length), false);
            outcome.uninitialised |= now.uninitialised;
            outcome.conflict = outcome.conflict.or(now.conflict);
        }
    });
    global_outcome(env, site, address, outcome, false);
    true
}

/// Writes global memory, or adds to it.
pub(super) fn write_global(
    env: &mut Env,
    site: Site,
    address: u64,
    bytes: &[u8],
    reduce: Option<Reduction>,
) {
    let setting = env.setting;
    let found = setting.device.locate(&mut env.hint, address, bytes.len());
    let (allocation, at) = match found {
        Ok(found) => found,
        Err(kind) => {
            fault(env, site, Space::Global, address, bytes.len(), kind);
            return;
        }
    };
    let mut outcome = crate::shadow::Outcome::default();
    let mut same = true;
    pieces(at, bytes.len(), |offset, length| {
        let value = little_endian(&bytes[offset..offset + length]);
        same &= allocation.load(at + offset, length) == value;
        if setting.options.checks {
            let cell = &allocation.cells[(at + offset) / 4];
            let mask = mask(at + offset, length);
            let now = if reduce.is_some() {
                env.toucher.atomic(cell, mask)
            } else {
                env.toucher.touch(cell, mask, true)
            };
            outcome.conflict = outcome.conflict.or(now.conflict);
            outcome.uninitialised |= now.uninitialised && reduce.is_some();
        }
        if reduce.is_none() {
            allocation.store(at + offset, length, value);
        }
    });
    if let Some(reduce) = reduce {
        for (i, value) in bytes.chunks_exact(reduce.bytes).enumerate() {
            let at = at + i * reduce.bytes;
            let new = reduced(
                reduce,
                allocation.load(at, reduce.bytes),
                little_endian(value),
            );
            allocation.store(at, reduce.bytes, new);
        }
        super::memory::meet_others(env);
    }
    global_outcome(env, site, address, outcome, same);
}

pub(super) fn little_endian(bytes: &[u8]) -> u64 {
    let mut value = [0; 8];
    value[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(value)
}

/// What a reduction stores.
pub(super) fn reduced(reduce: Reduction, old: u64, value: u64) -> u64 {
    use crate::program::{AtomicOp, AtomicType};
    let number = |bits: u64| match reduce.ty {
        AtomicType::F16 => half::f16::from_bits(bits as u16).to_f32(),
        _ => half::bf16::from_bits(bits as u16).to_f32(),
    };
    let float = matches!(reduce.ty, AtomicType::F16 | AtomicType::BF16);
    match reduce.op {
        AtomicOp::Min | AtomicOp::Max if float => {
            let less = number(value) < number(old);
            // what is not a number gives way
            if number(old).is_nan() || less == (reduce.op == AtomicOp::Min) {
                value
            } else {
                old
            }
        }
        op => super::atomic::update(op, reduce.ty, reduce.bytes, old, value, 0),
    }
}

/// Reads the bytes of a tensor map, wherever it lies; None if they cannot be read.
pub(super) fn read_map(env: &mut Env, site: Site, space: Space, address: u64) -> Option<[u8; 128]> {
    let mut out = [0; 128];
    let (space, address) = resolve(space, address);
    match space {
        Space::Global | Space::Generic => read_global(env, site, address, &mut out).then_some(out),
        Space::Param => {
            let at = address as usize;
            match env.setting.params.get(at..at.saturating_add(128)) {
                Some(bytes) => {
                    out.copy_from_slice(bytes);
                    Some(out)
                }
                None => {
                    fault(env, site, space, address, 128, Kind::OutOfBounds);
                    None
                }
            }
        }
        Space::Shared if env.shared.holds(address, 128) => {
            let at = address as usize;
            out.copy_from_slice(&env.shared.bytes[at..at + 128]);
            let hazard = env.shared.read(site, at, 128, false);
            note(env, site, address, hazard);
            Some(out)
        }
        space => {
            fault(env, site, space, address, 128, Kind::OutOfBounds);
            None
        }
    }
}

/// Writes a few bytes to global or shared memory.
pub(super) fn write(env: &mut Env, site: Site, space: Space, address: u64, bytes: &[u8]) {
    let (space, address) = resolve(space, address);
    if !address.is_multiple_of(bytes.len().min(128) as u64) {
        let place = Place::at(site, space, address);
        let message = format!("the address is no multiple of {}", bytes.len());
        env.report(Kind::Misaligned, place, &message);
        return;
    }
    match space {
        Space::Global | Space::Generic => write_global(env, site, address, bytes, None),
        Space::Shared if env.shared.holds(address, bytes.len()) => {
            let at = address as usize;
            let hazard = env
                .shared
                .write(site, at, bytes.len(), Write::Plain { same: false });
            note(env, site, address, hazard);
            env.shared.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        }
        space => fault(env, site, space, address, bytes.len(), Kind::OutOfBounds),
    }
}
