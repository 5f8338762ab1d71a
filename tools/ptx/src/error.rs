//! What can go wrong before a kernel runs.

/// A module that cannot be loaded or a launch that cannot start. What goes wrong while a kernel runs is a
/// [`Finding`](crate::Finding).
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// Text that is not PTX, or PTX this crate does not know.
    #[error("PTX line {line}: {message}")]
    Ptx {
        /// Line of the PTX text, from 1.
        line: u32,
        /// What was found there.
        message: String,
    },
    /// A kernel or variable the module does not have.
    #[error("the module has no {what} named {name}")]
    Missing {
        /// "kernel" or "variable".
        what: &'static str,
        /// The name asked for.
        name: String,
    },
    /// Grid, block, shared memory or arguments that do not fit the kernel.
    #[error("{kernel}: {message}")]
    Launch {
        /// Name of the kernel.
        kernel: String,
        /// What does not fit, and what would.
        message: String,
    },
    /// A tensor map that breaks a rule.
    #[error("tensor map: {message}")]
    TensorMap {
        /// The rule that is broken.
        message: String,
    },
    /// A host access outside of an allocation.
    #[error("{operation} of {bytes} bytes at {address:#x}: {message}")]
    Memory {
        /// "read", "write", "fill", "free" or "allocation".
        operation: &'static str,
        /// First address.
        address: u64,
        /// Length of the access.
        bytes: usize,
        /// Why it is not possible.
        message: &'static str,
    },
}

/// Result of everything that happens before a kernel runs.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn at(line: u32, message: impl Into<String>) -> Self {
        Error::Ptx {
            line,
            message: message.into(),
        }
    }
}
