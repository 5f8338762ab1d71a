//! Checkpoints are worth what the function itself is, at every order.
#![allow(
    clippy::cloned_ref_to_slice_refs,
    reason = "a list of one variable reads best as a list"
)]

mod common;

use std::cell::Cell;
use std::rc::Rc;

use autograd::{
    At, Check, Cost, Error, Keep, Op, Var, apply1, backward, check_grads, checkpoint, grad,
    tangents,
};
use common::*;

const X: f64 = 0.7;

fn product(x: &[Var<Real>]) -> Result<Vec<Var<Real>>> {
    Ok(vec![mul(&sin(&x[0])?, &x[1])?])
}

#[test]
fn derivatives_to_order_three() {
    let raw = |x: &Var<Real>| mul(&sin(&sin(x)?)?, x);
    let saved = |x: &Var<Real>| {
        let y = checkpoint(|x| Ok(vec![sin(&sin(&x[0])?)?]), &[x], Keep::Nothing)?;
        mul(&y[0], x)
    };
    close(&saved(&leaf(X)).unwrap(), raw(&leaf(X)).unwrap().value().0);
    close(
        &d(saved)(&leaf(X)).unwrap(),
        d(raw)(&leaf(X)).unwrap().value().0,
    );
    close(
        &d(d(saved))(&leaf(X)).unwrap(),
        d(d(raw))(&leaf(X)).unwrap().value().0,
    );
    close(
        &d(d(d(saved)))(&leaf(X)).unwrap(),
        d(d(d(raw)))(&leaf(X)).unwrap().value().0,
    );
}

#[test]
fn inputs_may_depend_on_one_another_or_be_the_same() {
    let (s, c) = X.sin_cos();
    // sin(x) sin(x)
    let dependent =
        |x: &Var<Real>| Ok(checkpoint(product, &[x, &sin(x)?], Keep::Nothing)?.remove(0));
    close(&d(dependent)(&leaf(X)).unwrap(), 2.0 * s * c);
    close(&d(d(dependent))(&leaf(X)).unwrap(), 2.0 * (c * c - s * s));
    // sin(x) x
    let same = |x: &Var<Real>| Ok(checkpoint(product, &[x, x], Keep::Nothing)?.remove(0));
    close(&d(same)(&leaf(X)).unwrap(), c * X + s);
    close(&d(d(same))(&leaf(X)).unwrap(), 2.0 * c - s * X);

    // The sweep that records nothing.
    for (f, expected) in [
        (&dependent as &dyn Fn(&Var<Real>) -> _, 2.0 * s * c),
        (&same, c * X + s),
    ] {
        let x = leaf(X);
        let dx: Vec<Option<Real>> = backward(&f(&x).unwrap(), &[x]).unwrap();
        close(&Var::constant(dx[0].clone().unwrap()), expected);
    }
}

#[test]
fn nested_with_many_inputs_and_outputs() {
    let f = |x: &[Var<Real>]| {
        let inner = checkpoint(product, &[&x[0], &x[1]], Keep::Nothing)?.remove(0);
        Ok(vec![
            mul(&inner, &x[0])?,
            x[1].clone(),
            sin_cos(&inner)?.remove(1),
            constant(2.0),
        ])
    };
    let outer = move |x: &[Var<Real>]| checkpoint(f, &[&x[0], &x[1]], Keep::Costly);
    check_grads(
        outer,
        &[Real(X), Real(-0.3)],
        &Check {
            order: 3,
            ..Check::default()
        },
    )
    .unwrap();
}

#[test]
fn an_input_that_is_not_needed_now_may_be_needed_later() {
    let (a, b) = (leaf(X), leaf(0.4));
    let y = checkpoint(product, &[&a, &b], Keep::Nothing)
        .unwrap()
        .remove(0);
    let da = grad(&y, &[a]).unwrap().remove(0).unwrap();
    close(&grad(&da, &[b]).unwrap()[0].clone().unwrap(), X.cos());
}

#[test]
fn the_tape_is_not_kept() {
    // What the function computes lives in this shared count only as long as its tape does.
    let alive = Rc::new(Cell::new(0));
    struct Token(Rc<Cell<i32>>);
    impl Drop for Token {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }
    struct Held(#[allow(dead_code, reason = "held for its drop")] Token);
    impl Op<Real> for Held {
        fn name(&self) -> &'static str {
            "held"
        }
        fn eval(&self, x: &[&Real]) -> Result<Vec<Real>> {
            Ok(vec![x[0].clone()])
        }
        fn vjp(&self, _: &At<Real>, ct: &[Option<Var<Real>>]) -> Cotangents<Real> {
            Ok(ct.to_vec())
        }
    }
    let count = alive.clone();
    let f = move |x: &[Var<Real>]| {
        count.set(count.get() + 1);
        Ok(vec![apply1(Held(Token(count.clone())), &[&x[0]])?])
    };
    let x = leaf(X);
    let y = checkpoint(f, &[&x], Keep::Nothing).unwrap().remove(0);
    assert_eq!(alive.get(), 0);
    assert_eq!(backward(&y, &[x]).unwrap(), [Some(Real(1.0))]);
    assert_eq!(alive.get(), 0);
}

