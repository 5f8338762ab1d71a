//! What a sweep visits, frees, skips, and refuses.
#![allow(
    clippy::cloned_ref_to_slice_refs,
    reason = "a list of one variable reads best as a list"
)]

mod common;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use autograd::{At, Error, Op, Value, Var, apply, apply1, backward, backward_with, grad, vjp};
use common::*;

fn values(found: Vec<Option<Var<Real>>>) -> Vec<Option<f64>> {
    found.into_iter().map(|v| v.map(|v| v.value().0)).collect()
}

#[test]
fn variables_asked_for_are_a_cut() {
    let x = leaf(0.7);
    let w = mul(&x, &x).unwrap();
    let y = mul(&w, &x).unwrap();
    // w alone; x alone; both, where the part of x through w does not count.
    assert_eq!(values(grad(&y, &[w.clone()]).unwrap()), [Some(0.7)]);
    close(
        &grad(&y, &[x.clone()]).unwrap()[0].clone().unwrap(),
        3.0 * 0.49,
    );
    let both = [x.clone(), w.clone()];
    assert_eq!(
        values(grad(&y, &both).unwrap()),
        [Some(w.value().0), Some(0.7)]
    );
    // x is reached through w only.
    let z = sin(&w).unwrap();
    assert_eq!(values(grad(&z, &both).unwrap())[0], None);
}

#[test]
fn one_output_of_an_op_can_be_a_cut() {
    let x = leaf(0.7);
    let y = sin_cos(&x).unwrap();
    let product = mul(&y[0], &y[1]).unwrap();
    let found = grad(&product, &[y[0].clone(), x.clone()]).unwrap();
    close(found[0].as_ref().unwrap(), 0.7f64.cos());
    // Through the cosine only.
    close(found[1].as_ref().unwrap(), -0.7f64.sin().powi(2));
}

#[test]
fn a_variable_may_be_asked_for_twice_and_be_an_output() {
    let x = leaf(0.7);
    let y = mul(&x, &x).unwrap();
    assert_eq!(
        values(grad(&y, &[x.clone(), x.clone()]).unwrap()),
        [Some(1.4), Some(1.4)]
    );
    assert_eq!(
        values(grad(&y, &[y.clone(), x.clone()]).unwrap()),
        [Some(1.0), None]
    );
    // An output given twice counts twice; a constant output and a `None` do not count.
    let two = Some(Real(2.0));
    let outputs = [y.clone(), y.clone(), constant(3.0), y.clone()];
    let found = backward_with(&outputs, &[two.clone(), two.clone(), two, None], &[x, y]).unwrap();
    assert_eq!(found, [None, Some(Real(4.0))]);
}

#[test]
fn what_the_loss_does_not_depend_on_gets_none() {
    let (x, other) = (leaf(0.7), leaf(0.2));
    let later = sin(&x).unwrap();
    let y = mul(&x, &other.detach()).unwrap();
    let found = grad(&y, &[other, later, constant(1.0), x]).unwrap();
    assert_eq!(values(found), [None, None, None, Some(0.2)]);
    assert_eq!(values(grad(&constant(1.0), &[leaf(0.0)]).unwrap()), [None]);
    assert_eq!(values(grad(&leaf(1.0), &[]).unwrap()), []);
}

#[test]
fn only_what_is_tracked_is_recorded() {
    let c = mul(&constant(2.0), &constant(3.0)).unwrap();
    assert!(!c.is_tracked());
    assert!(sin_cos(&c).unwrap().iter().all(|y| !y.is_tracked()));
    let y = mul(&c, &leaf(1.0)).unwrap();
    assert!(y.is_tracked() && !y.detach().is_tracked());
    assert_eq!(
        format!("{c:?} {y:?} {:?} {:?}", leaf(1.0), y.alias()),
        "Var(constant: f64) Var(mul: f64) Var(leaf: f64) Var(alias: f64)"
    );
    assert_eq!(y.clone().into_value(), Real(6.0));
    assert_eq!(y.into_value(), Real(6.0));
}

/// A sum that writes down what its rule is shown.
struct Spy(Log);
/// For each call of the rule, what it needed to compute and whether it saw a tracked variable.
type Log = Rc<RefCell<Vec<(Vec<bool>, bool)>>>;
impl Op<Real> for Spy {
    fn name(&self) -> &'static str {
        "spy"
    }
    fn eval(&self, x: &[&Real]) -> Result<Vec<Real>> {
        Ok(vec![Real(x.iter().map(|x| x.0).sum())])
    }
    fn vjp(&self, at: &At<Real>, ct: &[Option<Var<Real>>]) -> Cotangents<Real> {
        let tracked = at.x.iter().chain(&at.y).any(Var::is_tracked);
        self.0.borrow_mut().push((at.needs.clone(), tracked));
        // More than is needed is no mistake.
        Ok(vec![ct[0].clone(); at.x.len()])
    }
}

