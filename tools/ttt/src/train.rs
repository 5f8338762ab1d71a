//! `ttt train`: from text to a model that learns while it reads.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use model::data::Corpus;
use model::train::{StepMetrics, Trainer};
use model::{Config, Error, Model, Result, files};
use ops::DType;
use serde::{Deserialize, Serialize};

use crate::args::Machine;
use crate::options::{DataOptions, ModelOptions, TrainingOptions};
use crate::runs::{free_folder, load_tokenizer, save_model};
use crate::samplers::{Samplers, steps};
use crate::settings::{Architecture, Preset, Settings};

/// `ttt train`.
#[derive(clap::Args)]
#[command(after_help = "\
With no options at all: trains the default small model on the shipped novels, evaluates it on held-out ones with
test-time training on and off, and writes a run folder with the model, metrics.jsonl and report.html.

Examples:
  ttt train                                          the default run
  ttt train --architecture sliding-window            the baseline to compare with
  ttt train --data my_texts --heldout --steps 2000   another corpus, no evaluation
  ttt train --resume runs/ttt-e2e-1                  go on after Ctrl-C, bit for bit
  ttt train --preset paper-125m --config my.toml     the published recipe, changed by a file")]
pub struct Train {
    /// Settings to start from
    #[arg(long, value_enum, default_value = "default")]
    preset: Preset,
    /// TOML file with the tables model, training and data; options win over it
    #[arg(long)]
    config: Option<PathBuf>,
    /// Run folder to write [default: runs/ARCHITECTURE-N]
    #[arg(long)]
    run: Option<PathBuf>,
    /// Go on with the run in this folder, with its own settings
    #[arg(long, value_name = "RUN", conflicts_with_all = ["run", "config", "preset", "init"])]
    resume: Option<PathBuf>,
    /// Start from the weights of this model folder instead of random ones
    #[arg(long, value_name = "MODEL")]
    init: Option<PathBuf>,
    /// Steps between saves
    #[arg(long, default_value_t = 100)]
    save_every: u64,
    /// Precision of the computation: f32; on a CUDA device f32 or bf16. Weights, fast weights too, are f32
    #[arg(long, default_value = "f32")]
    dtype: DType,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    training: TrainingOptions,
    #[command(flatten)]
    data: DataOptions,
}

/// How a run ended.
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// Ctrl-C came first; the state is on disk.
    Interrupted,
}

/// Names in a run folder.
const SETTINGS: &str = "settings.toml";
const STATE: &str = "state.safetensors";
const METRICS: &str = "metrics.jsonl";

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Metrics {
    /// What the step did.
    #[serde(flatten)]
    pub step: StepMetrics,
    /// Tokens read per second in this step.
    pub tokens_per_second: f64,
    /// Seconds of training so far, earlier parts of a resumed run included.
    pub seconds: f64,
}

impl Train {
    /// Trains, evaluates, reports.
    pub fn run(&self) -> Result<Outcome> {
        self.machine.device()?;
        let (settings, folder) = self.settings_and_folder()?;
        let tokenizer = load_tokenizer(&settings.data.tokenizer)?;
        let cache = crate::cache::cache_dir();
        let corpus = Corpus::open(&settings.data.train, &tokenizer, &cache)?;
        corpus
            .warnings()
            .iter()
            .for_each(|w| eprintln!("warning: {w}"));
        let config = settings.config(tokenizer.vocab_size())?;
        let sampler = Samplers::new(&corpus, &settings.training)?;
        let mut trainer = self.trainer(&settings, &config)?;
        let mut metrics = vec![];
        let state = folder.join(STATE);
        if self.resume.is_some() && state.exists() {
            trainer.restore(&state)?;
            metrics = read_metrics(&folder.join(METRICS), trainer.step)?;
        }
        println!(
            "{}: {} parameters{}, {} training tokens in {} books, {}",
            folder.display(),
            trainer.model.weights.count(),
            of_ttt_e2e(&settings, tokenizer.vocab_size())?,
            corpus.tokens(),
            corpus.books().len(),
            steps(&settings.training),
        );
        self.prepare(&folder, &settings)?;
        let finished = self.train(&mut trainer, &sampler, &folder, &mut metrics)?;
        if !finished {
            println!(
                "interrupted at step {}; go on with: ttt train --resume {}",
                trainer.step,
                folder.display()
            );
            return Ok(Outcome::Interrupted);
        }
        save_model(&trainer.model, &settings, &tokenizer, &folder)?;
        crate::outcome::report(&trainer, &settings, &tokenizer, &metrics, &folder)?;
        Ok(Outcome::Finished)
    }

