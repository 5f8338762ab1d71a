//! The closed set: each primitive's rule is a line or two written in the same set, so gradients of any order exist.

mod elementwise;
mod index;
mod layout;
mod matmul;
mod reduce;

pub use elementwise::{add, cast, exp, log, mul, neg, recip, rsqrt, scale, sigmoid, sub};
pub use index::{gather, scatter_add, select, select_above};
pub use layout::{concat, pad, permute, reshape, slice};
pub use matmul::{Transpose, matmul};
pub use reduce::{broadcast, sum, sum_all};
