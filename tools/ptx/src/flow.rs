//! Where the lanes of a branch meet again: its immediate post-dominator.

use crate::program::{Action, Inst, NOWHERE};

/// Sets `meet` of every branch in the code of a function that starts at instruction `start`.
pub(crate) fn meeting_points(code: &mut [Inst], start: usize) {
    let blocks = Blocks::of(code, start);
    let meet = post_dominators(&blocks.successors);
    let exit = blocks.starts.len();
    for (block, next) in meet.iter().enumerate().take(exit) {
        let last = blocks.end(block) - 1;
        if matches!(
            code[last].action,
            Action::Branch(_) | Action::BranchIndexed(..)
        ) {
            code[last].meet = if *next == exit {
                NOWHERE
            } else {
                (start + blocks.starts[*next]) as u32
            };
        }
    }
}

/// Straight pieces of a function.
pub(crate) struct Blocks {
    /// First instruction of each block.
    pub starts: Vec<usize>,
    length: usize,
    /// Blocks that may follow; `starts.len()` stands for the end of the function.
    pub successors: Vec<Vec<usize>>,
}

impl Blocks {
    pub fn of(code: &[Inst], start: usize) -> Self {
        let mut leads = vec![false; code.len() + 1];
        leads[0] = true;
        for (at, inst) in code.iter().enumerate() {
            let targets = targets(inst);
            for target in &targets {
                leads[*target as usize - start] = true;
            }
            if !targets.is_empty() || ends(inst) {
                leads[at + 1] = true;
            }
        }
        let starts: Vec<usize> = (0..code.len()).filter(|at| leads[*at]).collect();
        let mut blocks = Blocks {
            starts,
            length: code.len(),
            successors: vec![],
        };
        let exit = blocks.starts.len();
        for block in 0..exit {
            let end = blocks.end(block);
            let last = &code[end - 1];
            let mut next: Vec<usize> = targets(last)
                .iter()
                .map(|target| blocks.holding(*target as usize - start))
                .collect();
            if ends(last) {
                next.push(exit);
            }
            let always = last.guard.is_none() && (ends(last) || !next.is_empty());
            if !always {
                next.push(if end < code.len() { block + 1 } else { exit });
            }
            blocks.successors.push(next);
        }
        blocks.successors.push(vec![]);
        blocks
    }

    /// The instruction behind a block.
    pub fn end(&self, block: usize) -> usize {
        self.starts.get(block + 1).copied().unwrap_or(self.length)
    }

    /// The block that holds an instruction.
    pub fn holding(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at) - 1
    }
}

fn targets(inst: &Inst) -> Vec<u32> {
    match &inst.action {
        Action::Branch(target) => vec![*target],
        Action::BranchIndexed(_, targets) => targets.clone(),
        _ => vec![],
    }
}

fn ends(inst: &Inst) -> bool {
    matches!(inst.action, Action::Return | Action::Exit | Action::Trap)
}

/// The immediate post-dominator of every node, for a graph whose last node is the exit; a node from which the exit
/// cannot be reached gets the exit. (Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm", on the
/// graph turned round.)
fn post_dominators(successors: &[Vec<usize>]) -> Vec<usize> {
    let exit = successors.len() - 1;
    let mut predecessors = vec![vec![]; successors.len()];
    for (from, next) in successors.iter().enumerate() {
        for to in next {
            predecessors[*to].push(from);
        }
    }
    // post-order from the exit, against the edges
    let mut order = vec![];
    let mut rank = vec![usize::MAX; successors.len()];
    let mut seen = vec![false; successors.len()];
    let mut stack = vec![(exit, 0)];
    seen[exit] = true;
    while let Some((node, child)) = stack.pop() {
        match predecessors[node].get(child) {
            Some(next) => {
                stack.push((node, child + 1));
                if !std::mem::replace(&mut seen[*next], true) {
                    stack.push((*next, 0));
                }
            }
            None => {
                rank[node] = order.len();
                order.push(node);
            }
        }
    }
    let mut meet = vec![usize::MAX; successors.len()];
    meet[exit] = exit;
    let mut changed = true;
    while changed {
        changed = false;
        for node in order.iter().rev().copied().filter(|node| *node != exit) {
            let mut next = usize::MAX;
            for successor in &successors[node] {
                if meet[*successor] == usize::MAX {
                    continue;
                }
                next = if next == usize::MAX {
                    *successor
                } else {
                    common(&meet, &rank, next, *successor)
                };
            }
            if meet[node] != next {
                meet[node] = next;
                changed = true;
            }
        }
    }
    meet.iter_mut()
        .filter(|m| **m == usize::MAX)
        .for_each(|m| *m = exit);
    meet
}

fn common(meet: &[usize], rank: &[usize], mut a: usize, mut b: usize) -> usize {
    while a != b {
        while rank[a] < rank[b] {
            a = meet[a];
        }
        while rank[b] < rank[a] {
            b = meet[b];
        }
    }
    a
}

#[cfg(test)]
mod tests {
    use super::post_dominators;

    #[test]
    fn a_diamond_meets_at_its_end_and_a_loop_behind_itself() {
        // 0 -> 1, 2; 1 -> 3; 2 -> 3; 3 -> 3, 4; 4 -> exit
        let graph = vec![vec![1, 2], vec![3], vec![3], vec![3, 4], vec![5], vec![]];
        assert_eq!(post_dominators(&graph), [3, 3, 3, 4, 5, 5]);
    }

    #[test]
    fn an_endless_loop_meets_nowhere() {
        let graph = vec![vec![0, 1], vec![1], vec![]];
        assert_eq!(post_dominators(&graph), [2, 2, 2]);
    }
}
