//! How a session learns and what it remembers, as options of the commands that read and write.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::session::{Base, Memory, Options, Session};
use model::{Config, Error, Result};
use ops::DType;

/// How to learn.
#[derive(clap::Args)]
#[command(next_help_heading = "Learning")]
pub struct Learning {
    /// Learning while reading and writing [default: on if the model has fast layers]
    #[arg(long, value_enum)]
    ttt: Option<Ttt>,
    /// Learn with the first K fast layers only [default: all]
    #[arg(long, value_name = "K")]
    fast_layers: Option<usize>,
    /// Learn only from mini-batches whose loss is at least this quantile of the last 64, like 0.5 [default: from all]
    #[arg(long, value_name = "Q")]
    surprise: Option<f64>,
    /// Divide the inner learning rate by 1 + steps/N [default: leave it]
    #[arg(long, value_name = "N")]
    decay: Option<f64>,
}

/// Whether to learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Ttt {
    /// Learn from what is read and written
    On,
    /// Keep the weights as they are
    Off,
}

impl Learning {
    /// The options of a session.
    pub fn options(&self, config: &Config) -> Result<Options> {
        let can_learn = config.fast_layers() > 0;
        if self.ttt == Some(Ttt::On) && !can_learn {
            let message = "this model has no fast layers to learn with; use --ttt off";
            return Err(Error::setting("ttt", "on", message));
        }
        Ok(Options {
            learn: can_learn && self.ttt != Some(Ttt::Off),
            fast_layers: self.fast_layers,
            surprise: self.surprise,
            decay: self.decay,
        })
    }
}

/// How to store a memory.
#[derive(clap::Args)]
#[command(next_help_heading = "Memory")]
pub struct Storage {
    /// How a memory is stored: f32 keeps every bit (f64 with --dtype f64), bf16 takes a quarter of that [default: every bit]
    #[arg(long, value_name = "DTYPE")]
    memory_dtype: Option<DType>,
}

impl Storage {
    /// Writes what the session remembers.
    pub fn save(&self, session: &Session, path: &Path) -> Result<Memory> {
        let memory = session.memory(self.memory_dtype.unwrap_or(session.dtype()))?;
        memory.save(path)?;
        Ok(memory)
    }
}

/// A session that goes on from the memory at `path`.
pub fn resume(base: &Arc<Base>, options: Options, path: &Path) -> Result<Session> {
    let memory = Memory::load(path)?;
    Session::resume(base, options, &memory).map_err(|e| Error::File {
        path: path.to_path_buf(),
        message: e.to_string(),
    })
}

/// A session that goes on from the memory at `path` if there is one, and else starts.
pub fn resume_or_start(
    base: &Arc<Base>,
    options: Options,
    path: Option<&PathBuf>,
) -> Result<Session> {
    match path {
        Some(path) if path.exists() => resume(base, options, path),
        _ => Session::start(base, options),
    }
}
