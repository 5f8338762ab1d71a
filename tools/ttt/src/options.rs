//! Every setting as an option: the same names as in a TOML file, with dashes.

use std::path::PathBuf;

use clap::ArgAction::Set;
use model::memory::Bytes;
use model::{Error, Result};
use serde::Serialize;
use toml::Table;

use crate::settings::Architecture;

/// Options of `model`.
#[derive(clap::Args, Default, Serialize)]
#[command(next_help_heading = "Model")]
pub struct ModelOptions {
    /// Method: TTT-E2E or a baseline with as many parameters
    #[arg(long)]
    architecture: Option<Architecture>,
    /// d: width
    #[arg(long)]
    hidden_size: Option<usize>,
    /// L: blocks
    #[arg(long)]
    num_hidden_layers: Option<usize>,
    /// n: query heads
    #[arg(long)]
    num_attention_heads: Option<usize>,
    /// Key/value heads, a divisor of n
    #[arg(long)]
    num_key_value_heads: Option<usize>,
    /// Width of the MLPs; baselines spread the fast MLPs' parameters over all blocks
    #[arg(long)]
    intermediate_size: Option<usize>,
    /// k: positions a query sees, its own included
    #[arg(long)]
    sliding_window: Option<usize>,
    /// b: tokens per inner step
    #[arg(long)]
    mini_batch_size: Option<usize>,
    /// S: last blocks that have a fast MLP
    #[arg(long)]
    num_fast_layers: Option<usize>,
    /// eta: inner learning rate
    #[arg(long)]
    inner_learning_rate: Option<f64>,
    /// c: inner gradient norm to clip to; 0 for no clipping
    #[arg(long)]
    inner_clip_norm: Option<f64>,
    /// Base of the rotary angles
    #[arg(long)]
    rope_theta: Option<f64>,
    /// Use the embedding matrix as output matrix
    #[arg(long, action = Set)]
    tie_word_embeddings: Option<bool>,
}

/// Options of `training`.
#[derive(clap::Args, Default, Serialize)]
#[command(next_help_heading = "Training")]
pub struct TrainingOptions {
    /// Optimiser steps
    #[arg(long)]
    steps: Option<u64>,
    /// Sequences per batch
    #[arg(long)]
    batch_size: Option<usize>,
    /// Batches averaged into one step
    #[arg(long)]
    accumulation: Option<usize>,
    /// T: tokens per sequence
    #[arg(long)]
    sequence_length: Option<usize>,
    /// Share of the steps, the last ones, with sequences of EXTENSION_LENGTH tokens instead; 0 for none
    #[arg(long)]
    extension: Option<f64>,
    /// T in those steps
    #[arg(long)]
    extension_length: Option<usize>,
    /// Peak learning rate
    #[arg(long, visible_alias = "lr")]
    learning_rate: Option<f64>,
    /// Learning rate at the end of the cosine
    #[arg(long)]
    min_learning_rate: Option<f64>,
    /// Share of the tokens with rising learning rate
    #[arg(long)]
    warmup: Option<f64>,
    /// Weight decay of matrices
    #[arg(long)]
    weight_decay: Option<f64>,
    /// AdamW's first decay
    #[arg(long)]
    beta1: Option<f64>,
    /// AdamW's second decay
    #[arg(long)]
    beta2: Option<f64>,
    /// Outer gradient norm to clip to; 0 for no clipping
    #[arg(long)]
    clip_norm: Option<f64>,
    /// Factor on the inner learning rate at the first step
    #[arg(long)]
    inner_warmup_start: Option<f64>,
    /// Share of the tokens with rising inner learning rate
    #[arg(long)]
    inner_warmup: Option<f64>,
    /// Treat inner gradients as constants (not exact)
    #[arg(long, action = Set, num_args = 0..=1, default_missing_value = "true")]
    first_order: Option<bool>,
    /// What the backward passes may keep, like 2GB: what does not fit is computed again; 0 for as little as possible
    #[arg(long)]
    memory: Option<Bytes>,
    /// Seed of parameters and data order
    #[arg(long)]
    seed: Option<u64>,
}

/// Options of `data`.
#[derive(clap::Args, Default, Serialize)]
#[command(next_help_heading = "Data")]
pub struct DataOptions {
    /// Folders or files (.txt, .txt.gz) to train on
    #[arg(long = "data", value_name = "PATH", num_args = 1..)]
    train: Option<Vec<PathBuf>>,
    /// Folders or files to evaluate on at the end
    #[arg(long, value_name = "PATH", num_args = 0..)]
    heldout: Option<Vec<PathBuf>>,
    /// Tokens per held-out sequence
    #[arg(long)]
    heldout_length: Option<usize>,
    /// A Hugging Face tokenizer.json, or 'bytes'
    #[arg(long)]
    tokenizer: Option<PathBuf>,
}

/// The options given, as the tables of a TOML file.
pub fn table(
    model: &ModelOptions,
    training: &TrainingOptions,
    data: &DataOptions,
) -> Result<Table> {
    // TOML has no larger integers
    let too_large = |_| {
        let message = format!("has a number above {}; choose a smaller one", i64::MAX);
        Error::setting("options", "MODEL, TRAINING or DATA", message)
    };
    let mut all = Table::new();
    let model = Table::try_from(model).map_err(too_large)?;
    let training = Table::try_from(training).map_err(too_large)?;
    let data = Table::try_from(data).map_err(too_large)?;
    all.insert("model".into(), model.into());
    all.insert("training".into(), training.into());
    all.insert("data".into(), data.into());
    Ok(all)
}
