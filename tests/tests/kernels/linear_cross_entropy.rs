//! The loss of an output matrix, to second order, over tiles of its rows.

use std::sync::Arc;

use kernels_cu::linear_cross_entropy::{Caches, Inputs, Shape, backward, double_backward, forward};
use kernels_cu::{DType, Launch, View};
use ops::{Tensor, Var};
use tests::interpreted::{
    Interpreted, late_and_early, no_worse_than_twice, round, sums_no_worse_than_twice,
};
use tests::{Random, raise, values};

/// nll, r; dx, dW by dn, by R, by both; dx2, dW2, ddn.
const RESULTS: [&str; 11] = [
    "nll",
    "r",
    "dx by dn",
    "dW by dn",
    "dx by R",
    "dW by R",
    "dx by both",
    "dW by both",
    "dx2",
    "dW2",
    "ddn",
];

struct Case {
    t: usize,
    d: usize,
    v: usize,
    ids: Arc<[u32]>,
    x: Vec<f64>,
    w: Vec<f64>,
    dn: Vec<f64>,
    /// Cotangent of r.
    big_r: Vec<f64>,
    /// Cotangent of dW.
    b: Vec<f64>,
}

impl Case {
    fn new([t, d, v]: [usize; 3], dtype: DType) -> Self {
        let mut random = Random::new((t * d + v) as u64);
        let mut numbers = |n: usize, dtype: DType| -> Vec<f64> {
            (0..n).map(|_| round(random.normal(), dtype)).collect()
        };
        // the last rows are larger, so that a last tile has the largest logits
        let mut w = numbers(v * d, dtype);
        w[(v - v / 100) * d..].iter_mut().for_each(|w| *w *= 2.0);
        Case {
            t,
            d,
            v,
            // the first column, the last, and others
            ids: (0..t)
                .map(|i| [0, v - 1, i * 3001 % v][i % 3] as u32)
                .collect(),
            x: numbers(t * d, dtype),
            w,
            dn: numbers(t, DType::F32),
            big_r: numbers(t * d, dtype),
            b: numbers(v * d, dtype),
        }
    }

