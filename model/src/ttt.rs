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
    DType, Keep, Tensor, Var, checkpoint, concat, gather, grad, linear, linear_cross_entropy,
    rms_norm, scale, sgd_update, slice, sum_all,
};

use crate::block::{KeyValues, Rotary, attention, mlp};
use crate::memory::{Bytes, Level, Plan};
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
        let mut x = gather(&self.weights.embed, ids)?;
        let mut next = vec![];
        for (i, cache) in caches.iter().enumerate() {
            let w = &self.weights.blocks[i];
            let whole = i < first_fast;
            let (config, rotary) = (self.config.clone(), self.rotary.clone());
            let run = move |w: &Block<Var>, x: &Var, cache: &KeyValues| {
                let (x, current) = attention(&config, &rotary, &w.attention, x, cache)?;
                let x = match whole {
                    true => mlp(&config, &w.mlp, &w.mlp.matrices(), &x)?,
                    false => x,
                };
                let next = more.then(|| cache.then(&current, config.window()));
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
        let b = ttt.map_or(t, |ttt| ttt.mini_batch_size);
        let plan = match reading.memory {
            None => Plan::everything(&self.config, t, b),
            Some(bytes) => Plan::within(&self.config, self.dtype(), t, b, bytes)?,
        };
        let inner = Inner {
            ttt: ttt.cloned(),
            first_order: reading.first_order,
            inner_lr_scale: reading.inner_lr_scale,
            tangent: reading.tangent && !reading.first_order,
        };
        self.read_as_planned(ids, &inner, b.min(plan.piece), &plan)
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
            caches: self.empty_caches(suffix.attentions()),
        };
        let mut caches = self.empty_caches(self.prefix_attentions());
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

impl Inner {
    /// W_i = W_{i-1} - s_i g_i with s_i = eta min(1, c / |g_i|); a gradient that is `None` is zero.
    pub(crate) fn learn(&self, w: &[Fast<Var>], g: Vec<Option<Var>>) -> Result<Vec<Fast<Var>>> {
        let Some(ttt) = &self.ttt else {
            return Ok(w.to_vec());
        };
        let zero = |w: &Var| Var::constant(Tensor::zeros(w.value().shape(), w.value().dtype()));
        let or_zero = |(g, w): (Option<Var>, &Var)| g.unwrap_or_else(|| zero(w));
        let g: Vec<Var> = g.into_iter().zip(&flat(w)).map(or_zero).collect();
        let eta = ttt.inner_learning_rate * self.inner_lr_scale;
        let s = scale(&clip_factor(&g, ttt.inner_clip_norm)?, eta)?;
        let mut g = g.iter();
        let mut update = |w: &Var| sgd_update(w, g.next().expect("one gradient per matrix"), &s);
        let update = |w: &Fast<Var>| {
            Ok(Fast {
                gate: update(&w.gate)?,
                up: update(&w.up)?,
                down: update(&w.down)?,
            })
        };
        w.iter().map(update).collect()
    }
}

/// All fast matrices.
pub(crate) fn flat(fast: &[Fast<Var>]) -> Vec<Var> {
    fast.iter().flat_map(Fast::each).cloned().collect()
}

/// l: the mean of a mini-batch's losses.
pub(crate) fn mean(nll: &Var) -> Result<Var> {
    Ok(scale(&sum_all(nll)?, 1.0 / nll.value().len() as f64)?)
}

/// The part of the model that mini-batches go through one after the other.
pub struct Suffix {
    pub(crate) config: Rc<Config>,
    pub(crate) rotary: Rotary,
    pub(crate) blocks: Vec<Block<Var>>,
    pub(crate) norm: Var,
    pub(crate) head: Var,
}

/// What one mini-batch hands to the next.
#[derive(Clone)]
pub struct State {
    /// Fast weights.
    pub fast: Vec<Fast<Var>>,
    /// Keys and values.
    pub caches: Vec<KeyValues>,
}

/// How inner steps are taken.
#[derive(Clone)]
pub struct Inner {
    /// `None`: none are taken.
    pub ttt: Option<Ttt>,
    /// See [`Reading`].
    pub first_order: bool,
    /// See [`Reading`].
    pub inner_lr_scale: f64,
    /// See [`Reading`].
    pub tangent: bool,
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
                let cache = &caches[j - 1];
                let (y, current) = attention(config, &self.rotary, &w.attention, &x, cache)?;
                x = y;
                next.push(cache.then(&current, config.window())?);
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

    /// Negative log-likelihoods `[t]` of `targets` after x [t, d] under fast weights, and the caches for what comes next.
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

    /// Scores one mini-batch x [b, d] and, if there is an inner loop, takes one step on it: losses `[b]` under the weights from
    /// before the step, and what the next mini-batch needs.
    pub fn step(
        &self,
        x: &Var,
        targets: &Arc<[u32]>,
        state: &State,
        inner: &Inner,
    ) -> Result<(Var, State)> {
        let State { fast, caches } = state;
        if inner.ttt.is_none() {
            let (nll, caches) = self.losses(x, targets, fast, caches)?;
            let fast = fast.clone();
            return Ok((nll, State { fast, caches }));
        }
        // l_i, with fresh aliases of W_{i-1} to differentiate with respect to
        let w: Vec<Fast<Var>> = fast.iter().map(|f| f.map(Var::alias)).collect();
        let (nll, caches) = self.losses(x, targets, &w, caches)?;
        // g_i
        let mut g = grad(&mean(&nll)?, &flat(&w))?;
        if inner.first_order {
            g = g.into_iter().map(|g| g.map(|g| g.detach())).collect();
        }
        let fast = inner.learn(&w, g)?;
        Ok((nll, State { fast, caches }))
    }

    /// Reads x [.., d], mini-batch by mini-batch of `b` tokens; one that is shorter, at the end, is scored and changes nothing.
    /// `levels` says what each keeps; one that is not in the list keeps everything.
    pub fn run(
        &self,
        x: &Var,
        targets: &Arc<[u32]>,
        state: &State,
        inner: &Inner,
        b: usize,
        levels: &[Level],
    ) -> Result<(Var, State)> {
        let t = targets.len();
        let mut state = state.clone();
        let mut nll = vec![];
        for (i, start) in (0..t).step_by(b).enumerate() {
            let end = start.saturating_add(b).min(t);
            let (x, targets) = match end - start == t {
                true => (x.clone(), targets.clone()),
                false => (slice(x, 0, start, end)?, targets[start..end].into()),
            };
            let inner = Inner {
                ttt: inner.ttt.clone().filter(|_| end - start == b),
                ..*inner
            };
            let (losses, next) = match levels.get(i).and_then(|level| level.keep()) {
                _ if inner.tangent => self.tangent_step(&x, &targets, &state, &inner)?,
                Some(keep) => self.checkpointed(&x, &targets, &state, &inner, b, &[], keep)?,
                None => self.step(&x, &targets, &state, &inner)?,
            };
            nll.push(losses);
            state = next;
        }
        Ok((concat(&nll.iter().collect::<Vec<_>>(), 0)?, state))
    }

    /// [`run`](Self::run) under a checkpoint.
    #[allow(clippy::too_many_arguments, reason = "those of run, and what to keep")]
    fn checkpointed(
        &self,
        x: &Var,
        targets: &Arc<[u32]>,
        state: &State,
        inner: &Inner,
        b: usize,
        levels: &[Level],
        keep: Keep,
    ) -> Result<(Var, State)> {
        let inputs = self.inputs(x, state);
        let (shape, constant) = (state.detach(), self.constant());
        let (targets, inner, levels) = (targets.clone(), inner.clone(), levels.to_vec());
        let again = shape.clone();
        let f = move |inputs: &[Var]| {
            let (x, state, suffix) = constant.with_inputs(&shape, inputs);
            let run = suffix.run(&x, &targets, &state, &inner, b, &levels);
            let (nll, state) = run.map_err(inner_error)?;
            let mut out = vec![nll];
            out.extend(state.values());
            Ok(out)
        };
        let mut out = checkpoint(f, &inputs.iter().collect::<Vec<_>>(), keep)?.into_iter();
        let mut next = || out.next().expect("as many outputs as a run has");
        Ok((next(), again.with_values(&mut next)))
    }

    /// Everything a run depends on, in a fixed order.
    pub(crate) fn inputs(&self, x: &Var, state: &State) -> Vec<Var> {
        let mut inputs = vec![x.clone()];
        inputs.extend(state.values());
        inputs.extend(self.values());
        inputs
    }

    /// x, state and suffix of these shapes, from what [`inputs`](Self::inputs) lists.
    pub(crate) fn with_inputs(&self, shape: &State, inputs: &[Var]) -> (Var, State, Suffix) {
        let mut at = inputs.iter().cloned();
        let mut next = || at.next().expect("as many inputs as were given");
        (
            next(),
            shape.with_values(&mut next),
            self.with_values(&mut next),
        )
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
    pub(crate) fn constant(&self) -> Self {
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

impl State {
    /// Its variables in a fixed order.
    pub(crate) fn values(&self) -> Vec<Var> {
        let mut all = flat(&self.fast);
        for c in &self.caches {
            all.extend([c.k.clone(), c.v.clone()]);
        }
        all
    }

    /// The same without its history.
    pub fn detach(&self) -> Self {
        State {
            fast: self.fast.iter().map(|f| f.map(Var::detach)).collect(),
            caches: self.caches.iter().map(KeyValues::detach).collect(),
        }
    }

    /// As many variables again, in the order of [`values`](Self::values).
    pub(crate) fn with_values(&self, next: &mut impl FnMut() -> Var) -> Self {
        State {
            fast: self.fast.iter().map(|f| f.map(|_| next())).collect(),
            caches: self.caches.iter().map(|_| take_cache(next)).collect(),
        }
    }
}

fn take_cache(next: &mut impl FnMut() -> Var) -> KeyValues {
    KeyValues {
        k: next(),
        v: next(),
    }
}

/// Inside a checkpoint only errors of operations can occur.
pub(crate) fn inner_error(e: Error) -> ops::Error {
    match e {
        Error::Ops(e) => e,
        other => unreachable!("a traced function fails only in its operations: {other}"),
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
        out.extend(cache.into_iter().flat_map(|c| [c.k, c.v]));
        Ok(out)
    };
    let mut out = checkpoint(f, &inputs.iter().collect::<Vec<_>>(), keep)?.into_iter();
    let x = out.next().expect("what comes after the block");
    let cache = out.next().zip(out.next()).map(|(k, v)| KeyValues { k, v });
    Ok((x, cache))
}
