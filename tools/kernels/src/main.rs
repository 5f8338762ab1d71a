//! Compiles every CUDA kernel of the library for several architectures and says what each takes: registers, shared memory, spills,
//! how many warps a multiprocessor holds, and how much of its busiest loop is work of the tensor cores. No GPU is needed, only NVRTC.

mod loops;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use kernels_cu::{Compiler, Error, Nvrtc, list};
use table::Row;

/// Compiles every kernel and prints what it takes of a device.
#[derive(Parser)]
#[command(
    version,
    after_help = "\
Examples:
  kernels                              every kernel for A100, H100, B200 and RTX 50
  kernels --arch 80 swa_attention      some of them, for one
  kernels --fetch target/nvrtc         with a compiler that is fetched there first (Python's pip)

Exits with 1 where a kernel spills, needs a stack, or takes more registers than its budget."
)]
struct Args {
    /// Folders of kernels; all if there are none
    kernels: Vec<String>,
    /// Architectures, as in sm_80
    #[arg(long, value_delimiter = ',', default_value = "80,90a,100,120")]
    arch: Vec<String>,
    /// Folder of NVRTC; it is fetched if it is not there
    #[arg(long, value_name = "DIR")]
    fetch: Option<PathBuf>,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// True if every kernel is within its budget.
fn run(args: &Args) -> Result<bool, String> {
    let said = |error: Error| error.to_string();
    let nvrtc = match &args.fetch {
        Some(folder) => Nvrtc::fetch(folder),
        None => Nvrtc::find(),
    };
    let compiler = Compiler::cached(nvrtc.map_err(said)?);
    let mut entries = list::all();
    for name in &args.kernels {
        if !entries.iter().any(|entry| entry.program.name == name) {
            let mut names: Vec<&str> = entries.iter().map(|entry| entry.program.name).collect();
            names.dedup();
            return Err(format!(
                "there is no kernel '{name}': there are {}",
                names.join(", ")
            ));
        }
    }
    entries.retain(|entry| {
        args.kernels.is_empty() || args.kernels.iter().any(|name| name == entry.program.name)
    });
    let mut rows = vec![];
    let mut unknown = vec![];
    for arch in &args.arch {
        match compiler.supports(arch) {
            true => {
                for entry in &entries {
                    rows.push(Row::new(&compiler, entry, arch).map_err(said)?);
                }
            }
            false => unknown.push(arch.as_str()),
        }
    }
    let (major, minor) = compiler.version();
    if !unknown.is_empty() {
        eprintln!(
            "NVRTC {major}.{minor} does not compile for {}",
            unknown.join(", ")
        );
    }
    if rows.is_empty() {
        return Err("nothing was compiled".into());
    }
    match args.json {
        true => println!(
            "{}",
            serde_json::to_string_pretty(&rows).map_err(|e| e.to_string())?
        ),
        false => print!("{}", table::text(&rows)),
    }
    Ok(rows.iter().all(Row::within_budget))
}
