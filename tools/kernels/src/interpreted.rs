//! Runs launches in the PTX interpreter.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use kernels_cu::{Arg, Compiler, DType, Launch, Nvrtc, Program, View};
use ptx::{Asynchrony, Chip, Device, Estimate, Finding, Kernel, Module, Options, Report};

use crate::machine::{from_bytes, to_bytes};

/// The compiler that kernels are checked with: one version, fetched into the target folder of the program that runs, so that budgets are
/// those of one compiler. None, and the reason on standard error, where it cannot be had.
pub fn compiler() -> Option<&'static Compiler> {
    static COMPILER: OnceLock<Option<Compiler>> = OnceLock::new();
    let open = || {
        let program = std::env::current_exe().ok()?;
        // target/PROFILE/deps/PROGRAM
        let target: PathBuf = program.ancestors().nth(3)?.into();
        match Nvrtc::fetch(&target.join("nvrtc")) {
            Ok(nvrtc) => Some(Compiler::new(nvrtc, target.join("kernels"))),
            Err(error) => {
                eprintln!("skipped: {error}");
                None
            }
        }
    };
    COMPILER.get_or_init(open).as_ref()
}

/// A device of this process, with what runs on it.
pub struct Interpreted {
    device: Device,
    compiler: &'static Compiler,
    kernels: HashMap<(Program, &'static str), Kernel>,
    options: Options,
}

impl Interpreted {
    /// A device whose copies complete late or early; None where there is no compiler.
    pub fn new(asynchrony: Asynchrony) -> Option<Self> {
        Some(Interpreted {
            device: Device::new(),
            compiler: compiler()?,
            kernels: HashMap::new(),
            options: Options {
                asynchrony,
                ..Options::default()
            },
        })
    }

    /// A device for [estimates](Self::estimate): its memory is zeros, and takes none of the host's until it is touched.
    pub fn for_estimates() -> Option<Self> {
        Some(Interpreted {
            device: Device::with_zeros(),
            ..Interpreted::new(Asynchrony::Late)?
        })
    }

    /// Numbers, rounded to a type.
    pub fn upload(&mut self, x: &[f64], dtype: DType) -> View {
        self.write_bytes(&to_bytes(x, dtype))
    }

    /// Indices.
    pub fn upload_u32(&mut self, x: &[u32]) -> View {
        let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.write_bytes(&bytes)
    }

    pub(crate) fn write_bytes(&mut self, bytes: &[u8]) -> View {
        let address = self.device.allocate(bytes.len());
        let written = self.device.write(address, bytes);
        written.expect("an allocation of that size");
        View::interpreted(address, bytes.len())
    }

    /// Room for n elements that nobody has written.
    pub fn output(&mut self, n: usize, dtype: DType) -> View {
        let bytes = n * dtype.bytes();
        View::interpreted(self.device.allocate(bytes), bytes)
    }

    /// Elements of a type.
    pub fn download(&self, view: &View, dtype: DType) -> Vec<f64> {
        from_bytes(&self.read_bytes(view), dtype)
    }

    pub(crate) fn read_bytes(&self, view: &View) -> Vec<u8> {
        let mut bytes = vec![0; view.bytes()];
        let read = self.device.read(view.address(), &mut bytes);
        read.expect("an allocation of that size");
        bytes
    }

    /// Runs a launch; panics if anything is found.
    pub fn run(&mut self, launch: &Launch) -> Report {
        let options = self.options;
        let report = self.run_with(launch, &options);
        let found: Vec<String> = report.findings.iter().map(Finding::to_string).collect();
        assert!(found.is_empty(), "{}", found.join("\n"));
        report
    }

    /// The cost model's time for a launch on a chip, from one block in `sample`; an estimate. Results are not written whole, and inputs
    /// need not be.
    pub fn estimate(&mut self, launch: &Launch, chip: &Chip, sample: u64) -> Estimate {
        let options = Options {
            checks: false,
            sample,
            ..self.options
        };
        let report = self.run_with(launch, &options);
        let capability = if chip.name == "A100" { "80" } else { "90a" };
        let resources = self.compiler.resources(launch.program(), capability);
        let resources = resources.unwrap_or_else(|error| panic!("{error}"));
        let of_entry = resources.iter().find(|r| r.entry == launch.entry());
        let registers = of_entry.map(|r| u64::from(r.registers));
        let kernel = self.kernel(launch);
        Estimate::new(&kernel, &geometry(launch), &report, chip, registers)
    }

    fn run_with(&mut self, launch: &Launch, options: &Options) -> Report {
        let kernel = self.kernel(launch);
        let args: Vec<ptx::Arg> = launch.args().iter().map(arg).collect();
        let report = self
            .device
            .launch(&kernel, &geometry(launch), &args, options);
        report.unwrap_or_else(|error| panic!("{error}"))
    }

    fn kernel(&mut self, launch: &Launch) -> Kernel {
        let key = (launch.program().clone(), launch.entry());
        let compile = || {
            let text = self.compiler.ptx(launch.program(), "80");
            let text = text.unwrap_or_else(|error| panic!("{error}"));
            let module = Module::parse(&text).unwrap_or_else(|error| panic!("{error}"));
            let kernel = module.kernel(launch.entry());
            kernel.unwrap_or_else(|error| panic!("{error}"))
        };
        self.kernels.entry(key).or_insert_with(compile).clone()
    }
}

/// A launch as the interpreter wants it.
pub fn geometry(launch: &Launch) -> ptx::Launch {
    ptx::Launch {
        grid: launch.grid(),
        block: launch.block(),
        dynamic_shared: launch.shared(),
        ..ptx::Launch::linear(1, 1)
    }
}

fn arg(arg: &Arg) -> ptx::Arg {
    match arg {
        Arg::View(view) => view.address().into(),
        Arg::Null => 0u64.into(),
        Arg::U32(x) => (*x).into(),
        Arg::U64(x) => (*x).into(),
        Arg::F32(x) => (*x).into(),
    }
}
