//! A block, or the blocks of a cluster: their warps take turns until all are done or none can go on.

use std::collections::HashMap;

use super::barrier::NamedBarrier;
use super::cluster::{self, Cluster, Seat};
use super::count::{Issues, Patterns};
use super::launch::{Asynchrony, Order, Setting};
use super::mbarrier::Mbarrier;
use super::registers::{ALL, LANES, Registers};
use super::shared::{Hazard, Other, Shared, Site};
use super::warp::{Status, Warp};
use crate::counters::Work;
use crate::exec::registers::Bank;
use crate::finding::{Finding, Kind, Party, Severity, SourceLine};
use crate::hopper::Hopper;
use crate::program::{Action, Fill, LaneMask, SHARED_START, Special};
use crate::shadow::Toucher;
use crate::types::Space;
use crate::wide::wide;

/// What the warps of a block share.
pub(super) struct Env<'l> {
    pub setting: &'l Setting<'l>,
    /// Coordinates of the block.
    pub block: [u32; 3],
    pub toucher: Toucher,
    /// Number of the block.
    pub number: u64,
    pub shared: Shared,
    pub barriers: Vec<NamedBarrier>,
    /// Barriers in shared memory, by address.
    pub mbarriers: HashMap<u64, Mbarrier>,
    /// The blocks that run together with this one.
    pub cluster: Cluster,
    /// Whether something happened that a waiting warp may wait for.
    pub progress: bool,
    pub issues: Issues,
    /// Other work by instruction.
    pub work: Vec<Work>,
    /// What the latest accesses of each instruction looked like.
    pub patterns: &'l mut [Patterns],
    pub findings: Findings,
    /// What the block has printed.
    pub printed: String,
    /// Orders blocks that run one after another.
    pub order: Option<&'l mut Order>,
    /// Allocation that was found last.
    pub hint: usize,
    /// Set when going on makes no sense.
    pub stop: bool,
}

/// Findings of a block, one per kind and instruction.
#[derive(Default)]
pub(super) struct Findings {
    pub list: Vec<(usize, Finding)>,
    index: HashMap<(Kind, usize), usize>,
}

/// Where something went wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub pc: usize,
    pub warp: usize,
    pub lane: Option<usize>,
    pub address: Option<(Space, u64)>,
}

impl Place {
    pub fn new(pc: usize, warp: usize) -> Self {
        Place {
            pc,
            warp,
            lane: None,
            address: None,
        }
    }

    pub fn at(site: Site, space: Space, address: u64) -> Self {
        Place {
            pc: site.pc,
            warp: site.warp,
            lane: Some(site.lane),
            address: Some((space, address)),
        }
    }
}

impl Env<'_> {
    pub fn report(&mut self, kind: Kind, place: Place, message: &str) {
        self.report_with(kind, place, message, None);
    }

    pub fn report_with(&mut self, kind: Kind, place: Place, message: &str, other: Option<Party>) {
        if let Some(known) = self.findings.index.get(&(kind, place.pc)) {
            self.findings.list[*known].1.count += 1;
            return;
        }
        let program = self.setting.program;
        let inst = &program.code[place.pc];
        let finding = Finding {
            kind,
            severity: if kind == Kind::SameValue {
                Severity::Note
            } else {
                Severity::Error
            },
            kernel: program.name.clone(),
            ptx_line: inst.line,
            source: self.setting.source(inst.source),
            block: self.block,
            warp: place.warp as u32,
            lane: place.lane.map(|lane| lane as u32),
            space: place.address.map(|(space, _)| space),
            address: place.address.map(|(_, address)| address),
            other,
            count: 1,
            message: message.into(),
        };
        let at = self.findings.list.len();
        self.findings.index.insert((kind, place.pc), at);
        self.findings.list.push((place.pc, finding));
    }

    /// Reports what shared memory found.
    pub fn hazard(&mut self, site: Site, address: u64, hazard: Hazard) {
        let place = Place::at(site, Space::Shared, address);
        let party = |other: Other| Party {
            block: self.block,
            warp: Some(other.warp as u32),
            lane: other.lane.map(|lane| lane as u32),
            ptx_line: Some(self.setting.program.code[other.pc].line),
        };
        let (kind, message, other) = match hazard {
            Hazard::Race(other) => (
                Kind::Race,
                "no barrier lies between these accesses",
                Some(party(other)),
            ),
            Hazard::SameValue(other) => (
                Kind::SameValue,
                "the same value is stored twice without a barrier between",
                Some(party(other)),
            ),
            Hazard::Uninitialised => (Kind::Uninitialised, "nobody has written these bytes", None),
            Hazard::InFlight(other) => (
                Kind::InFlight,
                "an asynchronous copy to these bytes has not been waited for",
                Some(party(other)),
            ),
            Hazard::Busy(other) => (
                Kind::InFlight,
                "an asynchronous read of these bytes has not been waited for",
                Some(party(other)),
            ),
            Hazard::Unfenced(other) => (
                Kind::MissingFence,
                "no fence.proxy.async lies between these bytes being written and this asynchronous access",
                Some(party(other)),
            ),
        };
        self.report_with(kind, place, message, other);
    }
}

