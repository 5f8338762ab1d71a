//! Settings of a training run: a preset, changed by a TOML file, changed by options.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use model::memory::Bytes;
use model::train::Schedule;
use model::{Config, Error, LayerType, Result, Ttt};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// Everything that decides a run, as in `settings.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Shape of the model.
    pub model: Shape,
    /// How it is trained.
    pub training: Schedule,
    /// What it reads.
    pub data: Data,
}

/// Shape of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Which method.
    pub architecture: Architecture,
    /// d.
    pub hidden_size: usize,
    /// L.
    pub num_hidden_layers: usize,
    /// n.
    pub num_attention_heads: usize,
    /// Key/value heads.
    pub num_key_value_heads: usize,
    /// Width of the MLPs of TTT-E2E. The baselines spread the parameters of its fast MLPs over all their blocks.
    pub intermediate_size: usize,
    /// k.
    pub sliding_window: usize,
    /// b.
    pub mini_batch_size: usize,
    /// S.
    pub num_fast_layers: usize,
    /// eta.
    pub inner_learning_rate: f64,
    /// c.
    pub inner_clip_norm: f64,
    /// Base of the rotary angles.
    pub rope_theta: f64,
    /// One matrix for embedding and output.
    pub tie_word_embeddings: bool,
}

/// The method and its baselines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// Sliding window, and fast MLPs that learn while reading.
    TttE2e,
    /// Sliding window alone.
    SlidingWindow,
    /// Every query sees every earlier key.
    FullAttention,
    /// Five blocks with a sliding window to one with full attention; of fewer than six blocks, the last has it.
    Hybrid,
}

impl Architecture {
    /// As on the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.expect("no variant is hidden").get_name().to_string()
    }
}

/// What is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Folders or files (.txt, .txt.gz) to train on.
    pub train: Vec<PathBuf>,
    /// Folders or files to evaluate on at the end.
    pub heldout: Vec<PathBuf>,
    /// Tokens of a held-out sequence; the fast weights start anew at each. Longer than those of training, it shows how far
    /// learning while reading carries.
    pub heldout_length: usize,
    /// A tokenizer.json, or `bytes`.
    pub tokenizer: PathBuf,
}

impl Settings {
    /// `base`, then what `config` (TOML) says, then `options` (the same tables, with only the fields given).
    pub fn resolve(base: Settings, config: Option<&Path>, options: Table) -> Result<Self> {
        let mut table = Table::try_from(base).expect("settings are plain data");
        if let Some(path) = config {
            let text = std::fs::read_to_string(path).map_err(|e| file_error(path, e))?;
            let given: Table = text.parse().map_err(|e| toml_error(path, &text, &e))?;
            merge(&mut table, given);
            // errors of the file's own fields name the file
            table
                .clone()
                .try_into::<Settings>()
                .map_err(|e| toml_error(path, &text, &e))?;
        }
        merge(&mut table, options);
        table
            .try_into()
            .map_err(|e| Error::setting("settings", "", e.to_string()))
    }

    /// Reads the `settings.toml` of a run.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| file_error(path, format!("{e}; --resume takes the folder of a run")))?;
        toml::from_str(&text).map_err(|e| toml_error(path, &text, &e))
    }

    /// The configuration of the model for a vocabulary of V ids.
    pub fn config(&self, vocab_size: usize) -> Result<Config> {
        let s = &self.model;
        let ttt = Ttt {
            mini_batch_size: s.mini_batch_size,
            num_fast_layers: s.num_fast_layers,
            inner_learning_rate: s.inner_learning_rate,
            inner_clip_norm: s.inner_clip_norm,
        };
        let (layers, fast) = (s.num_hidden_layers, s.num_fast_layers);
        let parts = s
            .intermediate_size
            .saturating_mul(layers.saturating_add(fast));
        let spread = parts / layers.max(1);
        let learns = s.architecture == Architecture::TttE2e;
        let mut config = Config {
            model_type: "ttt_e2e".to_string(),
            vocab_size,
            hidden_size: s.hidden_size,
            intermediate_size: if learns { s.intermediate_size } else { spread },
            num_hidden_layers: layers,
            num_attention_heads: s.num_attention_heads,
            num_key_value_heads: Some(s.num_key_value_heads),
            head_dim: None,
            rms_norm_eps: 1e-6,
            rope_theta: s.rope_theta,
            sliding_window: (s.architecture != Architecture::FullAttention)
                .then_some(s.sliding_window),
            layer_types: None,
            tie_word_embeddings: s.tie_word_embeddings,
            hidden_act: "silu".to_string(),
            ttt: learns.then_some(ttt),
        };
        if self.data.heldout_length == 0 {
            return Err(Error::setting("heldout_length", 0, "must be at least 1"));
        }
        config.check()?;
        if s.architecture == Architecture::Hybrid {
            config.layer_types = Some(hybrid(layers));
        }
        self.training.check(&config)?;
        Ok(config)
    }
}

