//! Dispatch of what came with sm_90, and its state in a warp.

use super::block::{Env, Place};
use super::bulk;
use super::bytes;
use super::cluster::{self, Arrival};
use super::departing::{self, Departing};
use super::memory::read_lane;
use super::registers::{LANES, lanes};
use super::rows::addresses;
use super::warp::{Next, Warp};
use super::warpgroup::{self, Pending};
use crate::finding::Kind;
use crate::hopper::Hopper;
use crate::types::Space;

/// What a warp has asked for and not waited for.
#[derive(Default)]
pub(super) struct Later {
    /// Copies out of shared memory.
    pub departing: Vec<Departing>,
    /// Groups of them committed, by lane.
    pub groups: [u32; LANES],
    /// Matrix products, and groups of them committed.
    pub products: Vec<Pending>,
    pub product_groups: u32,
    pub arrival: Arrival,
}

pub(super) fn execute(
    warp: &mut Warp,
    env: &mut Env,
    hopper: &Hopper,
    pc: usize,
    mask: u32,
) -> Next {
    match hopper {
        Hopper::ProxyFence => env.shared.fence(warp.index),
        Hopper::Copy(copy) => bulk::copy(warp, env, copy, pc, mask),
        Hopper::Tensor(copy) => bulk::tensor(warp, env, copy, pc, mask),
        Hopper::CommitCopies => {
            for lane in lanes(mask) {
                warp.later.groups[lane] += 1;
            }
        }
        Hopper::WaitCopies { groups, read } => departing::wait(warp, env, *groups, *read, mask),
        Hopper::Replace {
            space,
            map,
            field,
            value,
        } => {
            let addresses = addresses(&warp.registers, map);
            for lane in lanes(mask) {
                let site = warp.site(pc, lane);
                if !addresses[lane].is_multiple_of(128) {
                    let place = Place::at(site, *space, addresses[lane]);
                    let message = "a tensor map lies at a multiple of 128";
                    env.report(Kind::Misaligned, place, message);
                    continue;
                }
                let value = read_lane(&warp.registers, *value, lane).to_le_bytes();
                let at = addresses[lane] + field.offset as u64;
                bytes::write(env, site, *space, at, &value[..field.bytes]);
            }
        }
        Hopper::CopyMap { to, from } => {
            let (to, from) = (
                addresses(&warp.registers, to),
                addresses(&warp.registers, from),
            );
            // all lanes copy the same
            let lane = mask.trailing_zeros() as usize;
            let site = warp.site(pc, lane);
            if let Some(map) = bytes::read_map(env, site, Space::Shared, from[lane]) {
                bytes::write(env, site, Space::Global, to[lane], &map);
            }
        }
        Hopper::Product(product) => warpgroup::start(warp, env, product, pc, mask),
        // what it orders is read off the text
        Hopper::ProductFence => {}
        Hopper::CommitProducts => warp.later.product_groups += 1,
        Hopper::WaitProducts(groups) => warpgroup::wait(warp, env, *groups),
        Hopper::StoreAsync {
            address,
            barrier,
            bytes,
            values,
            reduce,
        } => {
            let to = addresses(&warp.registers, address);
            for lane in lanes(mask) {
                let site = warp.site(pc, lane);
                let mut value = vec![];
                for register in values {
                    let bits = read_lane(&warp.registers, *register, lane).to_le_bytes();
                    value.extend_from_slice(&bits[..*bytes]);
                }
                if !to[lane].is_multiple_of(value.len() as u64) {
                    let length = value.len();
                    let kind = Kind::Misaligned;
                    super::memory::fault(env, site, Space::Shared, to[lane], length, kind);
                    continue;
                }
                bulk::store(warp, env, site, (to[lane], *barrier), value, *reduce);
            }
        }
        Hopper::MapAddress {
            dest,
            address,
            rank,
        } => {
            let from = addresses(&warp.registers, address);
            let ranks = warp.registers.words[*rank];
            let values = std::array::from_fn(|lane| cluster::map(from[lane], ranks[lane]));
            cluster::each(warp, *dest, mask, values);
        }
        Hopper::RankOf { dest, address } => {
            let from = addresses(&warp.registers, address);
            let values = from.map(|address| u64::from(cluster::rank_of(env, address)));
            cluster::each(warp, *dest, mask, values);
        }
        Hopper::ClusterArrive => return cluster::arrive(warp, env, pc, mask),
        Hopper::ClusterWait => return cluster::wait(warp, env, pc),
    }
    Next::Go
}
