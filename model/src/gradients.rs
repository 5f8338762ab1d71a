//! The outer loss and its gradient for a batch of sequences, one sequence per thread.

use ops::{Tensor, Var, backward};
use rayon::prelude::*;

use crate::memory::Bytes;
use crate::ttt::{Net, Reading};
use crate::weights::{Fast, Weights};
use crate::{Error, Model, Result};

/// Loss and exact gradient of one sequence.
pub struct SequenceGradient {
    /// L in nats per token, a scalar.
    pub loss: Tensor,
    /// Negative log-likelihood of each token before the update that uses it `[T]`.
    pub nll: Tensor,
    /// dL/dtheta, zeros where L does not depend on a parameter.
    pub gradient: Weights<Tensor>,
    /// Fast weights after the last mini-batch.
    pub fast: Vec<Fast<Tensor>>,
}

/// The meta-gradient of one sequence of ids [T + 1].
pub fn sequence_gradient(
    model: &Model,
    ids: &[u32],
    reading: &Reading,
) -> Result<SequenceGradient> {
    let leaves = model.weights.map(|_, w| Var::leaf(w.clone()));
    let wrt: Vec<Var> = leaves.values().into_iter().cloned().collect();
    let length = ids.len().saturating_sub(1);
    let net = Net::new(&model.config, leaves, length)?.computing_in(model.compute);
    let outcome = net.read(ids, reading)?;
    let loss = outcome.loss.value().clone();
    let fast = outcome
        .fast
        .iter()
        .map(|f| f.map(|w| w.value().clone()))
        .collect();
    let mut gradient = backward(&outcome.loss, &wrt)?.into_iter();
    let mut all = model.weights.clone();
    for w in all.values_mut() {
        *w = match gradient.next().flatten() {
            Some(g) => g,
            None => w.zeros_like()?,
        };
    }
    Ok(SequenceGradient {
        loss,
        nll: outcome.nll,
        gradient: all,
        fast,
    })
}

/// Mean loss and mean gradient of a batch of sequences.
pub struct BatchGradient {
    /// The sequences' losses in nats per token, a scalar each.
    pub losses: Vec<Tensor>,
    /// Mean of their gradients.
    pub gradient: Weights<Tensor>,
}

/// Workers that read sequences side by side. Each runs its ops in a pool of its own, so that a batch of many sequences pays
/// nothing for threads inside ops, and a single sequence still uses them all.
pub struct Workers {
    pools: Vec<rayon::ThreadPool>,
    outer: rayon::ThreadPool,
}

impl Workers {
    /// Splits `threads` over at most `sequences` workers.
    pub fn new(threads: usize, sequences: usize) -> Result<Self> {
        let workers = threads.min(sequences).max(1);
        let pool = |threads: usize| {
            let built = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            built.map_err(|e| Error::setting("threads", threads, format!("cannot be started: {e}")))
        };
        let share = |i: usize| (threads.max(1) / workers) + usize::from(i < threads % workers);
        Ok(Workers {
            pools: (0..workers)
                .map(|i| pool(share(i).max(1)))
                .collect::<Result<_>>()?,
            outer: pool(workers)?,
        })
    }

    /// What one of the sequences that are read side by side may use of `all`.
    pub fn share(&self, all: Bytes) -> Bytes {
        Bytes(all.0 / self.pools.len() as u64)
    }

    /// `f(item)` for every item, in order of the items; `f` may use the current pool.
    pub fn map<I: Sync, R: Send>(&self, items: &[I], f: impl Fn(&I) -> R + Sync) -> Vec<R> {
        let mut results = vec![];
        for wave in items.chunks(self.pools.len()) {
            let run = |(item, pool): (&I, &rayon::ThreadPool)| pool.install(|| f(item));
            let wave: Vec<R> = self
                .outer
                .install(|| wave.par_iter().zip(&self.pools).map(run).collect());
            results.extend(wave);
        }
        results
    }

    /// The mean meta-gradient of sequences of ids [T + 1]. Gradients are added in the order of the sequences, so the result
    /// does not depend on the number of workers, and only as many gradients are alive as there are workers.
    pub fn batch_gradient(
        &self,
        model: &Model,
        sequences: &[&[u32]],
        reading: &Reading,
    ) -> Result<BatchGradient> {
        let (mut losses, mut total) = (vec![], None);
        for wave in sequences.chunks(self.pools.len()) {
            for result in self.map(wave, |ids| sequence_gradient(model, ids, reading)) {
                let one = result?;
                losses.push(one.loss);
                total = Some(match total {
                    None => one.gradient,
                    Some(sum) => add(sum, &one.gradient)?,
                });
            }
        }
        let Some(mut gradient) = total else {
            return Err(Error::setting("batch_size", 0, "must be at least 1"));
        };
        let share = 1.0 / sequences.len() as f64;
        for g in gradient.values_mut() {
            g.scale_assign(share)?;
        }
        Ok(BatchGradient { losses, gradient })
    }
}

fn add(mut sum: Weights<Tensor>, other: &Weights<Tensor>) -> Result<Weights<Tensor>> {
    for (sum, g) in sum.values_mut().into_iter().zip(other.values()) {
        sum.add_assign(g)?;
    }
    Ok(sum)
}