#[test]
fn a_captured_variable_is_an_error() {
    let x = leaf(X);
    let captured = Err(Error::Captured { op: "checkpoint" });
    let with = |w: Var<Real>| {
        checkpoint(
            move |x: &[Var<Real>]| Ok(vec![mul(&x[0], &w)?]),
            &[&x],
            Keep::Nothing,
        )
        .map(|_| ())
    };
    assert_eq!(with(x.clone()), captured);
    assert_eq!(with(x.alias()), captured);
    assert_eq!(with(sin(&x).unwrap()), captured);
    assert_eq!(with(sin(&x).unwrap().detach()), Ok(()));
    // Even through an alias made inside, or out of reach of what is passed in.
    let w = x.clone();
    let f = move |x: &[Var<Real>]| Ok(vec![mul(&x[0], &w.alias())?]);
    assert_eq!(
        checkpoint(f, &[&constant(1.0)], Keep::Nothing).map(|_| ()),
        captured
    );
    assert!(
        Error::Captured { op: "checkpoint" }
            .to_string()
            .contains("pass the variable")
    );
}

#[test]
fn what_is_made_inside_is_not_captured() {
    // The outputs depend on a leaf; it is newer than the run.
    let f = |x: &[Var<Real>]| {
        let w = x[0].alias();
        let dw = grad(&mul(&sin(&w)?, &w)?, &[w.clone()])?.remove(0).unwrap();
        Ok(vec![add(&w, &dw)?])
    };
    let y = checkpoint(f, &[&constant(X)], Keep::Nothing).unwrap();
    assert!(!y[0].is_tracked());
    close(&y[0], X + X.sin() + X * X.cos());
}

#[test]
fn the_second_run_must_do_what_the_first_did() {
    let runs = Cell::new(0);
    let f = move |x: &[Var<Real>]| {
        runs.set(runs.get() + 1);
        Ok(vec![x[0].clone(); runs.get()])
    };
    let x = leaf(X);
    let y = checkpoint(f, &[&x], Keep::Nothing).unwrap().remove(0);
    let what = "outputs in its second run";
    assert_eq!(
        backward(&y, &[x]).unwrap_err(),
        Error::Arity {
            op: "checkpoint",
            what,
            expected: 1,
            got: 2
        }
    );
}

/// One step of gradient descent on w, data and rate given: the loss before the step, and the new w.
fn step(x: &[Var<Vector>]) -> Result<Vec<Var<Vector>>> {
    let [w, data, rate] = x else { unreachable!() };
    let w = w.alias();
    let loss = sum(&v_mul(&exp(&v_mul(&w, data)?)?, &w)?)?;
    let dw = grad(&loss, &[w.clone()])?.remove(0).unwrap();
    Ok(vec![loss, v_add(&w, &v_mul(rate, &dw)?)?])
}

type Step = fn(&[Var<Vector>]) -> Result<Vec<Var<Vector>>>;

/// The losses of three steps; inputs are the first w, three times data, and the (negative) rate.
fn train(step: Step, x: &[Var<Vector>]) -> Result<Vec<Var<Vector>>> {
    let [w, data @ .., rate] = x else {
        unreachable!()
    };
    let mut w = w.clone();
    let mut total = Var::constant(Vector::new(&[0.0]));
    for data in data {
        let mut y = step(&[w, data.clone(), rate.clone()])?;
        w = y.remove(1);
        total = v_add(&total, &y[0])?;
    }
    Ok(vec![v_add(&total, &sum(&v_mul(&w, &w)?)?)?])
}

fn saved_step(x: &[Var<Vector>]) -> Result<Vec<Var<Vector>>> {
    checkpoint(step, &[&x[0], &x[1], &x[2]], Keep::Costly)
}

fn inputs() -> Vec<Vector> {
    let x = [
        [0.5, -0.7],
        [0.9, 0.1],
        [-0.3, 0.6],
        [0.2, 0.8],
        [-0.1, -0.2],
    ];
    x.iter().map(|x| Vector::new(x)).collect()
}

#[test]
fn the_meta_gradient_is_that_of_the_function() {
    let x: Vec<_> = inputs().into_iter().map(Var::leaf).collect();
    let raw = train(step, &x).unwrap().remove(0);
    let saved = train(saved_step, &x).unwrap().remove(0);
    assert_eq!(raw.value(), saved.value());
    let expected = backward(&raw, &x).unwrap();
    assert_eq!(backward(&saved, &x).unwrap(), expected);
    let recorded = grad(&saved, &x)
        .unwrap()
        .into_iter()
        .map(|dx| dx.map(Var::into_value));
    assert_eq!(recorded.collect::<Vec<_>>(), expected);
}

#[test]
fn the_meta_gradient_against_finite_differences() {
    let check = Check {
        order: 2,
        ..Check::default()
    };
    check_grads(|x: &[Var<Vector>]| train(step, x), &inputs(), &check).unwrap();
    check_grads(|x: &[Var<Vector>]| train(saved_step, x), &inputs(), &check).unwrap();
}

