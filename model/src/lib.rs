//! TTT-E2E and its baselines: configuration, blocks, the inner and the outer loop, data, and models on disk.
//!
//! [`ttt`] reads like the algorithm of the paper; [`weights`] names the parameters; [`block`] is one Transformer block;
//! [`train`] is the outer loop; [`session`] reads and writes text, with no tape; [`files`] are models
//! on disk; [`data`] is text and tokens.

pub mod block;
mod config;
pub mod data;
mod error;
pub mod eval;
pub mod files;
pub mod flops;
pub mod gradients;
mod init;
pub mod memory;
pub mod sampling;
pub mod session;
pub mod suffix;
mod tangent_step;
pub mod train;
pub mod ttt;
pub mod weights;

pub use config::{Config, LayerType, Ttt};
pub use error::{Error, Result};
pub use files::Model;
pub use ttt::{Net, Reading};
pub use weights::Weights;
