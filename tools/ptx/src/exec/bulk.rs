//! Bulk copies: whole runs of bytes and tiles of tensors, through the asynchronous proxy.
//!
//! A copy to shared memory is delivered when somebody waits at its barrier, or at once (`Early`). Until somebody
//! waits its bytes count as in flight.

use super::block::{Env, Place, early};
use super::bytes::{little_endian, read_global, read_map, reduced};
use super::departing::{Target, depart};
use super::mbarrier::locate;
use super::memory::{fault, note};
use super::registers::lanes;
use super::rows::addresses;
use super::shared::Site;
use super::tile::Tile;
use super::warp::Warp;
use crate::finding::Kind;
use crate::hopper::{BulkCopy, Reduction, Route, TensorCopy};
use crate::program::{Address, AtomicType};
use crate::tensor_map::{Element, TensorMap};
use crate::types::Space;

/// Where bytes come from.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    Global(u64),
    Tensor(Tile),
    /// Of the block that asked.
    Shared(usize),
    /// Out of registers.
    Value(Vec<u8>),
}

/// A copy to shared memory that ends at a barrier.
#[derive(Debug, Clone)]
pub(super) struct Arriving {
    site: Site,
    /// Rank of the block that asked.
    issuer: usize,
    /// Clocks of the warp that asked, when it did.
    clocks: Vec<u32>,
    origin: Origin,
    at: usize,
    /// Bytes the barrier counts.
    bytes: usize,
    /// Bytes of shared memory from the first to the last.
    extent: usize,
    reduce: Option<Reduction>,
}

/// Address of one lane.
fn one(warp: &Warp, address: &Address, lane: usize) -> u64 {
    addresses(&warp.registers, address)[lane]
}

fn misaligned(env: &mut Env, site: Site, space: Space, address: u64, to: usize) -> bool {
    let wrong = !address.is_multiple_of(to as u64);
    if wrong {
        fault(env, site, space, address, to, Kind::Misaligned);
    }
    wrong
}

pub(super) fn copy(warp: &mut Warp, env: &mut Env, copy: &BulkCopy, pc: usize, mask: u32) {
    for lane in lanes(mask) {
        let site = warp.site(pc, lane);
        let bytes = warp.registers.words[copy.bytes][lane] as usize;
        let (to, from) = (one(warp, &copy.to, lane), one(warp, &copy.from, lane));
        let spaces = match copy.route {
            Route::Prefetch => continue,
            Route::GlobalToShared => (Space::Shared, Space::Global),
            Route::SharedToShared => (Space::Shared, Space::Shared),
            Route::SharedToGlobal => (Space::Global, Space::Shared),
        };
        let wrong =
            misaligned(env, site, spaces.0, to, 16) || misaligned(env, site, spaces.1, from, 16);
        if wrong || bytes == 0 {
            continue;
        }
        if !bytes.is_multiple_of(16) {
            let place = Place::at(site, spaces.0, to);
            let message = format!("a bulk copy of {bytes} bytes, which is no multiple of 16");
            env.report(Kind::Misaligned, place, &message);
            continue;
        }
        if env.setting.options.counters && copy.route != Route::SharedToShared {
            let global = if spaces.0 == Space::Global { to } else { from };
            env.work[pc].global(&[global & ((1 << 62) - 1)], bytes as u64);
        }
        if copy.route == Route::SharedToGlobal {
            let byte_mask = copy
                .byte_mask
                .map_or(0xffff, |slot| warp.registers.words[slot][lane]);
            let target = Target::Run(to, byte_mask);
            depart(warp, env, site, from, bytes, target, copy.reduce);
            continue;
        }
        let origin = if copy.route == Route::GlobalToShared {
            Origin::Global(from)
        } else if env.holds(site, env.cluster.rank, env.home(from).1, bytes) {
            Origin::Shared(env.home(from).1 as usize)
        } else {
            continue;
        };
        let request = Request {
            origin,
            to,
            bytes,
            extent: bytes,
            blocks: copy.blocks,
            barrier: copy.barrier,
            reduce: copy.reduce,
        };
        ask(warp, env, site, request);
    }
}

