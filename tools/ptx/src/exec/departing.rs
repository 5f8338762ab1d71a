//! Bulk copies out of shared memory: they are done when their group is waited for.

use super::block::{Env, Place, early};
use super::bytes::write_global;
use super::hopper::Later;
use super::memory::{fault, note};
use super::shared::Site;
use super::tile::Tile;
use super::warp::Warp;
use crate::finding::Kind;
use crate::hopper::Reduction;
use crate::types::Space;

/// A copy from shared to global memory.
pub(super) struct Departing {
    site: Site,
    /// Group of the lane that it belongs to.
    group: u32,
    at: usize,
    extent: usize,
    target: Target,
    reduce: Option<Reduction>,
    /// What was read, once it was.
    data: Option<Vec<u8>>,
    /// The source may not be written yet.
    reading: bool,
    written: bool,
}

/// Where the bytes go.
pub(super) enum Target {
    /// Address, and mask of the bytes of 16 that are written.
    Run(u64, u32),
    Tile(Tile),
}

/// A lane asks for a copy out of shared memory.
pub(super) fn depart(
    warp: &mut Warp,
    env: &mut Env,
    site: Site,
    from: u64,
    extent: usize,
    target: Target,
    reduce: Option<Reduction>,
) {
    let (rank, at) = env.home(from);
    if rank != env.cluster.rank {
        fault(env, site, Space::Shared, from, extent, Kind::OutOfBounds);
        return;
    }
    if !env.holds(site, rank, at, extent) {
        return;
    }
    let hazard = env.shared.read_starts(site, at as usize, extent);
    note(env, site, at, hazard);
    let mut copy = Departing {
        site,
        group: warp.later.groups[site.lane] + 1,
        at: at as usize,
        extent,
        target,
        reduce,
        data: None,
        reading: true,
        written: false,
    };
    if early(env) {
        copy.read(env);
        copy.write(env);
    }
    warp.later.departing.push(copy);
}

impl Departing {
    fn read(&mut self, env: &Env) {
        if self.data.is_none() {
            let shared = &env.shared.bytes;
            self.data = Some(match &self.target {
                Target::Run(..) => shared[self.at..self.at + self.extent].to_vec(),
                Target::Tile(tile) => tile.gather(shared, self.at),
            });
        }
    }

    fn write(&mut self, env: &mut Env) {
        let Some(data) = self.data.take().filter(|_| !self.written) else {
            return;
        };
        self.written = true;
        match &self.target {
            Target::Run(address, 0xffff) => {
                write_global(env, self.site, *address, &data, self.reduce);
            }
            Target::Run(address, mask) => {
                for (i, byte) in data.iter().enumerate() {
                    if mask >> (i % 16) & 1 == 1 {
                        write_global(env, self.site, address + i as u64, &[*byte], None);
                    }
                }
            }
            Target::Tile(tile) => {
                let (bytes, _) = tile.map.row();
                for (row, data) in data.chunks_exact(bytes).enumerate() {
                    if let Some((address, first, length)) = tile.map.part(&tile.at, row) {
                        let data = &data[first..first + length];
                        write_global(env, self.site, address, data, self.reduce);
                    }
                }
            }
        }
    }
}

/// `cp.async.bulk.wait_group`: the copies of all but the latest `groups` groups are done, or at least their sources
/// are free.
pub(super) fn wait(warp: &mut Warp, env: &mut Env, groups: u32, read: bool, mask: u32) {
    let Later {
        departing,
        groups: committed,
        ..
    } = &mut warp.later;
    for copy in departing.iter_mut() {
        let lane = copy.site.lane;
        if mask >> lane & 1 == 0 || copy.group > committed[lane].saturating_sub(groups) {
            continue;
        }
        copy.free(env);
        if !read {
            copy.write(env);
        }
    }
    departing.retain(|copy| copy.reading || !copy.written);
}

impl Departing {
    /// The source may be written again.
    fn free(&mut self, env: &mut Env) {
        if self.reading {
            if !self.written {
                self.read(env);
            }
            env.shared.read_ends(self.site.warp, self.at, self.extent);
            self.reading = false;
        }
    }
}

/// Lanes exit: what they asked for still happens, but its source is gone.
pub(super) fn finish(warp: &mut Warp, env: &mut Env, mask: u32) {
    let leaving = |copy: &mut Departing| mask >> copy.site.lane & 1 == 1;
    let copies: Vec<Departing> = warp.later.departing.extract_if(.., leaving).collect();
    for mut copy in copies {
        if copy.reading {
            let place = Place::at(copy.site, Space::Shared, copy.at as u64);
            let message = "the thread exits before this copy has read its shared memory";
            env.report(Kind::InFlight, place, message);
        }
        copy.free(env);
        copy.write(env);
    }
}
