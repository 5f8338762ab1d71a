//! The SwiGLU MLP y = (silu(x G') * (x U')) D' to second order; x [t, d], G and U [ff, d], D [d, ff].
//!
//! With sigma = 1/(1+e^-g), s = g sigma, elementwise:
//!
//! ```text
//! s'  = sigma (1 + g (1 - sigma))        s'' = sigma (1 - sigma) (2 + g (1 - 2 sigma))
//!
//! g   = x G'          u  = x U'          h  = s u          y  = h D'                   3 products
//!
//! cotangents dy of y, eg of g, eu of u:                                                (bwd)
//! dh  = dy D          dg = dh u s' + eg  du = dh s + eu                                1
//! dx  = dg G + du U                                                                    2
//! dG  = dg' x         dU = du' x         dD = dy' h                                    3
//!
//! cotangents ddx, ddG, ddU, ddD of these, with eg = eu = 0:                            (bwd_bwd)
//! ddg = ddx G' + x ddG'                  ddu = ddx U' + x ddU'                         4
//! h2  = dy ddD                           ddh = ddg u s' + ddu s                        1
//! dx2 = dg ddG + du ddU                  dG2 = dg' ddx        dU2 = du' ddx            4
//! ddy = ddh D' + h ddD'                  dD2 = dy' ddh                                 3
//! dg2 = ddg dh u s'' + (ddu dh + h2 u) s'
//! du2 = ddg dh s' + h2 s
//! ```
//!
//! g and u are outputs of the forward op in their own right, and independent inputs of the backward op. The double backward
//! therefore hands dg2 and du2 to the forward op, where they meet the outer cotangent of y as eg and eu: the products with
//! G, U and x are done once for both. An MLP with fast weights takes 3 + 6 + 12 + 6 = 27 products of one size through forward,
//! inner backward, double backward and outer backward; a static one, of which the inner loop needs dx alone, 3 + 3 + 6 + 6 = 18.
//!
//! dh is a cache: no cotangent goes to it. h, dg, du and the double backward's inner values are made tile by tile and not
//! kept, unless there are so few rows that a weight gradient waits for others to be summed with it.

use std::ops::Range;

use autograd::{At, Cost, Op, apply};

use super::{Present, read, vjp_of, vjp_of_meaning};
use crate::buffer::Buffer;
use crate::dtype::{Float, for_float};
use crate::error::{Error, Result};
use crate::gemm::{Into, Mat, gemm, mat};
use crate::primitives::{Transpose, add, matmul};
use crate::products::{Products, THIN};
use crate::{Tensor, Var, cuda, derived, par};

/// Rows per tile. A product of fewer rows runs slower, because it packs a whole weight for them; with more, a tile of a wide
/// MLP leaves the cache.
const ROWS: usize = 256;

/// Tiles of rows: all rows at once if they are so few that weight gradients wait as pairs of factors.
fn tiles(t: usize) -> impl Iterator<Item = Range<usize>> {
    let rows = if t <= THIN { t.max(1) } else { ROWS };
    (0..t)
        .step_by(rows)
        .map(move |start| start..t.min(start + rows))
}

/// Rows and widths [t, d, ff] of x, G, U, D.
fn check(op: &'static str, x: &[&Tensor]) -> Result<[usize; 3]> {
    let misfit = || {
        let message = format!(
            "x {:?}, gate {:?}, up {:?} and down {:?} are not [t, d], [ff, d], [ff, d] and [d, ff] of one dtype",
            x[0], x[1], x[2], x[3]
        );
        Error::shape(op, message)
    };
    let (&[t, d], &[ff, _]) = (x[0].shape(), x[1].shape()) else {
        return Err(misfit());
    };
    let weights = [[ff, d], [ff, d], [d, ff]];
    let fit = x[1..4].iter().zip(&weights).all(|(w, s)| w.shape() == s);
    match fit && d > 0 && ff > 0 && x[1..4].iter().all(|w| w.dtype() == x[0].dtype()) {
        true => Ok([t, d, ff]),
        false => Err(misfit()),
    }
}