pub(super) fn tensor(warp: &mut Warp, env: &mut Env, copy: &TensorCopy, pc: usize, mask: u32) {
    for lane in lanes(mask) {
        let site = warp.site(pc, lane);
        let place = one(warp, &copy.map, lane);
        let Some(bytes) = read_map(env, site, Space::Generic, place) else {
            continue;
        };
        let map = match TensorMap::decode(&bytes) {
            Ok(map) if map.rank == copy.coordinates.len() => map,
            wrong => {
                let message = match wrong {
                    Ok(map) => format!("the tensor map has {} dimensions", map.rank),
                    Err(message) => message,
                };
                let place = Place::at(site, Space::Generic, place);
                env.report(Kind::TensorMap, place, &message);
                continue;
            }
        };
        if copy.route == Route::Prefetch {
            continue;
        }
        let mut at = [0; 5];
        for (at, slot) in at.iter_mut().zip(&copy.coordinates) {
            *at = warp.registers.words[*slot][lane] as i32;
        }
        let tile = Tile { map, at };
        let (row, pitch) = tile.map.row();
        let (bytes, extent) = (tile.map.rows() * row, tile.map.rows() * pitch);
        let shared = one(warp, &copy.shared, lane);
        if misaligned(env, site, Space::Shared, shared, 128) {
            continue;
        }
        if extent > env.shared.bytes.len() {
            fault(env, site, Space::Shared, shared, extent, Kind::OutOfBounds);
            continue;
        }
        tile.count(env, pc);
        if copy.route == Route::SharedToGlobal {
            let reduce = copy.reduce.map(|op| Reduction {
                op,
                ty: atomic_type(tile.map.element),
                bytes: tile.map.element.bytes(),
            });
            let target = Target::Tile(tile);
            depart(warp, env, site, shared, extent, target, reduce);
            continue;
        }
        let request = Request {
            origin: Origin::Tensor(tile),
            to: shared,
            bytes,
            extent,
            blocks: copy.blocks,
            barrier: copy.barrier,
            reduce: None,
        };
        ask(warp, env, site, request);
    }
}

fn atomic_type(element: Element) -> AtomicType {
    match element {
        Element::F16 => AtomicType::F16,
        Element::BF16 => AtomicType::BF16,
        Element::F64 => AtomicType::F64,
        Element::S32 | Element::S64 => AtomicType::Signed,
        Element::U8 | Element::U16 | Element::U32 | Element::U64 => AtomicType::Unsigned,
        _ => AtomicType::F32,
    }
}

/// What a lane asks to be copied to shared memory.
struct Request {
    origin: Origin,
    to: u64,
    bytes: usize,
    extent: usize,
    blocks: Option<usize>,
    barrier: Option<Address>,
    reduce: Option<Reduction>,
}

