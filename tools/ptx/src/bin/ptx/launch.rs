//! What `run` and `compare` have in common: a kernel, its shape and its arguments.

use std::path::{Path, PathBuf};

use ptx::{Asynchrony, Device, Kernel, Launch, Module, Options, Report};

use crate::arguments::{Argument, Placed, argument};
use crate::tensor::Tensor;

/// How to launch a kernel.
#[derive(clap::Args)]
pub struct LaunchArgs {
    /// Name of the kernel; not needed if the file has only one
    #[arg(long)]
    pub kernel: Option<String>,
    /// Blocks in x, y and z: 8 or 8,4,1
    #[arg(long, value_name = "X,Y,Z", value_parser = dimensions, default_value = "1")]
    pub grid: [u32; 3],
    /// Threads per block in x, y and z: 128 or 32,4,1
    #[arg(long, value_name = "X,Y,Z", value_parser = dimensions, default_value = "32")]
    pub block: [u32; 3],
    /// Blocks per cluster in x, y and z
    #[arg(long, value_name = "X,Y,Z", value_parser = dimensions, default_value = "1")]
    pub cluster: [u32; 3],
    /// Bytes of dynamic shared memory
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub shared: u32,
    /// Argument of the kernel, in order: a number (i32:5, f32:0.5, u64:7), a buffer (f32[64,32]=random, bf16[8]=0, f32[8]=range,
    /// f32[8]=random:SEED, f32[8]=empty: memory nobody has written), `null`, FILE.npy or FILE.safetensors:NAME
    #[arg(long = "arg", value_name = "ARGUMENT", value_parser = argument)]
    pub arguments: Vec<Argument>,
    /// Let asynchronous copies write at once rather than when they are waited for
    #[arg(long)]
    pub early: bool,
    /// Do not look for races, uninitialised reads and copies in flight; bounds are always checked
    #[arg(long)]
    pub no_checks: bool,
    /// Stop a warp that runs more instructions
    #[arg(long, value_name = "INSTRUCTIONS", default_value_t = 1 << 32)]
    pub limit: u64,
    /// Write everything as JSON
    #[arg(long)]
    pub json: bool,
}

/// `8`, `8,4` or `8,4,1`
fn dimensions(text: &str) -> Result<[u32; 3], String> {
    let numbers: Result<Vec<u32>, _> = text.split(',').map(|n| n.trim().parse()).collect();
    match numbers.as_deref() {
        Ok([x]) => Ok([*x, 1, 1]),
        Ok([x, y]) => Ok([*x, *y, 1]),
        Ok([x, y, z]) => Ok([*x, *y, *z]),
        _ => Err("write one to three numbers: 8 or 8,4,1".into()),
    }
}

/// A kernel that has run.
pub struct Ran {
    pub text: String,
    pub kernel: Kernel,
    pub report: Report,
    /// What its arguments hold afterwards; None for numbers.
    pub results: Vec<Option<Tensor>>,
}

impl LaunchArgs {
    pub fn launch(&self) -> Launch {
        Launch {
            grid: self.grid,
            block: self.block,
            dynamic_shared: self.shared,
            cluster: self.cluster,
        }
    }

    /// Loads a file and runs its kernel on fresh arguments.
    pub fn run(&self, path: &Path) -> Result<Ran, String> {
        let text = read(path)?;
        let of_file = |e: ptx::Error| format!("{}: {e}", path.display());
        let module = Module::parse(&text).map_err(of_file)?;
        let kernels = module.kernels();
        let name = match (&self.kernel, &kernels[..]) {
            (Some(name), _) if !kernels.contains(&&name[..]) => {
                return Err(format!(
                    "{} has no kernel {name}, only {}",
                    path.display(),
                    kernels.join(", ")
                ));
            }
            (Some(name), _) => name,
            (None, [name]) => *name,
            (None, []) => return Err(format!("{} has no kernel", path.display())),
            (None, names) => {
                let names = names.join(", ");
                return Err(format!(
                    "say which kernel with --kernel; {} has {names}",
                    path.display()
                ));
            }
        };
        let kernel = module.kernel(name).map_err(of_file)?;
        let mut device = Device::new();
        let placed = self
            .arguments
            .iter()
            .map(|argument| Placed::new(&mut device, argument));
        let placed = placed.collect::<Result<Vec<_>, _>>()?;
        let args: Vec<_> = placed.iter().map(|placed| placed.arg.clone()).collect();
        let options = Options {
            checks: !self.no_checks,
            asynchrony: if self.early {
                Asynchrony::Early
            } else {
                Asynchrony::Late
            },
            instructions_per_warp: self.limit,
            ..Options::default()
        };
        let report = device.launch(&kernel, &self.launch(), &args, &options);
        let report = report.map_err(|e| match &e {
            ptx::Error::Launch { .. } if args.len() != kernel.argument_bytes().len() => {
                let sizes: Vec<String> = kernel
                    .argument_bytes()
                    .iter()
                    .map(|n| n.to_string())
                    .collect();
                format!("{e}, of {} bytes; give each with --arg", sizes.join(", "))
            }
            _ => e.to_string(),
        })?;
        let results = placed.iter().map(|placed| placed.read(&device));
        Ok(Ran {
            text,
            results: results.collect::<Result<_, _>>()?,
            kernel,
            report,
        })
    }
}

/// Reads a text file.
pub fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// `2=out.npy`: an argument and where it is written.
pub fn save(text: &str) -> Result<(usize, PathBuf), String> {
    let parts = text.split_once('=');
    let parts = parts.and_then(|(index, path)| Some((index.parse().ok()?, path.into())));
    parts.ok_or_else(|| "write ARGUMENT=FILE, the first argument being 0: 1=y.npy".into())
}
