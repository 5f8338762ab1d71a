//! Attention to second order as its equations are written, in plain loops, every intermediate number rounded.

use super::Case;

/// Rows of numbers.
pub type Matrix = Vec<Vec<f64>>;

/// One query head's arrays; keys and values are cached and current ones together.
pub struct Head {
    pub q: Matrix,
    pub k: Matrix,
    pub v: Matrix,
    pub do_: Matrix,
}

/// Results of orders 0 and 1 for one head.
pub struct First {
    pub o: Matrix,
    pub lse: Vec<f64>,
    pub dq: Matrix,
    pub dk: Matrix,
    pub dv: Matrix,
}

/// Results of order 2.
pub struct Second {
    pub dq2: Matrix,
    pub dk2: Matrix,
    pub dv2: Matrix,
    pub ddo: Matrix,
}

pub struct Plain<'a> {
    pub case: &'a Case,
    pub round: &'a dyn Fn(f64) -> f64,
}

impl Plain<'_> {
    fn map(&self, f: impl Fn(usize, usize) -> f64) -> Matrix {
        let Case { t, c, .. } = *self.case;
        let row = |i| (0..c + t).map(|j| (self.round)(f(i, j))).collect();
        (0..t).map(row).collect()
    }

    /// a b'.
    fn outer(&self, a: &Matrix, b: &Matrix) -> Matrix {
        self.map(|i, j| a[i].iter().zip(&b[j]).map(|(a, b)| a * b).sum())
    }

    /// a b.
    fn product(&self, a: &Matrix, b: &Matrix) -> Matrix {
        let width = b[0].len();
        let sum = |row: &Vec<f64>, d: usize| row.iter().zip(b).map(|(a, b)| a * b[d]).sum();
        let row = |row| (0..width).map(|d| (self.round)(sum(row, d))).collect();
        a.iter().map(row).collect()
    }

    fn sums(&self, a: &Matrix, b: &Matrix) -> Vec<f64> {
        let dot = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| a * b).sum();
        a.iter().zip(b).map(|x| (self.round)(dot(x))).collect()
    }

    fn scale(&self) -> f64 {
        1.0 / (self.case.h as f64).sqrt()
    }

    fn sees(&self, i: usize, j: usize) -> bool {
        let position = self.case.c + i;
        j <= position && j + self.case.window > position
    }

    /// P, and the logarithms of the sums.
    fn probabilities(&self, x: &Head) -> (Matrix, Vec<f64>) {
        let s = self.outer(&x.q, &x.k);
        let s = self.map(|i, j| s[i][j] * self.scale());
        let seen = |i: usize| {
            s[i].iter()
                .enumerate()
                .filter(move |(j, _)| self.sees(i, *j))
        };
        let lse = (0..s.len()).map(|i| {
            let most = seen(i).map(|(_, s)| *s).fold(f64::MIN, f64::max);
            let sum: f64 = seen(i).map(|(_, s)| (self.round)((s - most).exp())).sum();
            (self.round)(most + (self.round)(sum).ln())
        });
        let lse: Vec<f64> = lse.collect();
        let p = |i: usize, j: usize| {
            if self.sees(i, j) {
                (s[i][j] - lse[i]).exp()
            } else {
                0.0
            }
        };
        (self.map(p), lse)
    }

    fn scaled(&self, x: &Matrix) -> Matrix {
        map(x, |x| (self.round)(x * self.scale()))
    }

    fn sum(&self, x: &Matrix, y: &Matrix) -> Matrix {
        let rows = x.iter().zip(y);
        let row = |(x, y): (&Vec<f64>, &Vec<f64>)| {
            x.iter().zip(y).map(|(x, y)| (self.round)(x + y)).collect()
        };
        rows.map(row).collect()
    }

    pub fn first(&self, x: &Head) -> First {
        let (p, lse) = self.probabilities(x);
        let o = self.product(&p, &x.v);
        let dp = self.outer(&x.do_, &x.v);
        let d = self.sums(&x.do_, &o);
        let ds = self.map(|i, j| p[i][j] * (dp[i][j] - d[i]));
        First {
            dq: self.scaled(&self.product(&ds, &x.k)),
            dk: self.scaled(&self.product(&transposed(&ds), &x.q)),
            dv: self.product(&transposed(&p), &x.do_),
            o,
            lse,
        }
    }

    /// From cotangents a, b, c of dq, dk, dv.
    pub fn second(&self, x: &Head, [a, b, c]: [&Matrix; 3]) -> Second {
        let round = self.round;
        let (p, _) = self.probabilities(x);
        let o = self.product(&p, &x.v);
        let dp = self.outer(&x.do_, &x.v);
        let d = self.sums(&x.do_, &o);
        let ds = self.map(|i, j| p[i][j] * (dp[i][j] - d[i]));
        let g = self.scaled(&self.sum(&self.outer(a, &x.k), &self.outer(&x.q, b)));
        let gamma = self.sums(&p, &g);
        let e = self.map(|i, j| p[i][j] * (g[i][j] - gamma[i]));
        let doc = self.outer(&x.do_, c);
        let pb = self.map(|i, j| {
            round(g[i][j] * (dp[i][j] - d[i])) - round(gamma[i] * dp[i][j]) + doc[i][j]
        });
        let rho = self.sums(&p, &pb);
        let sb = self.map(|i, j| p[i][j] * (pb[i][j] - rho[i]));
        let [sb_t, ds_t, e_t] = [&sb, &ds, &e].map(transposed);
        Second {
            dq2: self.scaled(&self.sum(&self.product(&sb, &x.k), &self.product(&ds, b))),
            dk2: self.scaled(&self.sum(&self.product(&sb_t, &x.q), &self.product(&ds_t, a))),
            dv2: self.product(&e_t, &x.do_),
            ddo: self.sum(&self.product(&e, &x.v), &self.product(&p, c)),
        }
    }
}

fn transposed(x: &Matrix) -> Matrix {
    let column = |j| x.iter().map(|row| row[j]).collect();
    (0..x[0].len()).map(column).collect()
}

fn map(x: &Matrix, f: impl Fn(f64) -> f64) -> Matrix {
    x.iter()
        .map(|row| row.iter().map(|x| f(*x)).collect())
        .collect()
}
