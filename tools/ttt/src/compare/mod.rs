//! `ttt compare`: TTT-E2E and its baselines, trained alike and measured alike.

mod losses;
mod page;
mod result;
mod training;
mod variant;

use std::path::{Path, PathBuf};

use model::data::{Corpus, Tokenizer};
use model::files::load_tokenizer;
use model::gradients::Workers;
use model::memory::Bytes;
use model::train::Schedule;
use model::{Error, Model, Result};
use ops::DType;

use crate::args::Machine;
use crate::bench::read::ALL;
use crate::bench::read::measure::{Measuring, measure};
use crate::options::{DataOptions, ModelOptions, TrainingOptions};
use crate::report::text::{duration, tokens};
use crate::runs::free_folder;
use crate::settings::{Architecture, Preset, Settings};
use losses::HeldOut;
use result::{Compared, Comparison};
use training::Training;
use variant::{Variant, variants};

/// `ttt compare`.
#[derive(clap::Args)]
#[command(after_help = "\
Trains each model with each seed, on the same tokens in the same order; evaluates on held-out books at growing context
lengths; measures latency; writes report.html, results.json, losses.csv and pictures. The plan is printed first, with the
time it will take. A comparison that was stopped goes on with --run FOLDER: models that are trained are not trained again.

Examples:
  ttt compare                                             TTT-E2E and three baselines, three seeds, half an hour on two cores
  ttt compare --plan                                      only say what would be done, and how long it would take
  ttt compare --ablate inner-learning-rate=0.3,3 --ablate mini-batch-size=16,64 --only ttt-e2e,full-attention
  ttt compare --models runs/ttt-e2e-1/model runs/full-attention-1/model      models that are trained already")]
pub struct Compare {
    /// Compare these trained models instead of training any
    #[arg(long, value_name = "FOLDER", num_args = 1..)]
    models: Vec<PathBuf>,
    /// Architectures to train
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = ALL)]
    only: Vec<Architecture>,
    /// TTT-E2E with other values of a setting, like mini-batch-size=16,64; may be given several times
    #[arg(long, value_name = "SETTING=VALUE,...")]
    ablate: Vec<String>,
    /// Seeds, from --seed on
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Tokens of held-out sequences, rising
    #[arg(long, value_delimiter = ',', default_values_t = [128, 512, 1024, 2048, 4096, 8192])]
    lengths: Vec<usize>,
    /// Tokens to predict in each held-out book
    #[arg(long, value_name = "N", default_value_t = 32_768)]
    max_tokens: usize,
    /// Tokens of context to measure latency after, rising
    #[arg(long, value_delimiter = ',', default_values_t = [2048, 8192, 32_768, 131_072])]
    contexts: Vec<usize>,
    /// Measure no latency
    #[arg(long)]
    no_latency: bool,
    /// Only say the plan
    #[arg(long)]
    plan: bool,
    /// Folder to write, or to go on in [default: runs/compare-N]
    #[arg(long)]
    run: Option<PathBuf>,
    /// TOML file with the tables model, training and data; options win over it
    #[arg(long)]
    config: Option<PathBuf>,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    training: TrainingOptions,
    #[command(flatten)]
    data: DataOptions,
}

/// What is trained if nothing else is said: three seeds of four models in under half an hour on two cores.
fn default_settings() -> Settings {
    let default = Preset::Default.settings();
    Settings {
        training: Schedule {
            steps: 600,
            extension: 0.05,
            extension_length: 4096,
            ..default.training
        },
        ..default
    }
}

impl Compare {
    /// Trains, evaluates, measures, writes.
    pub fn run(&self) -> Result<()> {
        self.check()?;
        let options = crate::options::table(&self.model, &self.training, &self.data)?;
        let settings = Settings::resolve(default_settings(), self.config.as_deref(), options)?;
        let folder = self.run.clone().unwrap_or_else(|| free_folder("compare"));
        match self.models.is_empty() {
            true => self.train_and_compare(&settings, &folder),
            false => self.compare_trained(&settings, &folder),
        }
    }

