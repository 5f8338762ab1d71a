//! rms_norm and its derivatives.

use kernels_cu::DType;
use kernels_cu::rms_norm::{Shape, backward, double_backward, forward};
use ops::{Tensor, Var};
use tests::interpreted::{Interpreted, late_and_early, no_worse_than_twice, round};
use tests::{Random, raise, values};

const EPS: f64 = 1e-6;

/// Everything that the three kernels take.
struct Inputs {
    rows: usize,
    d: usize,
    x: Vec<f64>,
    w: Vec<f64>,
    dy: Vec<f64>,
    a: Vec<f64>,
    b: Vec<f64>,
}

impl Inputs {
    fn new(rows: usize, d: usize, dtype: DType, weight: DType) -> Self {
        let mut random = Random::new((rows * d) as u64);
        let mut numbers = |n: usize, dtype: DType| -> Vec<f64> {
            (0..n).map(|_| round(random.normal(), dtype)).collect()
        };
        Inputs {
            rows,
            d,
            x: numbers(rows * d, dtype),
            w: numbers(d, weight),
            dy: numbers(rows * d, dtype),
            a: numbers(rows * d, dtype),
            b: numbers(d, weight),
        }
    }

    /// y; dx, dw; dx2, dw2, ddy by the op of a precision.
    fn by_ops(&self, dtype: ops::DType, present: [bool; 2]) -> [Vec<Vec<f64>>; 3] {
        let tensor = |shape: &[usize], x: &[f64]| {
            Tensor::from_f64s(shape, dtype, x).expect("as many as the shape has")
        };
        let all = [self.rows, self.d];
        let x = [tensor(&all, &self.x), tensor(&[self.d], &self.w)];
        let mut x1 = x.to_vec();
        x1.push(tensor(&all, &self.dy));
        let mut x2 = x1.clone();
        let cotangents = [tensor(&all, &self.a), tensor(&[self.d], &self.b)];
        x2.extend(
            cotangents
                .into_iter()
                .zip(present)
                .filter(|(_, there)| *there)
                .map(|(c, _)| c),
        );
        let f = |x: &[Var]| Ok(vec![ops::rms_norm(&x[0], &x[1], EPS)?]);
        let first = raise(f, 2, &[true]);
        let second = raise(&first, 3, &present);
        let numbers = |tensors: Vec<Tensor>| tensors.iter().map(Tensor::to_f64s).collect();
        [
            numbers(values(f, &x).expect("order 0")),
            numbers(values(&first, &x1).expect("order 1")),
            numbers(values(&second, &x2).expect("order 2")),
        ]
    }

    /// The same by the equations, every number rounded to a type.
    fn rounded(&self, dtype: DType, present: [bool; 2]) -> [Vec<Vec<f64>>; 3] {
        let (d, q) = (self.d, |x: f64| round(x, dtype));
        let sum = |x: &mut dyn Iterator<Item = f64>| x.fold(0.0, |sum, x| q(sum + q(x)));
        let n = self.rows * d;
        let (mut y, mut dx, mut dx2, mut ddy) =
            (vec![0.0; n], vec![0.0; n], vec![0.0; n], vec![0.0; n]);
        let (mut dw, mut dw2) = (vec![0.0; d], vec![0.0; d]);
        for row in 0..self.rows {
            let at = |x: &[f64], i: usize| x[row * d + i];
            let x = |i: usize| at(&self.x, i);
            let a_ = |i: usize| if present[0] { at(&self.a, i) } else { 0.0 };
            let b_ = |i: usize| if present[1] { self.b[i] } else { 0.0 };
            let mean = q(sum(&mut (0..d).map(|i| x(i) * x(i))) / d as f64);
            let r = q(1.0 / q(q(mean + EPS).sqrt()));
            let xh: Vec<f64> = (0..d).map(|i| q(x(i) * r)).collect();
            let u: Vec<f64> = (0..d).map(|i| q(at(&self.dy, i) * self.w[i])).collect();
            let m = q(sum(&mut (0..d).map(|i| xh[i] * u[i])) / d as f64);
            let a = q(sum(&mut (0..d).map(|i| a_(i) * xh[i])) / d as f64);
            let e = q(sum(&mut (0..d).map(|i| a_(i) * u[i])) - q(d as f64 * q(a * m)));
            let t: Vec<f64> = (0..d).map(|i| q(a_(i) - q(a * xh[i]))).collect();
            let h: Vec<f64> = (0..d)
                .map(|i| q(q(b_(i) * at(&self.dy, i)) - q(r * q(q(m * a_(i)) + q(a * u[i])))))
                .collect();
            let c =
                q(q(sum(&mut (0..d).map(|i| h[i] * xh[i])) / d as f64) + q(q(r * e) / d as f64));
            for i in 0..d {
                let to = row * d + i;
                y[to] = q(xh[i] * self.w[i]);
                dx[to] = q(r * q(u[i] - q(xh[i] * m)));
                dw[i] = q(dw[i] + q(at(&self.dy, i) * xh[i]));
                ddy[to] = q(q(q(self.w[i] * r) * t[i]) + q(b_(i) * xh[i]));
                dw2[i] = q(dw2[i] + q(q(at(&self.dy, i) * r) * t[i]));
                dx2[to] = q(r * q(h[i] - q(xh[i] * c)));
            }
        }
        [vec![y], vec![dx, dw], vec![dx2, dw2, ddy]]
    }

