//! Attention in a window, forward and backward.

use half::bf16;

use crate::{Corpus, EPSILON, EPSILON_BF16, close, doubles, random};

const D: usize = 32;
const LENGTH: usize = 75;
const WINDOW: usize = 20;

/// Inputs, and what attention and its gradients are in f64.
struct Problem {
    scale: f32,
    inputs: [Vec<bf16>; 4],
    out: Vec<f64>,
    lse: Vec<f64>,
    delta: Vec<f64>,
    /// Weights and the gradient of the scores times `scale`, [LENGTH, LENGTH].
    p: Vec<f64>,
    ds: Vec<f64>,
}

impl Problem {
    fn new() -> Self {
        let inputs = [1, 2, 3, 4].map(|seed| random(seed, LENGTH * D, bf16::from_f32));
        let [q, k, v, g] = inputs.each_ref().map(|x| doubles(x));
        let scale = 1.0 / (D as f32).sqrt();
        let dot = |a: &[f64], i: usize, b: &[f64], j: usize| -> f64 {
            (0..D).map(|d| a[i * D + d] * b[j * D + d]).sum()
        };
        let (mut out, mut lse, mut delta) = (vec![0.0; LENGTH * D], vec![], vec![]);
        let (mut p, mut ds) = (vec![0.0; LENGTH * LENGTH], vec![0.0; LENGTH * LENGTH]);
        for i in 0..LENGTH {
            let seen = (i + 1).saturating_sub(WINDOW)..=i;
            let score = |j| dot(&q, i, &k, j) * f64::from(scale);
            let total: f64 = seen.clone().map(|j| score(j).exp()).sum();
            lse.push(total.ln());
            for j in seen.clone() {
                p[i * LENGTH + j] = score(j).exp() / total;
                for d in 0..D {
                    out[i * D + d] += p[i * LENGTH + j] * v[j * D + d];
                }
            }
            delta.push(dot(&out, i, &g, i));
            for j in seen {
                let dp = dot(&g, i, &v, j);
                ds[i * LENGTH + j] = p[i * LENGTH + j] * (dp - delta[i]) * f64::from(scale);
            }
        }
        Problem {
            scale,
            inputs,
            out,
            lse,
            delta,
            p,
            ds,
        }
    }

    /// sum over rows of weights[row, j] * x[row, d] (by columns), or over columns of weights[i, column] * x[column, d],
    /// and the same sum of absolute values.
    fn sums(weights: &[f64], x: &[f64], by_column: bool) -> (Vec<f64>, Vec<f64>) {
        let (mut sum, mut size) = (vec![0.0; LENGTH * D], vec![0.0; LENGTH * D]);
        for i in 0..LENGTH {
            for j in 0..LENGTH {
                let (to, from) = if by_column { (j, i) } else { (i, j) };
                for d in 0..D {
                    let term = weights[i * LENGTH + j] * x[from * D + d];
                    sum[to * D + d] += term;
                    size[to * D + d] += term.abs();
                }
            }
        }
        (sum, size)
    }
}

fn blocks() -> [u32; 3] {
    [LENGTH.div_ceil(32) as u32, 1, 1]
}

#[test]
fn forward() {
    let problem = Problem::new();
    let mut c = Corpus::new("attention_forward");
    let [q, k, v, _] = problem.inputs.each_ref().map(|x| c.put(x));
    let (out, lse) = (c.room::<bf16>(LENGTH * D), c.room::<f32>(LENGTH));
    let args = [
        q.into(),
        k.into(),
        v.into(),
        out.into(),
        lse.into(),
        (LENGTH as i32).into(),
        (WINDOW as i32).into(),
        problem.scale.into(),
    ];
    let report = c.triton("attention_forward", blocks(), &args);
    assert!(report.counters.total.matrix_flops > 0);
    // weights are rounded to bf16, and values are at most 1; so is the result; the rest is f32
    let tolerance = |i: usize| EPSILON_BF16 * (1.0 + problem.out[i].abs()) + 100.0 * EPSILON;
    close(
        "out",
        &c.get_f64::<bf16>(out, LENGTH * D),
        &problem.out,
        tolerance,
    );
    // 20 exponentials of scores of f32 below 6, each off by a few ε of its exponent
    close("lse", &c.get_f64::<f32>(lse, LENGTH), &problem.lse, |_| {
        60.0 * EPSILON
    });
}

/// The tolerance of sums whose first factor is rounded to bf16 and computed in f32 from inputs of f32: exponentials
/// of scores below 6 and differences of terms below 6, so some tens of ε of what is summed, and of their scale.
fn tolerance(size: &[f64]) -> impl Fn(usize) -> f64 {
    |i| (EPSILON_BF16 + 100.0 * EPSILON) * size[i] + 100.0 * EPSILON
}

#[test]
fn backward() {
    let problem = Problem::new();
    let [q, k, _, g] = problem.inputs.each_ref().map(|x| doubles(x));
    let narrow = |x: &[f64]| x.iter().map(|v| *v as f32).collect::<Vec<_>>();
    let run = |name: &str, results: usize| -> Vec<Vec<f64>> {
        let mut c = Corpus::new(name);
        let mut args = problem.inputs.each_ref().map(|x| c.put(x).into()).to_vec();
        args.push(c.put(&narrow(&problem.lse)).into());
        args.push(c.put(&narrow(&problem.delta)).into());
        let results: Vec<u64> = (0..results).map(|_| c.room::<f32>(LENGTH * D)).collect();
        args.extend(results.iter().map(|at| (*at).into()));
        args.extend([
            (LENGTH as i32).into(),
            (WINDOW as i32).into(),
            problem.scale.into(),
        ]);
        c.triton(name, blocks(), &args);
        results
            .iter()
            .map(|at| c.get_f64::<f32>(*at, LENGTH * D))
            .collect()
    };
    let got = run("attention_backward_kv", 2);
    let (dk, size) = Problem::sums(&problem.ds, &q, true);
    close("dk", &got[0], &dk, tolerance(&size));
    let (dv, size) = Problem::sums(&problem.p, &g, true);
    close("dv", &got[1], &dv, tolerance(&size));
    let got = run("attention_backward_q", 1);
    let (dq, size) = Problem::sums(&problem.ds, &k, false);
    close("dq", &got[0], &dq, tolerance(&size));
}