    fn settings_and_folder(&self) -> Result<(Settings, PathBuf)> {
        let options = crate::options::table(&self.model, &self.training, &self.data)?;
        if let Some(folder) = &self.resume {
            if options
                .values()
                .any(|t| t.as_table().is_some_and(|t| !t.is_empty()))
            {
                let message = "continues a run with its own settings; leave the other options out";
                return Err(Error::setting("resume", folder.display(), message));
            }
            return Ok((Settings::load(&folder.join(SETTINGS))?, folder.clone()));
        }
        let settings = Settings::resolve(self.preset.settings(), self.config.as_deref(), options)?;
        let folder = match &self.run {
            Some(folder) if folder.join(STATE).exists() || folder.join(SETTINGS).exists() => {
                let message =
                    "holds a run already; continue it with --resume or choose another folder";
                return Err(Error::setting("run", folder.display(), message));
            }
            Some(folder) => folder.clone(),
            None => free_folder(&settings.model.architecture.name()),
        };
        Ok((settings, folder))
    }

    fn trainer(&self, settings: &Settings, config: &Config) -> Result<Trainer> {
        let model = match &self.init {
            None => Model::random(config, settings.training.seed, DType::F32)?,
            Some(folder) => {
                let model = Model::load(folder, DType::F32)?;
                if model.config.vocab_size != config.vocab_size {
                    let message = format!(
                        "has vocab_size {}, but the tokenizer has {} ids; pass the tokenizer of that model",
                        model.config.vocab_size, config.vocab_size
                    );
                    return Err(Error::setting("init", folder.display(), message));
                }
                model
            }
        };
        let model = self.machine.put(model, self.dtype)?;
        Trainer::new(model, settings.training.clone(), self.machine.threads())
    }

    /// Makes the run folder and writes the settings, before any time is spent.
    fn prepare(&self, folder: &Path, settings: &Settings) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(|e| Error::File {
            path: folder.to_path_buf(),
            message: format!("cannot be made: {e}; choose a folder you can write to with --run"),
        })?;
        remove_leftovers(folder);
        let text = toml::to_string(settings).expect("settings are plain data");
        files::write(&folder.join(SETTINGS), &[text.as_bytes()])
    }

    /// Steps until the end or Ctrl-C; true at the end. The state is on disk either way.
    fn train(
        &self,
        trainer: &mut Trainer,
        sampler: &Samplers,
        folder: &Path,
        metrics: &mut Vec<Metrics>,
    ) -> Result<bool> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        // without a handler Ctrl-C ends the program at once, as everywhere; the last save stays
        let _ = ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(crate::INTERRUPTED.into());
            }
            eprintln!("\nfinishing this step, then saving (once more to stop at once)");
        });
        let steps = trainer.schedule().steps;
        let schedule = trainer.schedule().clone();
        let bar = ProgressBar::new(steps).with_position(trainer.step);
        let style = "{wide_bar} {pos}/{len} steps  {msg}  {elapsed} gone, {eta} left";
        bar.set_style(ProgressStyle::with_template(style).expect("a template that parses"));
        let mut log = MetricsLog::create(&folder.join(METRICS), metrics)?;
        let mut seconds = metrics.last().map_or(0.0, |m| m.seconds);
        let mut smooth = metrics.last().map(|m| m.step.loss);
        while trainer.step < steps {
            let start = Instant::now();
            let sequences = sampler.sequences(trainer.step, &schedule);
            let tokens = sequences.len() * schedule.length_at(trainer.step);
            let step = trainer.step(&sequences)?;
            let took = start.elapsed().as_secs_f64();
            seconds += took;
            let line = Metrics {
                step,
                tokens_per_second: tokens as f64 / took,
                seconds,
            };
            let loss = smooth.map_or(step.loss, |s| 0.95 * s + 0.05 * step.loss);
            smooth = Some(loss);
            bar.set_message(format!(
                "loss {loss:.3}  {:.0} tokens/s",
                line.tokens_per_second
            ));
            bar.set_position(step.step);
            if bar.is_hidden() && (step.step % (steps / 20).max(1) == 0) {
                println!(
                    "step {}/{steps}  loss {loss:.3}  {:.0} tokens/s  {seconds:.0} s",
                    step.step,
                    schedule.tokens_before(step.step) as f64 / seconds
                );
            }
            log.append(&line)?;
            metrics.push(line);
            let interrupted = stop.load(Ordering::SeqCst);
            if interrupted || step.step % self.save_every.max(1) == 0 || step.step == steps {
                log.flush()?;
                trainer.save(&folder.join(STATE))?;
            }
            if interrupted && step.step < steps {
                bar.abandon();
                return Ok(false);
            }
        }
        bar.finish();
        Ok(true)
    }
}

