//! `ttt bench read`: what reading and writing cost, deep in a text, for TTT-E2E and the baselines.

mod cost;
pub mod measure;
pub mod rows;
pub mod show;

use std::path::PathBuf;

use model::gradients::Workers;
use model::memory::Bytes;
use model::train::Schedule;
use model::{Error, Model, Result};
use ops::DType;

use measure::{Measuring, measure};

use crate::args::Machine;
use crate::options::ModelOptions;
use crate::settings::{Architecture, Preset, Settings, Shape};

/// Tokens the models of the benchmark know.
const VOCABULARY: usize = 8192;

/// `ttt bench read`.
#[derive(clap::Args)]
#[command(after_help = "\
Models of random weights, all of one size, read to each context and are then timed there: reading on, and writing token by
token. A model whose cache grows is extrapolated where its cache does not fit, or where a point would take longer than the
limit; that word is then printed. '*' marks a state that was set, because reading so far would have taken longer than the limit.

Examples:
  ttt bench read                                             the default sizes and contexts
  ttt bench read --contexts 8192,131072 --out read           two contexts; table, CSV, page and picture in a folder
  ttt bench read --only ttt-e2e,full-attention --limit 300   more is read, less is set or extrapolated")]
pub struct Read {
    /// Tokens of context to measure after, rising
    #[arg(long, value_delimiter = ',', default_values_t = [8192, 16384, 32768, 65536, 131_072, 524_288, 2_097_152])]
    contexts: Vec<usize>,
    /// Models to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = ALL)]
    only: Vec<Architecture>,
    /// Seconds that reading up to one context, or measuring a growing cache there, may take
    #[arg(long, default_value_t = 20.0)]
    limit: f64,
    /// Rounds in which the contexts take turns
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Tokens read in a round, rounded up to whole mini-batches
    #[arg(long, default_value_t = 512)]
    prefill: usize,
    /// Tokens written in a round by models that do not learn; TTT-E2E writes a mini-batch
    #[arg(long, default_value_t = 32)]
    decode: usize,
    /// What a growing cache may take
    #[arg(long, default_value = "8GB")]
    cache_memory: Bytes,
    /// Folder to write read.json, read.csv, read.html and read.png to
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    machine: Machine,
}

/// TTT-E2E and its baselines.
pub const ALL: [Architecture; 4] = [
    Architecture::TttE2e,
    Architecture::FullAttention,
    Architecture::SlidingWindow,
    Architecture::Hybrid,
];

impl Read {
    /// Measures, prints and writes.
    pub fn run(&self) -> Result<()> {
        let options = Measuring {
            contexts: self.contexts.clone(),
            rounds: self.rounds,
            prefill: self.prefill,
            decode: self.decode,
            limit: self.limit,
            memory: self.cache_memory,
            threads: self.machine.threads(),
        };
        options.check()?;
        let models = self.models()?;
        let workers = Workers::new(self.machine.threads(), 1)?;
        let say = |text: &str| eprintln!("{text}");
        let rows = workers
            .map(&[()], |()| measure(&models, &options, &say))
            .remove(0)?;
        let result = show::Result {
            models: (models.iter())
                .map(|(name, model)| (name.clone(), model.weights.count()))
                .collect(),
            threads: self.machine.threads(),
            limit: options.limit,
            rows,
        };
        if let Some(folder) = &self.out {
            result.write(folder)?;
        }
        match self.json {
            true => crate::output::write_json(&result),
            false => crate::output::write_out(&result.table()),
        }
    }

    fn models(&self) -> Result<Vec<(String, Model)>> {
        let none = (
            crate::options::TrainingOptions::default(),
            crate::options::DataOptions::default(),
        );
        let options = crate::options::table(&self.model, &none.0, &none.1)?;
        let mut settings = Settings::resolve(sized(), None, options)?;
        let mut models = vec![];
        for &architecture in &self.only {
            settings.model.architecture = architecture;
            let config = settings.config(VOCABULARY)?;
            let model = Model::random(&config, 0, DType::F32)?;
            models.push((architecture.name(), model));
        }
        match models.is_empty() {
            true => Err(Error::setting("only", "", "must name at least one model")),
            false => Ok(models),
        }
    }
}

/// A model that no cache holds, small enough for two cores to read with.
fn sized() -> Settings {
    let default = Preset::Default.settings();
    Settings {
        model: Shape {
            hidden_size: 512,
            num_hidden_layers: 8,
            num_attention_heads: 8,
            num_key_value_heads: 2,
            intermediate_size: 1024,
            sliding_window: 1024,
            mini_batch_size: 256,
            num_fast_layers: 2,
            ..default.model
        },
        training: Schedule {
            sequence_length: 8192,
            ..default.training
        },
        data: default.data,
    }
}
