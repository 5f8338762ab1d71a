//! Training the models of a comparison, one after the other.

use std::path::{Path, PathBuf};
use std::time::Instant;

use model::data::{Corpus, Tokenizer};
use model::gradients::Workers;
use model::session::Session;
use model::train::Trainer;
use model::{Error, Model, Result, files};
use ops::{DType, Device};

use super::variant::Variant;
use crate::runs::save_model;
use crate::samplers::Samplers;
use crate::settings::Settings;

/// What all trainings share.
pub struct Training<'a> {
    pub corpus: &'a Corpus,
    pub tokenizer: &'a Tokenizer,
    pub folder: &'a Path,
    pub device: Device,
    pub threads: usize,
}

/// Seconds that things take, from a few steps of each kind.
pub struct Pace {
    /// A whole training.
    pub training: f64,
    /// Reading a token of held-out text.
    pub token: f64,
}

impl Training<'_> {
    /// The settings with this seed.
    pub fn seeded(variant: &Variant, seed: u64) -> Settings {
        let mut settings = variant.settings.clone();
        settings.training.seed = seed;
        settings
    }

    /// Where a trained model is kept.
    pub fn folder(&self, variant: &Variant, seed: u64) -> PathBuf {
        let name = variant.name.replace(' ', "_");
        self.folder
            .join("models")
            .join(format!("{name}_seed{seed}"))
    }

    fn trainer(&self, settings: &Settings) -> Result<Trainer> {
        let config = settings.config(self.tokenizer.vocab_size())?;
        let model = Model::random(&config, settings.training.seed, DType::F32)?;
        let model = model.to(self.device)?;
        Trainer::new(model, settings.training.clone(), self.threads)
    }

    /// Takes a step of each length and reads a little, to tell how long all of it will take.
    pub fn pace(&self, variant: &Variant) -> Result<Pace> {
        let mut trainer = self.trainer(&variant.settings)?;
        let schedule = trainer.schedule().clone();
        let samplers = Samplers::new(self.corpus, &schedule)?;
        let mut step = |step: u64| {
            let sequences = samplers.sequences(step, &schedule);
            let start = Instant::now();
            trainer.step(&sequences)?;
            Ok::<_, Error>(start.elapsed().as_secs_f64())
        };
        step(0)?;
        let extension = schedule.steps - schedule.extension_start();
        let mut training = step(0)? * schedule.extension_start() as f64;
        if extension > 0 {
            training += step(schedule.extension_start())? * extension as f64;
        }
        let text = samplers.sequences(0, &schedule)[0];
        let read = |_: &()| {
            let model = &trainer.model;
            Session::new(model, model.config.fast_layers() > 0)?.read(text)
        };
        let start = Instant::now();
        let workers = Workers::new(self.threads, self.threads)?;
        let done = workers.map(&vec![(); self.threads], read);
        for losses in done {
            losses?;
        }
        let token = start.elapsed().as_secs_f64() / (self.threads * text.len()) as f64;
        Ok(Pace { training, token })
    }

    /// The trained model: from the folder if it is there already, trained with these settings.
    pub fn model(&self, variant: &Variant, seed: u64, say: &dyn Fn(&str)) -> Result<Model> {
        let settings = Self::seeded(variant, seed);
        let folder = self.folder(variant, seed);
        let path = folder.join("settings.toml");
        if path.exists() {
            if Settings::load(&path)? != settings {
                let message =
                    "holds a model trained with other settings; choose another folder with --run";
                return Err(Error::setting("run", folder.display(), message));
            }
            say("trained already");
            return Model::load(&folder.join("model"), DType::F32)?.to(self.device);
        }
        let mut trainer = self.trainer(&settings)?;
        let schedule = trainer.schedule().clone();
        let samplers = Samplers::new(self.corpus, &schedule)?;
        let (start, mut smooth) = (Instant::now(), None);
        for i in 0..schedule.steps {
            let step = trainer.step(&samplers.sequences(i, &schedule))?;
            let loss = smooth.map_or(step.loss, |s| 0.95 * s + 0.05 * step.loss);
            smooth = Some(loss);
            if step.step.is_multiple_of((schedule.steps / 4).max(1)) {
                say(&format!(
                    "step {}/{}  loss {loss:.3}  {:.0} s",
                    step.step,
                    schedule.steps,
                    start.elapsed().as_secs_f64()
                ));
            }
        }
        save_model(&trainer.model, &settings, self.tokenizer, &folder)?;
        // the settings come last: with them the model is complete
        let text = toml::to_string(&settings).expect("settings are plain data");
        files::write(&path, &[text.as_bytes()])?;
        Ok(trainer.model)
    }
}
