//! One order of an op, traced once and ready to run again and again.

use ops::list::Function;
use ops::{DType, Result, Tensor, Var, backward_with, slice, vjp};

use crate::case::Case;

/// What a case runs on.
pub struct Numbers {
    /// Inputs.
    pub x: Vec<Tensor>,
    /// Cotangents of the results.
    pub dy: Vec<Tensor>,
    /// Cotangents of the inputs' cotangents.
    pub a: Vec<Tensor>,
}

impl Numbers {
    /// Numbers between -1 and 1, others for each array.
    pub fn of(case: &Case) -> Result<Self> {
        let shapes = case.shapes.iter();
        let x = shapes.enumerate().map(|(i, s)| uniform(s, i as u64));
        let x: Vec<Tensor> = x.collect::<Result<_>>()?;
        let constants: Vec<Var> = x.iter().cloned().map(Var::constant).collect();
        let y = (case.f)(&constants)?;
        let dy = y.iter().zip(100..);
        let dy = dy.map(|(y, seed)| uniform(y.value().shape(), seed));
        let a = x.iter().zip(200..);
        let a = a.map(|(x, seed)| uniform(x.shape(), seed));
        Ok(Numbers {
            dy: dy.collect::<Result<_>>()?,
            a: a.collect::<Result<_>>()?,
            x,
        })
    }

    /// The first head of each array [_, heads, h].
    pub fn first_head(&self) -> Result<Self> {
        let cut = |all: &[Tensor]| all.iter().map(first_head).collect::<Result<_>>();
        Ok(Numbers {
            x: cut(&self.x)?,
            dy: cut(&self.dy)?,
            a: cut(&self.a)?,
        })
    }
}

/// The first head of an array [_, heads, h].
pub fn first_head(x: &Tensor) -> Result<Tensor> {
    Ok(slice(&Var::constant(x.clone()), 1, 0, 1)?.into_value())
}

/// Uniform between -1 and 1.
fn uniform(shape: &[usize], seed: u64) -> Result<Tensor> {
    let mut state = seed;
    let mut next = || {
        // SplitMix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    Tensor::from_vec(shape, (0..shape.iter().product()).map(|_| next()).collect())
}

/// One order of a function: forward, its vjp, or the vjp of that. Inputs and cotangents are variables in their own right, so
/// a run evaluates this order alone: what is below it was traced before.
pub struct Level<'f> {
    f: &'f Function,
    /// What the order below is a function of: the inputs, then its cotangents.
    x: Vec<Var>,
    /// Results of the order below, and cotangents of them.
    below: Option<(Vec<Var>, Vec<Option<Tensor>>)>,
}

impl<'f> Level<'f> {
    /// Traces what lies below `order`.
    pub fn new(f: &'f Function, numbers: &Numbers, order: usize) -> Result<Self> {
        let leaves = |all: &[Tensor]| -> Vec<Var> { all.iter().cloned().map(Var::leaf).collect() };
        let x = leaves(&numbers.x);
        if order == 0 {
            return Ok(Level { f, x, below: None });
        }
        let y = f(&x)?;
        if order == 1 {
            let ct = numbers.dy.iter().cloned().map(Some).collect();
            let below = Some((y, ct));
            return Ok(Level { f, x, below });
        }
        let dy = leaves(&numbers.dy);
        let ct: Vec<Option<Var>> = dy.iter().cloned().map(Some).collect();
        let dx = vjp(&y, &ct, &x)?.into_iter().zip(&numbers.a);
        let there = dx.filter_map(|(dx, a)| Some((dx?, Some(a.clone()))));
        let below = Some(there.unzip());
        let x = [x, dy].concat();
        Ok(Level { f, x, below })
    }

    /// The results of this order: those of the function, or a cotangent for each variable, `None` where it is zero.
    pub fn run(&self) -> Result<Vec<Option<Tensor>>> {
        let results = match &self.below {
            None => (self.f)(&self.x)?
                .into_iter()
                .map(|y| Some(y.into_value()))
                .collect(),
            Some((y, ct)) => backward_with(y, ct, &self.x)?,
        };
        // a sum of products is multiplied out when it is read
        for result in results.iter().flatten() {
            debug_assert_eq!(result.dtype(), DType::F32);
            std::hint::black_box(result.as_slice::<f32>());
        }
        Ok(results)
    }
}