/// x^2, as an op that costs this much and counts how often it is computed.
struct Square(Cost, Rc<Cell<i32>>);

impl Op<Real> for Square {
    fn name(&self) -> &'static str {
        "square"
    }
    fn cost(&self) -> Cost {
        self.0
    }
    fn eval(&self, x: &[&Real]) -> Result<Vec<Real>> {
        self.1.set(self.1.get() + 1);
        Ok(vec![Real(x[0].0 * x[0].0)])
    }
    fn vjp(&self, at: &At<Real>, ct: &[Option<Var<Real>>]) -> Cotangents<Real> {
        let part = |ct: &Var<Real>| mul(&mul(&constant(2.0), &at.x[0])?, ct);
        Ok(vec![ct[0].as_ref().map(part).transpose()?])
    }
}

#[test]
fn costly_ops_are_computed_once() {
    let cases = [
        (Keep::Nothing, Cost::Dear, false),
        (Keep::Dear, Cost::Costly, false),
        (Keep::Dear, Cost::Dear, true),
        (Keep::Costly, Cost::Costly, true),
        (Keep::Costly, Cost::Dear, true),
    ];
    for (keep, cost, kept) in cases {
        let count = Rc::new(Cell::new(0));
        let counted = count.clone();
        // (sin(x^2))^2
        let f = move |x: &[Var<Real>]| {
            let square = |x: &Var<Real>| apply1(Square(cost, counted.clone()), &[x]);
            Ok(vec![square(&sin(&square(&x[0])?)?)?])
        };
        let x = leaf(X);
        let y = checkpoint(f, &[&x], keep).unwrap().remove(0);
        let dx = backward(&y, &[x.clone()]).unwrap().remove(0).unwrap();
        assert_eq!(count.get(), if kept { 2 } else { 4 });
        let (s, c) = (X * X).sin_cos();
        close(&Var::constant(dx), 4.0 * X * s * c);
        // what is kept can be used again
        backward(&y, &[x]).unwrap();
        assert_eq!(count.get(), if kept { 2 } else { 6 });
    }
}

#[test]
fn a_nested_checkpoint_keeps_for_itself() {
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    let square = move |x: &Var<Real>| apply1(Square(Cost::Costly, counted.clone()), &[x]);
    let f = move |x: &[Var<Real>]| {
        let square = square.clone();
        let inner = {
            let square = square.clone();
            move |x: &[Var<Real>]| Ok(vec![square(&sin(&x[0])?)?])
        };
        let y = checkpoint(inner, &[&square(&x[0])?], Keep::Nothing)?.remove(0);
        Ok(vec![square(&y)?])
    };
    let x = leaf(X);
    let y = checkpoint(f, &[&x], Keep::Costly).unwrap().remove(0);
    assert_eq!(count.get(), 3);
    let dx = backward(&y, &[x]).unwrap().remove(0).unwrap();
    // the inner one is run in the second run of the outer one, and again for its own rule
    assert_eq!(count.get(), 5);
    let (s, c) = (X * X).sin_cos();
    // (sin(x^2))^4
    close(&Var::constant(dx), 8.0 * X * s.powi(3) * c);
}

#[test]
fn costly_ops_must_come_in_the_same_order() {
    let second = Rc::new(Cell::new(false));
    let flag = second.clone();
    let f = move |x: &[Var<Real>]| match flag.replace(true) {
        false => Ok(vec![sin(&x[0])?]),
        true => Ok(vec![apply1(Square(Cost::Costly, Rc::default()), &[&x[0]])?]),
    };
    let x = leaf(X);
    let y = checkpoint(f, &[&x], Keep::Costly).unwrap().remove(0);
    let expected = Error::Replay {
        first: None,
        second: "square",
    };
    assert!(expected.to_string().contains("function of its arguments"));
    assert_eq!(backward(&y, &[x]).unwrap_err(), expected);
}

/// The derivative of x^2 along v, and its own derivative by x, when the tangent sweep itself is under a checkpoint.
#[test]
fn a_tangent_sweep_inside_is_kept_like_the_rest() {
    for keep in [Keep::Nothing, Keep::Costly] {
        let f = |x: &[Var<Real>]| {
            let w = x[0].alias();
            let y = apply1(Square(Cost::Costly, Rc::default()), &[&w])?;
            let dot = tangents(&[y], &[w], &[Some(x[1].clone())])?.remove(0);
            Ok(vec![dot.expect("the square depends on it")])
        };
        let (x, v) = (leaf(X), leaf(3.0));
        let dot = checkpoint(f, &[&x, &v], keep).unwrap().remove(0);
        close(&dot, 2.0 * X * 3.0);
        let d = backward(&dot, &[x, v]).unwrap();
        for (d, expected) in d.into_iter().zip([6.0, 2.0 * X]) {
            close(&Var::constant(d.unwrap()), expected);
        }
    }
}
