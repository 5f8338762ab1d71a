//! Accesses of whole warps that nothing is wrong with, and what all accesses need: addresses and counters.

use super::block::Env;
use super::memory::{byte_mask, read_lane, write_global, write_lane};
use super::registers::{ALL, Bank, LANES, Registers, Row, each, lanes};
use super::shared::Write;
use super::warp::Warp;
use crate::decode::sign_extend;
use crate::device::Allocation;
use crate::program::{Access, Address, Register};
use crate::shadow::Outcome;
use crate::types::Space;

/// Addresses of all lanes.
#[inline(always)]
pub(super) fn addresses(registers: &Registers, address: &Address) -> [u64; LANES] {
    let mut out = [0; LANES];
    match address.base.bank {
        Bank::Double => {
            for (out, base) in out.iter_mut().zip(&registers.doubles[address.base.slot]) {
                *out = base.wrapping_add(address.offset as u64);
            }
        }
        _ => {
            for (out, base) in out.iter_mut().zip(&registers.words[address.base.slot]) {
                *out = u64::from(base.wrapping_add(address.offset as u32));
            }
        }
    }
    out
}

/// Where the lanes of an access to shared memory go, if no address is out of bounds or misaligned.
#[inline(always)]
pub(super) fn shared_places(
    env: &Env,
    addresses: &[u64; LANES],
    mask: u32,
    bytes: usize,
) -> Option<Row<u32>> {
    let (start, last) = env.shared.firsts(bytes)?;
    let wrong = |address: u64| {
        let outside = address.wrapping_sub(start) > last - start;
        u64::from(outside) | (address & (bytes as u64 - 1))
    };
    let mut any = 0;
    if mask == ALL {
        for address in addresses {
            any |= wrong(*address);
        }
    } else {
        for (lane, address) in addresses.iter().enumerate() {
            let active = mask >> lane & 1 == 1;
            any |= if active { wrong(*address) } else { 0 };
        }
    }
    if any != 0 {
        return None;
    }
    let mut places = [0; LANES];
    for (place, address) in places.iter_mut().zip(addresses) {
        *place = *address as u32;
    }
    Some(places)
}

/// All bits of the addresses together, the least address and the most.
#[inline(always)]
pub(super) fn extent(addresses: &[u64; LANES], mask: u32) -> (u64, u64, u64) {
    let (mut low, mut least, mut most) = (0, u64::MAX, 0);
    if mask == ALL {
        for address in addresses {
            low |= address;
            least = least.min(*address);
            most = most.max(*address);
        }
        return (low, least, most);
    }
    for (lane, address) in addresses.iter().enumerate() {
        let active = mask >> lane & 1 == 1;
        low |= if active { *address } else { 0 };
        least = least.min(if active { *address } else { u64::MAX });
        most = most.max(if active { *address } else { 0 });
    }
    (low, least, most)
}

/// The allocation in which the accesses of all lanes lie, and the address of its first byte; None if they do not, or
/// are misaligned.
#[inline(always)]
fn global_place<'l>(
    env: &mut Env<'l>,
    addresses: &Row<u64>,
    mask: u32,
    bytes: u64,
) -> Option<(&'l Allocation, u64)> {
    let (low, least, most) = extent(addresses, mask);
    if low & (bytes - 1) != 0 {
        return None;
    }
    let span = (most - least).checked_add(bytes)?;
    let device = env.setting.device;
    let found = device.locate(&mut env.hint, least, span as usize);
    let (allocation, at) = found.ok()?;
    Some((allocation, least - at as u64))
}

/// Loads for all lanes; false, with nothing loaded, if that must go lane by lane.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) fn load(
    warp: &mut Warp,
    env: &mut Env,
    access: &Access,
    dest: &[Option<Register>],
    signed: bool,
    addresses: &Row<u64>,
    pc: usize,
    mask: u32,
) -> bool {
    let all = access.bytes * access.count;
    match access.space {
        Space::Shared if !access.strong => {
            let Some(places) = shared_places(env, addresses, mask, all) else {
                return false;
            };
            if !env
                .shared
                .reads_are_clean(warp.site(pc, 0), &places, mask, all)
            {
                return false;
            }
            let shared = &env.shared;
            let registers = &mut warp.registers;
            fill(
                registers,
                access,
                dest,
                signed,
                mask,
                #[inline(always)]
                |lane, at, bytes| shared.load(places[lane] as usize + at, bytes),
            );
        }
        Space::Global if !access.strong => {
            let Some((allocation, base)) = global_place(env, addresses, mask, all as u64) else {
                return false;
            };
            let place = |lane: usize| (addresses[lane] - base) as usize;
            if env.setting.options.checks {
                let toucher = env.toucher;
                let clean = lanes(mask).all(|lane| {
                    let at = place(lane);
                    if all >= 4 {
                        toucher.reads_are_clean(&allocation.cells[at / 4..(at + all) / 4])
                    } else {
                        let bytes = byte_mask(at, all);
                        let cell = &allocation.cells[at / 4];
                        toucher.touch(cell, bytes, false) == Outcome::default()
                    }
                });
                if !clean {
                    return false;
                }
            }
            let registers = &mut warp.registers;
            fill(
                registers,
                access,
                dest,
                signed,
                mask,
                #[inline(always)]
                |lane, at, bytes| allocation.load(place(lane) + at, bytes),
            );
        }
        _ => return false,
    }
    true
}

