//! Memory of the device: allocations the host makes, reads and writes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::error::{Error, Result};
use crate::finding::Kind;
use crate::program::PARAM_WINDOW;
use crate::shadow;

/// Addresses start here.
const FIRST: u64 = 0x10_0000_0000;
/// Bytes that belong to nobody, behind every allocation.
const GAP: u64 = 4096;

/// A device: its memory lives as long as it does.
#[derive(Default)]
pub struct Device {
    pub(crate) allocations: Vec<Allocation>,
    next: u64,
    /// New memory reads as zeros.
    zeros: bool,
    /// Number of the latest launch; cells of `shadow` that carry another are stale.
    pub(crate) launches: u64,
    /// Addresses of the variables of modules, by module.
    pub(crate) variables: HashMap<u64, Vec<u64>>,
}

/// Bytes in words, so that threads may share them. A word has a cell of who touched it.
pub(crate) struct Allocation {
    base: u64,
    bytes: u64,
    words: Vec<AtomicU32>,
    pub cells: Vec<AtomicU64>,
    freed: bool,
}

impl Device {
    /// A device without allocations.
    pub fn new() -> Self {
        Device {
            next: FIRST,
            ..Device::default()
        }
    }

    /// A device whose new memory reads as zeros and takes none of the host's until it is touched: for launches of which a sample runs
    /// ([`Options::sample`](crate::Options::sample)), on memory of any size.
    pub fn with_zeros() -> Self {
        Device {
            zeros: true,
            ..Device::new()
        }
    }

    /// Address of `bytes` new bytes, aligned to 256. They count as uninitialised and read as NaN.
    pub fn allocate(&mut self, bytes: usize) -> u64 {
        let base = self.next.max(FIRST);
        self.next = (base + bytes as u64 + GAP).next_multiple_of(256);
        self.insert(base, bytes);
        base
    }

    /// Makes `bytes` new bytes at an address of the caller's, a multiple of 256, for memory that the host sees at that
    /// address as well. They count as uninitialised and read as NaN.
    ///
    /// # Errors
    /// The address is no such multiple, or an allocation, live or freed, is there or close to it.
    pub fn allocate_at(&mut self, address: u64, bytes: usize) -> Result<()> {
        let error = |message| Error::Memory {
            operation: "allocation",
            address,
            bytes,
            message,
        };
        let end = address.checked_add(bytes as u64 + GAP);
        let Some(end) = end.filter(|end| address.is_multiple_of(256) && *end <= PARAM_WINDOW)
        else {
            return Err(error("the address is not one of global memory"));
        };
        let after = self.allocations.partition_point(|a| a.base < address);
        let behind = self.allocations.get(after).is_some_and(|a| a.base < end);
        let before = after.checked_sub(1).map(|i| &self.allocations[i]);
        if behind || before.is_some_and(|a| a.base + a.bytes + GAP > address) {
            return Err(error("another allocation is there"));
        }
        self.insert(address, bytes);
        Ok(())
    }

    fn insert(&mut self, base: u64, bytes: usize) {
        let words = bytes.div_ceil(4);
        let allocation = Allocation {
            base,
            bytes: bytes as u64,
            words: match self.zeros {
                true => bytemuck::zeroed_vec(words),
                false => (0..words).map(|_| AtomicU32::new(u32::MAX)).collect(),
            },
            cells: bytemuck::zeroed_vec(words),
            freed: false,
        };
        let at = self.allocations.partition_point(|a| a.base < base);
        self.allocations.insert(at, allocation);
    }

    /// Frees an allocation; its addresses are never used again.
    ///
    /// # Errors
    /// The address is not the start of a live allocation.
    pub fn free(&mut self, address: u64) -> Result<()> {
        let at = self.allocations.partition_point(|a| a.base < address);
        match self.allocations.get_mut(at) {
            Some(allocation) if allocation.base == address && !allocation.freed => {
                allocation.freed = true;
                allocation.words = vec![];
                allocation.cells = vec![];
                Ok(())
            }
            _ => Err(Error::Memory {
                operation: "free",
                address,
                bytes: 0,
                message: "no allocation starts there",
            }),
        }
    }

