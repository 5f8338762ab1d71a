//! Where tensors live and ops run.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// A device. Tensors live on the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The processor this program runs on.
    #[default]
    Cpu,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cpu")
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        match s {
            "cpu" => Ok(Device::Cpu),
            _ => Err(Error::Device {
                name: s.to_string(),
                remedy: "this version runs on 'cpu'".to_string(),
            }),
        }
    }
}
