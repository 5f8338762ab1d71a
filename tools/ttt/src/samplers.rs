//! The sequences of each step of a training run.

use model::data::{Corpus, Sampler};
use model::train::Schedule;
use model::{Error, Result};

/// What is read: before the extension of the context, and in it.
pub struct Samplers {
    main: Sampler,
    extension: Option<Sampler>,
}

impl Samplers {
    /// Windows into the books of `corpus`; says which books are too short for any.
    ///
    /// Errors: no book is long enough.
    pub fn new(corpus: &Corpus, schedule: &Schedule) -> Result<Self> {
        let main = Sampler::new(corpus, schedule.sequence_length, schedule.seed)?;
        let extended = schedule.extension_start() < schedule.steps;
        let length = schedule.extension_length;
        let sampler = || {
            Sampler::new(corpus, length, schedule.seed).map_err(|e| {
                let message = format!("cannot be used ({e}), or leave it out with --extension 0");
                Error::setting("extension_length", length, message)
            })
        };
        let extension = extended.then(sampler).transpose()?;
        let samplers = [
            Some((&main, schedule.sequence_length)),
            extension.as_ref().map(|s| (s, length)),
        ];
        for (sampler, t) in samplers.into_iter().flatten() {
            for name in sampler.skipped() {
                let t = t + 1;
                eprintln!(
                    "warning: {name} is shorter than a sequence of {t} tokens and is left out"
                );
            }
        }
        Ok(Samplers { main, extension })
    }

    /// The sequences of `step` (from 0).
    pub fn sequences(&self, step: u64, schedule: &Schedule) -> Vec<&[u32]> {
        let (sampler, start) = match &self.extension {
            Some(sampler) if step >= schedule.extension_start() => {
                (sampler, schedule.extension_start())
            }
            _ => (&self.main, 0),
        };
        let windows = sampler.windows(step - start, schedule.sequences_per_step());
        windows.into_iter().map(|w| sampler.tokens(w)).collect()
    }
}

/// How many steps of how many tokens.
pub fn steps(schedule: &Schedule) -> String {
    let (batch, start) = (schedule.sequences_per_step(), schedule.extension_start());
    let part = |steps: u64, t: usize| format!("{steps} steps of {batch} x {t} tokens");
    let extension = match schedule.steps - start {
        0 => String::new(),
        steps => format!(", then {}", part(steps, schedule.extension_length)),
    };
    format!("{}{extension}", part(start, schedule.sequence_length))
}