/// For a baseline: how many parameters TTT-E2E would have.
fn of_ttt_e2e(settings: &Settings, vocab_size: usize) -> Result<String> {
    let mut settings = settings.clone();
    if settings.model.architecture == Architecture::TttE2e {
        return Ok(String::new());
    }
    settings.model.architecture = Architecture::TttE2e;
    let count = model::weights::count_of(&settings.config(vocab_size)?)?;
    Ok(format!(" (ttt-e2e would have {count})"))
}

/// Removes temporary files of a run that was killed while it saved. What cannot be removed does no harm.
fn remove_leftovers(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(".tmp") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The lines up to and including `step` of an interrupted run's metrics; a last line cut short is left out.
fn read_metrics(path: &Path, step: u64) -> Result<Vec<Metrics>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => {
            let message = format!("cannot be read: {e}");
            let path = path.to_path_buf();
            return Err(Error::File { path, message });
        }
    };
    let lines = text
        .lines()
        .filter_map(|l| serde_json::from_str::<Metrics>(l).ok());
    Ok(lines.filter(|m| m.step.step <= step).collect())
}

/// `metrics.jsonl`, a line per step.
struct MetricsLog {
    path: PathBuf,
    file: std::io::BufWriter<std::fs::File>,
}

impl MetricsLog {
    /// Starts the file again with the lines there already are, so that a resumed run has each step once.
    fn create(path: &Path, metrics: &[Metrics]) -> Result<Self> {
        let lines: Vec<String> = metrics.iter().map(json_line).collect();
        files::write(path, &[lines.concat().as_bytes()])?;
        let opened = std::fs::OpenOptions::new().append(true).open(path);
        let file = opened.map_err(|e| Error::File {
            path: path.to_path_buf(),
            message: format!("cannot be opened: {e}"),
        })?;
        Ok(MetricsLog {
            path: path.to_path_buf(),
            file: std::io::BufWriter::new(file),
        })
    }

    fn append(&mut self, line: &Metrics) -> Result<()> {
        let written = self.file.write_all(json_line(line).as_bytes());
        written.map_err(|e| self.error(e))
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|e| self.error(e))
    }

    fn error(&self, e: std::io::Error) -> Error {
        Error::File {
            path: self.path.clone(),
            message: format!("cannot be written ({e}); free some space and resume"),
        }
    }
}

fn json_line(line: &Metrics) -> String {
    let mut json = serde_json::to_string(line).expect("metrics are plain data");
    json.push('\n');
    json
}
