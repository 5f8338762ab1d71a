//! Derivatives of known functions, of fused ops, and through a step of gradient descent.
#![allow(
    clippy::cloned_ref_to_slice_refs,
    reason = "a list of one variable reads best as a list"
)]

mod common;

use autograd::{At, Check, Error, Op, Var, apply1, backward, check_grads, grad, vjp};
use common::*;

const X: f64 = 0.7;

#[test]
fn a_sine_to_order_four() {
    let x = leaf(X);
    close(&d(sin)(&x).unwrap(), X.cos());
    close(&d(d(sin))(&x).unwrap(), -X.sin());
    close(&d(d(d(sin)))(&x).unwrap(), -X.cos());
    close(&d(d(d(d(sin))))(&x).unwrap(), X.sin());
}

#[test]
fn a_product_to_order_four() {
    let f = |x: &Var<Real>| mul(&mul(x, x)?, &sin(x)?);
    let (s, c) = X.sin_cos();
    close(&d(f)(&leaf(X)).unwrap(), 2.0 * X * s + X * X * c);
    close(
        &d(d(f))(&leaf(X)).unwrap(),
        2.0 * s + 4.0 * X * c - X * X * s,
    );
    close(
        &d(d(d(f)))(&leaf(X)).unwrap(),
        6.0 * c - 6.0 * X * s - X * X * c,
    );
    close(
        &d(d(d(d(f))))(&leaf(X)).unwrap(),
        -12.0 * s - 8.0 * X * c + X * X * s,
    );
}

#[test]
fn an_op_with_two_outputs() {
    let both = |x: &Var<Real>| {
        let y = sin_cos(x)?;
        mul(&y[0], &y[1])
    };
    close(&d(both)(&leaf(X)).unwrap(), (2.0 * X).cos());
    close(&d(d(d(both)))(&leaf(X)).unwrap(), -4.0 * (2.0 * X).cos());
    // One output alone: the cotangent of the other is `None`.
    close(
        &d(|x| Ok(sin_cos(x)?.remove(1)))(&leaf(X)).unwrap(),
        -X.sin(),
    );
    close(
        &d(d(|x| Ok(sin_cos(x)?.remove(0))))(&leaf(X)).unwrap(),
        -X.sin(),
    );
}

#[test]
fn vectors_to_order_three() {
    // sum(exp(a b)) / sum(exp(b)), near enough: a log-sum-exp would need one more op.
    let f = |x: &[Var<Vector>]| {
        let e = exp(&v_mul(&x[0], &x[1])?)?;
        let total = spread(&sum(&e)?, 3)?;
        Ok(vec![v_mul(&e, &total)?, sum(&v_mul(&x[1], &e)?)?])
    };
    let x = [
        Vector::new(&[0.3, -0.4, 0.9]),
        Vector::new(&[-0.8, 0.5, 0.2]),
    ];
    check_grads(
        f,
        &x,
        &Check {
            order: 3,
            ..Check::default()
        },
    )
    .unwrap();
}

/// x^3 as a fused op. Its rule is an op of its own, which is given the output as a cache.
struct Cube;
/// 3 x^2 dy, from x, dy and the cached x^3, which gets no cotangent. Its rule is its meaning's.
struct CubeBwd;

fn cube(x: &Var<Real>) -> Result<Var<Real>> {
    apply1(Cube, &[x])
}

fn cube_bwd(x: &Var<Real>, dy: &Var<Real>, y: &Var<Real>) -> Result<Var<Real>> {
    apply1(CubeBwd, &[x, dy, &y.detach()])
}

/// The vjp of a function, as a function; with respect to aliases, as a re-trace must be.
fn vjp_of(
    f: impl Fn(&[Var<Real>]) -> Result<Var<Real>>,
    x: &[Var<Real>],
    ct: &Var<Real>,
) -> Cotangents<Real> {
    let x: Vec<_> = x.iter().map(Var::alias).collect();
    vjp(&[f(&x)?], &[Some(ct.clone())], &x)
}

fn cube_meaning(x: &[Var<Real>]) -> Result<Var<Real>> {
    mul(&mul(&x[0], &x[0])?, &x[0])
}

fn cube_bwd_meaning(x: &[Var<Real>]) -> Result<Var<Real>> {
    Ok(vjp_of(cube_meaning, &x[..1], &x[1])?.remove(0).unwrap())
}

impl Op<Real> for Cube {
    fn name(&self) -> &'static str {
        "cube"
    }
    fn eval(&self, x: &[&Real]) -> Result<Vec<Real>> {
        Ok(vec![Real(x[0].0.powi(3))])
    }
    fn vjp(&self, at: &At<Real>, ct: &[Option<Var<Real>>]) -> Cotangents<Real> {
        Ok(vec![
            ct[0]
                .as_ref()
                .map(|dy| cube_bwd(&at.x[0], dy, &at.y[0]))
                .transpose()?,
        ])
    }
}

