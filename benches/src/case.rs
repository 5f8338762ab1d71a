//! One op at one set of shapes: what runs, what it must equal, and what it costs.

use ops::list::Function;
use ops::{Result, Var};

/// Bytes of an f32.
const F32: f64 = 4.0;

/// One op at one set of shapes, in f32.
pub struct Case {
    /// The op's name, as in [`ops::list`].
    pub op: &'static str,
    /// Where these shapes come from.
    pub what: String,
    /// Shapes of the inputs.
    pub shapes: Vec<Vec<usize>>,
    /// The op.
    pub f: Function,
    /// The same function in primitives.
    pub meaning: Function,
    /// How much of the result is compared with the meaning.
    pub compared: Compared,
    /// FLOPs at orders 0, 1 and 2: adds, multiplications, and each exp, logarithm, division and root as one; for ops made of matrix
    /// products those products alone. Only visible keys count, and nothing is computed twice.
    pub flops: [f64; 3],
    /// Elements that must be read or written at orders 0, 1 and 2.
    pub elements: [f64; 3],
}

/// How much of a result is compared with the meaning. Everything is always checked to be finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Compared {
    /// All of it.
    Whole,
    /// The first head of arrays [_, heads, h], where the meaning of all heads would not fit in memory. No head sees another.
    FirstHead,
}

impl Case {
    /// A case without shapes or costs yet: fill in the rest.
    pub fn new(
        op: &'static str,
        what: String,
        shapes: &[&[usize]],
        f: impl Fn(&[Var]) -> Result<Var> + Send + Sync + 'static,
        meaning: impl Fn(&[Var]) -> Result<Var> + Send + Sync + 'static,
        flops: [f64; 3],
        elements: [f64; 3],
    ) -> Self {
        Case {
            op,
            what,
            shapes: shapes.iter().map(|s| s.to_vec()).collect(),
            f: Box::new(move |x| Ok(vec![f(x)?])),
            meaning: Box::new(move |x| Ok(vec![meaning(x)?])),
            compared: Compared::Whole,
            flops,
            elements,
        }
    }

    /// Name of the benchmark, for criterion and its filter.
    pub fn name(&self, order: usize) -> String {
        format!("{} / {} / order {order}", self.op, self.what)
    }

    /// What `order` costs.
    pub fn cost(&self, order: usize) -> Cost {
        Cost {
            flops: self.flops[order],
            bytes: F32 * self.elements[order],
        }
    }
}

/// What one evaluation must do at least.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes read and written, each input and each result once.
    pub bytes: f64,
}
