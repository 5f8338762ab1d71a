//! Every CUDA kernel against its meaning, in the PTX interpreter.

mod adamw;
mod budgets;
mod cross_entropy;
mod elementwise;
mod embedding;
mod gemm;
mod gradient_norm;
mod inner_update;
mod layout;
mod linear_cross_entropy;
mod reduce;
mod rms_norm;
mod rope;
mod swa_attention;
mod swiglu_mlp;
