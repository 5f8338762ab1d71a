//! Loads and stores, lane by lane, with their checks; most are done by warps before, in `rows`.

use super::block::{Env, Place};
use super::count::count;
use super::registers::{Bank, LANES, Registers, lanes};
use super::rows::{self, addresses, extend};
use super::shared::{Hazard, Site, Write};
use super::warp::{Next, Warp};
use crate::device::Allocation;
use crate::finding::{Kind, Party};
use crate::program::{Access, Action, Register, resolve};
use crate::shadow::{Conflict, Outcome};
use crate::types::Space;
use crate::wide::wide;

/// Does what is neither a computation nor control flow.
#[inline(always)]
pub(super) fn execute(
    warp: &mut Warp,
    env: &mut Env,
    action: &Action,
    pc: usize,
    mask: u32,
) -> Next {
    match action {
        Action::Load {
            access,
            dest,
            signed,
        } => load(warp, env, access, dest, *signed, pc, mask),
        Action::Store { access, source } => store(warp, env, access, source, pc, mask),
        Action::Atomic(atomic) => super::atomic::execute(warp, env, atomic, pc, mask),
        Action::Barrier(barrier) => return super::barrier::arrive(warp, env, barrier, pc, mask),
        Action::Print {
            assertion: false,
            arguments,
            result,
        } => super::print::print(warp, env, arguments, *result, mask),
        Action::Print { arguments, .. } => {
            super::print::assertion(warp, env, arguments, pc, mask);
        }
        Action::Fence => {}
        Action::Clock(dest) => {
            let now = warp.issued;
            write_register(&mut warp.registers, *dest, mask, |_| now);
        }
        Action::Mma(mma) => super::matrix::multiply(warp, env, mma, pc, mask),
        Action::LoadMatrix {
            address,
            dest,
            transpose,
        } => {
            super::matrix::load(warp, env, address, dest, *transpose, pc, mask);
        }
        Action::StoreMatrix {
            address,
            source,
            transpose,
        } => {
            super::matrix::store(warp, env, address, source, *transpose, pc, mask);
        }
        Action::MoveMatrix { dest, source } => {
            super::matrix::transpose(warp, env, *dest, *source, pc, mask);
        }
        Action::AsyncCopy(copy) => super::asynchronous::copy(warp, env, copy, pc, mask),
        Action::AsyncCommit => super::asynchronous::commit(warp, mask),
        Action::AsyncWait(groups) => super::asynchronous::wait(warp, env, *groups, mask),
        Action::Mbarrier {
            address,
            shared,
            op,
        } => {
            return super::mbarrier::execute(warp, env, address, *shared, op, pc, mask);
        }
        Action::Hopper(hopper) => return super::hopper::execute(warp, env, hopper, pc, mask),
        other => super::collective::execute(warp, env, other, pc, mask),
    }
    Next::Go
}

/// Writes to a register of any width.
pub(super) fn write_register(
    registers: &mut Registers,
    to: Register,
    mask: u32,
    f: impl Fn(usize) -> u64,
) {
    for lane in lanes(mask) {
        write_lane(registers, to, lane, f(lane));
    }
}

#[inline(always)]
pub(super) fn write_lane(registers: &mut Registers, to: Register, lane: usize, value: u64) {
    match to.bank {
        Bank::Double => registers.doubles[to.slot][lane] = value,
        _ if to.bits == 32 => registers.words[to.slot][lane] = value as u32,
        _ => registers.words[to.slot][lane] = value as u32 & ((1 << to.bits) - 1),
    }
}

#[inline(always)]
pub(super) fn read_lane(registers: &Registers, from: Register, lane: usize) -> u64 {
    match from.bank {
        Bank::Double => registers.doubles[from.slot][lane],
        _ => u64::from(registers.words[from.slot][lane]),
    }
}

impl Warp {
    #[inline(always)]
    pub(super) fn site(&self, pc: usize, lane: usize) -> Site {
        Site {
            warp: self.index,
            lane,
            pc,
            issue: self.issued as u32,
        }
    }
}

