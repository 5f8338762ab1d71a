//! A mini-batch read with no tape: the inner step of [`Suffix::step`](crate::suffix::Suffix::step) on values, its backward pass
//! written out.
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

use ops::{Device, Tensor, values};

use super::base::{Base, fast_mlp, matrices};
use super::options::Options;
use super::state::State;
use crate::weights::{Attention, Fast, Mlp};
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

impl Base {
    /// Scores one whole mini-batch x [b, d] of the prefix, whose rotations are `angles`, and takes one inner step on it, in place
    /// of the state's fast weights: losses `[b]` under the weights from before the step. The caches of the suffix stand at the
    /// start of the mini-batch, and at its end afterwards.
    pub(super) fn step(
        &self,
        x: &Tensor,
        angles: &[Tensor; 2],
        targets: &[u32],
        state: &mut State,
        options: &Options,
        ttt: &Ttt,
    ) -> Result<Tensor> {
        let first_fast = self.config.first_fast();
        let (mut x, mut kept) = (x.clone(), vec![]);
        for (j, w) in self.weights.blocks[first_fast..].iter().enumerate() {
            let attention = match j {
                0 => None,
                _ => {
                    let (y, attention) =
                        self.keeping_attention(first_fast + j, x, angles, state)?;
                    x = y;
                    Some(attention)
                }
            };
            let (y, fast) = self.keeping_mlp(fast_mlp(w), state.fast[j].each(), x)?;
            let (y, mlp) = self.keeping_mlp(&w.mlp, matrices(&w.mlp), y)?;
            x = y;
            kept.push(BlockKept {
                attention,
                fast,
                mlp,
            });
        }
        let y = self.last_norm(&x)?;
        let targets: Arc<[u32]> = targets.into();
        let [nll, mut dy] = values::linear_cross_entropy(&y, self.head(), &targets)?;
        if let Some(quantile) = options.surprise {
            let losses = nll.to(Device::Cpu)?.to_f64s();
            let mean = losses.iter().sum::<f64>() / losses.len() as f64;
            if !state.surprise.surprises(mean, quantile) {
                return Ok(nll);
            }
        }
        dy.scale_assign(1.0 / nll.len() as f64)?;
        let dx = values::rms_norm_bwd(&x, &self.weights.norm, &dy, self.config.rms_norm_eps)?;
        drop((x, y, dy));
        let learners = options.learners(&self.config);
        let fast = &mut state.fast[..];
        let g = self.backward(kept, fast, angles, dx, learners)?;
        let decay = options.decay.map_or(1.0, |n| 1.0 + state.steps as f64 / n);
        update(&mut fast[..learners], &g, ttt, decay)?;
        state.steps += 1;
        Ok(nll)
    }

    /// The gradients of the fast matrices of the first `learners` fast layers, last block first.
    fn backward(
        &self,
        kept: Vec<BlockKept>,
        fast: &[Fast<Tensor>],
        angles: &[Tensor; 2],
        mut dx: Tensor,
        learners: usize,
    ) -> Result<Vec<Fast<Tensor>>> {
        let mut g = vec![];
        let blocks = &self.weights.blocks[self.config.first_fast()..];
        for (j, kept) in kept.into_iter().enumerate().rev() {
            let (w, m) = (&blocks[j], &fast[j]);
            let by_x = [true, false, false, false];
            self.mlp_bwd(&w.mlp, matrices(&w.mlp), kept.mlp, &mut dx, by_x)?;
            let learns = j < learners;
            let needs = [kept.attention.is_some(), learns, learns, learns];
            let dw = self.mlp_bwd(fast_mlp(w), m.each(), kept.fast, &mut dx, needs)?;
            if learns {
                let [gate, up, down] = dw.map(|dw| dw.expect("asked for"));
                g.push(Fast { gate, up, down });
            }
            if let Some(kept) = kept.attention {
                self.attention_bwd(&w.attention, kept, angles, &mut dx)?;
            }
        }
        Ok(g)
    }

