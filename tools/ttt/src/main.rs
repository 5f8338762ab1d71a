//! The program `ttt`: train, evaluate and run models that learn while they read.

mod args;
mod bench;
mod cache;
mod eval;
mod generate;
mod grad;
mod options;
mod outcome;
mod output;
mod report;
mod settings;
mod train;

use clap::Parser;

use args::{Args, Command};

fn main() -> std::process::ExitCode {
    let args = Args::parse();
    let result = match &args.command {
        Command::Bench(bench) => bench.run(),
        Command::Eval(eval) => eval.run(),
        Command::Generate(generate) => generate.run(),
        Command::Grad(grad) => grad.run(),
        Command::Train(train) => train.run(),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            std::process::ExitCode::FAILURE
        }
    }
}
