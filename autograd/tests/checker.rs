//! The checker passes what is right, at every order, and catches what is off by 0.1 %.

mod common;

use autograd::{At, Check, CheckError, Error, Mismatch, Op, Var, apply1, check_grads};
use common::*;

fn order(order: usize) -> Check {
    Check {
        order,
        ..Check::default()
    }
}

#[track_caller]
fn mismatch(result: std::result::Result<(), CheckError>) -> Mismatch {
    match result {
        Err(CheckError::Mismatch(m)) => m,
        other => panic!("no mismatch but {other:?}"),
    }
}

#[test]
fn a_rule_off_by_a_thousandth_at_one_order() {
    for wrong in 1..=3 {
        for seed in 0..20 {
            // The op alone, and as a small part of something larger.
            let alone = |x: &[Var<Real>]| {
                Ok(vec![apply1(
                    Sine {
                        derivative: 0,
                        wrong: Some(wrong),
                    },
                    &[&x[0]],
                )?])
            };
            let part = |x: &[Var<Real>]| {
                let y = mul(&sin(&x[0])?, &sin_cos(&x[1])?[0])?;
                Ok(vec![
                    add(&y, &mul(&alone(x)?[0], &scale(0.1, &x[1])?)?)?,
                    x[1].clone(),
                ])
            };
            let x = [Real(0.7), Real(-0.4)];
            let below = Check {
                seed,
                ..order(wrong as usize - 1)
            };
            let at = Check { seed, ..order(3) };
            check_grads(alone, &x[..1], &below).unwrap();
            check_grads(part, &x, &below).unwrap();
            let m = mismatch(check_grads(alone, &x[..1], &at));
            assert_eq!((m.order, m.input), (wrong as usize, 0));
            if wrong == 1 {
                assert!((m.got / m.expected - 1.001).abs() < 1e-6, "{m:?}");
            }
            assert_eq!(mismatch(check_grads(part, &x, &at)).order, wrong as usize);
        }
    }
}

#[test]
fn what_is_right_passes_to_order_four() {
    for seed in 0..5 {
        let f = |x: &[Var<Real>]| {
            let y = sin_cos(&mul(&x[0], &x[1])?)?;
            Ok(vec![mul(&y[0], &x[0])?, y[1].clone()])
        };
        check_grads(f, &[Real(0.7), Real(1.1)], &Check { seed, ..order(4) }).unwrap();
    }
}

/// x a, with a rule that is right at order one and forgets that it depends on the cotangent.
struct Forgetful;
impl Op<Real> for Forgetful {
    fn name(&self) -> &'static str {
        "forgetful"
    }
    fn eval(&self, x: &[&Real]) -> Result<Vec<Real>> {
        Ok(vec![Real(x[0].0 * x[1].0)])
    }
    fn vjp(&self, at: &At<Real>, ct: &[Option<Var<Real>>]) -> Cotangents<Real> {
        let Some(dy) = &ct[0] else {
            return Ok(vec![None, None]);
        };
        Ok(vec![
            Some(mul(&dy.detach(), &at.x[1])?),
            Some(mul(&dy.detach(), &at.x[0])?),
        ])
    }
}

