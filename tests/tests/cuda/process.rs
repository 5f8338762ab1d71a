//! Tests that start themselves again, where there is a device.

use std::process::{Command, Output};

use cuda_interpreted::links;
use kernels::compiler;

/// Set in the process that finds the driver.
const INSIDE: &str = "TESTS_INSIDE_INTERPRETED_CUDA";

/// True in a process that finds a device. In any other the test of this name is run again in two that do, one whose device works as
/// late and one whose device works as early as a device may; both must succeed with nothing found.
pub fn on_device(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    for work in ["late", "early"] {
        let Some(output) = again(test, &[("WORK", work)]) else {
            return false;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{work}: {said}");
        // the compiler of kernels asks for a table of the driver's that is not documented, and does without
        let found =
            |line: &&str| line.contains("(interpreted)") && !line.contains("cuGetExportTable");
        assert_eq!(said.lines().find(found), None, "{work}: {said}");
    }
    false
}

/// True in a process whose calls of the driver are traced.
pub fn traced() -> bool {
    std::env::var_os("TTT_INTERPRETED_TRACE").is_some()
}

/// Begins and ends what [`Calls`] counts.
pub fn mark() {
    eprintln!("{MARK}");
}

const MARK: &str = "calls are counted from here, or to here";

/// The calls of the driver between the two marks of a test.
pub struct Calls(String);

impl Calls {
    /// Of the test of this name, run again. None where there is no compiler of kernels.
    pub fn of(test: &str) -> Option<Self> {
        let output = again(test, &[("TRACE", "on")])?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let parts: Vec<&str> = said.split(MARK).collect();
        let [_, between, _] = parts[..] else {
            panic!("two marks, not {}: {said}", parts.len() - 1);
        };
        Some(Calls(between.to_string()))
    }

    /// How many have this in their line.
    pub fn count(&self, what: &str) -> usize {
        let lines = self.0.lines();
        lines.filter(|line| line.contains(what)).count()
    }
}

/// Runs a test again where it finds the driver, with settings of that. None where there is no compiler of kernels.
fn again(test: &str, settings: &[(&str, &str)]) -> Option<Output> {
    compiler()?;
    let program = std::env::current_exe().expect("a path");
    // target/PROFILE/deps/PROGRAM
    let target = program.ancestors().nth(3).expect("a target folder");
    let folder = target.join("interpreted");
    links::make(&folder, &program).unwrap_or_else(|error| panic!("{error}"));
    let mut path = links::search_path(&folder);
    path.push(":");
    path.push(target.join("nvrtc/nvidia/cuda_nvrtc/lib"));
    let mut command = Command::new(&program);
    command
        .env("LD_LIBRARY_PATH", path)
        .env("XDG_CACHE_HOME", target.join("kernels"))
        .env(INSIDE, "1")
        .args(["--exact", test, "--nocapture"]);
    for (name, value) in settings {
        command.env(format!("TTT_INTERPRETED_{name}"), value);
    }
    let output = command.output().expect("a process");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("running 1 test"), "no test {test}");
    Some(output)
}
