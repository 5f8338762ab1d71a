//! The loss of an output matrix, nll_i = lse(z_i) - z_i[y_i] with z = x W', to second order; x [t, d], W [V, d].
//!
//! Logits are made in tiles of rows by vocabulary and never kept. The forward op also gives r, the gradient of nll_i by x_i,
//! summed up beside the log-sum-exp as attention sums its values:
//!
//! ```text
//! p   = e^(z - lse)                  q  = p - onehot(y)
//! nll = lse - z[y]                   r  = q W                                          2 products
//!
//! cotangents dn of nll, R of r; Z = R W', alpha = sum_j p_j Z_j = R.(r + W[y]):        (bwd)
//! dz  = dn q + p (Z - alpha)
//! dx  = dz W                         dW = dz' x + q' R                                 5, or dx = dn r without R
//!
//! cotangent B of dW, with R = 0; Z = x B', alpha = sum_j p_j Z_j:                      (bwd_bwd)
//! dz2 = dn p (Z - alpha)             ddn = alpha - Z[y]
//! dx2 = dz2 W + dn q B               dW2 = dz2' x
//! ```
//!
//! r is an output in its own right: an inner gradient by x is dn r and costs no product, and the cotangent R of r joins the
//! outer dn in one pass over the tiles. A static W takes 2 + 0 + 5 = 7 products through forward, inner backward, double backward
//! and outer backward, against 6 with whole logits. lse is a cache: no cotangent goes to it.

use std::ops::Range;
use std::sync::Arc;

use autograd::{At, Cost, Op, apply};

use super::{Present, cross_entropy, linear, read, vjp_of, vjp_of_meaning};
use crate::buffer::Buffer;
use crate::dtype::{DType, Float, for_float};
use crate::error::{Error, Result};
use crate::gemm::{Into, gemm, mat};
use crate::primitives::{broadcast, cast, mul, reshape};
use crate::{Tensor, Var, cuda, derived, par};

type Ids = Arc<[u32]>;

/// Up to this many logits are kept: the products saved, one of seven with an inner loop and one of four without, are worth
/// more than a few buffers of 8 MiB.
const WHOLE: usize = 1 << 21;

/// A tile is large enough for products at full speed and small enough for the cache.
const ROWS: usize = 256;
const COLS: usize = 512;

fn check(op: &'static str, x: &Tensor, w: &Tensor, ids: &[u32]) -> Result<[usize; 3]> {
    let misfit = || {
        let message = format!(
            "x {x:?} and weight {w:?} for {} tokens are not [t, d] and [V, d] of one dtype for t tokens",
            ids.len()
        );
        Error::shape(op, message)
    };
    let (&[t, d], &[v, width]) = (x.shape(), w.shape()) else {
        return Err(misfit());
    };
    if width != d || t != ids.len() || d == 0 || v == 0 || x.dtype() != w.dtype() {
        return Err(misfit());
    }
    match ids.iter().position(|&i| i as usize >= v) {
        None => Ok([t, d, v]),
        Some(position) => Err(Error::Index {
            op,
            index: ids[position] as usize,
            position,
            limit: v,
        }),
    }
}

fn cuts(length: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    let starts = (0..length).step_by(size);
    starts.map(move |start| start..length.min(start + size))
}

/// Rows of a matrix of `cols` columns.
fn rows_of<'a, T>(x: &'a [T], rows: &Range<usize>, cols: usize) -> &'a [T] {
    &x[rows.start * cols..rows.end * cols]
}

/// a w' for rows of a and of w.
fn scores<T: Float>(a: &[T], w: &[T], d: usize) -> Buffer<T> {
    let (n, c) = (a.len() / d, w.len() / d);
    let mut z = Buffer::scratch(n * c);
    gemm(
        &mut z,
        Into::Replace,
        T::ONE,
        mat(a, n, d),
        mat(w, c, d).transpose(),
    );
    z
}

