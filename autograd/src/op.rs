//! What the engine asks of values and of ops, and the application of an op to variables.

use std::rc::Rc;

use crate::error::Error;
use crate::keep::{self, Cost};
use crate::var::{Node, Var};

/// An element of a vector space: a number, a tensor.
///
/// Clones should be cheap (a shared buffer): variables hold values, and constants are cloned with
/// them.
pub trait Value: Clone + 'static {
    /// The error type of ops on this value.
    type Error: From<Error> + std::error::Error + 'static;

    /// The sum of two values of the same space, as a recorded operation, so that sums of cotangents
    /// are differentiable.
    fn add(a: &Var<Self>, b: &Var<Self>) -> Result<Var<Self>, Self::Error>;

    /// The number one if this value is a scalar (exactly one element), else `None`: the default
    /// cotangent of a loss.
    fn one_like(&self) -> Option<Self>;

    /// True if the other value lives in the same space (shape and dtype).
    fn same_space(&self, other: &Self) -> bool;

    /// A short description for error messages, e.g. `f32 [2, 3]`.
    fn describe(&self) -> String;
}

/// A function on values, and the rule that pulls cotangents back through it.
pub trait Op<V: Value>: 'static {
    /// The name that errors use.
    fn name(&self) -> &'static str;

    /// The outputs at these inputs.
    fn eval(&self, x: &[&V]) -> Result<Vec<V>, V::Error>;

    /// What computing the outputs costs, beside the memory they take: what a checkpoint goes by
    /// ([`Keep`](crate::Keep)).
    fn cost(&self) -> Cost {
        Cost::Cheap
    }

    /// The cotangents of the inputs from those of the outputs, one slot each; `None` is a zero.
    ///
    /// The rule is written in variables, so what it computes can be differentiated again. It may
    /// return `None` for an input that `at.needs` does not ask for. Without a rule of its own an op
    /// is an error to differentiate.
    fn vjp(&self, at: &At<V>, ct: &[Option<Var<V>>]) -> Result<Vec<Option<Var<V>>>, V::Error> {
        let _ = (at, ct);
        Err(Error::NoVjp { op: self.name() }.into())
    }
}

/// Where a rule is taken: one application of an op.
///
/// The variables are tracked in [`grad`](crate::grad) and constants in
/// [`backward`](crate::backward).
pub struct At<V> {
    /// The inputs.
    pub x: Vec<Var<V>>,
    /// The outputs. A rule that uses them as a cache (to save work, not as a function of its own)
    /// detaches them.
    pub y: Vec<Var<V>>,
    /// Which input cotangents are wanted; the others are ignored.
    pub needs: Vec<bool>,
}

/// Applies an op to variables. A node is recorded only if an input is tracked.
pub fn apply<V: Value>(op: impl Op<V>, x: &[&Var<V>]) -> Result<Vec<Var<V>>, V::Error> {
    let y = eval(&op, x)?;
    if !x.iter().any(|x| x.is_tracked()) {
        return Ok(y.into_iter().map(Var::constant).collect());
    }
    let node = record(op, x, y);
    Ok((0..node.y.len())
        .map(|slot| Var::tracked(node.clone(), slot))
        .collect())
}

/// [`apply`] for an op with exactly one output.
pub fn apply1<V: Value>(op: impl Op<V>, x: &[&Var<V>]) -> Result<Var<V>, V::Error> {
    let mut y = eval(&op, x)?;
    if y.len() != 1 {
        let (op, got) = (op.name(), y.len());
        return Err(Error::Arity {
            op,
            what: "outputs",
            expected: 1,
            got,
        }
        .into());
    }
    if !x.iter().any(|x| x.is_tracked()) {
        return Ok(Var::constant(y.swap_remove(0)));
    }
    Ok(Var::tracked(record(op, x, y), 0))
}

/// The outputs of an op; up to three inputs are gathered without an allocation.
fn eval<V: Value>(op: &impl Op<V>, x: &[&Var<V>]) -> Result<Vec<V>, V::Error> {
    match x {
        [a] => keep::eval(op, &[a.value()]),
        [a, b] => keep::eval(op, &[a.value(), b.value()]),
        [a, b, c] => keep::eval(op, &[a.value(), b.value(), c.value()]),
        _ => keep::eval(op, &x.iter().map(|x| x.value()).collect::<Vec<_>>()),
    }
}

fn record<V: Value>(op: impl Op<V>, x: &[&Var<V>], y: Vec<V>) -> Rc<Node<V>> {
    Node::new(
        Some(Rc::new(op)),
        x.iter().map(|x| (*x).clone()).collect(),
        y,
    )
}
