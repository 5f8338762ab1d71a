//! The one error type of this crate.

use std::path::{Path, PathBuf};

/// What can go wrong. Each message is one sentence that names the file, field, shape or value, and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be read or written.
    #[error("{path}: {message}", path = path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it and what to do.
        message: String,
    },
    /// A setting that cannot work.
    #[error("{name} = {value}: {message}")]
    Setting {
        /// Name of the setting, as in the configuration.
        name: &'static str,
        /// The value given.
        value: String,
        /// What would work.
        message: String,
    },
    /// Numbers that are no longer numbers.
    #[error("{what} is not finite: {remedy}")]
    NotFinite {
        /// Which quantity, and where.
        what: String,
        /// What to try.
        remedy: &'static str,
    },
    /// From an operation.
    #[error(transparent)]
    Ops(#[from] ops::Error),
    /// From text and tokens.
    #[error(transparent)]
    Data(#[from] crate::data::Error),
}

/// Result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn file(path: &Path, message: impl Into<String>) -> Self {
        Error::File {
            path: path.to_path_buf(),
            message: message.into(),
        }
    }

    /// A setting that cannot work, and what would.
    pub fn setting(
        name: &'static str,
        value: impl std::fmt::Display,
        message: impl Into<String>,
    ) -> Self {
        Error::Setting {
            name,
            value: value.to_string(),
            message: message.into(),
        }
    }
}
