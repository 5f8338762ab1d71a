//! A mini-batch read with no tape: the inner step of [`Suffix::step`] on values, its backward pass written out.
//!
//! ```text
//! each block     x <- x + norm(attn(norm(x)))       but for the first block, where it belongs to the prefix
//!                x <- x + norm(fast(norm(x)))
//!                x <- x + norm(mlp(norm(x)))
//! at the end     nll, and r, the gradient of nll_i by row i of norm(x): that of the mean is r/b
//! back           through the blocks, last to first
//! then           W <- W - eta min(1, c / |dW|) dW   in place
//! ```
//!
//! The backward pass gives the gradients of the fast matrices and nothing else: none of weights that do not learn, none of keys and
//! values of earlier mini-batches. It ends at the fast MLP of the first block, because nothing before it learns. `d` + name is
//! the gradient by that name; dx is the gradient by the x that runs through all blocks.

use std::sync::Arc;

use ops::{Tensor, Var, values};

use crate::block::KeyValues;
use crate::suffix::Suffix;
use crate::weights::{Attention, Block, Fast, Mlp};
use crate::{Result, Ttt};

/// What the backward pass needs of a block.
struct BlockKept {
    /// `None` in the first block.
    attention: Option<AttentionKept>,
    fast: MlpKept,
    mlp: MlpKept,
}

/// y = norm(x); g and u of y; z of g and u; norm(z) is added to x.
struct MlpKept {
    x: Tensor,
    y: Tensor,
    inner: [Tensor; 2],
    z: Tensor,
}

/// q, k and v of norm(x); o of q and k, normed and rotated, and v; z of o; norm(z) is added to x.
struct AttentionKept {
    x: Tensor,
    q: Tensor,
    k: Tensor,
    rotated_q: Tensor,
    /// Rotated keys, and values, of earlier mini-batches.
    cached: [Tensor; 2],
    /// Those of this one.
    current: [Tensor; 2],
    /// o and lse.
    attended: [Tensor; 2],
    /// Keys a query sees.
    window: usize,
    z: Tensor,
}

impl Suffix {
    /// Scores one mini-batch x [b, d] and takes one inner step on it, in place of `fast`: losses `[b]` under the weights from
    /// before the step, and the caches for what comes next.
    pub(crate) fn read(
        &self,
        x: &Tensor,
        targets: &Arc<[u32]>,
        fast: &mut [Fast<Tensor>],
        caches: &[KeyValues],
        ttt: &Ttt,
    ) -> Result<(Tensor, Vec<KeyValues>)> {
        let (mut x, mut next, mut kept) = (x.clone(), vec![], vec![]);
        for (j, (w, m)) in self.blocks.iter().zip(&*fast).enumerate() {
            let attention = match j.checked_sub(1) {
                None => None,
                Some(before) => {
                    let (cache, window) = (&caches[before], self.window_of(j));
                    let (y, attention, cache) = self.attention(&w.attention, x, cache, window)?;
                    x = y;
                    next.push(cache);
                    Some(attention)
                }
            };
            let (y, fast) = self.mlp(fast_norms(w), m.each(), x)?;
            let (y, mlp) = self.mlp(&w.mlp, matrices(&w.mlp), y)?;
            x = y;
            kept.push(BlockKept {
                attention,
                fast,
                mlp,
            });
        }
        let norm = Some(self.norm.clone());
        let y = self.norm(&x, &norm)?;
        let [nll, mut dy] = values::linear_cross_entropy(&y, self.head.value(), targets)?;
        dy.scale_assign(1.0 / nll.len() as f64)?;
        let dx = self.norm_bwd(&x, &norm, dy)?;
        drop((x, y));
        let g = self.backward(kept, fast, dx)?;
        update(fast, &g, ttt)?;
        Ok((nll, next))
    }

    /// The gradients of the fast matrices, last block first.
    fn backward(
        &self,
        kept: Vec<BlockKept>,
        fast: &[Fast<Tensor>],
        mut dx: Tensor,
    ) -> Result<Vec<Fast<Tensor>>> {
        let mut g = vec![];
        for ((w, m), kept) in self.blocks.iter().zip(fast).zip(kept).rev() {
            let by_x = [true, false, false, false];
            self.mlp_bwd(&w.mlp, matrices(&w.mlp), kept.mlp, &mut dx, by_x)?;
            let by_all = [kept.attention.is_some(), true, true, true];
            let dw = self.mlp_bwd(fast_norms(w), m.each(), kept.fast, &mut dx, by_all)?;
            let [gate, up, down] = dw.map(|dw| dw.expect("asked for"));
            g.push(Fast { gate, up, down });
            if let Some(kept) = kept.attention {
                self.attention_bwd(&w.attention, kept, &mut dx)?;
            }
        }
        Ok(g)
    }

    /// RMSNorm if there is a weight for it.
    fn norm(&self, x: &Tensor, w: &Option<Var>) -> Result<Tensor> {
        Ok(match w {
            None => x.clone(),
            Some(w) => values::rms_norm(x, w.value(), self.config.rms_norm_eps)?,
        })
    }

    fn norm_bwd(&self, x: &Tensor, w: &Option<Var>, dy: Tensor) -> Result<Tensor> {
        Ok(match w {
            None => dy,
            Some(w) => values::rms_norm_bwd(x, w.value(), &dy, self.config.rms_norm_eps)?,
        })
    }

    /// x + norm(z).
    fn residual(&self, x: &Tensor, z: &Tensor, w: &Option<Var>) -> Result<Tensor> {
        let mut y = self.norm(z, w)?;
        y.add_assign(x)?;
        Ok(y)
    }

