//! Laws that need no reference, at sizes that training uses.

use std::sync::Arc;

use ops::list::{Case, Function};
use ops::{
    DType, Result, Tensor, Var, cross_entropy, linear_cross_entropy, rms_norm, scale,
    swa_attention, swiglu_mlp,
};
use tests::{Closest, Failures, Random, compare_f64, dot, longest_sum, raise, values, worst};

struct Law {
    name: &'static str,
    shapes: Vec<Vec<usize>>,
    f: Function,
}

fn law(
    name: &'static str,
    shapes: &[&[usize]],
    f: impl Fn(&[Var]) -> Result<Var> + Send + Sync + 'static,
) -> Law {
    let shapes = shapes.iter().map(|s| s.to_vec()).collect();
    let f: Function = Box::new(move |x| Ok(vec![f(x)?]));
    Law { name, shapes, f }
}

fn laws() -> Vec<Law> {
    let ids = |t: u32| -> Arc<[u32]> { (0..t).map(|i| i * 7919 % 5003).collect() };
    let (few, many) = (ids(400), ids(600));
    vec![
        law(
            "swa_attention t 256, c 512, n 4, m 2, h 64, window 512",
            &[
                &[256, 4, 64],
                &[512, 2, 64],
                &[512, 2, 64],
                &[256, 2, 64],
                &[256, 2, 64],
            ],
            |x| swa_attention(&x[0], [&x[1], &x[2]], [&x[3], &x[4]], 512),
        ),
        law(
            "swa_attention t 191, c 59, n 2, m 1, h 80, window 61",
            &[
                &[191, 2, 80],
                &[59, 1, 80],
                &[59, 1, 80],
                &[191, 1, 80],
                &[191, 1, 80],
            ],
            |x| swa_attention(&x[0], [&x[1], &x[2]], [&x[3], &x[4]], 61),
        ),
        law(
            "swiglu_mlp",
            &[&[600, 96], &[250, 96], &[250, 96], &[96, 250]],
            |x| {
                let [gate, up, down] = [1, 2, 3].map(|i| scale(&x[i], 0.0625));
                swiglu_mlp(&x[0], &gate?, &up?, &down?)
            },
        ),
        law("rms_norm", &[&[512, 768], &[768]], |x| {
            rms_norm(&x[0], &x[1], 1e-6)
        }),
        law("rms_norm per head", &[&[256, 12, 64], &[64]], |x| {
            rms_norm(&x[0], &x[1], 1e-6)
        }),
        law("cross_entropy", &[&[400, 5003]], move |x| {
            cross_entropy(&x[0], &few)
        }),
        // three million logits: tile by tile, with tiles at the borders that are not full
        law(
            "linear_cross_entropy",
            &[&[600, 64], &[5003, 64]],
            move |x| linear_cross_entropy(&x[0], &scale(&x[1], 0.125)?, &many),
        ),
    ]
}

/// The function of order one, (x, ct) -> dx, and its inputs.
struct First<'f> {
    f: tests::Fun<'f>,
    x: Vec<Tensor>,
    /// How many of the inputs are the op's own.
    n: usize,
    random: Random,
}

impl<'f> First<'f> {
    fn new(law: &'f Law, dtype: DType) -> Self {
        let mut random = Random::new(1);
        let mut x = random.tensors(&law.shapes, dtype);
        let n = x.len();
        let y = values(&law.f, &x).expect("order 0");
        x.extend(random.like(&y));
        let f = raise(&law.f, n, &[true]);
        First { f, x, n, random }
    }

    /// Random cotangents of dx.
    fn direction(&mut self) -> Vec<Tensor> {
        self.random.like(&self.x[..self.n])
    }

    /// The results of order two for cotangents `w` of dx: H w for the inputs of the op, then the derivative of the op along w.
    fn second(&self, w: &[Tensor]) -> Vec<Tensor> {
        let f = raise(&self.f, self.x.len(), &vec![true; self.n]);
        values(f, &[&self.x[..], w].concat()).expect("order 2")
    }
}

fn epsilon(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => f32::EPSILON as f64,
        _ => f64::EPSILON,
    }
}

/// # Tolerance
///
/// Each element of H w has a relative error of about sqrt(n) eps (the errors of a chain of sums of n terms, see
/// `compare_f32`). Errors of different elements are independent but for those they share through a row sum, up to a few of
/// them per row, so their sum is a few times the length of the vector of terms u_i (H w)_i, times sqrt(n) eps.
#[test]
fn the_second_derivative_is_symmetric() {
    let mut failures = Failures::default();
    for law in &laws() {
        for dtype in [DType::F32, DType::F64] {
            let mut first = First::new(law, dtype);
            let (u, w) = (first.direction(), first.direction());
            let (hu, hw) = (first.second(&u), first.second(&w));
            let ((uhw, size_u), (whu, size_w)) = (dot(&u, &hw), dot(&w, &hu));
            let allowed =
                4.0 * longest_sum(&law.shapes).sqrt() * epsilon(dtype) * (size_u + size_w);
            println!(
                "{} {dtype}: off by {:.1e} of {:.1e}",
                law.name,
                (uhw - whu).abs(),
                allowed
            );
            let place = format!("{} {dtype}: <u, H w> and <w, H u>", law.name);
            failures.close(place, uhw, whu, allowed);
        }
    }
    failures.finish();
}

