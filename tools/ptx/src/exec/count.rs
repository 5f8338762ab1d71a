//! Counters of instructions and of their accesses.

use super::block::Env;
use super::registers::{ALL, LANES, Row, lanes};
use crate::counters::Work;
use crate::program::resolve;
use crate::types::Space;
use crate::wide::wide;

/// How often each instruction was issued, and its active lanes, less those of the instruction before it: warps go
/// straight on most of the time.
pub(super) struct Issues(Vec<(u64, u64)>);

impl Issues {
    pub fn new(instructions: usize) -> Self {
        Issues(vec![(0, 0); instructions + 1])
    }

    /// Counts instructions `from..to` for lanes, and returns their number.
    #[inline(always)]
    pub fn run(&mut self, from: u32, to: u32, mask: u32) -> u64 {
        self.add(from as usize, 1, mask);
        self.add(to as usize, u64::MAX, mask);
        u64::from(to - from)
    }

    /// Takes back lanes of an instruction.
    #[inline(always)]
    pub fn without(&mut self, at: usize, mask: u32) {
        let lanes = u64::from(mask.count_ones());
        for (at, lanes) in [(at, lanes.wrapping_neg()), (at + 1, lanes)] {
            self.0[at].1 = self.0[at].1.wrapping_add(lanes);
        }
    }

    /// Adds `times` instructions, modulo 2^64, from one on.
    #[inline(always)]
    fn add(&mut self, at: usize, times: u64, mask: u32) {
        let (instructions, lanes) = &mut self.0[at];
        *instructions = instructions.wrapping_add(times);
        *lanes = lanes.wrapping_add(u64::from(mask.count_ones()).wrapping_mul(times));
    }

    /// Puts the numbers into the work of the instructions.
    pub fn put(&self, work: &mut [Work]) {
        let (mut instructions, mut lanes) = (0u64, 0u64);
        for (work, (more, more_lanes)) in work.iter_mut().zip(&self.0) {
            instructions = instructions.wrapping_add(*more);
            lanes = lanes.wrapping_add(*more_lanes);
            (work.instructions, work.lanes) = (instructions, lanes);
        }
    }
}

/// The latest accesses of an instruction, and their work: it is the same for all that lie in the same way to one
/// another and to the 128 bytes in which the first of them lies. Most instructions of most kernels have one pattern.
struct Pattern {
    mask: u32,
    bytes: usize,
    /// Address of the first active lane, modulo 128.
    first: u64,
    /// Bytes by which other addresses may lie before that of the first.
    before: u64,
    /// Addresses less that of the first active lane; 0 for lanes that are not active.
    steps: Row<u64>,
    work: Work,
}

/// Patterns of an instruction in shared and in global memory.
#[derive(Default)]
pub(super) struct Patterns {
    shared: Option<Box<Pattern>>,
    global: Option<Box<Pattern>>,
}

impl Patterns {
    /// Of so many instructions.
    pub fn of(instructions: usize) -> Vec<Patterns> {
        (0..instructions).map(|_| Patterns::default()).collect()
    }
}

/// Counts the accesses of an instruction, each of `bytes` bytes.
pub(super) fn count(
    env: &mut Env,
    space: Space,
    addresses: &Row<u64>,
    mask: u32,
    bytes: usize,
    pc: usize,
) {
    if !env.setting.options.counters || mask == 0 {
        return;
    }
    let work = &mut env.work[pc];
    let patterns = &mut env.patterns[pc];
    wide(
        #[inline(always)]
        || match space {
            Space::Shared => {
                count_pattern(work, &mut patterns.shared, space, addresses, mask, bytes)
            }
            Space::Global => {
                count_pattern(work, &mut patterns.global, space, addresses, mask, bytes)
            }
            _ => count_in(work, space, addresses, mask, bytes as u64),
        },
    );
}

/// Addresses from here on are nowhere, and not counted.
const END: u64 = 1 << 62;

