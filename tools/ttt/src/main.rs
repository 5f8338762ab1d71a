//! The program `ttt`: train, evaluate and run models that learn while they read.

mod args;
mod grad;

use clap::Parser;

use args::{Args, Command};

fn main() -> std::process::ExitCode {
    let args = Args::parse();
    let result = match &args.command {
        Command::Grad(grad) => grad.run(),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            std::process::ExitCode::FAILURE
        }
    }
}