/// dx is linear in dy, and the results of order two in the cotangents of dx.
///
/// # Tolerance
///
/// Both sides have the relative error sqrt(n) eps of a chain of sums, as in `compare_f32`, and the worst of a million elements is
/// five times the average: 16 sqrt(n) eps of the largest element.
#[test]
fn gradients_are_linear_in_their_cotangents() {
    fn combine(a: &[Tensor], b: &[Tensor]) -> Vec<Tensor> {
        // the factors are powers of two, so that the combination of the inputs is exact but for one addition
        let one = |(a, b): (&Tensor, &Tensor)| {
            let sum = a
                .to_f64s()
                .iter()
                .zip(b.to_f64s())
                .map(|(a, b)| 0.5 * a - 2.0 * b)
                .collect::<Vec<_>>();
            Tensor::from_f64s(a.shape(), a.dtype(), &sum).expect("as many numbers")
        };
        a.iter().zip(b).map(one).collect()
    }
    let mut failures = Failures::default();
    for law in &laws() {
        for dtype in [DType::F32, DType::F64] {
            let mut first = First::new(law, dtype);
            let tolerance = 16.0 * longest_sum(&law.shapes).sqrt() * epsilon(dtype);
            let mut check = |what: &str, got: Vec<Tensor>, want: Vec<Tensor>| {
                for (result, (got, want)) in got.iter().zip(&want).enumerate() {
                    let place =
                        format!("{} {dtype}: linearity in {what}, result {result}", law.name);
                    failures.check(
                        place,
                        worst(got, want),
                        tolerance * tests::largest(want).max(0.1),
                    );
                }
            };

            let (x, dy) = first.x.split_at(first.n);
            let other = first.random.like(dy);
            let dx = |dy: &[Tensor]| values(&first.f, &[x, dy].concat()).expect("order 1");
            check(
                "dy",
                dx(&combine(dy, &other)),
                combine(&dx(dy), &dx(&other)),
            );

            let (u, w) = (first.direction(), first.direction());
            let d2 = |w: &[Tensor]| first.second(w);
            check(
                "the cotangents of dx",
                d2(&combine(&u, &w)),
                combine(&d2(&u), &d2(&w)),
            );
        }
    }
    failures.finish();
}

/// The derivative of dy by order two is the directional derivative of the op along the cotangents of dx.
///
/// # Tolerance
///
/// Five points along a direction with elements of size one: h^4 / 30 times the fifth derivative, about a hundred times the
/// derivative itself, with h = 1e-4: 3e-16, plus 1.5 eps / h = 3e-12 of the value, which for log-sum-exps and sums of
/// n terms carries an error of sqrt(n) eps and not eps: 1e-10.
#[test]
fn order_two_is_the_derivative_along_its_cotangents() {
    let mut failures = Failures::default();
    for law in &laws() {
        let mut first = First::new(law, DType::F64);
        let w = first.direction();
        let along = first.second(&w).remove(first.n);
        let h = 1e-4;
        let at = |steps: f64| {
            let moved = |(x, w): (&Tensor, &Tensor)| {
                let x: Vec<f64> = x
                    .to_f64s()
                    .iter()
                    .zip(w.to_f64s())
                    .map(|(x, w)| x + steps * h * w)
                    .collect();
                Tensor::from_f64s(w.shape(), DType::F64, &x).expect("as many numbers")
            };
            let x: Vec<Tensor> = first.x.iter().zip(&w).map(moved).collect();
            values(&law.f, &x).expect("order 0").remove(0).to_f64s()
        };
        let [l2, l1, r1, r2] = [-2.0, -1.0, 1.0, 2.0].map(at);
        let difference: Vec<f64> = (0..l1.len())
            .map(|i| (8.0 * (r1[i] - l1[i]) - (r2[i] - l2[i])) / (12.0 * h))
            .collect();
        let difference =
            Tensor::from_f64s(along.shape(), DType::F64, &difference).expect("as many numbers");
        let worst = worst(&along, &difference);
        let allowed = 1e-10 * tests::largest(&difference);
        println!("{}: off by {:.1e} of {allowed:.1e}", law.name, worst.off);
        failures.check(
            format!("{}: derivative along the cotangents", law.name),
            worst,
            allowed,
        );
    }
    failures.finish();
}

/// Lengths on either side of the borders of blocks, with and without a cache, against the meaning.
#[test]
fn attention_across_the_borders_of_blocks() {
    let (mut failures, mut closest) = (Failures::default(), Closest::default());
    for t in [1, 31, 32, 33, 63, 64, 65, 95, 127, 128, 129] {
        for (cached, window) in [(0, 20), (37, 20), (0, 130), (70, 130), (19, 1000)] {
            type Attention = fn(&Var, [&Var; 2], [&Var; 2], usize) -> Result<Var>;
            let of = |f: Attention| -> Function {
                Box::new(move |x| Ok(vec![f(&x[0], [&x[1], &x[2]], [&x[3], &x[4]], window)?]))
            };
            let (old, new) = (vec![cached, 1, 4], vec![t, 1, 4]);
            let case = Case {
                op: "swa_attention",
                what: "borders of blocks",
                shapes: vec![vec![t, 2, 4], old.clone(), old, new.clone(), new],
                positive: false,
                f: of(swa_attention),
                meaning: Some(of(ops::derived::swa_attention)),
            };
            compare_f64(&case, window as u64, &mut failures, &mut closest);
        }
    }
    closest.print();
    failures.finish();
}