    /// All results by the op of a precision. The cotangent R of r is that of dx where dn is 1.
    fn by_ops(&self, dtype: ops::DType) -> Vec<Vec<f64>> {
        let Case { t, d, v, .. } = *self;
        let tensor = |shape: &[usize], x: &[f64]| {
            Tensor::from_f64s(shape, dtype, x).expect("as many as the shape has")
        };
        let x = [tensor(&[t, d], &self.x), tensor(&[v, d], &self.w)];
        let (dn, ones) = (tensor(&[t], &self.dn), tensor(&[t], &vec![1.0; t]));
        let f = |x: &[Var]| Ok(vec![ops::linear_cross_entropy(&x[0], &x[1], &self.ids)?]);
        let first = raise(f, 2, &[true]);
        let by_a = raise(&first, 3, &[true, false]);
        let by_b = raise(&first, 3, &[false, true]);
        let with = |more: &[&Tensor]| -> Vec<Tensor> {
            x.iter().chain(more.iter().copied()).cloned().collect()
        };
        let run = |f: &dyn Fn(&[Var]) -> ops::Result<Vec<Var>>, x: &[Tensor]| -> Vec<Vec<f64>> {
            values(f, x)
                .expect("results")
                .iter()
                .map(Tensor::to_f64s)
                .collect()
        };
        let nll = run(&f, &x);
        let r = run(&first, &with(&[&ones])).swap_remove(0);
        let by_dn = run(&first, &with(&[&dn]));
        let mut by_r = run(&by_a, &with(&[&ones, &tensor(&[t, d], &self.big_r)]));
        by_r.truncate(2);
        let both: Vec<Vec<f64>> = by_dn
            .iter()
            .zip(&by_r)
            .map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect())
            .collect();
        let second = run(&by_b, &with(&[&dn, &tensor(&[v, d], &self.b)]));
        [nll, vec![r], by_dn, by_r, both, second].concat()
    }

    /// The same by the equations, every number rounded to a type.
    fn rounded(&self, dtype: DType) -> Vec<Vec<f64>> {
        let Case { t, d, v, .. } = *self;
        let q = |x: f64| round(x, dtype);
        // a b' for a [n, k], b [m, k], and a b for b [k, m]
        let across = |a: &[f64], b: &[f64], n: usize, m: usize, k: usize| -> Vec<f64> {
            let at = |i: usize| {
                (0..k).fold(
                    0.0,
                    |sum, j| q(sum + q(a[i / m * k + j] * b[i % m * k + j])),
                )
            };
            (0..n * m).map(at).collect()
        };
        let turned = |a: &[f64], n: usize, m: usize| -> Vec<f64> {
            (0..n * m).map(|i| a[i % n * m + i / n]).collect()
        };
        let down = |a: &[f64], b: &[f64], n: usize, m: usize, k: usize| {
            across(a, &turned(b, k, m), n, m, k)
        };
        let (ids, w) = (&self.ids, &self.w);
        let z = across(&self.x, w, t, v, d);
        let rows = 0..t;
        let lse: Vec<f64> = rows
            .clone()
            .map(|i| {
                let z = &z[i * v..][..v];
                let most = z.iter().fold(f64::NEG_INFINITY, |m, x| m.max(*x));
                q(most
                    + q(z
                        .iter()
                        .fold(0.0, |sum, z| q(sum + q(q(z - most).exp())))
                        .ln()))
            })
            .collect();
        let hit = |i: usize| {
            if i % v == ids[i / v] as usize {
                1.0
            } else {
                0.0
            }
        };
        let all = 0..t * v;
        let p: Vec<f64> = all.clone().map(|i| q(q(z[i] - lse[i / v]).exp())).collect();
        let g: Vec<f64> = all.clone().map(|i| q(p[i] - hit(i))).collect();
        let dn: Vec<f64> = self.dn.iter().map(|x| q(*x)).collect();
        let nll: Vec<f64> = rows
            .clone()
            .map(|i| q(lse[i] - z[i * v + ids[i] as usize]))
            .collect();
        let r = down(&g, w, t, d, v);
        let alpha = |zz: &[f64]| -> Vec<f64> {
            let of = |i: usize| (0..v).fold(0.0, |sum, j| q(sum + q(p[i * v + j] * zz[i * v + j])));
            (0..t).map(of).collect()
        };
        let by = |dz: &[f64]| {
            [
                down(dz, w, t, d, v),
                down(&turned(dz, v, t), &self.x, v, d, t),
            ]
        };
        let add =
            |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| q(a + b)).collect() };
        let by_n: Vec<f64> = all.clone().map(|i| q(dn[i / v] * g[i])).collect();
        let zr = across(&self.big_r, w, t, v, d);
        let ar = alpha(&zr);
        let by_r: Vec<f64> = all
            .clone()
            .map(|i| q(p[i] * q(zr[i] - ar[i / v])))
            .collect();
        let [dx_n, dw_n] = by(&by_n);
        let [dx_r, dw_r] = by(&by_r);
        let dw_r = add(&dw_r, &down(&turned(&g, v, t), &self.big_r, v, d, t));
        let zb = across(&self.x, &self.b, t, v, d);
        let ab = alpha(&zb);
        let dz2: Vec<f64> = all
            .map(|i| q(q(dn[i / v] * p[i]) * q(zb[i] - ab[i / v])))
            .collect();
        let [dx2, dw2] = by(&dz2);
        let dx2 = add(&dx2, &down(&by_n, &self.b, t, d, v));
        let ddn = rows
            .map(|i| q(ab[i] - zb[i * v + ids[i] as usize]))
            .collect();
        let both = [add(&dx_n, &dx_r), add(&dw_n, &dw_r)];
        let [dx_b, dw_b] = both;
        vec![nll, r, dx_n, dw_n, dx_r, dw_r, dx_b, dw_b, dx2, dw2, ddn]
    }

    fn on(&self, device: &mut Interpreted, dtype: DType) -> Vec<Vec<f64>> {
        let Case { t, d, v, .. } = *self;
        let shape = Shape { t, d, v, dtype };
        let [x, w, big_r, b] =
            [&self.x, &self.w, &self.big_r, &self.b].map(|x| device.upload(x, dtype));
        let (dn, ids) = (
            device.upload(&self.dn, DType::F32),
            device.upload_u32(&self.ids),
        );
        let of = Inputs {
            x: &x,
            w: &w,
            ids: &ids,
        };
        let f32 = DType::F32;
        let mut results: Vec<(View, DType)> = vec![];
        let run = |device: &mut Interpreted, launches: Vec<Launch>| {
            for launch in launches {
                let total = device.run(&launch).counters.total;
                // rows that do not start where sectors do take more
                let aligned = d.is_multiple_of(32)
                    && v.is_multiple_of(32)
                    && launch.program().name == "linear_cross_entropy";
                assert!(
                    !aligned
                        || total.global_sectors as f64 <= 1.05 * total.global_sectors_ideal as f64,
                    "{} {total:?}",
                    launch.entry()
                );
            }
        };
        // a workspace of its own for each: nothing may be left over from another level
        let workspace =
            |device: &mut Interpreted| device.output(shape.workspace().div_ceil(4), f32);
        let [nll, lse] = [0, 1].map(|_| device.output(t, f32));
        let r = device.output(t * d, dtype);
        let room = workspace(device);
        run(
            device,
            forward(&shape, &of, [&nll, &lse], Some(&r), &room).expect("launches"),
        );
        let [alone, lse_alone] = [0, 1].map(|_| device.output(t, f32));
        run(
            device,
            forward(&shape, &of, [&alone, &lse_alone], None, &room).expect("launches"),
        );
        assert_eq!(device.download(&alone, f32), device.download(&nll, f32));
        results.extend([(nll, f32), (r.clone(), dtype)]);
        let caches = Caches { lse: &lse, r: &r };
        for ct in [
            [Some(&dn), None],
            [None, Some(&big_r)],
            [Some(&dn), Some(&big_r)],
        ] {
            let (dx, dw) = (device.output(t * d, dtype), device.output(v * d, f32));
            let room = workspace(device);
            run(
                device,
                backward(&shape, &of, ct, &caches, [Some(&dx), Some(&dw)], &room)
                    .expect("launches"),
            );
            let (dx_alone, dw_alone) = (device.output(t * d, dtype), device.output(v * d, f32));
            run(
                device,
                backward(&shape, &of, ct, &caches, [Some(&dx_alone), None], &room)
                    .expect("launches"),
            );
            run(
                device,
                backward(&shape, &of, ct, &caches, [None, Some(&dw_alone)], &room)
                    .expect("launches"),
            );
            assert_eq!(
                device.download(&dx_alone, dtype),
                device.download(&dx, dtype)
            );
            assert_eq!(device.download(&dw_alone, f32), device.download(&dw, f32));
            results.extend([(dx, dtype), (dw, f32)]);
        }
        let (dx2, dw2, ddn) = (
            device.output(t * d, dtype),
            device.output(v * d, f32),
            device.output(t, f32),
        );
        let room = workspace(device);
        run(
            device,
            double_backward(&shape, &of, [&dn, &lse], &b, [&dx2, &dw2, &ddn], &room)
                .expect("launches"),
        );
        results.extend([(dx2, dtype), (dw2, f32), (ddn, f32)]);
        results
            .iter()
            .map(|(view, dtype)| device.download(view, *dtype))
            .collect()
    }
}

#[test]
fn all_orders_follow_the_op() {
    late_and_early(|device| {
        let mut results = vec![];
        // one tile, several, ragged ones; few rows; widths that fit no line
        for shape in [
            [1, 4, 3],
            [9, 32, 96],
            [5, 16, 7000],
            [7, 33, 301],
            [70, 64, 256],
        ] {
            for dtype in DType::ALL {
                let case = Case::new(shape, dtype);
                let truth = case.by_ops(ops::DType::F64);
                let rough = match dtype {
                    DType::F32 => case.by_ops(ops::DType::F32),
                    DType::BF16 => case.rounded(dtype),
                };
                let got = case.on(device, dtype);
                for (i, name) in RESULTS.into_iter().enumerate() {
                    let (what, results) = (
                        format!("{name} {shape:?} {dtype:?}"),
                        [&got[i][..], &truth[i], &rough[i]],
                    );
                    match dtype {
                        DType::F32 => {
                            sums_no_worse_than_twice(shape[1].max(shape[2]), &what, results)
                        }
                        DType::BF16 => {
                            no_worse_than_twice(&what, results[0], results[1], results[2], dtype)
                        }
                    }
                }
                results.extend(got);
            }
        }
        results
    });
}
