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

use ops::{DType, Keep, Tensor, Var, cast, checkpoint, concat, gather, scale, slice, sum_all};

use crate::block::{KeyValues, Rotary, attention, mlp};
use crate::memory::{Bytes, Level, Plan};
use crate::suffix::{Inner, State, Suffix, inner_error, take_cache};
use crate::weights::{Block, Fast, Weights};
use crate::{Config, Error, Result, Ttt};

/// How a sequence is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Take inner steps. Off: the fast weights stay as they are.
    pub learn: bool,
    /// Treat every g_i as a constant of the outer gradient: cheaper and not exact.
    pub first_order: bool,
    /// What the tape of a sequence may take; what does not fit is computed again in the backward pass ([`Plan`]). `None`:
    /// keep everything.
    pub memory: Option<Bytes>,
    /// Factor on eta (the warm-up of the inner learning rate).
    pub inner_lr_scale: f64,
    /// The meta-gradient by one tangent sweep and one reverse sweep per mini-batch, instead of reverse over reverse. Slower, with
    /// its mini-batches computed again; it is there to check the other.
    pub tangent: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Reading {
            learn: true,
            first_order: false,
            memory: None,
            inner_lr_scale: 1.0,
            tangent: false,
        }
    }
}

/// A model whose weights are variables: constants to read with, leaves to train.
pub struct Net {
    config: Rc<Config>,
    /// The parameters theta.
    pub weights: Weights<Var>,
    rotary: Rotary,
    /// See [`Model::compute`](crate::Model::compute).
    compute: DType,
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
        // a mini-batch is rotated by its place behind the keys still in the window, fewer than `length` of them
        let rotary = Rotary::new(config, length, weights.embed.value())?;
        let config = Rc::new(config.clone());
        let compute = weights.embed.value().dtype();
        Ok(Net {
            config,
            weights,
            rotary,
            compute,
        })
    }

    /// The same net with activations of another type: see [`Model::compute`](crate::Model::compute).
    pub fn computing_in(mut self, dtype: DType) -> Self {
        self.compute = dtype;
        self
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Caches of the prefix or of the suffix at the start of a text.
    pub fn empty_caches(&self, count: usize) -> Result<Vec<KeyValues>> {
        let none = KeyValues::empty(&self.config, self.weights.embed.value(), self.compute)?;
        Ok(vec![none; count])
    }

    /// Number of attentions that come before every fast weight.
    pub fn prefix_attentions(&self) -> usize {
        (self.config.first_fast() + 1).min(self.config.num_hidden_layers)
    }

    /// Embedding, the first L - S blocks, and the attention of the first fast block: ids `[t]` to [t, d], and the caches for
    /// what comes next; there are none if nothing does (`more` is false). `levels` says what each block keeps; one that is
    /// not in the list keeps everything.
    pub fn prefix(
        &self,
        ids: &Arc<[u32]>,
        caches: &[KeyValues],
        levels: &[Level],
        more: bool,
    ) -> Result<(Var, Vec<KeyValues>)> {
        let first_fast = self.config.first_fast();
        let mut x = cast(&gather(&self.weights.embed, ids)?, self.compute)?;
        let mut next = vec![];
        for (i, cache) in caches.iter().enumerate() {
            let w = &self.weights.blocks[i];
            let (whole, window) = (i < first_fast, self.config.window_of(i));
            let (config, rotary) = (self.config.clone(), self.rotary.clone());
            let run = move |w: &Block<Var>, x: &Var, cache: &KeyValues| {
                let (x, current) = attention(&config, &rotary, &w.attention, x, cache, window)?;
                let x = match whole {
                    true => mlp(&config, &w.mlp, &w.mlp.matrices(), &x)?,
                    false => x,
                };
                let next = more.then(|| cache.then(&current, window));
                Ok::<_, Error>((x, next.transpose()?))
            };
            let (y, cache) = match levels.get(i).and_then(|level| level.keep()) {
                Some(keep) => checkpointed_block(run, w, &x, cache, keep)?,
                None => run(w, &x, cache)?,
            };
            x = y;
            next.extend(cache);
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
        let ttt = self.config.ttt.as_ref();
        let learns = |_: &&Ttt| reading.learn && self.config.fast_layers() > 0;
        let ttt = ttt.filter(learns);
        let b = ttt.map(|ttt| ttt.mini_batch_size);
        let plan = match reading.memory {
            None => Plan::everything(&self.config, t, b),
            Some(bytes) => Plan::within(&self.config, self.compute, t, b, bytes)?,
        };
        let inner = Inner {
            ttt: ttt.cloned(),
            first_order: reading.first_order,
            inner_lr_scale: reading.inner_lr_scale,
            tangent: reading.tangent && !reading.first_order,
        };
        self.read_as_planned(ids, &inner, b.unwrap_or(plan.piece), &plan)
    }

    fn read_as_planned(
        &self,
        ids: &[u32],
        inner: &Inner,
        b: usize,
        plan: &Plan,
    ) -> Result<Outcome> {
        let (t, piece) = (ids.len() - 1, plan.piece);
        let suffix = self.suffix();
        let mut state = State {
            fast: self.weights.fast(),
            caches: self.empty_caches(suffix.attentions())?,
        };
        let mut caches = self.empty_caches(self.prefix_attentions())?;
        let mut nll = vec![];
        let mut steps = plan.steps.as_slice();
        let run = b.saturating_mul(plan.segment).min(piece);
        for (i, first) in (0..t).step_by(piece).enumerate() {
            let last = first.saturating_add(piece).min(t);
            let levels = plan.prefix.chunks(caches.len()).nth(i).unwrap_or(&[]);
            let inputs = ids[first..last].into();
            let (h, next) = self.prefix(&inputs, &caches, levels, last < t)?;
            caches = next;
            for start in (first..last).step_by(run) {
                let end = start.saturating_add(run).min(last);
                let x = slice(&h, 0, start - first, end - first)?;
                let targets: Arc<[u32]> = ids[start + 1..end + 1].into();
                let (levels, rest) = steps.split_at(steps.len().min((end - start).div_ceil(b)));
                steps = rest;
                let (losses, next) = match plan.segment {
                    1 => suffix.run(&x, &targets, &state, inner, b, levels)?,
                    _ => suffix.checkpointed(
                        &x,
                        &targets,
                        &state,
                        inner,
                        b,
                        levels,
                        Keep::Nothing,
                    )?,
                };
                nll.push(losses);
                state = next;
            }
        }
        let nll = concat(&nll.iter().collect::<Vec<_>>(), 0)?;
        Ok(Outcome {
            loss: scale(&sum_all(&nll)?, 1.0 / t as f64)?,
            nll: nll.value().clone(),
            fast: state.fast,
        })
    }
}

/// One block of the prefix under a checkpoint.
fn checkpointed_block(
    run: impl Fn(&Block<Var>, &Var, &KeyValues) -> Result<(Var, Option<KeyValues>)> + 'static,
    w: &Block<Var>,
    x: &Var,
    cache: &KeyValues,
    keep: Keep,
) -> Result<(Var, Option<KeyValues>)> {
    let mut inputs = vec![x.clone(), cache.k.clone(), cache.v.clone()];
    w.map(&mut |_, w| inputs.push(w.clone()));
    let shape = w.map(&mut |_, w| w.detach());
    let f = move |inputs: &[Var]| {
        let mut at = inputs.iter().cloned();
        let mut next = || at.next().expect("as many inputs as were given");
        let (x, cache) = (next(), take_cache(&mut next));
        let w = shape.map(&mut |_, _| next());
        let (x, cache) = run(&w, &x, &cache).map_err(inner_error)?;
        let mut out = vec![x];
        if let Some(cache) = cache {
            let KeyValues { k, v } = cache.alone()?;
            out.extend([k, v]);
        }
        Ok(out)
    };
    let mut out = checkpoint(f, &inputs.iter().collect::<Vec<_>>(), keep)?.into_iter();
    let x = out.next().expect("what comes after the block");
    let cache = out.next().zip(out.next()).map(|(k, v)| KeyValues { k, v });
    Ok((x, cache))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;
    use ops::backward;

    /// Losses and gradients do not depend on the pieces a sequence is read in, nor on what a checkpoint keeps.
    #[test]
    fn pieces_change_nothing_but_rounding() {
        let t = 50;
        let ids: Vec<u32> = (0..=t).map(|i| (i * i % 23) as u32).collect();
        let hybrid = serde_json::json!(["full_attention", "sliding_attention", "full_attention"]);
        let alike = serde_json::Value::Null;
        let kinds = [
            (0, &alike),
            (1, &alike),
            (2, &alike),
            (3, &alike),
            (0, &hybrid),
            (2, &hybrid),
        ];
        for (fast, types) in kinds {
            let config: Config = serde_json::from_value(serde_json::json!({
                "vocab_size": 23, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3,
                "num_attention_heads": 2, "num_key_value_heads": 1, "sliding_window": 11, "layer_types": types,
                "ttt": {"mini_batch_size": 4, "num_fast_layers": fast, "inner_learning_rate": 0.5, "inner_clip_norm": 1.0},
            }))
            .expect("a configuration");
            let model = Model::random(&config, 3, DType::F64).expect("a model");
            let read = |piece: usize, level: Level, segment: usize| {
                let leaves = model.weights.map(|_, w| Var::leaf(w.clone()));
                let wrt: Vec<Var> = leaves.values().into_iter().cloned().collect();
                let net = Net::new(&config, leaves, t).expect("a net");
                let plan = Plan {
                    piece,
                    prefix: vec![level; 100],
                    steps: vec![level; 100],
                    segment,
                    bytes: Bytes(0),
                };
                let inner = Inner {
                    ttt: config.ttt.clone().filter(|_| fast > 0),
                    first_order: false,
                    inner_lr_scale: 1.0,
                    tangent: false,
                };
                let b = if fast > 0 { 4 } else { piece };
                let outcome = net.read_as_planned(&ids, &inner, b, &plan).expect("read");
                let gradient = backward(&outcome.loss, &wrt).expect("a gradient");
                let mut numbers = outcome.nll.to_f64s();
                numbers.extend(gradient.iter().flatten().flat_map(Tensor::to_f64s));
                numbers
            };
            let whole = read(52, Level::Everything, 1);
            let largest = whole.iter().fold(0.0f64, |a, x| a.max(x.abs()));
            for (piece, segment) in [(48, 1), (20, 1), (8, 1), (4, 1), (24, 4)] {
                for level in [Level::Everything, Level::Costly, Level::Dear, Level::Inputs] {
                    let cut = read(piece, level, segment);
                    assert_eq!(cut.len(), whole.len());
                    let differences = cut.iter().zip(&whole).map(|(a, b)| (a - b).abs());
                    let worst = differences.fold(0.0, f64::max) / largest;
                    // hundreds of roundings, carried on by a dozen inner steps
                    assert!(
                        worst < 1e-12,
                        "{worst:e} with S = {fast}, pieces of {piece}, {level:?}"
                    );
                }
            }
        }
    }
}
