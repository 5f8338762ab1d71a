//! Kernels: what a launch must satisfy, how it runs, what its findings lead to.

use ptx::{Arg, Finding, Kind, Launch, Options, Severity};

use crate::chip;
use crate::code::{Code, Result, fail};
use crate::driver::{Driver, Handle};
use crate::memory::DEVICE_RANGE;
use crate::work::Op;

/// A launch that is ready to run.
#[derive(Clone)]
pub struct Start {
    pub function: Handle,
    pub kernel: ptx::Kernel,
    pub launch: Launch,
    pub args: Vec<Arg>,
    /// The same as bytes, for who asks a graph for its parameters.
    pub bytes: Vec<Vec<u8>>,
    /// Addresses of the arguments, once somebody asked for them.
    pub pointers: Vec<usize>,
}

impl Start {
    /// What launches have in common that take the same time: all but where their memory lies.
    fn alike(&self) -> Vec<u8> {
        let Launch {
            grid,
            block,
            dynamic_shared,
            cluster,
        } = self.launch;
        let mut key = self.function.to_le_bytes().to_vec();
        let numbers = [grid, block, cluster].into_iter().flatten();
        for number in numbers.chain([dynamic_shared]) {
            key.extend(number.to_le_bytes());
        }
        for bytes in &self.bytes {
            match <[u8; 8]>::try_from(&bytes[..]).map(u64::from_le_bytes) {
                Ok(word) if DEVICE_RANGE.contains(&word) => key.push(0),
                _ => key.extend(bytes),
            }
        }
        key
    }
}

/// What a launch asks for, apart from its arguments.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub dynamic_shared: u32,
    pub cooperative: bool,
    /// Blocks per cluster; what the kernel is compiled for where nothing is said.
    pub cluster: Option<[u32; 3]>,
}

impl Shape {
    pub fn new(grid: [u32; 3], block: [u32; 3], dynamic_shared: u32) -> Shape {
        Shape {
            grid,
            block,
            dynamic_shared,
            cooperative: false,
            cluster: None,
        }
    }
}

/// What a finding is to the program. A device would not notice most of them, which is why they are errors here.
fn code(kind: Kind) -> Code {
    match kind {
        Kind::OutOfBounds | Kind::UseAfterFree => Code::ILLEGAL_ADDRESS,
        Kind::Misaligned => Code::MISALIGNED_ADDRESS,
        Kind::BarrierDivergence | Kind::Deadlock | Kind::Runaway => Code::LAUNCH_TIMEOUT,
        _ => Code::LAUNCH_FAILED,
    }
}

impl Driver {
    /// Checks a launch as a driver does, and makes it ready.
    pub fn prepare(&self, function: Handle, shape: &Shape, bytes: Vec<Vec<u8>>) -> Result<Op> {
        let known = self.function(function)?;
        let (name, chip) = (known.kernel.name(), self.settings.chip);
        let invalid = |message: String| fail(Code::INVALID_VALUE, format!("{name}: {message}"));
        let Shape {
            grid,
            block,
            dynamic_shared,
            ..
        } = *shape;
        let compiled = known.kernel.cluster();
        let cluster = shape.cluster.or(compiled).unwrap_or([1; 3]);
        let threads = block.iter().map(|n| u64::from(*n)).product::<u64>();
        let blocks = grid.iter().map(|n| u64::from(*n)).product::<u64>();
        if blocks == 0 || grid[0] > i32::MAX as u32 || grid[1] > 65535 || grid[2] > 65535 {
            return invalid(format!(
                "a grid of {grid:?} blocks; each must be at least 1, y and z at most 65535"
            ));
        }
        if threads == 0 || block[2] > 64 || threads > u64::from(known.kernel.max_threads()) {
            return invalid(format!(
                "a block of {block:?} threads; the kernel takes 1 to {}, 64 in z",
                known.kernel.max_threads()
            ));
        }
        if i64::from(dynamic_shared) > i64::from(known.dynamic_shared) {
            return invalid(format!(
                "{dynamic_shared} bytes of dynamic shared memory; {} are allowed, more must be asked for with \
                 CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES",
                known.dynamic_shared
            ));
        }
        let shared = known.kernel.static_shared() as u64 + u64::from(dynamic_shared);
        let resident = chip.resident_blocks(threads, shared);
        if resident == 0 {
            return invalid(format!(
                "{shared} bytes of shared memory; a block of {} has {}",
                chip.name,
                chip.shared_of_block()
            ));
        }
        let at_once = resident as u64 * chip.multiprocessors() as u64;
        if shape.cooperative && blocks > at_once {
            return fail(
                Code::COOPERATIVE_LAUNCH_TOO_LARGE,
                format!("{name}: {blocks} blocks; {at_once} fit the device at once"),
            );
        }
        if cluster != [1; 3] || compiled.is_some() {
            self.check_cluster(function, &grid, &cluster)?;
        }
        Ok(Op::Kernel(Box::new(Start {
            function,
            kernel: known.kernel.clone(),
            launch: Launch {
                grid,
                block,
                dynamic_shared,
                cluster,
            },
            args: bytes.iter().cloned().map(Arg::bytes).collect(),
            bytes,
            pointers: vec![],
        })))
    }

