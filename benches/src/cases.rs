//! The table of what is timed: one entry per op and set of shapes, in the shapes of real models.
//!
//! To add a case, add an entry to [`cases`]; to add an op, also a function that gives its FLOPs and elements.

use std::sync::Arc;

use ops::{Transpose, derived};

use crate::case::{Case, Compared};

/// Sizes of a model.
struct Model {
    name: &'static str,
    /// Length of a training sequence.
    length: usize,
    /// d.
    width: usize,
    heads: usize,
    /// Width of an MLP.
    mlp: usize,
    /// V.
    vocabulary: usize,
    /// b, the tokens of a mini-batch.
    batch: usize,
    /// k.
    window: usize,
}

/// `ttt train`.
const DEFAULT: Model = Model {
    name: "default",
    length: 1024,
    width: 128,
    heads: 4,
    mlp: 256,
    vocabulary: 2048,
    batch: 32,
    window: 16,
};

/// The model whose training step `record` follows.
const SMALL: Model = Model {
    name: "small",
    length: 2048,
    width: 256,
    heads: 4,
    mlp: 512,
    vocabulary: 1024,
    batch: 256,
    window: 512,
};

/// Everything that is timed.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for m in [&DEFAULT, &SMALL] {
        let (b, d, h) = (m.batch, m.width, m.width / m.heads);
        let what = |part: &str| format!("{} {part}", m.name);
        let attention =
            |part, t, cached| swa_attention(what(part), t, cached, m.heads, h, m.window);
        cases.extend([
            linear(what("projection"), b, d, d),
            linear(what("up"), b, d, m.mlp),
            linear(what("down"), b, m.mlp, d),
            linear(what("up, whole sequence"), m.length, d, m.mlp),
            linear(what("head"), b, d, m.vocabulary),
            rms_norm(what("block"), &[b, d]),
            rms_norm(what("heads"), &[b, m.heads, h]),
            rope(what("heads"), [b, m.heads, h]),
            attention("mini-batch", b, m.window - 1),
            attention("whole sequence", m.length, 0),
            swiglu_mlp(what("mini-batch"), b, d, m.mlp),
            swiglu_mlp(what("whole sequence"), m.length, d, m.mlp),
            linear_cross_entropy(what("mini-batch"), b, d, m.vocabulary),
            cross_entropy(what("mini-batch"), b, m.vocabulary),
            clip_factor(what("up"), [m.mlp, d]),
            sgd_update(what("up"), [m.mlp, d]),
        ]);
    }
    // the published recipe's mini-batch and window, on four heads
    cases.push(swa_attention(
        "8K mini-batch".into(),
        1024,
        7168,
        4,
        64,
        8192,
    ));
    cases
}

/// Elements at orders 0, 1 and 2 of an op that reads every input of `x` elements in all, and whose result of `y` elements is
/// not linear in them: forward x to y, backward (x, dy) to dx, double backward (x, dy, A) to (dx2, ddy).
fn elements(x: usize, y: usize) -> [f64; 3] {
    [x + y, 2 * x + y, 3 * x + 2 * y].map(|n| n as f64)
}

/// `per` operations on each of `n` elements.
fn per_element(n: usize, per: [usize; 3]) -> [f64; 3] {
    per.map(|per| (per * n) as f64)
}

/// x [t, i] w' for w [o, i]: one product forward, two backward, four in the double backward.
fn linear(what: String, t: usize, i: usize, o: usize) -> Case {
    let product = 2 * t * i * o;
    // the transposed product takes another way through the same primitive
    let meaning = |x: &[ops::Var]| ops::permute(&ops::matmul(&x[1], &x[0], Transpose::B)?, &[1, 0]);
    Case::new(
        "linear",
        what,
        &[&[t, i], &[o, i]],
        |x| ops::linear(&x[0], &x[1]),
        meaning,
        per_element(product, [1, 2, 4]),
        elements(t * i + o * i, t * o),
    )
}