fn ask(warp: &mut Warp, env: &mut Env, site: Site, request: Request) {
    let Some(barrier) = &request.barrier else {
        return;
    };
    let barrier = one(warp, barrier, site.lane);
    let Some((barrier_rank, barrier_at)) = locate(env, site, Space::Shared, barrier) else {
        return;
    };
    let own = env.cluster.rank;
    let (rank, to) = env.home(request.to);
    let ranks: Vec<usize> = match request.blocks {
        None => vec![rank],
        Some(slot) => lanes(warp.registers.words[slot][site.lane] & 0xffff).collect(),
    };
    if request.blocks.is_none() && rank != barrier_rank {
        let place = Place::at(site, Space::Shared, barrier);
        let message = "the barrier lies in another block than the bytes";
        env.report(Kind::Mbarrier, place, message);
        return;
    }
    let mut clocks = vec![];
    env.shared.release(warp.index, &mut clocks);
    for rank in ranks {
        if rank >= env.cluster.seats.len() {
            fault(
                env,
                site,
                Space::Shared,
                to,
                request.extent,
                Kind::OutOfBounds,
            );
            continue;
        }
        if !env.holds(site, rank, to, request.extent) {
            continue;
        }
        let foreign = rank != own;
        let copy = Arriving {
            site,
            issuer: own,
            clocks: clocks.clone(),
            origin: request.origin.clone(),
            at: to as usize,
            bytes: request.bytes,
            extent: request.extent,
            reduce: request.reduce,
        };
        if let Origin::Shared(from) = request.origin {
            let hazard = env.shared.read_starts(site, from, request.bytes);
            note(env, site, from as u64, hazard);
        }
        env.switch(rank);
        let mut hazard = None;
        if request.reduce.is_none() {
            let (at, extent) = (copy.at, copy.extent);
            hazard = env.shared.copy_starts(site, foreign, at, extent);
            env.shared.bytes[at..at + extent].fill(0xff);
        }
        let at_once = early(env);
        let known = env.mbarriers.get_mut(&barrier_at);
        let missing = known.is_none();
        match known {
            Some(known) if !at_once => known.arriving.push_back(copy),
            _ => arrive(env, barrier_at, &copy),
        }
        env.switch(own);
        note(env, site, to, hazard);
        if missing {
            let place = Place::at(site, Space::Shared, barrier_at);
            let message = "the barrier in memory that counts the bytes was not initialised";
            env.report(Kind::Mbarrier, place, message);
        }
    }
}

/// Bytes from registers that arrive at an address of another block.
pub(super) fn store(
    warp: &mut Warp,
    env: &mut Env,
    site: Site,
    (to, barrier): (u64, Address),
    value: Vec<u8>,
    reduce: Option<Reduction>,
) {
    let request = Request {
        to,
        bytes: value.len(),
        extent: value.len(),
        origin: Origin::Value(value),
        blocks: None,
        barrier: Some(barrier),
        reduce,
    };
    ask(warp, env, site, request);
}

/// Delivers a copy to the block that is switched to, and counts its bytes at the barrier.
pub(super) fn arrive(env: &mut Env, barrier: u64, copy: &Arriving) {
    let Arriving {
        site, issuer, at, ..
    } = *copy;
    let target = env.cluster.rank;
    let data = match &copy.origin {
        Origin::Global(address) => {
            let mut data = vec![0xff; copy.bytes];
            read_global(env, site, *address, &mut data);
            data
        }
        Origin::Tensor(tile) => tile.read(env, site),
        Origin::Shared(from) => {
            env.switch(issuer);
            let data = env.shared.bytes[*from..*from + copy.bytes].to_vec();
            env.shared.read_ends(site.warp, *from, copy.bytes);
            env.switch(target);
            data
        }
        Origin::Value(value) => value.clone(),
    };
    let foreign = issuer != target;
    if let Some(reduce) = copy.reduce {
        for (i, value) in data.chunks_exact(reduce.bytes).enumerate() {
            let at = at + i * reduce.bytes;
            let old = env.shared.load(at, reduce.bytes);
            let new = reduced(reduce, old, little_endian(value));
            env.shared.store(at, reduce.bytes, new);
        }
        env.shared.foreign(at, data.len(), true);
    } else {
        let clock = if foreign { 0 } else { copy.clocks[site.warp] };
        match &copy.origin {
            Origin::Tensor(tile) => tile.scatter(&mut env.shared.bytes, at, &data),
            _ => env.shared.bytes[at..at + data.len()].copy_from_slice(&data),
        }
        env.shared.copy_ends(site, clock, at, copy.extent);
    }
    if let Some(known) = env.mbarriers.get_mut(&barrier) {
        let clocks: &[u32] = if foreign { &[] } else { &copy.clocks };
        known.deliver(copy.bytes, clocks);
    }
}
