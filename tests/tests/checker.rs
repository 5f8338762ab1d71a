//! The checker on tensors: a rule that is off by a thousandth at one order, or wrong in a single element, is caught.

use autograd::{At, Check, CheckError, Mismatch, Op, apply1, check_grads};
use ops::{DType, Result, Tensor, Transpose, Var, matmul, mul, scale};
use tests::Random;

/// e^x, elementwise. The rule that leads to its derivative of order `wrong` is spoiled.
#[derive(Clone, Copy)]
struct Exp {
    order: usize,
    wrong: usize,
    spoil: fn(&Var) -> Result<Var>,
}

impl Op<Tensor> for Exp {
    fn name(&self) -> &'static str {
        "spoiled exp"
    }
    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let y: Vec<f64> = x[0].to_f64s().iter().map(|x| x.exp()).collect();
        Ok(vec![Tensor::from_f64s(x[0].shape(), x[0].dtype(), &y)?])
    }
    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let Some(g) = &ct[0] else {
            return Ok(vec![None]);
        };
        let next = Exp {
            order: self.order + 1,
            ..*self
        };
        let dx = mul(g, &apply1(next, &[&at.x[0]])?)?;
        Ok(vec![Some(match next.order == self.wrong {
            true => (self.spoil)(&dx)?,
            false => dx,
        })])
    }
}

fn caught(
    f: impl Fn(&[Var]) -> Result<Vec<Var>>,
    x: &[Tensor],
    order: usize,
    seed: u64,
) -> Option<Mismatch> {
    let check = Check {
        order,
        seed,
        ..Check::default()
    };
    match check_grads(f, x, &check) {
        Ok(()) => None,
        Err(CheckError::Mismatch(m)) => Some(m),
        Err(e) => panic!("{e}"),
    }
}

/// The spoiled op at each order, alone and as a part of a product: caught at that order and not before.
fn is_caught(spoil: fn(&Var) -> Result<Var>) {
    for wrong in 1..=3 {
        for seed in 0..5 {
            let exp = move |x: &Var| {
                let order = 0;
                apply1(
                    Exp {
                        order,
                        wrong,
                        spoil,
                    },
                    &[x],
                )
            };
            let alone = |x: &[Var]| Ok(vec![exp(&x[0])?]);
            let part = |x: &[Var]| Ok(vec![matmul(&exp(&x[0])?, &x[1], Transpose::B)?]);
            let mut random = Random::new(seed);
            let x = [[3, 4], [2, 4]].map(|s| random.tensor(&s, DType::F64));
            assert_eq!(caught(alone, &x[..1], wrong - 1, seed), None);
            assert_eq!(caught(part, &x, wrong - 1, seed), None);
            let alone = caught(alone, &x[..1], 3, seed).expect("the op alone is caught");
            let part = caught(part, &x, 3, seed).expect("the op in a product is caught");
            assert_eq!((alone.order, part.order), (wrong, wrong));
        }
    }
}

#[test]
fn a_rule_off_by_a_thousandth() {
    is_caught(|dx| scale(dx, 1.001));
}

#[test]
fn a_rule_off_by_a_thousandth_in_one_element() {
    is_caught(|dx| {
        let mut factors = vec![1.0; dx.value().len()];
        *factors.last_mut().expect("elements") = 1.001;
        let factors = Tensor::from_f64s(dx.value().shape(), DType::F64, &factors)?;
        mul(dx, &Var::constant(factors))
    });
}

#[test]
fn a_rule_that_loses_the_last_row() {
    is_caught(|dx| {
        let rows = dx.value().shape()[0];
        ops::pad(&ops::slice(dx, 0, 0, rows - 1)?, 0, 0, 1)
    });
}

/// Right at order one; its derivative is lost.
#[test]
fn a_rule_that_detaches() {
    is_caught_at_order_two(|dx| Ok(dx.detach()));
}

fn is_caught_at_order_two(spoil: fn(&Var) -> Result<Var>) {
    let exp = Exp {
        order: 0,
        wrong: 1,
        spoil,
    };
    let x = [Random::new(1).tensor(&[3, 4], DType::F64)];
    let f = |x: &[Var]| Ok(vec![apply1(exp, &[&x[0]])?]);
    assert_eq!(caught(f, &x, 1, 1), None);
    assert_eq!(caught(f, &x, 2, 1).expect("caught").order, 2);
}
