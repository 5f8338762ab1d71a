//! The kernels of `kernels/` run to the right answer, without findings.
//!
//! Answers are computed in f64 from the inputs as the kernel gets them; each tolerance is a bound that the text beside
//! it derives. ε is 2^-24, half a unit in the last place of f32; f16 has 2^-11, bf16 has 2^-8.

#[path = "../common/mod.rs"]
mod common;

mod attention;
mod copies;
mod elements;
mod functions;
mod planted;
mod products;
mod reductions;
mod rows;
mod scans;
mod trees;
mod whole_numbers;

use common::{Random, download, upload};
use half::{bf16, f16};
use ptx::{Arg, Device, Kind, Launch, Module, Options, Report};

const EPSILON: f64 = 1.0 / (1u64 << 24) as f64;
const EPSILON_F16: f64 = 1.0 / (1u64 << 11) as f64;
const EPSILON_BF16: f64 = 1.0 / (1u64 << 8) as f64;

/// A file of `kernels/ptx` and a device to run it on.
struct Corpus {
    module: Module,
    device: Device,
    dynamic_shared: u32,
    /// What Triton wants per block.
    threads: u32,
}

impl Corpus {
    fn new(name: &str) -> Self {
        Corpus::edited(name, str::to_string)
    }

    /// A file whose text is changed first.
    fn edited(name: &str, edit: impl Fn(&str) -> String) -> Self {
        let path = format!("{}/kernels/ptx/{name}.ptx", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let number = |word: &str| {
            let rest = text.split_once(word)?.1;
            rest.split_once('.')?.0.trim().parse().ok()
        };
        Corpus {
            module: Module::parse(&edit(&text)).unwrap_or_else(|e| panic!("{name}: {e}")),
            device: Device::new(),
            dynamic_shared: number("Dynamic shared memory:").unwrap_or(0),
            threads: number("// Threads:").unwrap_or(0),
        }
    }

    fn put<T: Number>(&mut self, values: &[T]) -> u64 {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.bytes()).collect();
        upload(&mut self.device, &bytes, |byte| [byte])
    }

    /// Memory nobody has written.
    fn room<T: Number>(&mut self, count: usize) -> u64 {
        self.device.allocate(count * size_of::<T>())
    }

    fn get<T: Number>(&self, address: u64, count: usize) -> Vec<T> {
        let bytes = download(&self.device, address, count * size_of::<T>(), |[byte]| byte);
        bytes.chunks_exact(size_of::<T>()).map(T::parse).collect()
    }

    fn get_f64<T: Number + Into<f64>>(&self, address: u64, count: usize) -> Vec<f64> {
        self.get::<T>(address, count)
            .into_iter()
            .map(T::into)
            .collect()
    }

    fn report(&mut self, kernel: &str, launch: Launch, args: &[Arg]) -> Report {
        let kernel = self.module.kernel(kernel).unwrap_or_else(|e| panic!("{e}"));
        self.device
            .launch(&kernel, &launch, args, &Options::default())
            .unwrap_or_else(|e| panic!("{e}"))
    }

    /// Launches and panics if anything but stores of the same value is found.
    fn launch(&mut self, kernel: &str, launch: Launch, args: &[Arg]) -> Report {
        let report = self.report(kernel, launch, args);
        let found: Vec<String> = report
            .findings
            .iter()
            .filter(|f| f.kind != Kind::SameValue)
            .map(|f| f.to_string())
            .collect();
        assert!(found.is_empty(), "{}", found.join("\n"));
        report
    }

    /// Launches a kernel of Triton, which has two more arguments: pointers to scratch memory it does not use.
    fn triton(&mut self, kernel: &str, grid: [u32; 3], args: &[Arg]) -> Report {
        let launch = Launch {
            grid,
            block: [self.threads, 1, 1],
            dynamic_shared: self.dynamic_shared,
            cluster: [1; 3],
        };
        let mut args = args.to_vec();
        args.extend([0u64.into(), 0u64.into()]);
        self.launch(kernel, launch, &args)
    }
}

/// A number in memory.
trait Number: Copy {
    fn bytes(self) -> Vec<u8>;
    fn parse(bytes: &[u8]) -> Self;
}

macro_rules! numbers {
    ($($ty:ty),*) => {
        $(impl Number for $ty {
            fn bytes(self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }
            fn parse(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("the size of the type"))
            }
        })*
    };
}

numbers!(u8, i8, i16, u32, i32, u64, i64, f32, f64, f16, bf16);

/// Numbers of a type, from -1 to 1 before rounding.
fn random<T>(seed: u64, count: usize, round: impl Fn(f32) -> T) -> Vec<T> {
    let mut random = Random(seed);
    (0..count).map(|_| round(random.unit())).collect()
}

/// Whole numbers from 0 to `end`.
fn whole(seed: u64, count: usize, end: u64) -> Vec<u64> {
    let mut random = Random(seed);
    (0..count).map(|_| random.bits() % end).collect()
}

/// Fails at the first value that lies farther from the wanted one than its tolerance.
fn close(what: &str, got: &[f64], want: &[f64], tolerance: impl Fn(usize) -> f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let (error, allowed) = ((got - want).abs(), tolerance(i));
        assert!(
            error <= allowed,
            "{what}[{i}] is {got}, not {want}: off by {error:e}, more than {allowed:e}"
        );
    }
}

fn doubles<T: Copy + Into<f64>>(values: &[T]) -> Vec<f64> {
    values.iter().map(|v| (*v).into()).collect()
}