/// `f(row, elements)` for each row of a tile.
fn each_row<T: Float>(tile: &mut [T], cols: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    par::pieces(tile, cols, 4, |first, tile| {
        par::simd(
            #[inline(always)]
            || {
                for (i, row) in tile.chunks_exact_mut(cols).enumerate() {
                    f(first + i, row);
                }
            },
        )
    });
}

/// e^(z - shift) in place, one shift per row.
fn exponentials<T: Float>(z: &mut [T], cols: usize, shift: &[T]) {
    each_row(z, cols, |i, row| {
        for z in row {
            *z = Float::exp(*z - shift[i]);
        }
    });
}

/// `f(row of the tile, place in the tile)` where the target of a row is among these columns.
fn at_targets(
    ids: &[u32],
    rows: &Range<usize>,
    cols: &Range<usize>,
    mut f: impl FnMut(usize, usize),
) {
    for (i, &id) in ids[rows.clone()].iter().enumerate() {
        if cols.contains(&(id as usize)) {
            f(i, i * cols.len() + id as usize - cols.start);
        }
    }
}

pub(super) struct LinearCrossEntropy {
    pub(super) ids: Ids,
    /// Results nll, r and lse; else nll alone.
    pub(super) gradient: bool,
}

impl Op<Tensor> for LinearCrossEntropy {
    fn name(&self) -> &'static str {
        "linear_cross_entropy"
    }

    fn cost(&self) -> Cost {
        Cost::Costly
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let ids = &self.ids;
        let [t, d, v] = check(self.name(), x[0], x[1], ids)?;
        if let Some(cuda) = cuda::of(self.name(), x.iter().copied())? {
            return cuda.linear_cross_entropy(x, ids, self.gradient);
        }
        Ok(for_float!("linear_cross_entropy", x[0].dtype(), T => {
            let (x, w) = (x[0].data::<T>(), x[1].data::<T>());
            let (mut nll, mut lse) = (Buffer::<T>::zeros(t), Buffer::<T>::zeros(t));
            let mut r = Buffer::<T>::zeros(if self.gradient { t * d } else { 0 });
            for rows in cuts(t, ROWS) {
                let n = rows.len();
                let (mut max, mut sum) = (vec![T::NEG_INFINITY; n], vec![T::ZERO; n]);
                let mut part = Buffer::<T>::scratch(n);
                for cols in cuts(v, COLS) {
                    let (c, w_) = (cols.len(), rows_of(w, &cols, d));
                    let mut z = scores(rows_of(x, &rows, d), w_, d);
                    at_targets(ids, &rows, &cols, |i, at| nll[rows.start + i] = -z[at]);
                    each_row(&mut part, 1, |i, max| max[0] = par::row_max(&z[i * c..][..c]));
                    for i in 0..n {
                        let new = if part[i] > max[i] { part[i] } else { max[i] };
                        let shrink = Float::exp(max[i] - new);
                        max[i] = new;
                        sum[i] *= shrink;
                        if self.gradient {
                            r[(rows.start + i) * d..][..d].iter_mut().for_each(|r| *r *= shrink);
                        }
                    }
                    exponentials(&mut z, c, &max);
                    each_row(&mut part, 1, |i, sum| sum[0] = par::row_sum(&z[i * c..][..c]));
                    sum.iter_mut().zip(part.iter()).for_each(|(sum, part)| *sum += *part);
                    if self.gradient {
                        let r = &mut r[rows.start * d..rows.end * d];
                        gemm(r, Into::Add, T::ONE, mat(&z, n, c), mat(w_, c, d));
                    }
                }
                for i in 0..n {
                    let row = rows.start + i;
                    lse[row] = max[i] + Float::ln(sum[i]);
                    nll[row] += lse[row];
                    if self.gradient {
                        let target = &w[ids[row] as usize * d..][..d];
                        for (r, w) in r[row * d..][..d].iter_mut().zip(target) {
                            *r = *r / sum[i] - *w;
                        }
                    }
                }
            }
            let nll = Tensor::from_buffer(&[t], nll);
            match self.gradient {
                true => vec![nll, Tensor::from_buffer(&[t, d], r), Tensor::from_buffer(&[t], lse)],
                false => vec![nll],
            }
        }))
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let (x, w, r, lse) = (&at.x[0], &at.x[1], &at.y[1], &at.y[2]);
        let needs = [at.needs[0], at.needs[1]];
        let ct = [&ct[0], &ct[1]];
        match ct {
            [Some(dn), None] => {
                let dx = || {
                    let &[t, d] = x.value().shape() else {
                        unreachable!("x was [t, d] in the forward op")
                    };
                    let dn = cast(dn, r.value().dtype())?;
                    mul(&broadcast(&reshape(&dn, &[t, 1])?, &[t, d])?, r)
                };
                let dx = needs[0].then(dx).transpose()?;
                let [_, dw] = bwd([x, w], ct, [lse, r], [false, needs[1]], &self.ids)?;
                Ok(vec![dx, dw])
            }
            _ => Ok(bwd([x, w], ct, [lse, r], needs, &self.ids)?.to_vec()),
        }
    }
}

