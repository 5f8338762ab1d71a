//! Threads and vector instructions for loops. Work is cut into pieces of a fixed size, so results do not
//! depend on the number of threads; `rayon`'s current pool decides how many there are.

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::dtype::{Element, Float};

/// Elements per piece of work.
const PIECE: usize = 1 << 14;
/// Below this many elements a loop is over before a second thread wakes up.
const WORTH_SHARING: usize = 1 << 17;

/// Runs `f` compiled for the best instruction set of this machine.
#[inline(always)]
pub(crate) fn simd<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// True if `work` elements should be spread over threads.
pub(crate) fn worth_sharing(work: usize) -> bool {
    work >= WORTH_SHARING && rayon::current_num_threads() > 1
}

/// `out[i] = f(x[i])`.
pub(crate) fn map1<T: Float>(out: &mut [T], x: &[T], f: impl Fn(T) -> T + Sync) {
    pieces(out, 1, 1, |start, out| {
        let x = &x[start..start + out.len()];
        simd(
            #[inline(always)]
            || {
                for (o, x) in out.iter_mut().zip(x) {
                    *o = f(*x);
                }
            },
        );
    });
}

/// `out[i] = f(a[i], b[i])`.
pub(crate) fn map2<T: Float>(out: &mut [T], a: &[T], b: &[T], f: impl Fn(T, T) -> T + Sync) {
    pieces(out, 1, 1, |start, out| {
        let (a, b) = (&a[start..start + out.len()], &b[start..start + out.len()]);
        simd(
            #[inline(always)]
            || {
                for ((o, a), b) in out.iter_mut().zip(a).zip(b) {
                    *o = f(*a, *b);
                }
            },
        );
    });
}

/// `f(&mut out[i], x[i])`.
pub(crate) fn update<T: Float>(out: &mut [T], x: &[T], f: impl Fn(&mut T, T) + Sync) {
    pieces(out, 1, 1, |start, out| {
        let x = &x[start..start + out.len()];
        simd(
            #[inline(always)]
            || {
                for (o, x) in out.iter_mut().zip(x) {
                    f(o, *x);
                }
            },
        );
    });
}

/// Calls `f(first row, rows)` on runs of whole rows of `out`; `cost` is the work per element in units of one simple
/// operation.
pub(crate) fn pieces<T: Element>(
    out: &mut [T],
    row: usize,
    cost: usize,
    f: impl Fn(usize, &mut [T]) + Sync,
) {
    if out.is_empty() {
        return;
    }
    if !worth_sharing(out.len() * cost) {
        return f(0, out);
    }
    let rows = (PIECE / cost / row).max(1);
    out.par_chunks_mut(rows * row)
        .enumerate()
        .for_each(|(i, piece)| f(i * rows, piece));
}

/// `out[..][i] = f(x[..][i])`: N inputs, M outputs, one pass over memory.
pub(crate) fn elementwise<T: Float, const N: usize, const M: usize>(
    x: [&[T]; N],
    out: [&mut [T]; M],
    f: impl Fn([T; N]) -> [T; M] + Sync,
) {
    const LANES: usize = 16;
    pieces_of(out, |start, out| {
        let len = out[0].len();
        let x = x.map(|x| x[start..start + len].as_chunks::<LANES>());
        let mut out = out.map(|o| o.as_chunks_mut::<LANES>());
        simd(
            #[inline(always)]
            || {
                // whole vectors, then what is left as one vector padded with zeros; plain loops over the arrays, because
                // closures given to array methods are not compiled for the instruction set chosen here
                for c in 0..len.div_ceil(LANES) {
                    let whole = c < len / LANES;
                    let mut xs = [[T::ZERO; LANES]; N];
                    for (to, (vectors, tail)) in xs.iter_mut().zip(&x) {
                        match whole {
                            true => *to = vectors[c],
                            false => to[..tail.len()].copy_from_slice(tail),
                        }
                    }
                    let mut ys = [[T::ZERO; LANES]; M];
                    for lane in 0..LANES {
                        let mut values = [T::ZERO; N];
                        for (value, x) in values.iter_mut().zip(&xs) {
                            *value = x[lane];
                        }
                        let values = f(values);
                        for (y, value) in ys.iter_mut().zip(&values) {
                            y[lane] = *value;
                        }
                    }
                    for ((vectors, tail), y) in out.iter_mut().zip(&ys) {
                        match whole {
                            true => vectors[c] = *y,
                            false => tail.copy_from_slice(&y[..tail.len()]),
                        }
                    }
                }
            },
        );
    });
}

