//! CUDA kernels for test-time training, and what compiles, launches and lists them.
//!
//! **A kernel is a folder**: its mathematics and cost (`README.md`), its device code (`*.cu`), and a module with functions that check
//! shapes and return a [`Launch`]. A launch is plain data: which [`Program`], which entry, grid, arguments. A [`Gpu`] runs it; so does
//! anything else that can run PTX, which is how every kernel is tested where there is no GPU.
//!
//! Device code is compiled at run time by NVRTC ([`Compiler`]), specialised by constants such as the head size, and cached on disk.
//! [`list`] names every program that the library may ask for; tests, budgets and benchmarks find them through it.
//!
//! This is the only crate with `unsafe` for devices: calls of the driver, and of NVRTC.

#![allow(unsafe_code)]

pub mod adamw;
mod compile;
pub mod cross_entropy;
pub mod elementwise;
pub mod embedding;
mod error;
pub mod gemm;
mod gpu;
pub mod gradient_norm;
mod graph;
pub mod inner_update;
mod launch;
pub mod layout;
pub mod linear_cross_entropy;
pub mod list;
mod memory;
mod nvrtc;
mod program;
mod queue;
pub mod reduce;
pub mod rms_norm;
pub mod rope;
pub mod swa_attention;
pub mod swiglu_mlp;
mod work;

pub use compile::{Compiler, Resources};
pub use error::{Error, Result};
pub use gpu::Gpu;
pub use launch::{Arg, Launch, View};
pub use memory::Buffer;
pub use nvrtc::Nvrtc;
pub use program::{DType, Program};