/// Writes registers from `load(lane, offset, bytes)`.
#[inline(always)]
fn fill(
    registers: &mut Registers,
    access: &Access,
    dest: &[Option<Register>],
    signed: bool,
    mask: u32,
    load: impl Fn(usize, usize, usize) -> u64,
) {
    for (i, register) in dest.iter().enumerate() {
        let Some(register) = register else {
            continue;
        };
        let at = i * access.bytes;
        // a loop of its own for each size
        match (access.bytes, register.bank) {
            (4, Bank::Word) if register.bits == 32 => {
                let row = &mut registers.words[register.slot];
                each(
                    mask,
                    #[inline(always)]
                    |lane| row[lane] = load(lane, at, 4) as u32,
                );
            }
            (8, Bank::Double) => {
                let row = &mut registers.doubles[register.slot];
                each(
                    mask,
                    #[inline(always)]
                    |lane| row[lane] = load(lane, at, 8),
                );
            }
            (bytes, _) => {
                for lane in lanes(mask) {
                    let value = match bytes {
                        1 => load(lane, at, 1),
                        2 => load(lane, at, 2),
                        4 => load(lane, at, 4),
                        _ => load(lane, at, 8),
                    };
                    write_lane(registers, *register, lane, extend(value, bytes, signed));
                }
            }
        }
    }
}

/// Stores for lanes from the first on, and returns those that are done; the others must go lane by lane.
#[inline(always)]
pub(super) fn store(
    warp: &mut Warp,
    env: &mut Env,
    access: &Access,
    source: &[Register],
    addresses: &Row<u64>,
    pc: usize,
    mask: u32,
) -> u32 {
    let all = access.bytes * access.count;
    let site = warp.site(pc, 0);
    let registers = &warp.registers;
    match access.space {
        Space::Shared if !access.strong => {
            let Some(places) = shared_places(env, addresses, mask, all) else {
                return 0;
            };
            let plain = Write::Plain { same: false };
            let done = env.shared.clean_writes(site, &places, mask, all, plain);
            for (i, register) in source.iter().enumerate() {
                let at = |lane: usize| places[lane] as usize + i * access.bytes;
                // a loop of its own for each size; two lanes store to the same place or apart, so that the later one wins
                match (access.bytes, register.bank) {
                    (4, Bank::Word) => {
                        let row = &registers.words[register.slot];
                        each(
                            done,
                            #[inline(always)]
                            |lane| {
                                env.shared.store(at(lane), 4, u64::from(row[lane]));
                            },
                        );
                    }
                    (8, Bank::Double) => {
                        let row = &registers.doubles[register.slot];
                        each(
                            done,
                            #[inline(always)]
                            |lane| env.shared.store(at(lane), 8, row[lane]),
                        );
                    }
                    (bytes, _) => {
                        for lane in lanes(done) {
                            let value = read_lane(registers, *register, lane);
                            match bytes {
                                1 => env.shared.store(at(lane), 1, value),
                                2 => env.shared.store(at(lane), 2, value),
                                4 => env.shared.store(at(lane), 4, value),
                                _ => env.shared.store(at(lane), 8, value),
                            }
                        }
                    }
                }
            }
            done
        }
        Space::Global if !access.strong => {
            let Some((allocation, base)) = global_place(env, addresses, mask, all as u64) else {
                return 0;
            };
            let mut values = [0; 8];
            for lane in lanes(mask) {
                for (value, register) in values.iter_mut().zip(source) {
                    *value = read_lane(registers, *register, lane);
                }
                let address = addresses[lane];
                let place = (allocation, (address - base) as usize);
                let site = super::shared::Site { lane, ..site };
                write_global(env, access, site, address, place, &values);
            }
            mask
        }
        _ => 0,
    }
}

/// An element as a register holds it.
#[inline(always)]
pub(super) fn extend(value: u64, bytes: usize, signed: bool) -> u64 {
    if signed {
        sign_extend(value, 8 * bytes as u8)
    } else {
        value
    }
}
