//! How far two results are apart, and where.

use std::fmt;

use ops::list::Case;
use ops::{DType, Tensor};

/// The largest difference between two tensors.
#[derive(Clone, Copy, Debug)]
pub struct Worst {
    /// Where it is, in row-major order.
    pub index: usize,
    /// What was computed there.
    pub got: f64,
    /// What should have been.
    pub want: f64,
    /// The difference; infinite if either number is not finite.
    pub off: f64,
}

/// The element furthest off. Tensors of different shapes are a broken test.
pub fn worst(got: &Tensor, want: &Tensor) -> Worst {
    assert_eq!(
        got.shape(),
        want.shape(),
        "results of two functions that should be one"
    );
    let mut worst = Worst {
        index: 0,
        got: 0.0,
        want: 0.0,
        off: 0.0,
    };
    let pairs = got.to_f64s().into_iter().zip(want.to_f64s());
    for (index, (got, want)) in pairs.enumerate() {
        let off = (got - want).abs();
        let off = if off.is_finite() { off } else { f64::INFINITY };
        if off > worst.off {
            worst = Worst {
                index,
                got,
                want,
                off,
            };
        }
    }
    worst
}

/// The largest absolute value, infinite if some element is not finite.
pub fn largest(x: &Tensor) -> f64 {
    match x.first_non_finite() {
        Some(_) => f64::INFINITY,
        None => x.to_f64s().iter().fold(0.0, |m, x| m.max(x.abs())),
    }
}

/// <a, b> over several tensors, and the length of the vector of its terms: what independent errors in the elements add up
/// to. Summed with Neumaier's compensation, so that the sum itself adds nothing to them.
pub fn dot(a: &[Tensor], b: &[Tensor]) -> (f64, f64) {
    let (mut sum, mut lost, mut squares) = (0.0f64, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        assert_eq!(a.shape(), b.shape());
        for (a, b) in a.to_f64s().iter().zip(b.to_f64s()) {
            let (term, total) = (a * b, sum + a * b);
            lost += match sum.abs() >= term.abs() {
                true => (sum - total) + term,
                false => (term - total) + sum,
            };
            sum = total;
            squares += term * term;
        }
    }
    (sum + lost, squares.sqrt())
}

/// About how many terms the longest sums inside an op with these inputs have: its longest axis.
pub fn longest_sum(shapes: &[Vec<usize>]) -> f64 {
    shapes.iter().flatten().copied().max().unwrap_or(1).max(1) as f64
}

/// What is being compared; a failure prints it.
pub struct Place<'a> {
    /// The op and its shapes.
    pub case: &'a Case,
    /// The order of derivative.
    pub order: usize,
    /// The dtype computed in.
    pub dtype: DType,
    /// The seed of inputs and cotangents.
    pub seed: u64,
    /// Which cotangents of the highest order are there, empty for all.
    pub present: &'a [bool],
    /// Which of the results.
    pub result: usize,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case {
            op, what, shapes, ..
        } = self.case;
        let (order, dtype, seed, result) = (self.order, self.dtype, self.seed, self.result);
        write!(f, "{op} ({what}) {dtype} {shapes:?}: order {order}, ")?;
        if !self.present.is_empty() {
            write!(f, "cotangents {:?}, ", self.present)?;
        }
        write!(f, "result {result}, seed {seed}")
    }
}

/// Collects what failed, so that one run shows all of it.
#[derive(Default)]
pub struct Failures {
    found: Vec<String>,
    checks: usize,
}

impl Failures {
    /// Notes a failure unless the largest difference is within what is allowed.
    pub fn check(&mut self, place: impl fmt::Display, worst: Worst, allowed: f64) {
        self.checks += 1;
        let Worst {
            index,
            got,
            want,
            off,
        } = worst;
        // `!(<=)` and not `>`: a limit that is not a number fails
        if off.is_infinite() || !matches!(off.partial_cmp(&allowed), Some(o) if o.is_le()) {
            self.found.push(format!(
                "{place}: element {index} is {got:e}, should be {want:e}: off by {off:.1e}, allowed {allowed:.1e}"
            ));
        }
    }

    /// Notes a failure unless two numbers are as close as allowed.
    pub fn close(&mut self, place: impl fmt::Display, got: f64, want: f64, allowed: f64) {
        self.checks += 1;
        let off = (got - want).abs();
        if !off.is_finite() || !matches!(off.partial_cmp(&allowed), Some(o) if o.is_le()) {
            self.note(format!(
                "{place}: {got:e} and {want:e}: off by {off:.1e}, allowed {allowed:.1e}"
            ));
        }
    }

    /// Notes a failure unless two results have the same bits.
    pub fn same_bits(&mut self, place: impl fmt::Display, got: &Tensor, want: &Tensor) {
        self.checks += 1;
        let bits = |x: &Tensor| -> Vec<u64> { x.to_f64s().iter().map(|x| x.to_bits()).collect() };
        let (a, b) = (bits(got), bits(want));
        if got.shape() != want.shape() {
            self.note(format!("{place}: {got:?} is not {want:?}"));
        } else if let Some(i) = a.iter().zip(&b).position(|(a, b)| a != b) {
            let count = a.iter().zip(&b).filter(|(a, b)| a != b).count();
            let (got, want) = (f64::from_bits(a[i]), f64::from_bits(b[i]));
            self.note(format!(
                "{place}: {count} elements differ in their bits, the first is {i}: {got:e} and {want:e}"
            ));
        }
    }

    /// Counts a comparison made elsewhere.
    pub fn count(&mut self) {
        self.checks += 1;
    }

    /// Notes a failure.
    pub fn note(&mut self, failure: impl Into<String>) {
        self.found.push(failure.into());
    }

    /// Panics with everything that failed.
    #[track_caller]
    pub fn finish(self) {
        let (n, checks) = (self.found.len(), self.checks);
        assert!(checks > 0, "nothing was compared");
        assert!(
            n == 0,
            "{n} failures in {checks} comparisons:\n{}",
            self.found.join("\n")
        );
    }
}