/// Runs the blocks of one cluster and returns their work, their findings and what they printed. Without clusters, a block
/// is one. `patterns` are what other blocks have left, or new.
pub(super) fn run<'l>(
    setting: &'l Setting<'l>,
    number: u64,
    order: Option<&'l mut Order>,
    patterns: &'l mut [Patterns],
) -> (Vec<Work>, Findings, String) {
    let program = setting.program;
    let shape = setting.launch.cluster;
    let threads: u32 = setting.launch.block.iter().product();
    let count = threads.div_ceil(32) as usize;
    let end = (program.shared_end + u64::from(setting.launch.dynamic_shared)) as usize;
    let granule = if setting.options.checks {
        program.granule as usize
    } else {
        0
    };
    let blocks: Vec<[u32; 3]> = (0..shape.iter().product())
        .map(|rank| setting.member(number, rank))
        .collect();
    let seat = |block: &[u32; 3]| {
        let number = setting.number(*block);
        Seat {
            block: *block,
            number,
            toucher: Toucher::new(setting.tag, number),
            shared: Shared::new(SHARED_START as usize, end, granule, count),
            barriers: (0..16).map(|_| NamedBarrier::default()).collect(),
            mbarriers: HashMap::new(),
            done: false,
        }
    };
    let mut env = Env {
        setting,
        block: [0; 3],
        toucher: Toucher::new(setting.tag, 0),
        number: 0,
        shared: Shared::new(0, 0, 0, 0),
        barriers: vec![],
        mbarriers: HashMap::new(),
        cluster: Cluster::new(blocks.iter().map(seat).collect()),
        progress: false,
        issues: Issues::new(program.code.len()),
        work: vec![Work::default(); program.code.len()],
        patterns,
        findings: Findings::default(),
        printed: String::new(),
        order,
        hint: 0,
        stop: false,
    };
    env.swap(0);
    let warps = |(rank, block): (usize, &[u32; 3])| -> Vec<Warp> {
        let warp = |warp| {
            let left = threads - 32 * warp as u32;
            let mask = if left >= 32 { ALL } else { (1 << left) - 1 };
            let registers = registers(setting, *block, rank as u32, warp, count);
            Warp::new(warp, mask, registers, program.local_bytes as usize)
        };
        (0..count).map(warp).collect()
    };
    let mut warps: Vec<Vec<Warp>> = blocks.iter().enumerate().map(warps).collect();
    wide(
        #[inline(always)]
        || schedule(&mut env, &mut warps),
    );
    env.issues.put(&mut env.work);
    super::warpgroup::misused_registers(&mut env);
    (env.work, env.findings, env.printed)
}

/// Turns without progress after which the warps that are left are stuck.
const PATIENCE: u32 = 64;

#[inline(always)]
fn schedule(env: &mut Env, blocks: &mut [Vec<Warp>]) {
    let code = &env.setting.program.code;
    let at_cluster = |warp: &Warp| matches!(&code[warp.waits_at()].action, Action::Hopper(hopper) if matches!(**hopper, Hopper::ClusterWait));
    let mut idle = 0;
    loop {
        env.progress = false;
        for (rank, warps) in blocks.iter_mut().enumerate() {
            env.switch(rank);
            for warp in warps.iter_mut() {
                if warp.status == Status::Running {
                    warp.run(env);
                    if warp.status == Status::Done {
                        env.progress = true;
                    }
                    if env.stop {
                        return;
                    }
                }
            }
            env.cluster.seats[rank].done = warps.iter().all(|warp| warp.status == Status::Done);
            super::barrier::settle(env, warps);
        }
        let mut all = blocks.iter().flatten();
        if all.all(|warp| warp.status == Status::Done) {
            return;
        }
        cluster::settle(env, blocks, at_cluster);
        idle = if env.progress { 0 } else { idle + 1 };
        let waiting = blocks.iter().flatten().all(|w| w.status != Status::Running);
        if env.stop || (waiting && !env.progress) || idle > PATIENCE {
            if !env.stop {
                for (rank, warps) in blocks.iter().enumerate() {
                    env.switch(rank);
                    deadlock(env, warps);
                }
            }
            return;
        }
    }
}

