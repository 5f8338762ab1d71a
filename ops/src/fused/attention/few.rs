//! O = softmax(s Q K') V for a few queries, as writing has them: one pass over the keys as they lie in memory, a short run of them
//! at a time, of which all heads take their scores and values while it lies in a cache.
//!
//! Online softmax, as in the forward kernel for many queries: a head has its maximum mu, the sum l of e^(S - mu), and the sum of
//! e^(S - mu) V. Long runs of keys are cut into parts for threads; parts are put together in order, and the cut depends on the
//! shapes alone.

use std::ops::Range;

use rayon::prelude::*;

use super::Inputs;
use super::geometry::Geometry;
use crate::buffer::Buffer;
use crate::dtype::Float;
use crate::gemm::{Into, gemm_strided, mat};
use crate::{Tensor, par};

/// Most queries of one call: writing has one.
pub(super) const FEW: usize = 1;
/// Keys whose scores are kept at a time.
const KEYS: usize = 64;
/// Keys of a part.
const PART: usize = 256;

/// One query and the keys of a part: row of the query, source of the keys, their rows there.
type Job = (usize, usize, Range<usize>);

/// Of all n heads: the sum of e^(S - mu) V [n, h], mu [n], l [n].
struct Sums<T: Float> {
    o: Buffer<T>,
    mu: Buffer<T>,
    l: Buffer<T>,
}

/// [o [t, n, h], lse [t, n]].
pub(super) fn forward<T: Float>(g: &Geometry, x: &Inputs<T>) -> [Tensor; 2] {
    let mut jobs: Vec<Job> = vec![];
    for i in 0..g.t {
        for (source, keys) in g.in_sources(g.visible(i)).into_iter().enumerate() {
            jobs.extend(Geometry::blocks(keys, PART).map(|keys| (i, source, keys)));
        }
    }
    let keys: usize = jobs.iter().map(|(.., keys)| keys.len()).sum();
    let one = |(i, source, keys): &Job| Sums::of(g, x, *i, *source, keys.clone());
    let parts: Vec<Sums<T>> = match par::worth_sharing(keys * g.n * g.h) {
        true => jobs.par_iter().map(one).collect(),
        false => jobs.iter().map(one).collect(),
    };
    let mut rows: Vec<Option<Sums<T>>> = (0..g.t).map(|_| None).collect();
    for ((i, ..), part) in jobs.iter().zip(parts) {
        match &mut rows[*i] {
            None => rows[*i] = Some(part),
            Some(sums) => sums.add(&part, g.h),
        }
    }
    let (mut o, mut lse) = (Buffer::scratch(g.t * g.n * g.h), Buffer::scratch(g.t * g.n));
    let out = o.chunks_exact_mut(g.n * g.h).zip(lse.chunks_exact_mut(g.n));
    for (sums, (o, lse)) in rows.iter().zip(out) {
        let sums = sums.as_ref().expect("a query sees itself");
        for (head, lse) in lse.iter_mut().enumerate() {
            let (mu, l) = (sums.mu[head], sums.l[head]);
            let inverse = T::ONE / l;
            let heads = head * g.h..(head + 1) * g.h;
            for (o, sum) in o[heads.clone()].iter_mut().zip(&sums.o[heads]) {
                *o = *sum * inverse;
            }
            *lse = mu + Float::ln(l);
        }
    }
    [
        Tensor::from_buffer(&g.queries(), o),
        Tensor::from_buffer(&[g.t, g.n], lse),
    ]
}

impl<T: Float> Sums<T> {
    /// Of query i and some keys, at least one, all of which it sees.
    fn of(g: &Geometry, x: &Inputs<T>, i: usize, source: usize, keys: Range<usize>) -> Self {
        let (n, h, width) = (g.n, g.h, g.m * g.h);
        let q = &x.q[i * n * h..][..n * h];
        let (scale, group) = (g.scale::<T>(), g.group());
        let mut sums = Sums {
            o: Buffer::zeros(n * h),
            mu: Buffer::scratch(n),
            l: Buffer::zeros(n),
        };
        sums.mu.fill(T::NEG_INFINITY);
        let mut scores = Buffer::scratch(n * KEYS);
        for run in Geometry::blocks(keys, KEYS) {
            for (head, q) in q.chunks_exact(h).enumerate() {
                let k = g.key_rows(x.k[source], &run, head / group);
                let s = &mut scores[head * KEYS..][..run.len()];
                gemm_strided(
                    s,
                    run.len(),
                    Into::Replace,
                    scale,
                    mat(q, 1, h),
                    k.transpose(),
                );
            }
            let v = &x.v[source][run.start * width..run.end * width];
            par::simd(
                #[inline(always)]
                || {
                    for head in 0..n {
                        let row = &mut scores[head * KEYS..][..run.len()];
                        let (mu, l) = (&mut sums.mu[head], &mut sums.l[head]);
                        let max = par::row_max(row);
                        if *mu < max {
                            let shrink = Float::exp(*mu - max);
                            *l *= shrink;
                            sums.o[head * h..][..h]
                                .iter_mut()
                                .for_each(|o| *o *= shrink);
                            *mu = max;
                        }
                        *l += par::exp_and_sum(row, *mu);
                    }
                    for (j, v) in v.chunks_exact(width).enumerate() {
                        for (head, o) in sums.o.chunks_exact_mut(h).enumerate() {
                            let (p, v) = (scores[head * KEYS + j], &v[head / group * h..][..h]);
                            for (o, v) in o.iter_mut().zip(v) {
                                *o = p.mul_add(*v, *o);
                            }
                        }
                    }
                },
            );
        }
        sums
    }

    /// Takes in those of more keys of the same query.
    fn add(&mut self, other: &Self, h: usize) {
        for head in 0..self.mu.len() {
            let max = match self.mu[head] < other.mu[head] {
                true => other.mu[head],
                false => self.mu[head],
            };
            let [a, b] = [self.mu[head], other.mu[head]].map(|mu| Float::exp(mu - max));
            self.mu[head] = max;
            self.l[head] = self.l[head] * a + other.l[head] * b;
            let heads = head * h..(head + 1) * h;
            for (x, y) in self.o[heads.clone()].iter_mut().zip(&other.o[heads]) {
                *x = *x * a + *y * b;
            }
        }
    }
}
