//! The asynchronous proxy of shared memory: bulk copies and matrix instructions reach it on a path of their own.
//!
//! What threads wrote must be shown to it with a fence, by the writer or by someone ordered behind the writer. What
//! it reads stays busy until somebody waits for it.

use super::shared::{Hazard, Other, Shared, Site, State, written};

impl Shared {
    /// Shows all that the warp is ordered behind to the asynchronous proxy.
    pub fn fence(&mut self, warp: usize) {
        let (seen, shown) = self.clocks[warp].split_at_mut(self.warps);
        for (shown, seen) in shown.iter_mut().zip(&*seen) {
            *shown = (*shown).max(*seen);
        }
        // what follows is not shown
        seen[warp] += 1;
    }

    /// An asynchronous copy to these bytes starts. A copy of another block is not ordered with anybody here.
    pub fn copy_starts(
        &mut self,
        site: Site,
        foreign: bool,
        address: usize,
        bytes: usize,
    ) -> Option<Hazard> {
        let mut found = None;
        for index in self.cells(address, bytes) {
            let cell = &self.cells[index];
            if cell.state == State::InFlight {
                found = Some(Hazard::InFlight(written(cell)));
            } else if cell.reading > 0 {
                found = Some(busy(cell.read_pc, site.warp));
            } else if !foreign {
                found = self.unordered(index, site).or(found);
                let mut left = cell.readers & !(1 << site.warp);
                while left != 0 {
                    let reader = left.trailing_zeros() as usize;
                    left &= left - 1;
                    if self.reads[reader * self.cells.len() + index]
                        > self.clocks[site.warp][reader]
                    {
                        found = Some(Hazard::Race(Other {
                            warp: reader,
                            lane: None,
                            pc: cell.read_pc as usize,
                        }));
                    }
                }
            }
            let clock = self.clock(site, foreign);
            self.mark(index, site, clock, State::InFlight);
        }
        found
    }

    fn clock(&self, site: Site, foreign: bool) -> u32 {
        if foreign {
            0
        } else {
            self.clocks[site.warp][site.warp]
        }
    }

    /// The bytes are there, for everybody ordered behind `clock` of the warp that asked for them.
    pub fn copy_ends(&mut self, site: Site, clock: u32, address: usize, bytes: usize) {
        for index in self.cells(address, bytes) {
            self.mark(index, site, clock, State::Written);
        }
    }

    fn mark(&mut self, index: usize, site: Site, clock: u32, state: State) {
        let cell = &mut self.cells[index];
        cell.state = state;
        cell.write_clock = clock;
        cell.write_pc = site.pc as u32;
        cell.write_issue = site.issue;
        cell.write_warp = (site.warp % self.warps) as u8;
        cell.write_lane = site.lane as u8;
        cell.write_strong = false;
        cell.copied = true;
        cell.readers = 0;
    }

    /// What is wrong with an asynchronous access behind the latest write.
    fn unordered(&self, index: usize, site: Site) -> Option<Hazard> {
        let (cell, clocks) = (&self.cells[index], &self.clocks[site.warp]);
        let writer = cell.write_warp as usize;
        if cell.state == State::Uninitialised || cell.write_clock == 0 {
            None
        } else if cell.write_clock > clocks[writer] && writer != site.warp {
            Some(Hazard::Race(written(cell)))
        } else if !cell.copied && cell.write_clock > clocks[self.warps + writer] {
            Some(Hazard::Unfenced(written(cell)))
        } else {
            None
        }
    }

    /// An asynchronous read of these bytes starts.
    pub fn read_starts(&mut self, site: Site, address: usize, bytes: usize) -> Option<Hazard> {
        let mut found = None;
        for index in self.cells(address, bytes) {
            found = match self.cells[index].state {
                State::InFlight => Some(Hazard::InFlight(written(&self.cells[index]))),
                State::Uninitialised => found.or(Some(Hazard::Uninitialised)),
                State::Written => self.unordered(index, site).or(found),
            };
            let cell = &mut self.cells[index];
            cell.reading = cell.reading.saturating_add(1);
            cell.read_pc = site.pc as u32;
            cell.read_strong = false;
        }
        found
    }

    /// The read is done; writes must be ordered behind the warp that waited for it.
    pub fn read_ends(&mut self, warp: usize, address: usize, bytes: usize) {
        for index in self.cells(address, bytes) {
            let cell = &mut self.cells[index];
            cell.reading = cell.reading.saturating_sub(1);
            cell.readers |= 1 << warp;
            let now = self.clocks[warp][warp];
            cell.read_clock = cell.read_clock.max(now);
            self.reads[warp * self.cells.len() + index] = now;
        }
    }

    /// An access by another block: nothing orders it with those of this one, so only its bytes are looked at.
    pub fn foreign(&mut self, address: usize, bytes: usize, write: bool) -> Option<Hazard> {
        let mut found = None;
        for cell in self.cells(address, bytes) {
            let cell = &mut self.cells[cell];
            match cell.state {
                State::InFlight => found = Some(Hazard::InFlight(written(cell))),
                State::Uninitialised if !write => found = found.or(Some(Hazard::Uninitialised)),
                _ => {}
            }
            if write {
                cell.state = State::Written;
                cell.write_clock = 0;
                cell.readers = 0;
            }
        }
        found
    }
}

fn busy(pc: u32, warp: usize) -> Hazard {
    Hazard::Busy(Other {
        warp,
        lane: None,
        pc: pc as usize,
    })
}
