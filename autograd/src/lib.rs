//! A minimal tape-based reverse-mode automatic differentiation engine: gradients of any order, over
//! any value type.
//!
//! 1. **A gradient is more tape.** [`grad`] walks the tape backwards and records what it does, so a
//!    gradient of a gradient is `grad` of that. [`backward`] is the same sweep over detached
//!    variables: it records nothing. There is no mode to set.
//! 2. **`eval` sees values, `vjp` sees variables.** An [`Op`]'s value function gets values; its
//!    rule gets variables. A rule can only be written in ops, so it can be differentiated in its
//!    turn; the compiler checks that.
//! 3. **Recording follows data.** A node exists only if an input is tracked. `None` is a zero
//!    cotangent and is never made into a buffer. Only nodes between the outputs and `wrt` are
//!    visited; [`At::needs`] tells a rule what to skip; `wrt` is a cut, so a gradient with respect
//!    to weights that were themselves computed just works.
//! 4. **A fused op has a meaning**: the same function in smaller ops, which is its test and, traced
//!    over [`alias`](Var::alias)es, its derivative of last resort. [`checkpoint`] is that for
//!    memory's sake: a function as one op whose rule traces it again.
//! 5. **Trust comes from numbers.** [`check_grads`] compares rules of any order with finite
//!    differences.
//! 6. **Tangents come from the same rules.** A rule is linear in its cotangents, so the transpose of
//!    what it does is the derivative forwards: [`tangents`] needs nothing more from an op.
//! 7. **The engine knows one op**, the sum of two cotangents ([`Value::add`]). Everything else is
//!    the value type's affair.
//!
//! # Example
//!
//! Numbers with one op of their own, and the third derivative of `x^4`.
//!
//! ```
//! use autograd::{apply1, grad, At, Error, Op, Value, Var};
//!
//! #[derive(Clone)]
//! struct Real(f64);
//!
//! impl Value for Real {
//!     type Error = Error;
//!     fn add(a: &Var<Real>, b: &Var<Real>) -> Result<Var<Real>, Error> {
//!         apply1(Add, &[a, b])
//!     }
//!     fn one_like(&self) -> Option<Real> {
//!         Some(Real(1.0))
//!     }
//!     fn same_space(&self, _: &Real) -> bool {
//!         true
//!     }
//!     fn describe(&self) -> String {
//!         "f64".into()
//!     }
//! }
//!
//! struct Add;
//! impl Op<Real> for Add {
//!     fn name(&self) -> &'static str {
//!         "add"
//!     }
//!     fn eval(&self, x: &[&Real]) -> Result<Vec<Real>, Error> {
//!         Ok(vec![Real(x[0].0 + x[1].0)])
//!     }
//!     fn vjp(&self, _: &At<Real>, ct: &[Option<Var<Real>>]) -> Result<Vec<Option<Var<Real>>>, Error> {
//!         Ok(vec![ct[0].clone(), ct[0].clone()])
//!     }
//! }
//!
//! struct Mul;
//! impl Op<Real> for Mul {
//!     fn name(&self) -> &'static str {
//!         "mul"
//!     }
//!     fn eval(&self, x: &[&Real]) -> Result<Vec<Real>, Error> {
//!         Ok(vec![Real(x[0].0 * x[1].0)])
//!     }
//!     fn vjp(&self, at: &At<Real>, ct: &[Option<Var<Real>>]) -> Result<Vec<Option<Var<Real>>>, Error> {
//!         let Some(dy) = &ct[0] else { return Ok(vec![None, None]) };
//!         Ok(vec![Some(mul(dy, &at.x[1])?), Some(mul(dy, &at.x[0])?)])
//!     }
//! }
//! fn mul(a: &Var<Real>, b: &Var<Real>) -> Result<Var<Real>, Error> {
//!     apply1(Mul, &[a, b])
//! }
//!
//! # fn main() -> Result<(), Error> {
//! let x = Var::leaf(Real(0.5));
//! let x2 = mul(&x, &x)?;
//! let mut y = mul(&x2, &x2)?;
//! for _ in 0..3 {
//!     y = grad(&y, &[x.clone()])?.remove(0).expect("y depends on x");
//! }
//! assert_eq!(y.value().0, 24.0 * 0.5);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod check;
mod checkpoint;
mod error;
mod keep;
mod op;
mod route;
mod sweep;
mod tangent;
mod var;

pub use check::{Check, CheckError, Mismatch, Probe, check_grads};
pub use checkpoint::checkpoint;
pub use error::Error;
pub use keep::{Cost, Keep};
pub use op::{At, Op, Value, apply, apply1};
pub use sweep::{backward, backward_with, grad, vjp};
pub use tangent::tangents;
pub use var::Var;