    /// Copies bytes to the device.
    ///
    /// # Errors
    /// The bytes do not lie in one live allocation.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        let (allocation, at) = self.host("write", address, bytes.len())?;
        let head = bytes.len().min(at.next_multiple_of(4) - at);
        let (head, rest) = bytes.split_at(head);
        let (words, tail) = rest.as_chunks::<4>();
        for (i, byte) in head.iter().enumerate() {
            allocation.set_byte(at + i, *byte);
        }
        let first = at.div_ceil(4);
        for (i, word) in words.iter().enumerate() {
            *allocation.words[first + i].get_mut() = u32::from_le_bytes(*word);
            *allocation.cells[first + i].get_mut() |= shadow::INITIALISED;
        }
        let end = at + bytes.len() - tail.len();
        for (i, byte) in tail.iter().enumerate() {
            allocation.set_byte(end + i, *byte);
        }
        Ok(())
    }

    /// Sets bytes of the device to one value.
    ///
    /// # Errors
    /// The bytes do not lie in one live allocation.
    pub fn fill(&mut self, address: u64, byte: u8, bytes: usize) -> Result<()> {
        let (allocation, at) = self.host("fill", address, bytes)?;
        for i in 0..bytes {
            allocation.set_byte(at + i, byte);
        }
        Ok(())
    }

    /// Copies bytes from the device, initialised or not.
    ///
    /// # Errors
    /// The bytes do not lie in one live allocation.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        let (allocation, at) = self
            .locate(&mut 0, address, bytes.len())
            .map_err(|kind| memory_error("read", address, bytes.len(), kind))?;
        let mut word = [0; 4];
        for (i, byte) in bytes.iter_mut().enumerate() {
            let at = at + i;
            if i == 0 || at % 4 == 0 {
                word = allocation.words[at / 4].load(Relaxed).to_le_bytes();
            }
            *byte = word[at % 4];
        }
        Ok(())
    }

    /// True if somebody wrote all of these bytes.
    ///
    /// # Errors
    /// The bytes do not lie in one live allocation.
    pub fn initialised(&self, address: u64, bytes: usize) -> Result<bool> {
        let (allocation, at) = self
            .locate(&mut 0, address, bytes)
            .map_err(|kind| memory_error("read", address, bytes, kind))?;
        let mut all = at..at + bytes;
        Ok(all.all(|at| allocation.cells[at / 4].load(Relaxed) >> (at % 4) & 1 == 1))
    }

    /// Copies bytes on the device.
    ///
    /// # Errors
    /// Source or destination do not lie in one live allocation each.
    pub fn copy(&mut self, to: u64, from: u64, bytes: usize) -> Result<()> {
        let mut held = vec![0; bytes];
        self.read(from, &mut held)?;
        self.write(to, &held)
    }

    fn host(
        &mut self,
        operation: &'static str,
        address: u64,
        bytes: usize,
    ) -> Result<(&mut Allocation, usize)> {
        let index = self
            .index(&mut 0, address, bytes)
            .map_err(|kind| memory_error(operation, address, bytes, kind))?;
        let allocation = &mut self.allocations[index];
        let at = (address - allocation.base) as usize;
        Ok((allocation, at))
    }

    fn index(
        &self,
        hint: &mut usize,
        address: u64,
        bytes: usize,
    ) -> std::result::Result<usize, Kind> {
        let holds = |a: &Allocation| address >= a.base && address - a.base < a.bytes + GAP;
        if !self.allocations.get(*hint).is_some_and(holds) {
            let after = self.allocations.partition_point(|a| a.base <= address);
            *hint = after.saturating_sub(1);
        }
        let Some(allocation) = self.allocations.get(*hint) else {
            return Err(Kind::OutOfBounds);
        };
        let offset = address.wrapping_sub(allocation.base);
        let end = offset.checked_add(bytes as u64);
        if address < allocation.base || end.is_none_or(|end| end > allocation.bytes) {
            return Err(Kind::OutOfBounds);
        }
        if allocation.freed {
            return Err(Kind::UseAfterFree);
        }
        Ok(*hint)
    }

    /// The allocation that holds all of these bytes, and where in it; `hint` is where the last one was found.
    #[inline]
    pub(crate) fn locate(
        &self,
        hint: &mut usize,
        address: u64,
        bytes: usize,
    ) -> std::result::Result<(&Allocation, usize), Kind> {
        let allocation = &self.allocations[self.index(hint, address, bytes)?];
        Ok((allocation, (address - allocation.base) as usize))
    }

    /// Starts a launch: the number its cells carry. When numbers run out, all cells forget who touched them.
    pub(crate) fn start_launch(&mut self) -> u64 {
        self.launches += 1;
        if self.launches.is_multiple_of(shadow::TAGS) {
            for allocation in &self.allocations {
                for cell in &allocation.cells {
                    cell.fetch_and(shadow::INITIALISED, Relaxed);
                }
            }
            self.launches += 1;
        }
        self.launches % shadow::TAGS
    }
}

fn memory_error(operation: &'static str, address: u64, bytes: usize, kind: Kind) -> Error {
    Error::Memory {
        operation,
        address,
        bytes,
        message: if kind == Kind::UseAfterFree {
            "the memory was freed"
        } else {
            "no allocation holds these bytes"
        },
    }
}

impl Allocation {
    fn set_byte(&mut self, at: usize, byte: u8) {
        let shift = at % 4 * 8;
        let word = self.words[at / 4].get_mut();
        *word = (*word & !(0xff << shift)) | (u32::from(byte) << shift);
        *self.cells[at / 4].get_mut() |= 1 << (at % 4);
    }

    /// `bytes` (1, 2, 4 or 8, aligned) at an offset.
    #[inline(always)]
    pub fn load(&self, at: usize, bytes: usize) -> u64 {
        let word = |i: usize| u64::from(self.words[i].load(Relaxed));
        match bytes {
            4 => word(at / 4),
            8 => word(at / 4) | word(at / 4 + 1) << 32,
            _ => word(at / 4) >> (at % 4 * 8) & ((1 << (8 * bytes)) - 1),
        }
    }

    /// Loads the whole words at an offset.
    #[inline(always)]
    pub fn words_at<const BYTES: usize>(&self, at: usize) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let words = &self.words[at / 4..][..BYTES / 4];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.load(Relaxed).to_le_bytes());
        }
        bytes
    }

    /// Stores `bytes` (1, 2, 4 or 8, aligned) at an offset.
    #[inline(always)]
    pub fn store(&self, at: usize, bytes: usize, value: u64) {
        match bytes {
            4 => self.words[at / 4].store(value as u32, Relaxed),
            8 => {
                self.words[at / 4].store(value as u32, Relaxed);
                self.words[at / 4 + 1].store((value >> 32) as u32, Relaxed);
            }
            _ => {
                let (shift, keep) = (at % 4 * 8, (1u32 << (8 * bytes)) - 1);
                let update =
                    |word| Some((word & !(keep << shift)) | ((value as u32 & keep) << shift));
                // another block may write the rest of the word
                let _ = self.words[at / 4].fetch_update(Relaxed, Relaxed, update);
            }
        }
    }
}
