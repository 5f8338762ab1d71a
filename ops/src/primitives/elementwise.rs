//! Elementwise primitives: add mul neg scale recip exp log sigmoid rsqrt cast.

use autograd::{At, Op, apply1};
use kernels_cu::elementwise as device;

use crate::dtype::{DType, Float, for_float};
use crate::error::{Error, Result};
use crate::products::Products;
use crate::{Tensor, Var, cuda, par};

/// One input, one output, one function per element.
#[derive(Clone, Copy)]
enum Unary {
    Neg,
    Scale(f64),
    Recip,
    Exp,
    Log,
    Sigmoid,
    Rsqrt,
}

impl Unary {
    fn run<T: Float>(self, x: &[T], out: &mut [T]) {
        match self {
            Unary::Neg => par::map1(out, x, |x| -x),
            Unary::Scale(c) => {
                let c = T::from_f64(c);
                par::map1(out, x, move |x| c * x)
            }
            Unary::Recip => par::map1(out, x, |x| T::ONE / x),
            Unary::Exp => par::map1(out, x, |x| Float::exp(x)),
            Unary::Log => par::map1(out, x, |x| Float::ln(x)),
            Unary::Sigmoid => par::map1(out, x, |x| T::ONE / (T::ONE + Float::exp(-x))),
            Unary::Rsqrt => par::map1(out, x, |x| T::ONE / Float::sqrt(x)),
        }
    }

    fn on_device(self) -> device::Unary {
        match self {
            Unary::Neg => device::Unary::Neg,
            Unary::Scale(c) => device::Unary::Scale(c as f32),
            Unary::Recip => device::Unary::Recip,
            Unary::Exp => device::Unary::Exp,
            Unary::Log => device::Unary::Log,
            Unary::Sigmoid => device::Unary::Sigmoid,
            Unary::Rsqrt => device::Unary::Rsqrt,
        }
    }
}

impl Op<Tensor> for Unary {
    fn name(&self) -> &'static str {
        match self {
            Unary::Neg => "neg",
            Unary::Scale(_) => "scale",
            Unary::Recip => "recip",
            Unary::Exp => "exp",
            Unary::Log => "log",
            Unary::Sigmoid => "sigmoid",
            Unary::Rsqrt => "rsqrt",
        }
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        if let Some(cuda) = cuda::of(self.name(), x.iter().copied())? {
            return Ok(vec![cuda.unary(self.on_device(), x[0])?]);
        }
        let x = x[0];
        Ok(vec![for_float!(self.name(), x.dtype(), T => {
            Tensor::build(x.shape(), |out: &mut [T]| self.run(x.data(), out))
        })])
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let Some(g) = &ct[0] else {
            return Ok(vec![None]);
        };
        let y = &at.y[0];
        Ok(vec![Some(match self {
            Unary::Neg => neg(g)?,
            Unary::Scale(c) => scale(g, *c)?,
            Unary::Recip => neg(&mul(g, &mul(y, y)?)?)?,
            Unary::Exp => mul(g, y)?,
            Unary::Log => mul(g, &recip(&at.x[0])?)?,
            // s' = s - s^2
            Unary::Sigmoid => mul(g, &sub(y, &mul(y, y)?)?)?,
            // y' = -y^3 / 2
            Unary::Rsqrt => scale(&mul(g, &mul(y, &mul(y, y)?)?)?, -0.5)?,
        })])
    }
}

/// -x.
pub fn neg(x: &Var) -> Result<Var> {
    apply1(Unary::Neg, &[x])
}

/// c x for a constant c.
pub fn scale(x: &Var, c: f64) -> Result<Var> {
    apply1(Unary::Scale(c), &[x])
}

/// 1 / x.
pub fn recip(x: &Var) -> Result<Var> {
    apply1(Unary::Recip, &[x])
}

/// e^x.
pub fn exp(x: &Var) -> Result<Var> {
    apply1(Unary::Exp, &[x])
}

/// Natural logarithm.
pub fn log(x: &Var) -> Result<Var> {
    apply1(Unary::Log, &[x])
}

/// 1 / (1 + e^-x).
pub fn sigmoid(x: &Var) -> Result<Var> {
    apply1(Unary::Sigmoid, &[x])
}

/// 1 / sqrt(x).
pub fn rsqrt(x: &Var) -> Result<Var> {
    apply1(Unary::Rsqrt, &[x])
}

/// Two inputs of one shape.
#[derive(Clone, Copy)]
enum Binary {
    Add,
    Mul,
}

impl Op<Tensor> for Binary {
    fn name(&self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Mul => "mul",
        }
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let (a, b) = (x[0], x[1]);
        if a.shape() != b.shape() || a.dtype() != b.dtype() {
            let message = format!("{a:?} and {b:?} differ; broadcast or cast one of them first");
            return Err(Error::shape(self.name(), message));
        }
        if let Some(cuda) = cuda::of(self.name(), x.iter().copied())? {
            let f = match self {
                Binary::Add => device::Binary::Add,
                Binary::Mul => device::Binary::Mul,
            };
            return Ok(vec![cuda.binary(f, a, b)?]);
        }
        if let Binary::Add = self
            && let Some(sum) = Products::add(a, b)?
        {
            return Ok(vec![sum]);
        }
        Ok(vec![for_float!(self.name(), a.dtype(), T => {
            Tensor::build(a.shape(), |out: &mut [T]| match self {
                Binary::Add => par::map2(out, a.data(), b.data(), |a, b| a + b),
                Binary::Mul => par::map2(out, a.data(), b.data(), |a, b| a * b),
            })
        })])
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let Some(g) = &ct[0] else {
            return Ok(vec![None, None]);
        };
        let times = |needed: bool, other: &Var| needed.then(|| mul(g, other)).transpose();
        Ok(match self {
            Binary::Add => vec![Some(g.clone()), Some(g.clone())],
            Binary::Mul => vec![times(at.needs[0], &at.x[1])?, times(at.needs[1], &at.x[0])?],
        })
    }
}

/// a + b, equal shapes.
pub fn add(a: &Var, b: &Var) -> Result<Var> {
    apply1(Binary::Add, &[a, b])
}

/// a b elementwise, equal shapes.
pub fn mul(a: &Var, b: &Var) -> Result<Var> {
    apply1(Binary::Mul, &[a, b])
}

/// a - b, equal shapes.
pub fn sub(a: &Var, b: &Var) -> Result<Var> {
    add(a, &neg(b)?)
}

struct Cast(DType);

impl Op<Tensor> for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }
    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        if let Some(cuda) = cuda::of("cast", [x[0]])? {
            return Ok(vec![cuda.cast(x[0], self.0)?]);
        }
        Ok(vec![x[0].cast(self.0)])
    }
    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let Some(g) = &ct[0] else {
            return Ok(vec![None]);
        };
        Ok(vec![Some(cast(g, at.x[0].value().dtype())?)])
    }
}

/// The same numbers in a dtype; the cotangent is cast back.
pub fn cast(x: &Var, dtype: DType) -> Result<Var> {
    if x.value().dtype() == dtype {
        return Ok(x.clone());
    }
    apply1(Cast(dtype), &[x])
}
