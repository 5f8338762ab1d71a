//! Memory of a buffer: from the allocator, or, where it is large, pages of its own that may be huge.

use std::marker::PhantomData;

use memmap2::MmapMut;

use crate::dtype::Element;

/// Memory of at least this many bytes, a huge page on most machines, gets pages of its own. A pass over weights of a hundred
/// megabytes spends a fourth of its time on finding pages of 4 KiB.
const LARGE: usize = 1 << 21;

/// A run of elements, all of them initialised.
pub(crate) enum Memory<T> {
    Heap(Vec<T>),
    Pages(MmapMut, PhantomData<T>),
}

impl<T: Element> Memory<T> {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        match large::<T>(len).then(|| MmapMut::map_anon(len * size_of::<T>())) {
            Some(Ok(pages)) => {
                // advice: where huge pages are not to be had, small ones do
                #[cfg(target_os = "linux")]
                let _ = pages.advise(memmap2::Advice::HugePage);
                Memory::Pages(pages, PhantomData)
            }
            // the allocator says what is wrong, if it cannot either
            _ => Memory::Heap(vec![T::default(); len]),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Memory::Heap(x) => x.len(),
            Memory::Pages(x, _) => x.len() / size_of::<T>(),
        }
    }

    pub fn elements(&self) -> &[T] {
        match self {
            Memory::Heap(x) => x,
            Memory::Pages(x, _) => bytemuck::cast_slice(x),
        }
    }

    pub fn elements_mut(&mut self) -> &mut [T] {
        match self {
            Memory::Heap(x) => x,
            Memory::Pages(x, _) => bytemuck::cast_slice_mut(x),
        }
    }
}

/// True if `len` elements get pages of their own.
pub(crate) fn large<T>(len: usize) -> bool {
    len * size_of::<T>() >= LARGE
}
