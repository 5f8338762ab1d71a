//! Linear layers with Hugging Face weights.

use super::read;
use crate::Var;
use crate::error::Result;
use crate::primitives::{Transpose, matmul, reshape};

/// x w' for x [t, in] or [t, n, h] (n h = in) and w [out, in]: [t, out]. Where x is bf16 a w of f32 is read rounded; its gradient is
/// f32.
pub fn linear(x: &Var, w: &Var) -> Result<Var> {
    let w = &read(w, x)?;
    match *x.value().shape() {
        [t, n, h] => matmul(&reshape(x, &[t, n * h])?, w, Transpose::B),
        _ => matmul(x, w, Transpose::B),
    }
}
