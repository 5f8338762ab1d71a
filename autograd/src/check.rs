//! Rules against finite differences, to any order.

use std::fmt;

use crate::op::Value;
use crate::sweep::{backward_with, vjp};
use crate::var::Var;

/// A value whose elements can be read and replaced.
pub trait Probe: Value {
    /// The elements.
    fn to_f64s(&self) -> Vec<f64>;

    /// The value of the same space as this one with these elements.
    #[expect(
        clippy::wrong_self_convention,
        reason = "the value says in which space to build"
    )]
    fn from_f64s(&self, x: &[f64]) -> Self;
}

/// How to check. The defaults suit f64 and inputs of order one.
///
/// The derivative along a direction of length one is taken with five points, `x - 2h` to `x + 2h`.
/// Its error is `h^4 f''''' / 30` from the formula plus about `1.5 eps |f| / h` from rounding. The
/// two are equal for `h` near 1e-3 if `f` and its fifth derivative have the same size; usually the
/// fifth derivative is larger, more so for the derivatives that the higher orders check, so the
/// default `h = 3e-4` is smaller: 3e-16 of the fifth derivative, 1e-12 of `f`. A tolerance of 1e-7
/// leaves room for badly scaled functions and is far below any mistake in a formula.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The highest order of derivative to check, all lower ones included.
    pub order: usize,
    /// The step `h` of the finite differences.
    pub step: f64,
    /// The error allowed, relative to the size of the terms that the derivative sums.
    pub tolerance: f64,
    /// What random directions and cotangents are made from.
    pub seed: u64,
    /// How many directions to try for each input, each with cotangents of its own.
    pub directions: usize,
}

impl Default for Check {
    fn default() -> Self {
        Check {
            order: 2,
            step: 3e-4,
            tolerance: 1e-7,
            seed: 1,
            directions: 2,
        }
    }
}

/// What a check found.
#[derive(Debug)]
pub enum CheckError {
    /// The function, or one of its derivatives, could not be computed.
    Failed {
        /// The order of derivative at which it happened.
        order: usize,
        /// What happened.
        source: Box<dyn std::error::Error>,
    },
    /// A derivative is not the one that finite differences give.
    Mismatch(Mismatch),
}

/// A derivative that is not the one that finite differences give.
#[derive(Clone, Debug, PartialEq)]
pub struct Mismatch {
    /// The order of the derivative.
    pub order: usize,
    /// The index of the input, among the inputs at this order: first the function's own, then, for
    /// each lower order, one cotangent per output.
    pub input: usize,
    /// What that input is: `x2`, or `cotangent 0 of order 1`.
    pub name: String,
    /// Its description.
    pub space: String,
    /// The element whose derivative is furthest off, or `None` if no single one is off by more than
    /// is allowed.
    pub element: Option<usize>,
    /// The derivative with respect to that element, or along the direction tried, by finite
    /// differences.
    pub expected: f64,
    /// The same by the rules.
    pub got: f64,
    /// The difference that would have passed.
    pub allowed: f64,
    /// The seed of the check.
    pub seed: u64,
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckError::Failed { order, source } => {
                write!(f, "the derivative of order {order} failed: {source}")
            }
            CheckError::Mismatch(m) => {
                let Mismatch {
                    order,
                    input,
                    name,
                    space,
                    expected,
                    got,
                    allowed,
                    seed,
                    ..
                } = m;
                write!(
                    f,
                    "wrong derivative of order {order} with respect to input {input} ({name}: {space}), "
                )?;
                match m.element {
                    Some(element) => write!(f, "worst at element {element}: ")?,
                    None => write!(f, "along a random direction: ")?,
                }
                let off = (got - expected).abs();
                write!(
                    f,
                    "finite differences give {expected:e}, the rules {got:e}; "
                )?;
                write!(f, "off by {off:.1e}, allowed {allowed:.1e}, seed {seed}")
            }
        }
    }
}

impl std::error::Error for CheckError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CheckError::Failed { source, .. } => Some(&**source),
            CheckError::Mismatch(_) => None,
        }
    }
}