fn rms_norm(what: String, shape: &[usize]) -> Case {
    let (n, d) = (shape.iter().product(), shape[shape.len() - 1]);
    Case::new(
        "rms_norm",
        what,
        &[shape, &[d]],
        |x| ops::rms_norm(&x[0], &x[1], 1e-6),
        |x| derived::rms_norm(&x[0], &x[1], 1e-6),
        per_element(n, [4, 11, 30]),
        elements(n + d, n),
    )
}

/// Linear: the backward passes read the cotangent alone.
fn rope(what: String, shape: [usize; 3]) -> Case {
    let [t, _, h] = shape;
    let n: usize = shape.iter().product();
    let tables =
        move |x: &[ops::Var]| derived::rope_tables(0, t, h, 500_000.0, x[0].value().dtype());
    let (cos, sin) = derived::rope_tables(0, t, h, 500_000.0, ops::DType::F32).expect("even heads");
    Case::new(
        "rope",
        what,
        &[&shape],
        move |x| ops::rope(&x[0], &cos, &sin),
        move |x| {
            let (cos, sin) = tables(x)?;
            derived::rope(&x[0], &cos, &sin)
        },
        per_element(n, [3; 3]),
        [(2 * n + t * h) as f64; 3],
    )
}

/// Per visible key and query head: 2 products forward, 5 backward (scores and dP anew), 12 in the double backward.
fn swa_attention(
    what: String,
    t: usize,
    cached: usize,
    heads: usize,
    h: usize,
    window: usize,
) -> Case {
    /// Scores of the meaning above this number are too many to hold at order 2.
    const WHOLE: usize = 1 << 22;
    let tk = cached + t;
    let (q, kv) = (t * heads * h, tk * heads * h);
    let product = 2 * heads * h * visible_keys(t, tk, window);
    let case = Case::new(
        "swa_attention",
        what,
        &[
            &[t, heads, h],
            &[cached, heads, h],
            &[cached, heads, h],
            &[t, heads, h],
            &[t, heads, h],
        ],
        move |x| ops::swa_attention(&x[0], [&x[1], &x[2]], [&x[3], &x[4]], window),
        move |x| derived::swa_attention(&x[0], [&x[1], &x[2]], [&x[3], &x[4]], window),
        per_element(product, [2, 5, 12]),
        elements(q + 2 * kv, q),
    );
    let compared = match t * tk * heads {
        0..=WHOLE => Compared::Whole,
        _ => Compared::FirstHead,
    };
    Case { compared, ..case }
}

/// Keys that t queries, the last of tk positions, see in all.
fn visible_keys(t: usize, tk: usize, window: usize) -> usize {
    (tk - t..tk).map(|i| window.min(i + 1)).sum()
}

/// Products of three weights: once forward, twice backward; in the double backward, with cotangents of all four gradients, sixteen.
fn swiglu_mlp(what: String, t: usize, d: usize, width: usize) -> Case {
    let (x, w) = (t * d, width * d);
    Case::new(
        "swiglu_mlp",
        what,
        &[&[t, d], &[width, d], &[width, d], &[d, width]],
        |x| ops::swiglu_mlp(&x[0], &x[1], &x[2], &x[3]),
        |x| derived::swiglu_mlp(&x[0], &x[1], &x[2], &x[3]),
        per_element(2 * t * w, [3, 6, 16]),
        elements(x + 3 * w, x),
    )
}

/// One product forward, two backward, six in the double backward.
fn linear_cross_entropy(what: String, t: usize, d: usize, v: usize) -> Case {
    let ids: Arc<[u32]> = (0..t).map(|i| (i * 5 % v) as u32).collect();
    let same_ids = ids.clone();
    Case::new(
        "linear_cross_entropy",
        what,
        &[&[t, d], &[v, d]],
        move |x| ops::linear_cross_entropy(&x[0], &x[1], &ids),
        move |x| derived::linear_cross_entropy(&x[0], &x[1], &same_ids),
        per_element(2 * t * d * v, [1, 2, 6]),
        elements(t * d + v * d, t),
    )
}

