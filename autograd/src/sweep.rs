//! The reverse sweep, recorded or not.

use crate::error::Error;
use crate::op::{At, Value};
use crate::route::Route;
use crate::var::Var;

/// The gradient of a scalar loss, as more tape: it can be differentiated again.
///
/// The variables in `wrt` are taken as independent of one another: cotangents stop at them, so they
/// need not be leaves, and a part of the loss that depends on one of them only through another does
/// not count for it. A variable that the loss does not depend on gets `None`, which is a zero; so
/// does every constant.
pub fn grad<V: Value>(loss: &Var<V>, wrt: &[Var<V>]) -> Result<Vec<Option<Var<V>>>, V::Error> {
    let one = Var::constant(one(loss)?);
    sweep(
        std::slice::from_ref(loss),
        vec![Some(one)],
        wrt,
        Mode::Recorded,
    )
}

/// The vector-Jacobian product, as more tape: [`grad`] with a cotangent per output, `None` for
/// zero.
pub fn vjp<V: Value>(
    y: &[Var<V>],
    ct: &[Option<Var<V>>],
    wrt: &[Var<V>],
) -> Result<Vec<Option<Var<V>>>, V::Error> {
    sweep(y, ct.to_vec(), wrt, Mode::Recorded)
}

/// The values of the gradient of a scalar loss: the sweep of [`grad`] over detached variables,
/// which records nothing.
///
/// Every cotangent is freed as soon as it has been used; the tape itself lives as long as the
/// variables that hold it.
pub fn backward<V: Value>(loss: &Var<V>, wrt: &[Var<V>]) -> Result<Vec<Option<V>>, V::Error> {
    backward_with(std::slice::from_ref(loss), &[Some(one(loss)?)], wrt)
}

/// [`backward`] with a cotangent per output, `None` for zero: the values of [`vjp`].
pub fn backward_with<V: Value>(
    y: &[Var<V>],
    ct: &[Option<V>],
    wrt: &[Var<V>],
) -> Result<Vec<Option<V>>, V::Error> {
    let ct = ct.iter().map(|ct| ct.clone().map(Var::constant)).collect();
    let found = sweep(y, ct, wrt, Mode::Detached)?;
    Ok(found
        .into_iter()
        .map(|ct| ct.map(Var::into_value))
        .collect())
}

fn one<V: Value>(loss: &Var<V>) -> Result<V, V::Error> {
    let one = loss.value().one_like();
    one.ok_or_else(|| {
        Error::NotScalar {
            loss: loss.value().describe(),
        }
        .into()
    })
}

/// What rules see: the variables of the tape, or their values as constants.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Recorded,
    Detached,
}

fn sweep<V: Value>(
    y: &[Var<V>],
    ct: Vec<Option<Var<V>>>,
    wrt: &[Var<V>],
    mode: Mode,
) -> Result<Vec<Option<Var<V>>>, V::Error> {
    check_seeds(y, &ct)?;
    let route = Route::new(y, wrt);
    let mut pending: Vec<Option<Var<V>>> = vec![None; route.cut.len()];
    for (ct, start) in ct.into_iter().zip(&route.starts) {
        if let (Some(ct), Some(slot)) = (ct, start) {
            accumulate(&mut pending[*slot as usize], ct)?;
        }
    }

    let mut at = At {
        x: Vec::new(),
        y: Vec::new(),
        needs: Vec::new(),
    };
    let mut ct = Vec::new();
    for step in route.steps.iter().rev().filter(|step| step.through) {
        let (node, targets) = (step.node, route.targets(step));
        // Cotangents of variables asked for stay where they are.
        ct.clear();
        ct.extend(
            step.slots()
                .map(|slot| pending[slot].take_if(|_| !route.cut[slot])),
        );
        let Some(op) = &node.op else { continue };
        if ct.iter().all(Option::is_none) {
            continue;
        }

        at.needs.extend(targets.iter().map(Option::is_some));
        match mode {
            Mode::Recorded => {
                at.x.extend_from_slice(&node.x);
                at.y.extend((0..node.y.len()).map(|i| Var::tracked(node.clone(), i)));
            }
            Mode::Detached => {
                at.x.extend(node.x.iter().map(Var::detach));
                at.y.extend(node.y.iter().cloned().map(Var::constant));
            }
        }
        let dx = op.vjp(&at, &ct)?;
        // Free what has been used before anything is summed.
        ct.clear();
        at.x.clear();
        at.y.clear();
        at.needs.clear();

        if dx.len() != node.x.len() {
            let (expected, got) = (node.x.len(), dx.len());
            let what = "input cotangents from its rule";
            return Err(Error::Arity {
                op: op.name(),
                what,
                expected,
                got,
            }
            .into());
        }
        for (input, (dx, target)) in dx.into_iter().zip(targets).enumerate() {
            let (Some(dx), Some(slot)) = (dx, target) else {
                continue;
            };
            let x = node.x[input].value();
            if !x.same_space(dx.value()) {
                let (expected, got) = (x.describe(), dx.value().describe());
                return Err(Error::CotangentShape {
                    op: op.name(),
                    input,
                    expected,
                    got,
                }
                .into());
            }
            let detached = mode == Mode::Detached && dx.is_tracked();
            let dx = if detached {
                Var::constant(dx.into_value())
            } else {
                dx
            };
            accumulate(&mut pending[*slot as usize], dx)?;
        }
    }
    Ok(route
        .goals
        .iter()
        .map(|goal| pending[(*goal)? as usize].clone())
        .collect())
}

/// Adds a cotangent to what is pending.
fn accumulate<V: Value>(pending: &mut Option<Var<V>>, ct: Var<V>) -> Result<(), V::Error> {
    *pending = Some(match pending.take() {
        None => ct,
        Some(sum) => V::add(&sum, &ct)?,
    });
    Ok(())
}

fn check_seeds<V: Value>(y: &[Var<V>], ct: &[Option<Var<V>>]) -> Result<(), V::Error> {
    if ct.len() != y.len() {
        let (expected, got) = (y.len(), ct.len());
        return Err(Error::Arity {
            op: "vjp",
            what: "output cotangents",
            expected,
            got,
        }
        .into());
    }
    for (output, (y, ct)) in y.iter().zip(ct).enumerate() {
        if let Some(ct) = ct
            && !y.value().same_space(ct.value())
        {
            let (expected, got) = (y.value().describe(), ct.value().describe());
            return Err(Error::SeedShape {
                output,
                expected,
                got,
            }
            .into());
        }
    }
    Ok(())
}
