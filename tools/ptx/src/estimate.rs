//! An *estimate* of the time a launch would take on a chip, from its counters and the chip's published rates.
//!
//! It is a bound from four sides: instructions issued, products of matrices, shared memory, global memory. Each is
//! the time of the busiest multiprocessor if nothing else took any; the largest wins. Waiting for memory, for barriers and
//! for one another is taken to be hidden, caches are not modelled, and neither are registers, unless their number is
//! given. It tells what a kernel is bound by and how two versions compare, not how long either takes.

use serde::Serialize;

use crate::exec::{Launch, Report};
use crate::module::Kernel;

/// Published rates of a chip.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Chip {
    /// Its name.
    pub name: &'static str,
    /// Multiprocessors.
    pub multiprocessors: u64,
    /// Cycles per second.
    pub clock: f64,
    /// Dense bf16 operations per cycle and multiprocessor, a product and a sum being two.
    pub matrix_flops: f64,
    /// Bytes per second of global memory.
    pub memory: f64,
    /// Warps that a multiprocessor holds.
    pub warps: u64,
    /// Blocks that a multiprocessor holds.
    pub blocks: u64,
    /// Bytes of shared memory of a multiprocessor; each block takes 1024 more than it asks for.
    pub shared: u64,
    /// 32-bit registers of a multiprocessor.
    pub registers: u64,
}

impl Chip {
    /// A100 SXM with 80 GB: 312 TFLOPS of dense bf16, 2039 GB/s.
    pub const A100: Chip = Chip {
        name: "A100",
        multiprocessors: 108,
        clock: 1.41e9,
        matrix_flops: 2048.0,
        memory: 2.039e12,
        warps: 64,
        blocks: 32,
        shared: 164 << 10,
        registers: 65536,
    };

    /// H100 SXM: 989 TFLOPS of dense bf16, 3352 GB/s.
    pub const H100: Chip = Chip {
        name: "H100",
        multiprocessors: 132,
        clock: 1.83e9,
        matrix_flops: 4096.0,
        memory: 3.352e12,
        warps: 64,
        blocks: 32,
        shared: 228 << 10,
        registers: 65536,
    };

    /// A chip by its name, in letters of any case.
    pub fn named(name: &str) -> Option<Chip> {
        let chips = [Chip::A100, Chip::H100];
        chips
            .into_iter()
            .find(|chip| chip.name.eq_ignore_ascii_case(name))
    }

    /// How many blocks of so many threads and bytes of shared memory a multiprocessor holds; `registers` are those of a thread,
    /// where ptxas said.
    pub fn occupancy(&self, threads: u64, shared: u64, registers: Option<u64>) -> Occupancy {
        occupancy(self, threads, shared, registers)
    }
}

/// Warp instructions a multiprocessor issues per cycle, one per scheduler.
const SCHEDULERS: u64 = 4;
/// Bytes of a wavefront of shared memory, one per cycle and multiprocessor.
const WAVEFRONT: u64 = 128;
/// Bytes of a sector.
const SECTOR: u64 = 32;

/// How many blocks a multiprocessor holds, and why no more.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Occupancy {
    /// Blocks on a multiprocessor at once.
    pub blocks: u64,
    /// Their warps.
    pub warps: u64,
    /// "warps", "blocks", "shared memory" or "registers".
    pub limit: &'static str,
}

/// Time that one resource takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// The resource.
    pub name: &'static str,
    /// Seconds on the busiest multiprocessor, or of all of global memory.
    pub seconds: f64,
}

/// An estimate, with what it rests on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    /// Name of the chip.
    pub chip: &'static str,
    /// Blocks that fit.
    pub occupancy: Occupancy,
    /// Time of each resource.
    pub parts: Vec<Part>,
    /// The largest of them, in seconds.
    pub seconds: f64,
    /// The resource it belongs to.
    pub bound: &'static str,
    /// Rates and simplifications.
    pub assumptions: Vec<String>,
}

impl Estimate {
    /// Estimates a launch from what it reported. `registers` are those of a thread, where ptxas said.
    ///
    /// The launch must have counted (`Options::counters`).
    pub fn new(
        kernel: &Kernel,
        launch: &Launch,
        report: &Report,
        chip: &Chip,
        registers: Option<u64>,
    ) -> Estimate {
        let shared = kernel.static_shared() as u64 + u64::from(launch.dynamic_shared);
        let threads = launch.block.iter().map(|n| u64::from(*n)).product();
        let occupancy = occupancy(chip, threads, shared, registers);
        let blocks: u64 = launch.grid.iter().map(|n| u64::from(*n)).product();
        // blocks are dealt out evenly; the busiest multiprocessor has one more than others
        let share = blocks.div_ceil(chip.multiprocessors) as f64 / blocks.max(1) as f64;
        let resident = occupancy.blocks.min(blocks.div_ceil(chip.multiprocessors));
        let warps = (resident * threads.div_ceil(32)).max(1);
        let work = &report.counters.total;
        // a sample stands for the whole grid
        let whole = blocks as f64 / report.blocks.max(1) as f64;
        let cycles = |amount: f64, rate: f64| amount * whole * share / rate / chip.clock;
        let sectors = (work.global_sectors * SECTOR) as f64 * whole;
        let parts = vec![
            Part {
                name: "issue slots",
                seconds: cycles(work.instructions as f64, warps.min(SCHEDULERS) as f64),
            },
            Part {
                name: "matrix pipe",
                seconds: cycles(matrix_work(kernel, report), chip.matrix_flops),
            },
            Part {
                name: "shared memory",
                seconds: cycles(work.shared_wavefronts as f64, 1.0),
            },
            Part {
                name: "global memory",
                seconds: sectors / chip.memory,
            },
        ];
        let mut largest = &parts[0];
        for part in &parts {
            if part.seconds > largest.seconds {
                largest = part;
            }
        }
        Estimate {
            chip: chip.name,
            occupancy,
            seconds: largest.seconds,
            bound: largest.name,
            assumptions: assumptions(chip, registers),
            parts,
        }
    }
}

