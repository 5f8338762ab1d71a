//! Trading time for memory: forget the tape of a function, make it again in the backward pass.

use std::cell::RefCell;
use std::rc::Rc;

use crate::error::Error;
use crate::keep::{Keep, Kept, record, replay};
use crate::op::{At, Op, Value, apply};
use crate::route::depends_on_older;
use crate::sweep::{backward_with, vjp};
use crate::var::{Var, now};

/// `f(x)` as one op that keeps its inputs and outputs, and what `keep` says of the rest; its rule runs
/// `f` again and differentiates that.
///
/// It can be differentiated to any order, like `f` itself. Three things are asked of `f`:
///
/// * It is a function of its arguments: the second run computes what the first did.
/// * It captures no tracked variable. The gradient of such a variable would be lost, so it is
///   [`Error::Captured`].
/// * Where it differentiates something inside, as an inner loop does, it does so with respect to an
///   [`alias`](Var::alias) of an argument, because the first run is on constants.
///
/// In that first run aliases are new leaves, and an output may depend on them. This is no capture:
/// what counts as one is a dependence on a node that is older than the run. The outputs are plain
/// values in either case.
pub fn checkpoint<V: Value>(
    f: impl Fn(&[Var<V>]) -> Result<Vec<Var<V>>, V::Error> + 'static,
    x: &[&Var<V>],
    keep: Keep,
) -> Result<Vec<Var<V>>, V::Error> {
    let kept = RefCell::new(Rc::from([]));
    apply(Checkpoint { f, keep, kept }, x)
}

struct Checkpoint<F> {
    f: F,
    keep: Keep,
    /// Of the first run.
    kept: RefCell<Rc<[Kept]>>,
}

const NAME: &str = "checkpoint";

impl<V, F> Op<V> for Checkpoint<F>
where
    V: Value,
    F: Fn(&[Var<V>]) -> Result<Vec<Var<V>>, V::Error> + 'static,
{
    fn name(&self) -> &'static str {
        NAME
    }

    fn eval(&self, x: &[&V]) -> Result<Vec<V>, V::Error> {
        let x: Vec<_> = x.iter().map(|x| Var::constant((*x).clone())).collect();
        let start = now();
        let (y, kept) = record(self.keep, || (self.f)(&x));
        let y = y?;
        if depends_on_older(&y, start) {
            return Err(Error::Captured { op: NAME }.into());
        }
        *self.kept.borrow_mut() = kept;
        Ok(y.into_iter().map(Var::into_value).collect())
    }

    fn vjp(&self, at: &At<V>, ct: &[Option<Var<V>>]) -> Result<Vec<Option<Var<V>>>, V::Error> {
        // Fresh aliases, because inputs can depend on one another; inputs nobody asks for are taken
        // as they are.
        let alias = |(x, needed): (&Var<V>, &bool)| if *needed { x.alias() } else { x.clone() };
        let x: Vec<_> = at.x.iter().zip(&at.needs).map(alias).collect();
        let kept = self.kept.borrow().clone();
        let y = replay(self.keep, &kept, || (self.f)(&x))?;
        if y.len() != ct.len() {
            let (expected, got) = (ct.len(), y.len());
            return Err(Error::Arity {
                op: NAME,
                what: "outputs in its second run",
                expected,
                got,
            }
            .into());
        }
        let needed = |i: &usize| at.needs[*i];
        let wrt: Vec<_> = (0..x.len()).filter(needed).map(|i| x[i].clone()).collect();

        // A node has a tracked input, so an op that sees none is in a detached sweep: sweep
        // detached here, too.
        let found = if at.x.iter().any(Var::is_tracked) {
            vjp(&y, ct, &wrt)?
        } else {
            let ct: Vec<_> = ct
                .iter()
                .map(|ct| ct.as_ref().map(|ct| ct.value().clone()))
                .collect();
            let found = backward_with(&y, &ct, &wrt)?;
            found.into_iter().map(|dx| dx.map(Var::constant)).collect()
        };

        let mut dx = vec![None; x.len()];
        for (i, found) in (0..x.len()).filter(needed).zip(found) {
            dx[i] = found;
        }
        Ok(dx)
    }
}