    fn check(&self) -> Result<()> {
        if self.seeds == 0 {
            return Err(Error::setting("seeds", 0, "must be at least 1"));
        }
        let rising = self.lengths.windows(2).all(|w| w[0] < w[1]);
        if self.lengths.first().is_none_or(|&l| l == 0) || !rising {
            let lengths: Vec<String> = self.lengths.iter().map(usize::to_string).collect();
            let message = "must be at least 1 each, and rise";
            return Err(Error::setting("lengths", lengths.join(","), message));
        }
        self.measuring().check()
    }

    fn train_and_compare(&self, settings: &Settings, folder: &Path) -> Result<()> {
        let variants = variants(settings, &self.only, &self.ablate)?;
        let tokenizer = crate::runs::load_tokenizer(&settings.data.tokenizer)?;
        for variant in &variants {
            variant.settings.config(tokenizer.vocab_size())?;
        }
        let cache = crate::cache::cache_dir();
        let corpus = Corpus::open(&settings.data.train, &tokenizer, &cache)?;
        let heldout = Self::open_heldout(settings, &tokenizer)?;
        let threads = self.machine.threads();
        let workers = Workers::new(threads, threads)?;
        let heldout = self.heldout(&heldout, &tokenizer, &workers);
        let training = Training {
            corpus: &corpus,
            tokenizer: &tokenizer,
            folder,
            device: self.machine.device()?,
            threads,
        };
        self.say_plan(&variants, &training, &heldout)?;
        if self.plan {
            return Ok(());
        }
        println!("in {}", folder.display());
        let (mut models, mut trained) = (vec![], vec![]);
        for variant in &variants {
            let mut runs = vec![];
            for i in 0..self.seeds {
                let seed = variant.settings.training.seed.saturating_add(i);
                let say = |text: &str| println!("{}, seed {seed}: {text}", variant.name);
                let model = training.model(variant, seed, &say)?;
                runs.push(heldout.losses(&model)?);
                if i == 0 {
                    models.push(compared(&variant.name, &model));
                    trained.push((variant.name.clone(), model));
                }
            }
            models.last_mut().expect("there is a first seed").runs = runs;
        }
        let schedule = &settings.training;
        let longest = match schedule.extension > 0.0 {
            true => schedule.extension_length.max(schedule.sequence_length),
            false => schedule.sequence_length,
        };
        let text = toml::to_string(settings).expect("settings are plain data");
        self.finish(models, &trained, Some(longest), folder, &text)
    }

    fn compare_trained(&self, settings: &Settings, folder: &Path) -> Result<()> {
        let mut trained: Vec<(String, Model)> = vec![];
        let mut tokenizer: Option<Tokenizer> = None;
        for path in &self.models {
            let model = self.machine.load(path, DType::F32)?;
            let own = load_tokenizer(path, &model.config)?;
            if tokenizer
                .as_ref()
                .is_some_and(|t| t.fingerprint() != own.fingerprint())
            {
                let message = "has another tokenizer than the models before it; losses per token cannot be compared";
                return Err(Error::setting("models", path.display(), message));
            }
            tokenizer = Some(own);
            trained.push((Self::name_of(path, &trained), model));
        }
        let tokenizer = tokenizer.expect("at least one model");
        let corpus = Self::open_heldout(settings, &tokenizer)?;
        let workers = Workers::new(self.machine.threads(), self.machine.threads())?;
        let heldout = self.heldout(&corpus, &tokenizer, &workers);
        let mut models = vec![];
        for (name, model) in &trained {
            println!("{name} reads");
            let mut one = compared(name, model);
            one.runs.push(heldout.losses(model)?);
            models.push(one);
        }
        self.finish(models, &trained, None, folder, "")
    }

    /// The name of a run, or of the folder of a model that lies elsewhere; with a number if there is one by that name.
    fn name_of(path: &Path, before: &[(String, Model)]) -> String {
        let name = crate::runs::model_name(path);
        let taken = |name: &str| before.iter().any(|b| b.0 == name);
        match taken(&name) {
            false => name,
            true => (2..)
                .map(|i| format!("{name} ({i})"))
                .find(|name| !taken(name))
                .unwrap_or_default(),
        }
    }

