//! Runs kernels of PTX files by hand: `ptx --help`.

mod arguments;
mod compare;
mod launch;
mod opcodes;
mod run;
mod show;
mod tensor;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A GPU for those who have none: runs PTX on a CPU, and tells what is wrong with it and what it costs
#[derive(Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  ptx opcodes kernel.ptx
      which instructions a file has, and which of them cannot be run

  ptx run kernel.ptx --kernel axpy --grid 8 --block 128 \\
      --arg f32[1024]=random --arg f32[1024]=1 --arg f32:0.5 --arg i32:1024 --show 1 --save 1=y.npy
      runs a kernel on two buffers and two numbers, shows what it left in the second and writes it to a file

  ptx run kernel.ptx --kernel axpy --grid 8 --block 128 --arg x.npy --arg weights.safetensors:w --lines --estimate a100
      takes the buffers from files; says line by line what it costs, and what that would take on an A100

  ptx compare old.ptx new.ptx --kernel axpy --grid 8 --block 128 --arg f32[1024]=random --arg f32[1024]=1
      runs two versions on the same arguments: how results and counters differ

The exit status is 0 if nothing was found, 1 if the kernel is wrong (races, bounds, uninitialised reads, ...), 2 if it could not be run."
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a kernel; show what is wrong with it and its counters
    Run(run::Run),
    /// List the opcodes of files, and which of them are not known
    Opcodes(opcodes::Opcodes),
    /// Run versions of a kernel on the same arguments; show how results and counters differ
    Compare(compare::Compare),
}

/// Whether everything was in order, or why nothing could be said.
type Outcome = Result<bool, String>;

fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Run(run) => run.run(),
        Command::Opcodes(opcodes) => opcodes.run(),
        Command::Compare(compare) => compare.run(),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}
