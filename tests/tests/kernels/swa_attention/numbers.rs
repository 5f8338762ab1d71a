//! Inputs of one case, and what its results should be.

use kernels_cu::swa_attention::{Inputs, Sizes};
use kernels_cu::{DType, View};
use ops::{Tensor, Var, derived, swa_attention, vjp};
use tests::Random;
use tests::interpreted::{Interpreted, round};

use super::plain::{First, Head, Matrix, Plain, Second};

#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub t: usize,
    pub c: usize,
    pub n: usize,
    pub m: usize,
    pub h: usize,
    pub window: usize,
}

/// Numbers rounded to a type: q, k and v of the cache, k, v, do; and cotangents of the gradients of the first five, like them.
pub struct Numbers {
    pub case: Case,
    pub dtype: DType,
    x: [Vec<f64>; 6],
    ct: [Vec<f64>; 5],
}

/// Results of all orders: [o, lse], [dq, dk and dv of the cache, dk, dv], [dq2, .. dv2, ddo].
pub struct Results {
    pub zeroth: [Vec<f64>; 2],
    pub first: [Vec<f64>; 5],
    pub second: [Vec<f64>; 6],
}

type Attention = fn(&Var, [&Var; 2], [&Var; 2], usize) -> ops::Result<Var>;

impl Numbers {
    pub fn new(case: Case, dtype: DType) -> Self {
        let mut random = Random::new(case.t as u64);
        let mut numbers = |[rows, heads, h]: [usize; 3]| -> Vec<f64> {
            let n = rows * heads * h;
            (0..n).map(|_| round(random.normal(), dtype)).collect()
        };
        let shapes = Self::shapes(&case);
        let (x, [a, b0, c0, b, c, _]) = (shapes.map(&mut numbers), shapes.map(&mut numbers));
        Numbers {
            case,
            dtype,
            x,
            ct: [a, b0, c0, b, c],
        }
    }

    fn shapes(case: &Case) -> [[usize; 3]; 6] {
        let Case { t, c, n, m, h, .. } = *case;
        let (queries, cached, current) = ([t, n, h], [c, m, h], [t, m, h]);
        [queries, cached, cached, current, current, queries]
    }

    pub fn sizes(&self) -> Sizes {
        let Case {
            t,
            c,
            n,
            m,
            h,
            window,
        } = self.case;
        let dtype = self.dtype;
        Sizes {
            dtype,
            t,
            c,
            n,
            m,
            h,
            used: h,
            window,
        }
    }

    pub fn upload(&self, device: &mut Interpreted) -> ([View; 6], [View; 5]) {
        let mut upload = |x: &Vec<f64>| device.upload(x, self.dtype);
        (
            self.x.each_ref().map(&mut upload),
            self.ct.each_ref().map(upload),
        )
    }

    /// Room for [o, .. like q] and what is like the six inputs.
    pub fn outputs(&self, device: &mut Interpreted) -> [View; 6] {
        Self::shapes(&self.case).map(|[a, b, c]| device.output(a * b * c, self.dtype))
    }

    /// By the CPU's ops, with those cotangents of the gradients that are `present`.
    fn by_ops(&self, f: Attention, dtype: ops::DType, present: [bool; 5]) -> Results {
        let shapes = Self::shapes(&self.case);
        let vars = |x: &[Vec<f64>]| -> Vec<Var> {
            let pairs = shapes.iter().zip(x);
            let var = |(shape, x): (&[usize; 3], &Vec<f64>)| Tensor::from_f64s(shape, dtype, x);
            pairs
                .map(|x| Var::leaf(var(x).expect("as many numbers as elements")))
                .collect()
        };
        let (x, ct) = (vars(&self.x), vars(&self.ct));
        let values = |x: Vec<Option<Var>>, shapes: &[[usize; 3]]| -> Vec<Vec<f64>> {
            let zeros = |shape: &[usize; 3]| vec![0.0; shape.iter().product()];
            let pairs = x.into_iter().zip(shapes);
            pairs
                .map(|(x, shape)| x.map_or_else(|| zeros(shape), |x| x.value().to_f64s()))
                .collect()
        };
        let o =
            f(&x[0], [&x[1], &x[2]], [&x[3], &x[4]], self.case.window).expect("shapes that fit");
        let first = vjp(std::slice::from_ref(&o), &[Some(x[5].clone())], &x[..5])
            .expect("an op with a rule");
        let ct: Vec<Option<Var>> = ct
            .into_iter()
            .zip(present)
            .map(|(x, there)| there.then_some(x))
            .collect();
        let gradients: Vec<Var> = first.iter().flatten().cloned().collect();
        assert_eq!(gradients.len(), 5);
        let second = vjp(&gradients, &ct, &x).expect("an op with a rule");
        Results {
            zeroth: [o.value().to_f64s(), self.lse(dtype)],
            first: values(first, &shapes).try_into().expect("five"),
            second: values(second, &shapes).try_into().expect("six"),
        }
    }