/// Checks the derivatives of `f` at `x`, up to the order asked for, against finite differences.
///
/// Order one checks `f` itself. Order two checks `(x, ct) -> vjp(f)(x, ct)` in the same way, with
/// the cotangents as inputs in their own right: a cotangent computed from the output would hide
/// rules that are wrong in their dependence on it. Order three does that to the function of order
/// two, and so on. Each input is moved on its own, so that a failure can name it.
pub fn check_grads<V: Probe>(
    f: impl Fn(&[Var<V>]) -> Result<Vec<Var<V>>, V::Error>,
    x: &[V],
    check: &Check,
) -> Result<(), CheckError> {
    let names = (0..x.len()).map(|i| format!("x{i}")).collect();
    let mut level = Level {
        f: &f,
        x: x.to_vec(),
        names,
        order: 1,
        check,
        random: Random(check.seed),
    };
    level.run()
}

type Function<'f, V> = &'f dyn Fn(&[Var<V>]) -> Result<Vec<Var<V>>, <V as Value>::Error>;

/// The check of one order: `f` is the derivative one order lower, `x` its inputs.
struct Level<'f, V: Probe> {
    f: Function<'f, V>,
    x: Vec<V>,
    names: Vec<String>,
    order: usize,
    check: &'f Check,
    random: Random,
}

impl<V: Probe> Level<'_, V> {
    fn run(&mut self) -> Result<(), CheckError> {
        if self.order > self.check.order {
            return Ok(());
        }
        let y = self.values(&self.x)?;
        for _ in 0..self.check.directions {
            let ct: Vec<V> = y.iter().map(|y| self.random.cotangent(y)).collect();
            let dx = self.gradient(&ct)?;
            for (input, dx) in dx.iter().enumerate() {
                let direction = self.random.direction(dx.len());
                self.compare(input, &ct, dx, &direction)?;
            }
        }
        self.next(&y)
    }

    /// The next order: the function `(x, ct) -> vjp(f)(x, ct)`, at these inputs and random
    /// cotangents.
    fn next(&mut self, y: &[V]) -> Result<(), CheckError> {
        let (f, n) = (self.f, self.x.len());
        let derivative = |z: &[Var<V>]| {
            let x: Vec<_> = z[..n].iter().map(Var::alias).collect();
            let ct: Vec<_> = z[n..].iter().cloned().map(Some).collect();
            // An input without a cotangent was found to have none at this order; there is nothing
            // left to differentiate.
            Ok(vjp(&f(&x)?, &ct, &x)?.into_iter().flatten().collect())
        };
        let mut x = self.x.clone();
        x.extend(y.iter().map(|y| self.random.cotangent(y)));
        let order = self.order;
        let mut names = self.names.clone();
        names.extend((0..y.len()).map(|i| format!("cotangent {i} of order {order}")));
        let random = Random(self.random.next());
        Level {
            f: &derivative,
            x,
            names,
            order: order + 1,
            check: self.check,
            random,
        }
        .run()
    }

    /// Compares the two derivatives along a direction of one input; if they differ, looks for the
    /// element to blame.
    fn compare(
        &self,
        input: usize,
        ct: &[V],
        dx: &[f64],
        direction: &[f64],
    ) -> Result<(), CheckError> {
        let along = self.difference(input, ct, dx, direction)?;
        if along.passes() {
            return Ok(());
        }
        let mut worst = (None, along);
        for element in 0..dx.len() {
            let mut direction = vec![0.0; dx.len()];
            direction[element] = 1.0;
            let here = self.difference(input, ct, dx, &direction)?;
            if !here.passes() && (worst.0.is_none() || here.off().total_cmp(&worst.1.off()).is_gt())
            {
                worst = (Some(element), here);
            }
        }
        let (
            element,
            Difference {
                expected,
                got,
                allowed,
            },
        ) = worst;
        Err(CheckError::Mismatch(Mismatch {
            order: self.order,
            input,
            name: self.names[input].clone(),
            space: self.x[input].describe(),
            element,
            expected,
            got,
            allowed,
            seed: self.check.seed,
        }))
    }

    /// The derivative of `<ct, f>` along a direction of one input, both ways.
    fn difference(
        &self,
        input: usize,
        ct: &[V],
        dx: &[f64],
        direction: &[f64],
    ) -> Result<Difference, CheckError> {
        let h = self.check.step;
        let base = self.x[input].to_f64s();
        let outputs_at = |steps: f64| {
            let moved: Vec<f64> = base
                .iter()
                .zip(direction)
                .map(|(x, d)| x + steps * h * d)
                .collect();
            let mut x = self.x.clone();
            x[input] = x[input].from_f64s(&moved);
            Ok(flat(&self.values(&x)?))
        };
        let points = [
            outputs_at(-2.0)?,
            outputs_at(-1.0)?,
            outputs_at(1.0)?,
            outputs_at(2.0)?,
        ];
        let ct = flat(ct);

        let (mut expected, mut got, mut terms, mut rounding) = (0.0, 0.0, 0.0, 0.0);
        for (j, ct) in ct.iter().enumerate() {
            let [l2, l1, r1, r2] =
                [0, 1, 2, 3].map(|p: usize| points[p].get(j).copied().unwrap_or(f64::NAN));
            let term = ct * (8.0 * (r1 - l1) - (r2 - l2)) / (12.0 * h);
            expected += term;
            terms += term.abs();
            rounding += ct.abs() * l1.abs().max(r1.abs());
        }
        for (dx, d) in dx.iter().zip(direction) {
            got += dx * d;
            terms += (dx * d).abs();
        }
        // Sizes below 1e-3 are compared as if they were 1e-3. An output is taken to be good to 16
        // eps.
        let allowed = self.check.tolerance * (terms + 1e-3) + 16.0 * f64::EPSILON / h * rounding;
        Ok(Difference {
            expected,
            got,
            allowed,
        })
    }

    /// The outputs of `f` at these inputs.
    fn values(&self, x: &[V]) -> Result<Vec<V>, CheckError> {
        let x: Vec<_> = x.iter().cloned().map(Var::constant).collect();
        let y = (self.f)(&x).map_err(|e| self.failed(e))?;
        Ok(y.into_iter().map(Var::into_value).collect())
    }

    /// The gradient of `<ct, f>` by the rules, element by element; a missing cotangent is a zero.
    fn gradient(&self, ct: &[V]) -> Result<Vec<Vec<f64>>, CheckError> {
        let x: Vec<_> = self.x.iter().cloned().map(Var::leaf).collect();
        let ct: Vec<_> = ct.iter().cloned().map(Some).collect();
        let y = (self.f)(&x).map_err(|e| self.failed(e))?;
        let dx = backward_with(&y, &ct, &x).map_err(|e| self.failed(e))?;
        let elements = |(x, dx): (&V, Option<V>)| {
            dx.map_or_else(|| vec![0.0; x.to_f64s().len()], |dx| dx.to_f64s())
        };
        Ok(self.x.iter().zip(dx).map(elements).collect())
    }

    fn failed(&self, e: V::Error) -> CheckError {
        CheckError::Failed {
            order: self.order,
            source: Box::new(e),
        }
    }
}

