//! CUDA kernels without a GPU: their launches run in the project's PTX interpreter. The command `kernels` compiles all of them.

mod interpreted;
mod machine;

pub use interpreted::{Interpreted, compiler, geometry};
pub use machine::{Machine, from_bytes, to_bytes};
