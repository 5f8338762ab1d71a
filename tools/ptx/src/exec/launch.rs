//! A launch: what it is given, how its blocks are spread over threads, what it reports.

use std::collections::{BTreeMap, HashMap};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::block::{self, Findings, source_line};
use super::check;
use super::count::Patterns;
use crate::counters::{Counters, LineWork, Work};
use crate::device::Device;
use crate::error::Result;
use crate::finding::{Finding, Kind, Severity, SourceLine};
use crate::module::Kernel;
use crate::program::Program;

/// Blocks after which a launch stops if one of them cannot go on.
const BATCH: u64 = 256;

/// Shape of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Blocks in x, y and z.
    pub grid: [u32; 3],
    /// Threads per block in x, y and z; at most 1024 together.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
    /// Blocks per cluster in x, y and z, of which the grid is a multiple; at most 16 together. With one in each the
    /// clusters are those the kernel was compiled for (`.reqnctapercluster`), if any.
    pub cluster: [u32; 3],
}

impl Launch {
    /// A launch in one dimension without dynamic shared memory.
    pub fn linear(blocks: u32, threads: u32) -> Self {
        Launch {
            grid: [blocks, 1, 1],
            block: [threads, 1, 1],
            dynamic_shared: 0,
            cluster: [1; 3],
        }
    }
}

/// When asynchronous copies write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Asynchrony {
    /// When they are waited for, as late as a device may do it.
    #[default]
    Late,
    /// At once, as early as a device may do it.
    Early,
}

/// How to run a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Look for races, uninitialised reads and copies in flight. Bounds and alignment are always checked.
    pub checks: bool,
    /// Count sectors and wavefronts. Instructions are always counted.
    pub counters: bool,
    /// When asynchronous copies write.
    pub asynchrony: Asynchrony,
    /// A warp that runs more is stopped with a finding.
    pub instructions_per_warp: u64,
    /// Runs one cluster of blocks in so many, evenly spread, to count the work of a grid that is too large to run; 1 runs all.
    pub sample: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            checks: true,
            counters: true,
            asynchrony: Asynchrony::Late,
            instructions_per_warp: 1 << 32,
            sample: 1,
        }
    }
}

/// One argument of a kernel: its bytes as they lie in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg(pub(super) Vec<u8>);

impl Arg {
    /// A structure.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Arg(bytes.into())
    }
}

macro_rules! arg_from {
    ($($ty:ty),*) => {
        $(impl From<$ty> for Arg {
            fn from(value: $ty) -> Self {
                Arg(value.to_le_bytes().to_vec())
            }
        })*
    };
}

arg_from!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64);

/// What a launch showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the kernel.
    pub kernel: String,
    /// Findings, by line.
    pub findings: Vec<Finding>,
    /// What was done.
    pub counters: Counters,
    /// Blocks that ran: all, or a sample.
    pub blocks: u64,
    /// What `printf` wrote, block after block.
    pub printed: String,
}

impl Report {
    /// Findings that are errors.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
    }
}

/// What stays the same throughout a launch.
pub(super) struct Setting<'l> {
    pub program: &'l Program,
    pub device: &'l Device,
    pub launch: Launch,
    pub options: Options,
    /// Bytes of the arguments.
    pub params: Vec<u8>,
    /// Addresses of the variables of the module.
    pub variables: Vec<u64>,
    /// Number of the launch.
    pub tag: u64,
    files: &'l BTreeMap<u32, String>,
}

impl Setting<'_> {
    /// Clusters of blocks in the grid.
    fn blocks(&self) -> u64 {
        let product = |sizes: [u32; 3]| -> u64 { sizes.iter().map(|n| u64::from(*n)).product() };
        product(self.launch.grid) / product(self.launch.cluster)
    }

    pub fn warps(&self) -> usize {
        self.launch.block.iter().product::<u32>().div_ceil(32) as usize
    }

    pub fn source(&self, source: Option<(u32, u32)>) -> Option<SourceLine> {
        source_line(self.files, source)
    }

    /// Coordinates of a block.
    pub fn coordinates(&self, block: u64) -> [u32; 3] {
        let [x, y, _] = self.launch.grid.map(u64::from);
        [block % x, block / x % y, block / (x * y)].map(|c| c as u32)
    }

    /// Number of a block.
    pub fn number(&self, block: [u32; 3]) -> u64 {
        let [x, y, _] = self.launch.grid.map(u64::from);
        let [i, j, k] = block.map(u64::from);
        i + x * (j + y * k)
    }

    /// Coordinates of the block with a rank in a cluster.
    pub fn member(&self, cluster: u64, rank: u32) -> [u32; 3] {
        let Launch {
            grid,
            cluster: shape,
            ..
        } = self.launch;
        let [x, y, _]: [u64; 3] = std::array::from_fn(|axis| u64::from(grid[axis] / shape[axis]));
        let first = [cluster % x, cluster / x % y, cluster / (x * y)];
        let [w, h, _] = shape;
        let inside = [rank % w, rank / w % h, rank / (w * h)];
        std::array::from_fn(|axis| first[axis] as u32 * shape[axis] + inside[axis])
    }
}

/// Which blocks are ordered behind which, by the atomics and flags they use. It is taken for granted that such an
/// access publishes all that its block did before.
#[derive(Default)]
pub(super) struct Order {
    time: u64,
    published: HashMap<u64, u64>,
    /// When the block that runs last saw what others published.
    acquired: u64,
}

impl Order {
    pub fn meet(&mut self, block: u64) {
        self.time += 1;
        self.published.insert(block, self.time);
        self.acquired = self.time;
    }

