//! A tile of a tensor, between global and shared memory.

use super::block::Env;
use super::bytes::read_global;
use super::shared::Site;
use crate::tensor_map::{Swizzle, TensorMap};

/// The tile whose first element has the coordinates `at`.
#[derive(Debug, Clone)]
pub(super) struct Tile {
    pub map: TensorMap,
    pub at: [i32; 5],
}

impl Tile {
    /// Counts the sectors of global memory that the tile touches.
    pub fn count(&self, env: &mut Env, pc: usize) {
        if !env.setting.options.counters {
            return;
        }
        for row in 0..self.map.rows() {
            if let Some((address, _, length)) = self.map.part(&self.at, row) {
                env.work[pc].global(&[address & ((1 << 62) - 1)], length as u64);
            }
        }
        let (bytes, _) = self.map.row();
        let wavefronts = (bytes * self.map.rows()).div_ceil(128) as u64;
        env.work[pc].shared_wavefronts += wavefronts;
        env.work[pc].shared_wavefronts_ideal += wavefronts;
        env.work[pc].shared_bytes += (bytes * self.map.rows()) as u64;
    }

    /// The rows of the tile, one after another; what lies outside of the tensor is zero or NaN.
    pub fn read(&self, env: &mut Env, site: Site) -> Vec<u8> {
        let (bytes, _) = self.map.row();
        let fill = if self.map.nan_fill { 0xff } else { 0 };
        let mut data = vec![fill; bytes * self.map.rows()];
        for (row, out) in data.chunks_exact_mut(bytes).enumerate() {
            if let Some((address, first, length)) = self.map.part(&self.at, row)
                && !read_global(env, site, address, &mut out[first..first + length])
            {
                break;
            }
        }
        data
    }

    /// Calls `piece(offset in the rows, address)` for all 16-byte pieces of a tile in shared memory.
    fn pieces(&self, at: usize, mut piece: impl FnMut(usize, usize)) {
        let (bytes, pitch) = self.map.row();
        for row in 0..self.map.rows() {
            for offset in (0..bytes).step_by(16) {
                let place = self.map.swizzle.place(at + row * pitch + offset, 0);
                piece(row * bytes + offset, place);
            }
        }
    }

    pub fn scatter(&self, shared: &mut [u8], at: usize, data: &[u8]) {
        if self.map.swizzle == Swizzle::None {
            shared[at..at + data.len()].copy_from_slice(data);
            return;
        }
        self.pieces(at, |offset, place| {
            if let Some(to) = shared.get_mut(place..place + 16) {
                to.copy_from_slice(&data[offset..offset + 16]);
            }
        });
    }

    pub fn gather(&self, shared: &[u8], at: usize) -> Vec<u8> {
        let (bytes, _) = self.map.row();
        let mut data = vec![0; bytes * self.map.rows()];
        self.pieces(at, |offset, place| {
            if let Some(from) = shared.get(place..place + 16) {
                data[offset..offset + 16].copy_from_slice(from);
            }
        });
        data
    }
}
