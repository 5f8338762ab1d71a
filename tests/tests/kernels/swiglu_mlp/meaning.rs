//! The formulas are those of `ops`.

use autograd::vjp;
use kernels_cu::DType;
use kernels_cu::swiglu_mlp::SwigluMlp;
use ops::{Tensor, Var, swiglu_mlp};

use super::formulas::Formulas;
use super::{inputs, slices};

/// Panics unless two results agree to 1e-12 of the largest number: sums of at most 24 terms in f64, five deep.
fn same(what: &str, got: &[f64], want: &[f64]) {
    let largest = want.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    assert_eq!(got.len(), want.len(), "{what}");
    for (a, b) in got.iter().zip(want) {
        assert!((a - b).abs() <= 1e-12 * largest, "{what}: {a} and {b}");
    }
}

#[test]
fn formulas_are_those_of_ops() {
    let mlp = SwigluMlp::new([3, 5, 7], DType::F32);
    let formulas = Formulas::exact(&mlp);
    let mut x = inputs(&mlp);
    let shape = |i: usize| match i {
        1 | 2 | 11 | 12 => [mlp.ff, mlp.d],
        3 | 13 => [mlp.d, mlp.ff],
        4 | 5 | 7..=9 => [mlp.t, mlp.ff],
        _ => [mlp.t, mlp.d],
    };
    let leaf = |i: usize| {
        let tensor = Tensor::from_f64s(&shape(i), ops::DType::F64, &x[i]);
        Var::leaf(tensor.expect("a tensor"))
    };
    let weights = [0, 1, 2, 3].map(leaf);
    let dy = leaf(6);
    let dd = [10, 11, 12, 13].map(|i| Some(leaf(i)));
    let y = swiglu_mlp(&weights[0], &weights[1], &weights[2], &weights[3]).expect("y");
    let gradients =
        vjp(std::slice::from_ref(&y), &[Some(dy.clone())], &weights).expect("gradients");
    let gradients: Vec<Var> = gradients.into_iter().flatten().collect();
    let mut wrt = weights.to_vec();
    wrt.push(dy);
    let second = vjp(&gradients, &dd, &wrt).expect("second derivatives");

    let [y_, g, u] = formulas.forward(slices(&x));
    same("y", &y_, &y.value().to_f64s());
    (x[4], x[5]) = (g, u);
    let [dx, dgate, dup, ddown, dh] = formulas.backward(slices(&x), [Some(&x[6]), None, None]);
    let first = [("dx", dx), ("dG", dgate), ("dU", dup), ("dD", ddown)];
    for ((what, got), want) in first.iter().zip(&gradients) {
        same(what, got, &want.value().to_f64s());
    }
    let there = [10, 11, 12, 13].map(|i| Some(x[i].as_slice()));
    let [dx2, dgate2, dup2, ddown2, dg2, du2, ddy] = formulas.double(slices(&x), &dh, there);
    // what reaches g and u goes on to x, G and U
    let [ex, egate, eup, ..] = formulas.backward(slices(&x), [None, Some(&dg2), Some(&du2)]);
    let sum =
        |a: Vec<f64>, b: Vec<f64>| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a + b).collect() };
    let all = [
        ("x", sum(dx2, ex)),
        ("G", sum(dgate2, egate)),
        ("U", sum(dup2, eup)),
        ("D", ddown2),
        ("dy", ddy),
    ];
    for ((what, got), want) in all.iter().zip(&second) {
        let want = want.as_ref().expect("a derivative");
        same(what, got, &want.value().to_f64s());
    }
}
