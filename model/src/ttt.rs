//! Test-time training end to end: the inner loop, and the loss whose exact gradient is the meta-gradient.
//!
//! For mini-batch i = 1 .. T/b with fast weights W (all fast MLP matrices):
//!
//! ```text
//! l_i = mean next-token cross-entropy over the b tokens of mini-batch i, computed with W_{i-1}
//! g_i = dl_i / dW_{i-1}              keys and values cached from earlier mini-batches are constants here
//! s_i = eta min(1, c / |g_i|)        global norm over all fast matrices together
//! W_i = W_{i-1} - s_i g_i
//! L   = mean over all tokens of the losses above, each taken before the update that uses it
//! ```
//!
//! The gradient of L flows through every g_i, through the clipping, and through the cached keys and values that later
//! mini-batches read. The first L - S blocks and the attention of the first fast block come before every fast weight, so
//! they run once over the whole sequence ([`Net::prefix`]); what remains of a mini-batch is the [`Suffix`].
//!
//! Source: "End-to-End Test-Time Training for Long Context", arXiv 2512.23675.

use std::rc::Rc;
use std::sync::Arc;

use ops::derived::clip_factor;
use ops::{
    DType, Tensor, Var, checkpoint, concat, gather, grad, linear, linear_cross_entropy, rms_norm,
    scale, sgd_update, slice, sum_all,
};

use crate::block::{KeyValues, Rotary, attention, mlp};
use crate::weights::{Block, Fast, Weights};
use crate::{Config, Error, Result, Ttt};

/// How a sequence is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Take inner steps. Off: the fast weights stay as they are.
    pub learn: bool,
    /// Treat every g_i as a constant of the outer gradient: cheaper and not exact.
    pub first_order: bool,
    /// Record nothing inside blocks and inner steps; compute them again in the backward pass. Memory then does not grow with
    /// the depth of the prefix or the number of recorded inner steps.
    pub recompute: bool,
    /// Factor on eta (the warm-up of the inner learning rate).
    pub inner_lr_scale: f64,
}

impl Default for Reading {
    fn default() -> Self {
        Reading {
            learn: true,
            first_order: false,
            recompute: false,
            inner_lr_scale: 1.0,
        }
    }
}

/// A model whose weights are variables: constants to read with, leaves to train.
pub struct Net {
    config: Rc<Config>,
    /// The parameters theta.
    pub weights: Weights<Var>,
    rotary: Rotary,
}

/// What one sequence gives.
pub struct Outcome {
    /// L: mean negative log-likelihood in nats, a scalar.
    pub loss: Var,
    /// Negative log-likelihood of each token before the update that uses it `[T]`.
    pub nll: Tensor,
    /// Fast weights after the last mini-batch.
    pub fast: Vec<Fast<Var>>,
}

