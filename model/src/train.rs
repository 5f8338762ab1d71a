//! The outer loop: AdamW on the exact meta-gradient, with the schedules of the paper, saved and resumed bit for bit.

use std::collections::BTreeMap;
use std::path::Path;

use ops::{AdamW, DType, Tensor, values};
use serde::{Deserialize, Serialize};

use crate::files::{Stored, Tensors, read_tensors, write_tensors};
use crate::gradients::Workers;
use crate::memory::Bytes;
use crate::ttt::Reading;
use crate::{Config, Error, Model, Result, Weights};

/// How to train: everything that decides the result, apart from the model's shape and the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Optimiser steps.
    pub steps: u64,
    /// Sequences per step; they are read a few at a time, so memory does not grow with it.
    pub batch_size: usize,
    /// Batches whose gradients are averaged into one step.
    pub accumulation: usize,
    /// T: tokens per sequence.
    pub sequence_length: usize,
    /// Share of the steps, the last ones, whose sequences are `extension_length` tokens instead: the context is extended once the
    /// model can read, as the paper does.
    #[serde(default)]
    pub extension: f64,
    /// T in those steps.
    #[serde(default)]
    pub extension_length: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Learning rate at the end of the cosine.
    pub min_learning_rate: f64,
    /// Share of the tokens during which the learning rate rises linearly.
    pub warmup: f64,
    /// Decoupled weight decay of matrices; norms are not decayed.
    pub weight_decay: f64,
    /// AdamW's first decay.
    pub beta1: f64,
    /// AdamW's second decay.
    pub beta2: f64,
    /// Global norm to which the outer gradient is clipped; 0 means no clipping.
    pub clip_norm: f64,
    /// Factor on the inner learning rate at the first step; it rises linearly to 1.
    pub inner_warmup_start: f64,
    /// Share of the tokens during which the inner learning rate rises; 0 when extending the context of a trained model.
    pub inner_warmup: f64,
    /// Treat the inner gradients as constants of the outer gradient: cheaper and not exact.
    pub first_order: bool,
    /// What the sequences that are read side by side may keep for their backward passes, all together; what does not fit is
    /// computed again ([`Plan`](crate::memory::Plan)). Absent: keep everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Seed of parameters and of the order of the data.
    pub seed: u64,
}

