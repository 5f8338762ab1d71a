//! Memory and functions of the program that calls: the only places outside of the boundary that trust what it gave.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Where memory that host and device share starts: far from what the system hands out, and an address of global memory
/// for the interpreter.
const FIRST: usize = 0x2000_0000_0000;
/// Pages that belong to nobody behind every such memory.
const GAP: usize = 1 << 16;

/// Bytes at an address that the program gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostMemory {
    address: usize,
    bytes: usize,
}

impl HostMemory {
    /// # Safety
    /// If the address is not one of the device, the bytes can be read, and written where the call says that it writes,
    /// until the work they are given for is complete. As in C, what the program does with them at the same time is
    /// its own affair.
    pub unsafe fn new(address: usize, bytes: usize) -> Self {
        HostMemory { address, bytes }
    }

    pub fn address(&self) -> usize {
        self.address
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A part of the bytes.
    pub fn part(&self, offset: usize, bytes: usize) -> HostMemory {
        assert!(offset + bytes <= self.bytes, "inside of what was given");
        HostMemory {
            address: self.address + offset,
            bytes,
        }
    }

    /// The bytes from `offset` on.
    pub fn read(&self, offset: usize, bytes: usize) -> Vec<u8> {
        assert!(offset + bytes <= self.bytes, "inside of what was given");
        let mut held = vec![0u8; bytes];
        // SAFETY: the source lies in memory that `new` was promised is readable, the target is new.
        unsafe {
            let source = (self.address + offset) as *const u8;
            std::ptr::copy_nonoverlapping(source, held.as_mut_ptr(), bytes);
        }
        held
    }

    /// Replaces the bytes from `offset` on.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(
            offset + bytes.len() <= self.bytes,
            "inside of what was given"
        );
        // SAFETY: the target lies in memory that `new` was promised is writable; `copy` allows overlap, should the
        // program have given memory of this library.
        unsafe {
            let target = (self.address + offset) as *mut u8;
            std::ptr::copy(bytes.as_ptr(), target, bytes.len());
        }
    }
}

/// Pages that host and device see at one address; given back when dropped.
#[derive(Debug)]
pub struct Mapping(HostMemory);

impl Mapping {
    /// `bytes` of zeros, if the system has them.
    pub fn new(bytes: usize) -> Option<Mapping> {
        static NEXT: AtomicUsize = AtomicUsize::new(FIRST);
        let step = bytes.checked_add(2 * GAP)? / GAP * GAP;
        let wanted = NEXT.fetch_add(step, Relaxed);
        // SAFETY: new pages at an address where nothing is, or none at all (MAP_FIXED_NOREPLACE).
        let got = unsafe {
            libc::mmap(
                wanted as *mut c_void,
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
                -1,
                0,
            )
        };
        if got == libc::MAP_FAILED {
            return None;
        }
        let mapping = Mapping(HostMemory {
            address: got as usize,
            bytes,
        });
        // a kernel older than Linux 4.17 takes the address for a hint
        (got as usize == wanted).then_some(mapping)
    }

    pub fn memory(&self) -> HostMemory {
        self.0
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the pages came from `mmap` with this length and are given back once.
        unsafe {
            libc::munmap(self.0.address as *mut c_void, self.0.bytes);
        }
    }
}

/// A function of the program.
#[derive(Debug, Clone, Copy)]
pub enum Callback {
    /// `CUhostFn`
    Host(unsafe extern "C" fn(*mut c_void)),
    /// `CUstreamCallback`, and the stream it is told of.
    Stream(unsafe extern "C" fn(*mut c_void, i32, *mut c_void), usize),
}

/// A function of the program with what it is called with.
#[derive(Debug, Clone, Copy)]
pub struct HostCall {
    callback: Callback,
    data: usize,
}

impl HostCall {
    /// # Safety
    /// The function may be called with this data, on any thread, until the work is complete.
    pub unsafe fn new(callback: Callback, data: *mut c_void) -> Self {
        HostCall {
            callback,
            data: data as usize,
        }
    }

    pub fn run(&self) {
        let data = self.data as *mut c_void;
        // SAFETY: `new` was promised that the function may be called with this data.
        unsafe {
            match self.callback {
                Callback::Host(function) => function(data),
                Callback::Stream(function, stream) => function(stream as *mut c_void, 0, data),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FIRST, HostMemory, Mapping};

    #[test]
    fn pages_are_zero_and_keep_what_is_written() {
        let pages = Mapping::new(10_000).expect("pages");
        let memory = pages.memory();
        assert!(memory.address() >= FIRST && memory.address().is_multiple_of(4096));
        assert_eq!(memory.read(9_996, 4), [0; 4]);
        memory.write(9_996, &[1, 2, 3, 4]);
        assert_eq!(memory.read(9_997, 3), [2, 3, 4]);
        let other = Mapping::new(1).expect("pages");
        assert!(other.memory().address() >= memory.address() + 10_000);
    }

    #[test]
    fn bytes_of_the_program() {
        let mut bytes = [1u8, 2, 3, 4];
        // SAFETY: the array outlives its use and nobody else uses it meanwhile.
        let memory = unsafe { HostMemory::new(bytes.as_mut_ptr() as usize, 4) };
        memory.write(1, &[9, 8]);
        assert_eq!(memory.read(0, 4), [1, 9, 8, 4]);
    }
}
