//! The loss of whole logits, to second order.

use std::sync::Arc;

use kernels_cu::DType;
use kernels_cu::cross_entropy::{Shape, backward, double_backward, forward};
use ops::{Tensor, Var};
use tests::interpreted::{late_and_early, no_worse_than_twice, round};
use tests::{Random, raise, values};

/// nll; dz; dz2, ddn by the op of a precision.
fn by_ops(
    dtype: ops::DType,
    [t, v]: [usize; 2],
    ids: &Arc<[u32]>,
    [z, dn, a]: [&[f64]; 3],
) -> [Vec<f64>; 4] {
    let tensor = |shape: &[usize], x: &[f64]| {
        Tensor::from_f64s(shape, dtype, x).expect("as many as the shape has")
    };
    let x2 = [tensor(&[t, v], z), tensor(&[t], dn), tensor(&[t, v], a)];
    let f = |x: &[Var]| Ok(vec![ops::cross_entropy(&x[0], ids)?]);
    let first = raise(f, 1, &[true]);
    let second = raise(&first, 2, &[true]);
    let [nll] = &values(f, &x2[..1]).expect("order 0")[..] else {
        panic!("one result")
    };
    let [dz] = &values(&first, &x2[..2]).expect("order 1")[..] else {
        panic!("one result")
    };
    let [dz2, ddn] = &values(&second, &x2).expect("order 2")[..] else {
        panic!("two results")
    };
    [nll, dz, dz2, ddn].map(Tensor::to_f64s)
}

/// The same by the equations, every number rounded to a type.
fn rounded(
    dtype: DType,
    [t, v]: [usize; 2],
    ids: &[u32],
    [z, dn, a]: [&[f64]; 3],
) -> [Vec<f64>; 4] {
    let q = |x: f64| round(x, dtype);
    let (mut nll, mut dz, mut dz2, mut ddn) = (vec![], vec![], vec![], vec![]);
    for i in 0..t {
        let (z, a, n) = (&z[i * v..][..v], &a[i * v..][..v], q(dn[i]));
        let most = z.iter().fold(f64::NEG_INFINITY, |m, x| m.max(*x));
        let sum = z.iter().fold(0.0, |sum, z| q(sum + q(q(z - most).exp())));
        let lse = q(most + q(sum.ln()));
        let p: Vec<f64> = z.iter().map(|z| q(q(z - lse).exp())).collect();
        let target = ids[i] as usize;
        let alpha = p.iter().zip(a).fold(0.0, |sum, (p, a)| q(sum + q(p * a)));
        nll.push(q(lse - z[target]));
        ddn.push(q(alpha - a[target]));
        for j in 0..v {
            let hit = if j == target { 1.0 } else { 0.0 };
            dz.push(q(n * q(p[j] - hit)));
            dz2.push(q(q(n * p[j]) * q(a[j] - alpha)));
        }
    }
    [nll, dz, dz2, ddn]
}

#[test]
fn all_orders_follow_the_op() {
    late_and_early(|device| {
        let mut results = vec![];
        for [t, v] in [[1, 1], [3, 5], [17, 1024], [4, 3001]] {
            for dtype in DType::ALL {
                let mut random = Random::new((t * v) as u64);
                let mut numbers = |n: usize, size: f64, dtype: DType| -> Vec<f64> {
                    (0..n)
                        .map(|_| round(size * random.normal(), dtype))
                        .collect()
                };
                let (z, a) = (numbers(t * v, 3.0, dtype), numbers(t * v, 1.0, dtype));
                let dn = numbers(t, 1.0, DType::F32);
                // the first column, the last, and others
                let ids: Arc<[u32]> = (0..t)
                    .map(|i| [0, v - 1, i * 37 % v][i % 3] as u32)
                    .collect();
                let inputs = [&z[..], &dn, &a];
                let truth = by_ops(ops::DType::F64, [t, v], &ids, inputs);
                let rough = match dtype {
                    DType::F32 => by_ops(ops::DType::F32, [t, v], &ids, inputs),
                    DType::BF16 => rounded(dtype, [t, v], &ids, inputs),
                };
                let shape = Shape { t, v, dtype };
                let [z, a] = [&z, &a].map(|x| device.upload(x, dtype));
                let (dn, ids) = (device.upload(&dn, DType::F32), device.upload_u32(&ids));
                let [nll, lse, ddn] = [0, 1, 2].map(|_| device.output(t, DType::F32));
                let [dz, dz2] = [0, 1].map(|_| device.output(t * v, dtype));
                for launch in [
                    forward(&shape, &z, &ids, &nll, &lse),
                    backward(&shape, &z, &ids, [&dn, &lse], &dz),
                    double_backward(&shape, &z, &ids, [&dn, &lse], &a, [&dz2, &ddn]),
                ] {
                    let total = device.run(&launch.expect("a launch")).counters.total;
                    let aligned = v.is_multiple_of(1024);
                    assert!(
                        !aligned
                            || total.global_sectors as f64
                                <= 1.05 * total.global_sectors_ideal as f64,
                        "{total:?}"
                    );
                    assert!(
                        total.shared_wavefronts as f64
                            <= 1.1 * total.shared_wavefronts_ideal as f64,
                        "{total:?}"
                    );
                }
                let got = [
                    (&nll, DType::F32),
                    (&dz, dtype),
                    (&dz2, dtype),
                    (&ddn, DType::F32),
                ]
                .map(|(view, dtype)| device.download(view, dtype));
                for (i, name) in ["nll", "dz", "dz2", "ddn"].into_iter().enumerate() {
                    no_worse_than_twice(
                        &format!("{name} {t} x {v} {dtype:?}"),
                        &got[i],
                        &truth[i],
                        &rough[i],
                        dtype,
                    );
                }
                results.extend(got);
            }
        }
        results
    });
}
