//! Programs that use the interpreted driver: each test starts itself again, in a process that finds it.
#![allow(dead_code)]

// only some tests need it
pub mod raw;

use std::path::PathBuf;
use std::process::{Command, Output};

use cuda_interpreted::links;
use tempfile::TempDir;

/// Set in the process that finds the driver.
const INSIDE: &str = "INSIDE_INTERPRETED_CUDA";

/// True in the process that finds the driver.
pub fn inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// What a program did.
pub struct Ran {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    fn new(output: Output) -> Ran {
        Ran {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Panics unless the program succeeded.
    pub fn succeeded(self) -> Ran {
        assert!(self.success, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Panics unless standard error has this text.
    pub fn says(self, text: &str) -> Ran {
        assert!(self.stderr.contains(text), "no {text:?} in {}", self.stderr);
        self
    }
}

/// A folder of links to the driver, and beside it to NVRTC where there is one.
pub fn links() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let program = std::env::current_exe().expect("a path");
    links::make(folder.path(), &program).unwrap_or_else(|error| panic!("{error}"));
    if let Some(nvrtc) = nvrtc() {
        let link = folder.path().join("libnvrtc.so");
        std::os::unix::fs::symlink(nvrtc, link).expect("a link");
    }
    folder
}

/// A command that finds the driver, with settings without their prefix.
pub fn interpreted(program: &str, folder: &TempDir, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    let mut path = links::search_path(folder.path());
    if let Some(nvrtc) = nvrtc() {
        path.push(":");
        path.push(nvrtc.parent().expect("a folder"));
    }
    command.env("LD_LIBRARY_PATH", path).env(INSIDE, "1");
    for (name, value) in settings {
        command.env(format!("TTT_INTERPRETED_{name}"), value);
    }
    command
}

/// Runs a test again, by its name, where it finds the driver.
pub fn again(test: &str, settings: &[(&str, &str)]) -> Ran {
    let folder = links();
    let program = std::env::current_exe().expect("a path");
    let program = program.to_str().expect("a path of text");
    let mut command = interpreted(program, &folder, settings);
    let command = command.args(["--exact", test, "--nocapture"]);
    let ran = Ran::new(command.output().expect("a process"));
    assert!(ran.stdout.contains("running 1 test"), "no test {test}");
    ran
}

/// Runs a Python program of `tests/programs`.
pub fn python(program: &[&str], settings: &[(&str, &str)]) -> Ran {
    let folder = links();
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/programs");
    let mut command = interpreted("python3", &folder, settings);
    let command = command.current_dir(&here).args(program);
    Ran::new(command.output().expect("python3"))
}

/// The compiler of CUDA C++ as Python's packages or a toolkit have it.
pub fn nvrtc() -> Option<PathBuf> {
    let script = "import nvidia; print('\\n'.join(nvidia.__path__))";
    let output = Command::new("python3").args(["-c", script]).output();
    let packages = output.map_or(String::new(), |o| String::from_utf8_lossy(&o.stdout).into());
    let mut folders: Vec<PathBuf> = vec!["/usr/local/cuda/lib64".into()];
    for package in packages.lines() {
        for inside in ["cuda_nvrtc/lib", "cu13/lib", "cu12/lib"] {
            folders.push(PathBuf::from(package).join(inside));
        }
    }
    let mut found = folders
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()));
    found.find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libnvrtc.so")
    })
}

/// Runs a test where it finds the driver, with late work and with early work; true in that process. Nothing may be found.
pub fn late_and_early(test: &str) -> bool {
    if inside() {
        return true;
    }
    for work in ["late", "early"] {
        let said = again(test, &[("WORK", work)]).succeeded().stderr;
        assert!(!said.contains("interpreted"), "{work}: {said}");
    }
    false
}
