//! The loss of an output matrix whose logits are made tile by tile.

use ops::{
    DType, Result, Tensor, Var, backward, derived, grad, linear_cross_entropy, mul, sum_all,
};
use tests::{Failures, Random, largest, worst};

fn ids(t: usize, v: usize) -> std::sync::Arc<[u32]> {
    (0..t).map(|i| (i * 7919 % v) as u32).collect()
}

type Loss<'a> = dyn Fn(&Var, &Var) -> Result<Var> + 'a;

/// As an inner loop does it: the gradient by x alone, squared, and the gradient of that and of the loss by x and w.
fn through_an_inner_gradient(loss: &Loss<'_>, x: &Tensor, w: &Tensor) -> Vec<Tensor> {
    let (x, w) = (Var::leaf(x.clone()), Var::leaf(w.clone()));
    let l = sum_all(&loss(&x, &w).expect("the loss")).expect("a sum");
    let g = grad(&l, std::slice::from_ref(&x)).expect("a gradient");
    let g = g.into_iter().flatten().next().expect("a gradient by x");
    let square = sum_all(&mul(&g, &g).expect("squares")).expect("a sum");
    let outer = ops::add(&l, &square).expect("a sum");
    let d = backward(&outer, &[x, w]).expect("gradients");
    let mut all = vec![g.into_value()];
    all.extend(d.into_iter().flatten());
    all
}

/// More than two million logits. Both ways are chains of sums of at most V terms: V eps, times sqrt(V) for the derivative of
/// one sum by another (see `compare_f64`).
#[test]
fn an_inner_gradient_by_the_input_alone() {
    let (t, d, v) = (300, 4, 8000);
    let mut random = Random::new(1);
    let (x, w) = (
        random.tensor(&[t, d], DType::F64),
        random.tensor(&[v, d], DType::F64),
    );
    let ids = ids(t, v);
    let tiled = |x: &Var, w: &Var| linear_cross_entropy(x, w, &ids);
    let meaning = |x: &Var, w: &Var| derived::linear_cross_entropy(x, w, &ids);
    let got = through_an_inner_gradient(&tiled, &x, &w);
    let want = through_an_inner_gradient(&meaning, &x, &w);
    assert_eq!((got.len(), want.len()), (3, 3));
    let mut failures = Failures::default();
    for (result, (got, want)) in got.iter().zip(&want).enumerate() {
        let allowed = 1e-11 * (v as f64 / 512.0).powf(1.5) * largest(want);
        failures.check(format!("result {result}"), worst(got, want), allowed);
    }
    failures.finish();
}
