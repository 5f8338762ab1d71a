//! Models that learn while they read: TTT-E2E, trained and run by the program `ttt`.
//!
//! A Transformer with sliding-window attention sees the last k tokens. TTT-E2E ("End-to-End Test-Time Training for Long
//! Context", arXiv 2512.23675) lets it keep the rest in its weights: every mini-batch of b tokens it reads is one gradient step
//! on the next-token loss, taken on the *fast* MLPs of its last blocks. Training differentiates through those steps, so that
//! the weights are good at learning, not only at predicting. That takes gradients of gradients of everything a Transformer
//! is made of, and this workspace is built around them:
//!
//! | crate | what it is | start reading at |
//! |---|---|---|
//! | `autograd` | the tape: a gradient is more tape, so gradients of any order exist | its first page |
//! | `ops` | tensors; primitives closed under differentiation; fused ops as towers: forward, backward, backward of the backward | `ops::list` |
//! | `model` | blocks, the inner loop, the outer loop, sessions, data, models on disk | `model::ttt`, the paper's algorithm |
//! | `tests` | finite differences vouch for textbook forms, textbook forms vouch for fast code, an independent implementation vouches for the whole | `tests/tests/` |
//! | `ttt` | this program | `ttt --help` |
//!
//! ```text
//! ttt train                              train the default small model on the shipped novels
//! ttt eval --model runs/ttt-e2e-1/model  loss on held-out novels by position, learning on and off
//! ttt compare                            TTT-E2E and its baselines trained alike, side by side
//! ttt generate --model ... "Once upon"   read a prompt, learning from it, then write
//! ttt read --model ... BOOK --memory M    read texts and keep what was learned
//! ttt chat --model ... --memory M        talk with a model that learns from it
//! ttt memory info M                      what a memory holds
//! ttt grad --model DIR --tokens FILE ... losses and meta-gradients, to compare implementations
//! ```

mod args;
mod bench;
mod cache;
mod chat;
mod compare;
mod eval;
mod generate;
mod grad;
mod interrupt;
mod learning;
mod memory;
mod needle;
mod options;
mod outcome;
mod output;
mod read;
mod report;
mod runs;
mod samplers;
mod settings;
mod tokenizer;
mod train;

use clap::Parser;

use args::{Args, Command};
use read::Ended;
use train::Outcome;

/// What a shell reports of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> std::process::ExitCode {
    let args = Args::parse();
    let result = match &args.command {
        Command::Bench(bench) => bench.run(),
        Command::Compare(compare) => compare.run(),
        Command::Eval(eval) => eval.run(),
        Command::Chat(chat) => chat.run(),
        Command::Generate(generate) => generate.run(),
        Command::Grad(grad) => grad.run(),
        Command::Memory(memory) => memory.run(),
        Command::Read(read) => match read.run() {
            Ok(Ended::Interrupted) => return std::process::ExitCode::from(INTERRUPTED),
            other => other.map(|_| ()),
        },
        Command::Tokenizer(tokenizer) => tokenizer.run(),
        Command::Train(train) => match train.run() {
            Ok(Outcome::Interrupted) => return std::process::ExitCode::from(INTERRUPTED),
            other => other.map(|_| ()),
        },
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            std::process::ExitCode::FAILURE
        }
    }
}