fn cross_entropy(what: String, t: usize, v: usize) -> Case {
    let ids: Arc<[u32]> = (0..t).map(|i| (i * 5 % v) as u32).collect();
    let same_ids = ids.clone();
    Case::new(
        "cross_entropy",
        what,
        &[&[t, v]],
        move |x| ops::cross_entropy(&x[0], &ids),
        move |x| derived::cross_entropy(&x[0], &same_ids),
        per_element(t * v, [4, 3, 7]),
        elements(t * v, t),
    )
}

/// Forward reads g; backward reads g for its gradient; double backward reads g and a cotangent of that gradient.
fn clip_factor(what: String, shape: [usize; 2]) -> Case {
    let n: usize = shape.iter().product();
    Case::new(
        "clip_factor",
        what,
        &[&shape],
        |x| ops::clip_factor(x, 1.0),
        |x| derived::clip_factor(x, 1.0),
        per_element(n, [2, 1, 4]),
        per_element(n, [1, 2, 3]),
    )
}

/// Forward reads w and g; backward reads g and dy for dg and ds (dw is dy itself); double backward reads g, dy and cotangents of
/// dw and dg.
fn sgd_update(what: String, shape: [usize; 2]) -> Case {
    let n: usize = shape.iter().product();
    Case::new(
        "sgd_update",
        what,
        &[&shape, &shape, &[]],
        |x| ops::sgd_update(&x[0], &x[1], &x[2]),
        |x| derived::sgd_update(&x[0], &x[1], &x[2]),
        per_element(n, [2, 3, 7]),
        per_element(n, [3, 3, 6]),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::check::check;

    #[test]
    fn every_fused_op_has_a_case() {
        let timed: BTreeSet<&str> = cases().iter().map(|c| c.op).collect();
        for case in ops::list::cases() {
            let there = case.meaning.is_none() || timed.contains(case.op);
            assert!(
                there,
                "{} has a meaning and no benchmark: add a case",
                case.op
            );
        }
    }

    #[test]
    fn names_differ() {
        let names: BTreeSet<String> = cases().iter().map(|c| c.name(0)).collect();
        assert_eq!(names.len(), cases().len());
    }

    #[test]
    fn cases_of_the_default_model_are_right() {
        for case in cases().iter().filter(|c| c.what.starts_with(DEFAULT.name)) {
            for order in 0..3 {
                check(case, order).unwrap_or_else(|e| panic!("{e}"));
            }
        }
    }

    #[test]
    fn visible_keys_are_those_of_a_mask() {
        for (t, tk, window) in [(1, 1, 1), (5, 5, 2), (3, 9, 4), (3, 9, 100), (4, 7, 5)] {
            let queries = (0..t).map(|i| i + tk - t);
            let seen = queries
                .flat_map(|i| (0..tk).map(move |j| (i, j)))
                .filter(|&(i, j)| j <= i && j + window > i);
            assert_eq!(visible_keys(t, tk, window), seen.count());
        }
    }

    #[test]
    fn counts_by_hand() {
        let cost = |what: &str, order| {
            let case = cases().into_iter().find(|c| c.name(0).starts_with(what));
            case.expect("a case").cost(order)
        };
        // 2 * 32 * 128 * 128 FLOPs, four times; x twice and w twice read, dy and cotangents, and three results
        let linear = cost("linear / default projection", 2);
        assert_eq!(linear.flops, 4.0 * 1_048_576.0);
        let (x, w) = (32 * 128, 128 * 128);
        assert_eq!(linear.bytes, 4.0 * (3 * (x + w) + 2 * x) as f64);
        // 15 keys are cached, so that each of 32 queries sees 16; 12 products of 2 * 128 FLOPs per key
        let attention = cost("swa_attention / default mini-batch", 2);
        assert_eq!(attention.flops, (12 * 256 * 32 * 16) as f64);
    }
}
