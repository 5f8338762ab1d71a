//! The MLP's formulas as plain loops, in f64 or with every intermediate rounded to a type. They are those of `ops`, which a test says.

use kernels_cu::DType;
use kernels_cu::swiglu_mlp::SwigluMlp;
use tests::interpreted::round;

/// Sizes, and the type that every intermediate is rounded to; none for f64.
#[derive(Clone, Copy)]
pub struct Formulas {
    pub t: usize,
    pub d: usize,
    pub ff: usize,
    pub rounded: Option<DType>,
    /// The type that gradients of weights are rounded to.
    pub gradients: Option<DType>,
}

/// How a product's factors lie: a b, a b', a' b.
#[derive(Clone, Copy)]
enum Lie {
    None,
    B,
    A,
}

type Numbers = Vec<f64>;

impl Formulas {
    pub fn exact(mlp: &SwigluMlp) -> Self {
        Formulas {
            t: mlp.t,
            d: mlp.d,
            ff: mlp.ff,
            rounded: None,
            gradients: None,
        }
    }

    pub fn rounded(mlp: &SwigluMlp) -> Self {
        Formulas {
            rounded: Some(mlp.dtype),
            gradients: Some(mlp.gradients),
            ..Self::exact(mlp)
        }
    }

    fn r(&self, x: f64) -> f64 {
        self.rounded.map_or(x, |dtype| round(x, dtype))
    }

