//! A fused op and its meaning, side by side, at every order.

use ops::list::Case;
use ops::{DType, Device, Tensor};

use crate::{Failures, Fun, Place, Random, largest, longest_sum, raise, values, worst};

/// Above this many input elements order three is left to smaller cases.
const SMALL: usize = 3000;

/// The fused function and its meaning at one order, and the inputs of both.
struct Level<'f> {
    order: usize,
    present: Vec<bool>,
    fused: Fun<'f>,
    meaning: Fun<'f>,
    x: Vec<Tensor>,
}

/// All subsets of n cotangents that are not empty, the full one first.
fn subsets(n: usize) -> impl Iterator<Item = Vec<bool>> {
    (1..1u32 << n)
        .rev()
        .map(move |bits| (0..n).map(|i| bits >> i & 1 == 1).collect())
}

/// Calls `run` with every level of a case: order 0, order 1, order 2 for each subset of cotangents, and order 3 above each
/// of those if the case is small.
fn levels(case: &Case, seed: u64, mut run: impl FnMut(&Level)) {
    let meaning = case.meaning.as_ref().expect("a fused op");
    let mut random = Random::new(seed);
    let x = random.inputs(case, DType::F64);
    let n = x.len();
    let y = values(meaning, &x).expect("the meaning");
    let all = vec![true; y.len()];
    let mut x1 = x.clone();
    x1.extend(random.like(&y));
    let cotangents = random.like(&x);

    let level = |order, present: &[bool], fused, meaning, x: &[Tensor]| Level {
        order,
        present: present.to_vec(),
        fused,
        meaning,
        x: x.to_vec(),
    };
    let first = |f| raise(f, n, &all);
    let (f, m): (Fun, Fun) = (Box::new(&case.f), Box::new(meaning));
    run(&level(0, &[], f, m, &x));
    run(&level(1, &[], first(&case.f), first(meaning), &x1));
    let small = x.iter().map(Tensor::len).sum::<usize>() <= SMALL;
    for present in subsets(n) {
        let second = |f| raise(first(f), x1.len(), &present);
        let mut x2 = x1.clone();
        let there = cotangents.iter().zip(&present).filter(|c| *c.1);
        x2.extend(there.map(|c| c.0.clone()));
        run(&level(2, &present, second(&case.f), second(meaning), &x2));
        if small {
            let third = |f| raise(second(f), x2.len(), &vec![true; x1.len()]);
            let mut x3 = x2.clone();
            x3.extend(random.like(&x1));
            run(&level(3, &present, third(&case.f), third(meaning), &x3));
        }
    }
}

/// The size against which the error of each result is measured: its largest element. Where the terms of a result cancel
/// exactly (the gradient by q where a query sees one key) rounding errors are all there is; the terms themselves are then
/// about as large as the order's largest result, divided by the length n of a row that it was averaged over. `floor` keeps
/// that size from one subset of cotangents to the next; the full one comes first.
fn sizes(results: &[Tensor], n: f64, floor: &mut f64) -> Vec<f64> {
    let size: Vec<f64> = results.iter().map(largest).collect();
    *floor = size.iter().fold(*floor, |m, s| m.max(s / n));
    size.into_iter().map(|s| s.max(*floor)).collect()
}

/// The comparison closest to its limit.
#[derive(Default)]
pub struct Closest {
    ratio: f64,
    place: String,
}

impl Closest {
    fn note(&mut self, ratio: f64, place: &Place) {
        if ratio > self.ratio {
            *self = Closest {
                ratio,
                place: place.to_string(),
            };
        }
    }

    /// Prints it (`cargo test -- --nocapture`).
    pub fn print(&self) {
        println!(
            "closest to its limit: {:.1e} of it, {}",
            self.ratio, self.place
        );
    }
}

