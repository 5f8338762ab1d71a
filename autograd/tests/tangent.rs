//! Tangents against the reverse sweep and finite differences.
#![allow(
    clippy::cloned_ref_to_slice_refs,
    reason = "a list of one variable reads best as a list"
)]

mod common;

use autograd::{Check, Error, Var, backward, check_grads, grad, tangents};
use common::*;

/// x sin(x y), and e^x of vectors beside it where a test needs more than numbers.
fn f(x: &[Var<Real>]) -> Result<Var<Real>> {
    mul(&x[0], &sin(&mul(&x[0], &x[1])?)?)
}

#[test]
fn along_one_variable_and_along_both() {
    let x = [leaf(0.7), leaf(-0.4)];
    let y = f(&x).unwrap();
    let (s, c) = (0.7f64 * -0.4).sin_cos();
    let by = [s + 0.7 * -0.4 * c, 0.7 * 0.7 * c];
    for v in [[Some(2.0), None], [None, Some(3.0)], [Some(2.0), Some(3.0)]] {
        let expected: f64 = v.iter().zip(by).map(|(v, by)| v.unwrap_or(0.0) * by).sum();
        let v = v.map(|v| v.map(constant));
        let dot = tangents(&[y.clone()], &x, &v).unwrap().remove(0).unwrap();
        close(&dot, expected);
    }
}

#[test]
fn no_direction_is_no_tangent() {
    let x = [leaf(0.7), leaf(-0.4)];
    let y = f(&x).unwrap();
    assert!(tangents(&[y.clone()], &x, &[None, None]).unwrap()[0].is_none());
    let other = leaf(1.0);
    let v = [Some(constant(1.0))];
    assert!(tangents(&[y], &[other], &v).unwrap()[0].is_none());
}

/// The tangent of the gradient along v is the Hessian times v, in either order of the sweeps.
#[test]
fn forward_over_reverse_is_reverse_over_forward() {
    let x = [leaf(0.7), leaf(-0.4)];
    let v = [Some(constant(2.0)), Some(constant(-1.5))];
    let y = f(&x).unwrap();
    let g: Vec<_> = grad(&y, &x)
        .unwrap()
        .into_iter()
        .map(Option::unwrap)
        .collect();
    let forward: Vec<f64> = (tangents(&g, &x, &v).unwrap().into_iter())
        .map(|hv| hv.unwrap().value().0)
        .collect();
    let dot = tangents(&[y], &x, &v).unwrap().remove(0).unwrap();
    let reverse = backward(&dot, &x).unwrap();
    for (forward, reverse) in forward.iter().zip(reverse) {
        close(&Var::constant(reverse.unwrap()), *forward);
    }
}

/// As a function of the point and the direction it has derivatives of every order.
#[test]
fn derivatives_against_finite_differences() {
    let check = Check {
        order: 2,
        ..Check::default()
    };
    let g = |x: &[Var<Real>]| {
        let at: Vec<_> = x[..2].iter().map(Var::alias).collect();
        let v: Vec<_> = x[2..].iter().cloned().map(Some).collect();
        let dot = tangents(&[f(&at)?], &at, &v)?.remove(0);
        Ok(vec![dot.expect("it depends on both")])
    };
    check_grads(g, &[Real(0.7), Real(-0.4), Real(1.2), Real(0.3)], &check).unwrap();
    let h = |x: &[Var<Vector>]| {
        let w = x[0].alias();
        let y = exp(&v_mul(&w, &x[1])?)?;
        let dot = tangents(&[y], &[w], &[Some(x[2].clone())])?.remove(0);
        Ok(vec![dot.expect("it depends on w")])
    };
    let x = [[0.5, -0.7], [0.9, 0.1], [-0.3, 0.6]].map(|x| Vector::new(&x));
    check_grads(h, &x, &check).unwrap();
}

#[test]
fn a_direction_for_each_variable() {
    let x = leaf(1.0);
    let e = tangents(&[x.clone()], &[x], &[]).map(|_| ()).unwrap_err();
    assert!(matches!(e, Error::Arity { op: "tangents", .. }));
}