    /// Sums of f32 are rounded at every step, those of bf16 once, as sums of f32 almost are.
    fn product(&self, lie: Lie, [m, n, k]: [usize; 3], a: &[f64], b: &[f64]) -> Numbers {
        let mut c = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                let mut sum = 0.0;
                for l in 0..k {
                    let (x, y) = match lie {
                        Lie::None => (a[i * k + l], b[l * n + j]),
                        Lie::B => (a[i * k + l], b[j * k + l]),
                        Lie::A => (a[l * m + i], b[l * n + j]),
                    };
                    sum += x * y;
                    if self.rounded == Some(DType::F32) {
                        sum = self.r(sum);
                    }
                }
                c[i * n + j] = sum;
            }
        }
        c
    }

    /// x [t, d] times a weight's transpose.
    fn into(&self, x: &[f64], w: &[f64]) -> Numbers {
        self.all(self.product(Lie::B, [self.t, self.ff, self.d], x, w))
    }

    /// h [t, ff] times D'.
    fn down(&self, h: &[f64], down: &[f64]) -> Numbers {
        self.all(self.product(Lie::B, [self.t, self.d, self.ff], h, down))
    }

    /// dy [t, d] times D.
    fn up(&self, dy: &[f64], down: &[f64]) -> Numbers {
        self.all(self.product(Lie::None, [self.t, self.ff, self.d], dy, down))
    }

    /// dg [t, ff] times G.
    fn back(&self, dg: &[f64], gate: &[f64]) -> Numbers {
        self.all(self.product(Lie::None, [self.t, self.d, self.ff], dg, gate))
    }

    /// a' b for a [t, m] and b [t, n].
    fn weight(&self, [m, n]: [usize; 2], a: &[f64], b: &[f64]) -> Numbers {
        let mut sums = self.product(Lie::A, [m, n, self.t], a, b);
        if let Some(dtype) = self.gradients {
            sums.iter_mut().for_each(|x| *x = round(*x, dtype));
        }
        sums
    }

    fn all(&self, mut x: Numbers) -> Numbers {
        x.iter_mut().for_each(|x| *x = self.r(*x));
        x
    }

    /// The sum of what is there.
    fn sum(&self, parts: [Option<Numbers>; 2], n: usize) -> Numbers {
        let parts = parts.into_iter().flatten();
        parts.fold(vec![0.0; n], |sum, part| {
            let both = sum.iter().zip(part);
            both.map(|(x, y)| self.r(x + y)).collect()
        })
    }

    /// f of each place, every result rounded by f itself.
    fn map<const N: usize, const M: usize>(
        x: [&[f64]; N],
        f: impl Fn([f64; N]) -> [f64; M],
    ) -> [Numbers; M] {
        let mut out = [const { vec![] }; M];
        for i in 0..x[0].len() {
            let results = f(x.map(|x| x[i]));
            out.iter_mut().zip(results).for_each(|(out, y)| out.push(y));
        }
        out
    }

    /// (s, s', s'') at g.
    fn silu(&self, g: f64) -> [f64; 3] {
        let r = |x| self.r(x);
        let sigma = r(1.0 / r(1.0 + r((-g).exp())));
        let rest = r(1.0 - sigma);
        let first = r(sigma * r(1.0 + r(g * rest)));
        let second = r(r(sigma * rest) * r(2.0 + r(g * r(rest - sigma))));
        [r(g * sigma), first, second]
    }

    /// y, g, u.
    pub fn forward(&self, [x, gate, up, down]: [&[f64]; 4]) -> [Numbers; 3] {
        let (g, u) = (self.into(x, gate), self.into(x, up));
        let [h] = Self::map([&g, &u], |[g, u]| [self.r(self.silu(g)[0] * u)]);
        [self.down(&h, down), g, u]
    }

    /// dx, dG, dU, dD, dh.
    pub fn backward(&self, x: [&[f64]; 6], ct: [Option<&[f64]>; 3]) -> [Numbers; 5] {
        let r = |x| self.r(x);
        let [x, gate, up, down, g, u] = x;
        let zeros = |n| vec![0.0; n];
        let [dy, eg, eu] = [0, 1, 2].map(|i| {
            let n = if i == 0 { self.t * self.d } else { g.len() };
            ct[i].map_or_else(|| zeros(n), <[f64]>::to_vec)
        });
        let dh = self.up(&dy, down);
        let [dg, du, h] = Self::map([g, u, &dh, &eg, &eu], |[g, u, dh, eg, eu]| {
            let [s, s1, _] = self.silu(g);
            [r(r(r(dh * u) * s1) + eg), r(r(dh * s) + eu), r(s * u)]
        });
        let dx = [self.back(&dg, gate), self.back(&du, up)].map(Some);
        [
            self.sum(dx, self.t * self.d),
            self.weight([self.ff, self.d], &dg, x),
            self.weight([self.ff, self.d], &du, x),
            self.weight([self.d, self.ff], &dy, &h),
            dh,
        ]
    }

    /// dx2, dG2, dU2, dD2, dg2, du2, ddy for x = [x, G, U, D, g, u, dy], the cache dh, and cotangents of dx, dG, dU, dD.
    pub fn double(&self, x: [&[f64]; 7], dh: &[f64], ct: [Option<&[f64]>; 4]) -> [Numbers; 7] {
        let r = |x| self.r(x);
        let [x, gate, up, down, g, u, dy] = x;
        let [ddx, ddgate, ddup, dddown] = ct;
        let (narrow, wide) = (self.t * self.d, self.t * self.ff);
        let inner = |w: &[f64], ddw: Option<&[f64]>| {
            let parts = [
                ddx.map(|ddx| self.into(ddx, w)),
                ddw.map(|ddw| self.into(x, ddw)),
            ];
            self.sum(parts, wide)
        };
        let (ddg, ddu) = (inner(gate, ddgate), inner(up, ddup));
        let h2 = self.sum([dddown.map(|w| self.up(dy, w)), None], wide);
        let given = [g, u, dh, &ddg, &ddu, &h2];
        let [dg2, du2, dg, du, ddh, h] = Self::map(given, |[g, u, dh, ddg, ddu, h2]| {
            let [s, s1, s2] = self.silu(g);
            let ddg_dh = r(ddg * dh);
            [
                r(r(r(ddg_dh * u) * s2) + r(r(r(ddu * dh) + r(h2 * u)) * s1)),
                r(r(ddg_dh * s1) + r(h2 * s)),
                r(r(dh * u) * s1),
                r(dh * s),
                r(r(r(ddg * u) * s1) + r(ddu * s)),
                r(s * u),
            ]
        });
        let dx2 = [
            ddgate.map(|w| self.back(&dg, w)),
            ddup.map(|w| self.back(&du, w)),
        ];
        let ddy = [
            Some(self.down(&ddh, down)),
            dddown.map(|w| self.down(&h, w)),
        ];
        let zeros = vec![0.0; narrow];
        let ddx = ddx.unwrap_or(&zeros);
        [
            self.sum(dx2, narrow),
            self.weight([self.ff, self.d], &dg, ddx),
            self.weight([self.ff, self.d], &du, ddx),
            self.weight([self.d, self.ff], dy, &ddh),
            dg2,
            du2,
            self.sum(ddy, narrow),
        ]
    }
}
