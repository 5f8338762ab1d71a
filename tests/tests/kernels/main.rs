//! Every CUDA kernel against its meaning, in the PTX interpreter.

mod budgets;
mod elementwise;
mod rms_norm;
