//! From a program to PTX, with a cache on disk, and what ptxas says of it.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::nvrtc::{Nvrtc, Output};
use crate::program::Program;

/// Compiles programs. What was compiled once, by any process with the same folder, is not compiled again.
#[derive(Debug)]
pub struct Compiler {
    nvrtc: Nvrtc,
    cache: PathBuf,
}

/// What ptxas gave one kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// Name of the kernel.
    pub entry: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of its stack in local memory.
    pub stack: u32,
    /// Bytes of spilled registers that it writes and reads.
    pub spills: [u32; 2],
    /// Bytes of static shared memory.
    pub shared: u32,
}

impl Compiler {
    /// A compiler with a folder for what it makes.
    pub fn new(nvrtc: Nvrtc, cache: impl Into<PathBuf>) -> Self {
        let cache = cache.into();
        Compiler { nvrtc, cache }
    }

    /// A compiler that caches in the user's cache folder.
    pub fn cached(nvrtc: Nvrtc) -> Self {
        let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(home).unwrap_or_else(std::env::temp_dir);
        Self::new(nvrtc, cache.join("ttt").join("kernels"))
    }

    /// The same with the compiler of this machine.
    ///
    /// # Errors
    /// NVRTC is not on this machine.
    pub fn find() -> Result<Self> {
        Ok(Self::cached(Nvrtc::find()?))
    }

    /// True if it compiles for an architecture, such as "80" or "90a".
    pub fn supports(&self, capability: &str) -> bool {
        let options = options(&format!("sm_{capability}"));
        self.nvrtc.compile("empty.cu", "", &options, true).is_ok()
    }

    /// Version of NVRTC.
    pub fn version(&self) -> (u32, u32) {
        self.nvrtc.version()
    }

    /// PTX of a program for a compute capability, such as "80" or "90a".
    ///
    /// # Errors
    /// NVRTC refuses it; the cache cannot be written.
    pub fn ptx(&self, program: &Program, capability: &str) -> Result<String> {
        let options = options(&format!("compute_{capability}"));
        let path = self.file(program, &options, "ptx");
        if let Ok(text) = std::fs::read_to_string(&path) {
            return Ok(text);
        }
        let output = self.compile(program, &options, false)?;
        let text = String::from_utf8_lossy(&output.code);
        let text = text.trim_end_matches('\0').to_string();
        write(&path, &text)?;
        Ok(text)
    }

    /// What ptxas gives each kernel of a program on an architecture, such as "80" or "90a".
    ///
    /// # Errors
    /// NVRTC or ptxas refuses it; the cache cannot be written.
    pub fn resources(&self, program: &Program, capability: &str) -> Result<Vec<Resources>> {
        let mut options = options(&format!("sm_{capability}"));
        options.push("--ptxas-options=-v".into());
        let path = self.file(program, &options, "log");
        let log = match std::fs::read_to_string(&path) {
            Ok(log) => log,
            Err(_) => {
                let log = self.compile(program, &options, true)?.log;
                write(&path, &log)?;
                log
            }
        };
        Ok(read_log(&log))
    }

    fn compile(&self, program: &Program, options: &[String], machine: bool) -> Result<Output> {
        let name = format!("{}.cu", program.name);
        let output = self
            .nvrtc
            .compile(&name, &program.source(), options, machine);
        output.map_err(|log| Error::Compile {
            program: program.name,
            arch: options[0].clone(),
            log,
        })
    }

    /// The file in the cache: its name stands for everything the result depends on.
    fn file(&self, program: &Program, options: &[String], kind: &str) -> PathBuf {
        let mut hash = Sha256::new();
        hash.update(program.source());
        hash.update(format!("{options:?} {:?}", self.nvrtc.version()));
        let mut name = format!("{}-", program.name);
        for byte in &hash.finalize()[..12] {
            write!(name, "{byte:02x}").expect("a string grows");
        }
        self.cache.join(format!("{name}.{kind}"))
    }
}

fn options(arch: &str) -> Vec<String> {
    // lines: findings and profilers name the line of a .cu file
    let arch = format!("--gpu-architecture={arch}");
    [&arch, "--std=c++17", "-lineinfo"].map(String::from).into()
}

fn write(path: &Path, text: &str) -> Result<()> {
    // another process, or thread, may be writing the same
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);
    let count = WRITTEN.fetch_add(1, Relaxed);
    let fresh = path.with_extension(format!("{}.{count}", std::process::id()));
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&fresh, text))
        .and_then(|()| std::fs::rename(&fresh, path))
        .map_err(|error| Error::Cache {
            path: path.display().to_string(),
            message: error.to_string(),
        })
}

/// Reads what `ptxas -v` prints: a line that names the kernel, then its stack and spills, then its registers.
fn read_log(log: &str) -> Vec<Resources> {
    let number_before = |line: &str, what: &str| -> u32 {
        let before = line.find(what).map_or("", |at| &line[..at]);
        let word = before.split_whitespace().next_back().unwrap_or("");
        word.parse().unwrap_or(0)
    };
    let mut all: Vec<Resources> = vec![];
    for line in log.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            all.push(Resources {
                entry: rest.split('\'').next().unwrap_or("").into(),
                registers: 0,
                stack: 0,
                spills: [0; 2],
                shared: 0,
            });
        }
        let Some(last) = all.last_mut() else { continue };
        if line.contains("bytes stack frame") {
            last.stack = number_before(line, " bytes stack frame");
            last.spills =
                [" bytes spill stores", " bytes spill loads"].map(|what| number_before(line, what));
        }
        if line.contains(" registers") {
            last.registers = number_before(line, " registers");
            last.shared = number_before(line, " bytes smem");
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_ptxas_prints() {
        let log = "ptxas info    : 0 bytes gmem\n\
            ptxas info    : Compiling entry function 'forward' for 'sm_80'\n\
            ptxas info    : Function properties for forward\n    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads\n\
            ptxas info    : Used 168 registers, used 1 barriers, 1024 bytes smem, 400 bytes cmem[0]\n";
        let expected = Resources {
            entry: "forward".into(),
            registers: 168,
            stack: 16,
            spills: [8, 4],
            shared: 1024,
        };
        assert_eq!(read_log(log), [expected]);
    }
}
