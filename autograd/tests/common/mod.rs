//! Two small value types with a few ops each.
#![allow(dead_code, reason = "each test file uses a part of this")]

use std::rc::Rc;

use autograd::{At, Error, Op, Probe, Value, Var, apply, apply1, grad};

pub type Result<T> = std::result::Result<T, Error>;
/// What a rule returns.
pub type Cotangents<V> = Result<Vec<Option<Var<V>>>>;

/// A number.
#[derive(Clone, Debug, PartialEq)]
pub struct Real(pub f64);

impl Value for Real {
    type Error = Error;
    fn add(a: &Var<Real>, b: &Var<Real>) -> Result<Var<Real>> {
        add(a, b)
    }
    fn one_like(&self) -> Option<Real> {
        Some(Real(1.0))
    }
    fn same_space(&self, _: &Real) -> bool {
        true
    }
    fn describe(&self) -> String {
        "f64".into()
    }
}

impl Probe for Real {
    fn to_f64s(&self) -> Vec<f64> {
        vec![self.0]
    }
    fn from_f64s(&self, x: &[f64]) -> Real {
        Real(x[0])
    }
}

pub fn leaf(x: f64) -> Var<Real> {
    Var::leaf(Real(x))
}

pub fn constant(x: f64) -> Var<Real> {
    Var::constant(Real(x))
}

struct Add;
impl Op<Real> for Add {
    fn name(&self) -> &'static str {
        "add"
    }
    fn eval(&self, x: &[&Real]) -> Result<Vec<Real>> {
        Ok(vec![Real(x[0].0 + x[1].0)])
    }
    fn vjp(&self, _: &At<Real>, ct: &[Option<Var<Real>>]) -> Cotangents<Real> {
        Ok(vec![ct[0].clone(), ct[0].clone()])
    }
}
pub fn add(a: &Var<Real>, b: &Var<Real>) -> Result<Var<Real>> {
    apply1(Add, &[a, b])
}

struct Mul;
impl Op<Real> for Mul {
    fn name(&self) -> &'static str {
        "mul"
    }
    fn eval(&self, x: &[&Real]) -> Result<Vec<Real>> {
        Ok(vec![Real(x[0].0 * x[1].0)])
    }
    fn vjp(&self, at: &At<Real>, ct: &[Option<Var<Real>>]) -> Cotangents<Real> {
        let Some(dy) = &ct[0] else {
            return Ok(vec![None, None]);
        };
        let part = |i: usize| at.needs[i].then(|| mul(dy, &at.x[1 - i])).transpose();
        Ok(vec![part(0)?, part(1)?])
    }
}
pub fn mul(a: &Var<Real>, b: &Var<Real>) -> Result<Var<Real>> {
    apply1(Mul, &[a, b])
}

pub fn scale(s: f64, x: &Var<Real>) -> Result<Var<Real>> {
    mul(&constant(s), x)
}

/// A derivative of the sine. The rule that yields derivative `wrong` is off by 0.1 %.
pub struct Sine {
    pub derivative: u32,
    pub wrong: Option<u32>,
}
impl Op<Real> for Sine {
    fn name(&self) -> &'static str {
        "sine"
    }
    fn eval(&self, x: &[&Real]) -> Result<Vec<Real>> {
        let x = x[0].0;
        Ok(vec![Real(
            [x.sin(), x.cos(), -x.sin(), -x.cos()][self.derivative as usize % 4],
        )])
    }
    fn vjp(&self, at: &At<Real>, ct: &[Option<Var<Real>>]) -> Cotangents<Real> {
        let Some(dy) = &ct[0] else {
            return Ok(vec![None]);
        };
        let derivative = self.derivative + 1;
        let slope = apply1(
            Sine {
                derivative,
                wrong: self.wrong,
            },
            &[&at.x[0]],
        )?;
        let dx = mul(dy, &slope)?;
        Ok(vec![Some(if self.wrong == Some(derivative) {
            scale(1.001, &dx)?
        } else {
            dx
        })])
    }
}
pub fn sin(x: &Var<Real>) -> Result<Var<Real>> {
    apply1(
        Sine {
            derivative: 0,
            wrong: None,
        },
        &[x],
    )
}

/// Sine and cosine together; the rule is written in the outputs.
struct SinCos;
impl Op<Real> for SinCos {
    fn name(&self) -> &'static str {
        "sin_cos"
    }
    fn eval(&self, x: &[&Real]) -> Result<Vec<Real>> {
        Ok(vec![Real(x[0].0.sin()), Real(x[0].0.cos())])
    }
    fn vjp(&self, at: &At<Real>, ct: &[Option<Var<Real>>]) -> Cotangents<Real> {
        let [sin, cos] = &at.y[..] else {
            unreachable!()
        };
        let d_sin = ct[0].as_ref().map(|ds| mul(ds, cos)).transpose()?;
        let d_cos = ct[1]
            .as_ref()
            .map(|dc| scale(-1.0, &mul(dc, sin)?))
            .transpose()?;
        Ok(vec![match (d_sin, d_cos) {
            (Some(a), Some(b)) => Some(add(&a, &b)?),
            (a, b) => a.or(b),
        }])
    }
}
pub fn sin_cos(x: &Var<Real>) -> Result<Vec<Var<Real>>> {
    apply(SinCos, &[x])
}

