//! The suffix: the part of the model that mini-batches go through one after the other, each with one inner step.

use std::rc::Rc;
use std::sync::Arc;

use ops::{
    Keep, Var, checkpoint, clip_factor, concat, grad, linear_cross_entropy, rms_norm, scale,
    sgd_update, slice, sum_all,
};

use crate::block::{KeyValues, Rotary, attention, mlp};
use crate::memory::Level;
use crate::weights::{Block, Fast};
use crate::{Config, Error, Result, Ttt};

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
    /// See [`Reading`](crate::Reading).
    pub first_order: bool,
    /// See [`Reading`](crate::Reading).
    pub inner_lr_scale: f64,
    /// See [`Reading`](crate::Reading).
    pub tangent: bool,
}

impl Suffix {
    /// Attentions inside the suffix: that of the first fast block belongs to the prefix.
    pub fn attentions(&self) -> usize {
        self.blocks.len().saturating_sub(1)
    }

    /// Keys a query of block j of the suffix sees, its own included.
    fn window_of(&self, j: usize) -> usize {
        self.config.window_of(self.config.first_fast() + j)
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
                let (cache, window) = (&caches[j - 1], self.window_of(j));
                let (y, current) =
                    attention(config, &self.rotary, &w.attention, &x, cache, window)?;
                x = y;
                next.push(cache.then(&current, window)?);
            }
            if let Some(norms) = &w.fast {
                x = mlp(config, norms, &fast[j], &x)?;
            }
            x = mlp(config, &w.mlp, &w.mlp.matrices(), &x)?;
        }
        Ok((rms_norm(&x, &self.norm, config.rms_norm_eps)?, next))
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
    pub(crate) fn checkpointed(
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
            let (nll, mut state) = run.map_err(inner_error)?;
            for cache in &mut state.caches {
                *cache = cache.alone()?;
            }
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

pub(crate) fn take_cache(next: &mut impl FnMut() -> Var) -> KeyValues {
    KeyValues {
        k: next(),
        v: next(),
    }
}

impl Inner {
    /// W_i = W_{i-1} - s_i g_i with s_i = eta min(1, c / |g_i|); a gradient that is `None` is zero.
    pub(crate) fn learn(&self, w: &[Fast<Var>], g: Vec<Option<Var>>) -> Result<Vec<Fast<Var>>> {
        let Some(ttt) = &self.ttt else {
            return Ok(w.to_vec());
        };
        let or_zero = |(g, w): (Option<Var>, &Var)| match g {
            Some(g) => Ok(g),
            None => Ok(Var::constant(w.value().zeros_like()?)),
        };
        let all = flat(w);
        let g = g.into_iter().zip(&all).map(or_zero);
        let g: Vec<Var> = g.collect::<Result<_>>()?;
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

/// Inside a checkpoint only errors of operations can occur.
pub(crate) fn inner_error(e: Error) -> ops::Error {
    match e {
        Error::Ops(e) => e,
        other => unreachable!("a traced function fails only in its operations: {other}"),
    }
}