impl Schedule {
    /// Errors that name the setting, the value and what would work.
    pub fn check(&self, config: &Config) -> Result<()> {
        let counts = [
            ("steps", self.steps),
            ("batch_size", self.batch_size as u64),
            ("accumulation", self.accumulation as u64),
            ("sequence_length", self.sequence_length as u64),
        ];
        for (name, value) in counts {
            if value == 0 {
                return Err(Error::setting(name, 0, "must be at least 1"));
            }
        }
        if self.extension > 0.0 && self.extension_length == 0 {
            let message = "must be at least 1 if there is an extension";
            return Err(Error::setting("extension_length", 0, message));
        }
        if self.batch_size.checked_mul(self.accumulation).is_none() {
            let message = "times batch_size is more than can be counted; use fewer";
            return Err(Error::setting("accumulation", self.accumulation, message));
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            let message = "must be a positive number: with 0 nothing would be learned";
            return Err(Error::setting("learning_rate", self.learning_rate, message));
        }
        if !(0.0..=self.learning_rate).contains(&self.min_learning_rate) {
            let message = format!(
                "must lie between 0 and learning_rate = {}",
                self.learning_rate
            );
            return Err(Error::setting(
                "min_learning_rate",
                self.min_learning_rate,
                message,
            ));
        }
        let shares = [
            ("extension", self.extension),
            ("warmup", self.warmup),
            ("inner_warmup", self.inner_warmup),
            ("inner_warmup_start", self.inner_warmup_start),
        ];
        for (name, value) in shares {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::setting(name, value, "must lie between 0 and 1"));
            }
        }
        for (name, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::setting(
                    name,
                    value,
                    "must be at least 0 and below 1",
                ));
            }
        }
        for (name, value) in [
            ("weight_decay", self.weight_decay),
            ("clip_norm", self.clip_norm),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::setting(name, value, "must be a number >= 0"));
            }
        }
        let (name, shortest) =
            match self.extension > 0.0 && self.extension_length < self.sequence_length {
                true => ("extension_length", self.extension_length),
                false => ("sequence_length", self.sequence_length),
            };
        match &config.ttt {
            Some(ttt) if ttt.num_fast_layers > 0 && ttt.mini_batch_size > shortest => {
                let message = format!(
                    "is larger than {name} = {shortest}, so nothing would be learned while reading; \
                     use smaller mini-batches or longer sequences"
                );
                Err(Error::setting(
                    "mini_batch_size",
                    ttt.mini_batch_size,
                    message,
                ))
            }
            _ => Ok(()),
        }
    }

    /// Sequences that one optimiser step reads.
    pub fn sequences_per_step(&self) -> usize {
        self.batch_size * self.accumulation
    }

    /// The first step of the extension; `steps` if there is none.
    pub fn extension_start(&self) -> u64 {
        self.steps - (self.extension * self.steps as f64).round() as u64
    }

    /// T at `step` (from 0).
    pub fn length_at(&self, step: u64) -> usize {
        match step < self.extension_start() {
            true => self.sequence_length,
            false => self.extension_length,
        }
    }

    /// Tokens that are read before `step`.
    pub fn tokens_before(&self, step: u64) -> u64 {
        (self.time(step) * self.sequence_length as f64).round() as u64
            * self.sequences_per_step() as u64
    }

    /// Tokens before `step`, in steps without extension.
    fn time(&self, step: u64) -> f64 {
        let start = self.extension_start();
        let longer = self.extension_length as f64 / self.sequence_length as f64;
        step.min(start) as f64 + step.saturating_sub(start) as f64 * longer
    }

    /// Learning rate of `step` (from 0): linear warm-up, then cosine.
    pub fn learning_rate_at(&self, step: u64) -> f64 {
        let all = self.time(self.steps);
        let warm = (self.warmup * all).round();
        let time = self.time(step);
        if time < warm {
            return self.learning_rate * (time + 1.0) / warm;
        }
        let done = (time - warm) / (all - warm).max(1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos());
        self.min_learning_rate + (self.learning_rate - self.min_learning_rate) * cosine
    }

    /// Factor on the inner learning rate at `step` (from 0).
    pub fn inner_lr_scale_at(&self, step: u64) -> f64 {
        let warm = self.inner_warmup * self.time(self.steps);
        let done = if warm > 0.0 {
            (self.time(step) / warm).min(1.0)
        } else {
            1.0
        };
        self.inner_warmup_start + (1.0 - self.inner_warmup_start) * done
    }
}

/// A model in training.
pub struct Trainer {
    /// The model as it is now.
    pub model: Model,
    /// Steps taken.
    pub step: u64,
    schedule: Schedule,
    m: Weights<Tensor>,
    v: Weights<Tensor>,
    workers: Workers,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Number of the step, from 1.
    pub step: u64,
    /// Mean loss in nats per token, before the update.
    pub loss: f64,
    /// Global norm of the outer gradient, before clipping.
    pub gradient_norm: f64,
    /// Learning rate used.
    pub learning_rate: f64,
}

impl Trainer {
    /// Starts from `model`, with moments at zero. `threads` are shared by the sequences of a batch.
    pub fn new(model: Model, schedule: Schedule, threads: usize) -> Result<Self> {
        schedule.check(&model.config)?;
        let zeros = || {
            let mut zeros = model.weights.clone();
            for w in zeros.values_mut() {
                *w = w.zeros_like()?;
            }
            Ok::<_, Error>(zeros)
        };
        let workers = Workers::new(threads, schedule.sequences_per_step())?;
        let (m, v) = (zeros()?, zeros()?);
        Ok(Trainer {
            model,
            step: 0,
            schedule,
            m,
            v,
            workers,
        })
    }