fn occupancy(chip: &Chip, threads: u64, shared: u64, registers: Option<u64>) -> Occupancy {
    let warps = threads.div_ceil(32).max(1);
    // registers are given to warps in units of 256
    let of_registers =
        |count: u64| chip.registers / ((count.max(1) * 32).next_multiple_of(256) * warps);
    let limits = [
        ("warps", chip.warps / warps),
        ("blocks", chip.blocks),
        ("shared memory", chip.shared / (shared + 1024)),
        ("registers", registers.map_or(u64::MAX, of_registers)),
    ];
    let (limit, blocks) = limits
        .into_iter()
        .min_by_key(|(_, blocks)| *blocks)
        .expect("four limits");
    Occupancy {
        blocks,
        warps: blocks * warps,
        limit,
    }
}

/// Operations of matrix instructions, as if all were of bf16: tf32 takes twice as long, bytes half, f64 sixteen times.
fn matrix_work(kernel: &Kernel, report: &Report) -> f64 {
    let lines = report
        .counters
        .lines
        .iter()
        .filter(|line| line.work.matrix_flops > 0);
    let weighted = lines.map(|line| {
        let opcode = kernel.opcode_at(line.line).unwrap_or_default();
        let has = |types: &[&str]| opcode.split('.').any(|suffix| types.contains(&suffix));
        let weight = match () {
            () if has(&["tf32"]) => 2.0,
            () if has(&["s8", "u8", "e4m3", "e5m2"]) => 0.5,
            () if has(&["f64"]) => 16.0,
            () => 1.0,
        };
        line.work.matrix_flops as f64 * weight
    });
    weighted.sum()
}

fn assumptions(chip: &Chip, registers: Option<u64>) -> Vec<String> {
    let Chip {
        multiprocessors,
        clock,
        matrix_flops,
        memory,
        ..
    } = chip;
    vec![
        format!(
            "{multiprocessors} multiprocessors at {:.2} GHz, {SCHEDULERS} warp instructions per cycle in each, fewer with fewer warps",
            clock / 1e9
        ),
        format!(
            "matrix pipe: {matrix_flops} operations of bf16 per cycle and multiprocessor ({:.0} TFLOPS); tf32 half of that, bytes twice",
            matrix_flops * clock * *multiprocessors as f64 / 1e12
        ),
        format!(
            "shared memory: a wavefront of {WAVEFRONT} bytes per cycle and multiprocessor ({:.1} TB/s)",
            WAVEFRONT as f64 * clock * *multiprocessors as f64 / 1e12
        ),
        format!(
            "global memory: {:.0} GB/s; every sector comes from it, as if there were no caches",
            memory / 1e9
        ),
        match registers {
            Some(count) => format!("{count} registers per thread"),
            None => "registers are not counted: only ptxas knows them".into(),
        },
        "all waiting is hidden; the start of a launch takes no time".into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::{Chip, occupancy};

    #[test]
    fn chips_have_their_published_rates() {
        for (chip, teraflops) in [(Chip::A100, 312.0), (Chip::H100, 989.0)] {
            let rate = chip.matrix_flops * chip.clock * chip.multiprocessors as f64 / 1e12;
            assert!((rate - teraflops).abs() < 1.0, "{}: {rate}", chip.name);
        }
        assert_eq!(Chip::named("a100"), Some(Chip::A100));
        assert_eq!(Chip::named("b7"), None);
    }

    #[test]
    fn what_limits_a_multiprocessor() {
        let of = |threads, shared, registers| {
            let found = occupancy(&Chip::A100, threads, shared, registers);
            (found.blocks, found.limit)
        };
        assert_eq!(of(1024, 0, None), (2, "warps"));
        assert_eq!(of(32, 0, None), (32, "blocks"));
        assert_eq!(of(128, 40 << 10, None), (4, "shared memory"));
        // 128 registers of 256 threads are half of them
        assert_eq!(of(256, 0, Some(128)), (2, "registers"));
        assert_eq!(of(1024, 200 << 10, None), (0, "shared memory"));
    }
}