/// Negative log-likelihood in nats of token `ids[i]` under the logits x_i w' of row i: a vector `[t]`, for x [t, d] and
/// w [V, d], which may be f32 where x is bf16. Of more than two million logits no more than a tile exists at a time.
///
/// Errors: shapes that do not fit, a width of zero, an id outside 0..V.
pub fn linear_cross_entropy(x: &Var, w: &Var, ids: &Ids) -> Result<Var> {
    linear_cross_entropy_above(WHOLE, x, w, ids)
}

/// [`linear_cross_entropy`] that keeps logits up to a number of its own.
pub(crate) fn linear_cross_entropy_above(whole: usize, x: &Var, w: &Var, ids: &Ids) -> Result<Var> {
    let w = &read(w, x)?;
    let [t, _, v] = check("linear_cross_entropy", x.value(), w.value(), ids)?;
    // whole logits would be rounded to bf16 before the loss is taken
    if t * v <= whole && x.value().dtype() != DType::BF16 {
        return cross_entropy(&linear(x, w)?, ids);
    }
    let op = LinearCrossEntropy {
        ids: ids.clone(),
        gradient: x.is_tracked() || w.is_tracked(),
    };
    Ok(apply(op, &[x, w])?.swap_remove(0))
}

/// Inputs x, W, then those of dn, R that are there, then the caches lse and r. Results: those of dx, dW that are there.
struct Bwd {
    ids: Ids,
    ct: Present<2>,
    results: Present<2>,
}

const BWD: &str = "linear_cross_entropy_bwd";

