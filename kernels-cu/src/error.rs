//! The one error type of this crate.

/// What can go wrong between a kernel's source and its run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// Shapes, lengths or types that a kernel does not take.
    #[error("{kernel}: {message}")]
    Shape {
        /// Kernel.
        kernel: &'static str,
        /// What was given and what was expected.
        message: String,
    },
    /// NVRTC was not found.
    #[error(
        "NVRTC, the compiler of CUDA kernels, was not found: install the CUDA toolkit, or run `python3 -m pip install {wheel}`"
    )]
    NoNvrtc {
        /// The package that has it.
        wheel: &'static str,
    },
    /// NVRTC refused a program.
    #[error("NVRTC cannot compile {program} for {arch}: {log}")]
    Compile {
        /// Program.
        program: &'static str,
        /// Architecture.
        arch: String,
        /// What it said.
        log: String,
    },
    /// There is no driver.
    #[error(
        "there is no NVIDIA driver on this machine (libcuda.so.1 was not found): install one, or use --device cpu"
    )]
    NoDriver,
    /// There is a driver but not this device.
    #[error(
        "the NVIDIA driver has {count} devices and none with number {ordinal}: use a smaller number, or --device cpu"
    )]
    NoDevice {
        /// Number asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// The device is older than the kernels.
    #[error(
        "{name} has compute capability {major}.{minor}: these kernels need 8.0 (A100) or newer; use --device cpu"
    )]
    OldDevice {
        /// Its name.
        name: String,
        /// Major number of its capability.
        major: i32,
        /// Minor number.
        minor: i32,
    },
    /// The driver does not know the PTX that NVRTC writes.
    #[error(
        "the NVIDIA driver is older than the compiler ({nvrtc}): update the driver, or install an NVRTC as old as it"
    )]
    OldDriver {
        /// Version of NVRTC.
        nvrtc: String,
    },
    /// The device has no more memory.
    #[error(
        "the device has no room for {bytes} bytes more ({free} of {total} are free): use a smaller batch or --memory, or a shorter sequence"
    )]
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
        /// Bytes free.
        free: usize,
        /// Bytes there are.
        total: usize,
    },
    /// Any other failure of the driver.
    #[error("the CUDA driver failed in {call}: {message}")]
    Driver {
        /// What was called.
        call: &'static str,
        /// What it said.
        message: String,
    },
    /// A file of the cache.
    #[error("cannot write the kernel cache {path}: {message}")]
    Cache {
        /// The file.
        path: String,
        /// Why.
        message: String,
    },
}

/// Result of anything here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Shapes that a kernel does not take.
    pub(crate) fn shape(kernel: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Error::Shape { kernel, message }
    }
}