/// Every sixth block with full attention; of fewer than six, the last.
fn hybrid(layers: usize) -> Vec<LayerType> {
    let full = |i: usize| (i + 1).is_multiple_of(layers.min(6));
    let of = |i: usize| match full(i) {
        true => LayerType::FullAttention,
        false => LayerType::SlidingAttention,
    };
    (0..layers).map(of).collect()
}

fn file_error(path: &Path, e: impl std::fmt::Display) -> Error {
    Error::File {
        path: path.to_path_buf(),
        message: format!("cannot be read: {e}"),
    }
}

/// The error without the lines of the file that come with it.
fn toml_error(path: &Path, text: &str, e: &toml::de::Error) -> Error {
    let before = e.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(String::new(), |b| {
        format!("line {}: ", b.matches('\n').count() + 1)
    });
    Error::File {
        path: path.to_path_buf(),
        message: format!("{line}{}", e.message().trim_end().replace('\n', " ")),
    }
}

/// Fields of `given` replace those of `table`, table by table.
fn merge(table: &mut Table, given: Table) {
    for (key, value) in given {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(given)) => merge(inner, given),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

/// Named settings to start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// A small model on the shipped books, in under ten minutes on two cores.
    Default,
    /// The published recipe, 125M parameters.
    #[value(name = "paper-125m")]
    Paper125m,
    /// The published recipe, 350M parameters.
    #[value(name = "paper-350m")]
    Paper350m,
    /// The published recipe, 760M parameters.
    #[value(name = "paper-760m")]
    Paper760m,
    /// The published recipe, 1.3B parameters.
    #[value(name = "paper-1.3b")]
    Paper1_3b,
    /// The published recipe, 3B parameters.
    #[value(name = "paper-3b")]
    Paper3b,
}

impl Preset {
    /// Its settings.
    pub fn settings(self) -> Settings {
        // L, d, n, MLP width, S, learning rate, tokens in billions (MATH: recipe of the paper). Where the paper gives no width for
        // TTT-E2E (350M), the full-attention width less the fast MLPs' share, as its other sizes have it.
        match self {
            Preset::Default => default_settings(),
            Preset::Paper125m => paper(12, 768, 12, 1664, 3, 3e-3, 2.5),
            Preset::Paper350m => paper(24, 1024, 16, 2272, 6, 1.5e-3, 7.0),
            Preset::Paper760m => paper(24, 1536, 16, 3328, 6, 1.25e-3, 15.0),
            Preset::Paper1_3b => paper(24, 2048, 32, 4352, 6, 1e-3, 26.0),
            Preset::Paper3b => paper(32, 2560, 32, 5632, 8, 8e-4, 54.0),
        }
    }
}

fn default_settings() -> Settings {
    Settings {
        model: Shape {
            architecture: Architecture::TttE2e,
            hidden_size: 128,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            num_key_value_heads: 4,
            intermediate_size: 256,
            sliding_window: 16,
            mini_batch_size: 32,
            num_fast_layers: 1,
            inner_learning_rate: 1.0,
            inner_clip_norm: 1.0,
            rope_theta: 500_000.0,
            tie_word_embeddings: true,
        },
        training: Schedule {
            steps: 2000,
            batch_size: 2,
            accumulation: 1,
            sequence_length: 1024,
            extension: 0.0,
            extension_length: 8192,
            learning_rate: 4e-3,
            min_learning_rate: 1e-5,
            warmup: 0.1,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            clip_norm: 1.0,
            inner_warmup_start: 0.1,
            inner_warmup: 0.1,
            first_order: false,
            memory: None,
            seed: 0,
        },
        data: Data {
            train: vec!["data/books/train".into()],
            heldout: vec!["data/books/heldout".into()],
            heldout_length: 8192,
            tokenizer: "data/tokenizer.json".into(),
        },
    }
}

/// The published recipe: 8K context, b = 1024, k = 8192, 0.5M tokens per step.
fn paper(
    layers: usize,
    d: usize,
    heads: usize,
    width: usize,
    fast: usize,
    learning_rate: f64,
    billions: f64,
) -> Settings {
    let default = default_settings();
    let (sequence_length, batch_size) = (8192, 64);
    let tokens_per_step = (sequence_length * batch_size) as f64;
    Settings {
        model: Shape {
            hidden_size: d,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: heads,
            intermediate_size: width,
            sliding_window: 8192,
            mini_batch_size: 1024,
            num_fast_layers: fast,
            ..default.model
        },
        training: Schedule {
            steps: (billions * 1e9 / tokens_per_step).round() as u64,
            batch_size,
            sequence_length,
            extension: 0.0,
            extension_length: 0,
            learning_rate,
            memory: Some(Bytes(0)),
            ..default.training
        },
        data: default.data,
    }
}
