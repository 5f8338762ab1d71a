//! Every op, with example inputs and, for fused ops, the meaning: tests and benchmarks iterate over [`cases`].

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::{DType, Transpose, Var, derived};

/// A function of several variables with several results.
pub type Function = Box<dyn Fn(&[Var]) -> Result<Vec<Var>> + Send + Sync>;

/// One op at one set of shapes.
pub struct Case {
    /// The op's name.
    pub op: &'static str,
    /// What is special about these shapes.
    pub what: &'static str,
    /// Shapes of the inputs.
    pub shapes: Vec<Vec<usize>>,
    /// Inputs must be positive (log, rsqrt); others are normal numbers.
    pub positive: bool,
    /// The op. Cotangents of its results are independent of its inputs.
    pub f: Function,
    /// For a fused op: the same function in primitives.
    pub meaning: Option<Function>,
}

fn primitive(
    op: &'static str,
    shapes: &[&[usize]],
    f: impl Fn(&[Var]) -> Result<Var> + Send + Sync + 'static,
) -> Case {
    Case {
        op,
        what: "",
        shapes: shapes.iter().map(|s| s.to_vec()).collect(),
        positive: matches!(op, "log" | "rsqrt" | "recip"),
        f: Box::new(move |x| Ok(vec![f(x)?])),
        meaning: None,
    }
}

fn fused(
    op: &'static str,
    what: &'static str,
    shapes: &[&[usize]],
    f: impl Fn(&[Var]) -> Result<Var> + Send + Sync + 'static,
    meaning: impl Fn(&[Var]) -> Result<Var> + Send + Sync + 'static,
) -> Case {
    Case {
        what,
        meaning: Some(Box::new(move |x| Ok(vec![meaning(x)?]))),
        ..primitive(op, shapes, f)
    }
}

/// Ids 0, 5, 10, ... modulo `limit`.
fn ids(count: usize, limit: usize) -> Arc<[u32]> {
    (0..count).map(|i| (i * 5 % limit) as u32).collect()
}

/// (what, t, c, n, m, h, window)
const ATTENTION: [(&str, usize, usize, usize, usize, usize, usize); 17] = [
    ("one key", 1, 0, 1, 1, 4, 1),
    ("window 1", 5, 0, 1, 1, 4, 1),
    ("full, odd length", 37, 0, 2, 2, 6, 100),
    ("window inside", 70, 0, 2, 2, 8, 9),
    ("window equals length", 33, 0, 1, 1, 4, 33),
    ("chunk and cache", 16, 24, 2, 2, 16, 24),
    ("chunk and short cache", 16, 3, 2, 2, 16, 24),
    ("ragged chunk", 3, 24, 2, 2, 16, 24),
    ("grouped queries", 20, 25, 4, 2, 8, 25),
    ("head size 64", 66, 128, 2, 1, 64, 128),
    ("head size 80", 65, 5, 1, 1, 80, 64),
    ("head size 96", 64, 66, 2, 1, 96, 130),
    ("head size 128", 9, 31, 2, 2, 128, 17),
    ("many tiles of keys", 20, 1500, 1, 1, 4, 1400),
    ("several tiles, cached and current", 330, 280, 1, 1, 4, 560),
    ("one query, long cache", 1, 2300, 4, 2, 16, 2200),
    ("shared among threads", 530, 20, 2, 1, 4, 100),
];

