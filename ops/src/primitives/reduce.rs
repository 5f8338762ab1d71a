//! Sum and broadcast, adjoint to one another.

use autograd::{At, Op, apply1};

use crate::dtype::{Float, for_float};
use crate::error::{Error, Result};
use crate::{Tensor, Var, cuda};

/// A broadcast from `small` to `big` along axes where `small` has size 1 (same rank), as nested loops: adjacent axes of
/// the same kind merged. Each entry: (size, step in `small`).
fn loops(small: &[usize], big: &[usize]) -> Option<Vec<(usize, usize)>> {
    if small.len() != big.len() {
        return None;
    }
    let mut out: Vec<(usize, usize)> = vec![];
    let mut stride = 1;
    for (&s, &b) in small.iter().zip(big).rev() {
        let step = match s {
            _ if s == b => stride,
            1 => 0,
            _ => return None,
        };
        match out.last_mut() {
            Some((size, last))
                if (*last == 0 && step == 0) || (*last > 0 && step == *last * *size) =>
            {
                *size *= b
            }
            _ => out.push((b, step)),
        }
        stride *= s;
    }
    out.reverse();
    Some(out)
}

/// Calls `f(big start, small start, size, small step)` for every innermost run.
fn for_runs(loops: &[(usize, usize)], f: &mut impl FnMut(usize, usize, usize, usize)) {
    let Some((&(size, step), outer)) = loops.split_last() else {
        return f(0, 0, 1, 0);
    };
    let runs: usize = outer.iter().map(|l| l.0).product();
    for run in 0..runs {
        let (mut rest, mut small) = (run, 0);
        for &(size, step) in outer.iter().rev() {
            small += rest % size * step;
            rest /= size;
        }
        f(run * size, small, size, step);
    }
}

struct Broadcast(Vec<usize>);

impl Op<Tensor> for Broadcast {
    fn name(&self) -> &'static str {
        "broadcast"
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let x = x[0];
        let Some(loops) = loops(x.shape(), &self.0) else {
            let message = format!("{x:?} to {:?}; sizes must agree or be 1", self.0);
            return Err(Error::shape("broadcast", message));
        };
        if let Some(cuda) = cuda::of("broadcast", [x])? {
            let (sizes, steps): (Vec<usize>, Vec<usize>) = loops.into_iter().unzip();
            return Ok(vec![cuda.strided(x, &sizes, &steps)?.reshape(&self.0)?]);
        }
        Ok(vec![for_float!("broadcast", x.dtype(), T => {
            let data = x.data::<T>();
            Tensor::build(&self.0, |out: &mut [T]| {
                for_runs(&loops, &mut |big, small, size, step| {
                    let out = &mut out[big..big + size];
                    match step {
                        0 => out.fill(data[small]),
                        _ => out.copy_from_slice(&data[small..small + size]),
                    }
                })
            })
        })])
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let back = |g: &Var| sum(g, at.x[0].value().shape());
        Ok(vec![ct[0].as_ref().map(back).transpose()?])
    }
}

/// Repeats axes of size 1 to the sizes in `shape` (same rank).
pub fn broadcast(x: &Var, shape: &[usize]) -> Result<Var> {
    if x.value().shape() == shape {
        return Ok(x.clone());
    }
    apply1(Broadcast(shape.to_vec()), &[x])
}

struct Sum(Vec<usize>);

impl Op<Tensor> for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let x = x[0];
        let Some(loops) = loops(&self.0, x.shape()) else {
            let message = format!("{x:?} to {:?}; sizes must agree or be 1", self.0);
            return Err(Error::shape("sum", message));
        };
        if let Some(cuda) = cuda::of("sum", [x])? {
            return Ok(vec![cuda.sum(x, &self.0)?]);
        }
        Ok(vec![for_float!("sum", x.dtype(), T => {
            let data = x.data::<T>();
            Tensor::build(&self.0, |out: &mut [T]| {
                out.fill(<T as Float>::ZERO);
                for_runs(&loops, &mut |big, small, size, step| {
                    let run = &data[big..big + size];
                    match step {
                        0 => out[small] += crate::par::simd(
                            #[inline(always)]
                            || crate::par::row_sum(run),
                        ),
                        _ => {
                            for (o, x) in out[small..small + size].iter_mut().zip(run) {
                                *o += *x;
                            }
                        }
                    }
                })
            })
        })])
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let back = |g: &Var| broadcast(g, at.x[0].value().shape());
        Ok(vec![ct[0].as_ref().map(back).transpose()?])
    }
}

/// Sums axes down to size 1 where `shape` says so (same rank).
pub fn sum(x: &Var, shape: &[usize]) -> Result<Var> {
    if x.value().shape() == shape {
        return Ok(x.clone());
    }
    apply1(Sum(shape.to_vec()), &[x])
}

/// Sum of all elements, a scalar.
pub fn sum_all(x: &Var) -> Result<Var> {
    let flat = crate::reshape(x, &[x.value().len()])?;
    crate::reshape(&sum(&flat, &[1])?, &[])
}