#[test]
fn rules_see_what_is_needed_and_backward_shows_constants() {
    let log = Rc::new(RefCell::new(Vec::new()));
    let (a, b) = (leaf(1.0), leaf(2.0));
    let b2 = sin(&b).unwrap();
    let y = apply1(Spy(log.clone()), &[&a, &b2, &constant(3.0), &a]).unwrap();
    assert_eq!(values(grad(&y, &[a.clone()]).unwrap()), [Some(2.0)]);
    assert_eq!(
        backward(&y, &[b.clone()]).unwrap(),
        [Some(Real(2.0f64.cos()))]
    );
    // A node that does not lead to what is asked for is not visited.
    assert_eq!(values(grad(&y, &[leaf(0.0)]).unwrap()), [None]);
    let later = leaf(0.0);
    let z = add(&y, &later).unwrap();
    assert_eq!(values(grad(&z, &[later]).unwrap()), [Some(1.0)]);
    let expected = [
        (vec![true, false, false, true], true),
        (vec![false, true, false, false], false),
    ];
    assert_eq!(*log.borrow(), expected);
}

#[test]
fn a_rule_may_sweep_the_tape_it_is_on() {
    /// The identity, whose rule walks over nodes that the sweep has yet to visit.
    struct Nosy;
    impl Op<Real> for Nosy {
        fn name(&self) -> &'static str {
            "nosy"
        }
        fn eval(&self, x: &[&Real]) -> Result<Vec<Real>> {
            Ok(vec![x[0].clone()])
        }
        fn vjp(&self, at: &At<Real>, ct: &[Option<Var<Real>>]) -> Cotangents<Real> {
            let around = add(&at.x[0], &at.x[0])?;
            grad(&around, &at.x)?;
            Ok(ct.to_vec())
        }
    }
    let f = |x: &Var<Real>| {
        let y = mul(x, x)?;
        let z = apply1(Nosy, &[&mul(&y, &y)?])?;
        mul(&z, &apply1(Nosy, &[&y])?)
    };
    close(&d(f)(&leaf(0.7)).unwrap(), 6.0 * 0.7f64.powi(5));
    close(&d(d(f))(&leaf(0.7)).unwrap(), 30.0 * 0.7f64.powi(4));
}

#[test]
fn a_million_nodes() {
    let x = leaf(0.5);
    let mut chain = x.clone();
    let mut star = x.clone();
    for _ in 0..1_000_000 {
        chain = scale(-1.0, &chain).unwrap();
        star = add(&star, &x).unwrap();
    }
    assert_eq!(backward(&chain, &[x.clone()]).unwrap(), [Some(Real(1.0))]);
    assert_eq!(
        values(grad(&star, &[x.clone()]).unwrap()),
        [Some(1_000_001.0)]
    );
    drop(chain);
    // What is dropped last may be a value on its way out.
    assert_eq!(star.into_value(), Real(0.5 * 1_000_001.0));
}

thread_local!(static LIVE: Cell<(i64, i64)> = const { Cell::new((0, 0)) });

/// A number that counts how many of it there are now and were at most.
struct Counted(f64);
impl Counted {
    fn new(x: f64) -> Self {
        let (live, most) = LIVE.get();
        LIVE.set((live + 1, most.max(live + 1)));
        Counted(x)
    }
}
impl Clone for Counted {
    fn clone(&self) -> Self {
        Counted::new(self.0)
    }
}
impl Drop for Counted {
    fn drop(&mut self) {
        let (live, most) = LIVE.get();
        LIVE.set((live - 1, most));
    }
}
struct CountedAdd;
impl Op<Counted> for CountedAdd {
    fn name(&self) -> &'static str {
        "counted_add"
    }
    fn eval(&self, x: &[&Counted]) -> Result<Vec<Counted>> {
        Ok(vec![Counted::new(x[0].0 + x[1].0)])
    }
    fn vjp(&self, _: &At<Counted>, ct: &[Option<Var<Counted>>]) -> Cotangents<Counted> {
        Ok(vec![ct[0].clone(), ct[0].clone()])
    }
}
impl Value for Counted {
    type Error = Error;
    fn add(a: &Var<Self>, b: &Var<Self>) -> Result<Var<Self>> {
        apply1(CountedAdd, &[a, b])
    }
    fn one_like(&self) -> Option<Self> {
        Some(Counted::new(1.0))
    }
    fn same_space(&self, _: &Self) -> bool {
        true
    }
    fn describe(&self) -> String {
        "counted".into()
    }
}

