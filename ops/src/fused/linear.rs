//! Linear layers with Hugging Face weights.

use crate::Var;
use crate::error::Result;
use crate::primitives::{Transpose, matmul, reshape};

/// x w' for x [t, in] or [t, n, h] (n h = in) and w [out, in]: [t, out].
pub fn linear(x: &Var, w: &Var) -> Result<Var> {
    match *x.value().shape() {
        [t, n, h] => matmul(&reshape(x, &[t, n * h])?, w, Transpose::B),
        _ => matmul(x, w, Transpose::B),
    }
}
