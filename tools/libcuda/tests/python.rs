//! A program written in Python, which calls the driver through ctypes.

mod common;

use std::process::Command;

use common::python;

/// True if there is a Python here; otherwise says so.
fn has_python() -> bool {
    let version = Command::new("python3").arg("--version").output();
    let has = version.is_ok_and(|output| output.status.success());
    if !has {
        println!("skipped: no python3 here");
    }
    has
}

#[test]
fn a_program_with_ctypes() {
    if has_python() {
        let ran = python(&["axpy.py"], &[("DEVICE", "A100")]).succeeded();
        assert_eq!(ran.stdout, "A100 (interpreted)\n");
        assert_eq!(ran.stderr, "");
    }
}

#[test]
fn memory_that_is_not_freed_is_reported_when_its_context_or_the_program_ends() {
    if has_python() {
        let lost = "1 piece of memory (4000 bytes) never freed; the first has 4000 bytes at ";
        python(&["axpy.py", "leak"], &[])
            .succeeded()
            .says(&format!("cuCtxDestroy: {lost}"));
        python(&["axpy.py", "leak", "end"], &[])
            .succeeded()
            .says(&format!("end of the program: {lost}"));
    }
}

#[test]
fn the_command_makes_a_program_find_the_driver() {
    if has_python() {
        let program = env!("CARGO_BIN_EXE_with-interpreted-cuda");
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs");
        let mut command = Command::new(program);
        let command = command.current_dir(here).args(["python3", "axpy.py"]);
        let output = command.output().expect("a process");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "H100 (interpreted)\n"
        );
        let output = Command::new(program).output().expect("a process");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.starts_with("error: which program?"));
    }
}