/// Compares a fused op with its meaning in f64.
///
/// # Tolerance
///
/// Two ways to add n terms of either sign and of size a differ by at most n eps a sqrt(n) (n additions, each with an error
/// of half an eps of a partial sum of size a sqrt(n), in either way), against a result of size a sqrt(n): n eps. Sums feed
/// sums, a few of them deep (scores, row sums of the softmax's derivative, products with keys), and the derivative of the
/// outer by the inner is at most about sqrt(n): d n^(3/2) eps with a small d. For n = 512 and d = 4 that is 4.6e4 eps =
/// 1.0e-11; longer sums get their n^(3/2). It is a bound and not an estimate; mistakes are ten orders larger.
pub fn compare_f64(case: &Case, seed: u64, failures: &mut Failures, closest: &mut Closest) {
    let n = longest_sum(&case.shapes);
    let tolerance = 1e-11 * (n / 512.0).powf(1.5).max(1.0);
    let mut floor = [0.0; 4];
    levels(case, seed, |level| {
        let Level { order, present, .. } = level;
        let want = values(&level.meaning, &level.x).expect("the meaning");
        let got = match values(&level.fused, &level.x) {
            Ok(got) => got,
            Err(e) => return failures.note(format!("{} order {order}: {e}", case.op)),
        };
        assert_eq!(got.len(), want.len());
        let sizes = sizes(&want, n, &mut floor[*order]);
        for (result, (got, want)) in got.iter().zip(&want).enumerate() {
            let place = Place {
                case,
                order: *order,
                dtype: DType::F64,
                seed,
                present,
                result,
            };
            let (worst, allowed) = (worst(got, want), tolerance * sizes[result]);
            closest.note(worst.off / allowed, &place);
            failures.check(place, worst, allowed);
        }
    });
}

/// Compares a fused op in f32 on a device with its meaning in f64.
///
/// # Tolerance
///
/// The error of the fused op may be twice that of the meaning in f32. In a small case the meaning can be right by accident,
/// so an allowance is added that any f32 computation needs: a sum of n terms of either sign and of size a has partial sums
/// of size a sqrt(k), k = 1 .. n, each rounded with an error of about eps a sqrt(k) / 4, independently: together eps a n / 6
/// against a result of size a sqrt(n), a relative error of sqrt(n) eps / 6 on average and three times that as the worst of
/// many elements. With up to eight such sums in a chain at order 2: 4 sqrt(n) eps.
pub fn compare_f32(
    case: &Case,
    seed: u64,
    device: Device,
    failures: &mut Failures,
    closest: &mut Closest,
) {
    let n = longest_sum(&case.shapes);
    let allowance = 4.0 * n.sqrt() * f32::EPSILON as f64;
    let mut floor = [0.0; 4];
    levels(case, seed, |level| {
        let Level { order, present, .. } = level;
        if *order == 3 {
            return; // both are the meaning there
        }
        let exact = values(&level.meaning, &level.x).expect("the meaning in f64");
        let x: Vec<Tensor> = level.x.iter().map(|x| x.cast(DType::F32)).collect();
        let meaning = values(&level.meaning, &x).expect("the meaning in f32");
        let moved: ops::Result<Vec<Tensor>> = x.iter().map(|x| x.to(device)).collect();
        let got = match moved.and_then(|x| values(&level.fused, &x)) {
            Ok(got) => got,
            Err(e) => return failures.note(format!("{} order {order}: {e}", case.op)),
        };
        let sizes = sizes(&exact, n, &mut floor[*order]);
        for (result, got) in got.iter().enumerate() {
            let place = Place {
                case,
                order: *order,
                dtype: DType::F32,
                seed,
                present,
                result,
            };
            let meaning = worst(&meaning[result], &exact[result]).off;
            let (worst, allowed) = (
                worst(got, &exact[result]),
                2.0 * meaning + allowance * sizes[result],
            );
            closest.note(worst.off / allowed, &place);
            failures.check(place, worst, allowed);
        }
    });
}
