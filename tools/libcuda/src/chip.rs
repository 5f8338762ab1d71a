//! The devices that are imitated, as their data sheets describe them, and how long work would take on them.

use ptx::{Estimate, Kernel, Launch, Report};

/// A device.
#[derive(Debug)]
pub struct Chip {
    pub name: &'static str,
    /// Compute capability.
    pub capability: (i32, i32),
    /// Multiprocessors, what they hold, and published peaks.
    pub rates: ptx::Chip,
    /// Boost clock in kHz, as a device tells it; the peaks are given for a lower one.
    pub clock: i32,
    /// Memory clock in kHz.
    pub memory_clock: i32,
    /// Bits of the memory bus.
    pub bus: i32,
    /// Bytes of the second-level cache.
    pub cache: i32,
    /// Bytes per second between host and device.
    pub link: f64,
}

pub const H100: Chip = Chip {
    name: "H100 (interpreted)",
    capability: (9, 0),
    rates: ptx::Chip::H100,
    clock: 1_980_000,
    memory_clock: 2_619_000,
    bus: 5120,
    cache: 50 << 20,
    link: 64e9,
};

pub const A100: Chip = Chip {
    name: "A100 (interpreted)",
    capability: (8, 0),
    rates: ptx::Chip::A100,
    clock: 1_410_000,
    memory_clock: 1_593_000,
    bus: 5120,
    cache: 40 << 20,
    link: 32e9,
};

/// Shared memory that a block may have without asking for more.
pub const SHARED_DEFAULT: i32 = 48 << 10;
/// Shared memory that a multiprocessor keeps of every block.
pub const SHARED_RESERVED: i32 = 1 << 10;
/// Nanoseconds before anything starts.
const OVERHEAD: f64 = 2000.0;

impl Chip {
    pub fn multiprocessors(&self) -> i32 {
        self.rates.multiprocessors as i32
    }

    /// Registers of a multiprocessor.
    pub fn registers(&self) -> i32 {
        self.rates.registers as i32
    }

    /// Bytes of shared memory of a multiprocessor.
    pub fn shared(&self) -> i32 {
        self.rates.shared as i32
    }

    /// Shared memory that a block may have if it asks.
    pub fn shared_of_block(&self) -> i32 {
        self.shared() - SHARED_RESERVED
    }

    /// A device attribute (`CUdevice_attribute`), if there is one of that number. What is not listed by name is 0.
    pub fn attribute(&self, number: i32) -> Option<i32> {
        let hopper = i32::from(self.capability.0 >= 9);
        Some(match number {
            1..=3 => 1024,
            4 => 64,
            5 => i32::MAX,
            6 | 7 => 65535,
            8 => SHARED_DEFAULT,
            9 => 65536,
            10 => 32,
            11 => i32::MAX,
            12 | 82 => self.registers(),
            13 => self.clock,
            14 => 512, // alignment of textures
            15 | 19 | 31 | 32 | 41 | 78 | 79 | 80 | 83 | 89 | 90 | 95 | 99 | 115 => 1,
            16 => self.multiprocessors(),
            36 => self.memory_clock,
            37 => self.bus,
            38 => self.cache,
            39 => 32 * self.rates.warps as i32,
            40 => 3, // copy engines
            51 => 32,
            75 => self.capability.0,
            76 => self.capability.1,
            81 => self.shared(),
            87 => 2, // f32 against f64
            97 => self.shared_of_block(),
            106 => self.rates.blocks as i32,
            111 => SHARED_RESERVED,
            120 | 127 => hopper,
            126 => 1 + 3 * hopper,
            134 => -1, // no NUMA node
            17..=150 => 0,
            _ => return None,
        })
    }

    /// Blocks of a kernel that fit a multiprocessor. Registers are not known to an interpreter and do not count.
    pub fn resident_blocks(&self, threads: u64, shared: u64) -> i32 {
        if threads == 0 || threads > 1024 {
            return 0;
        }
        self.rates.occupancy(threads, shared, None).blocks as i32
    }

    /// Nanoseconds of a launch: its estimate, and what passes before anything starts.
    pub fn launch_time(&self, kernel: &Kernel, launch: &Launch, report: &Report) -> f64 {
        let estimate = Estimate::new(kernel, launch, report, &self.rates, None);
        OVERHEAD + 1e9 * estimate.seconds
    }

    /// Nanoseconds of a copy or fill that moves `bytes` over the link to the host, or inside device memory.
    pub fn copy_time(&self, bytes: u64, over_link: bool) -> f64 {
        let rate = if over_link {
            self.link
        } else {
            self.rates.memory / 2.0
        };
        OVERHEAD + bytes as f64 / rate * 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::{A100, H100};

    #[test]
    fn blocks_of_a_multiprocessor() {
        assert_eq!(H100.resident_blocks(128, 0), 16);
        assert_eq!(H100.resident_blocks(1024, 0), 2);
        assert_eq!(H100.resident_blocks(32, 0), 32);
        assert_eq!(H100.resident_blocks(128, 227 << 10), 1);
        assert_eq!(A100.resident_blocks(128, 163 << 10), 1);
        assert_eq!(A100.resident_blocks(128, 164 << 10), 0);
        assert_eq!(H100.resident_blocks(2000, 0), 0);
    }
}
