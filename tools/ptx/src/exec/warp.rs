//! A warp: 32 lanes in lock step, with a stack of the paths they are on.

use super::asynchronous::PendingCopy;
use super::block::{Env, Place};
use super::memory::{read_lane, write_lane};
use super::registers::{Bank, LANES, Registers, lanes};
use crate::finding::Kind;
use crate::program::{Action, Call, Guard, NOWHERE, Pass, Program};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Running,
    /// At a named barrier.
    Waiting,
    Done,
}

/// A path: its lanes go on at `pc`, and when they come to `meet` they join the path below.
#[derive(Debug, Clone, Copy)]
struct Path {
    pc: u32,
    meet: u32,
    mask: u32,
    /// The call instruction and which of its functions, for the first path of a function that was called.
    call: Option<(u32, u32)>,
}

pub(super) struct Warp {
    pub index: usize,
    pub registers: Registers,
    pub status: Status,
    /// Lanes that have not exited.
    pub live: u32,
    paths: Vec<Path>,
    /// Instructions so far.
    pub issued: u64,
    /// Local memory, lane after lane, and which of its bytes are initialised.
    pub local: Vec<u8>,
    pub local_written: Vec<bool>,
    pub copies: Vec<PendingCopy>,
    /// What came with sm_90 and has not been waited for.
    pub later: super::hopper::Later,
    /// Groups committed, by lane.
    pub groups: [u32; LANES],
    /// Instruction at which the warp waits.
    waits: usize,
}

/// Instructions after which another warp has its turn.
const TURN: u64 = 1 << 14;

/// What comes after an instruction.
pub(super) enum Next {
    Go,
    /// The turn is over; the next instruction follows later.
    Yield,
    /// At a barrier.
    Wait,
}

impl Warp {
    pub fn new(index: usize, mask: u32, registers: Registers, local_bytes: usize) -> Self {
        Warp {
            index,
            registers,
            status: Status::Running,
            live: mask,
            paths: vec![Path {
                pc: 0,
                meet: NOWHERE,
                mask,
                call: None,
            }],
            issued: 0,
            local: vec![0xff; local_bytes * LANES],
            local_written: vec![false; local_bytes * LANES],
            copies: vec![],
            later: super::hopper::Later::default(),
            groups: [0; LANES],
            waits: 0,
        }
    }

    /// The instruction a warp that does not go on stands at.
    pub fn waits_at(&self) -> usize {
        self.waits
    }

    fn guarded(&self, guard: Option<Guard>, mask: u32) -> u32 {
        match guard {
            None => mask,
            Some(Guard { predicate, negated }) => {
                let bits = self.registers.predicates[predicate];
                mask & if negated { !bits } else { bits }
            }
        }
    }

    /// Runs until the warp waits, is done, or its turn is over.
    #[inline(always)]
    pub fn run(&mut self, env: &mut Env) {
        let setting = env.setting;
        let Program { code, steps, .. } = setting.program;
        // a warp that waits often has short turns, and may run away all the same
        let limit = setting.options.instructions_per_warp.saturating_add(1);
        let turn_ends = (self.issued + TURN).min(limit);
        while let Some(path) = self.paths.last().copied() {
            if path.pc == path.meet {
                self.paths.pop();
                continue;
            }
            if self.issued >= turn_ends {
                self.waits = path.pc as usize;
                env.progress = true;
                if self.issued > setting.options.instructions_per_warp {
                    let place = Place::new(path.pc as usize, self.index);
                    let message = "the warp has run more instructions than the launch allows";
                    env.report(Kind::Runaway, place, message);
                    env.stop = true;
                }
                return;
            }
            let Path {
                mut pc, meet, mask, ..
            } = path;
            let mut moved = false;
            // the first instruction that is not counted yet
            let mut first = pc;
            // straight on, until control flow changes the paths
            while pc != meet {
                let at = pc as usize;
                let step = &steps[at];
                let active = self.guarded(step.guard, mask);
                if active != mask {
                    env.issues.without(at, mask & !active);
                }
                pc += 1;
                if active == 0 {
                    continue;
                }
                if let Some(compute) = &step.compute {
                    compute(&mut self.registers, active);
                    continue;
                }
                self.issued += env.issues.run(first, pc, mask);
                first = pc;
                let inst = &code[at];
                match &inst.action {
                    Action::Branch(target) => {
                        moved = self.branch(pc, *target, active, mask, inst.meet)
                            || self.issued >= turn_ends;
                        if moved {
                            break;
                        }
                        pc = *target;
                        first = pc;
                    }
                    Action::BranchIndexed(index, targets) => {
                        self.branch_indexed(at, *index, targets, active, inst.meet, env);
                        moved = true;
                        break;
                    }
                    Action::Call(call) => {
                        self.top().pc = pc;
                        self.call(at, call, active, env);
                        moved = true;
                        break;
                    }
                    Action::Return => {
                        self.top().pc = pc;
                        self.leave(active, env);
                        moved = true;
                        break;
                    }
                    Action::Exit => {
                        self.top().pc = pc;
                        self.exit(active, env);
                        moved = true;
                        break;
                    }
                    Action::Trap => {
                        env.report(
                            Kind::Trap,
                            Place::new(at, self.index),
                            "the kernel stops itself here",
                        );
                        env.stop = true;
                        return;
                    }
                    action => {
                        self.top().pc = pc;
                        match super::memory::execute(self, env, action, at, active) {
                            Next::Go => {}
                            Next::Yield => {
                                self.waits = at;
                                return;
                            }
                            Next::Wait => {
                                self.waits = at;
                                self.status = Status::Waiting;
                                return;
                            }
                        }
                        if env.stop {
                            return;
                        }
                    }
                }
            }
            self.issued += env.issues.run(first, pc, mask);
            if env.stop {
                return;
            }
            if !moved {
                self.top().pc = pc;
            }
        }
        self.status = Status::Done;
    }

