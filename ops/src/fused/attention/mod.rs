//! Sliding-window causal attention to second order, one op per level.
//!
//! Letters: q, o, do [t, n, h] queries; k, v [tk, m, h] keys and values, tk >= t, n a multiple of m; s = 1/sqrt(h).
//! The queries are the last t of the tk positions; query i sees key j iff j <= i and j > i - window.
//!
//! ```text
//! S = s Q K'          P = softmax(S), kept as lse, one number per row        O = P V
//! dP = dO V'          D = rowsum(P dP)        dS = P (dP - D)
//! dQ = s dS K         dK = s dS' Q            dV = P' dO
//! cotangents A, B, C of dQ, dK, dV:
//! G = s (A K' + Q B')                         gamma = rowsum(P G)            E = P (G - gamma)
//! Pb = G (dP - D) - gamma dP + dO C'          rho = rowsum(P Pb)             Sb = P (Pb - rho)
//! dQ2 = s (Sb K + dS B)   dK2 = s (Sb' Q + dS' A)   dV2 = E' dO   ddO = E V + P C
//! ```
//!
//! lse is a cache of a function of (q, k): no cotangent goes to it, the derivative is the total one. D is summed over the same P
//! and dP that it is taken from, so a query that sees one key alone has gradients of exactly zero.
//!
//! Nothing of size [t, tk] is stored: a block of query rows works on a strip [rows, window + rows] at a time, and only on
//! keys inside the window. Forward is parallel over blocks of rows; the backward passes over key/value heads, each of which
//! sums its dK and dV alone and in a fixed order, so results repeat bit for bit with any number of threads.

mod backward;
mod double_backward;
mod forward;
mod strip;

use autograd::{At, Op, apply};

use super::{Present, vjp_of, vjp_of_meaning};
use crate::dtype::for_float;
use crate::error::{Error, Result};
use crate::{Tensor, Var, derived};
use strip::Geometry;

struct SwaAttention {
    window: usize,
}

impl Op<Tensor> for SwaAttention {
    fn name(&self) -> &'static str {
        "swa_attention"
    }

    /// o, and the cache lse [t, n].
    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let g = Geometry::of(self.name(), x[0], x[1], x[2], self.window)?;
        Ok(for_float!(self.name(), x[0].dtype(), T => {
            forward::forward::<T>(&g, x[0].data(), x[1].data(), x[2].data()).to_vec()
        }))
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let Some(do_) = &ct[0] else {
            return Ok(vec![None, None, None]);
        };
        let [q, k, v] = [&at.x[0], &at.x[1], &at.x[2]];
        let lse = at.y[1].detach();
        let d = swa_attention_bwd(q, k, v, do_, &lse, self.window)?;
        Ok(d.into_iter().map(Some).collect())
    }
}

/// Sliding-window causal attention of queries q [t, n, h] over keys and values [tk, m, h]: [t, n, h]. The queries are the
/// last t positions, so `tk - t` keys come from a cache; each query sees the last `window` positions, its own included.
/// Scores are scaled by 1/sqrt(h). `window >= tk` is full causal attention.
///
/// Source: the equations of FlashAttention (arXiv 2205.14135), windowed, and their double backward.
pub fn swa_attention(q: &Var, k: &Var, v: &Var, window: usize) -> Result<Var> {
    Ok(apply(SwaAttention { window }, &[q, k, v])?.swap_remove(0))
}

struct SwaAttentionBwd {
    window: usize,
}

impl Op<Tensor> for SwaAttentionBwd {
    fn name(&self) -> &'static str {
        "swa_attention_bwd"
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let g = Geometry::of(self.name(), x[0], x[1], x[2], self.window)?;
        Ok(for_float!(self.name(), x[0].dtype(), T => {
            let data = |i: usize| x[i].data::<T>();
            backward::backward(&g, data(0), data(1), data(2), data(3), data(4)).to_vec()
        }))
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let x: Vec<&Var> = at.x.iter().collect();
        let d = swa_attention_bwd_bwd(&x, [&ct[0], &ct[1], &ct[2]], self.window)?;
        let mut d: Vec<Option<Var>> = d.into_iter().map(Some).collect();
        d.resize(5, None); // lse is a cache
        Ok(d)
    }
}

/// [dq, dk, dv].
pub(crate) fn swa_attention_bwd(
    q: &Var,
    k: &Var,
    v: &Var,
    do_: &Var,
    lse: &Var,
    window: usize,
) -> Result<[Var; 3]> {
    let d = apply(SwaAttentionBwd { window }, &[q, k, v, do_, lse])?;
    Ok(d.try_into().expect("three outputs"))
}

struct SwaAttentionBwdBwd {
    window: usize,
    present: Present<3>,
}

/// The meaning of the top level is differentiated on whole score matrices; above this many bytes it refuses.
const MEANING_BUDGET: usize = 2 << 30;

impl Op<Tensor> for SwaAttentionBwdBwd {
    fn name(&self) -> &'static str {
        "swa_attention_bwd_bwd"
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let g = Geometry::of(self.name(), x[0], x[1], x[2], self.window)?;
        let ct = self.present.spread(&x[5..]);
        Ok(for_float!(self.name(), x[0].dtype(), T => {
            let ct = ct.map(|c| c.map(|c| c.data::<T>()));
            let x: [&[T]; 5] = std::array::from_fn(|i| x[i].data());
            double_backward::double_backward(&g, x, ct).to_vec()
        }))
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let (q, k) = (at.x[0].value(), at.x[1].value());
        // about sixty score-sized values are alive at order three
        let bytes = 60 * q.shape()[1] * q.shape()[0] * k.shape()[0] * q.dtype().size();
        if bytes > MEANING_BUDGET {
            let message = format!(
                "a third derivative at q {q:?}, k {k:?} would need about {} MiB; \
                 no fused rule exists at this order: use a shorter chunk or window",
                bytes >> 20
            );
            return Err(Error::shape(self.name(), message));
        }
        let (window, present) = (self.window, self.present);
        let meaning = move |x: &[Var]| {
            let bwd = |x: &[Var]| {
                let y = |x: &[Var]| Ok(vec![derived::swa_attention(&x[0], &x[1], &x[2], window)?]);
                vjp_of(y, &x[..3], &[Some(x[3].clone())])
            };
            vjp_of(bwd, &x[..4], &present.spread(&x[4..]))
        };
        // inputs without the cache lse, which stands at 4
        let without = |x: &[Var]| -> Vec<Var> { [&x[..4], &x[5..]].concat() };
        let short = At {
            x: without(&at.x),
            y: at.y.clone(),
            needs: [&at.needs[..4], &at.needs[5..]].concat(),
        };
        let mut d = vjp_of_meaning(meaning, short.x.len(), &short, ct)?;
        d.insert(4, None);
        Ok(d)
    }
}

/// [dq2, dk2, dv2, ddo] for x = [q, k, v, do, lse] and cotangents of [dq, dk, dv].
pub(crate) fn swa_attention_bwd_bwd(
    x: &[&Var],
    ct: [&Option<Var>; 3],
    window: usize,
) -> Result<[Var; 4]> {
    let (present, x) = Present::inputs(x, ct);
    let d = apply(SwaAttentionBwdBwd { window, present }, &x)?;
    Ok(d.try_into().expect("four outputs"))
}
