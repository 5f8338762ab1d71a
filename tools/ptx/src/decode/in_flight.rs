//! Registers of asynchronous matrix products: who touches them before they are waited for, and which products start
//! without a fence behind other accesses. All paths of the text are followed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::flow::Blocks;
use crate::hopper::{Hopper, Misuse, Source, Touched};
use crate::program::{Action, Inst};

/// A register in flight: commits since its product, and that product.
type Flying = BTreeMap<usize, (u32, usize)>;

#[derive(Clone, Default, PartialEq)]
struct State {
    accumulators: Flying,
    fragments: Flying,
    /// Registers touched since the last fence.
    touched: BTreeSet<usize>,
    /// No fence so far.
    unfenced: bool,
}

impl State {
    fn join(&mut self, other: &State) -> bool {
        let before = self.clone();
        for (mine, theirs) in [
            (&mut self.accumulators, &other.accumulators),
            (&mut self.fragments, &other.fragments),
        ] {
            for (slot, (commits, product)) in theirs {
                let known = mine.entry(*slot).or_insert((*commits, *product));
                known.0 = known.0.min(*commits);
            }
        }
        self.touched.extend(&other.touched);
        self.unfenced |= other.unfenced;
        *self != before
    }

    /// The state behind an instruction; reports what is wrong with it.
    fn step(&mut self, at: usize, inst: &Inst, touched: &Touched, mut found: impl FnMut(Misuse)) {
        let always = inst.guard.is_none();
        let mut misuse = |product| found(Misuse { at, product });
        let Action::Hopper(hopper) = &inst.action else {
            self.touch(touched, misuse);
            return;
        };
        match &**hopper {
            Hopper::ProductFence if always => {
                self.touched.clear();
                self.unfenced = false;
            }
            Hopper::CommitProducts => {
                let flying = self.accumulators.values_mut();
                for (commits, _) in flying.chain(self.fragments.values_mut()) {
                    // more than any wait counts
                    *commits = (*commits + 1).min(64);
                }
            }
            Hopper::WaitProducts(groups) if always => {
                let waits = |commits: u32| commits <= (*groups).min(63);
                self.accumulators.retain(|_, (commits, _)| waits(*commits));
                self.fragments.retain(|_, (commits, _)| waits(*commits));
            }
            Hopper::Product(product) => {
                let a: &[usize] = match &product.a {
                    Source::Registers(slots) => slots,
                    Source::Shared(_) => &[],
                };
                let mut all = product.d.iter().chain(a);
                if self.unfenced || all.any(|slot| self.touched.contains(slot)) {
                    misuse(None);
                }
                for slot in a {
                    if let Some((_, product)) = self.accumulators.get(slot) {
                        misuse(Some(*product));
                    }
                    self.fragments.insert(*slot, (0, at));
                }
                for slot in &product.d {
                    self.accumulators.insert(*slot, (0, at));
                }
            }
            _ => self.touch(touched, misuse),
        }
    }

    fn touch(&mut self, touched: &Touched, mut misuse: impl FnMut(Option<usize>)) {
        for slot in touched.writes.iter().chain(&touched.reads) {
            if let Some((_, product)) = self.accumulators.get(slot) {
                misuse(Some(*product));
            }
            self.touched.insert(*slot);
        }
        for slot in &touched.writes {
            if let Some((_, product)) = self.fragments.get(slot) {
                misuse(Some(*product));
            }
        }
    }
}

/// The misuses in the code of a function that starts at instruction `start`.
pub(super) fn misuses(code: &[Inst], touched: &[Touched], start: usize) -> Vec<Misuse> {
    let is_product = |inst: &Inst| matches!(&inst.action, Action::Hopper(h) if matches!(**h, Hopper::Product(_)));
    if !code.iter().any(is_product) {
        return vec![];
    }
    // only registers of products matter
    let mut relevant: BTreeSet<usize> = BTreeSet::new();
    for inst in code {
        if let Action::Hopper(hopper) = &inst.action
            && let Hopper::Product(product) = &**hopper
        {
            relevant.extend(&product.d);
            if let Source::Registers(slots) = &product.a {
                relevant.extend(slots);
            }
        }
    }
    let kept = |slots: &[usize]| -> Vec<usize> {
        let slots = slots.iter().copied();
        slots.filter(|slot| relevant.contains(slot)).collect()
    };
    let touched: Vec<Touched> = touched
        .iter()
        .map(|touched| Touched {
            writes: kept(&touched.writes),
            reads: kept(&touched.reads),
        })
        .collect();
    let blocks = Blocks::of(code, start);
    let mut states: Vec<Option<State>> = vec![None; blocks.starts.len()];
    states[0] = Some(State {
        unfenced: true,
        ..State::default()
    });
    let mut left = VecDeque::from([0]);
    while let Some(block) = left.pop_front() {
        let mut state = states[block].clone().unwrap_or_default();
        for at in blocks.starts[block]..blocks.end(block) {
            state.step(start + at, &code[at], &touched[at], |_| {});
        }
        for next in &blocks.successors[block] {
            let changed = match states.get_mut(*next) {
                None => false,
                Some(Some(known)) => known.join(&state),
                Some(empty) => {
                    *empty = Some(state.clone());
                    true
                }
            };
            if changed && !left.contains(next) {
                left.push_back(*next);
            }
        }
    }
    let mut found: Vec<Misuse> = vec![];
    for (block, state) in states.into_iter().enumerate() {
        let Some(mut state) = state else { continue };
        for at in blocks.starts[block]..blocks.end(block) {
            state.step(start + at, &code[at], &touched[at], |misuse| {
                if !found.contains(&misuse) {
                    found.push(misuse);
                }
            });
        }
    }
    found
}
