//! What can go wrong, each with its remedy.

use std::fmt;

/// An error of the engine itself. A [`Value`](crate::Value) converts it into its own error type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// An op without a rule was met on the way from the outputs to the variables asked for.
    NoVjp {
        /// The op without a rule.
        op: &'static str,
    },
    /// The function given to `checkpoint` depends on a tracked variable that is not among its
    /// inputs.
    Captured {
        /// The op that re-traces the function.
        op: &'static str,
    },
    /// The second run of a function given to `checkpoint` met another costly op than the first.
    Replay {
        /// The op of the first run, if it had that many.
        first: Option<&'static str>,
        /// The op of the second.
        second: &'static str,
    },
    /// A loss has more than one element, so "its gradient" has no meaning.
    NotScalar {
        /// Description of the loss.
        loss: String,
    },
    /// A rule returned a cotangent that does not live in the space of its input.
    CotangentShape {
        /// The op whose rule it is.
        op: &'static str,
        /// The index of the input.
        input: usize,
        /// Description of the input.
        expected: String,
        /// Description of the cotangent.
        got: String,
    },
    /// A caller gave a cotangent that does not live in the space of its output.
    SeedShape {
        /// The index of the output.
        output: usize,
        /// Description of the output.
        expected: String,
        /// Description of the cotangent.
        got: String,
    },
    /// A list has the wrong length.
    Arity {
        /// The op or function concerned.
        op: &'static str,
        /// What the list holds.
        what: &'static str,
        /// The length it should have.
        expected: usize,
        /// The length it has.
        got: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoVjp { op } => write!(
                f,
                "op `{op}` has no rule for differentiation: implement `Op::vjp` for it, or detach its inputs"
            ),
            Error::Captured { op } => write!(
                f,
                "the function given to `{op}` captures a tracked variable, whose gradient would be lost: \
                 pass the variable as an input, or detach it"
            ),
            Error::Replay { first, second } => write!(
                f,
                "the second run of a function given to `checkpoint` met op `{second}` where the first met {}: \
                 make it a function of its arguments alone",
                first.map_or("none".to_string(), |op| format!("`{op}`"))
            ),
            Error::NotScalar { loss } => write!(
                f,
                "the gradient of a loss needs a loss with one element, not {loss}: \
                 sum it first, or give its cotangent to `vjp` or `backward_with`"
            ),
            Error::CotangentShape {
                op,
                input,
                expected,
                got,
            } => write!(
                f,
                "the rule of op `{op}` returned a cotangent {got} for its input {input}, which is {expected}: \
                 make the rule return the input's shape and dtype"
            ),
            Error::SeedShape {
                output,
                expected,
                got,
            } => write!(
                f,
                "the cotangent given for output {output} is {got}, but the output is {expected}: \
                 give a cotangent of the output's shape and dtype"
            ),
            Error::Arity {
                op,
                what,
                expected,
                got,
            } => {
                write!(
                    f,
                    "`{op}` has {got} {what} where {expected} are due: make the lists match"
                )
            }
        }
    }
}

impl std::error::Error for Error {}