    fn open_heldout(settings: &Settings, tokenizer: &Tokenizer) -> Result<Corpus> {
        if settings.data.heldout.is_empty() {
            let message = "is empty; name texts to compare the models on";
            return Err(Error::setting("heldout", "", message));
        }
        let cache = crate::cache::cache_dir();
        let corpus = Corpus::open(&settings.data.heldout, tokenizer, &cache)?;
        corpus
            .warnings()
            .iter()
            .for_each(|w| eprintln!("warning: {w}"));
        Ok(corpus)
    }

    fn heldout<'a>(
        &'a self,
        corpus: &'a Corpus,
        tokenizer: &'a Tokenizer,
        workers: &'a Workers,
    ) -> HeldOut<'a> {
        HeldOut {
            corpus,
            tokenizer,
            lengths: &self.lengths,
            max_tokens: self.max_tokens,
            workers,
        }
    }

    /// What will be done, and how long it will take, from a few steps of each model.
    fn say_plan(&self, variants: &[Variant], training: &Training, heldout: &HeldOut) -> Result<()> {
        let targets: usize = heldout
            .corpus
            .books()
            .iter()
            .map(|b| heldout.targets(b))
            .sum();
        let (mut train, mut evaluate) = (0.0, 0.0);
        println!("plan:");
        for variant in variants {
            let config = variant.settings.config(training.tokenizer.vocab_size())?;
            let schedule = &variant.settings.training;
            let pace = training.pace(variant)?;
            println!(
                "  {} trainings of {} ({} parameters): {} tokens, {} each",
                self.seeds,
                variant.name,
                model::weights::count_of(&config)?,
                schedule.tokens_before(schedule.steps),
                duration(pace.training)
            );
            train += pace.training * self.seeds as f64;
            evaluate += pace.token * (targets * self.lengths.len()) as f64 * self.seeds as f64;
        }
        let lengths: Vec<String> = self.lengths.iter().map(|&l| tokens(l)).collect();
        println!(
            "  losses on {targets} tokens of {} held-out books in sequences of {} tokens",
            heldout.corpus.books().len(),
            lengths.join(", ")
        );
        if !self.no_latency {
            let contexts: Vec<String> = self.contexts.iter().map(|&c| tokens(c)).collect();
            println!("  latency after {} tokens", contexts.join(", "));
        }
        println!(
            "  about {} of training, {} of evaluation, and minutes of measuring latency",
            duration(train),
            duration(evaluate)
        );
        Ok(())
    }

    fn measuring(&self) -> Measuring {
        Measuring {
            contexts: self.contexts.clone(),
            rounds: 5,
            prefill: 512,
            decode: 32,
            limit: 5.0,
            memory: Bytes(4_000_000_000),
            threads: self.machine.threads(),
        }
    }

    fn finish(
        &self,
        models: Vec<Compared>,
        trained: &[(String, Model)],
        trained_length: Option<usize>,
        folder: &Path,
        settings: &str,
    ) -> Result<()> {
        let threads = self.machine.threads();
        let latency = match self.no_latency {
            true => vec![],
            false => {
                let workers = Workers::new(threads, 1)?;
                let say = |text: &str| println!("latency: {text}");
                workers
                    .map(&[()], |()| measure(trained, &self.measuring(), &say))
                    .remove(0)?
            }
        };
        let full = |m: &(String, Model)| m.1.config.windows().all(|k| k == usize::MAX);
        let comparison = Comparison {
            lengths: self.lengths.clone(),
            trained_length,
            reference: trained.iter().position(full).unwrap_or(0),
            models,
            latency,
        };
        comparison.write(folder, settings)?;
        println!("\n{}", comparison.text());
        println!("report {}", folder.join("report.html").display());
        Ok(())
    }
}

fn compared(name: &str, model: &Model) -> Compared {
    Compared {
        name: name.to_string(),
        parameters: model.weights.count(),
        window: model.config.sliding_window,
        runs: vec![],
    }
}