/// [`pieces`] of several outputs of one length at once.
pub(crate) fn pieces_of<T: Element, const M: usize>(
    out: [&mut [T]; M],
    f: impl Fn(usize, [&mut [T]; M]) + Sync,
) {
    let len = out[0].len();
    if !worth_sharing(len) {
        return f(0, out);
    }
    split(out, PIECE)
        .into_par_iter()
        .enumerate()
        .for_each(|(i, piece)| f(i * PIECE, piece));
}

/// Outputs of one length cut into pieces of `size`.
fn split<T, const M: usize>(mut out: [&mut [T]; M], size: usize) -> Vec<[&mut [T]; M]> {
    let mut pieces = vec![];
    while !out[0].is_empty() {
        let at = size.min(out[0].len());
        let cut = out.map(|o| o.split_at_mut(at));
        let mut rest = vec![];
        let mut first = vec![];
        for (a, b) in cut {
            first.push(a);
            rest.push(b);
        }
        let array = |v: Vec<_>| v.try_into().ok().expect("M parts");
        pieces.push(array(first));
        out = array(rest);
    }
    pieces
}

/// Runs of rows of size `d` of several outputs, and a vector `[d]` summed over all rows: `f(first row, rows, partial sum)` is
/// called for each run with a partial sum that starts at zero; partial sums are added in order.
pub(crate) fn rows_and_sum<T: Float, const M: usize>(
    out: [&mut [T]; M],
    d: usize,
    f: impl Fn(usize, [&mut [T]; M], &mut [T]) + Sync,
) -> Buffer<T> {
    let rows_per_piece = (PIECE / d).max(1);
    let share = worth_sharing(out[0].len());
    let piece = |(i, rows): (usize, [&mut [T]; M])| {
        let mut partial = Buffer::zeros(d);
        simd(
            #[inline(always)]
            || f(i * rows_per_piece, rows, &mut partial),
        );
        partial
    };
    let pieces = split(out, rows_per_piece * d);
    let partials: Vec<Buffer<T>> = match share {
        true => pieces.into_par_iter().enumerate().map(piece).collect(),
        false => pieces.into_iter().enumerate().map(piece).collect(),
    };
    let mut partials = partials.into_iter();
    let mut total = partials.next().unwrap_or_else(|| Buffer::zeros(d));
    for partial in partials {
        for (t, p) in total.iter_mut().zip(partial.iter()) {
            *t += *p;
        }
    }
    total
}

/// <a, b> in f64: [`sum`] over pairs.
pub(crate) fn dot_f64<T: Float>(a: &[T], b: &[T]) -> f64 {
    let piece = |(a, b): (&[T], &[T])| {
        simd(
            #[inline(always)]
            || {
                let mut lanes = [0.0f64; 16];
                let (a16, a_tail) = a.as_chunks::<16>();
                let (b16, b_tail) = b.as_chunks::<16>();
                for (a, b) in a16.iter().zip(b16) {
                    for i in 0..16 {
                        lanes[i] += a[i].to_f64() * b[i].to_f64();
                    }
                }
                for ((l, a), b) in lanes.iter_mut().zip(a_tail).zip(b_tail) {
                    *l += a.to_f64() * b.to_f64();
                }
                lanes.iter().sum::<f64>()
            },
        )
    };
    a.chunks(PIECE).zip(b.chunks(PIECE)).map(piece).sum()
}

