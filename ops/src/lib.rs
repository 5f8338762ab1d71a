//! Tensors and the differentiable operations on them.
//!
//! Three layers, each written in the one below it:
//!
//! 1. **Primitives**: a small set closed under differentiation ([`add`], [`mul`], [`matmul`], [`sum`], [`gather`], ...).
//!    The derivative rule of each is a line or two in the same set, so gradients of any order exist.
//! 2. **Derived functions** ([`derived`]): softmax, norms, rotary embedding, cross-entropy, attention, as the textbook writes
//!    them. They are slow, obvious, and the *meaning* of what follows.
//! 3. **Fused ops** ([`swa_attention`], [`rms_norm`], [`swiglu_mlp`], [`cross_entropy`], ...): the same functions at full speed, as
//!    towers: the backward pass of each is an op of its own, and so is the backward pass of that. Beyond the top of the
//!    tower the derivative is that of the meaning. Module [`values`] has the first two levels for values that have no history.
//!
//! A tensor lives on a [`Device`], and an op runs where its inputs live: on the CPU, or on a CUDA device with the kernels of
//! `kernels-cu`. [`Tensor::to`] moves a tensor; nothing else copies one to the host but the functions that read numbers.
//!
//! [`list`] names every op with example inputs and, where it has one, its meaning; the test suite and the benchmarks find
//! everything through it.
//!
//! ```
//! use ops::{DType, Tensor, Var, grad, mul, sum_all};
//! let x = Var::leaf(Tensor::from_vec(&[2], vec![3f64, 4.])?);
//! let cube = mul(&x, &mul(&x, &x)?)?;
//! let first = grad(&sum_all(&cube)?, &[x.clone()])?.remove(0).unwrap(); // 3 x^2
//! let second = grad(&sum_all(&first)?, &[x.clone()])?.remove(0).unwrap(); // 6 x
//! assert_eq!(second.value().to_f64s(), [18., 24.]);
//! # Ok::<(), ops::Error>(())
//! ```

mod adamw;
mod buffer;
mod cuda;
pub mod derived;
mod device;
mod dtype;
mod error;
mod fused;
mod gemm;
pub mod list;
mod mapped;
mod pages;
pub(crate) mod par;
mod primitives;
mod products;
mod tensor;
mod value;

pub use adamw::AdamW;
pub use autograd::{
    At, Cost, Keep, Op, apply, backward, backward_with, checkpoint, grad, tangents, vjp,
};
pub use buffer::measure_peak;
pub use device::Device;
pub use dtype::{DType, Element, Float};
pub use error::{Error, Result};
pub use fused::{
    clip_factor, cross_entropy, dot, linear, linear_cross_entropy, rms_norm, rope, sgd_update,
    swa_attention, swiglu_mlp, values,
};
pub use mapped::Mapped;
pub use primitives::*;
pub use tensor::Tensor;
pub use value::Var;
