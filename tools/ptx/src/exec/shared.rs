//! Shared memory of a block, with who touched which bytes when.
//!
//! Warps have clocks that barriers advance and exchange: a warp's vector says up to which time of every other warp
//! it is ordered behind it. An access races with an earlier one its warp is not ordered behind.
//! (Flanagan and Freund, "FastTrack: Efficient and Precise Dynamic Race Detection".)

use super::registers::{Row, each, lanes};

/// Who accesses: warp, lane, instruction, and the warp's count of instructions, which tells one from the next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site {
    pub warp: usize,
    pub lane: usize,
    pub pc: usize,
    pub issue: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Other {
    pub warp: usize,
    pub lane: Option<usize>,
    pub pc: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Hazard {
    Race(Other),
    SameValue(Other),
    Uninitialised,
    InFlight(Other),
    /// An asynchronous read is not done yet.
    Busy(Other),
    /// An asynchronous access to what others wrote, without a fence between the proxies.
    Unfenced(Other),
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) enum State {
    #[default]
    Uninitialised,
    Written,
    /// An asynchronous copy will write it.
    InFlight,
}

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Write {
    /// Whether the bytes already are what is stored.
    Plain {
        same: bool,
    },
    /// Volatile or atomic: races with plain accesses only.
    Strong,
    /// An asynchronous copy starts, or ends.
    CopyStarts,
    CopyEnds,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cell {
    /// 0 before the first write.
    pub write_clock: u32,
    pub write_pc: u32,
    pub write_issue: u32,
    pub write_warp: u8,
    pub write_lane: u8,
    pub write_strong: bool,
    pub state: State,
    /// Written by the asynchronous proxy.
    pub copied: bool,
    /// Asynchronous reads that are not done.
    pub reading: u16,
    /// Warps that have read since the last write.
    pub readers: u32,
    /// The latest clock of any of them.
    pub read_clock: u32,
    pub read_pc: u32,
    pub read_strong: bool,
}

pub(crate) struct Shared {
    pub bytes: Vec<u8>,
    /// First address that is anybody's.
    start: usize,
    pub(super) cells: Vec<Cell>,
    granule: usize,
    pub(super) warps: usize,
    /// Clock of the last read, by warp and cell.
    pub(super) reads: Vec<u32>,
    /// `clocks[a][b]`: the time of b that a is ordered behind. The second half of a row: the time up to which a
    /// fence has shown the writes of b to the asynchronous proxy.
    pub(super) clocks: Vec<Vec<u32>>,
}

impl Shared {
    /// `end` bytes of NaN; nothing lies below `start`. A granule of 0 means: no checks.
    pub fn new(start: usize, end: usize, granule: usize, warps: usize) -> Self {
        let cells = if granule == 0 {
            0
        } else {
            end.div_ceil(granule)
        };
        let clock = |me: usize| (0..2 * warps).map(|w| u32::from(w == me)).collect();
        Shared {
            bytes: vec![0xff; end],
            start,
            cells: vec![Cell::default(); cells],
            granule,
            warps,
            reads: vec![0; cells * warps],
            clocks: (0..warps).map(clock).collect(),
        }
    }

    pub fn holds(&self, address: u64, bytes: usize) -> bool {
        address >= self.start as u64
            && address
                .checked_add(bytes as u64)
                .is_some_and(|end| end <= self.bytes.len() as u64)
    }

    /// The first and the last address at which `bytes` bytes may start.
    #[inline(always)]
    pub fn firsts(&self, bytes: usize) -> Option<(u64, u64)> {
        let last = self.bytes.len().checked_sub(bytes)?;
        (last >= self.start).then_some((self.start as u64, last as u64))
    }

    /// Clocks of a warp, to give to those it releases.
    pub fn release(&mut self, warp: usize, into: &mut Vec<u32>) {
        into.resize(2 * self.warps, 0);
        for (into, clock) in into.iter_mut().zip(&self.clocks[warp]) {
            *into = (*into).max(*clock);
        }
        self.clocks[warp][warp] += 1;
    }

    /// Orders a warp behind clocks that were released.
    pub fn acquire(&mut self, warp: usize, from: &[u32]) {
        for (clock, from) in self.clocks[warp].iter_mut().zip(from) {
            *clock = (*clock).max(*from);
        }
    }

    pub(super) fn cells(&self, address: usize, bytes: usize) -> std::ops::Range<usize> {
        if self.granule == 0 {
            return 0..0;
        }
        address / self.granule..(address + bytes).div_ceil(self.granule)
    }

    /// Notes a read and tells what is wrong with it.
    #[inline]
    pub fn read(
        &mut self,
        site: Site,
        address: usize,
        bytes: usize,
        strong: bool,
    ) -> Option<Hazard> {
        let mut found = None;
        for index in self.cells(address, bytes) {
            let cell = &mut self.cells[index];
            let clocks = &mut self.clocks[site.warp];
            let writer = cell.write_warp as usize;
            if strong && cell.write_strong && writer != site.warp {
                // seeing a flag orders behind the one who set it
                let (low, high) = self.clocks.split_at_mut(writer.max(site.warp));
                let (from, to) = if writer < site.warp {
                    (&low[writer], &mut high[0])
                } else {
                    (&high[0], &mut low[site.warp])
                };
                for (to, from) in to.iter_mut().zip(from) {
                    *to = (*to).max(*from);
                }
            } else if cell.state == State::InFlight {
                found = Some(Hazard::InFlight(written(cell)));
            } else if cell.state == State::Uninitialised {
                found = found.or(Some(Hazard::Uninitialised));
            } else if cell.write_clock > clocks[writer] && writer != site.warp {
                found = Some(Hazard::Race(written(cell)));
            }
            let cell = &mut self.cells[index];
            let now = self.clocks[site.warp][site.warp];
            cell.readers |= 1 << site.warp;
            cell.read_clock = cell.read_clock.max(now);
            cell.read_pc = site.pc as u32;
            cell.read_strong = strong;
            self.reads[site.warp * self.cells.len() + index] = now;
        }
        found
    }

    /// Notes a write and tells what is wrong with it.
    #[inline]
    pub fn write(
        &mut self,
        site: Site,
        address: usize,
        bytes: usize,
        how: Write,
    ) -> Option<Hazard> {
        let mut found = None;
        let cells = self.cells.len();
        for index in self.cells(address, bytes) {
            let cell = &mut self.cells[index];
            let clocks = &self.clocks[site.warp];
            let strong = how == Write::Strong;
            let writer = cell.write_warp as usize;
            if how != Write::CopyEnds {
                let unordered = if writer == site.warp {
                    // lanes of one store
                    cell.write_clock > 0
                        && cell.write_issue == site.issue
                        && usize::from(cell.write_lane) != site.lane
                } else {
                    cell.write_clock > clocks[writer]
                };
                if cell.state == State::InFlight {
                    found = Some(Hazard::InFlight(written(cell)));
                } else if cell.reading > 0 {
                    found = Some(Hazard::Busy(Other {
                        warp: site.warp,
                        lane: None,
                        pc: cell.read_pc as usize,
                    }));
                } else if unordered && !(strong && cell.write_strong) {
                    found = Some(if how == (Write::Plain { same: true }) {
                        Hazard::SameValue(written(cell))
                    } else {
                        Hazard::Race(written(cell))
                    });
                }
                let others = cell.readers & !(1 << site.warp);
                if others != 0 && !(strong && cell.read_strong) {
                    let mut left = others;
                    while left != 0 {
                        let reader = left.trailing_zeros() as usize;
                        left &= left - 1;
                        if self.reads[reader * cells + index] > clocks[reader] {
                            found = Some(Hazard::Race(Other {
                                warp: reader,
                                lane: None,
                                pc: cell.read_pc as usize,
                            }));
                        }
                    }
                }
            }
            *cell = Cell {
                write_clock: clocks[site.warp],
                write_pc: site.pc as u32,
                write_issue: site.issue,
                write_warp: site.warp as u8,
                write_lane: site.lane as u8,
                write_strong: strong,
                state: if how == Write::CopyStarts {
                    State::InFlight
                } else {
                    State::Written
                },
                reading: cell.reading,
                read_pc: if cell.reading > 0 { cell.read_pc } else { 0 },
                ..Cell::default()
            };
        }
        found
    }

    /// Notes plain reads of `bytes` bytes by the lanes of a warp, and tells whether nothing is wrong with them. If
    /// something is, [`Shared::read`] of each lane tells what; that some were noted before changes nothing.
    #[inline(always)]
    pub fn reads_are_clean(
        &mut self,
        site: Site,
        places: &Row<u32>,
        mask: u32,
        bytes: usize,
    ) -> bool {
        if self.granule == 0 {
            return true;
        }
        let clocks = &self.clocks[site.warp][..self.warps];
        let (now, behind) = (clocks[site.warp], behind_all(clocks, site.warp));
        let (shift, pieces) = (self.granule.trailing_zeros(), bytes / self.granule);
        let (me, bit, pc) = (site.warp as u8, 1 << site.warp, site.pc as u32);
        let cells = &mut self.cells[..];
        let reads = &mut self.reads[site.warp * cells.len()..][..cells.len()];
        let mut clean = true;
        each(
            mask,
            #[inline(always)]
            |lane| {
                let first = places[lane] as usize >> shift;
                let range = first..first + pieces;
                for (cell, read) in cells[range.clone()].iter_mut().zip(&mut reads[range]) {
                    let ordered = cell.write_clock <= behind
                        || cell.write_warp == me
                        || cell.write_clock <= clocks[cell.write_warp as usize];
                    clean &= cell.state == State::Written && ordered;
                    cell.readers |= bit;
                    cell.read_clock = cell.read_clock.max(now);
                    cell.read_pc = pc;
                    cell.read_strong = false;
                    *read = now;
                }
            },
        );
        clean
    }

    /// Notes writes of `bytes` bytes by the lanes of a warp, plain ones or the start or end of copies, up to the first
    /// that something is wrong with: [`Shared::write`] tells what. Returns the lanes before that one.
    #[inline(always)]
    pub fn clean_writes(
        &mut self,
        site: Site,
        places: &Row<u32>,
        mask: u32,
        bytes: usize,
        how: Write,
    ) -> u32 {
        if self.granule == 0 {
            return mask;
        }
        let clocks = &self.clocks[site.warp][..self.warps];
        let all = self.cells.len();
        let behind = behind_all(clocks, site.warp);
        let (shift, pieces) = (self.granule.trailing_zeros(), bytes / self.granule);
        let mut new = Cell {
            write_clock: clocks[site.warp],
            write_pc: site.pc as u32,
            write_issue: site.issue,
            write_warp: site.warp as u8,
            state: if how == Write::CopyStarts {
                State::InFlight
            } else {
                State::Written
            },
            ..Cell::default()
        };
        let cells = &mut self.cells[..];
        for lane in lanes(mask) {
            new.write_lane = lane as u8;
            let first = places[lane] as usize >> shift;
            let mine = &mut cells[first..first + pieces];
            if how != Write::CopyEnds {
                for (index, cell) in (first..).zip(mine.iter()) {
                    let ordered = if cell.write_warp == new.write_warp {
                        cell.write_clock == 0 || cell.write_issue != site.issue
                    } else {
                        cell.write_clock <= behind
                            || cell.write_clock <= clocks[cell.write_warp as usize]
                    };
                    let mut clean = cell.state != State::InFlight && cell.reading == 0 && ordered;
                    if cell.read_clock > behind {
                        for reader in lanes(cell.readers & !(1 << site.warp)) {
                            clean &= self.reads[reader * all + index] <= clocks[reader];
                        }
                    }
                    if !clean {
                        return mask & ((1 << lane) - 1);
                    }
                }
            }
            for cell in mine {
                *cell = Cell {
                    reading: cell.reading,
                    read_pc: if cell.reading > 0 { cell.read_pc } else { 0 },
                    ..new
                };
            }
        }
        mask
    }

    #[inline(always)]
    pub fn load(&self, address: usize, bytes: usize) -> u64 {
        let mut value = [0; 8];
        value[..bytes].copy_from_slice(&self.bytes[address..address + bytes]);
        u64::from_le_bytes(value)
    }

    #[inline(always)]
    pub fn store(&mut self, address: usize, bytes: usize, value: u64) {
        self.bytes[address..address + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
    }
}

/// The time up to which a warp with these clocks is ordered behind every other.
fn behind_all(clocks: &[u32], warp: usize) -> u32 {
    let others = clocks
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != warp);
    others.map(|(_, clock)| *clock).min().unwrap_or(u32::MAX)
}

pub(super) fn written(cell: &Cell) -> Other {
    Other {
        warp: cell.write_warp as usize,
        lane: Some(cell.write_lane as usize),
        pc: cell.write_pc as usize,
    }
}
