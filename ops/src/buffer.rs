//! Buffers that are reused: a training step asks for the same sizes thousands of times, and fresh
//! memory from the system costs a page fault every 4 KiB.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};

use crate::dtype::Element;
use crate::pages::{Memory, large};

/// Buffers below this many bytes are cheaper to allocate than to look up.
const SMALLEST: usize = 1 << 10;
/// Buffers above this many bytes go back to the system: the work on them dwarfs their page faults.
const LARGEST: usize = 1 << 26;

/// Buffers, free and in use, may together take a sixteenth more than the most that ever were in use, and this many bytes more than
/// that; beyond it, free ones go back to the system when a size is asked for that none of them has.
const IDLE: usize = 1 << 26;

type Shelves<T> = BTreeMap<usize, Vec<Memory<T>>>;

/// Free buffers by capacity. Holding on to memory is all it does: no result depends on it.
pub struct Pool<T> {
    shelves: OnceLock<Mutex<Shelves<T>>>,
}

impl<T: Element> Pool<T> {
    pub(crate) const fn new() -> Self {
        Pool {
            shelves: OnceLock::new(),
        }
    }

    fn shelves(&self) -> std::sync::MutexGuard<'_, Shelves<T>> {
        let shelves = self.shelves.get_or_init(Mutex::default);
        // a panic while the lock is held cannot leave the map in a bad state
        shelves.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A free buffer of this capacity. If there is none, the largest of those that lie idle make room for a new one.
    fn take(&self, capacity: usize) -> Option<Memory<T>> {
        let mut shelves = self.shelves();
        let found = shelves.get_mut(&capacity).and_then(Vec::pop);
        if found.is_some() {
            FREE.fetch_sub(capacity * size_of::<T>(), Relaxed);
            return found;
        }
        let most = MOST.load(Relaxed);
        let allowed = most + most / 16 + IDLE;
        while LIVE.load(Relaxed) + FREE.load(Relaxed) > allowed
            && let Some(mut largest) = shelves.last_entry()
        {
            let bytes = largest.key() * size_of::<T>();
            match largest.get_mut().pop() {
                Some(_) => FREE.fetch_sub(bytes, Relaxed),
                None => largest.remove().len(),
            };
        }
        None
    }

    fn put(&self, memory: Memory<T>) {
        let capacity = memory.len();
        FREE.fetch_add(capacity * size_of::<T>(), Relaxed);
        self.shelves().entry(capacity).or_default().push(memory);
    }
}

/// Capacities come in steps of an eighth of a power of two, so at most 12.5 % is wasted.
fn capacity_class(len: usize) -> usize {
    let step = (len.next_power_of_two() / 16).max(1);
    len.next_multiple_of(step)
}

fn pooled<T>(capacity: usize) -> bool {
    (SMALLEST..=LARGEST).contains(&(capacity * size_of::<T>()))
}

/// Bytes in buffers that are in use, and the most there ever were since [`measure_peak`] began.
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// The most bytes that ever were in use.
static MOST: AtomicUsize = AtomicUsize::new(0);
/// Bytes in free buffers.
static FREE: AtomicUsize = AtomicUsize::new(0);

/// Runs `f`; its result, and the most bytes of tensors that were alive at once meanwhile, in this process, beyond those that were
/// alive before.
pub fn measure_peak<R>(f: impl FnOnce() -> R) -> (R, usize) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = f();
    (result, PEAK.load(Relaxed).saturating_sub(before))
}

/// A contiguous run of elements that returns to its pool when dropped.
pub struct Buffer<T: Element> {
    memory: Memory<T>,
    len: usize,
}

impl<T: Element> Buffer<T> {
    /// `len` elements with unspecified contents (NaN in debug builds, so that reading them shows).
    pub(crate) fn scratch(len: usize) -> Self {
        let capacity = capacity_class(len);
        let reused = match pooled::<T>(capacity) {
            true => T::pool().take(capacity),
            false => None,
        };
        let memory = reused.unwrap_or_else(|| Memory::zeros(capacity));
        let mut buffer = Self::counted(memory, len);
        if cfg!(debug_assertions) {
            buffer.fill(T::NAN);
        }
        buffer
    }

    fn counted(memory: Memory<T>, len: usize) -> Self {
        let bytes = memory.len() * size_of::<T>();
        let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
        PEAK.fetch_max(live, Relaxed);
        MOST.fetch_max(live, Relaxed);
        Buffer { memory, len }
    }

    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let mut buffer = Self::scratch(len);
        buffer.fill(T::default());
        buffer
    }

    pub(crate) fn from_vec(mut data: Vec<T>) -> Self {
        let (len, capacity) = (data.len(), capacity_class(data.len()));
        if large::<T>(capacity) {
            let mut buffer = Self::scratch(len);
            buffer.copy_from_slice(&data);
            return buffer;
        }
        if data.capacity() >= capacity {
            data.resize(capacity, T::default());
        }
        Self::counted(Memory::Heap(data), len)
    }
}

impl<T: Element> std::ops::Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.memory.elements()[..self.len]
    }
}

impl<T: Element> std::ops::DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory.elements_mut()[..self.len]
    }
}

impl<T: Element> Drop for Buffer<T> {
    fn drop(&mut self) {
        let capacity = self.memory.len();
        LIVE.fetch_sub(capacity * size_of::<T>(), Relaxed);
        // all elements stay initialised, so reuse never needs to write them
        if capacity == capacity_class(self.len) && pooled::<T>(capacity) {
            let memory = std::mem::replace(&mut self.memory, Memory::Heap(vec![]));
            T::pool().put(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_waste_at_most_an_eighth() {
        for len in 1..10_000 {
            let class = capacity_class(len);
            assert!(
                class >= len && (class - len) * 8 <= len.max(8),
                "{len} -> {class}"
            );
            assert_eq!(class, capacity_class(class));
        }
    }

    #[test]
    fn a_dropped_buffer_is_reused() {
        let first = Buffer::<f64>::scratch(12_345);
        let address = first.as_ptr();
        drop(first);
        let second = Buffer::<f64>::scratch(12_340);
        assert_eq!(address, second.as_ptr());
        assert!(cfg!(not(debug_assertions)) || second.iter().all(|x| x.is_nan()));
    }
}