/// Sum of `f(x[i])` in f64: sixteen interleaved partial sums per piece, pieces added in order.
pub(crate) fn sum<T: Float>(x: &[T], f: impl Fn(T) -> f64 + Sync) -> f64 {
    let piece = |x: &[T]| {
        simd(
            #[inline(always)]
            || {
                let mut lanes = [0.0f64; 16];
                let (head, tail) = x.as_chunks::<16>();
                for chunk in head {
                    for (l, x) in lanes.iter_mut().zip(chunk) {
                        *l += f(*x);
                    }
                }
                for (l, x) in lanes.iter_mut().zip(tail) {
                    *l += f(*x);
                }
                lanes.iter().sum::<f64>()
            },
        )
    };
    if worth_sharing(x.len()) {
        let parts: Vec<f64> = x.par_chunks(PIECE).map(piece).collect();
        parts.iter().sum()
    } else {
        x.chunks(PIECE).map(piece).sum()
    }
}

/// Dot product of two rows in their own precision: sixteen interleaved partial sums, each product and sum rounded once. To be
/// called within [`simd`]: elsewhere every `mul_add` is a call.
#[inline(always)]
pub(crate) fn dot<T: Float>(a: &[T], b: &[T]) -> T {
    let mut lanes = [T::ZERO; 16];
    let (a16, a_tail) = a.as_chunks::<16>();
    let (b16, b_tail) = b.as_chunks::<16>();
    for (a, b) in a16.iter().zip(b16) {
        for i in 0..16 {
            lanes[i] = a[i].mul_add(b[i], lanes[i]);
        }
    }
    for ((l, a), b) in lanes.iter_mut().zip(a_tail).zip(b_tail) {
        *l = a.mul_add(*b, *l);
    }
    fold(lanes)
}

/// Sum of a row in its own precision: sixteen interleaved partial sums.
#[inline(always)]
pub(crate) fn row_sum<T: Float>(a: &[T]) -> T {
    let mut lanes = [T::ZERO; 16];
    let (head, tail) = a.as_chunks::<16>();
    for a in head {
        for i in 0..16 {
            lanes[i] += a[i];
        }
    }
    for (l, a) in lanes.iter_mut().zip(tail) {
        *l += *a;
    }
    fold(lanes)
}

/// The row becomes e^(x - shift); the sum of that. The tail is filled up to sixteen too: a single exponential costs about as
/// much as sixteen.
#[inline(always)]
pub(crate) fn exp_and_sum<T: Float>(row: &mut [T], shift: T) -> T {
    let mut lanes = [T::ZERO; 16];
    let (head, tail) = row.as_chunks_mut::<16>();
    for x in head {
        for i in 0..16 {
            x[i] = Float::exp(x[i] - shift);
            lanes[i] += x[i];
        }
    }
    if !tail.is_empty() {
        let mut x = [T::NEG_INFINITY; 16];
        x[..tail.len()].copy_from_slice(tail);
        for i in 0..16 {
            x[i] = Float::exp(x[i] - shift);
            lanes[i] += x[i];
        }
        tail.copy_from_slice(&x[..tail.len()]);
    }
    fold(lanes)
}

/// Largest element of a row.
#[inline(always)]
pub(crate) fn row_max<T: Float>(a: &[T]) -> T {
    let max = |a: T, b: T| if b > a { b } else { a };
    let mut lanes = [T::NEG_INFINITY; 16];
    let (head, tail) = a.as_chunks::<16>();
    for a in head {
        for i in 0..16 {
            lanes[i] = max(lanes[i], a[i]);
        }
    }
    let mut m = lanes.into_iter().fold(T::NEG_INFINITY, max);
    for a in tail {
        m = max(m, *a);
    }
    m
}

#[inline(always)]
fn fold<T: Float>(mut lanes: [T; 16]) -> T {
    let mut width = 8;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}