    /// True if the running block is behind what `block` (None: several) did.
    pub fn ordered(&self, block: Option<u64>) -> bool {
        match block {
            Some(block) => self
                .published
                .get(&block)
                .is_some_and(|t| *t <= self.acquired),
            None => self.acquired > 0,
        }
    }
}

/// Findings of all blocks: the first of each kind and instruction, in the order of blocks.
type Merged = BTreeMap<(usize, Kind), (u64, Finding)>;

#[derive(Default)]
struct Outcome {
    work: Vec<Work>,
    findings: Merged,
    printed: String,
    stopped: bool,
}

impl Outcome {
    fn block(number: u64, (work, findings, printed): (Vec<Work>, Findings, String)) -> Self {
        let stops = |kind| {
            matches!(
                kind,
                Kind::Trap | Kind::Deadlock | Kind::Runaway | Kind::BarrierDivergence
            )
        };
        let stopped = findings.list.iter().any(|(_, finding)| stops(finding.kind));
        let keyed = findings.list.into_iter();
        let keyed = keyed.map(|(pc, finding)| ((pc, finding.kind), (number, finding)));
        Outcome {
            work,
            findings: keyed.collect(),
            printed,
            stopped,
        }
    }

    fn merge(mut self, other: Outcome) -> Self {
        self.stopped |= other.stopped;
        self.printed.push_str(&other.printed);
        if self.work.is_empty() {
            self.work = other.work;
        } else {
            self.work
                .iter_mut()
                .zip(&other.work)
                .for_each(|(a, b)| a.add(b));
        }
        for (key, (block, mut finding)) in other.findings {
            match self.findings.get_mut(&key) {
                Some((first, known)) => {
                    let count = known.count + finding.count;
                    if block < *first {
                        std::mem::swap(known, &mut finding);
                        *first = block;
                    }
                    known.count = count;
                }
                None => {
                    self.findings.insert(key, (block, finding));
                }
            }
        }
        self
    }
}

impl Device {
    /// Runs a kernel and reports what it did. Memory holds its results, as far as it came.
    ///
    /// # Errors
    /// The grid or block is empty or too large, shared memory is more than a block has, or the arguments are not
    /// those of the kernel. What goes wrong in the kernel is a finding.
    pub fn launch(
        &mut self,
        kernel: &Kernel,
        launch: &Launch,
        args: &[Arg],
        options: &Options,
    ) -> Result<Report> {
        let program = &*kernel.program;
        let mut launch = *launch;
        if launch.cluster == [1; 3] {
            launch.cluster = program.cluster.unwrap_or(launch.cluster);
        }
        check::check(program, &launch)?;
        let params = check::params(program, args)?;
        let variables = self.load(&kernel.module);
        let tag = self.start_launch();
        let setting = Setting {
            program,
            device: self,
            launch,
            options: *options,
            params,
            variables,
            tag,
            files: &kernel.module.syntax.files,
        };
        let outcome = run(&setting);
        Ok(report(&setting, outcome))
    }
}

/// Which block of a group runs, of `every`: over the groups all places come up alike, in no step with rows of the grid, whose blocks may
/// differ in their work. Multiples of the golden ratio do that.
fn place_in(group: u64, every: u64) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let share = (group + 1).wrapping_mul(GOLDEN);
    ((u128::from(share) * u128::from(every)) >> 64) as u64
}

fn run(setting: &Setting) -> Outcome {
    let blocks = setting.blocks();
    let mut outcome = Outcome::default();
    let mut order = Order::default();
    let mut first = 0;
    let every = setting.options.sample.max(1);
    let place = |group: u64| (group * every + place_in(group, every)).min(blocks - 1);
    let groups = blocks.div_ceil(every);
    let new_patterns = || Patterns::of(setting.program.code.len());
    let mut patterns = new_patterns();
    while first < groups && !outcome.stopped {
        let batch = first..groups.min(first + BATCH);
        first = batch.end;
        if setting.program.ordered {
            for number in batch.map(place) {
                order.acquired = 0;
                let block = block::run(setting, number, Some(&mut order), &mut patterns);
                outcome = outcome.merge(Outcome::block(number, block));
            }
        } else {
            let one = |patterns: &mut Vec<Patterns>, number| {
                Outcome::block(number, block::run(setting, number, None, patterns))
            };
            let all = batch
                .into_par_iter()
                .map_init(new_patterns, |patterns, group| one(patterns, place(group)))
                .reduce(Outcome::default, Outcome::merge);
            outcome = outcome.merge(all);
        }
    }
    outcome
}

fn report(setting: &Setting, outcome: Outcome) -> Report {
    let mut counters = Counters::default();
    let mut lines: BTreeMap<u32, LineWork> = BTreeMap::new();
    for (inst, work) in setting.program.code.iter().zip(&outcome.work) {
        if work.instructions == 0 {
            continue;
        }
        counters.total.add(work);
        *counters.classes.entry(inst.class).or_default() += work.instructions;
        let line = lines.entry(inst.line).or_insert_with(|| LineWork {
            line: inst.line,
            source: setting.source(inst.source),
            class: inst.class,
            work: Work::default(),
        });
        line.work.add(work);
    }
    counters.lines = lines.into_values().collect();
    let cluster: u64 = setting
        .launch
        .cluster
        .iter()
        .map(|n| u64::from(*n))
        .product();
    Report {
        kernel: setting.program.name.clone(),
        findings: outcome
            .findings
            .into_values()
            .map(|(_, finding)| finding)
            .collect(),
        counters,
        blocks: setting.blocks().div_ceil(setting.options.sample.max(1)) * cluster,
        printed: outcome.printed,
    }
}
