//! Device memory: buffers that are reused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cudarc::driver::{CudaContext, result, sys};

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Inner, driver};
use crate::launch::View;

/// Sizes are multiples of this many bytes.
const STEP: usize = 512;

/// Free memory, by size. All work is in one stream, so memory that is given back may be handed out again at once: what reads it
/// comes before what writes it next. The lowest address is handed out first, so that the same work finds the same memory and a
/// graph of it need not change.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: Free,
    /// While work waits to become a graph: what has been given back since, which that work may use. Work that comes after it may
    /// have it, but nothing that goes to the device before it.
    held: Option<Free>,
    /// Bytes in buffers that are in use, the most there ever were, and bytes in free ones.
    live: usize,
    peak: usize,
    idle: usize,
}

/// Memory of a device; it goes back to the pool when the last view of it is dropped.
pub(crate) struct Allocation {
    gpu: Arc<Inner>,
    address: u64,
    bytes: usize,
}

impl std::fmt::Debug for Allocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes at {:#x}", self.bytes, self.address)
    }
}

impl Allocation {
    pub(crate) fn of(&self, gpu: &Gpu) -> bool {
        Arc::ptr_eq(&self.gpu, &gpu.0)
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        let mut pool = self.gpu.pool();
        pool.live -= self.bytes;
        pool.idle += self.bytes;
        let Pool { free, held, .. } = &mut *pool;
        held.as_mut().unwrap_or(free).put(self.bytes, self.address);
    }
}

/// Addresses of free memory, by size.
#[derive(Debug, Default)]
struct Free(BTreeMap<usize, BTreeSet<u64>>);

impl Free {
    fn take(&mut self, bytes: usize) -> Option<u64> {
        self.0.get_mut(&bytes)?.pop_first()
    }

    fn put(&mut self, bytes: usize, address: u64) {
        self.0.entry(bytes).or_default().insert(address);
    }
}

impl Pool {
    /// From now on, holds back what is given back.
    pub(crate) fn hold(&mut self) {
        self.held.get_or_insert_default();
    }

    /// Hands out what was held back: all work so far is in the stream. With `hold`, goes on holding what comes.
    pub(crate) fn release(&mut self, hold: bool) {
        let held = std::mem::replace(&mut self.held, hold.then(Free::default));
        for (bytes, addresses) in held.into_iter().flat_map(|held| held.0) {
            self.free.0.entry(bytes).or_default().extend(addresses);
        }
    }

    fn take(&mut self, bytes: usize, at_once: bool) -> Option<u64> {
        let held = self.held.as_mut().filter(|_| !at_once);
        held.and_then(|held| held.take(bytes))
            .or_else(|| self.free.take(bytes))
    }

    /// Gives what is free back to the driver.
    pub(crate) fn clear(&mut self, context: &CudaContext) {
        let _ = context.bind_to_thread();
        for address in std::mem::take(&mut self.free.0).into_values().flatten() {
            // SAFETY: the pool owns it and nothing reads it
            let _ = unsafe { result::free_sync(address) };
        }
        let held = self.held.iter().flat_map(|held| &held.0);
        self.idle = held.map(|(bytes, all)| bytes * all.len()).sum();
    }
}

/// Bytes on a device, which nobody else writes.
pub type Buffer = View;

fn class(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 16).max(STEP);
    bytes.max(1).next_multiple_of(step)
}

impl Gpu {
    /// New memory with unspecified contents.
    ///
    /// # Errors
    /// There is none left.
    pub fn allocate(&self, bytes: usize) -> Result<Buffer> {
        self.allocate_for(bytes, false)
    }

    /// The same; `at_once` if it is written before the work that waits to become a graph.
    pub(crate) fn allocate_for(&self, bytes: usize, at_once: bool) -> Result<Buffer> {
        let size = class(bytes);
        let mut pool = self.0.pool();
        let address = match pool.take(size, at_once) {
            Some(address) => {
                pool.idle -= size;
                address
            }
            None => self.fresh(&mut pool, size)?,
        };
        pool.live += size;
        pool.peak = pool.peak.max(pool.live);
        drop(pool);
        let allocation = Allocation {
            gpu: self.0.clone(),
            address,
            bytes: size,
        };
        Ok(View {
            address,
            bytes,
            owner: Some(Arc::new(allocation)),
        })
    }

    fn fresh(&self, pool: &mut Pool, size: usize) -> Result<u64> {
        self.0.bind()?;
        // SAFETY: plain allocation
        let first = unsafe { result::malloc_sync(size) };
        let out = sys::cudaError_enum::CUDA_ERROR_OUT_OF_MEMORY;
        match first {
            Err(error) if error.0 == out => {
                driver("cuStreamSynchronize", self.0.stream.synchronize())?;
                pool.clear(&self.0.context);
                // SAFETY: as above
                let second = unsafe { result::malloc_sync(size) };
                let (free, total) = driver("cuMemGetInfo", result::mem_get_info())?;
                second.map_err(|_| Error::OutOfMemory {
                    bytes: size,
                    free,
                    total,
                })
            }
            other => driver("cuMemAlloc", other),
        }
    }

    /// Bytes of buffers in use, and the most there ever were.
    pub fn memory(&self) -> [usize; 2] {
        let pool = self.0.pool();
        [pool.live, pool.peak]
    }
}
