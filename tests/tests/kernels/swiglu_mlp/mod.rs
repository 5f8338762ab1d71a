//! The SwiGLU MLP to second order, with every set of cotangents that may be there.

mod formulas;
mod meaning;

use formulas::Formulas;
use kernels_cu::gemm::TileSize;
use kernels_cu::swiglu_mlp::{Backward, DoubleBackward, Forward, SwigluMlp};
use kernels_cu::{DType, Launch, View};
use tests::Random;
use tests::interpreted::{Interpreted, late_and_early, no_worse_than_twice, round};

/// Types, with gradients of weights in either.
const TYPES: [(DType, DType); 3] = [
    (DType::F32, DType::F32),
    (DType::BF16, DType::BF16),
    (DType::BF16, DType::F32),
];

/// Sizes of the tests: ragged, and lines of whole sectors. Sums of fewer than 32 products of f32 are left to the tests of `gemm`, which say why.
const SIZES: [[usize; 3]; 3] = [[33, 37, 45], [70, 40, 56], [64, 64, 96]];
/// Those too small for f32.
const SMALL: [[usize; 3]; 2] = [[1, 1, 1], [3, 5, 7]];

/// Two large tiles of rows and of columns.
const LARGE: [usize; 3] = [136, 48, 264];

fn all_mlps() -> impl Iterator<Item = SwigluMlp> {
    let small = SMALL.into_iter().flat_map(mlps);
    let small = small.filter(|mlp| mlp.dtype == DType::BF16);
    let large = mlps(LARGE).map(|mlp| SwigluMlp {
        tile: Some(TileSize::Large),
        ..mlp
    });
    SIZES.into_iter().flat_map(mlps).chain(small).chain(large)
}

fn mlps(sizes: [usize; 3]) -> impl Iterator<Item = SwigluMlp> {
    let of = move |(dtype, gradients)| SwigluMlp {
        gradients,
        ..SwigluMlp::new(sizes, dtype)
    };
    TYPES.into_iter().map(of)
}

/// Inputs: x, G, U, D, g, u, dy, dh, then eg, eu, then ddx, ddG, ddU, ddD. Weights are as small as weights are.
fn inputs(mlp: &SwigluMlp) -> Vec<Vec<f64>> {
    let SwigluMlp { t, d, ff, .. } = *mlp;
    let mut random = Random::new((t * 31 + d * 7 + ff) as u64);
    let (narrow, wide, weight) = (t * d, t * ff, d * ff);
    let sizes = [
        narrow, weight, weight, weight, wide, wide, narrow, wide, wide, wide, narrow, weight,
        weight, weight,
    ];
    let scaled = |n: usize| {
        if n == weight {
            (d as f64).powf(-0.5)
        } else {
            1.0
        }
    };
    sizes
        .into_iter()
        .map(|n| {
            (0..n)
                .map(|_| round(scaled(n) * random.normal(), mlp.dtype))
                .collect()
        })
        .collect()
}

fn upload(device: &mut Interpreted, x: &[Vec<f64>], dtype: DType) -> Vec<View> {
    x.iter().map(|x| device.upload(x, dtype)).collect()
}

/// Runs launches; the fused kernels keep the gates of streams and banks where lines are whole sectors.
fn run(device: &mut Interpreted, mlp: &SwigluMlp, launches: &[Launch]) {
    for launch in launches {
        let work = device.run(launch).counters.total;
        if [mlp.t, mlp.d, mlp.ff].iter().all(|x| x.is_multiple_of(16)) {
            let [real, ideal] = [work.global_sectors, work.global_sectors_ideal];
            assert!(
                real as f64 <= 1.05 * ideal as f64,
                "{}: {real} sectors, ideal {ideal}",
                launch.entry()
            );
            let [real, ideal] = [work.shared_wavefronts, work.shared_wavefronts_ideal];
            assert!(
                real as f64 <= 1.1 * ideal as f64,
                "{}: {real} wavefronts, ideal {ideal}",
                launch.entry()
            );
        }
    }
}

/// A result: its name, its view, its type, and its place among what the formulas give.
type Wanted<'v> = (&'static str, &'v View, DType, usize);

fn compare(
    device: &Interpreted,
    mlp: &SwigluMlp,
    wanted: &[Wanted],
    truth: &[Vec<f64>],
    rough: &[Vec<f64>],
) -> Vec<Vec<f64>> {
    let each = wanted.iter().map(|(name, view, dtype, i)| {
        let got = device.download(view, *dtype);
        no_worse_than_twice(
            &format!("{name} of {mlp:?}"),
            &got,
            &truth[*i],
            &rough[*i],
            *dtype,
        );
        got
    });
    each.collect()
}

