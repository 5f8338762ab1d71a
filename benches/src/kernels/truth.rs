//! What kernels should give, by the ops in f64.

use ops::{DType, Result, Tensor, Var, vjp};

/// A function of variables with one result.
pub(super) type Function<'f> = &'f dyn Fn(&[Var]) -> Result<Var>;

/// Shapes and numbers of inputs.
pub(super) type Arrays<'a> = &'a [(&'a [usize], &'a [f64])];

fn leaves(arrays: Arrays) -> Vec<Var> {
    let tensor = |(shape, x): &(&[usize], &[f64])| {
        Tensor::from_f64s(shape, DType::F64, x).expect("as many as the shape has")
    };
    arrays
        .iter()
        .map(|array| Var::leaf(tensor(array)))
        .collect()
}

fn numbers(x: &[Option<Var>]) -> Vec<Vec<f64>> {
    let of = |x: &Option<Var>| x.as_ref().map_or(vec![], |x| x.value().to_f64s());
    x.iter().map(of).collect()
}

/// The results at orders 0, 1 and 2: f(x), its gradients by x for `dy`, and those of these gradients by x and dy for cotangents `a`,
/// of which those without elements are absent.
pub(super) fn orders(
    f: Function,
    x: Arrays,
    dy: &(&[usize], &[f64]),
    a: Arrays,
) -> [Vec<Vec<f64>>; 3] {
    let run = || -> Result<[Vec<Vec<f64>>; 3]> {
        let (x, dy) = (leaves(x), leaves(&[*dy]).remove(0));
        let y = f(&x)?;
        let dx = vjp(std::slice::from_ref(&y), &[Some(dy.clone())], &x)?;
        let pairs = dx.iter().zip(a).filter(|(_, (_, a))| !a.is_empty());
        let (below, ct): (Vec<Var>, Vec<Option<Var>>) = pairs
            .filter_map(|(dx, a)| Some((dx.clone()?, leaves(&[*a]).pop())))
            .unzip();
        let wrt = [x, vec![dy]].concat();
        let second = if below.is_empty() {
            vec![]
        } else {
            vjp(&below, &ct, &wrt)?
        };
        Ok([numbers(&[Some(y)]), numbers(&dx), numbers(&second)])
    };
    run().expect("shapes that fit")
}
