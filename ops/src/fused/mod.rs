//! Fused ops: towers whose every level is an op of its own. A level's rule is the next level; above the top level the
//! derivative is that of the meaning (module [`crate::derived`]).

mod attention;
mod cross_entropy;
mod linear;
mod linear_cross_entropy;
mod rms_norm;
mod rope;
mod sgd;
mod swiglu_mlp;
pub mod values;

pub use attention::swa_attention;
pub use cross_entropy::cross_entropy;
pub use linear::linear;
pub use linear_cross_entropy::linear_cross_entropy;
pub(crate) use linear_cross_entropy::linear_cross_entropy_above;
pub use rms_norm::rms_norm;
pub use rope::rope;
pub use sgd::{clip_factor, dot, sgd_update};
pub use swiglu_mlp::swiglu_mlp;

use autograd::At;

use crate::error::Result;
use crate::primitives::cast;
use crate::{DType, Tensor, Var};

/// The meaning of a backward op is the vjp of the meaning of its forward op: cotangents of `x` (zeros included) for
/// cotangents `ct` of `f(x)`, differentiable again. Traces `f` on fresh aliases, because the inputs of one op may depend on
/// one another.
pub(crate) fn vjp_of(
    f: impl Fn(&[Var]) -> Result<Vec<Var>>,
    x: &[Var],
    ct: &[Option<Var>],
) -> Result<Vec<Var>> {
    let x: Vec<Var> = x.iter().map(Var::alias).collect();
    let y = f(&x)?;
    let dx = autograd::vjp(&y, ct, &x)?;
    let or_zero = |(dx, x): (Option<Var>, &Var)| match dx {
        Some(dx) => Ok(dx),
        None => Ok(Var::constant(x.value().zeros_like()?)),
    };
    dx.into_iter().zip(&x).map(or_zero).collect()
}

/// The rule at the top of a tower: the vjp of its meaning with respect to the first `inputs` inputs; the rest are caches.
pub(crate) fn vjp_of_meaning(
    meaning: impl Fn(&[Var]) -> Result<Vec<Var>>,
    inputs: usize,
    at: &At<Tensor>,
    ct: &[Option<Var>],
) -> Result<Vec<Option<Var>>> {
    let mut dx: Vec<Option<Var>> = vjp_of(meaning, &at.x[..inputs], ct)?
        .into_iter()
        .map(Some)
        .collect();
    dx.resize(at.x.len(), None);
    Ok(dx)
}

/// A weight as `x` reads it: one of f32 is rounded where x is bf16. Every reading is a cast of its own, so that gradients are summed in
/// f32.
fn read(w: &Var, x: &Var) -> Result<Var> {
    match (x.value().dtype(), w.value().dtype()) {
        (DType::BF16, DType::F32) => cast(w, DType::BF16),
        _ => Ok(w.clone()),
    }
}

/// Which of N inputs or outputs an op has: cotangents that are absent are zero and are never made into buffers, outputs that
/// nobody wants are never computed.
#[derive(Clone, Copy)]
pub(crate) struct Present<const N: usize>([bool; N]);

impl<const N: usize> Present<N> {
    /// The inputs `x` followed by those cotangents that are there.
    fn inputs<'a>(x: &[&'a Var], ct: [&'a Option<Var>; N]) -> (Self, Vec<&'a Var>) {
        let mut all = x.to_vec();
        all.extend(ct.iter().filter_map(|c| c.as_ref()));
        (Present(ct.map(Option::is_some)), all)
    }

    /// Those that are there, back in their places; what follows them in `rest` is ignored.
    fn spread<X: Clone>(&self, rest: &[X]) -> [Option<X>; N] {
        let mut rest = rest.iter();
        self.0
            .map(|there| if there { rest.next().cloned() } else { None })
    }

    /// Those of all N that are there.
    fn select<X>(&self, all: impl IntoIterator<Item = X>) -> Vec<X> {
        let pairs = all.into_iter().zip(self.0);
        pairs.filter(|pair| pair.1).map(|pair| pair.0).collect()
    }

    /// How many are there.
    fn count(&self) -> usize {
        self.0.iter().filter(|there| **there).count()
    }
}