impl Net {
    /// A net that can read sequences of up to `length` tokens at once.
    pub fn new(config: &Config, weights: Weights<Var>, length: usize) -> Result<Self> {
        let dtype = weights.embed.value().dtype();
        // a mini-batch is rotated by its place behind the keys still in the window, fewer than `length` of them
        let rotary = Rotary::new(config, length, dtype)?;
        let config = Rc::new(config.clone());
        Ok(Net {
            config,
            weights,
            rotary,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn dtype(&self) -> DType {
        self.weights.embed.value().dtype()
    }

    /// Caches of the prefix or of the suffix at the start of a text.
    pub fn empty_caches(&self, count: usize) -> Vec<KeyValues> {
        vec![KeyValues::empty(&self.config, self.dtype()); count]
    }

    /// Number of attentions that come before every fast weight.
    pub fn prefix_attentions(&self) -> usize {
        (self.config.first_fast() + 1).min(self.config.num_hidden_layers)
    }

    /// Embedding, the first L - S blocks, and the attention of the first fast block: ids `[t]` to [t, d].
    pub fn prefix(
        &self,
        ids: &Arc<[u32]>,
        caches: &[KeyValues],
        recompute: bool,
    ) -> Result<(Var, Vec<KeyValues>)> {
        let first_fast = self.config.first_fast();
        let mut x = gather(&self.weights.embed, ids)?;
        let mut next = vec![];
        for (i, cache) in caches.iter().enumerate() {
            let w = &self.weights.blocks[i];
            let whole = i < first_fast;
            let (config, rotary) = (self.config.clone(), self.rotary.clone());
            let run = move |w: &Block<Var>, x: &Var, cache: &KeyValues| {
                let (x, cache) = attention(&config, &rotary, &w.attention, x, cache)?;
                let x = match whole {
                    true => mlp(&config, &w.mlp, &w.mlp.matrices(), &x)?,
                    false => x,
                };
                Ok::<_, Error>((x, cache))
            };
            let (y, cache) = match recompute {
                true => recomputed_block(run, w, &x, cache)?,
                false => run(w, &x, cache)?,
            };
            x = y;
            next.push(cache);
        }
        Ok((x, next))
    }

    /// What a mini-batch needs of the model after the prefix.
    pub fn suffix(&self) -> Suffix {
        Suffix {
            config: self.config.clone(),
            rotary: self.rotary.clone(),
            blocks: self.weights.blocks[self.config.first_fast()..].to_vec(),
            norm: self.weights.norm.clone(),
            head: self
                .weights
                .head
                .as_ref()
                .unwrap_or(&self.weights.embed)
                .clone(),
        }
    }

    /// Reads ids [T + 1]: predicts the last T of them from the first T. The outer loss and what came with it.
    pub fn read(&self, ids: &[u32], reading: &Reading) -> Result<Outcome> {
        let t = ids.len().saturating_sub(1);
        if t == 0 {
            let message = "a sequence needs at least two tokens: one to read, one to predict";
            return Err(Error::setting("tokens", ids.len(), message));
        }
        let ttt = self
            .config
            .ttt
            .as_ref()
            .filter(|_| reading.learn && self.config.fast_layers() > 0);
        let b = ttt.map_or(t, |ttt| ttt.mini_batch_size);
        let inputs: Arc<[u32]> = ids[..t].into();
        let caches = self.empty_caches(self.prefix_attentions());
        let (h, _) = self.prefix(&inputs, &caches, reading.recompute)?;
        let suffix = self.suffix();
        let mut fast = self.weights.fast();
        let mut caches = self.empty_caches(suffix.attentions());
        let mut nll = vec![];
        for start in (0..t).step_by(b) {
            let end = (start + b).min(t);
            let x = slice(&h, 0, start, end)?;
            let targets: Arc<[u32]> = ids[start + 1..end + 1].into();
            // a last mini-batch shorter than b is scored and changes nothing
            let ttt = ttt.filter(|_| end - start == b);
            let step = suffix.step(&x, &targets, &fast, &caches, ttt, reading)?;
            nll.push(step.nll);
            (fast, caches) = (step.fast, step.caches);
        }
        let nll = concat(&nll.iter().collect::<Vec<_>>(), 0)?;
        Ok(Outcome {
            loss: scale(&sum_all(&nll)?, 1.0 / t as f64)?,
            nll: nll.value().clone(),
            fast,
        })
    }
}

/// The part of the model that mini-batches go through one after the other.
pub struct Suffix {
    config: Rc<Config>,
    rotary: Rotary,
    blocks: Vec<Block<Var>>,
    norm: Var,
    head: Var,
}

/// One mini-batch read.
pub struct Step {
    /// Negative log-likelihood of each token under the weights from before the step `[b]`.
    pub nll: Var,
    /// Fast weights after the step.
    pub fast: Vec<Fast<Var>>,
    /// Keys and values for the next mini-batch.
    pub caches: Vec<KeyValues>,
}

impl Suffix {
    /// Attentions inside the suffix: that of the first fast block belongs to the prefix.
    pub fn attentions(&self) -> usize {
        self.blocks.len().saturating_sub(1)
    }

    /// What the output matrix reads [t, d] after x [t, d] under fast weights, and the caches for what comes next.
    fn hidden(
        &self,
        x: &Var,
        fast: &[Fast<Var>],
        caches: &[KeyValues],
    ) -> Result<(Var, Vec<KeyValues>)> {
        let config = &self.config;
        let (mut x, mut next) = (x.clone(), vec![]);
        for (j, w) in self.blocks.iter().enumerate() {
            if j > 0 {
                let (y, cache) = attention(config, &self.rotary, &w.attention, &x, &caches[j - 1])?;
                x = y;
                next.push(cache);
            }
            if let Some(norms) = &w.fast {
                x = mlp(config, norms, &fast[j], &x)?;
            }
            x = mlp(config, &w.mlp, &w.mlp.matrices(), &x)?;
        }
        Ok((rms_norm(&x, &self.norm, config.rms_norm_eps)?, next))
    }

    /// Logits [t, V] of x [t, d] under fast weights, and the caches for what comes next.
    pub fn logits(
        &self,
        x: &Var,
        fast: &[Fast<Var>],
        caches: &[KeyValues],
    ) -> Result<(Var, Vec<KeyValues>)> {
        let (x, next) = self.hidden(x, fast, caches)?;
        Ok((linear(&x, &self.head)?, next))
    }

    /// Negative log-likelihoods [t] of `targets` after x [t, d] under fast weights, and the caches for what comes next.
    pub fn losses(
        &self,
        x: &Var,
        targets: &Arc<[u32]>,
        fast: &[Fast<Var>],
        caches: &[KeyValues],
    ) -> Result<(Var, Vec<KeyValues>)> {
        let (x, next) = self.hidden(x, fast, caches)?;
        Ok((linear_cross_entropy(&x, &self.head, targets)?, next))
    }

    /// Scores one mini-batch x [b, d] and, if `ttt` is given, takes one inner step on it.
    pub fn step(
        &self,
        x: &Var,
        targets: &Arc<[u32]>,
        fast: &[Fast<Var>],
        caches: &[KeyValues],
        ttt: Option<&Ttt>,
        reading: &Reading,
    ) -> Result<Step> {
        if reading.recompute {
            return self.recomputed_step(x, targets, fast, caches, ttt, reading);
        }
        let Some(ttt) = ttt else {
            let (nll, caches) = self.losses(x, targets, fast, caches)?;
            return Ok(Step {
                nll,
                fast: fast.to_vec(),
                caches,
            });
        };
        // l_i, with fresh aliases of W_{i-1} to differentiate with respect to
        let w: Vec<Fast<Var>> = fast.iter().map(|f| f.map(Var::alias)).collect();
        let (nll, caches) = self.losses(x, targets, &w, caches)?;
        let l = scale(&sum_all(&nll)?, 1.0 / targets.len() as f64)?;
        // g_i
        let flat: Vec<Var> = w.iter().flat_map(Fast::each).cloned().collect();
        let mut g = vec![];
        for (g_, w) in grad(&l, &flat)?.into_iter().zip(&flat) {
            let zero = || Tensor::zeros(w.value().shape(), w.value().dtype());
            let g_ = g_.unwrap_or_else(|| Var::constant(zero()));
            g.push(if reading.first_order { g_.detach() } else { g_ });
        }
        // s_i
        let eta = ttt.inner_learning_rate * reading.inner_lr_scale;
        let s = scale(&clip_factor(&g, ttt.inner_clip_norm)?, eta)?;
        // W_i
        let mut g = g.iter();
        let mut update = |w: &Var| sgd_update(w, g.next().expect("one gradient per matrix"), &s);
        let mut after = vec![];
        for w in &w {
            after.push(Fast {
                gate: update(&w.gate)?,
                up: update(&w.up)?,
                down: update(&w.down)?,
            });
        }
        Ok(Step {
            nll,
            fast: after,
            caches,
        })
    }

    /// [`step`](Self::step) under a checkpoint: nothing inside is recorded.
    fn recomputed_step(
        &self,
        x: &Var,
        targets: &Arc<[u32]>,
        fast: &[Fast<Var>],
        caches: &[KeyValues],
        ttt: Option<&Ttt>,
        reading: &Reading,
    ) -> Result<Step> {
        let mut inputs: Vec<&Var> = vec![x];
        inputs.extend(fast.iter().flat_map(Fast::each));
        inputs.extend(caches.iter().flat_map(|c| [&c.k, &c.v]));
        let own = self.values();
        inputs.extend(&own);
        let (fast_count, cache_count) = (fast.len(), caches.len());
        let (shape, targets, ttt) = (self.constant(), targets.clone(), ttt.cloned());
        let reading = Reading {
            recompute: false,
            ..*reading
        };
        let f = move |inputs: &[Var]| {
            let mut at = inputs.iter().cloned();
            let mut next = || at.next().expect("as many inputs as were given");
            let x = next();
            let fast: Vec<_> = (0..fast_count).map(|_| take_fast(&mut next)).collect();
            let caches: Vec<_> = (0..cache_count).map(|_| take_cache(&mut next)).collect();
            let suffix = shape.with_values(&mut next);
            let step = suffix.step(&x, &targets, &fast, &caches, ttt.as_ref(), &reading);
            let step = step.map_err(inner_error)?;
            let mut out = vec![step.nll];
            out.extend(step.fast.iter().flat_map(Fast::each).cloned());
            out.extend(step.caches.iter().flat_map(|c| [c.k.clone(), c.v.clone()]));
            Ok(out)
        };
        let mut out = checkpoint(f, &inputs)?.into_iter();
        let mut next = || out.next().expect("as many outputs as the step has");
        Ok(Step {
            nll: next(),
            fast: (0..fast_count).map(|_| take_fast(&mut next)).collect(),
            caches: (0..cache_count).map(|_| take_cache(&mut next)).collect(),
        })
    }

    /// The parameters of the suffix in a fixed order.
    fn values(&self) -> Vec<Var> {
        let mut all = vec![self.norm.clone(), self.head.clone()];
        for block in &self.blocks {
            block.map(&mut |_, w| all.push(w.clone()));
        }
        all
    }

    /// The same suffix without history, to be filled again by [`with_values`](Self::with_values).
    fn constant(&self) -> Self {
        let values: Vec<Var> = self.values().iter().map(Var::detach).collect();
        let mut values = values.into_iter();
        self.with_values(&mut || values.next().expect("as many values as parameters"))
    }

    fn with_values(&self, next: &mut impl FnMut() -> Var) -> Self {
        Suffix {
            config: self.config.clone(),
            rotary: self.rotary.clone(),
            norm: next(),
            head: next(),
            blocks: self
                .blocks
                .iter()
                .map(|b| b.map(&mut |_, _| next()))
                .collect(),
        }
    }
}

fn take_fast(next: &mut impl FnMut() -> Var) -> Fast<Var> {
    Fast {
        gate: next(),
        up: next(),
        down: next(),
    }
}

fn take_cache(next: &mut impl FnMut() -> Var) -> KeyValues {
    KeyValues {
        k: next(),
        v: next(),
    }
}

/// Inside a checkpoint only errors of operations can occur.
fn inner_error(e: Error) -> ops::Error {
    match e {
        Error::Ops(e) => e,
        other => unreachable!("a traced function fails only in its operations: {other}"),
    }
}

/// One block of the prefix under a checkpoint.
fn recomputed_block(
    run: impl Fn(&Block<Var>, &Var, &KeyValues) -> Result<(Var, KeyValues)> + 'static,
    w: &Block<Var>,
    x: &Var,
    cache: &KeyValues,
) -> Result<(Var, KeyValues)> {
    let mut inputs = vec![x.clone(), cache.k.clone(), cache.v.clone()];
    w.map(&mut |_, w| inputs.push(w.clone()));
    let shape = w.map(&mut |_, w| w.detach());
    let f = move |inputs: &[Var]| {
        let mut at = inputs.iter().cloned();
        let mut next = || at.next().expect("as many inputs as were given");
        let (x, cache) = (next(), take_cache(&mut next));
        let w = shape.map(&mut |_, _| next());
        let (x, cache) = run(&w, &x, &cache).map_err(inner_error)?;
        Ok(vec![x, cache.k, cache.v])
    };
    let out = checkpoint(f, &inputs.iter().collect::<Vec<_>>())?;
    let [x, k, v] = out.try_into().expect("three outputs");
    Ok((x, KeyValues { k, v }))
}
