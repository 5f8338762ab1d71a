//! CUDA kernels without a GPU: their launches run in the project's PTX interpreter. The command `kernels` compiles all of them.

mod interpreted;

pub use interpreted::{Interpreted, compiler, geometry};
