//! The command line.

use std::path::Path;

use clap::{Parser, Subcommand};
use model::Model;
use ops::{DType, Device};

/// Models that learn while they read: train, evaluate and run TTT-E2E.
#[derive(Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  ttt train                                     train the default small model on the shipped novels
  ttt eval --model runs/ttt-e2e-1/model         its losses on held-out novels, learning on and off
  ttt generate --model runs/ttt-e2e-1/model \"It was a dark night, and\"

`ttt COMMAND --help` lists a command's options."
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Subcommand)]
pub enum Command {
    /// Train a model on text; with no further words, the default small model on the shipped novels
    Train(Box<crate::train::Train>),
    /// Losses on books, per token, per byte and by position, with learning while reading on and off
    Eval(crate::eval::Eval),
    /// Train TTT-E2E and its baselines on the same tokens and draw their losses and latencies side by side
    Compare(Box<crate::compare::Compare>),
    /// Read a prompt, learning from it, and write on
    Generate(crate::generate::Generate),
    /// Read texts and keep what was learned
    Read(crate::read::Read),
    /// Talk with a model that learns from what is said
    Chat(crate::chat::Chat),
    /// What memories hold, how they differ, and one out of several
    #[command(subcommand)]
    Memory(crate::memory::MemoryCommand),
    /// Time training steps, here and in other frameworks
    #[command(subcommand)]
    Bench(crate::bench::Bench),
    /// Write losses, meta-gradient and final fast weights of a sequence, to compare with another implementation
    Grad(crate::grad::Grad),
    /// Train a tokenizer on texts
    Tokenizer(crate::tokenizer::TrainTokenizer),
}

/// What to run on.
#[derive(clap::Args, Default)]
pub struct Machine {
    /// Device to run on: cpu, cuda, or cuda:1 for the second of them
    #[arg(long, default_value = "cpu")]
    device: Device,
    /// Threads to use on the CPU; 0 means one per core
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

impl Machine {
    /// The device, once it is certain that there is one.
    pub fn device(&self) -> model::Result<Device> {
        self.device.check()?;
        Ok(self.device)
    }

    /// A model of a folder on the device, computing in `dtype`.
    pub fn load(&self, folder: &Path, dtype: DType) -> model::Result<Model> {
        let weights = self.weights(dtype)?;
        self.device()?;
        self.put(Model::load(folder, weights)?, dtype)
    }

    /// A model on the device, computing in `dtype`.
    pub fn put(&self, model: Model, dtype: DType) -> model::Result<Model> {
        self.weights(dtype)?;
        model.to(self.device()?)?.computing_in(dtype)
    }

    /// The type of the weights of a model that computes in `dtype`.
    fn weights(&self, dtype: DType) -> model::Result<DType> {
        match (dtype, self.device) {
            (DType::F32 | DType::F64, _) => Ok(dtype),
            (DType::BF16, Device::Cuda(_)) => Ok(DType::F32),
            _ => {
                let message = "the CPU computes in f32 and f64, a CUDA device in f32 and bf16; weights stored in bf16 or f16 are \
                     converted";
                Err(model::Error::setting("dtype", dtype, message))
            }
        }
    }

    /// Number of threads: as asked, or one per core. Another device than the CPU does one thing after the other, so one thread asks
    /// for them.
    pub fn threads(&self) -> usize {
        match (self.device, self.threads) {
            (Device::Cpu, 0) => cores(),
            (Device::Cpu, n) => n,
            _ => 1,
        }
    }
}

/// Cores this program may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