    fn mlp(&self, w: &Mlp<Var>, m: [&Tensor; 3], x: Tensor) -> Result<(Tensor, MlpKept)> {
        let y = self.norm(&x, &w.norm)?;
        let [z, g, u] = values::swiglu_mlp(&y, m)?;
        let next = self.residual(&x, &z, &w.post_norm)?;
        let inner = [g, u];
        Ok((next, MlpKept { x, y, inner, z }))
    }

    /// Those of [dgate, dup, ddown] that `needs` asks for; dx gains what comes through the MLP if it asks for that, the first.
    fn mlp_bwd(
        &self,
        w: &Mlp<Var>,
        m: [&Tensor; 3],
        kept: MlpKept,
        dx: &mut Tensor,
        needs: [bool; 4],
    ) -> Result<[Option<Tensor>; 3]> {
        let MlpKept { x, y, inner, z } = kept;
        let dz = self.norm_bwd(&z, &w.post_norm, dx.clone())?;
        let d = values::swiglu_mlp_bwd(&y, m, inner.each_ref(), &dz, needs)?;
        let [dy, dgate, dup, ddown] = d;
        drop(dz);
        if let Some(dy) = dy {
            dx.add_assign(&self.norm_bwd(&x, &w.norm, dy)?)?;
        }
        Ok([dgate, dup, ddown])
    }

    fn attention(
        &self,
        w: &Attention<Var>,
        x: Tensor,
        cache: &KeyValues,
        window: usize,
    ) -> Result<(Tensor, AttentionKept, KeyValues)> {
        let (t, h) = (x.shape()[0], self.config.head_dim());
        let y = self.norm(&x, &w.norm)?;
        let heads = |w: &Var, n: usize| values::linear(&y, w.value())?.reshape(&[t, n, h]);
        let q = heads(&w.q, self.config.num_attention_heads)?;
        let k = heads(&w.k, self.config.kv_heads())?;
        let v = heads(&w.v, self.config.kv_heads())?;
        let normed_k = self.norm(&k, &w.k_norm)?;
        let rotate = |x: &Tensor, start: usize| {
            let [cos, sin] = self.rotary.tables(start, x.shape()[0])?;
            Ok::<_, crate::Error>(values::rope(x, &cos, &sin)?)
        };
        let rotated_q = rotate(&self.norm(&q, &w.q_norm)?, cache.len())?;
        let cached = [rotate(cache.k.value(), 0)?, cache.v.value().clone()];
        let current = [rotate(&normed_k, cache.len())?, v.clone()];
        let attended =
            values::swa_attention(&rotated_q, cached.each_ref(), current.each_ref(), window)?;
        let z = values::linear(&attended[0], w.o.value())?;
        let next = self.residual(&x, &z, &w.post_norm)?;
        let own = KeyValues {
            k: Var::constant(normed_k),
            v: Var::constant(v),
        };
        let cache = cache.then(&own, window)?;
        let kept = AttentionKept {
            x,
            q,
            k,
            rotated_q,
            cached,
            current,
            attended,
            window,
            z,
        };
        Ok((next, kept, cache))
    }

    /// dx gains what comes through attention.
    fn attention_bwd(
        &self,
        w: &Attention<Var>,
        kept: AttentionKept,
        dx: &mut Tensor,
    ) -> Result<()> {
        let dz = self.norm_bwd(&kept.z, &w.post_norm, dx.clone())?;
        let do_ = values::linear_bwd(&[(&dz, w.o.value())])?.reshape(kept.q.shape())?;
        let [dq, dk, dv] = values::swa_attention_bwd(
            &kept.rotated_q,
            kept.cached.each_ref(),
            kept.current.each_ref(),
            kept.window,
            &do_,
            kept.attended.each_ref(),
        )?;
        let [cos, sin] = self
            .rotary
            .tables(kept.cached[0].shape()[0], dq.shape()[0])?;
        let dq = self.norm_bwd(&kept.q, &w.q_norm, values::rope_bwd(&dq, &cos, &sin)?)?;
        let dk = self.norm_bwd(&kept.k, &w.k_norm, values::rope_bwd(&dk, &cos, &sin)?)?;
        let projections = [(&dq, w.q.value()), (&dk, w.k.value()), (&dv, w.v.value())];
        let dy = values::linear_bwd(&projections)?;
        drop(dz);
        dx.add_assign(&self.norm_bwd(&kept.x, &w.norm, dy)?)?;
        Ok(())
    }
}

/// The norms of a fast MLP.
fn fast_norms(w: &Block<Var>) -> &Mlp<Var> {
    let fast = w.fast.as_ref();
    fast.expect("every block of the suffix has a fast MLP")
}

/// Those of a static MLP.
fn matrices(w: &Mlp<Var>) -> [&Tensor; 3] {
    [&w.gate, &w.up, &w.down].map(Var::value)
}

/// W <- W - s g with s = eta min(1, c / |g|) and the norm over all matrices together; g is last block first.
fn update(fast: &mut [Fast<Tensor>], g: &[Fast<Tensor>], ttt: &Ttt) -> Result<()> {
    let mut square = 0.0;
    for g in g.iter().flat_map(Fast::each) {
        square += g.sum_of_squares()?;
    }
    let (eta, c) = (ttt.inner_learning_rate, ttt.inner_clip_norm);
    let s = match c > 0.0 && square > c * c {
        true => eta * c / square.sqrt(),
        false => eta,
    };
    for (w, g) in fast.iter_mut().zip(g.iter().rev()) {
        for (w, g) in w.each_mut().into_iter().zip(g.each()) {
            values::sgd_update(w, g, s)?;
        }
    }
    Ok(())
}