/// A derivative by finite differences and by the rules.
struct Difference {
    expected: f64,
    got: f64,
    allowed: f64,
}

impl Difference {
    fn off(&self) -> f64 {
        (self.got - self.expected).abs()
    }

    /// False for anything that is not a number.
    fn passes(&self) -> bool {
        self.off() <= self.allowed && self.allowed.is_finite()
    }
}

fn flat<V: Probe>(values: &[V]) -> Vec<f64> {
    values.iter().flat_map(Probe::to_f64s).collect()
}

/// The generator splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of size 1/2 to 1, of either sign: no element of a direction or a cotangent is near
    /// zero, so none hides.
    fn signed(&mut self) -> f64 {
        let bits = self.next();
        let size = 0.5 + (bits >> 11) as f64 / (1u64 << 54) as f64;
        if bits & 1 == 0 { size } else { -size }
    }

    fn cotangent<V: Probe>(&mut self, like: &V) -> V {
        let x: Vec<f64> = like.to_f64s().iter().map(|_| self.signed()).collect();
        like.from_f64s(&x)
    }

    /// A direction of length one.
    fn direction(&mut self, n: usize) -> Vec<f64> {
        let x: Vec<f64> = (0..n).map(|_| self.signed()).collect();
        let length = x.iter().map(|x| x * x).sum::<f64>().sqrt();
        x.into_iter().map(|x| x / length).collect()
    }
}
