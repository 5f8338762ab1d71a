//! Runs a program with the interpreted driver in place of CUDA's: `with-interpreted-cuda PROGRAM ARGS...`

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use cuda_interpreted::links;

fn main() -> ExitCode {
    match run() {
        Ok(never) => match never {},
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Becomes the program.
fn run() -> Result<std::convert::Infallible, String> {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        return Err("which program? usage: with-interpreted-cuda PROGRAM ARGS...".into());
    };
    let here = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = here.with_file_name("interpreted-cuda");
    links::make(&folder, &here).map_err(|error| error.to_string())?;
    let error = Command::new(&program)
        .args(arguments)
        .env("LD_LIBRARY_PATH", links::search_path(&folder))
        .exec();
    Err(format!("{}: {error}", program.to_string_lossy()))
}