/// Why an address cannot be accessed.
pub(super) fn fault(
    env: &mut Env,
    site: Site,
    space: Space,
    address: u64,
    bytes: usize,
    kind: Kind,
) {
    let message = match kind {
        Kind::Misaligned => format!("the address is no multiple of {bytes}"),
        Kind::UseAfterFree => "the memory was freed".into(),
        _ => format!("no memory there holds {bytes} bytes"),
    };
    env.report(kind, Place::at(site, space, address), &message);
}

/// Bit mask of the bytes of a word that an access of `bytes` at `at` touches.
#[inline(always)]
pub(super) fn byte_mask(at: usize, bytes: usize) -> u64 {
    if bytes >= 4 {
        0xf
    } else {
        ((1 << bytes) - 1) << (at % 4)
    }
}

/// Reports what the shadow of global memory found.
pub(super) fn global_outcome(
    env: &mut Env,
    site: Site,
    address: u64,
    outcome: Outcome,
    same: bool,
) {
    if outcome == Outcome::default() {
        return;
    }
    let place = Place::at(site, Space::Global, address);
    if outcome.uninitialised {
        env.report(Kind::Uninitialised, place, "nobody has written these bytes");
    }
    let Some(conflict) = outcome.conflict else {
        return;
    };
    let (block, wrote) = match conflict {
        Conflict::Writer(block) => (Some(block), true),
        Conflict::Reader(block) => (block, false),
    };
    if env.order.as_ref().is_some_and(|order| order.ordered(block)) {
        return;
    }
    let other = block.map(|block| Party {
        block: env.setting.coordinates(block),
        warp: None,
        lane: None,
        ptx_line: None,
    });
    if wrote && same {
        env.report_with(
            Kind::SameValue,
            place,
            "another block stores the same value there",
            other,
        );
    } else if wrote {
        env.report_with(
            Kind::Race,
            place,
            "another block writes there in the same launch",
            other,
        );
    } else {
        env.report_with(
            Kind::Race,
            place,
            "other blocks read there in the same launch",
            other,
        );
    }
}

/// Notes that the block saw or set something other blocks see or set.
pub(super) fn meet_others(env: &mut Env) {
    let number = env.number;
    if let Some(order) = &mut env.order {
        order.meet(number);
    }
}