#[test]
fn cotangents_are_inputs_of_their_own() {
    let f = |x: &[Var<Real>]| Ok(vec![apply1(Forgetful, &[&x[0], &x[1]])?]);
    let x = [Real(0.7), Real(-0.4)];
    check_grads(f, &x, &order(1)).unwrap();
    let e = check_grads(f, &x, &order(2)).unwrap_err();
    let text = e.to_string();
    let m = mismatch(Err(e));
    assert_eq!(
        (m.order, m.input, m.name.as_str()),
        (2, 2, "cotangent 0 of order 1")
    );
    for part in [
        "order 2",
        "input 2",
        "cotangent 0 of order 1",
        "f64",
        "seed 1",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

/// The square of each element, whose rule is wrong for one of them.
struct Square;
impl Op<Vector> for Square {
    fn name(&self) -> &'static str {
        "square"
    }
    fn eval(&self, x: &[&Vector]) -> Result<Vec<Vector>> {
        Ok(vec![Vector(x[0].0.iter().map(|x| x * x).collect())])
    }
    fn vjp(&self, at: &At<Vector>, ct: &[Option<Var<Vector>>]) -> Cotangents<Vector> {
        let Some(dy) = &ct[0] else {
            return Ok(vec![None]);
        };
        let factors = Var::constant(Vector::new(&[2.0, 2.0, 2.002, 2.0]));
        Ok(vec![Some(v_mul(&v_mul(&factors, &at.x[0])?, dy)?)])
    }
}

#[test]
fn the_worst_element_is_named() {
    let f = |x: &[Var<Vector>]| Ok(vec![v_add(&x[0], &apply1(Square, &[&x[1]])?)?]);
    let x = [Vector::new(&[0.1; 4]), Vector::new(&[0.3, 0.5, 0.7, 0.9])];
    let m = mismatch(check_grads(f, &x, &order(1)));
    assert_eq!((m.order, m.input, m.element), (1, 1, Some(2)));
    assert_eq!((m.name.as_str(), m.space.as_str()), ("x1", "f64 [4]"));
    assert!((m.got / m.expected - 1.001).abs() < 1e-6, "{m:?}");
}

#[test]
fn a_missing_cotangent_is_a_zero() {
    let f = |x: &[Var<Real>]| Ok(vec![mul(&x[0], &x[1].detach())?]);
    let m = mismatch(check_grads(f, &[Real(0.7), Real(-0.4)], &order(1)));
    assert_eq!((m.input, m.got), (1, 0.0));
    let f = |x: &[Var<Real>]| Ok(vec![mul(&x[0], &x[0])?, constant(3.0)]);
    check_grads(f, &[Real(0.7), Real(-0.4)], &order(3)).unwrap();
}

#[test]
fn not_a_number_fails() {
    let f = |x: &[Var<Real>]| Ok(vec![scale(f64::NAN, &x[0])?]);
    assert!(
        mismatch(check_grads(f, &[Real(0.7)], &order(1)))
            .got
            .is_nan()
    );
    let f = |x: &[Var<Real>]| Ok(vec![scale(f64::INFINITY, &x[0])?]);
    mismatch(check_grads(f, &[Real(0.7)], &order(1)));
}

#[test]
fn sizes_do_not_matter() {
    // Large outputs with a right rule pass; small derivatives with a wrong one do not.
    let large = |x: &[Var<Real>]| Ok(vec![add(&constant(1e9), &scale(1e6, &sin(&x[0])?)?)?]);
    check_grads(large, &[Real(0.7)], &order(3)).unwrap();
    let wrong = Some(2);
    let small = |x: &[Var<Real>]| {
        Ok(vec![scale(
            1e-3,
            &apply1(
                Sine {
                    derivative: 0,
                    wrong,
                },
                &[&x[0]],
            )?,
        )?])
    };
    assert_eq!(
        mismatch(check_grads(small, &[Real(0.7)], &order(2))).order,
        2
    );
}

#[test]
fn a_function_that_fails_says_at_which_order() {
    struct NoRule;
    impl Op<Real> for NoRule {
        fn name(&self) -> &'static str {
            "no_rule"
        }
        fn eval(&self, x: &[&Real]) -> Result<Vec<Real>> {
            Ok(vec![x[0].clone()])
        }
    }
    let f = |x: &[Var<Real>]| Ok(vec![apply1(NoRule, &[&x[0]])?]);
    let e = check_grads(f, &[Real(0.7)], &order(2)).unwrap_err();
    let source = std::error::Error::source(&e)
        .unwrap()
        .downcast_ref::<Error>();
    assert_eq!(source, Some(&Error::NoVjp { op: "no_rule" }));
    assert!(matches!(e, CheckError::Failed { order: 1, .. }), "{e}");
}
