//! Random expressions against finite differences to order three, recorded and not, checkpointed and
//! not.

mod common;

use autograd::{Check, Keep, Var, backward, check_grads, checkpoint, grad};
use common::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Tree {
    X(usize),
    Constant(f64),
    Add(Box<Tree>, Box<Tree>),
    Mul(Box<Tree>, Box<Tree>),
    Sin(Box<Tree>),
    /// Sine times cosine, from one op.
    SinCos(Box<Tree>),
    /// The tree as a function of the inputs, traced again in the backward pass.
    Again(Box<Tree>),
    /// The gradient of the tree with respect to one of the inputs.
    Grad(Box<Tree>, usize),
}

fn eval(tree: &Tree, x: &[Var<Real>]) -> Result<Var<Real>> {
    match tree {
        Tree::X(i) => Ok(x[*i].clone()),
        Tree::Constant(c) => Ok(constant(*c)),
        Tree::Add(a, b) => add(&eval(a, x)?, &eval(b, x)?),
        Tree::Mul(a, b) => mul(&eval(a, x)?, &eval(b, x)?),
        Tree::Sin(a) => sin(&eval(a, x)?),
        Tree::SinCos(a) => {
            let y = sin_cos(&eval(a, x)?)?;
            mul(&y[0], &y[1])
        }
        Tree::Again(a) => {
            let a = a.clone();
            let f = move |x: &[Var<Real>]| Ok(vec![eval(&a, x)?]);
            Ok(checkpoint(f, &x.iter().collect::<Vec<_>>(), Keep::Nothing)?.remove(0))
        }
        Tree::Grad(a, i) => {
            let x: Vec<_> = x.iter().map(Var::alias).collect();
            let dx = grad(&eval(a, &x)?, &x[*i..=*i])?.remove(0);
            Ok(dx.unwrap_or(constant(0.0)))
        }
    }
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf =
        prop_oneof![3 => (0..2usize).prop_map(Tree::X), 1 => (-1.0..1.0).prop_map(Tree::Constant)];
    leaf.prop_recursive(4, 12, 2, |inner| {
        let inner = inner.prop_map(Box::new).boxed();
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            two.clone().prop_map(|(a, b)| Tree::Add(a, b)),
            two.prop_map(|(a, b)| Tree::Mul(a, b)),
            inner.clone().prop_map(Tree::Sin),
            inner.clone().prop_map(Tree::SinCos),
            inner.clone().prop_map(Tree::Again),
            (inner, 0..2usize).prop_map(|(a, i)| Tree::Grad(a, i)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn derivatives_to_order_three(tree in trees(), a in -1.0..1.0, b in -1.0..1.0, seed: u64) {
        let f = |x: &[Var<Real>]| Ok(vec![eval(&tree, x)?]);
        let check = Check { order: 3, seed, ..Check::default() };
        let result = check_grads(f, &[Real(a), Real(b)], &check);
        prop_assert!(result.is_ok(), "{}", result.unwrap_err());
    }

    #[test]
    fn both_sweeps_agree(tree in trees(), a in -1.0..1.0, b in -1.0..1.0) {
        let x = [leaf(a), leaf(b)];
        let y = eval(&tree, &x).unwrap();
        let recorded = grad(&y, &x).unwrap().into_iter().map(|dx| dx.map(Var::into_value));
        prop_assert_eq!(recorded.collect::<Vec<_>>(), backward(&y, &x).unwrap());
    }
}