/// (s, s', s'') at g.
#[inline(always)]
fn silu<T: Float>(g: T) -> (T, T, T) {
    let sigma = T::ONE / (T::ONE + Float::exp(-g));
    let rest = T::ONE - sigma;
    let first = sigma * (T::ONE + g * rest);
    let second = sigma * rest * (T::ONE + T::ONE + g * (rest - sigma));
    (g * sigma, first, second)
}

/// A tensor of rank 2 with its elements at hand.
#[derive(Clone, Copy)]
struct Matrix<'a, T> {
    tensor: &'a Tensor,
    data: &'a [T],
    cols: usize,
}

impl<'a, T: Float> Matrix<'a, T> {
    fn of(tensor: &'a Tensor) -> Self {
        let (data, cols) = (tensor.data(), tensor.shape()[1]);
        Matrix { tensor, data, cols }
    }

    fn all(&self) -> Mat<'a, T> {
        mat(self.data, self.data.len() / self.cols, self.cols)
    }

    fn transposed(&self) -> Mat<'a, T> {
        self.all().transpose()
    }

    fn slice(&self, rows: &Range<usize>) -> &'a [T] {
        &self.data[rows.start * self.cols..rows.end * self.cols]
    }

    fn rows(&self, rows: &Range<usize>) -> Mat<'a, T> {
        mat(self.slice(rows), rows.len(), self.cols)
    }
}

fn rows_mut<'a, T>(x: &'a mut [T], rows: &Range<usize>, cols: usize) -> &'a mut [T] {
    &mut x[rows.start * cols..rows.end * cols]
}

/// c = a b + a2 b2 of the products that are there; zero without any.
fn sum_of_products<'a, T: Float>(
    c: &mut [T],
    products: impl IntoIterator<Item = Option<(Mat<'a, T>, Mat<'a, T>)>>,
) {
    let mut into = Into::Replace;
    for (a, b) in products.into_iter().flatten() {
        gemm(c, into, T::ONE, a, b);
        into = Into::Add;
    }
    if into == Into::Replace {
        c.fill(T::ZERO);
    }
}

/// The gradient of a weight [m, n]: sum over tiles of a'b.
struct WeightGradient {
    shape: [usize; 2],
    sum: Option<Tensor>,
    /// There is one tile, and thin enough to wait.
    waits: bool,
}

impl WeightGradient {
    fn new(shape: [usize; 2], t: usize) -> Self {
        WeightGradient {
            shape,
            sum: None,
            waits: t <= THIN,
        }
    }

    fn add<T: Float>(&mut self, a: &Tensor, b: &Tensor) {
        let [m, n] = self.shape;
        let rows = a.shape()[0];
        let product = |out: &mut [T], into| {
            let (a, b) = (mat(a.data(), rows, m), mat(b.data(), rows, n));
            gemm(out, into, T::ONE, a.transpose(), b);
        };
        match &mut self.sum {
            Some(sum) => {
                let sum = sum.make_mut();
                product(sum.expect("a sum of this dtype"), Into::Add);
            }
            none => {
                let waiting = if self.waits { Products::of(a, b) } else { None };
                let now = || Tensor::build(&self.shape, |out| product(out, Into::Replace));
                *none = Some(waiting.unwrap_or_else(now));
            }
        }
    }

    fn finish(self, x: &Tensor) -> Tensor {
        let zeros = || Tensor::zeros(&self.shape, x.dtype());
        self.sum.unwrap_or_else(zeros)
    }
}

pub(super) struct SwigluMlp;

