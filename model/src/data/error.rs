//! What can go wrong with texts, tokenizers and token caches.

use std::io;
use std::path::{Path, PathBuf};

/// An error of this module; its text is one sentence with the remedy in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused to read or write a file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "read", "write", "list".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file was read, but what it holds cannot be used.
    #[error("{}: {message}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it, and the remedy.
        message: String,
    },
    /// A value given by the caller cannot be used.
    #[error("{0}")]
    Value(String),
}

/// A result with this module's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Error {
        let path = path.to_path_buf();
        Error::Io {
            action,
            path,
            source,
        }
    }

    pub(super) fn file(path: &Path, message: impl Into<String>) -> Error {
        let (path, message) = (path.to_path_buf(), message.into());
        Error::File { path, message }
    }
}