impl Op<Real> for CubeBwd {
    fn name(&self) -> &'static str {
        "cube_bwd"
    }
    fn eval(&self, x: &[&Real]) -> Result<Vec<Real>> {
        Ok(vec![Real(3.0 * x[2].0 / x[0].0 * x[1].0)])
    }
    fn vjp(&self, at: &At<Real>, ct: &[Option<Var<Real>>]) -> Cotangents<Real> {
        let Some(ddx) = &ct[0] else {
            return Ok(vec![None; 3]);
        };
        let mut dx = vjp_of(cube_bwd_meaning, &at.x[..2], ddx)?;
        dx.push(None);
        Ok(dx)
    }
}

#[test]
fn a_fused_op_falls_back_on_its_meaning() {
    close(&d(cube)(&leaf(X)).unwrap(), 3.0 * X * X);
    close(&d(d(cube))(&leaf(X)).unwrap(), 6.0 * X);
    close(&d(d(d(cube)))(&leaf(X)).unwrap(), 6.0);
    close(&d(d(d(d(cube))))(&leaf(X)).unwrap(), 0.0);
    let f = |x: &[Var<Real>]| Ok(vec![mul(&cube(&sin(&x[0])?)?, &x[1])?]);
    check_grads(
        f,
        &[Real(X), Real(-0.4)],
        &Check {
            order: 3,
            ..Check::default()
        },
    )
    .unwrap();
}

#[test]
fn inputs_of_one_op_may_depend_on_one_another() {
    // 3 x^2 sin x
    let f = |x: &Var<Real>| cube_bwd(x, &sin(x)?, &cube(x)?);
    let (s, c) = X.sin_cos();
    close(&d(f)(&leaf(X)).unwrap(), 6.0 * X * s + 3.0 * X * X * c);
    close(
        &d(d(f))(&leaf(X)).unwrap(),
        6.0 * s + 12.0 * X * c - 3.0 * X * X * s,
    );
    close(
        &d(d(d(f)))(&leaf(X)).unwrap(),
        18.0 * c - 18.0 * X * s - 3.0 * X * X * c,
    );
}

#[test]
fn inputs_of_one_op_may_be_the_same_variable() {
    // 3 x^3
    let f = |x: &Var<Real>| cube_bwd(x, x, &cube(x)?);
    close(&d(f)(&leaf(X)).unwrap(), 9.0 * X * X);
    close(&d(d(f))(&leaf(X)).unwrap(), 18.0 * X);
    close(&d(d(d(f)))(&leaf(X)).unwrap(), 18.0);
}

/// Three steps of gradient descent on the weights, with fused ops inside; then a loss.
fn trained(w: &Var<Real>, rate: &Var<Real>) -> Result<Var<Real>> {
    let mut w = w.clone();
    for data in [0.3, -0.5, 0.8] {
        let w_now = w.alias();
        let loss = cube(&sin(&add(&w_now, &constant(data))?)?)?;
        let dw = grad(&loss, &[w_now])?.remove(0).unwrap();
        w = add(&w, &scale(-1.0, &mul(rate, &dw)?)?)?;
    }
    sin(&cube(&w)?)
}

#[test]
fn the_gradient_through_gradient_descent() {
    let f = |x: &[Var<Real>]| Ok(vec![trained(&x[0], &x[1])?]);
    check_grads(
        f,
        &[Real(X), Real(0.1)],
        &Check {
            order: 3,
            ..Check::default()
        },
    )
    .unwrap();
}

#[test]
fn gradient_descent_without_aliases() {
    // With respect to weights that were themselves computed: `wrt` is a cut, so nothing else is
    // needed.
    let w0 = leaf(X);
    let mut w = w0.clone();
    for data in [0.3, -0.5, 0.8] {
        let loss = cube(&sin(&add(&w, &constant(data)).unwrap()).unwrap()).unwrap();
        let dw = grad(&loss, &[w.clone()]).unwrap().remove(0).unwrap();
        w = add(&w, &scale(-0.1, &dw).unwrap()).unwrap();
    }
    let loss = sin(&cube(&w).unwrap()).unwrap();
    let dw = backward(&loss, &[w0]).unwrap().remove(0).unwrap();
    close(&d(|w| trained(w, &constant(0.1)))(&leaf(X)).unwrap(), dw.0);
}

#[test]
fn a_gradient_needs_a_rule() {
    struct Opaque;
    impl Op<Real> for Opaque {
        fn name(&self) -> &'static str {
            "opaque"
        }
        fn eval(&self, x: &[&Real]) -> Result<Vec<Real>> {
            Ok(vec![x[0].clone()])
        }
    }
    let f = |x: &Var<Real>| apply1(Opaque, &[x]);
    let e = d(f)(&leaf(X)).unwrap_err();
    assert_eq!(e, Error::NoVjp { op: "opaque" });
    assert!(e.to_string().contains("opaque"), "{e}");
    // Where no gradient is asked for, none is needed.
    close(&d(|x| mul(x, &f(&x.detach())?))(&leaf(X)).unwrap(), X);
}
