//! The file that holds the ids of one book.
//!
//! | bytes | what (little-endian) |
//! |---|---|
//! | 0..8 | magic `TTTIDS` and two zeros |
//! | 8..16 | version of this layout |
//! | 16..24 | number of ids |
//! | 24..32 | length of the text, bytes of UTF-8 |
//! | 32..64 | key: SHA-256 of the text and the tokenizer's fingerprint |
//! | 64..96 | SHA-256 of bytes 0..64 and the ids |
//! | 96.. | the ids, 4 bytes each |

use super::write_atomic;
use ops::Mapped;
use sha2::{Digest, Sha256};
use std::io::{self, ErrorKind};
use std::path::Path;

const MAGIC: [u8; 8] = *b"TTTIDS\0\0";
const VERSION: u64 = 1;
const HEADER: usize = 96;

const _: () = assert!(
    cfg!(target_endian = "little"),
    "token caches are mapped as little-endian numbers"
);

/// What a cache file is for: hash of a text and of a tokenizer.
pub(super) type Key = [u8; 32];

/// The key of `text` under the tokenizer with this fingerprint.
pub(super) fn key(text: &str, fingerprint: &str) -> Key {
    let mut hash = Sha256::new();
    hash.update(fingerprint);
    hash.update([0]);
    hash.update(text);
    hash.finalize().into()
}

/// Ids, on the disk or in memory.
#[derive(Debug)]
pub(super) enum Ids {
    /// A whole cache file that `open` has checked.
    Mapped(Mapped),
    Memory(Vec<u32>),
}

impl Ids {
    pub(super) fn as_slice(&self) -> &[u32] {
        match self {
            Ids::Mapped(file) => bytemuck::cast_slice(&file[HEADER..]),
            Ids::Memory(ids) => ids,
        }
    }
}

/// Maps the cache file at `path` after checking all of it.
///
/// Errors: those of opening it (`NotFound` where there is none), and `InvalidData`, with the
/// reason, where it is damaged or not the file for `key` and a text of `bytes` bytes.
pub(super) fn open(path: &Path, key: &Key, bytes: u64) -> io::Result<Ids> {
    let bad = |why| Err(io::Error::new(ErrorKind::InvalidData, why));
    let file = Mapped::open(path)?;
    let Some((head, ids)) = file.split_at_checked(HEADER) else {
        return bad("it is shorter than a header");
    };
    if head[..8] != MAGIC || head[8..16] != VERSION.to_le_bytes() {
        return bad("it is no token cache of this version");
    }
    if !ids.len().is_multiple_of(4) || head[16..24] != (ids.len() as u64 / 4).to_le_bytes() {
        return bad("its length is not the one it states");
    }
    if head[24..32] != bytes.to_le_bytes() || head[32..64] != key[..] {
        return bad("it belongs to another text or tokenizer");
    }
    if head[64..] != checksum(&head[..64], ids) {
        return bad("its checksum is wrong");
    }
    Ok(Ids::Mapped(file))
}

/// Writes the cache file of a text of `bytes` bytes.
///
/// Errors: those of the file system; nothing half-written is left.
pub(super) fn write(path: &Path, key: &Key, bytes: u64, ids: &[u32]) -> io::Result<()> {
    let mut head = Vec::with_capacity(HEADER);
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&(ids.len() as u64).to_le_bytes());
    head.extend_from_slice(&bytes.to_le_bytes());
    head.extend_from_slice(key);
    let ids: &[u8] = bytemuck::cast_slice(ids);
    let sum = checksum(&head, ids);
    write_atomic(path, &[&head, &sum, ids])
}

fn checksum(head: &[u8], ids: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(head);
    hash.update(ids);
    hash.finalize().into()
}