/// Reads `count` elements for one lane; what cannot be read is all ones.
#[inline(always)]
fn read(
    warp: &mut Warp,
    env: &mut Env,
    access: &Access,
    site: Site,
    address: u64,
    out: &mut [u64; 8],
) {
    let Access {
        bytes,
        count,
        strong,
        ..
    } = *access;
    let all = bytes * count;
    let (space, address) = resolve(access.space, address);
    *out = [u64::MAX; 8];
    if address & (all as u64 - 1) != 0 {
        fault(env, site, space, address, all, Kind::Misaligned);
        return;
    }
    match space {
        Space::Global | Space::Generic => {
            let setting = env.setting;
            match setting.device.locate(&mut env.hint, address, all) {
                Ok((allocation, at)) => {
                    for (i, out) in out[..count].iter_mut().enumerate() {
                        *out = allocation.load(at + i * bytes, bytes);
                    }
                    if setting.options.checks && !strong {
                        let mut outcome = Outcome::default();
                        for word in at / 4..(at + all).div_ceil(4) {
                            let now = env.toucher.touch(
                                &allocation.cells[word],
                                byte_mask(at, all),
                                false,
                            );
                            outcome.uninitialised |= now.uninitialised;
                            outcome.conflict = outcome.conflict.or(now.conflict);
                        }
                        global_outcome(env, site, address, outcome, false);
                    }
                }
                Err(kind) => fault(env, site, space, address, all, kind),
            }
        }
        Space::Shared => {
            if !env.shared.holds(address, all) {
                super::cluster::access(env, site, address, bytes, count, |i, value| {
                    out[i] = value;
                    None
                });
                return;
            }
            let at = address as usize;
            for (i, out) in out[..count].iter_mut().enumerate() {
                *out = env.shared.load(at + i * bytes, bytes);
            }
            if let Some(hazard) = env.shared.read(site, at, all, strong) {
                env.hazard(site, address, hazard);
            }
        }
        Space::Local => {
            let size = warp.local.len() / LANES;
            if address
                .checked_add(all as u64)
                .is_none_or(|end| end > size as u64)
            {
                fault(env, site, space, address, all, Kind::OutOfBounds);
                return;
            }
            let at = site.lane * size + address as usize;
            for (i, out) in out[..count].iter_mut().enumerate() {
                *out = little_endian(&warp.local[at + i * bytes..][..bytes]);
            }
            if env.setting.options.checks && warp.local_written[at..at + all].contains(&false) {
                let place = Place::at(site, space, address);
                env.report(Kind::Uninitialised, place, "nobody has written these bytes");
            }
        }
        Space::Param => {
            let params = &env.setting.params;
            let end = address.checked_add(all as u64);
            if end.is_none_or(|end| end > params.len() as u64) {
                fault(env, site, space, address, all, Kind::OutOfBounds);
                return;
            }
            for (i, out) in out[..count].iter_mut().enumerate() {
                *out = little_endian(&params[address as usize + i * bytes..][..bytes]);
            }
        }
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    let mut value = [0; 8];
    value[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(value)
}

/// The addresses of a load or store, which is counted and, if it is strong, noted. Memory of a thread or a launch has no counters.
fn begin(warp: &Warp, env: &mut Env, access: &Access, pc: usize, mask: u32) -> [u64; LANES] {
    let addresses = addresses(&warp.registers, &access.address);
    if !matches!(access.space, Space::Param | Space::Local) {
        let bytes = access.bytes * access.count;
        count(env, access.space, &addresses, mask, bytes, pc);
    }
    if access.strong && matches!(access.space, Space::Global | Space::Generic) {
        meet_others(env);
    }
    addresses
}

fn load(
    warp: &mut Warp,
    env: &mut Env,
    access: &Access,
    dest: &[Option<Register>],
    signed: bool,
    pc: usize,
    mask: u32,
) {
    let addresses = begin(warp, env, access, pc, mask);
    let mut values = [0; 8];
    let first = mask.trailing_zeros() as usize;
    let all = (access.bytes * access.count) as u64;
    if access.space == Space::Param
        && addresses.iter().all(|a| *a == addresses[first])
        && addresses[first].saturating_add(all) <= env.setting.params.len() as u64
        && addresses[first].is_multiple_of(all)
    {
        let site = warp.site(pc, first);
        read(warp, env, access, site, addresses[first], &mut values);
        for (register, value) in dest.iter().zip(values) {
            if let Some(register) = register {
                let value = extend(value, access.bytes, signed);
                write_register(&mut warp.registers, *register, mask, |_| value);
            }
        }
        return;
    }
    let clean = wide(
        #[inline(always)]
        || rows::load(warp, env, access, dest, signed, &addresses, pc, mask),
    );
    if clean {
        return;
    }
    for lane in lanes(mask) {
        let site = warp.site(pc, lane);
        read(warp, env, access, site, addresses[lane], &mut values);
        for (register, value) in dest.iter().zip(values) {
            if let Some(register) = register {
                let value = extend(value, access.bytes, signed);
                write_lane(&mut warp.registers, *register, lane, value);
            }
        }
    }
}

/// Writes `count` elements for one lane.
#[inline(always)]
fn write(
    warp: &mut Warp,
    env: &mut Env,
    access: &Access,
    site: Site,
    address: u64,
    values: &[u64; 8],
) {
    let Access {
        bytes,
        count,
        strong,
        ..
    } = *access;
    let all = bytes * count;
    let (space, address) = resolve(access.space, address);
    if address & (all as u64 - 1) != 0 {
        fault(env, site, space, address, all, Kind::Misaligned);
        return;
    }
    let keep = u64::MAX >> (64 - 8 * bytes);
    match space {
        Space::Global | Space::Generic => {
            match env.setting.device.locate(&mut env.hint, address, all) {
                Ok(place) => write_global(env, access, site, address, place, values),
                Err(kind) => fault(env, site, space, address, all, kind),
            }
        }
        Space::Shared => {
            if !env.shared.holds(address, all) {
                super::cluster::access(env, site, address, bytes, count, |i, _| {
                    Some(values[i] & keep)
                });
                return;
            }
            let at = address as usize;
            let elements = || values[..count].iter().enumerate();
            let how = if strong {
                Write::Strong
            } else {
                let same =
                    |(i, v): (usize, &u64)| env.shared.load(at + i * bytes, bytes) == v & keep;
                Write::Plain {
                    same: elements().all(same),
                }
            };
            if let Some(hazard) = env.shared.write(site, at, all, how) {
                env.hazard(site, address, hazard);
            }
            for (i, value) in elements() {
                env.shared.store(at + i * bytes, bytes, *value);
            }
        }
        Space::Local => {
            let size = warp.local.len() / LANES;
            if address
                .checked_add(all as u64)
                .is_none_or(|end| end > size as u64)
            {
                fault(env, site, space, address, all, Kind::OutOfBounds);
                return;
            }
            let at = site.lane * size + address as usize;
            for (i, value) in values[..count].iter().enumerate() {
                warp.local[at + i * bytes..][..bytes]
                    .copy_from_slice(&value.to_le_bytes()[..bytes]);
            }
            warp.local_written[at..at + all].fill(true);
        }
        Space::Param => fault(env, site, space, address, all, Kind::OutOfBounds),
    }
}

/// Writes the elements of one lane at an offset of an allocation.
#[inline(always)]
pub(super) fn write_global(
    env: &mut Env,
    access: &Access,
    site: Site,
    address: u64,
    (allocation, at): (&Allocation, usize),
    values: &[u64; 8],
) {
    let Access { bytes, count, .. } = *access;
    let all = bytes * count;
    let elements = || values[..count].iter().enumerate();
    if env.setting.options.checks {
        let mut outcome = Outcome::default();
        for word in at / 4..(at + all).div_ceil(4) {
            let (cell, mask) = (&allocation.cells[word], byte_mask(at, all));
            let now = if access.strong {
                env.toucher.atomic(cell, mask)
            } else {
                env.toucher.touch(cell, mask, true)
            };
            outcome.conflict = outcome.conflict.or(now.conflict);
        }
        let keep = u64::MAX >> (64 - 8 * bytes);
        let same = outcome.conflict.is_some()
            && elements().all(|(i, v)| allocation.load(at + i * bytes, bytes) == v & keep);
        global_outcome(env, site, address, outcome, same);
    }
    for (i, value) in elements() {
        allocation.store(at + i * bytes, bytes, *value);
    }
}

fn store(
    warp: &mut Warp,
    env: &mut Env,
    access: &Access,
    source: &[Register],
    pc: usize,
    mask: u32,
) {
    let addresses = begin(warp, env, access, pc, mask);
    let mut values = [0; 8];
    let done = wide(
        #[inline(always)]
        || rows::store(warp, env, access, source, &addresses, pc, mask),
    );
    for lane in lanes(mask & !done) {
        for (value, register) in values.iter_mut().zip(source) {
            *value = read_lane(&warp.registers, *register, lane);
        }
        let site = warp.site(pc, lane);
        write(warp, env, access, site, addresses[lane], &values);
    }
}

/// Checks an access of one lane to shared memory by an instruction of the whole warp; None if it cannot be done.
pub(super) fn shared_row(env: &mut Env, site: Site, address: u64, bytes: usize) -> Option<usize> {
    if !address.is_multiple_of(bytes as u64) {
        fault(env, site, Space::Shared, address, bytes, Kind::Misaligned);
        return None;
    }
    if !env.shared.holds(address, bytes) {
        fault(env, site, Space::Shared, address, bytes, Kind::OutOfBounds);
        return None;
    }
    Some(address as usize)
}

/// Reports a hazard, if there is one.
pub(super) fn note(env: &mut Env, site: Site, address: u64, hazard: Option<Hazard>) {
    if let Some(hazard) = hazard {
        env.hazard(site, address, hazard);
    }
}