impl Op<Tensor> for Bwd {
    fn name(&self) -> &'static str {
        BWD
    }

    fn cost(&self) -> Cost {
        Cost::Costly
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let ids = &self.ids;
        let [t, d, v] = check(BWD, x[0], x[1], ids)?;
        let results = self.results.0;
        let [dn, big_r] = self.ct.spread(&x[2..]);
        let (lse, r) = (x[x.len() - 2], x[x.len() - 1]);
        if let Some(cuda) = cuda::of(BWD, x.iter().copied())? {
            let caches = [lse, r];
            return cuda.linear_cross_entropy_bwd([x[0], x[1]], ids, [dn, big_r], caches, results);
        }
        Ok(for_float!(BWD, x[0].dtype(), T => {
            let (x, w, lse, r) = (x[0].data::<T>(), x[1].data::<T>(), lse.data::<T>(), r.data::<T>());
            let zeros = Buffer::<T>::zeros(t);
            let dn = dn.map_or(&zeros[..], |dn| dn.data());
            let big_r = big_r.map(|r| r.data::<T>());
            let mut dx = Buffer::<T>::zeros(if results[0] { t * d } else { 0 });
            let mut dw = Buffer::<T>::zeros(if results[1] { v * d } else { 0 });
            for rows in cuts(t, ROWS) {
                let n = rows.len();
                let (x, dn, lse) = (rows_of(x, &rows, d), &dn[rows.clone()], &lse[rows.clone()]);
                let big_r = big_r.map(|r| rows_of(r, &rows, d));
                // dn - alpha
                let mut shift = dn.to_vec();
                if let Some(big_r) = big_r {
                    each_row(&mut shift, 1, |i, shift| {
                        let (big_r, row) = (&big_r[i * d..][..d], rows.start + i);
                        let target = &w[ids[row] as usize * d..][..d];
                        shift[0] -= par::dot(big_r, &r[row * d..][..d]) + par::dot(big_r, target);
                    });
                }
                for cols in cuts(v, COLS) {
                    let (c, w) = (cols.len(), rows_of(w, &cols, d));
                    let mut p = scores(x, w, d);
                    exponentials(&mut p, c, lse);
                    let mut dz = match big_r {
                        None => Buffer::zeros(n * c),
                        Some(big_r) => scores(big_r, w, d),
                    };
                    each_row(&mut dz, c, |i, dz| {
                        for (dz, p) in dz.iter_mut().zip(&p[i * c..][..c]) {
                            *dz = *p * (*dz + shift[i]);
                        }
                    });
                    at_targets(ids, &rows, &cols, |i, at| {
                        dz[at] -= dn[i];
                        p[at] -= T::ONE; // q from here on
                    });
                    if results[0] {
                        let dx = &mut dx[rows.start * d..rows.end * d];
                        gemm(dx, Into::Add, T::ONE, mat(&dz, n, c), mat(w, c, d));
                    }
                    if results[1] {
                        let dw = &mut dw[cols.start * d..cols.end * d];
                        gemm(dw, Into::Add, T::ONE, mat(&dz, n, c).transpose(), mat(x, n, d));
                        if let Some(big_r) = big_r {
                            gemm(dw, Into::Add, T::ONE, mat(&p, n, c).transpose(), mat(big_r, n, d));
                        }
                    }
                }
            }
            self.results.select(vec![(t, dx), (v, dw)])
                .into_iter()
                .map(|(rows, b)| Tensor::from_buffer(&[rows, d], b))
                .collect()
        }))
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let (ids, there, results) = (self.ids.clone(), self.ct, self.results);
        if let ([true, false], [false, true], Some(b)) = (there.0, results.0, &ct[0]) {
            let [x, w, dn, lse] = [0, 1, 2, 3].map(|i| &at.x[i]);
            let d = apply(BwdBwd(ids), &[x, w, dn, b, lse])?;
            let mut dx: Vec<Option<Var>> = d.into_iter().map(Some).collect();
            dx.resize(at.x.len(), None);
            return Ok(dx);
        }
        // R comes in with the second derivative, so this is the third
        let meaning = move |x: &[Var]| {
            let d = vjp_of(|x| with_gradient(x, &ids), &x[..2], &there.spread(&x[2..]))?;
            Ok(results.select(d))
        };
        vjp_of_meaning(meaning, at.x.len() - 2, at, ct)
    }
}

/// Those of [dx, dW] that are needed, for [x, W], cotangents of nll and r, and caches [lse, r].
fn bwd(
    x: [&Var; 2],
    ct: [&Option<Var>; 2],
    caches: [&Var; 2],
    needs: [bool; 2],
    ids: &Ids,
) -> Result<[Option<Var>; 2]> {
    let results = Present(needs);
    if results.count() == 0 || ct.iter().all(|c| c.is_none()) {
        return Ok([None, None]);
    }
    let (ct, mut x) = Present::inputs(&x, ct);
    let caches = caches.map(Var::detach);
    x.extend(&caches);
    let ids = ids.clone();
    Ok(results.spread(&apply(Bwd { ids, ct, results }, &x)?))
}

/// nll and r of [x, W] from smaller ops.
fn with_gradient(x: &[Var], ids: &Ids) -> Result<Vec<Var>> {
    let nll = |x: &[Var]| Ok(vec![derived::linear_cross_entropy(&x[0], &x[1], ids)?]);
    let n = nll(x)?.swap_remove(0);
    let ones = n.value().full_like(n.value().shape(), 1.0)?;
    let r = vjp_of(nll, x, &[Some(Var::constant(ones))])?.swap_remove(0);
    Ok(vec![n, r])
}

/// Inputs x, W, dn, B, and the cache lse; results dx2, dW2, ddn.
struct BwdBwd(Ids);