fn slices<const N: usize>(x: &[Vec<f64>]) -> [&[f64]; N] {
    std::array::from_fn(|i| x[i].as_slice())
}

fn forward(device: &mut Interpreted, mlp: &SwigluMlp, caches: bool) -> Vec<Vec<f64>> {
    let x = inputs(mlp);
    let v = upload(device, &x[..4], mlp.dtype);
    let workspace = device.output(mlp.workspace() / 4, DType::F32);
    let y = device.output(mlp.t * mlp.d, mlp.dtype);
    let [g, u] = [0, 1].map(|_| device.output(mlp.t * mlp.ff, mlp.dtype));
    let launches = mlp.forward(&Forward {
        x: &v[0],
        gate: &v[1],
        up: &v[2],
        down: &v[3],
        y: &y,
        g: caches.then_some(&g),
        u: caches.then_some(&u),
        workspace: &workspace,
    });
    run(device, mlp, &launches.expect("launches"));
    let [truth, rough] =
        [Formulas::exact(mlp), Formulas::rounded(mlp)].map(|f| f.forward(slices(&x)));
    let mut wanted = vec![("y", &y, mlp.dtype, 0)];
    if caches {
        wanted.extend([("g", &g, mlp.dtype, 1), ("u", &u, mlp.dtype, 2)]);
    }
    compare(device, mlp, &wanted, &truth, &rough)
}

#[test]
fn forward_pass() {
    late_and_early(|device| {
        let mut results = vec![];
        for mlp in all_mlps() {
            results.extend(forward(device, &mlp, true));
        }
        results.extend(mlps([33, 40, 48]).flat_map(|mlp| forward(device, &mlp, false)));
        results
    });
}

/// Cotangents of y, g and u that are there; dx and the gradients of weights where `all`, else dx alone.
fn backward(device: &mut Interpreted, mlp: &SwigluMlp, ct: [bool; 3], all: bool) -> Vec<Vec<f64>> {
    let x = inputs(mlp);
    let v = upload(device, &x, mlp.dtype);
    let workspace = device.output(mlp.workspace() / 4, DType::F32);
    let dx = device.output(mlp.t * mlp.d, mlp.dtype);
    let dw: [View; 3] = [0, 1, 2].map(|_| device.output(mlp.d * mlp.ff, mlp.gradients));
    let dh = device.output(mlp.t * mlp.ff, mlp.dtype);
    let [dy, eg, eu] = ct;
    let reached = [dy || eg, dy || eu, dy].map(|reached| all && reached);
    let launches = mlp.backward(&Backward {
        x: std::array::from_fn(|i| &v[i]),
        dy: dy.then_some(&v[6]),
        eg: eg.then_some(&v[8]),
        eu: eu.then_some(&v[9]),
        dx: Some(&dx),
        dgate: reached[0].then_some(&dw[0]),
        dup: reached[1].then_some(&dw[1]),
        ddown: reached[2].then_some(&dw[2]),
        dh: dy.then_some(&dh),
        workspace: &workspace,
    });
    run(device, mlp, &launches.expect("launches"));
    let given = [6, 8, 9].map(|i| x[i].as_slice());
    let there = [0, 1, 2].map(|i| ct[i].then_some(given[i]));
    let [truth, rough] =
        [Formulas::exact(mlp), Formulas::rounded(mlp)].map(|f| f.backward(slices(&x), there));
    let mut wanted = vec![("dx", &dx, mlp.dtype, 0)];
    for (i, name) in ["dG", "dU", "dD"].into_iter().enumerate() {
        if reached[i] {
            wanted.push((name, &dw[i], mlp.gradients, 1 + i));
        }
    }
    if dy {
        wanted.push(("dh", &dh, mlp.dtype, 4));
    }
    compare(device, mlp, &wanted, &truth, &rough)
}

#[test]
fn backward_pass() {
    late_and_early(|device| {
        let mut results = vec![];
        for bits in 1..8 {
            let ct = [0, 1, 2].map(|i| bits >> i & 1 == 1);
            for mlp in mlps([33, 40, 48]) {
                for all in [true, false] {
                    results.extend(backward(device, &mlp, ct, all));
                }
            }
        }
        for mlp in all_mlps() {
            results.extend(backward(device, &mlp, [true; 3], true));
        }
        results
    });
}

