//! Where tensors live and ops run.

use std::fmt;
use std::str::FromStr;

use rayon::prelude::*;

use crate::error::{Error, Result};

/// A device: `cpu`, `cuda` (the first of them) or `cuda:1`. A tensor lives on one, and an op runs where its inputs live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The processor this program runs on.
    #[default]
    Cpu,
    /// The CUDA device of this number. It computes in f32, or with activations in bf16.
    Cuda(usize),
}

impl Device {
    /// An error, in one sentence, unless there is such a device and what it takes to run on it: a driver and a compiler of kernels.
    pub fn check(self) -> Result<()> {
        match self {
            Device::Cpu => Ok(()),
            Device::Cuda(ordinal) => crate::cuda::open(ordinal).map(|_| ()),
        }
    }

    /// Runs `f`; what it asks a CUDA device for goes there as one graph (see [`kernels_cu::Gpu::graph`]). For work that comes again and
    /// again and is small, so that asking for it takes longer than doing it.
    ///
    /// # Errors
    /// The device cannot be opened, or refuses the work.
    pub fn graph<T>(self, f: impl FnOnce() -> T) -> Result<T> {
        match self {
            Device::Cpu => Ok(f()),
            Device::Cuda(ordinal) => Ok(crate::cuda::open(ordinal)?.graph(f)?),
        }
    }

    /// What `f` makes of each: side by side on the CPU; in order where a CUDA device does the work, which does one thing after
    /// the other anyway and knows a graph by its order.
    pub fn map<X: Send, T: Send>(self, x: &mut [X], f: impl Fn(&mut X) -> T + Sync) -> Vec<T> {
        match self {
            Device::Cpu => x.par_iter_mut().map(&f).collect(),
            Device::Cuda(_) => x.iter_mut().map(f).collect(),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let number = |s: &str| s.parse().ok().map(Device::Cuda);
        let device = match s {
            "cpu" => Some(Device::Cpu),
            "cuda" => Some(Device::Cuda(0)),
            _ => s.strip_prefix("cuda:").and_then(number),
        };
        device.ok_or_else(|| Error::Device {
            name: s.to_string(),
            remedy: "devices are 'cpu', 'cuda' and 'cuda:1', 'cuda:2', ...".to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (name, device) in [
            ("cpu", Device::Cpu),
            ("cuda:0", Device::Cuda(0)),
            ("cuda:12", Device::Cuda(12)),
        ] {
            assert_eq!(name.parse(), Ok(device));
            assert_eq!(device.to_string(), name);
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        for name in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0"] {
            let error = name.parse::<Device>().expect_err(name).to_string();
            assert!(error.contains("'cpu', 'cuda'"), "{error}");
        }
    }
}
