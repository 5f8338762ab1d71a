//! `ttt bench`: how long a training step takes, how much of the machine it uses, and how long others take for it; and how many
//! sessions a machine serves.

mod child;
mod comparison;
mod machine;
mod peers;
pub mod read;
mod sessions;
mod step;

use std::path::PathBuf;

use clap::Subcommand;
use model::files::read_input_ids;
use model::{Error, Model, Result};
use ops::DType;

use crate::args::Machine;

/// `ttt bench`.
#[derive(Subcommand)]
pub enum Bench {
    /// Time a whole training step (forward, inner loop, meta-gradient) and the same weights trained statically
    Step(step::Step),
    /// Time reading and writing after contexts of up to two million tokens, for TTT-E2E and the baselines
    Read(Box<read::Read>),
    /// Time both steps here, in PyTorch and in JAX, one after the other
    Peers(peers::Peers),
    /// Time many sessions that write together, and one after another
    Sessions(sessions::Sessions),
}

impl Bench {
    /// Runs the benchmark.
    pub fn run(&self) -> Result<()> {
        match self {
            Bench::Step(step) => step.run(),
            Bench::Peers(peers) => peers.run(),
            Bench::Read(read) => read.run(),
            Bench::Sessions(sessions) => sessions.run(),
        }
    }
}

/// What is timed, and how often.
#[derive(clap::Args)]
struct Workload {
    /// Model folder
    #[arg(long)]
    model: PathBuf,
    /// Safetensors file with `input_ids` [T + 1]
    #[arg(long)]
    tokens: PathBuf,
    /// Timed steps of each kind, after one untimed
    #[arg(long, default_value_t = 5)]
    repeat: usize,
}

impl Workload {
    /// The model and the ids.
    fn load(&self, machine: &Machine, dtype: DType) -> Result<(Model, Vec<u32>)> {
        if self.repeat == 0 {
            return Err(Error::setting("repeat", 0, "must be at least 1"));
        }
        let model = machine.load(&self.model, dtype)?;
        let ids = read_input_ids(&self.tokens, model.config.vocab_size)?;
        Ok((model, ids))
    }
}
