//! What names mean, in nested scopes.

use std::collections::HashMap;

use super::slots::Slots;
use crate::error::{Error, Result};
use crate::exec::registers::Bank;
use crate::program::{LaneMask, Register, Special};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Symbol {
    /// Offset in shared memory.
    Shared(u64),
    /// Offset in local memory.
    Local(u64),
    /// Offset in the arguments of the kernel.
    Param(u64),
    /// A parameter of a device function, or of a call: offset in local memory, and bytes.
    CallParam(u64, u64),
    /// Index of a variable of the module in global or constant memory.
    Variable(usize),
}

#[derive(Default)]
struct Scope {
    registers: HashMap<String, Register>,
    /// `%r<10>`: first register and count, by the name without number.
    ranges: HashMap<String, (Register, u32)>,
    symbols: HashMap<String, Symbol>,
    labels: HashMap<String, u32>,
    targets: HashMap<String, Vec<String>>,
    /// Branches whose label has not been seen: instruction, position among its targets, label, line.
    open: Vec<(usize, usize, String, u32)>,
}

/// Scopes from the module inwards.
pub(super) struct Scopes {
    scopes: Vec<Scope>,
    /// Where registers live that were declared with a number.
    slots: Slots,
}

impl Scopes {
    pub fn new(slots: Slots) -> Self {
        Scopes {
            scopes: vec![Scope::default()],
            slots,
        }
    }

    fn top(&mut self) -> &mut Scope {
        self.scopes.last_mut().expect("the scope of the module")
    }

    pub fn open(&mut self) {
        self.scopes.push(Scope::default());
    }

    /// Closes a scope and returns its resolved branches: instruction, position, target.
    pub fn close(&mut self) -> Vec<(usize, usize, u32)> {
        let scope = self.scopes.pop().expect("an open scope");
        let mut resolved = vec![];
        for (at, position, label, line) in scope.open {
            match scope.labels.get(&label) {
                Some(target) => resolved.push((at, position, *target)),
                None => self.top().open.push((at, position, label, line)),
            }
        }
        resolved
    }

    /// Fails if a branch is left without its label.
    pub fn check_labels(&self) -> Result<()> {
        match self.scopes.iter().flat_map(|scope| &scope.open).next() {
            Some((_, _, label, line)) => Err(Error::at(*line, format!("no label {label}"))),
            None => Ok(()),
        }
    }

    pub fn declare_register(&mut self, name: &str, register: Register) {
        self.top().registers.insert(name.into(), register);
    }

    pub fn declare_range(&mut self, name: &str, first: Register, count: u32) {
        self.top().ranges.insert(name.into(), (first, count));
    }

    pub fn declare_symbol(&mut self, name: &str, symbol: Symbol) {
        self.top().symbols.insert(name.into(), symbol);
    }

    pub fn declare_label(&mut self, name: &str, at: u32) {
        self.top().labels.insert(name.into(), at);
    }

    pub fn declare_targets(&mut self, name: &str, labels: &[String]) {
        self.top().targets.insert(name.into(), labels.to_vec());
    }

    pub fn targets(&self, name: &str) -> Option<Vec<String>> {
        let mut scopes = self.scopes.iter().rev();
        scopes.find_map(|scope| scope.targets.get(name).cloned())
    }

    pub fn branch(&mut self, at: usize, position: usize, label: &str, line: u32) {
        self.top().open.push((at, position, label.into(), line));
    }

    pub fn register(&self, name: &str) -> Option<Register> {
        let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (stem, number) = name.split_at(name.len() - digits);
        let found = self.scopes.iter().rev().find_map(|scope| {
            if let Some(register) = scope.registers.get(name) {
                return Some(*register);
            }
            let (first, count) = scope.ranges.get(stem)?;
            let number = number.parse::<u32>().ok().filter(|n| n < count)?;
            Some(Register {
                slot: first.slot + number as usize,
                ..*first
            })
        });
        found.map(|register| self.slots.place(register))
    }

    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        let mut scopes = self.scopes.iter().rev();
        scopes.find_map(|scope| scope.symbols.get(name).copied())
    }
}

/// A special register that never changes, and its bank.
pub(super) fn special(name: &str) -> Option<(Bank, Special)> {
    let axis = |text: &str| match text {
        "x" => Some(0),
        "y" => Some(1),
        "z" => Some(2),
        _ => None,
    };
    if let Some((stem, letter)) = name.split_once('.') {
        let axis = axis(letter)?;
        let special = match stem {
            "%tid" => Special::Tid(axis),
            "%ntid" => Special::Ntid(axis),
            "%ctaid" => Special::Ctaid(axis),
            "%nctaid" => Special::Nctaid(axis),
            "%cluster_ctaid" => Special::BlockInCluster(axis),
            "%cluster_nctaid" => Special::BlocksInCluster(axis),
            "%clusterid" => Special::ClusterId(axis),
            "%nclusterid" => Special::Clusters(axis),
            _ => return None,
        };
        return Some((Bank::Word, special));
    }
    let special = match name {
        "%laneid" => Special::Lane,
        "%warpid" => Special::Warp,
        "%nwarpid" => Special::Warps,
        "%lanemask_eq" => Special::LaneMask(LaneMask::Eq),
        "%lanemask_le" => Special::LaneMask(LaneMask::Le),
        "%lanemask_lt" => Special::LaneMask(LaneMask::Lt),
        "%lanemask_ge" => Special::LaneMask(LaneMask::Ge),
        "%lanemask_gt" => Special::LaneMask(LaneMask::Gt),
        "%dynamic_smem_size" => Special::DynamicShared,
        "%total_smem_size" => Special::TotalShared,
        "%smid" => Special::Zero,
        "%nsmid" => Special::One,
        "%cluster_ctarank" => Special::ClusterRank,
        "%cluster_nctarank" => Special::ClusterSize,
        "%is_explicit_cluster" => return Some((Bank::Predicate, Special::Clustered)),
        "%gridid" => return Some((Bank::Double, Special::Zero)),
        _ => return None,
    };
    Some((Bank::Word, special))
}
