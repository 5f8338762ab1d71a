//! Registers that share a slot because they do not live at the same time. Compilers number registers without end;
//! the rows a warp works on should fit a cache.

use std::collections::HashMap;

use crate::exec::registers::Bank;
use crate::flow::Blocks;
use crate::program::{Inst, Register};
use crate::text::ast::{Instruction, Operand};

/// Registers have numbers from here on until they are given slots.
pub(super) const NUMBERED: usize = 1 << 24;

/// That an instruction names a register.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Mention {
    at: usize,
    register: (Bank, usize),
    /// The value before may matter; otherwise a new one takes its place.
    reads: bool,
    /// By an instruction that goes on when others have followed: the register shares its slot with none.
    alone: bool,
}

/// Slots of numbered registers.
#[derive(Default)]
pub(super) struct Slots {
    of: HashMap<(Bank, usize), usize>,
    /// Slots in use, by bank.
    pub predicates: usize,
    pub words: usize,
    pub doubles: usize,
}

impl Slots {
    /// The slot of a register that may be numbered; one that no instruction names has none.
    pub fn place(&self, register: Register) -> Register {
        match self.of.get(&(register.bank, register.slot)) {
            Some(slot) => Register {
                slot: *slot,
                ..register
            },
            None => register,
        }
    }
}

/// Opcodes that write their first operand without reading it. Others are taken to read and write what they name.
const WRITERS: [&str; 68] = [
    "abs",
    "activemask",
    "add",
    "addc",
    "and",
    "bfe",
    "bfi",
    "bfind",
    "bmsk",
    "brev",
    "clz",
    "cnot",
    "copysign",
    "cos",
    "cvt",
    "cvta",
    "div",
    "dp2a",
    "dp4a",
    "elect",
    "ex2",
    "fma",
    "isspacep",
    "ld",
    "ldmatrix",
    "ldu",
    "lg2",
    "lop3",
    "mad",
    "mad24",
    "madc",
    "match",
    "max",
    "min",
    "mma",
    "mov",
    "movmatrix",
    "mul",
    "mul24",
    "neg",
    "not",
    "or",
    "popc",
    "prmt",
    "rcp",
    "redux",
    "rem",
    "rsqrt",
    "sad",
    "selp",
    "set",
    "setp",
    "shf",
    "shfl",
    "shl",
    "shr",
    "sin",
    "slct",
    "sqrt",
    "sub",
    "subc",
    "szext",
    "tanh",
    "testp",
    "vote",
    "xor",
    "mapa",
    "getctarank",
];

/// Adds the registers that instruction `at` names.
pub(super) fn mentions(
    instruction: &Instruction,
    at: usize,
    register: impl Fn(&str) -> Option<Register>,
    mentions: &mut Vec<Mention>,
) {
    let stem = instruction.opcode.split('.').next().unwrap_or_default();
    let (writer, alone) = (WRITERS.contains(&stem), stem == "wgmma");
    let first = mentions.len();
    let mut add = |name: &str, reads: bool| {
        let Some(register) = register(name).filter(|r| r.slot >= NUMBERED) else {
            return;
        };
        let register = (register.bank, register.slot);
        let known = mentions[first..].iter_mut();
        match known.into_iter().find(|m| m.register == register) {
            Some(known) => known.reads |= reads,
            None => mentions.push(Mention {
                at,
                register,
                reads,
                alone,
            }),
        }
    };
    if let Some((name, _)) = &instruction.guard {
        add(name, true);
    }
    for (i, operand) in instruction.operands.iter().enumerate() {
        // what a guard may leave out keeps its value
        let written = writer && i == 0 && instruction.guard.is_none();
        names(operand, &mut |name, inside| add(name, !written || inside));
    }
}

