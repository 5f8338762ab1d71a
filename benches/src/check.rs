//! No time is taken of a wrong result.

use ops::derived::relative_error;
use ops::{Result, Tensor};

use crate::case::{Case, Compared};
use crate::level::{Level, Numbers, first_head};

/// f32 rounding over sums of a few thousand terms, amplified by two derivatives, relative to the largest element.
const TOLERANCE: f64 = 1e-4;

/// Compares `order` of the case with that of its meaning; the error says which result is off, and by how much.
pub fn check(case: &Case, order: usize) -> std::result::Result<(), String> {
    let off = match worst(case, order) {
        Ok(error) if error < TOLERANCE => return Ok(()),
        Ok(error) => format!("is off by {error:e} of its largest element"),
        Err(e) => e.to_string(),
    };
    Err(format!("{}: {off}", case.name(order)))
}

/// The largest relative error of all results, infinite where one is not finite.
fn worst(case: &Case, order: usize) -> Result<f64> {
    let numbers = Numbers::of(case)?;
    let mut got = Level::new(&case.f, &numbers, order)?.run()?;
    let finite = |t: &Tensor| t.first_non_finite().is_none();
    if !got.iter().flatten().all(finite) {
        return Ok(f64::INFINITY);
    }
    let numbers = match case.compared {
        Compared::Whole => numbers,
        Compared::FirstHead => {
            for t in got.iter_mut().flatten() {
                *t = first_head(t)?;
            }
            numbers.first_head()?
        }
    };
    let expected = Level::new(&case.meaning, &numbers, order)?.run()?;
    let errors = got.iter().zip(&expected).map(|pair| match pair {
        (Some(got), Some(expected)) => relative_error(got, expected),
        // absent is zero
        (Some(t), None) | (None, Some(t)) => match t.to_f64s().iter().all(|&x| x == 0.0) {
            true => 0.0,
            false => f64::INFINITY,
        },
        (None, None) => 0.0,
    });
    Ok(errors.fold(0.0, f64::max))
}
