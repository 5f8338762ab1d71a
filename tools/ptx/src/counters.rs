//! What a launch did, in numbers that repeat exactly.

use serde::{Deserialize, Serialize};

use crate::exec::registers::LANES;

/// Classes of instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Whole numbers, logic, shifts, bit fields.
    Integer,
    /// f32 without division and functions.
    Float,
    /// f64 without division and functions.
    Double,
    /// f16 and bf16.
    Half,
    /// Division, roots, exponentials, trigonometry.
    Special,
    /// `cvt`
    Convert,
    /// Moves, comparisons, selections.
    Move,
    /// Loads from global or constant memory.
    LoadGlobal,
    /// Stores to global memory.
    StoreGlobal,
    /// Loads from shared memory, `ldmatrix` included.
    LoadShared,
    /// Stores to shared memory, `stmatrix` included.
    StoreShared,
    /// Loads and stores of local memory.
    Local,
    /// Loads of arguments.
    Param,
    /// `atom` and `red`.
    Atomic,
    /// `cp.async`, its groups and waits.
    AsyncCopy,
    /// Shuffles, votes, matches, reductions.
    Warp,
    /// Barriers and fences.
    Barrier,
    /// Branches, calls, returns.
    Control,
    /// `mma`
    Matrix,
    /// Hints.
    Other,
}

/// Work of one instruction, of one line, or of a whole launch. All sums are over warps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Instructions issued by warps.
    pub instructions: u64,
    /// Lanes that were active in them.
    pub lanes: u64,
    /// Multiplications and additions of matrix instructions.
    pub matrix_flops: u64,
    /// 32-byte sectors of global memory touched by each instruction.
    pub global_sectors: u64,
    /// The sectors it would take if the same bytes lay side by side.
    pub global_sectors_ideal: u64,
    /// Different bytes of global memory read or written by each instruction.
    pub global_bytes: u64,
    /// Wavefronts of shared memory: passes of 32 banks of 4 bytes.
    pub shared_wavefronts: u64,
    /// The wavefronts it would take without bank conflicts.
    pub shared_wavefronts_ideal: u64,
    /// Different bytes of shared memory read or written by each instruction.
    pub shared_bytes: u64,
}

impl Work {
    pub(crate) fn add(&mut self, other: &Work) {
        self.instructions += other.instructions;
        self.lanes += other.lanes;
        self.matrix_flops += other.matrix_flops;
        self.global_sectors += other.global_sectors;
        self.global_sectors_ideal += other.global_sectors_ideal;
        self.global_bytes += other.global_bytes;
        self.shared_wavefronts += other.shared_wavefronts;
        self.shared_wavefronts_ideal += other.shared_wavefronts_ideal;
        self.shared_bytes += other.shared_bytes;
    }

    /// Counts lane accesses to global memory of `bytes` bytes each.
    #[inline(always)]
    pub(crate) fn global(&mut self, addresses: &[u64], bytes: u64) {
        let (unique, sectors) = if aligned(addresses, bytes)
            && let Some(count) = different(addresses, bytes)
            && let Some(sectors) = different(addresses, bytes.max(32))
        {
            (count * bytes, sectors * (bytes.max(32) / 32))
        } else {
            merged(addresses, bytes, 32)
        };
        self.global_sectors += sectors;
        self.global_sectors_ideal += unique.div_ceil(32);
        self.global_bytes += unique;
    }

    /// Counts lane accesses to shared memory of `bytes` bytes each, in the order of lanes.
    #[inline(always)]
    pub(crate) fn shared(&mut self, addresses: &[u64], bytes: u64) {
        let wide = bytes.max(4);
        // a wavefront moves 128 bytes: all lanes of 4 bytes, half of 8, a quarter of 16
        let per_pass = (128 / wide).max(1) as usize;
        let (aligned, shift) = (aligned(addresses, bytes), wide.trailing_zeros());
        for pass in addresses.chunks(per_pass) {
            let last = per_pass as u64 - 1;
            let places = pass.iter().map(|address| address >> shift & last);
            let seen = places.fold(0u32, |seen, place| seen | 1 << place);
            let apart = aligned && wide <= 128 && seen.count_ones() as usize == pass.len();
            self.shared_wavefronts += if apart {
                1
            } else {
                bank_conflicts(pass, bytes)
            };
        }
        let (unique, words) = if aligned
            && bytes >= 4
            && let Some(count) = different(addresses, bytes)
        {
            (count * bytes, count * (bytes / 4))
        } else {
            merged(addresses, bytes, 4)
        };
        self.shared_wavefronts_ideal += words.div_ceil(32);
        self.shared_bytes += unique;
    }
}