/// Applies a function to one number and differentiates it, as a function of a number.
pub fn d(f: impl Fn(&Var<Real>) -> Result<Var<Real>>) -> impl Fn(&Var<Real>) -> Result<Var<Real>> {
    move |x| {
        let x = x.alias();
        let dx = grad(&f(&x)?, &[x])?.remove(0);
        Ok(dx.unwrap_or(constant(0.0)))
    }
}

#[track_caller]
pub fn close(got: &Var<Real>, expected: f64) {
    let got = got.value().0;
    assert!(
        (got - expected).abs() <= 1e-12 * (1.0 + expected.abs()),
        "{got} is not {expected}"
    );
}

/// A vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Vector(pub Rc<[f64]>);

impl Vector {
    pub fn new(x: &[f64]) -> Vector {
        Vector(x.into())
    }
}

impl Value for Vector {
    type Error = Error;
    fn add(a: &Var<Vector>, b: &Var<Vector>) -> Result<Var<Vector>> {
        apply1(
            Each {
                name: "v_add",
                f: |a, b| a + b,
                rule: add_rule,
            },
            &[a, b],
        )
    }
    fn one_like(&self) -> Option<Vector> {
        (self.0.len() == 1).then(|| Vector::new(&[1.0]))
    }
    fn same_space(&self, other: &Vector) -> bool {
        self.0.len() == other.0.len()
    }
    fn describe(&self) -> String {
        format!("f64 [{}]", self.0.len())
    }
}

impl Probe for Vector {
    fn to_f64s(&self) -> Vec<f64> {
        self.0.to_vec()
    }
    fn from_f64s(&self, x: &[f64]) -> Vector {
        Vector::new(x)
    }
}

/// Element by element.
struct Each {
    name: &'static str,
    f: fn(f64, f64) -> f64,
    rule: fn(&At<Vector>, &Var<Vector>) -> Cotangents<Vector>,
}
impl Op<Vector> for Each {
    fn name(&self) -> &'static str {
        self.name
    }
    fn eval(&self, x: &[&Vector]) -> Result<Vec<Vector>> {
        Ok(vec![Vector(
            x[0].0
                .iter()
                .zip(&x[1].0[..])
                .map(|(a, b)| (self.f)(*a, *b))
                .collect(),
        )])
    }
    fn vjp(&self, at: &At<Vector>, ct: &[Option<Var<Vector>>]) -> Cotangents<Vector> {
        let Some(dy) = &ct[0] else {
            return Ok(vec![None; at.x.len()]);
        };
        (self.rule)(at, dy)
    }
}
fn add_rule(_: &At<Vector>, dy: &Var<Vector>) -> Cotangents<Vector> {
    Ok(vec![Some(dy.clone()), Some(dy.clone())])
}
fn mul_rule(at: &At<Vector>, dy: &Var<Vector>) -> Cotangents<Vector> {
    Ok(vec![Some(v_mul(dy, &at.x[1])?), Some(v_mul(dy, &at.x[0])?)])
}
pub fn v_add(a: &Var<Vector>, b: &Var<Vector>) -> Result<Var<Vector>> {
    Vector::add(a, b)
}
pub fn v_mul(a: &Var<Vector>, b: &Var<Vector>) -> Result<Var<Vector>> {
    apply1(
        Each {
            name: "v_mul",
            f: |a, b| a * b,
            rule: mul_rule,
        },
        &[a, b],
    )
}

/// The exponential.
struct Exp;
impl Op<Vector> for Exp {
    fn name(&self) -> &'static str {
        "exp"
    }
    fn eval(&self, x: &[&Vector]) -> Result<Vec<Vector>> {
        Ok(vec![Vector(x[0].0.iter().map(|x| x.exp()).collect())])
    }
    fn vjp(&self, at: &At<Vector>, ct: &[Option<Var<Vector>>]) -> Cotangents<Vector> {
        Ok(vec![
            ct[0].as_ref().map(|dy| v_mul(dy, &at.y[0])).transpose()?,
        ])
    }
}
pub fn exp(x: &Var<Vector>) -> Result<Var<Vector>> {
    apply1(Exp, &[x])
}

/// The sum of the elements; the adjoint of `Spread`.
struct Sum;
impl Op<Vector> for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }
    fn eval(&self, x: &[&Vector]) -> Result<Vec<Vector>> {
        Ok(vec![Vector::new(&[x[0].0.iter().sum()])])
    }
    fn vjp(&self, at: &At<Vector>, ct: &[Option<Var<Vector>>]) -> Cotangents<Vector> {
        let n = at.x[0].value().0.len();
        Ok(vec![ct[0].as_ref().map(|dy| spread(dy, n)).transpose()?])
    }
}
pub fn sum(x: &Var<Vector>) -> Result<Var<Vector>> {
    apply1(Sum, &[x])
}

/// One number, n times.
struct Spread(usize);
impl Op<Vector> for Spread {
    fn name(&self) -> &'static str {
        "spread"
    }
    fn eval(&self, x: &[&Vector]) -> Result<Vec<Vector>> {
        Ok(vec![Vector(vec![x[0].0[0]; self.0].into())])
    }
    fn vjp(&self, _: &At<Vector>, ct: &[Option<Var<Vector>>]) -> Cotangents<Vector> {
        Ok(vec![ct[0].as_ref().map(sum).transpose()?])
    }
}
pub fn spread(x: &Var<Vector>, n: usize) -> Result<Var<Vector>> {
    apply1(Spread(n), &[x])
}
