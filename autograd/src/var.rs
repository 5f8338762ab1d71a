//! Variables, and the tape they hold.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use crate::op::{At, Op, Value};

/// A value, and how it came about if it is tracked.
///
/// A constant is a value and nothing else. A tracked variable also holds, through a shared pointer,
/// the node that made it, and through that node everything it was computed from: the tape is owned
/// by the variables that end it and is freed with the last of them. A clone of a tracked variable
/// is the same variable; [`alias`](Var::alias) makes a new one.
pub struct Var<V>(Kind<V>);

enum Kind<V> {
    Constant(V),
    Tracked { node: Rc<Node<V>>, slot: u32 },
}

/// One application of an op, or a leaf (no op).
pub(crate) struct Node<V> {
    /// Larger than the id of every node this one depends on.
    pub id: u64,
    pub op: Option<Rc<dyn Op<V>>>,
    pub x: Vec<Var<V>>,
    pub y: Vec<V>,
    /// The last walk that came by, and the place it gave this node. Valid only while no other walk
    /// can start.
    pub mark: Cell<(u64, u32)>,
}

thread_local!(static CLOCK: Cell<u64> = const { Cell::new(0) });

/// The time of the latest tick on this thread (a tape never leaves its thread).
pub(crate) fn now() -> u64 {
    CLOCK.get()
}

/// A time later than every earlier one.
pub(crate) fn tick() -> u64 {
    let t = CLOCK.get() + 1;
    CLOCK.set(t);
    t
}

impl<V: Value> Node<V> {
    pub fn new(op: Option<Rc<dyn Op<V>>>, x: Vec<Var<V>>, y: Vec<V>) -> Rc<Self> {
        Rc::new(Node {
            id: tick(),
            op,
            x,
            y,
            mark: Cell::new((0, 0)),
        })
    }
}

impl<V> Drop for Node<V> {
    /// Frees what only this node held, in a loop: a recursive drop would overflow the stack on a
    /// long tape.
    fn drop(&mut self) {
        let mut stack = std::mem::take(&mut self.x);
        while let Some(var) = stack.pop() {
            if let Kind::Tracked { node, .. } = var.0
                && let Some(mut node) = Rc::into_inner(node)
            {
                stack.append(&mut node.x);
            }
        }
    }
}

impl<V> Var<V> {
    pub(crate) fn tracked(node: Rc<Node<V>>, slot: usize) -> Self {
        Var(Kind::Tracked {
            node,
            slot: slot as u32,
        })
    }

    /// The node that made this variable, and which of its outputs this is.
    pub(crate) fn origin(&self) -> Option<(&Rc<Node<V>>, usize)> {
        match &self.0 {
            Kind::Constant(_) => None,
            Kind::Tracked { node, slot } => Some((node, *slot as usize)),
        }
    }

    /// A variable that nothing is recorded for.
    pub fn constant(value: V) -> Self {
        Var(Kind::Constant(value))
    }

    /// The value.
    pub fn value(&self) -> &V {
        match &self.0 {
            Kind::Constant(value) => value,
            Kind::Tracked { node, slot } => &node.y[*slot as usize],
        }
    }

    /// True if what is computed from this variable is recorded.
    pub fn is_tracked(&self) -> bool {
        matches!(self.0, Kind::Tracked { .. })
    }
}

impl<V: Value> Var<V> {
    /// A new independent variable.
    pub fn leaf(value: V) -> Self {
        Var::tracked(Node::new(None, Vec::new(), vec![value]), 0)
    }

    /// The value alone; what this variable was computed from is freed if nothing else holds it.
    pub fn into_value(self) -> V {
        match self.0 {
            Kind::Constant(value) => value,
            Kind::Tracked { node, slot } => match Rc::try_unwrap(node) {
                Ok(mut node) => node.y.swap_remove(slot as usize),
                Err(node) => node.y[slot as usize].clone(),
            },
        }
    }

    /// The same value as a constant.
    pub fn detach(&self) -> Self {
        Var::constant(self.value().clone())
    }

    /// A fresh tracked variable equal to this one, and depending on it if it is tracked.
    ///
    /// This is what to differentiate with respect to when a function is traced again, or inside a
    /// function that may be called with constants. Never use the variables themselves there: the
    /// inputs of one op may depend on one another, or be the same variable, and a derivative with
    /// respect to one of them would then take in the others.
    pub fn alias(&self) -> Self {
        if !self.is_tracked() {
            return Var::leaf(self.value().clone());
        }
        let node = Node::new(
            Some(Rc::new(Alias)),
            vec![self.clone()],
            vec![self.value().clone()],
        );
        Var::tracked(node, 0)
    }
}

/// The identity.
struct Alias;

impl<V: Value> Op<V> for Alias {
    fn name(&self) -> &'static str {
        "alias"
    }
    fn eval(&self, x: &[&V]) -> Result<Vec<V>, V::Error> {
        Ok(vec![x[0].clone()])
    }
    fn vjp(&self, _: &At<V>, ct: &[Option<Var<V>>]) -> Result<Vec<Option<Var<V>>>, V::Error> {
        Ok(ct.to_vec())
    }
}

impl<V: Clone> Clone for Var<V> {
    fn clone(&self) -> Self {
        Var(match &self.0 {
            Kind::Constant(value) => Kind::Constant(value.clone()),
            Kind::Tracked { node, slot } => Kind::Tracked {
                node: node.clone(),
                slot: *slot,
            },
        })
    }
}

impl<V: Value> fmt::Debug for Var<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.origin() {
            None => "constant",
            Some((node, _)) => node.op.as_ref().map_or("leaf", |op| op.name()),
        };
        write!(f, "Var({kind}: {})", self.value().describe())
    }
}