/// Calls `f` with every name of an operand, and whether it stands in an address.
fn names(operand: &Operand, f: &mut dyn FnMut(&str, bool)) {
    match operand {
        Operand::Name(name, _) | Operand::Not(name) => f(name, false),
        Operand::Pair(a, b) => {
            names(a, f);
            names(b, f);
        }
        Operand::List(items) => items.iter().for_each(|item| names(item, f)),
        Operand::Address { base, more, .. } => {
            names(base, &mut |name, _| f(name, true));
            for operand in more {
                names(operand, &mut |name, _| f(name, true));
            }
        }
        Operand::Immediate(_) => {}
    }
}

/// Gives slots to the registers of a program whose functions lie in `ranges`. Functions share none.
pub(super) fn assign(code: &[Inst], ranges: &[(usize, usize)], mentions: &[Mention]) -> Slots {
    let mut slots = Slots::default();
    let mut rest = mentions;
    for &(from, to) in ranges {
        let (mine, others) = rest.split_at(rest.partition_point(|mention| mention.at < to));
        rest = others;
        let lives = lives(&Blocks::of(&code[from..to], from), from, mine);
        for bank in [Bank::Predicate, Bank::Word, Bank::Double] {
            let used = match bank {
                Bank::Predicate => &mut slots.predicates,
                Bank::Word => &mut slots.words,
                Bank::Double => &mut slots.doubles,
            };
            let first = *used;
            // when each slot is free again
            let mut free: Vec<usize> = vec![];
            let mut order: Vec<_> = lives.iter().filter(|life| life.0.0 == bank).collect();
            order.sort_by_key(|(register, (start, end))| (*start, *end, register.1));
            for (register, (start, end)) in order {
                let slot = free.iter().position(|until| until < start);
                let slot = slot.unwrap_or_else(|| {
                    free.push(0);
                    free.len() - 1
                });
                free[slot] = *end;
                slots.of.insert(*register, first + slot);
            }
            *used += free.len();
        }
    }
    slots
}

/// First and last instruction at which each register may hold a value that matters, both included.
fn lives(
    blocks: &Blocks,
    from: usize,
    mentions: &[Mention],
) -> HashMap<(Bank, usize), (usize, usize)> {
    let mut index = HashMap::new();
    for mention in mentions {
        let next = index.len();
        index.entry(mention.register).or_insert(next);
    }
    let count = blocks.starts.len();
    let words = index.len().div_ceil(64);
    let empty = vec![vec![0u64; words]; count + 1];
    // what a block reads before it writes, what it writes, what is alive where it starts
    let (mut reads, mut writes, mut alive) = (empty.clone(), empty.clone(), empty);
    for mention in mentions {
        let (block, i) = (blocks.holding(mention.at - from), index[&mention.register]);
        let (word, bit) = (i / 64, 1 << (i % 64));
        if !mention.reads {
            writes[block][word] |= bit;
        } else if writes[block][word] & bit == 0 {
            reads[block][word] |= bit;
        }
    }
    let mut changed = true;
    while changed {
        changed = false;
        for block in (0..count).rev() {
            for word in 0..words {
                let after = blocks.successors[block].iter();
                let after = after.fold(0, |all, next| all | alive[*next][word]);
                let now = reads[block][word] | (after & !writes[block][word]);
                changed |= now != alive[block][word];
                alive[block][word] = now;
            }
        }
    }
    let mut lives: HashMap<(Bank, usize), (usize, usize)> = HashMap::new();
    let mut extend = |register: (Bank, usize), at: usize| {
        let life = lives.entry(register).or_insert((at, at));
        *life = (life.0.min(at), life.1.max(at));
    };
    for mention in mentions {
        extend(mention.register, mention.at);
        if mention.alone {
            extend(mention.register, from);
            extend(mention.register, from + blocks.end(count - 1) - 1);
        }
    }
    for (register, i) in &index {
        let is_alive = |block: usize| alive[block][i / 64] >> (i % 64) & 1 == 1;
        for block in 0..count {
            if is_alive(block) {
                extend(*register, from + blocks.starts[block]);
            }
            if blocks.successors[block].iter().any(|next| is_alive(*next)) {
                extend(*register, from + blocks.end(block) - 1);
            }
        }
    }
    lives
}