/// True if accesses of `bytes` bytes can only be the same or apart.
#[inline(always)]
fn aligned(addresses: &[u64], bytes: u64) -> bool {
    let low = addresses.iter().fold(0, |low, address| low | address);
    bytes.is_power_of_two() && low & (bytes - 1) == 0
}

/// Different pieces of `size` bytes (a power of two) that addresses lie in; None if they are far apart and in no order.
#[inline(always)]
fn different(addresses: &[u64], size: u64) -> Option<u64> {
    let shift = size.trailing_zeros();
    let (mut sorted, mut count) = (true, 1);
    for pair in addresses.windows(2) {
        let (a, b) = (pair[0] >> shift, pair[1] >> shift);
        sorted &= a <= b;
        count += u64::from(a != b);
    }
    if sorted {
        return Some(count);
    }
    let least = addresses
        .iter()
        .fold(u64::MAX, |least, a| least.min(a >> shift));
    let most = addresses.iter().fold(0, |most, a| most.max(a >> shift));
    if most - least >= 512 {
        return None;
    }
    // four sets, so that one need not wait for the other
    let mut seen = [[0u64; 8]; 4];
    for (i, address) in addresses.iter().enumerate() {
        let at = (address >> shift) - least;
        seen[i % 4][at as usize / 64 % 8] |= 1 << (at % 64);
    }
    let all = |word: usize| seen.iter().fold(0, |all, set| all | set[word]);
    Some((0..8).map(|word| u64::from(all(word).count_ones())).sum())
}

/// Most different words that one bank has to give.
fn bank_conflicts(addresses: &[u64], bytes: u64) -> u64 {
    const DEEP: usize = 32;
    let (mut words, mut counts) = ([[0u64; DEEP]; 32], [0usize; 32]);
    let mut most = 0;
    for address in addresses {
        for word in address / 4..=(address + bytes - 1) / 4 {
            let bank = (word % 32) as usize;
            let count = counts[bank];
            if !words[bank][..count].contains(&word) && count < DEEP {
                words[bank][count] = word;
                counts[bank] += 1;
                most = most.max(counts[bank]);
            }
        }
    }
    most as u64
}

/// Different bytes, and different pieces of `size` bytes, that the accesses touch.
fn merged(addresses: &[u64], bytes: u64, size: u64) -> (u64, u64) {
    let mut sorted = [0; LANES];
    let sorted = &mut sorted[..addresses.len()];
    sorted.copy_from_slice(addresses);
    sorted.sort_unstable();
    let (mut unique, mut pieces) = (0, 0);
    let (mut end, mut next_piece) = (0, 0);
    for address in sorted.iter().copied() {
        let stop = address + bytes;
        unique += stop.saturating_sub(address.max(end));
        end = end.max(stop);
        let (first, last) = (address / size, (stop - 1) / size);
        pieces += (last + 1).saturating_sub(first.max(next_piece));
        next_piece = next_piece.max(last + 1);
    }
    (unique, pieces)
}

/// What a line of the PTX text did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineWork {
    /// Line of the PTX text.
    pub line: u32,
    /// File and line of the source, where `.loc` says.
    pub source: Option<crate::SourceLine>,
    /// Class of the instruction.
    pub class: Class,
    /// Its work.
    pub work: Work,
}

/// What a launch did. The same for any number of threads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Everything together.
    pub total: Work,
    /// Instructions issued by warps, by class; classes without any are left out.
    pub classes: std::collections::BTreeMap<Class, u64>,
    /// Work by line of PTX, in the order of the text; lines that never ran are left out.
    pub lines: Vec<LineWork>,
}

impl Counters {
    /// Instructions of a class.
    pub fn class(&self, class: Class) -> u64 {
        self.classes.get(&class).copied().unwrap_or(0)
    }
}