impl Op<Tensor> for SwigluMlp {
    fn name(&self) -> &'static str {
        "swiglu_mlp"
    }

    fn cost(&self) -> Cost {
        Cost::Costly
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let [t, d, ff] = check("swiglu_mlp", x)?;
        if let Some(cuda) = cuda::of(self.name(), x.iter().copied())? {
            return cuda.swiglu_mlp(x);
        }
        Ok(for_float!("swiglu_mlp", x[0].dtype(), T => {
            let [x, gate, up, down] = [0, 1, 2, 3].map(|i| Matrix::<T>::of(x[i]));
            let (mut y, mut g, mut u) = (Buffer::scratch(t * d), Buffer::scratch(t * ff), Buffer::scratch(t * ff));
            for rows in tiles(t) {
                let g = rows_mut(&mut g, &rows, ff);
                let u = rows_mut(&mut u, &rows, ff);
                gemm(g, Into::Replace, T::ONE, x.rows(&rows), gate.transposed());
                gemm(u, Into::Replace, T::ONE, x.rows(&rows), up.transposed());
                let mut h = Buffer::scratch(rows.len() * ff);
                par::elementwise([&*g, &*u], [&mut h], |[g, u]| [silu(g).0 * u]);
                let h = mat(&h, rows.len(), ff);
                gemm(rows_mut(&mut y, &rows, d), Into::Replace, T::ONE, h, down.transposed());
            }
            vec![
                Tensor::from_buffer(&[t, d], y),
                Tensor::from_buffer(&[t, ff], g),
                Tensor::from_buffer(&[t, ff], u),
            ]
        }))
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let x: Vec<&Var> = at.x.iter().chain(&at.y[1..]).collect();
        let ct = [&ct[0], &ct[1], &ct[2]];
        let needs = [0, 1, 2, 3].map(|i| at.needs[i]);
        Ok(swiglu_mlp_bwd(&x, ct, needs)?.to_vec())
    }
}

/// down(silu(gate x) * (up x)): y [t, d] = (silu(x gate') * (x up')) down' for x [t, d], gate and up [ff, d] and down [d, ff].
///
/// Its gradients are fused to second order, and weight gradients of few rows wait to be summed with others. Matrices may be f32 where x is
/// bf16.
///
/// Errors: shapes that do not fit, a width of zero, dtypes that differ.
///
/// ```
/// use ops::{Tensor, Var, swiglu_mlp};
/// let x = Var::constant(Tensor::from_vec(&[1, 1], vec![2f64])?);
/// let one = Var::constant(Tensor::from_vec(&[1, 1], vec![1f64])?);
/// let y = swiglu_mlp(&x, &one, &one, &one)?.value().item()?;
/// assert!((y - 4.0 / (1.0 + (-2f64).exp())).abs() < 1e-15);
/// # Ok::<(), ops::Error>(())
/// ```
pub fn swiglu_mlp(x: &Var, gate: &Var, up: &Var, down: &Var) -> Result<Var> {
    let [gate, up, down] = [gate, up, down].map(|w| read(w, x));
    Ok(apply(SwigluMlp, &[x, &gate?, &up?, &down?])?.swap_remove(0))
}

/// Inputs x, G, U, D, g, u, then those of dy, eg, eu that are there. Results: those of dx, dG, dU, dD that are there, then dh
/// if dy is.
pub(super) struct SwigluMlpBwd {
    pub(super) ct: Present<3>,
    pub(super) results: Present<4>,
}

const BWD: &str = "swiglu_mlp_bwd";

