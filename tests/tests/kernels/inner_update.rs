//! The inner update: products that leave the norm of their results, the clipped step, fast weights and their shadow.

use kernels_cu::inner_update::{
    FastMatrix, Room, Types, clip, clipped_update, clipped_workspace, dot, dot_parts,
    gradient_parts, sgd_update, sum, times, unclipped_update,
};
use kernels_cu::{DType, View};
use tests::Random;
use tests::interpreted::{Interpreted, late_and_early, no_worse_than_twice, round};

fn numbers(random: &mut Random, n: usize, dtype: DType) -> Vec<f64> {
    (0..n).map(|_| round(random.normal(), dtype)).collect()
}

/// Sizes of a thread, of a block and beyond, whole and ragged.
const SIZES: [usize; 5] = [1, 7, 1000, 4096, 10_001];

fn f32_of(x: f64) -> f64 {
    round(x, DType::F32)
}

#[test]
fn scalar_products_and_steps() {
    late_and_early(|device| {
        let mut results = vec![];
        for types in Types::ALL {
            for n in SIZES {
                results.extend(pieces(device, types, n));
            }
        }
        results
    });
}

fn pieces(device: &mut Interpreted, types: Types, n: usize) -> Vec<Vec<f64>> {
    let Types { weight, gradient } = types;
    let mut random = Random::new(n as u64);
    let (w, g) = (
        numbers(&mut random, n, weight),
        numbers(&mut random, n, gradient),
    );
    let (vw, vg) = (device.upload(&w, weight), device.upload(&g, gradient));
    let what = format!("{types:?} {n}");
    let run = |launch: kernels_cu::Result<kernels_cu::Launch>, device: &mut Interpreted| {
        let work = device.run(&launch.expect("a launch")).counters.total;
        let [real, ideal] = [work.global_sectors, work.global_sectors_ideal];
        if n.is_multiple_of(8) {
            assert!(
                real as f64 <= 1.05 * ideal as f64,
                "{what}: {real} sectors, ideal {ideal}"
            );
        }
    };
    // -<g, w>
    let parts = device.output(dot_parts(n), DType::F32);
    let out = device.output(1, DType::F32);
    run(dot(types, n, &vg, &vw, &parts), device);
    run(sum(&parts, &out, -1.0), device);
    let got_dot = device.download(&out, DType::F32);
    let products = || w.iter().zip(&g).map(|(w, g)| w * g);
    let truth = -products().sum::<f64>();
    let rough = products().fold(0.0, |sum, p| f32_of(sum - f32_of(p)));
    // the rounding of the largest term is always allowed
    let largest = products().fold(0.0f64, |most, p| most.max(p.abs()));
    let allowed = 2.0
        * (rough - truth)
            .abs()
            .max(f64::from(f32::EPSILON) / 2.0 * largest);
    let error = (got_dot[0] - truth).abs();
    // summing n products of either sign pairwise loses less than half a unit of sqrt(n) of them at each of log2(n) + 4 levels
    let levels = (n as f64).log2() + 4.0;
    let pairwise = levels * f64::from(f32::EPSILON) / 2.0 * (n as f64).sqrt() * largest;
    assert!(
        error <= allowed.max(pairwise),
        "{what}: {error:e}, {allowed:e}, {pairwise:e}"
    );
    // w - s g
    let s = f32_of(0.3);
    let vs = device.upload(&[s], DType::F32);
    let updated = device.output(n, weight);
    let shadow = device.output(n, DType::BF16);
    run(
        sgd_update(types, n, [&vw, &vg, &vs], &updated, Some(&shadow)),
        device,
    );
    let got_updated = device.download(&updated, weight);
    let got_shadow = device.download(&shadow, DType::BF16);
    let truth: Vec<f64> = w.iter().zip(&g).map(|(w, g)| w - s * g).collect();
    let rough: Vec<f64> = w
        .iter()
        .zip(&g)
        .map(|(w, g)| round(w - round(s * g, weight), weight))
        .collect();
    no_worse_than_twice(&what, &got_updated, &truth, &rough, weight);
    let rough: Vec<f64> = rough.iter().map(|x| round(*x, DType::BF16)).collect();
    no_worse_than_twice(&what, &got_shadow, &truth, &rough, DType::BF16);
    // -s g
    let scaled = device.output(n, weight);
    run(times(types, n, &vs, &vg, &scaled, -1.0), device);
    let got_scaled = device.download(&scaled, weight);
    let want = g.iter().map(|g| round(-(s * g), weight));
    assert!(got_scaled.iter().copied().eq(want), "{what}: -s g");
    vec![got_dot, got_updated, got_shadow, got_scaled]
}

