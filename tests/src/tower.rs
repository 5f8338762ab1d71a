//! Derivatives as functions of their own.

use ops::{Result, Tensor, Var, vjp};

use crate::Random;

/// A function of several variables with several results.
pub type Fun<'f> = Box<dyn Fn(&[Var]) -> Result<Vec<Var>> + 'f>;

/// One order up: the function `(x, ct) -> vjp(f)(x, ct)` of `inputs` inputs of `f` and a cotangent for each output that is
/// `present`; the other cotangents are `None`. Every input of `f` has a result, a zero where there is no cotangent.
///
/// The cotangents are inputs in their own right: tied to the outputs they would hide rules that are wrong in them.
pub fn raise<'f>(
    f: impl Fn(&[Var]) -> Result<Vec<Var>> + 'f,
    inputs: usize,
    present: &[bool],
) -> Fun<'f> {
    let present = present.to_vec();
    Box::new(move |z| {
        let x: Vec<Var> = z[..inputs].iter().map(Var::alias).collect();
        let mut rest = z[inputs..].iter().cloned();
        let ct: Vec<Option<Var>> = (present.iter())
            .map(|there| there.then(|| rest.next().expect("a cotangent for each that is present")))
            .collect();
        assert!(rest.next().is_none(), "more cotangents than are present");
        let dx = vjp(&f(&x)?, &ct, &x)?;
        let or_zero = |(dx, x): (Option<Var>, &Var)| match dx {
            Some(dx) => Ok(dx),
            None => Ok(Var::constant(x.value().zeros_like()?)),
        };
        dx.into_iter().zip(&x).map(or_zero).collect()
    })
}

/// The values of `f` at `x`.
pub fn values(f: impl Fn(&[Var]) -> Result<Vec<Var>>, x: &[Tensor]) -> Result<Vec<Tensor>> {
    let x: Vec<Var> = x.iter().cloned().map(Var::constant).collect();
    Ok(f(&x)?.into_iter().map(Var::into_value).collect())
}

/// The results of `f` at orders 0, 1 and 2 with these inputs and random cotangents.
pub fn orders(
    f: impl Fn(&[Var]) -> Result<Vec<Var>>,
    x: &[Tensor],
    seed: u64,
) -> Result<[Vec<Tensor>; 3]> {
    let mut random = Random::new(seed);
    let y = values(&f, x)?;
    let all = vec![true; y.len()];
    let mut x1 = x.to_vec();
    x1.extend(random.like(&y));
    let first = raise(&f, x.len(), &all);
    let dx = values(&first, &x1)?;
    let mut x2 = x1.clone();
    x2.extend(random.like(x));
    let second = raise(&first, x1.len(), &vec![true; x.len()]);
    let d2 = values(&second, &x2)?;
    Ok([y, dx, d2])
}