    /// The schedule.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The threads, for evaluating between steps.
    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// One optimiser step on sequences of ids [T + 1].
    pub fn step(&mut self, sequences: &[&[u32]]) -> Result<StepMetrics> {
        let s = &self.schedule;
        let reading = Reading {
            learn: true,
            first_order: s.first_order,
            memory: s.memory.map(|all| self.workers.share(all)),
            inner_lr_scale: s.inner_lr_scale_at(self.step),
            tangent: false,
        };
        let batch = self
            .workers
            .batch_gradient(&self.model, sequences, &reading)?;
        let norm = values::norm(&batch.gradient.values())?;
        // the one time in a step that a device is waited for
        let mut read: Vec<&Tensor> = batch.losses.iter().collect();
        read.push(&norm);
        let read = values::items(&read)?;
        let (losses, norm) = read.split_at(batch.losses.len());
        let (loss, norm) = (losses.iter().sum::<f64>() / losses.len() as f64, norm[0]);
        if !loss.is_finite() || !norm.is_finite() {
            return Err(Error::NotFinite {
                what: format!("the loss or its gradient at step {}", self.step + 1),
                remedy: "lower the learning rate or the inner learning rate, and resume from the last checkpoint",
            });
        }
        let scale = match s.clip_norm > 0.0 && norm > s.clip_norm {
            true => s.clip_norm / norm,
            false => 1.0,
        };
        let learning_rate = s.learning_rate_at(self.step);
        self.step += 1;
        let adam = AdamW {
            learning_rate,
            beta1: s.beta1,
            beta2: s.beta2,
            eps: 1e-8,
            weight_decay: s.weight_decay,
            step: self.step,
        };
        let (m, v) = (self.m.values_mut(), self.v.values_mut());
        let weights = self.model.weights.values_mut();
        for (((w, m), v), g) in weights
            .into_iter()
            .zip(m)
            .zip(v)
            .zip(batch.gradient.values())
        {
            let decay = if w.shape().len() > 1 {
                adam.weight_decay
            } else {
                0.0
            };
            let adam = AdamW {
                weight_decay: decay,
                ..adam
            };
            adam.update(w, m, v, g, scale)?;
        }
        Ok(StepMetrics {
            step: self.step,
            loss,
            gradient_norm: norm,
            learning_rate,
        })
    }

    /// Writes everything needed to go on to one file, under a temporary name first.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut tensors = vec![];
        for (kind, weights) in [("w", &self.model.weights), ("m", &self.m), ("v", &self.v)] {
            let named = weights.named().into_iter();
            tensors.extend(named.map(|(name, t)| (format!("{kind}.{name}"), t)));
        }
        let metadata = BTreeMap::new();
        let step = Tensor::from_f64s(&[1], DType::F64, &[self.step as f64])?;
        tensors.push(("step".to_string(), &step));
        write_tensors(path, tensors, &metadata)
    }

    /// Goes on from a file written by [`save`](Self::save) by a trainer of the same model and schedule.
    pub fn restore(&mut self, path: &Path) -> Result<()> {
        let mut tensors = read_tensors(path)?;
        let step = match tensors.remove("step") {
            Some(Stored::Float(step)) if step.len() == 1 => step.item()?,
            _ => {
                return Err(Error::file(
                    path,
                    "is not a checkpoint of a training run: no 'step'",
                ));
            }
        };
        if !(step >= 0.0 && step.fract() == 0.0) {
            let message = format!("is damaged: 'step' is {step}; go on from another copy");
            return Err(Error::file(path, message));
        }
        let embed = &self.model.weights.embed;
        let (dtype, device) = (embed.dtype(), embed.device());
        let config = &self.model.config;
        let take = |kind: &str| -> Result<Weights<Tensor>> {
            let prefix = format!("{kind}.");
            let of_kind: Tensors = (tensors.iter())
                .filter_map(|(name, t)| Some((name.strip_prefix(&prefix)?.to_string(), t.clone())))
                .collect();
            crate::files::assemble(path, config, of_kind, dtype)?.to(device)
        };
        let (weights, m, v) = (take("w")?, take("m")?, take("v")?);
        // norms are optional in a file, but all three parts must have those of this model
        let names = |w: &Weights<Tensor>| -> Vec<String> {
            w.named().into_iter().map(|(name, _)| name).collect()
        };
        let expected = names(&self.model.weights);
        for (kind, part) in [("w", &weights), ("m", &m), ("v", &v)] {
            let found = names(part);
            let differs = |a: &[String], b: &[String]| a.iter().find(|x| !b.contains(x)).cloned();
            if let Some(name) = differs(&expected, &found).or(differs(&found, &expected)) {
                let message = format!(
                    "tensor '{kind}.{name}' is in one of the checkpoint and the model, but not in both; \
                     the file is damaged or belongs to another model"
                );
                return Err(Error::file(path, message));
            }
        }
        self.model.weights = weights;
        (self.m, self.v) = (m, v);
        self.step = step as u64;
        Ok(())
    }
}