    /// The cache of the op, which its value does not show.
    fn lse(&self, dtype: ops::DType) -> Vec<f64> {
        let x = self.x.iter().zip(Self::shapes(&self.case)).take(5);
        let x: Vec<Tensor> = x
            .map(|(x, shape)| Tensor::from_f64s(&shape, dtype, x).expect("as many"))
            .collect();
        let result =
            ops::values::swa_attention(&x[0], [&x[1], &x[2]], [&x[3], &x[4]], self.case.window);
        let [_, lse] = result.expect("shapes that fit");
        lse.to_f64s()
    }

    /// By plain loops that round every number.
    pub fn by_loops(&self, rounding: &dyn Fn(f64) -> f64, present: [bool; 5]) -> Results {
        let Case { t, c, n, m, .. } = self.case;
        let plain = Plain {
            case: &self.case,
            round: rounding,
        };
        let ct: Vec<Vec<f64>> = self
            .ct
            .iter()
            .zip(present)
            .map(|(x, there)| x.iter().map(|x| if there { *x } else { 0.0 }).collect())
            .collect();
        let heads: Vec<(First, Second)> = (0..n)
            .map(|head| {
                let kv = head / (n / m);
                let both = |x: &[Vec<f64>], i: usize| {
                    [self.rows(&x[i], m, kv), self.rows(&x[i + 2], m, kv)].concat()
                };
                let x = Head {
                    q: self.rows(&self.x[0], n, head),
                    k: both(&self.x, 1),
                    v: both(&self.x, 2),
                    do_: self.rows(&self.x[5], n, head),
                };
                let [a, b, c] = [self.rows(&ct[0], n, head), both(&ct, 1), both(&ct, 2)];
                (plain.first(&x), plain.second(&x, [&a, &b, &c]))
            })
            .collect();
        let queries = |of: &dyn Fn(&(First, Second)) -> Matrix| -> Vec<f64> {
            let heads: Vec<Matrix> = heads.iter().map(of).collect();
            (0..t)
                .flat_map(|i| heads.iter().flat_map(move |x| x[i].clone()))
                .collect()
        };
        // of cached and of current keys, summed over the heads of a group
        let keys = |of: &dyn Fn(&(First, Second)) -> Matrix| -> [Vec<f64>; 2] {
            let heads: Vec<Matrix> = heads.iter().map(of).collect();
            let sum = |j: usize, group: &[Matrix]| -> Vec<f64> {
                let h = group[0][j].len();
                (0..h)
                    .map(|d| rounding(group.iter().map(|x| x[j][d]).sum()))
                    .collect()
            };
            let run = |rows: std::ops::Range<usize>| {
                rows.flat_map(|j| heads.chunks(n / m).flat_map(move |group| sum(j, group)))
                    .collect()
            };
            [run(0..c), run(c..c + t)]
        };
        let lse = (0..t)
            .flat_map(|i| heads.iter().map(move |x| x.0.lse[i]))
            .collect();
        let ([k0, k1], [v0, v1]) = (keys(&|x| x.0.dk.clone()), keys(&|x| x.0.dv.clone()));
        let first = [queries(&|x| x.0.dq.clone()), k0, v0, k1, v1];
        let ([k0, k1], [v0, v1]) = (keys(&|x| x.1.dk2.clone()), keys(&|x| x.1.dv2.clone()));
        let [dq2, ddo] = [queries(&|x| x.1.dq2.clone()), queries(&|x| x.1.ddo.clone())];
        Results {
            zeroth: [queries(&|x| x.0.o.clone()), lse],
            first,
            second: [dq2, k0, v0, k1, v1, ddo],
        }
    }

    /// The results in f64, and by the meaning in the type's precision: with f32 by the CPU's op of the same formulas and by its own
    /// meaning, which are good at different things.
    pub fn expected(&self, present: [bool; 5]) -> (Results, Vec<Results>) {
        let rough = match self.dtype {
            DType::F32 => [swa_attention as Attention, derived::swa_attention]
                .map(|f| self.by_ops(f, ops::DType::F32, present))
                .into(),
            DType::BF16 => vec![self.by_loops(&|x| round(x, self.dtype), present)],
        };
        (self.by_ops(swa_attention, ops::DType::F64, present), rough)
    }

    /// Rows of one head of an array [.., heads, h].
    fn rows(&self, x: &[f64], heads: usize, head: usize) -> Matrix {
        let h = self.case.h;
        x.chunks(heads * h)
            .map(|row| row[head * h..][..h].to_vec())
            .collect()
    }
}

pub fn inputs(x: &[View; 6]) -> Inputs<'_> {
    Inputs {
        q: &x[0],
        cached: [&x[1], &x[2]],
        current: [&x[3], &x[4]],
    }
}