impl Op<Tensor> for SwigluMlpBwd {
    fn name(&self) -> &'static str {
        BWD
    }

    fn cost(&self) -> Cost {
        Cost::Costly
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let [t, d, ff] = check(BWD, x)?;
        let results = self.results.0;
        if let Some(cuda) = cuda::of(BWD, x.iter().copied())? {
            return cuda.swiglu_mlp_bwd(&x[..6], self.ct.spread(&x[6..]), results);
        }
        Ok(for_float!(BWD, x[0].dtype(), T => {
            let [x_, gate, up, down, g, u] = [0, 1, 2, 3, 4, 5].map(|i| Matrix::<T>::of(x[i]));
            let [dy, eg, eu] = self.ct.spread(&x[6..]).map(|c| c.map(Matrix::<T>::of));
            let mut dh = dy.map(|_| Buffer::<T>::scratch(t * ff));
            let mut dx = results[0].then(|| Buffer::<T>::scratch(t * d));
            let mut weights = [[ff, d], [ff, d], [d, ff]].map(|shape| WeightGradient::new(shape, t));
            for rows in tiles(t) {
                let n = rows.len();
                let tile = || Buffer::<T>::scratch(n * ff);
                let (mut dg, mut du, mut h) = (tile(), tile(), None);
                match (&dy, &mut dh) {
                    (Some(dy), Some(dh)) => {
                        let dh = rows_mut(dh, &rows, ff);
                        gemm(dh, Into::Replace, T::ONE, dy.rows(&rows), down.all());
                        let x = [g.slice(&rows), u.slice(&rows), &*dh];
                        if results[3] {
                            let h = h.insert(tile());
                            par::elementwise(x, [&mut dg, &mut du, h], |[g, u, dh]| {
                                let (s, s1, _) = silu(g);
                                [dh * u * s1, dh * s, s * u]
                            });
                        } else {
                            par::elementwise(x, [&mut dg, &mut du], |[g, u, dh]| {
                                let (s, s1, _) = silu(g);
                                [dh * u * s1, dh * s]
                            });
                        }
                    }
                    _ => {
                        dg.fill(T::ZERO);
                        du.fill(T::ZERO);
                    }
                }
                for (sum, e) in [(&mut dg, &eg), (&mut du, &eu)] {
                    if let Some(e) = e {
                        par::update(sum, e.slice(&rows), |sum, e| *sum += e);
                    }
                }
                if let Some(dx) = &mut dx {
                    let products = [(&dg, &gate), (&du, &up)].map(|(a, w)| Some((mat(a, n, ff), w.all())));
                    sum_of_products(rows_mut(dx, &rows, d), products);
                }
                let x = x_.tensor.rows(rows.start, rows.end)?;
                for (i, da) in [(0, dg), (1, du)] {
                    if results[1 + i] {
                        weights[i].add::<T>(&Tensor::from_buffer(&[n, ff], da), &x);
                    }
                }
                if let (Some(h), Some(dy)) = (h, &dy) {
                    let dy = dy.tensor.rows(rows.start, rows.end)?;
                    weights[2].add::<T>(&dy, &Tensor::from_buffer(&[n, ff], h));
                }
            }
            let dx = dx.map(|dx| Tensor::from_buffer(&[t, d], dx));
            let dw = weights.into_iter().zip(&results[1..]).filter(|w| *w.1);
            let dw = dw.map(|(w, _)| w.finish(x[0]));
            let dh = dh.map(|dh| Tensor::from_buffer(&[t, ff], dh));
            dx.into_iter().chain(dw).chain(dh).collect()
        }))
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let (there, results) = (self.ct, self.results);
        let count = results.count();
        let dd = results.spread(ct).map(Option::flatten);
        if let ([true, false, false], Some(dh)) = (there.0, at.y.get(count)) {
            let x: Vec<&Var> = at.x.iter().collect();
            let needs = [0, 1, 2, 3, 4, 5, 6].map(|i| at.needs[i]);
            return Ok(swiglu_mlp_bwd_bwd(&x, dd.each_ref(), &dh.detach(), needs)?.to_vec());
        }
        // eg and eu come in with the second derivative, so this is the third
        let meaning = move |x: &[Var]| {
            let d = bwd_meaning(&x[..6], there.spread(&x[6..]))?;
            Ok(results.select(d))
        };
        let dd: Vec<Option<Var>> = ct[..count].to_vec();
        vjp_of_meaning(meaning, at.x.len(), at, &dd)
    }
}

/// Those of [dx, dG, dU, dD] that are needed and not zero, for x = [x, G, U, D, g, u] and cotangents of y, g and u.
fn swiglu_mlp_bwd(x: &[&Var], ct: [&Option<Var>; 3], needs: [bool; 4]) -> Result<[Option<Var>; 4]> {
    let [dy, eg, eu] = ct.map(Option::is_some);
    let there = [dy || eg || eu, dy || eg, dy || eu, dy];
    let results = Present([0, 1, 2, 3].map(|i| needs[i] && there[i]));
    if results.count() == 0 {
        return Ok([const { None }; 4]);
    }
    let (ct, x) = Present::inputs(x, ct);
    Ok(results.spread(&apply(SwigluMlpBwd { ct, results }, &x)?))
}

