//! The tangent sweep: derivatives along a direction, forwards through the tape.

use std::cell::RefCell;
use std::rc::Rc;

use crate::error::Error;
use crate::op::{At, Op, Value, apply};
use crate::route::Route;
use crate::sweep::{backward_with, vjp};
use crate::var::{Node, Var};

/// The directional derivatives of `y` along `v` at `x` (a Jacobian-vector product), as more tape: they
/// can be differentiated again. `None` is a zero, in `v` and in the result.
///
/// Like the reverse sweep it visits only nodes between `x` and `y`, and takes the variables in `x` as
/// independent of one another. It asks nothing of an op but its rule: `vjp(x, u)` is linear in the
/// cotangent u, and its derivative by u along v is the tangent of `f(x)`. That costs more than a
/// tangent rule written by hand, about one more backward pass; the reverse sweep over it costs nothing
/// more.
pub fn tangents<V: Value>(
    y: &[Var<V>],
    x: &[Var<V>],
    v: &[Option<Var<V>>],
) -> Result<Vec<Option<Var<V>>>, V::Error> {
    check(x, v)?;
    let route = Route::new(y, x);
    let mut tangent: Vec<Option<Var<V>>> = vec![None; route.cut.len()];
    for (goal, v) in route.goals.iter().zip(v) {
        if let Some(slot) = goal {
            tangent[*slot as usize] = v.clone();
        }
    }
    for step in route.steps.iter().filter(|step| step.through) {
        let (node, sources) = (step.node, route.targets(step));
        let Some(op) = &node.op else { continue };
        let dots: Vec<Option<Var<V>>> = (sources.iter())
            .map(|slot| slot.and_then(|slot| tangent[slot as usize].clone()))
            .collect();
        if dots.iter().all(Option::is_none) {
            continue;
        }
        let has = Rc::new(RefCell::new(Vec::new()));
        let jvp = Jvp {
            has: has.clone(),
            op: op.clone(),
            y: node.y.clone(),
            along: dots.iter().map(Option::is_some).collect(),
        };
        let inputs: Vec<&Var<V>> = node.x.iter().chain(dots.iter().flatten()).collect();
        let mut found = apply(jvp, &inputs)?.into_iter();
        for (slot, has) in step.slots().zip(has.borrow().iter()) {
            let dot = if *has { found.next() } else { None };
            if !route.cut[slot] {
                tangent[slot] = dot;
            }
        }
    }
    let of = |start: &Option<u32>| tangent[(*start)? as usize].clone();
    Ok(route.starts.iter().map(of).collect())
}

fn check<V: Value>(x: &[Var<V>], v: &[Option<Var<V>>]) -> Result<(), V::Error> {
    if x.len() != v.len() {
        let (expected, got) = (x.len(), v.len());
        return Err(Error::Arity {
            op: "tangents",
            what: "directions",
            expected,
            got,
        }
        .into());
    }
    for (input, (x, v)) in x.iter().zip(v).enumerate() {
        if let Some(v) = v
            && !x.value().same_space(v.value())
        {
            let (expected, got) = (x.value().describe(), v.value().describe());
            return Err(Error::CotangentShape {
                op: "tangents",
                input,
                expected,
                got,
            }
            .into());
        }
    }
    Ok(())
}

/// The tangent of an op: inputs are those of the op and the tangents that are there, outputs are the
/// tangents of its outputs, all but those that the rule takes for caches.
struct Jvp<V> {
    op: Rc<dyn Op<V>>,
    /// The op's outputs at its inputs.
    y: Vec<V>,
    /// Which inputs have a tangent.
    along: Vec<bool>,
    /// Which outputs have one, known once it has been evaluated.
    has: Rc<RefCell<Vec<bool>>>,
}

impl<V: Value> Jvp<V> {
    /// The op's rule at x for the cotangents `ct`: a cotangent for each input that has a tangent.
    fn pull(
        &self,
        x: &[Var<V>],
        y: Vec<Var<V>>,
        ct: &[Option<Var<V>>],
    ) -> Result<Vec<Option<Var<V>>>, V::Error> {
        let at = At {
            x: x.to_vec(),
            y,
            needs: self.along.clone(),
        };
        let dx = self.op.vjp(&at, ct)?.into_iter().zip(&self.along);
        Ok(dx.filter(|(_, along)| **along).map(|(dx, _)| dx).collect())
    }

    fn split<'a>(&self, all: &'a [Var<V>]) -> (&'a [Var<V>], &'a [Var<V>]) {
        all.split_at(self.along.len())
    }
}

impl<V: Value> Op<V> for Jvp<V> {
    fn name(&self) -> &'static str {
        "tangents"
    }

    fn eval(&self, x: &[&V]) -> Result<Vec<V>, V::Error> {
        let all: Vec<Var<V>> = x.iter().map(|x| Var::constant((*x).clone())).collect();
        let (x, dots) = self.split(&all);
        // any cotangent will do, the rule being linear in it; the outputs themselves are at hand
        let u: Vec<Var<V>> = self.y.iter().cloned().map(Var::leaf).collect();
        let ct: Vec<_> = u.iter().cloned().map(Some).collect();
        let y = self.y.iter().cloned().map(Var::constant).collect();
        let (dx, dots) = paired(&self.pull(x, y, &ct)?, dots);
        let dots: Vec<_> = dots.into_iter().map(|dot| Some(dot.into_value())).collect();
        let found = backward_with(&dx, &dots, &u)?;
        *self.has.borrow_mut() = found.iter().map(Option::is_some).collect();
        Ok(found.into_iter().flatten().collect())
    }

    /// `<ct, J(x) v> = <v, vjp(x, ct)>`: the derivative by v is the op's rule, that by x the rule's own.
    fn vjp(&self, at: &At<V>, ct: &[Option<Var<V>>]) -> Result<Vec<Option<Var<V>>>, V::Error> {
        let (x, dots) = self.split(&at.x);
        let recorded = at.x.iter().any(Var::is_tracked);
        let x: Vec<Var<V>> = x.iter().map(Var::alias).collect();
        let node = Node::new(Some(self.op.clone()), x.clone(), self.y.clone());
        let y = (0..self.y.len())
            .map(|i| Var::tracked(node.clone(), i))
            .collect();
        let mut given = ct.iter().cloned();
        let ct: Vec<_> = (self.has.borrow().iter())
            .map(|has| if *has { given.next().flatten() } else { None })
            .collect();
        let by_dots = self.pull(&x, y, &ct)?;
        let (dx, dots) = paired(&by_dots, dots);
        let mut all = if recorded {
            let dots: Vec<_> = dots.into_iter().map(Some).collect();
            vjp(&dx, &dots, &x)?
        } else {
            let dots: Vec<_> = dots.into_iter().map(|dot| Some(dot.into_value())).collect();
            let found = backward_with(&dx, &dots, &x)?;
            found.into_iter().map(|dx| dx.map(Var::constant)).collect()
        };
        all.extend(by_dots);
        Ok(all)
    }
}

/// The cotangents that are there, and the tangents they belong to.
fn paired<V: Value>(dx: &[Option<Var<V>>], dots: &[Var<V>]) -> (Vec<Var<V>>, Vec<Var<V>>) {
    let both = dx.iter().zip(dots);
    both.filter_map(|(dx, dot)| Some((dx.clone()?, dot.clone())))
        .unzip()
}
