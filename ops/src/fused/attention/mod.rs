//! Sliding-window causal attention to second order, one op per level.
//!
//! Letters: q, o, do [t, n, h] queries; k, v [t, m, h] current and [c, m, h] cached keys and values, n a multiple of m;
//! s = 1/sqrt(h). Query i stands at position c + i, behind the cache; it sees position j iff j <= c + i and j > c + i - window.
//! K and V below are cached and current keys together.
//!
//! ```text
//! S = s Q K'          P = softmax(S), kept as lse, one number per row        O = P V
//! dP = dO V'          D = rowsum(P dP) = rowsum(dO O)                        dS = P (dP - D)
//! dQ = s dS K         dK = s dS' Q            dV = P' dO
//! cotangents A, B, C of dQ, dK, dV:
//! G = s (A K' + Q B')                         gamma = rowsum(P G)            E = P (G - gamma)
//! Pb = G (dP - D) - gamma dP + dO C'          rho = rowsum(P Pb)             Sb = P (Pb - rho)
//! dQ2 = s (Sb K + dS B)   dK2 = s (Sb' Q + dS' A)   dV2 = E' dO   ddO = E V + P C
//! ```
//!
//! lse and o are caches of functions of (q, k, v): no cotangent goes to them, the derivative is the total one.
//!
//! In test-time training the cached keys are constants of the inner gradient: the sweep does not ask for their cotangents, so
//! the backward op is built without them and the double backward has no B and C there. Products per query and visible key:
//!
//! | | cached | current |
//! |---|---|---|
//! | forward: S, O | 2 | 2 |
//! | inner backward: S, dP, dQ; dK, dV | 3 | 5 |
//! | double backward: S, dP, AK', SbK, Sb'Q, dS'A, E'dO, EV; QB', dOC', dSB, PC | 8 | 12 |
//! | outer backward | 5 | 5 |
//! | together | 18 | 24 |
//!
//! Nothing of size [t, c + t] is stored. Forward and backward hold one tile of scores at a time, the double backward the strips
//! of one block of rows; only tiles inside the window are touched. Every key/value head is cut into runs of query rows, for as
//! many threads as there are; each run sums its dK and dV alone, and runs are added in a fixed order. The cut depends on the
//! shapes alone, so results repeat bit for bit with any number of threads.

mod backward;
mod double_backward;
mod few;
mod forward;
mod geometry;
mod slab;

use std::ops::Range;

use autograd::{At, Cost, Op, apply};

use super::{Present, vjp_of, vjp_of_meaning};
use crate::dtype::{Float, for_float};
use crate::error::{Error, Result};
use crate::{Tensor, Var, cuda, derived, par};
use geometry::Geometry;

/// Queries, and keys and values of the cache and current ones.
struct Inputs<'a, T> {
    q: &'a [T],
    k: [&'a [T]; 2],
    v: [&'a [T]; 2],
}

impl<'a, T: Float> Inputs<'a, T> {
    fn of(x: &[&'a Tensor]) -> Self {
        let [q, cached_k, cached_v, k, v] = std::array::from_fn(|i| x[i].data());
        Inputs {
            q,
            k: [cached_k, k],
            v: [cached_v, v],
        }
    }
}

/// What the forward op leaves for the backward ones.
struct Caches<'a, T> {
    o: &'a [T],
    lse: &'a [T],
}

impl<T: Float> Caches<'_, T> {
    /// D = rowsum(dO O) of one head in a block of rows.
    fn row_sums(&self, g: &Geometry, do_: &[T], block: &Range<usize>, head: usize, d: &mut [T]) {
        par::simd(
            #[inline(always)]
            || {
                for (d, i) in d.iter_mut().zip(block.clone()) {
                    *d = par::dot(g.query_row(do_, i, head), g.query_row(self.o, i, head));
                }
            },
        );
    }
}

pub(super) struct SwaAttention {
    pub(super) window: usize,
}

impl Op<Tensor> for SwaAttention {
    fn name(&self) -> &'static str {
        "swa_attention"
    }
    fn cost(&self) -> Cost {
        Cost::Dear
    }

    /// o, and the cache lse [t, n].
    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let g = Geometry::of(self.name(), x, self.window)?;
        if let Some(cuda) = cuda::of(self.name(), x.iter().copied())? {
            return cuda.swa_attention(x, self.window);
        }
        Ok(for_float!(self.name(), x[0].dtype(), T => {
            let x = Inputs::<T>::of(x);
            match g.t <= few::FEW {
                true => few::forward(&g, &x),
                false => forward::forward(&g, &x),
            }.to_vec()
        }))
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let Some(do_) = &ct[0] else {
            return Ok(vec![None; 5]);
        };
        let caches = [at.y[0].detach(), at.y[1].detach()];
        let mut x: Vec<&Var> = at.x.iter().collect();
        x.extend([do_, &caches[0], &caches[1]]);
        let wanted = Present(std::array::from_fn(|i| at.needs[i]));
        Ok(swa_attention_bwd(&x, self.window, wanted)?.into())
    }
}

/// Sliding-window causal attention of queries q [t, n, h] over `cached` keys and values [c, m, h] each, and `current` ones
/// [t, m, h]: [t, n, h]. The queries stand at the positions of the current keys, after the c cached ones (c may be 0); each
/// sees the last `window` positions, its own included. n is a multiple of m (grouped queries). Scores are scaled by 1/sqrt(h).
/// `window >= c + t` is full causal attention. All in one dtype, f32 or f64.
///
/// A gradient that does not ask for the cached keys costs three products per cached key instead of five.
///
/// Source: the equations of FlashAttention (arXiv 2205.14135), windowed, and their double backward.
pub fn swa_attention(q: &Var, cached: [&Var; 2], current: [&Var; 2], window: usize) -> Result<Var> {
    let x = [q, cached[0], cached[1], current[0], current[1]];
    Ok(apply(SwaAttention { window }, &x)?.swap_remove(0))
}