    fn check_cluster(&self, function: Handle, grid: &[u32; 3], cluster: &[u32; 3]) -> Result<()> {
        let known = self.function(function)?;
        let name = known.kernel.name();
        let size = cluster.iter().map(|n| u64::from(*n)).product::<u64>();
        let most = if known.large_clusters { 16 } else { 8 };
        let fits = cluster.iter().zip(grid).all(|(c, g)| *c > 0 && g % c == 0);
        if self.settings.chip.capability.0 < 9 || size > most || !fits {
            return fail(
                Code::INVALID_CLUSTER_SIZE,
                format!(
                    "{name}: clusters of {cluster:?} blocks in a grid of {grid:?} on {}; each must divide the grid, \
                     {most} together at most",
                    self.settings.chip.name
                ),
            );
        }
        match known
            .kernel
            .cluster()
            .filter(|compiled| compiled != cluster)
        {
            Some(compiled) => fail(
                Code::INVALID_CLUSTER_SIZE,
                format!("{name}: clusters of {cluster:?} blocks; it is compiled for {compiled:?}"),
            ),
            None => Ok(()),
        }
    }

    /// Runs a launch and returns its simulated time in nanoseconds.
    pub fn run_kernel(&mut self, start: &Start, context: Handle) -> f64 {
        match self.settings.sample {
            None => self.run_blocks(start, context, 1),
            Some(blocks) => {
                let key = start.alike();
                let time = match self.sampled.get(&key) {
                    Some(time) => *time,
                    None => {
                        let grid = start.launch.grid.iter();
                        let all = grid.map(|n| u64::from(*n)).product::<u64>();
                        self.run_blocks(start, context, all.div_ceil(blocks))
                    }
                };
                self.sampled.insert(key, time);
                self.reports.sampled(&start.kernel, &start.launch, time);
                time
            }
        }
    }

    /// Runs one block of `every`.
    fn run_blocks(&mut self, start: &Start, context: Handle, every: u64) -> f64 {
        let options = Options {
            checks: self.settings.checks && self.settings.sample.is_none(),
            sample: every,
            asynchrony: self.settings.asynchrony,
            ..Options::default()
        };
        let held = self.mirror_in();
        let Start {
            kernel,
            launch,
            args,
            ..
        } = start;
        let done = self.device.launch(kernel, launch, args, &options);
        self.mirror_out(held);
        match done {
            Ok(report) => {
                let time = self.settings.chip.launch_time(kernel, launch, &report);
                print!("{}", report.printed);
                for finding in &report.findings {
                    self.reports.finding(finding);
                }
                let bad = |f: &&Finding| f.severity == Severity::Error;
                // the one a device would notice says what the program sees
                let worst = report.findings.iter().filter(bad);
                if let Some(code) = worst.map(|f| code(f.kind)).min() {
                    self.fail_context(context, code);
                }
                if self.settings.sample.is_none() {
                    self.reports.launch(launch, time, &report);
                }
                time
            }
            Err(error) => {
                let why = error.to_string();
                self.break_context(context, "cuLaunchKernel", Code::LAUNCH_FAILED, &why);
                0.0
            }
        }
    }

    /// Blocks of a kernel that fit a multiprocessor at once.
    pub fn occupancy(&self, function: Handle, threads: u64, dynamic_shared: u64) -> Result<i32> {
        let known = self.function(function)?;
        if threads > u64::from(known.kernel.max_threads()) {
            return Ok(0);
        }
        let shared = known.kernel.static_shared() as u64 + dynamic_shared;
        Ok(self.settings.chip.resident_blocks(threads, shared))
    }

    /// The block size with the most threads on a multiprocessor, the largest if there are several, and the grid that
    /// fills the device with it.
    pub fn best_block(
        &self,
        function: Handle,
        limit: i32,
        shared: impl Fn(i32) -> usize,
    ) -> Result<(i32, i32)> {
        let known = self.function(function)?;
        let most = known.kernel.max_threads() as i32;
        let most = if limit > 0 { most.min(limit) } else { most };
        let mut best = (0, 0, 0);
        for threads in (1..=most).rev().filter(|n| n % 32 == 0 || *n == most) {
            let blocks = self.occupancy(function, threads as u64, shared(threads) as u64)?;
            if (blocks * threads) > best.0 {
                best = (blocks * threads, threads, blocks);
            }
        }
        Ok((best.1, best.2 * self.settings.chip.multiprocessors()))
    }

    /// Dynamic shared memory that a block may have if so many are to fit a multiprocessor.
    pub fn shared_left(&self, function: Handle, blocks: i32) -> Result<usize> {
        let known = self.function(function)?;
        if blocks < 1 {
            return fail(
                Code::INVALID_VALUE,
                format!("{blocks} blocks on a multiprocessor"),
            );
        }
        let each = self.settings.chip.shared() / blocks - chip::SHARED_RESERVED;
        let left = i64::from(each) - known.kernel.static_shared() as i64;
        Ok(left.clamp(0, i64::from(known.dynamic_shared)) as usize)
    }
}