#[inline(always)]
fn count_pattern(
    work: &mut Work,
    known: &mut Option<Box<Pattern>>,
    space: Space,
    addresses: &Row<u64>,
    mask: u32,
    bytes: usize,
) {
    let first = addresses[mask.trailing_zeros() as usize];
    let mut steps = [0; LANES];
    for (lane, step) in steps.iter_mut().enumerate() {
        let address = if mask >> lane & 1 == 1 {
            addresses[lane]
        } else {
            first
        };
        *step = address.wrapping_sub(first);
    }
    if let Some(known) = known {
        let mut differ = u64::from(known.mask ^ mask) | (known.first ^ (first % 128));
        for (a, b) in known.steps.iter().zip(&steps) {
            differ |= a ^ b;
        }
        if differ == 0 && known.bytes == bytes && (known.before..END / 2).contains(&first) {
            work.add(&known.work);
            return;
        }
    }
    let mut now = Work::default();
    count_in(&mut now, space, addresses, mask, bytes as u64);
    work.add(&now);
    // steps forward and back, none so far that an address might leave what is counted
    let (mut before, mut after) = (0, 0);
    for step in steps {
        let back = step.wrapping_neg();
        if step <= back {
            after = after.max(step);
        } else {
            before = before.max(back);
        }
    }
    if first < END / 2 && before <= first && after < END / 4 {
        let pattern = Pattern {
            mask,
            bytes,
            first: first % 128,
            before,
            steps,
            work: now,
        };
        match known {
            Some(known) => **known = pattern,
            None => *known = Some(Box::new(pattern)),
        }
    }
}

#[inline(always)]
fn count_in(work: &mut Work, space: Space, addresses: &Row<u64>, mask: u32, bytes: u64) {
    let valid = |address: &u64| *address < END;
    if mask == ALL && space == Space::Shared && addresses.iter().all(valid) {
        return work.shared(addresses, bytes);
    }
    let (mut global, mut globals) = ([0; LANES], 0);
    let (mut shared, mut shareds) = ([0; LANES], 0);
    for lane in lanes(mask) {
        match resolve(space, addresses[lane]) {
            (Space::Global, address) => {
                global[globals] = address;
                globals += 1;
            }
            (Space::Shared, address) => {
                shared[shareds] = address;
                shareds += 1;
            }
            _ => {}
        }
    }
    if globals > 0 && global[..globals].iter().all(valid) {
        work.global(&global[..globals], bytes);
    }
    if shareds > 0 && shared[..shareds].iter().all(valid) {
        work.shared(&shared[..shareds], bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, Issues, LANES, Space, Work, count_in, count_pattern};

    #[test]
    fn a_pattern_that_is_known_counts_as_one_that_is_not() {
        let mut state = 7u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 33) % below
        };
        for space in [Space::Shared, Space::Global] {
            let (mut known, mut with, mut without) = (None, Work::default(), Work::default());
            for _ in 0..4000 {
                let bytes = 1 << next(5);
                let mask = [ALL, 0xffff, 0x8001_0010][next(3) as usize];
                let (stride, scatter) = ([0, 4, 16, 100][next(4) as usize], next(8) / 7 * 64);
                let base = [next(64) * bytes, 1 << 40, u64::MAX - 2000][next(3) as usize];
                let addresses: [u64; LANES] = std::array::from_fn(|lane| {
                    let far = next(scatter + 1) * bytes;
                    base.wrapping_add(lane as u64 * stride + far)
                });
                let bytes = bytes as usize;
                count_pattern(&mut with, &mut known, space, &addresses, mask, bytes);
                count_in(&mut without, space, &addresses, mask, bytes as u64);
                assert_eq!(with, without, "{bytes} bytes at {addresses:?}");
            }
            assert!(without.shared_bytes + without.global_bytes > 0);
        }
    }

    #[test]
    fn runs_count_every_instruction_between() {
        let mut issues = Issues::new(4);
        assert_eq!(issues.run(0, 4, ALL), 4);
        assert_eq!(issues.run(1, 3, 1), 2);
        issues.without(2, 0xff);
        let mut work = [Work::default(); 4];
        issues.put(&mut work);
        let counted = work.map(|work| (work.instructions, work.lanes));
        assert_eq!(counted, [(1, 32), (2, 33), (2, 25), (1, 32)]);
    }
}