    fn top(&mut self) -> &mut Path {
        self.paths.last_mut().expect("a path")
    }

    /// Takes a branch; true if the paths changed.
    fn branch(&mut self, next: u32, target: u32, taken: u32, mask: u32, meet: u32) -> bool {
        if taken == mask {
            self.top().pc = target;
            return false;
        }
        self.split(&[(next, mask & !taken), (target, taken)], meet);
        true
    }

    /// Replaces the top path by several that meet again.
    fn split(&mut self, parts: &[(u32, u32)], meet: u32) {
        let top = *self.top();
        if top.call.is_none() && (top.meet == meet || meet == NOWHERE) {
            self.paths.pop();
        } else {
            self.top().pc = meet;
        }
        for (pc, mask) in parts {
            // what is already there waits below
            if *mask != 0 && *pc != meet {
                self.paths.push(Path {
                    pc: *pc,
                    meet,
                    mask: *mask,
                    call: None,
                });
            }
        }
    }

    fn branch_indexed(
        &mut self,
        at: usize,
        index: usize,
        targets: &[u32],
        active: u32,
        meet: u32,
        env: &mut Env,
    ) {
        let rest = self.top().mask & !active;
        let indices = self.registers.words[index];
        let mut parts = vec![(at as u32 + 1, rest)];
        for (position, target) in targets.iter().enumerate() {
            let mask = lanes(active).filter(|lane| indices[*lane] as usize == position);
            parts.push((*target, mask.fold(0, |mask, lane| mask | 1 << lane)));
        }
        if parts.iter().fold(0, |all, (_, mask)| all | mask) != rest | active {
            let place = Place::new(at, self.index);
            env.report(
                Kind::OutOfBounds,
                place,
                "the index of brx.idx has no target",
            );
            env.stop = true;
            return;
        }
        self.split(&parts, meet);
    }

    /// Enters the functions that lanes call, one after another.
    fn call(&mut self, at: usize, call: &Call, active: u32, env: &mut Env) {
        let mut left = active;
        for (which, callee) in call.callees.iter().enumerate() {
            let mask = match call.by {
                None => active,
                Some(slot) => {
                    let addresses = &self.registers.doubles[slot];
                    let here = lanes(active).filter(|lane| addresses[*lane] == callee.address);
                    here.fold(0, |mask, lane| mask | 1 << lane)
                }
            };
            if mask == 0 {
                continue;
            }
            left &= !mask;
            self.pass(&callee.arguments, mask);
            self.paths.push(Path {
                pc: callee.target,
                meet: NOWHERE,
                mask,
                call: Some((at as u32, which as u32)),
            });
        }
        if left != 0 {
            let place = Place {
                lane: Some(left.trailing_zeros() as usize),
                ..Place::new(at, self.index)
            };
            let message = "no function with these parameters has the address that is called";
            env.report(Kind::OutOfBounds, place, message);
            env.stop = true;
        }
    }

    /// Hands parameters over.
    fn pass(&mut self, parameters: &[Pass], mask: u32) {
        let size = self.local.len() / LANES;
        for parameter in parameters {
            match *parameter {
                Pass::Bytes { from, to, bytes } => {
                    for base in lanes(mask).map(|lane| lane * size) {
                        let source = base + from as usize..base + (from + bytes) as usize;
                        self.local.copy_within(source.clone(), base + to as usize);
                        self.local_written.copy_within(source, base + to as usize);
                    }
                }
                Pass::Register { from, to } if from.bank == Bank::Predicate => {
                    let bits = self.registers.predicates[from.slot];
                    self.registers.set_predicate(to.slot, bits, mask);
                }
                Pass::Register { from, to } => {
                    for lane in lanes(mask) {
                        let value = read_lane(&self.registers, from, lane);
                        write_lane(&mut self.registers, to, lane, value);
                    }
                }
            }
        }
    }

    /// Lanes return from a function, or from the kernel.
    fn leave(&mut self, mask: u32, env: &mut Env) {
        let Some(frame) = self.paths.iter().rposition(|path| path.call.is_some()) else {
            self.exit(mask, env);
            return;
        };
        let (call, which) = self.paths[frame].call.expect("a frame");
        if let Action::Call(call) = &env.setting.program.code[call as usize].action {
            self.pass(&call.callees[which as usize].results, mask);
        }
        for path in &mut self.paths[frame..] {
            path.mask &= !mask;
        }
        self.paths.retain(|path| path.mask != 0);
    }

    fn exit(&mut self, mask: u32, env: &mut Env) {
        super::asynchronous::finish(self, env, mask);
        self.live &= !mask;
        for path in &mut self.paths {
            path.mask &= !mask;
        }
        self.paths.retain(|path| path.mask != 0);
    }
}
