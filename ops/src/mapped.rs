//! Read-only memory maps of files.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

/// The bytes of a file, mapped read-only into memory and dropped with the value.
///
/// The file must not be changed in place while it is mapped. Files that are only ever replaced by
/// renaming a new one over them (as this workspace writes all of its files) keep that rule: the
/// map goes on showing the old file.
#[derive(Debug)]
pub struct Mapped(memmap2::Mmap);

impl Mapped {
    /// Maps the whole file at `path`; an empty file gives an empty slice.
    ///
    /// Errors: those of opening the file and of mapping it.
    pub fn open(path: &Path) -> io::Result<Mapped> {
        let file = File::open(path)?;
        // SAFETY: the slice handed out is valid as long as nobody shortens or rewrites this file.
        // - The map is private and read-only, so this process cannot write through it.
        // - It covers the length the file has now and is unmapped only when `Mapped` is dropped,
        //   which the borrow in `deref` cannot outlive.
        // - The rule on the type leaves replacing by rename as the only way to change the file;
        //   that makes a new inode and leaves the mapped one as it is.
        // - Every bit pattern is a valid `u8`.
        unsafe { memmap2::Mmap::map(&file) }.map(Mapped)
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