/// dx, dG, dU, dD of independent [x, G, U, D, g, u] from smaller ops.
fn bwd_meaning(x: &[Var], ct: [Option<Var>; 3]) -> Result<Vec<Var>> {
    let [dy, eg, eu] = ct;
    let y = |x: &[Var]| {
        let h = derived::swiglu(&x[0], &x[1])?;
        Ok(vec![matmul(&h, &x[2], Transpose::B)?])
    };
    let [dg, du, dd] = parts(vjp_of(
        y,
        &[x[4].clone(), x[5].clone(), x[3].clone()],
        &[dy],
    )?);
    let plus = |sum: Var, e: Option<Var>| e.map_or(Ok(sum.clone()), |e| add(&sum, &e));
    let ct = [Some(plus(dg, eg)?), Some(plus(du, eu)?)];
    let g_and_u = |x: &[Var]| {
        Ok(vec![
            matmul(&x[0], &x[1], Transpose::B)?,
            matmul(&x[0], &x[2], Transpose::B)?,
        ])
    };
    let [dx, dgate, dup] = parts(vjp_of(g_and_u, &x[..3], &ct)?);
    Ok(vec![dx, dgate, dup, dd])
}

fn parts<const N: usize>(x: Vec<Var>) -> [Var; N] {
    x.try_into().expect("a cotangent for each input")
}

/// Inputs x, G, U, D, g, u, dy, then those of ddx, ddG, ddU, ddD that are there, then the cache dh. Results: those of dx2, dG2,
/// dU2, dD2, dg2, du2, ddy that are there.
struct SwigluMlpBwdBwd {
    ct: Present<4>,
    results: Present<7>,
}

const BWD_BWD: &str = "swiglu_mlp_bwd_bwd";

