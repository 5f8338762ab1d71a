//! Kernels run in the PTX interpreter: any finding is a failure, outputs start as NaN that nobody wrote.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use half::bf16;
use kernels_cu::{Arg, Compiler, DType, Launch, Nvrtc, Program, View};
use ptx::{Asynchrony, Device, Finding, Kernel, Module, Options, Report};

/// The compiler of the tests: one version, fetched into the target folder, so that budgets are those of one compiler. None, and the
/// reason on standard error, where it cannot be had.
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

    /// Numbers, rounded to a type.
    pub fn upload(&mut self, x: &[f64], dtype: DType) -> View {
        let bytes: Vec<u8> = match dtype {
            DType::F32 => x.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(),
            DType::BF16 => x
                .iter()
                .flat_map(|x| bf16::from_f64(*x).to_le_bytes())
                .collect(),
        };
        self.upload_bytes(&bytes)
    }

    /// Indices.
    pub fn upload_u32(&mut self, x: &[u32]) -> View {
        let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.upload_bytes(&bytes)
    }

    fn upload_bytes(&mut self, bytes: &[u8]) -> View {
        let address = self.device.allocate(bytes.len());
        self.device
            .write(address, bytes)
            .expect("an allocation of that size");
        View::interpreted(address, bytes.len())
    }

    /// Room for n elements that nobody has written.
    pub fn output(&mut self, n: usize, dtype: DType) -> View {
        let bytes = n * dtype.bytes();
        View::interpreted(self.device.allocate(bytes), bytes)
    }

    /// Elements of a type.
    pub fn download(&self, view: &View, dtype: DType) -> Vec<f64> {
        let mut bytes = vec![0; view.bytes()];
        let read = self.device.read(view.address(), &mut bytes);
        read.expect("an allocation of that size");
        match dtype {
            DType::F32 => {
                let (words, _) = bytes.as_chunks();
                words
                    .iter()
                    .map(|w| f64::from(f32::from_le_bytes(*w)))
                    .collect()
            }
            DType::BF16 => {
                let (words, _) = bytes.as_chunks();
                words
                    .iter()
                    .map(|w| bf16::from_le_bytes(*w).to_f64())
                    .collect()
            }
        }
    }

    /// Runs a launch; panics if anything is found.
    pub fn run(&mut self, launch: &Launch) -> Report {
        let key = (launch.program().clone(), launch.entry());
        let kernel = self.kernels.entry(key).or_insert_with(|| {
            let text = self.compiler.ptx(launch.program(), "80");
            let text = text.unwrap_or_else(|error| panic!("{error}"));
            let module = Module::parse(&text).unwrap_or_else(|error| panic!("{error}"));
            let kernel = module.kernel(launch.entry());
            kernel.unwrap_or_else(|error| panic!("{error}"))
        });
        let args: Vec<ptx::Arg> = launch.args().iter().map(arg).collect();
        let report = self
            .device
            .launch(kernel, &geometry(launch), &args, &self.options)
            .unwrap_or_else(|error| panic!("{error}"));
        let found: Vec<String> = report.findings.iter().map(Finding::to_string).collect();
        assert!(found.is_empty(), "{}", found.join("\n"));
        report
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

/// Runs a test with late and with early copies, where there is a compiler; the results must be the same bits.
pub fn late_and_early(test: impl Fn(&mut Interpreted) -> Vec<Vec<f64>>) {
    let runs = [Asynchrony::Late, Asynchrony::Early].map(|asynchrony| {
        let mut device = Interpreted::new(asynchrony)?;
        Some(test(&mut device))
    });
    let [late, early] = runs;
    let bits = |run: Option<Vec<Vec<f64>>>| -> Option<Vec<u64>> {
        Some(run?.into_iter().flatten().map(f64::to_bits).collect())
    };
    assert!(
        bits(late) == bits(early),
        "late and early copies give other bits"
    );
}

/// A number in a type's precision.
pub fn round(x: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F32 => f64::from(x as f32),
        DType::BF16 => bf16::from_f64(x).to_f64(),
    }
}

/// Panics unless the error of `got` against `truth` is at most twice that of `rough`, the meaning in the same precision (and of one
/// rounding of the largest number, where the meaning happens to be exact).
pub fn no_worse_than_twice(what: &str, got: &[f64], truth: &[f64], rough: &[f64], dtype: DType) {
    let [e, allowed] = [got, rough].map(|x| {
        assert_eq!(x.len(), truth.len(), "{what}");
        let errors = x.iter().zip(truth).map(|(x, truth)| (x - truth).abs());
        // a NaN is no number's maximum
        errors.fold(0.0, |most: f64, e| if e <= most { most } else { e })
    });
    let largest = truth.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    let rounding = match dtype {
        DType::F32 => f64::from(f32::EPSILON) / 2.0,
        DType::BF16 => bf16::EPSILON.to_f64() / 2.0,
    };
    let allowed = 2.0 * allowed.max(rounding * largest);
    assert!(
        e <= allowed,
        "{what}: error {e:e}, allowed {allowed:e}, largest {largest:e}"
    );
}
