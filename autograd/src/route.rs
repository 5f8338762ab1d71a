//! Which nodes a sweep visits: those between the outputs and the variables asked for.

use std::ops::Range;
use std::rc::Rc;

use crate::var::{Node, Var, tick};

/// The nodes to visit and where each cotangent goes, settled before any rule runs.
///
/// Every output of every node has a slot for its cotangent; a cotangent that nobody wants has no
/// slot to go to. Rules may sweep on their own, over the same nodes: nothing here is stored in a
/// node once the route is made.
pub(crate) struct Route<'t, V> {
    /// Oldest first.
    pub steps: Vec<Step<'t, V>>,
    /// For every input of every step, the slot its cotangent goes to.
    targets: Vec<Option<u32>>,
    /// For every slot, true if it belongs to a variable asked for, where cotangents stop.
    pub cut: Vec<bool>,
    /// For every output of the sweep, the slot its cotangent goes to.
    pub starts: Vec<Option<u32>>,
    /// For every variable asked for, its slot, if the outputs reach it.
    pub goals: Vec<Option<u32>>,
}

/// One node of a route.
pub(crate) struct Step<'t, V> {
    pub node: &'t Rc<Node<V>>,
    /// True if cotangents go on to the inputs.
    pub through: bool,
    first_slot: usize,
    first_target: usize,
}

impl<V> Step<'_, V> {
    /// The slots of the node's outputs.
    pub fn slots(&self) -> Range<usize> {
        self.first_slot..self.first_slot + self.node.y.len()
    }
}

impl<'t, V> Route<'t, V> {
    pub fn new(y: &'t [Var<V>], wrt: &[Var<V>]) -> Self {
        let walk = tick();
        // Nothing older than the oldest goal can depend on a goal.
        let origins = wrt.iter().filter_map(Var::origin);
        let floor = origins.map(|(node, _)| node.id).min().unwrap_or(u64::MAX);
        let mut steps = reach(y, floor, walk);
        steps.sort_unstable_by_key(|step| step.node.id);

        let mut slots = 0;
        for (place, step) in steps.iter_mut().enumerate() {
            step.node.mark.set((walk, place as u32));
            step.first_slot = slots;
            slots += step.node.y.len();
        }
        assert!(
            slots <= u32::MAX as usize,
            "a sweep over more than 2^32 values"
        );
        /// The step that made a variable, and the variable's slot, if it is on the way.
        fn find<V>(steps: &[Step<V>], walk: u64, var: &Var<V>) -> Option<(usize, usize)> {
            let (node, output) = var.origin()?;
            let (by, place) = node.mark.get();
            let place = place as usize;
            (by == walk).then(|| (place, steps[place].first_slot + output))
        }

        let mut cut = vec![false; slots];
        let goal = |var| {
            let (_, slot) = find(&steps, walk, var)?;
            cut[slot] = true;
            Some(slot as u32)
        };
        let goals = wrt.iter().map(goal).collect();

        let wanted = |steps: &[Step<V>], var| {
            let (place, slot) = find(steps, walk, var)?;
            (cut[slot] || steps[place].through).then_some(slot as u32)
        };
        let mut targets = Vec::with_capacity(2 * steps.len());
        for place in 0..steps.len() {
            let first = targets.len();
            targets.extend(steps[place].node.x.iter().map(|x| wanted(&steps, x)));
            let open = steps[place].slots().any(|slot| !cut[slot]);
            steps[place].through = open && targets[first..].iter().any(Option::is_some);
            steps[place].first_target = first;
        }
        let starts = y.iter().map(|y| wanted(&steps, y)).collect();
        Route {
            steps,
            targets,
            cut,
            starts,
            goals,
        }
    }

    /// For every input of a step, the slot its cotangent goes to.
    pub fn targets(&self, step: &Step<V>) -> &[Option<u32>] {
        &self.targets[step.first_target..][..step.node.x.len()]
    }
}

/// The nodes that `y` depends on, none older than `floor`, in any order; a loop, because tapes are
/// deep.
fn reach<'t, V>(y: &'t [Var<V>], floor: u64, walk: u64) -> Vec<Step<'t, V>> {
    let mut steps = Vec::new();
    let mut inputs: Vec<&'t [Var<V>]> = vec![y];
    while let Some(vars) = inputs.pop() {
        for (node, _) in vars.iter().filter_map(Var::origin) {
            if node.id >= floor && node.mark.get().0 != walk {
                node.mark.set((walk, 0));
                steps.push(Step {
                    node,
                    through: false,
                    first_slot: 0,
                    first_target: 0,
                });
                inputs.push(&node.x);
            }
        }
    }
    steps
}

/// True if `y` depends on a node that is not newer than `start`.
pub(crate) fn depends_on_older<V>(y: &[Var<V>], start: u64) -> bool {
    let walk = tick();
    let mut inputs = vec![y];
    while let Some(vars) = inputs.pop() {
        for (node, _) in vars.iter().filter_map(Var::origin) {
            if node.id <= start {
                return true;
            }
            if node.mark.get().0 != walk {
                node.mark.set((walk, 0));
                inputs.push(&node.x);
            }
        }
    }
    false
}