    fn keeping_mlp(
        &self,
        w: &Mlp<Tensor>,
        m: [&Tensor; 3],
        x: Tensor,
    ) -> Result<(Tensor, MlpKept)> {
        let y = self.norm(&x, &w.norm)?;
        let [z, g, u] = values::swiglu_mlp(&y, m)?;
        let next = self.residual(&x, &z, &w.post_norm)?;
        let inner = [g, u];
        Ok((next, MlpKept { x, y, inner, z }))
    }

    /// Those of [dgate, dup, ddown] that `needs` asks for; dx gains what comes through the MLP if it asks for that, the first.
    fn mlp_bwd(
        &self,
        w: &Mlp<Tensor>,
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

    /// Attention of block i over its cache, which takes in the keys and values of the mini-batch.
    fn keeping_attention(
        &self,
        i: usize,
        x: Tensor,
        angles: &[Tensor; 2],
        state: &mut State,
    ) -> Result<(Tensor, AttentionKept)> {
        let w = &self.weights.blocks[i].attention;
        let [q, k, v] = self.projections(w, &x)?;
        let rotated_q = self.rotated(&q, &w.q_norm, angles)?;
        let cache = &mut state.caches[i];
        cache.push(&self.rotated(&k, &w.k_norm, angles)?, &v, 0)?;
        let t = x.shape()[0];
        let (cached, current) = (cache.before(t)?, cache.last(t)?);
        let attended = values::swa_attention(
            &rotated_q,
            cached.each_ref(),
            current.each_ref(),
            cache.window(),
        )?;
        let z = values::linear(&attended[0], &w.o)?;
        let next = self.residual(&x, &z, &w.post_norm)?;
        let kept = AttentionKept {
            x,
            q,
            k,
            rotated_q,
            cached,
            current,
            attended,
            window: cache.window(),
            z,
        };
        Ok((next, kept))
    }

    /// dx gains what comes through attention.
    fn attention_bwd(
        &self,
        w: &Attention<Tensor>,
        kept: AttentionKept,
        [cos, sin]: &[Tensor; 2],
        dx: &mut Tensor,
    ) -> Result<()> {
        let dz = self.norm_bwd(&kept.z, &w.post_norm, dx.clone())?;
        let do_ = values::linear_bwd(&[(&dz, &w.o)])?.reshape(kept.q.shape())?;
        let [dq, dk, dv] = values::swa_attention_bwd(
            &kept.rotated_q,
            kept.cached.each_ref(),
            kept.current.each_ref(),
            kept.window,
            &do_,
            kept.attended.each_ref(),
        )?;
        let dq = self.norm_bwd(&kept.q, &w.q_norm, values::rope_bwd(&dq, cos, sin)?)?;
        let dk = self.norm_bwd(&kept.k, &w.k_norm, values::rope_bwd(&dk, cos, sin)?)?;
        let dy = values::linear_bwd(&[(&dq, &w.q), (&dk, &w.k), (&dv, &w.v)])?;
        drop(dz);
        dx.add_assign(&self.norm_bwd(&kept.x, &w.norm, dy)?)?;
        Ok(())
    }
}

/// W <- W - s g with s = eta min(1, c / |g|) / decay and the norm over all matrices together; g is last block first.
fn update(fast: &mut [Fast<Tensor>], g: &[Fast<Tensor>], ttt: &Ttt, decay: f64) -> Result<()> {
    let (eta, c) = (ttt.inner_learning_rate / decay, ttt.inner_clip_norm);
    let mut w: Vec<&mut Tensor> = fast.iter_mut().flat_map(Fast::each_mut).collect();
    let g: Vec<&Tensor> = g.iter().rev().flat_map(Fast::each).collect();
    Ok(values::inner_update(&mut w, &g, eta, c)?)
}