#[test]
fn steps_are_clipped_by_the_norm() {
    late_and_early(|device| {
        let parts = device.upload(&[9.0, 4.0, 0.0, 12.0], DType::F32);
        let mut results = vec![];
        // the norm is 5: clipped, not clipped, at the limit, no clipping
        for (c, s) in [(2.0, 0.5 * (2.0 / 5.0)), (8.0, 0.5), (5.0, 0.5), (0.0, 0.5)] {
            let step = device.output(2, DType::F32);
            device.run(&clip(&parts, &step, 0.5, c).expect("a launch"));
            let got = device.download(&step, DType::F32);
            assert_eq!(got[1], 5.0);
            assert!(
                (got[0] - s).abs() <= f64::from(f32::EPSILON) * s,
                "{c}: {got:?}"
            );
            results.push(got);
        }
        // no gradient at all is no NaN
        let zero = device.upload(&[0.0], DType::F32);
        let step = device.output(2, DType::F32);
        device.run(&clip(&zero, &step, 0.5, 1.0).expect("a launch"));
        assert_eq!(device.download(&step, DType::F32), [0.5, 0.0]);
        results
    });
}

/// dY' X in f64 or with each sum rounded to f32.
fn gradient([m, n]: [usize; 2], t: usize, dy: &[f64], x: &[f64], rounded: bool) -> Vec<f64> {
    let sum = |i: usize, j: usize| {
        (0..t).fold(0.0, |sum, l| {
            let sum = sum + dy[l * m + i] * x[l * n + j];
            if rounded { f32_of(sum) } else { sum }
        })
    };
    (0..m * n).map(|at| sum(at / n, at % n)).collect()
}

/// The matrices of one fast MLP, and a ragged one.
const SHAPES: [[usize; 2]; 4] = [[48, 32], [48, 32], [32, 48], [9, 7]];

#[test]
fn the_update_of_all_matrices() {
    late_and_early(|device| {
        let mut results = vec![];
        for dtype in DType::ALL {
            for c in [1.0, 1e6] {
                results.extend(update(device, dtype, c));
            }
        }
        results
    });
}