pub(super) struct SwaAttentionBwd {
    pub(super) window: usize,
    /// Which of [dq, dk, dv of the cache, dk, dv] are outputs.
    pub(super) wanted: Present<5>,
}

impl Op<Tensor> for SwaAttentionBwd {
    fn name(&self) -> &'static str {
        "swa_attention_bwd"
    }
    fn cost(&self) -> Cost {
        Cost::Dear
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let g = Geometry::of(self.name(), x, self.window)?;
        if let Some(cuda) = cuda::of(self.name(), x.iter().copied())? {
            return cuda.swa_attention_bwd(x, self.window, self.wanted.0);
        }
        Ok(for_float!(self.name(), x[0].dtype(), T => {
            let caches = Caches { o: x[6].data(), lse: x[7].data() };
            let d = backward::backward::<T>(&g, &Inputs::of(x), x[5].data(), &caches, self.wanted.0);
            d.into_iter().flatten().collect()
        }))
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let x: Vec<&Var> = at.x.iter().collect();
        let ct = self.wanted.spread(ct).map(Option::flatten);
        let wanted = Present(std::array::from_fn(|i| at.needs[i]));
        let mut d = swa_attention_bwd_bwd(&x, &ct, self.window, self.wanted, wanted)?.to_vec();
        d.extend([None, None]); // o and lse are caches
        Ok(d)
    }
}

/// Those of [dq, dk, dv of the cache, dk, dv] that are wanted, for x = [q, k, v of the cache, k, v, do, o, lse].
fn swa_attention_bwd(x: &[&Var], window: usize, wanted: Present<5>) -> Result<[Option<Var>; 5]> {
    Ok(wanted.spread(&apply(SwaAttentionBwd { window, wanted }, x)?))
}

struct SwaAttentionBwdBwd {
    window: usize,
    /// The outputs of the op below.
    below: Present<5>,
    /// Which of their cotangents are there.
    present: Present<5>,
    /// Which of [dq2, dk2, dv2 of the cache, dk2, dv2, ddo] are outputs.
    wanted: Present<6>,
}

/// The meaning of the top level is differentiated on whole score matrices; above this many bytes it refuses.
const MEANING_BUDGET: usize = 2 << 30;

impl Op<Tensor> for SwaAttentionBwdBwd {
    fn name(&self) -> &'static str {
        "swa_attention_bwd_bwd"
    }
    fn cost(&self) -> Cost {
        Cost::Dear
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let g = Geometry::of(self.name(), x, self.window)?;
        let ct = self.present.spread(&x[8..]);
        if let Some(cuda) = cuda::of(self.name(), x.iter().copied())? {
            return cuda.swa_attention_bwd_bwd(x, self.window, ct, self.wanted.0);
        }
        Ok(for_float!(self.name(), x[0].dtype(), T => {
            let ct = ct.map(|c| c.map(|c| c.data::<T>()));
            let caches = Caches { o: x[6].data(), lse: x[7].data() };
            let inputs = Inputs::of(x);
            let d = double_backward::double_backward(
                &g, &inputs, x[5].data(), &caches, ct, self.wanted.0,
            );
            d.into_iter().flatten().collect()
        }))
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let (q, cached, k) = (at.x[0].value(), at.x[1].value(), at.x[3].value());
        // about sixty score-sized values are alive at order three
        let positions = cached.shape()[0] + k.shape()[0];
        let bytes = 60 * q.shape()[1] * q.shape()[0] * positions * q.dtype().size();
        if bytes > MEANING_BUDGET {
            let message = format!(
                "a third derivative at q {q:?}, cached k {cached:?}, k {k:?} would need about {} MiB; \
                 no fused rule exists at this order: use a shorter chunk or window",
                bytes >> 20
            );
            return Err(Error::shape(self.name(), message));
        }
        let meaning = |x: &[Var]| {
            let bwd = |x: &[Var]| {
                let y = |x: &[Var]| {
                    let (cached, current) = ([&x[1], &x[2]], [&x[3], &x[4]]);
                    Ok(vec![derived::swa_attention(
                        &x[0],
                        cached,
                        current,
                        self.window,
                    )?])
                };
                Ok(self
                    .below
                    .select(vjp_of(y, &x[..5], &[Some(x[5].clone())])?))
            };
            let ct = self.below.select(self.present.spread(&x[6..]));
            Ok(self.wanted.select(vjp_of(bwd, &x[..6], &ct)?))
        };
        // inputs without the caches o and lse, which stand at 6 and 7
        let without = At {
            x: [&at.x[..6], &at.x[8..]].concat(),
            y: at.y.clone(),
            needs: [&at.needs[..6], &at.needs[8..]].concat(),
        };
        let mut d = vjp_of_meaning(meaning, without.x.len(), &without, ct)?;
        d.splice(6..6, [None, None]);
        Ok(d)
    }
}

/// Those of [dq2, dk2, dv2 of the cache, dk2, dv2, ddo] that are wanted, for x as in [`swa_attention_bwd`] and cotangents of
/// its outputs, which are those in `below`.
fn swa_attention_bwd_bwd(
    x: &[&Var],
    ct: &[Option<Var>; 5],
    window: usize,
    below: Present<5>,
    wanted: Present<6>,
) -> Result<[Option<Var>; 6]> {
    let (present, x) = Present::inputs(x, ct.each_ref());
    let op = SwaAttentionBwdBwd {
        window,
        below,
        present,
        wanted,
    };
    Ok(wanted.spread(&apply(op, &x)?))
}
