//! Who touched a word of global memory in this launch: one cell per word, shared by the threads that run blocks.
//!
//! A cell holds the latest writer and reader (blocks) with the bytes they touched, and which bytes are initialised.
//! Blocks that touch different bytes of a word do not disturb one another, but the cell remembers only the latest.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Launches are told apart by their number modulo this.
pub(crate) const TAGS: u64 = 1 << 12;
/// The bits of a cell that outlive a launch.
pub(crate) const INITIALISED: u64 = 0xf;

const BLOCKS: u64 = (1 << 20) - 2;
/// Reader: more than one block.
const MANY: u64 = (1 << 20) - 1;

/// The other side of a conflict.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Conflict {
    /// A block that wrote.
    Writer(u64),
    /// A block that read; None if there were several.
    Reader(Option<u64>),
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Outcome {
    pub uninitialised: bool,
    pub conflict: Option<Conflict>,
}

/// Who touches memory: the launch and the block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Toucher {
    tag: u64,
    id: u64,
}

impl Toucher {
    /// Blocks are told apart modulo about a million.
    pub fn new(tag: u64, block: u64) -> Self {
        Toucher {
            tag,
            id: 1 + block % BLOCKS,
        }
    }

    /// Notes a read or write of the bytes in `mask` (4 bits).
    #[inline]
    pub fn touch(self, cell: &AtomicU64, mask: u64, write: bool) -> Outcome {
        let mut old = cell.load(Relaxed);
        loop {
            let (new, outcome) = self.next(old, mask, write);
            if new == old {
                return outcome;
            }
            match cell.compare_exchange_weak(old, new, Relaxed, Relaxed) {
                Ok(_) => return outcome,
                Err(now) => old = now,
            }
        }
    }

    /// Notes a read of whole words, and tells whether nothing is wrong with it. If something is, [`Toucher::touch`] of
    /// each tells what; that some were noted before changes nothing.
    #[inline]
    pub fn reads_are_clean(self, cells: &[AtomicU64]) -> bool {
        let noted = |reader: u64| self.tag << 52 | reader << 12 | 0xff;
        let (mine, many) = (noted(self.id), noted(MANY));
        let mut clean = true;
        for cell in cells {
            let old = cell.load(Relaxed);
            if old != many && old != mine {
                clean &= self.touch(cell, 0xf, false) == Outcome::default();
            }
        }
        clean
    }

    /// Notes an atomic, which is unordered with nobody.
    #[inline]
    pub fn atomic(self, cell: &AtomicU64, mask: u64) -> Outcome {
        let old = cell.fetch_or(mask, Relaxed);
        Outcome {
            uninitialised: old & mask != mask,
            conflict: None,
        }
    }

    #[inline(always)]
    fn next(self, old: u64, mask: u64, write: bool) -> (u64, Outcome) {
        let initialised = old & INITIALISED;
        let current = old >> 52 == self.tag;
        let part = |shift: u32, bits: u32| {
            if current {
                old >> shift & ((1 << bits) - 1)
            } else {
                0
            }
        };
        let (mut writer, mut wrote) = (part(32, 20), part(8, 4));
        let (mut reader, mut read) = (part(12, 20), part(4, 4));
        let id = self.id;
        let mut outcome = Outcome::default();
        if writer != 0 && writer != id && wrote & mask != 0 {
            outcome.conflict = Some(Conflict::Writer(writer - 1));
        }
        if write {
            if reader != 0 && reader != id && read & mask != 0 && outcome.conflict.is_none() {
                let block = (reader != MANY).then(|| reader - 1);
                outcome.conflict = Some(Conflict::Reader(block));
            }
            wrote = if writer == id { wrote | mask } else { mask };
            writer = id;
        } else {
            outcome.uninitialised = initialised & mask != mask;
            if reader == id || reader == 0 {
                (reader, read) = (id, read | mask);
            } else if read & mask != 0 {
                (reader, read) = (MANY, read & mask);
            } else {
                (reader, read) = (id, mask);
            }
        }
        let initialised = if write {
            initialised | mask
        } else {
            initialised
        };
        let new =
            self.tag << 52 | writer << 32 | reader << 12 | wrote << 8 | read << 4 | initialised;
        (new, outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::{AtomicU64, Conflict, Toucher};

    #[test]
    fn blocks_conflict_only_in_common_bytes_and_in_one_launch() {
        let cell = AtomicU64::new(0xf);
        let (a, b) = (Toucher::new(1, 0), Toucher::new(1, 7));
        assert_eq!(a.touch(&cell, 0b0011, true).conflict, None);
        assert_eq!(b.touch(&cell, 0b1100, false).conflict, None);
        assert_eq!(
            b.touch(&cell, 0b0001, false).conflict,
            Some(Conflict::Writer(0))
        );
        assert_eq!(
            a.touch(&cell, 0b0001, true).conflict,
            Some(Conflict::Reader(Some(7)))
        );
        assert_eq!(Toucher::new(2, 3).touch(&cell, 0xf, true).conflict, None);
    }

    #[test]
    fn a_write_after_reads_of_many_conflicts() {
        let cell = AtomicU64::new(0xf);
        for block in 0..3 {
            assert_eq!(
                Toucher::new(5, block).touch(&cell, 0xf, false).conflict,
                None
            );
        }
        let write = Toucher::new(5, 1).touch(&cell, 0xf, true);
        assert_eq!(write.conflict, Some(Conflict::Reader(None)));
    }

    #[test]
    fn bytes_are_uninitialised_until_they_are_written() {
        let cell = AtomicU64::new(0);
        let a = Toucher::new(1, 0);
        assert!(a.touch(&cell, 0b11, false).uninitialised);
        a.touch(&cell, 0b01, true);
        assert!(a.touch(&cell, 0b11, false).uninitialised);
        assert!(!a.touch(&cell, 0b01, false).uninitialised);
    }
}