/// Cotangents of dx, dG, dU, dD that are there; all results that they reach.
fn double(device: &mut Interpreted, mlp: &SwigluMlp, ct: [bool; 4]) -> Vec<Vec<f64>> {
    let x = inputs(mlp);
    let v = upload(device, &x, mlp.dtype);
    let workspace = device.output(mlp.workspace() / 4, DType::F32);
    let [dx2, ddy] = [0, 1].map(|_| device.output(mlp.t * mlp.d, mlp.dtype));
    let dw: [View; 3] = [0, 1, 2].map(|_| device.output(mlp.d * mlp.ff, mlp.gradients));
    let [dg2, du2] = [0, 1].map(|_| device.output(mlp.t * mlp.ff, mlp.dtype));
    let [ddx, ddgate, ddup, _] = ct;
    let inner = ddx || ddgate || ddup;
    let there = [0, 1, 2, 3].map(|i| ct[i].then_some(&v[10 + i]));
    let launches = mlp.double_backward(&DoubleBackward {
        x: std::array::from_fn(|i| &v[i]),
        dh: &v[7],
        ddx: there[0],
        ddgate: there[1],
        ddup: there[2],
        dddown: there[3],
        dx2: (ddgate || ddup).then_some(&dx2),
        dgate2: ddx.then_some(&dw[0]),
        dup2: ddx.then_some(&dw[1]),
        ddown2: inner.then_some(&dw[2]),
        dg2: Some(&dg2),
        du2: Some(&du2),
        ddy: Some(&ddy),
        workspace: &workspace,
    });
    run(device, mlp, &launches.expect("launches"));
    let there = [0, 1, 2, 3].map(|i| ct[i].then_some(x[10 + i].as_slice()));
    let [truth, rough] =
        [Formulas::exact(mlp), Formulas::rounded(mlp)].map(|f| f.double(slices(&x), &x[7], there));
    let (narrow, wide) = (mlp.dtype, mlp.gradients);
    let results = [
        ("dx2", &dx2, narrow, ddgate || ddup),
        ("dG2", &dw[0], wide, ddx),
        ("dU2", &dw[1], wide, ddx),
        ("dD2", &dw[2], wide, inner),
        ("dg2", &dg2, narrow, true),
        ("du2", &du2, narrow, true),
        ("ddy", &ddy, narrow, true),
    ];
    let results = results.into_iter().enumerate().filter(|(_, r)| r.3);
    let wanted: Vec<Wanted> = results
        .map(|(i, (name, view, dtype, _))| (name, view, dtype, i))
        .collect();
    compare(device, mlp, &wanted, &truth, &rough)
}

#[test]
fn double_backward_pass() {
    late_and_early(|device| {
        let mut results = vec![];
        for bits in 1..16 {
            let ct = [0, 1, 2, 3].map(|i| bits >> i & 1 == 1);
            for mlp in mlps([33, 40, 48]) {
                results.extend(double(device, &mlp, ct));
            }
        }
        for mlp in all_mlps() {
            results.extend(double(device, &mlp, [true; 4]));
        }
        results
    });
}

#[test]
fn no_rows_give_no_gradient() {
    late_and_early(|device| {
        let none = mlps([0, 16, 24]);
        let gradients: Vec<Vec<f64>> = none
            .flat_map(|mlp| {
                forward(device, &mlp, true);
                double(device, &mlp, [true; 4]);
                backward(device, &mlp, [true; 3], true)
            })
            .collect();
        let zeros = gradients.iter().flatten().filter(|x| **x == 0.0).count();
        assert_eq!(zeros, 3 * 3 * 16 * 24);
        gradients
    });
}

#[test]
fn room_for_what_is_zero_is_an_error() {
    let mlp = mlps([2, 3, 4]).next().expect("one");
    let [narrow, wide, weight] = [2 * 3, 2 * 4, 3 * 4].map(|n| View::interpreted(0, n * 4));
    let workspace = View::interpreted(0, mlp.workspace());
    let backward = Backward {
        x: [&narrow, &weight, &weight, &weight, &wide, &wide],
        dy: None,
        eg: Some(&wide),
        eu: None,
        dx: Some(&narrow),
        dgate: Some(&weight),
        dup: Some(&weight),
        ddown: None,
        dh: None,
        workspace: &workspace,
    };
    let said = mlp.backward(&backward).expect_err("an error").to_string();
    assert!(said.contains("dup is zero"), "{said}");
    let wrong = Backward {
        dup: None,
        dx: Some(&wide),
        ..backward
    };
    let said = mlp.backward(&wrong).expect_err("an error").to_string();
    assert!(said.contains("dx has 32 bytes, not 24"), "{said}");
}