impl Op<Tensor> for SwigluMlpBwdBwd {
    fn name(&self) -> &'static str {
        BWD_BWD
    }

    fn cost(&self) -> Cost {
        Cost::Costly
    }

    fn eval(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let [t, d, ff] = check(BWD_BWD, x)?;
        let results = self.results.0;
        if let Some(cuda) = cuda::of(BWD_BWD, x.iter().copied())? {
            let (ct, dh) = (self.ct.spread(&x[7..]), x[x.len() - 1]);
            return cuda.swiglu_mlp_bwd_bwd(&x[..7], ct, dh, results);
        }
        Ok(for_float!(BWD_BWD, x[0].dtype(), T => {
            let [x_, gate, up, down, g, u, dy] = [0, 1, 2, 3, 4, 5, 6].map(|i| Matrix::<T>::of(x[i]));
            let [ddx, ddgate, ddup, dddown] = self.ct.spread(&x[7..]).map(|c| c.map(Matrix::<T>::of));
            let dh = Matrix::<T>::of(x[x.len() - 1]);
            let mut dx2 = results[0].then(|| Buffer::<T>::scratch(t * d));
            let mut ddy = results[6].then(|| Buffer::<T>::scratch(t * d));
            let (mut dg2, mut du2) = (Buffer::scratch(t * ff), Buffer::scratch(t * ff));
            let mut weights = [[ff, d], [ff, d], [d, ff]].map(|shape| WeightGradient::new(shape, t));
            for rows in tiles(t) {
                let n = rows.len();
                let tile = || Buffer::<T>::scratch(n * ff);
                // ddg, ddu
                let inner = |w: Matrix<T>, ddw: Option<Matrix<T>>| {
                    let mut out = tile();
                    let products = [
                        ddx.map(|ddx| (ddx.rows(&rows), w.transposed())),
                        ddw.map(|ddw| (x_.rows(&rows), ddw.transposed())),
                    ];
                    sum_of_products(&mut out, products);
                    out
                };
                let (ddg, ddu) = (inner(gate, ddgate), inner(up, ddup));
                // everything elementwise
                let dg2 = rows_mut(&mut dg2, &rows, ff);
                let du2 = rows_mut(&mut du2, &rows, ff);
                let (mut dg, mut du, mut ddh, mut h) = (tile(), tile(), tile(), None);
                let given = [g.slice(&rows), u.slice(&rows), dh.slice(&rows), &ddg, &ddu];
                match dddown {
                    Some(dddown) => {
                        let mut h2 = tile();
                        gemm(&mut h2, Into::Replace, T::ONE, dy.rows(&rows), dddown.all());
                        let [a, b, c, d, e] = given;
                        let out = [dg2, du2, &mut dg, &mut du, &mut ddh, h.insert(tile())];
                        par::elementwise([a, b, c, d, e, &h2], out, |[g, u, dh, ddg, ddu, h2]| {
                            let (s, s1, s2) = silu(g);
                            let (ddg_dh, h2_u) = (ddg * dh, h2 * u);
                            [
                                ddg_dh * u * s2 + (ddu * dh + h2_u) * s1,
                                ddg_dh * s1 + h2 * s,
                                dh * u * s1,
                                dh * s,
                                ddg * u * s1 + ddu * s,
                                s * u,
                            ]
                        });
                    }
                    None => {
                        let out = [dg2, du2, &mut dg, &mut du, &mut ddh];
                        par::elementwise(given, out, |[g, u, dh, ddg, ddu]| {
                            let (s, s1, s2) = silu(g);
                            let ddg_dh = ddg * dh;
                            [
                                ddg_dh * u * s2 + ddu * dh * s1,
                                ddg_dh * s1,
                                dh * u * s1,
                                dh * s,
                                ddg * u * s1 + ddu * s,
                            ]
                        });
                    }
                }
                drop((ddg, ddu));
                // dx2
                if let Some(dx2) = &mut dx2 {
                    let products = [(&dg, ddgate), (&du, ddup)].map(|(a, w)| Some((mat(a, n, ff), w?.all())));
                    sum_of_products(rows_mut(dx2, &rows, d), products);
                }
                // dG2, dU2
                if let Some(ddx) = ddx {
                    let ddx = ddx.tensor.rows(rows.start, rows.end)?;
                    for (i, da) in [(0, dg), (1, du)] {
                        if results[1 + i] {
                            weights[i].add::<T>(&Tensor::from_buffer(&[n, ff], da), &ddx);
                        }
                    }
                }
                // ddy
                if let Some(ddy) = &mut ddy {
                    let second = h.as_ref().zip(dddown);
                    let products = [
                        Some((mat(&ddh, n, ff), down.transposed())),
                        second.map(|(h, dddown)| (mat(h, n, ff), dddown.transposed())),
                    ];
                    sum_of_products(rows_mut(ddy, &rows, d), products);
                }
                // dD2
                if results[3] {
                    let dy = dy.tensor.rows(rows.start, rows.end)?;
                    weights[2].add::<T>(&dy, &Tensor::from_buffer(&[n, ff], ddh));
                }
            }
            let [dgate2, dup2, ddown2] = weights.map(|w| w.finish(x[0]));
            let matrix = |b: Buffer<T>, cols: usize| Tensor::from_buffer(&[t, cols], b);
            let all = [
                dx2.map(|b| matrix(b, d)),
                Some(dgate2),
                Some(dup2),
                Some(ddown2),
                Some(matrix(dg2, ff)),
                Some(matrix(du2, ff)),
                ddy.map(|b| matrix(b, d)),
            ];
            all.into_iter().zip(results).filter(|r| r.1).filter_map(|r| r.0).collect()
        }))
    }

    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let (there, results) = (self.ct, self.results);
        let meaning = move |x: &[Var]| {
            let bwd = |x: &[Var]| bwd_meaning(&x[..6], [Some(x[6].clone()), None, None]);
            let d = vjp_of(bwd, &x[..7], &there.spread(&x[7..]))?;
            Ok(results.select(d))
        };
        vjp_of_meaning(meaning, at.x.len() - 1, at, ct)
    }
}

/// Those of [dx2, dG2, dU2, dD2, dg2, du2, ddy] that are needed and not zero, for x = [x, G, U, D, g, u, dy] and cotangents of
/// [dx, dG, dU, dD].
fn swiglu_mlp_bwd_bwd(
    x: &[&Var],
    ct: [&Option<Var>; 4],
    dh: &Var,
    needs: [bool; 7],
) -> Result<[Option<Var>; 7]> {
    let [ddx, ddgate, ddup, dddown] = ct.map(Option::is_some);
    let to_g_or_u = ddx || ddgate || ddup;
    let any = to_g_or_u || dddown;
    let there = [ddgate || ddup, ddx, ddx, to_g_or_u, any, any, any];
    let results = Present([0, 1, 2, 3, 4, 5, 6].map(|i| needs[i] && there[i]));
    if results.count() == 0 {
        return Ok([const { None }; 7]);
    }
    let (ct, mut x) = Present::inputs(x, ct);
    x.push(dh);
    Ok(results.spread(&apply(SwigluMlpBwdBwd { ct, results }, &x)?))
}