fn update(device: &mut Interpreted, dtype: DType, c: f64) -> Vec<Vec<f64>> {
    let (t, eta) = (40, f32_of(0.7));
    let mut random = Random::new(5);
    let factors = SHAPES.map(|[m, n]| [m, n].map(|n| numbers(&mut random, t * n, dtype)));
    let weights = SHAPES.map(|[m, n]| numbers(&mut random, m * n, DType::F32));
    let views: Vec<[View; 2]> = factors
        .iter()
        .map(|f| f.each_ref().map(|x| device.upload(x, dtype)))
        .collect();
    let old: Vec<View> = weights
        .iter()
        .map(|w| device.upload(w, DType::F32))
        .collect();
    let length = |i: usize| SHAPES[i][0] * SHAPES[i][1];
    let new: Vec<View> = (0..4)
        .map(|i| device.output(length(i), DType::F32))
        .collect();
    let gradients: Vec<View> = (0..4)
        .map(|i| device.output(length(i), DType::F32))
        .collect();
    let shadows: Vec<View> = (0..4)
        .map(|i| device.output(length(i), DType::BF16))
        .collect();
    let matrices: Vec<FastMatrix> = (0..4)
        .map(|i| FastMatrix {
            shape: SHAPES[i],
            factors: views[i].each_ref(),
            weight: &old[i],
            updated: &new[i],
            shadow: Some(&shadows[i]),
            gradient: &gradients[i],
        })
        .collect();
    let parts: usize = SHAPES.iter().map(|s| gradient_parts(*s, t, dtype)).sum();
    let parts = device.output(parts, DType::F32);
    let step = device.output(2, DType::F32);
    let workspace = device.output(clipped_workspace(&SHAPES, t, dtype) / 4, DType::F32);
    let room = Room {
        parts: &parts,
        step: &step,
        workspace: &workspace,
    };
    let launches = clipped_update(&matrices, t, dtype, [eta as f32, c as f32], room);
    for launch in launches.expect("launches") {
        device.run(&launch);
    }
    // in f64, and in f32
    let [truth, rough] = [false, true].map(|rounded| {
        let r = |x: f64| if rounded { f32_of(x) } else { x };
        let g: Vec<Vec<f64>> = (0..4)
            .map(|i| gradient(SHAPES[i], t, &factors[i][0], &factors[i][1], rounded))
            .collect();
        let squares = g.iter().flatten().fold(0.0, |sum, g| r(sum + r(g * g)));
        let norm = r(squares.sqrt());
        let s = if norm > c { r(eta * r(c / norm)) } else { eta };
        let all: Vec<Vec<f64>> = g
            .iter()
            .zip(&weights)
            .map(|(g, w)| g.iter().zip(w).map(|(g, w)| r(w - r(s * g))).collect())
            .collect();
        (all, s)
    });
    assert_eq!(
        truth.1 < eta,
        c == 1.0,
        "one case is clipped, the other is not"
    );
    let mut results = vec![];
    for i in 0..4 {
        let got = device.download(&new[i], DType::F32);
        no_worse_than_twice(
            &format!("{dtype:?} {c} {i}"),
            &got,
            &truth.0[i],
            &rough.0[i],
            DType::F32,
        );
        let shadow = device.download(&shadows[i], DType::BF16);
        assert!(
            shadow
                .iter()
                .copied()
                .eq(got.iter().map(|x| round(*x, DType::BF16)))
        );
        results.extend([got, shadow]);
    }
    if c != 1.0 {
        results.extend(unclipped(
            device, dtype, t, eta, &views, &old, &truth.0, &rough.0,
        ));
    }
    results
}

/// The same without clipping, in the products' kernels and in place.
#[expect(
    clippy::too_many_arguments,
    reason = "what the clipped update already has"
)]
fn unclipped(
    device: &mut Interpreted,
    dtype: DType,
    t: usize,
    eta: f64,
    views: &[[View; 2]],
    old: &[View],
    truth: &[Vec<f64>],
    rough: &[Vec<f64>],
) -> Vec<Vec<f64>> {
    let workspace = device.output(clipped_workspace(&SHAPES, t, dtype) / 4, DType::F32);
    let mut results = vec![];
    for (i, [m, n]) in SHAPES.into_iter().enumerate() {
        let shadow = device.output(m * n, DType::BF16);
        let sizes = [m, n, t];
        let factors = views[i].each_ref();
        let launches = unclipped_update(
            sizes,
            dtype,
            eta as f32,
            factors,
            &old[i],
            Some(&shadow),
            &workspace,
        );
        for launch in launches.expect("launches") {
            device.run(&launch);
        }
        let got = device.download(&old[i], DType::F32);
        no_worse_than_twice(
            &format!("unclipped {dtype:?} {i}"),
            &got,
            &truth[i],
            &rough[i],
            DType::F32,
        );
        let shadow = device.download(&shadow, DType::BF16);
        assert!(
            shadow
                .iter()
                .copied()
                .eq(got.iter().map(|x| round(*x, DType::BF16)))
        );
        results.extend([got, shadow]);
    }
    results
}