    fn on(
        &self,
        device: &mut Interpreted,
        dtype: DType,
        weight: DType,
        present: [bool; 2],
    ) -> [Vec<Vec<f64>>; 3] {
        let shape = Shape {
            rows: self.rows,
            d: self.d,
            dtype,
            weight,
            eps: EPS as f32,
        };
        let n = self.rows * self.d;
        let [x, dy, a] = [&self.x, &self.dy, &self.a].map(|x| device.upload(x, dtype));
        let [w, b] = [&self.w, &self.b].map(|x| device.upload(x, weight));
        let [y, dx, dx2, ddy] = std::array::from_fn(|_| device.output(n, dtype));
        let [dw, dw2] = std::array::from_fn(|_| device.output(self.d, weight));
        let mut all = vec![forward(&shape, &x, &w, &y).expect("a launch")];
        let workspace = device.output(shape.workspace() / 4, DType::F32);
        all.extend(
            backward(&shape, [&x, &w, &dy], &dx, Some((&dw, &workspace))).expect("launches"),
        );
        let workspace = device.output(shape.workspace() / 4, DType::F32);
        let cotangents = [present[0].then_some(&a), present[1].then_some(&b)];
        all.extend(
            double_backward(
                &shape,
                [&x, &w, &dy],
                cotangents,
                [&dx2, &dw2, &ddy],
                &workspace,
            )
            .expect("launches"),
        );
        for launch in &all {
            let total = device.run(launch).counters.total;
            // rows that do not start where sectors do take more
            let aligned = self.d.is_multiple_of(64);
            assert!(
                !aligned || total.global_sectors as f64 <= 1.05 * total.global_sectors_ideal as f64,
                "{total:?}"
            );
            assert!(
                total.shared_wavefronts as f64 <= 1.1 * total.shared_wavefronts_ideal as f64,
                "{total:?}"
            );
        }
        // without dw, dx is the same
        let alone = device.output(n, dtype);
        for launch in backward(&shape, [&x, &w, &dy], &alone, None).expect("launches") {
            device.run(&launch);
        }
        assert_eq!(device.download(&alone, dtype), device.download(&dx, dtype));
        [
            vec![device.download(&y, dtype)],
            vec![device.download(&dx, dtype), device.download(&dw, weight)],
            vec![
                device.download(&dx2, dtype),
                device.download(&dw2, weight),
                device.download(&ddy, dtype),
            ],
        ]
    }
}

#[test]
fn all_orders_follow_the_op() {
    late_and_early(|device| {
        let mut results = vec![];
        for (rows, d) in [
            (1, 1),
            (5, 7),
            (37, 64),
            (11, 80),
            (9, 1024),
            (3, 2560),
            (2, 5000),
        ] {
            for (dtype, weight) in [
                (DType::F32, DType::F32),
                (DType::BF16, DType::F32),
                (DType::BF16, DType::BF16),
            ] {
                for present in [[true, true], [true, false], [false, true]] {
                    let inputs = Inputs::new(rows, d, dtype, weight);
                    let truth = inputs.by_ops(ops::DType::F64, present);
                    let rough = match dtype {
                        DType::F32 => inputs.by_ops(ops::DType::F32, present),
                        DType::BF16 => inputs.rounded(dtype, present),
                    };
                    let got = inputs.on(device, dtype, weight, present);
                    for (order, ((got, truth), rough)) in
                        got.iter().zip(&truth).zip(&rough).enumerate()
                    {
                        for (i, ((got, truth), rough)) in
                            got.iter().zip(truth).zip(rough).enumerate()
                        {
                            let what = format!(
                                "order {order}, result {i}, {rows} x {d} {dtype:?} {weight:?} {present:?}"
                            );
                            no_worse_than_twice(&what, got, truth, rough, dtype);
                        }
                        results.extend(got.iter().cloned());
                    }
                }
            }
        }
        results
    });
}
