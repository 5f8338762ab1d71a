//! Writing a file so that its name holds the old contents or the new, never half of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// Writes `parts`, one after the other, as the file `path`: under a temporary name in the same
/// folder, then to the disk (fsync), then by renaming it.
///
/// Errors: those of the file system, `NotFound` for a missing folder and `StorageFull` among
/// them. After an error the temporary file is removed and `path` is as it was.
pub fn write_atomic(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // The name is taken with `create_new`, so that no two writers share a temporary file.
    let mut attempt = 0u32;
    let (temporary, mut file) = loop {
        let suffix = format!(".{}-{attempt}.tmp", std::process::id());
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(suffix);
        let temporary = folder.join(hidden);
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary);
        match opened {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && attempt < 1000 => {
                attempt += 1;
            }
            opened => break (temporary, opened?),
        }
    };
    let written = parts
        .iter()
        .try_for_each(|part| file.write_all(part))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to tell; a leftover hidden file does no harm.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    // The rename itself reaches the disk with the folder. Some systems cannot sync a folder, and
    // by now the file is complete, so this is not an error of the write.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}