#[test]
fn backward_frees_cotangents_as_it_goes() {
    let x = Var::leaf(Counted::new(1e-3));
    let mut y = x.clone();
    for _ in 0..100 {
        y = Counted::add(&y, &y).unwrap();
    }
    let (tape, _) = LIVE.get();
    LIVE.set((tape, tape));
    let dx = backward(&y, &[x.clone()]).unwrap();
    let (live, most) = LIVE.get();
    assert_eq!(dx[0].as_ref().unwrap().0, 2f64.powi(100));
    assert_eq!(live, tape + 1);
    assert!(
        most <= tape + 8,
        "{} values at once for a chain of one-value nodes",
        most - tape
    );
    drop((x, y, dx));
    assert_eq!(LIVE.get().0, 0);
}

#[test]
fn a_loss_has_one_element() {
    let x = Var::leaf(Vector::new(&[1.0, 2.0]));
    let e = Error::NotScalar {
        loss: "f64 [2]".into(),
    };
    assert_eq!(grad(&x, &[x.clone()]).unwrap_err(), e);
    assert_eq!(backward(&x, &[x.clone()]).unwrap_err(), e);
    assert!(
        e.to_string().contains("f64 [2]") && e.to_string().contains("sum"),
        "{e}"
    );
    assert_eq!(
        backward(&sum(&x).unwrap(), &[x]).unwrap(),
        [Some(Vector::new(&[1.0, 1.0]))]
    );
}

#[test]
fn cotangents_given_must_fit_their_outputs() {
    let x = Var::leaf(Vector::new(&[1.0, 2.0]));
    let ct = Vector::new(&[1.0, 2.0, 3.0]);
    let e = Error::SeedShape {
        output: 1,
        expected: "f64 [2]".into(),
        got: "f64 [3]".into(),
    };
    let y = [x.clone(), x.clone()];
    assert_eq!(
        backward_with(&y, &[None, Some(ct.clone())], &[x.clone()]).unwrap_err(),
        e
    );
    assert_eq!(
        vjp(&y, &[None, Some(Var::constant(ct))], &[x.clone()]).unwrap_err(),
        e
    );
    assert!(e.to_string().contains("output 1"), "{e}");
    let e = Error::Arity {
        op: "vjp",
        what: "output cotangents",
        expected: 2,
        got: 1,
    };
    assert_eq!(vjp(&y, &[None], &[x]).unwrap_err(), e);
    assert!(e.to_string().contains("vjp"), "{e}");
}

/// An op that returns what it is told to, in `eval` and in its rule.
struct Told {
    outputs: usize,
    cotangents: Vec<Option<Vector>>,
}
impl Op<Vector> for Told {
    fn name(&self) -> &'static str {
        "told"
    }
    fn eval(&self, _: &[&Vector]) -> Result<Vec<Vector>> {
        Ok(vec![Vector::new(&[0.0]); self.outputs])
    }
    fn vjp(&self, _: &At<Vector>, _: &[Option<Var<Vector>>]) -> Cotangents<Vector> {
        Ok(self
            .cotangents
            .iter()
            .map(|ct| ct.clone().map(Var::constant))
            .collect())
    }
}

#[test]
fn rules_must_return_what_fits_their_inputs() {
    let x = [
        Var::leaf(Vector::new(&[1.0])),
        Var::leaf(Vector::new(&[1.0, 2.0])),
    ];
    let loss = |cotangents: &[Option<Vector>]| {
        apply1(
            Told {
                outputs: 1,
                cotangents: cotangents.to_vec(),
            },
            &[&x[0], &x[1]],
        )
        .unwrap()
    };
    let one = Some(Vector::new(&[1.0]));

    let e = Error::CotangentShape {
        op: "told",
        input: 1,
        expected: "f64 [2]".into(),
        got: "f64 [1]".into(),
    };
    assert_eq!(grad(&loss(&[None, one.clone()]), &x).unwrap_err(), e);
    assert_eq!(backward(&loss(&[None, one.clone()]), &x).unwrap_err(), e);
    assert!(
        e.to_string().contains("told") && e.to_string().contains("input 1"),
        "{e}"
    );
    // Nobody asks for input 1.
    assert_eq!(
        backward(&loss(&[one.clone(), one.clone()]), &x[..1]).unwrap(),
        [one.clone()]
    );

    let what = "input cotangents from its rule";
    let e = Error::Arity {
        op: "told",
        what,
        expected: 2,
        got: 1,
    };
    assert_eq!(grad(&loss(&[one]), &x).unwrap_err(), e);
}

#[test]
fn apply1_is_for_one_output() {
    for outputs in [0, 2] {
        let x = Var::constant(Vector::new(&[1.0]));
        let e = Error::Arity {
            op: "told",
            what: "outputs",
            expected: 1,
            got: outputs,
        };
        assert_eq!(
            apply1(
                Told {
                    outputs,
                    cotangents: vec![]
                },
                &[&x]
            )
            .unwrap_err(),
            e
        );
        assert_eq!(
            apply(
                Told {
                    outputs,
                    cotangents: vec![]
                },
                &[&x]
            )
            .unwrap()
            .len(),
            outputs
        );
    }
}
