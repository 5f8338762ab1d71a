//! The one error type of this crate.

use crate::{DType, Device};

/// What can go wrong in an operation. Every message names the operation and what it was given.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// Shapes that do not fit the operation or one another.
    #[error("{op}: {message}")]
    Shape {
        /// Operation.
        op: &'static str,
        /// Which shapes were given and what was expected.
        message: String,
    },
    /// A dtype the operation does not compute in.
    #[error("{op} cannot compute in {dtype}: {remedy}")]
    DType {
        /// Operation.
        op: &'static str,
        /// The offending dtype.
        dtype: DType,
        /// What to do instead.
        remedy: &'static str,
    },
    /// An index (a token id, a row) outside its table.
    #[error("{op}: index {index} at position {position} is outside 0..{limit}")]
    Index {
        /// Operation.
        op: &'static str,
        /// The index.
        index: usize,
        /// Where in the list of indices it stands.
        position: usize,
        /// Number of rows of the table.
        limit: usize,
    },
    /// A device that is unknown or not available.
    #[error("device '{name}' is not available: {remedy}")]
    Device {
        /// As the user wrote it.
        name: String,
        /// What to do instead.
        remedy: String,
    },
    /// Inputs on several devices.
    #[error("{op}: its inputs live on {} and {}; move them to one device first", devices[0], devices[1])]
    Devices {
        /// Operation.
        op: &'static str,
        /// Two of the devices.
        devices: [Device; 2],
    },
    /// From a device, its compiler or its kernels.
    #[error(transparent)]
    Kernels(#[from] kernels_cu::Error),
    /// From the tape.
    #[error(transparent)]
    Autograd(#[from] autograd::Error),
}

/// Result of an operation.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn shape(op: &'static str, message: impl Into<String>) -> Self {
        Error::Shape {
            op,
            message: message.into(),
        }
    }

    pub(crate) fn dtype(op: &'static str, dtype: DType) -> Self {
        Error::DType {
            op,
            dtype,
            remedy: "bf16 and f16 are storage types here; cast to f32 or f64 first",
        }
    }
}