fn deadlock(env: &mut Env, warps: &[Warp]) {
    let done = warps
        .iter()
        .filter(|warp| warp.status == Status::Done)
        .count();
    for warp in warps.iter().filter(|warp| warp.status != Status::Done) {
        let place = Place::new(warp.waits_at(), warp.index);
        let barrier = env
            .mbarriers
            .iter()
            .filter(|(_, barrier)| barrier.waits(warp.index))
            .min_by_key(|(at, _)| **at);
        let barrier = barrier.map_or(String::new(), |(at, barrier)| {
            format!("the barrier at {at:#x} {barrier}; ")
        });
        let message = format!(
            "the warp waits here for ever; {barrier}{done} of {} warps of the block are done",
            warps.len()
        );
        env.report(Kind::Deadlock, place, &message);
    }
}

fn registers(
    setting: &Setting,
    block: [u32; 3],
    rank: u32,
    warp: usize,
    warps: usize,
) -> Registers {
    let program = setting.program;
    // what nobody writes reads as NaN
    let mut registers = Registers {
        predicates: vec![0; program.predicates],
        words: vec![[u32::MAX; LANES]; program.words],
        doubles: vec![[u64::MAX; LANES]; program.doubles],
    };
    for (bank, slot, fill) in &program.fills {
        let row: [u64; LANES] = match *fill {
            Fill::Value(value) => [value; LANES],
            Fill::Variable(index, offset) => {
                [setting.variables[index].wrapping_add(offset as u64); LANES]
            }
            Fill::Special(special) => std::array::from_fn(|lane| {
                u64::from(value(special, setting, block, rank, warp, warps, lane))
            }),
        };
        match bank {
            Bank::Predicate => registers.predicates[*slot] = if row[0] & 1 == 1 { ALL } else { 0 },
            Bank::Word => registers.words[*slot] = row.map(|v| v as u32),
            Bank::Double => registers.doubles[*slot] = row,
        }
    }
    registers
}

fn value(
    special: Special,
    setting: &Setting,
    block: [u32; 3],
    rank: u32,
    warp: usize,
    warps: usize,
    lane: usize,
) -> u32 {
    let shape = setting.launch.cluster;
    let size = setting.launch.block;
    let thread = (32 * warp + lane) as u32;
    let static_shared = (setting.program.shared_end - SHARED_START) as u32;
    let below = (1u32 << lane) - 1;
    match special {
        Special::Tid(0) => thread % size[0],
        Special::Tid(1) => thread / size[0] % size[1],
        Special::Tid(_) => thread / (size[0] * size[1]),
        Special::Ntid(axis) => size[axis as usize],
        Special::Ctaid(axis) => block[axis as usize],
        Special::Nctaid(axis) => setting.launch.grid[axis as usize],
        Special::Lane => lane as u32,
        Special::Warp => warp as u32,
        Special::Warps => warps as u32,
        Special::LaneMask(LaneMask::Eq) => 1 << lane,
        Special::LaneMask(LaneMask::Lt) => below,
        Special::LaneMask(LaneMask::Le) => below | 1 << lane,
        Special::LaneMask(LaneMask::Ge) => !below,
        Special::LaneMask(LaneMask::Gt) => !below & !(1 << lane),
        Special::DynamicShared => setting.launch.dynamic_shared,
        Special::TotalShared => static_shared + setting.launch.dynamic_shared,
        Special::ClusterId(axis) => block[axis as usize] / shape[axis as usize],
        Special::Clusters(axis) => setting.launch.grid[axis as usize] / shape[axis as usize],
        Special::BlockInCluster(axis) => block[axis as usize] % shape[axis as usize],
        Special::BlocksInCluster(axis) => shape[axis as usize],
        Special::ClusterRank => rank,
        Special::ClusterSize => shape.iter().product(),
        Special::Clustered => u32::from(shape != [1; 3]),
        Special::Zero => 0,
        Special::One => 1,
    }
}

/// The source line of an instruction.
pub(super) fn source_line(
    files: &std::collections::BTreeMap<u32, String>,
    source: Option<(u32, u32)>,
) -> Option<SourceLine> {
    let (file, line) = source?;
    Some(SourceLine {
        file: files.get(&file)?.clone(),
        line,
    })
}

/// True if asynchronous work is done as soon as it is asked for.
pub(super) fn early(env: &Env) -> bool {
    env.setting.options.asynchrony == Asynchrony::Early
}