/// All ops.
pub fn cases() -> Vec<Case> {
    let v: &[usize] = &[7];
    let m: &[usize] = &[3, 4];
    let mut cases = vec![
        primitive("add", &[m, m], |x| crate::add(&x[0], &x[1])),
        primitive("mul", &[m, m], |x| crate::mul(&x[0], &x[1])),
        primitive("neg", &[v], |x| crate::neg(&x[0])),
        primitive("scale", &[v], |x| crate::scale(&x[0], -1.7)),
        primitive("recip", &[v], |x| crate::recip(&x[0])),
        primitive("exp", &[v], |x| crate::exp(&x[0])),
        primitive("log", &[v], |x| crate::log(&x[0])),
        primitive("sigmoid", &[v], |x| crate::sigmoid(&x[0])),
        primitive("rsqrt", &[v], |x| crate::rsqrt(&x[0])),
        primitive("cast", &[v], |x| crate::cast(&x[0], DType::F64)),
        primitive("matmul", &[&[3, 4], &[4, 5]], |x| {
            crate::matmul(&x[0], &x[1], Transpose::None)
        }),
        primitive("matmul", &[&[3, 4], &[5, 4]], |x| {
            crate::matmul(&x[0], &x[1], Transpose::B)
        }),
        primitive("matmul", &[&[4, 3], &[4, 5]], |x| {
            crate::matmul(&x[0], &x[1], Transpose::A)
        }),
        primitive("matmul", &[&[2, 3, 4], &[2, 5, 4]], |x| {
            crate::matmul(&x[0], &x[1], Transpose::B)
        }),
        primitive("reshape", &[&[3, 4]], |x| crate::reshape(&x[0], &[2, 6])),
        primitive("permute", &[&[2, 3, 4]], |x| {
            crate::permute(&x[0], &[2, 0, 1])
        }),
        primitive("slice", &[&[5, 3]], |x| crate::slice(&x[0], 0, 1, 4)),
        primitive("slice", &[&[3, 5]], |x| crate::slice(&x[0], 1, 2, 4)),
        primitive("pad", &[&[3, 2]], |x| crate::pad(&x[0], 1, 1, 2)),
        primitive("concat", &[&[2, 3], &[1, 3]], |x| {
            crate::concat(&[&x[0], &x[1]], 0)
        }),
        primitive("concat", &[&[2, 3], &[2, 1]], |x| {
            crate::concat(&[&x[0], &x[1]], 1)
        }),
        primitive("broadcast", &[&[3, 1, 2]], |x| {
            crate::broadcast(&x[0], &[3, 4, 2])
        }),
        primitive("broadcast", &[&[1, 1]], |x| {
            crate::broadcast(&x[0], &[3, 4])
        }),
        primitive("sum", &[&[3, 4, 2]], |x| crate::sum(&x[0], &[3, 1, 2])),
        primitive("sum", &[&[3, 40]], |x| crate::sum(&x[0], &[3, 1])),
        primitive("sum_all", &[&[3, 4]], |x| crate::sum_all(&x[0])),
        primitive("gather", &[&[4, 3]], |x| crate::gather(&x[0], &ids(6, 4))),
        primitive("scatter_add", &[&[6, 3]], |x| {
            crate::scatter_add(&x[0], &ids(6, 4), 4)
        }),
        primitive("select", &[&[4], &[4]], |x| {
            crate::select(&[true, false, false, true].into(), &x[0], &x[1])
        }),
        primitive("select_above", &[&[4], &[4], &[4]], |x| {
            crate::select_above(&x[0], 0.1, &x[1], &x[2])
        }),
        primitive("dot", &[&[40], &[40]], |x| crate::dot(&x[0], &x[1])),
        primitive("log_sum_exp", &[&[3, 5]], |x| derived::log_sum_exp(&x[0])),
        primitive("softmax", &[&[3, 5]], |x| derived::softmax(&x[0])),
    ];
    for (what, shape) in [
        ("one row", vec![1, 5]),
        ("heads", vec![3, 2, 20]),
        ("many rows", vec![300, 64]),
    ] {
        let d = [*shape.last().expect("a row")];
        let norm = |x: &[Var]| crate::rms_norm(&x[0], &x[1], 1e-6);
        let meaning = |x: &[Var]| derived::rms_norm(&x[0], &x[1], 1e-6);
        cases.push(fused("rms_norm", what, &[&shape, &d], norm, meaning));
    }
    for (what, t, d, ff) in [
        ("one row", 1, 3, 2),
        ("odd", 5, 3, 7),
        ("weight gradients that wait", 34, 32, 40),
        ("several tiles", 600, 5, 9),
    ] {
        let f = |x: &[Var]| crate::swiglu_mlp(&x[0], &x[1], &x[2], &x[3]);
        let meaning = |x: &[Var]| derived::swiglu_mlp(&x[0], &x[1], &x[2], &x[3]);
        let shapes: [&[usize]; 4] = [&[t, d], &[ff, d], &[ff, d], &[d, ff]];
        cases.push(fused("swiglu_mlp", what, &shapes, f, meaning));
    }
    for (what, t, v) in [("one token", 1, 3), ("odd", 5, 19), ("large", 130, 257)] {
        let f = move |x: &[Var]| crate::cross_entropy(&x[0], &ids(t, v));
        let meaning = move |x: &[Var]| derived::cross_entropy(&x[0], &ids(t, v));
        cases.push(fused("cross_entropy", what, &[&[t, v]], f, meaning));
    }
    for (what, whole, t, d, v) in [
        ("whole logits", usize::MAX, 5, 3, 19),
        ("one tile", 0, 5, 3, 19),
        ("many tiles", 0, 260, 4, 1030),
    ] {
        let f = move |x: &[Var]| {
            crate::fused::linear_cross_entropy_above(whole, &x[0], &x[1], &ids(t, v))
        };
        let meaning = move |x: &[Var]| derived::linear_cross_entropy(&x[0], &x[1], &ids(t, v));
        cases.push(fused(
            "linear_cross_entropy",
            what,
            &[&[t, d], &[v, d]],
            f,
            meaning,
        ));
    }
    for (what, start) in [("from 0", 0), ("from 1000", 1000)] {
        let tables = move |x: &[Var]| {
            let x = x[0].value();
            let (cos, sin) = derived::rope_tables(start, 5, 6, 500_000.0, x.dtype())?;
            Ok::<_, Error>((cos.to(x.device())?, sin.to(x.device())?))
        };
        let f = move |x: &[Var]| {
            let (cos, sin) = tables(x)?;
            crate::rope(&x[0], &cos, &sin)
        };
        let meaning = move |x: &[Var]| {
            let (cos, sin) = tables(x)?;
            derived::rope(&x[0], &cos, &sin)
        };
        cases.push(fused("rope", what, &[&[5, 2, 6]], f, meaning));
    }
    for (what, c) in [("clipped", 0.7), ("not clipped", 100.0)] {
        cases.push(fused(
            "clip_factor",
            what,
            &[&[3, 4], &[5]],
            move |x| crate::clip_factor(x, c),
            move |x| derived::clip_factor(x, c),
        ));
    }
    cases.push(fused(
        "sgd_update",
        "",
        &[&[3, 4], &[3, 4], &[]],
        |x| crate::sgd_update(&x[0], &x[1], &x[2]),
        |x| derived::sgd_update(&x[0], &x[1], &x[2]),
    ));
    for (what, t, c, n, m, h, window) in ATTENTION {
        type Attention = fn(&Var, [&Var; 2], [&Var; 2], usize) -> Result<Var>;
        let of = |f: Attention| move |x: &[Var]| f(&x[0], [&x[1], &x[2]], [&x[3], &x[4]], window);
        let (f, meaning) = (of(crate::swa_attention), of(derived::swa_attention));
        let (cached, current): (&[usize], &[usize]) = (&[c, m, h], &[t, m, h]);
        let shapes = [&[t, n, h], cached, cached, current, current];
        cases.push(fused("swa_attention", what, &shapes, f, meaning));
    }
    cases
}