const BWD_BWD: &str = "linear_cross_entropy_bwd_bwd";

impl Op<Tensor> for BwdBwd {
    fn name(&self) -> &'static str {
        BWD_BWD
    }

    fn cost(&self) -> Cost {
        Cost::Costly
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let ids = &self.0;
        let [t, d, v] = check(BWD_BWD, x[0], x[1], ids)?;
        if let Some(cuda) = cuda::of(BWD_BWD, x.iter().copied())? {
            return cuda.linear_cross_entropy_bwd_bwd(x, ids);
        }
        Ok(for_float!(BWD_BWD, x[0].dtype(), T => {
            let [x, w, dn, b, lse] = [0, 1, 2, 3, 4].map(|i| x[i].data::<T>());
            let (mut dx2, mut dw2) = (Buffer::<T>::zeros(t * d), Buffer::<T>::zeros(v * d));
            let mut ddn = Buffer::<T>::zeros(t);
            for rows in cuts(t, ROWS) {
                let n = rows.len();
                let (x, dn, lse) = (rows_of(x, &rows, d), &dn[rows.clone()], &lse[rows.clone()]);
                // p and Z
                let tile = |cols: &Range<usize>| {
                    let mut p = scores(x, rows_of(w, cols, d), d);
                    exponentials(&mut p, cols.len(), lse);
                    (p, scores(x, rows_of(b, cols, d), d))
                };
                let mut alpha = vec![T::ZERO; n];
                let mut part = Buffer::<T>::scratch(n);
                let ddn = &mut ddn[rows.clone()];
                for cols in cuts(v, COLS) {
                    let (c, (p, z)) = (cols.len(), tile(&cols));
                    each_row(&mut part, 1, |i, sum| {
                        sum[0] = par::dot(&p[i * c..][..c], &z[i * c..][..c])
                    });
                    alpha.iter_mut().zip(part.iter()).for_each(|(a, part)| *a += *part);
                    at_targets(ids, &rows, &cols, |i, at| ddn[i] = -z[at]);
                }
                ddn.iter_mut().zip(&alpha).for_each(|(ddn, alpha)| *ddn += *alpha);
                for cols in cuts(v, COLS) {
                    let (c, (mut p, mut z)) = (cols.len(), tile(&cols));
                    // dn q in place of p, dz2 in place of Z
                    each_row(&mut p, c, |i, p| p.iter_mut().for_each(|p| *p *= dn[i]));
                    each_row(&mut z, c, |i, z| {
                        for (z, p) in z.iter_mut().zip(&p[i * c..][..c]) {
                            *z = *p * (*z - alpha[i]);
                        }
                    });
                    at_targets(ids, &rows, &cols, |i, at| p[at] -= dn[i]);
                    let (p, z) = (mat(&p, n, c), mat(&z, n, c));
                    let dx2 = &mut dx2[rows.start * d..rows.end * d];
                    gemm(dx2, Into::Add, T::ONE, z, mat(rows_of(w, &cols, d), c, d));
                    gemm(dx2, Into::Add, T::ONE, p, mat(rows_of(b, &cols, d), c, d));
                    let dw2 = &mut dw2[cols.start * d..cols.end * d];
                    gemm(dw2, Into::Add, T::ONE, z.transpose(), mat(x, n, d));
                }
            }
            vec![
                Tensor::from_buffer(&[t, d], dx2),
                Tensor::from_buffer(&[v, d], dw2),
                Tensor::from_buffer(&[t], ddn),
            ]
        }))
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let ids = self.0.clone();
        let meaning = move |x: &[Var]| {
            let bwd = |x: &[Var]| {
                let nll = |x: &[Var]| Ok(vec![with_gradient(x, &ids)?.swap_remove(0)]);
                Ok(vec![
                    vjp_of(nll, &x[..2], &[Some(x[2].clone())])?.swap_remove(1),
                ])
            };
            vjp_of(bwd, &x[..3], &[Some(x[3].clone())])
        };
        vjp_of_meaning(meaning, 4, at, ct)
    }
}
