//! The same bits in pools of one, two and three threads, and twice in a row.

use ops::list::{Function, cases};
use ops::{
    DType, Result, Tensor, Transpose, Var, cross_entropy, dot, matmul, rms_norm, rope, sgd_update,
    swa_attention, swiglu_mlp,
};
use rayon::{ThreadPool, ThreadPoolBuilder};
use tests::{Failures, Random, orders, raise, values};

const DTYPES: [DType; 2] = [DType::F32, DType::F64];

fn pools() -> [(usize, ThreadPool); 4] {
    [1, 2, 3, 3].map(|n| {
        let pool = ThreadPoolBuilder::new().num_threads(n).build();
        (n, pool.expect("threads"))
    })
}

/// Runs `f` in every pool and compares what it returns, order by order.
fn check(
    name: &str,
    pools: &[(usize, ThreadPool)],
    failures: &mut Failures,
    f: impl Fn() -> Result<Vec<Vec<Tensor>>> + Sync,
) {
    let mut results = pools.iter().map(|(n, pool)| match pool.install(&f) {
        Ok(results) => (*n, results),
        Err(e) => panic!("{name}: {e}"),
    });
    let (_, alone) = results.next().expect("a pool");
    for (n, shared) in results {
        for (order, (alone, shared)) in alone.iter().zip(&shared).enumerate() {
            for (result, (alone, shared)) in alone.iter().zip(shared).enumerate() {
                let place = format!("{name}, {n} threads and one: order {order}, result {result}");
                failures.same_bits(place, shared, alone);
            }
        }
    }
}

#[test]
fn every_op_of_the_list() {
    let (mut failures, pools) = (Failures::default(), pools());
    for case in &cases() {
        for dtype in DTYPES {
            let x = Random::new(1).inputs(case, dtype);
            let name = format!("{} ({}) {dtype} {:?}", case.op, case.what, case.shapes);
            check(&name, &pools, &mut failures, || {
                Ok(orders(&case.f, &x, 7)?.into())
            });
        }
    }
    failures.finish();
}

/// More than 2^17 elements: loops are shared between threads.
#[test]
fn fused_ops_large_enough_to_share() {
    fn op(f: impl Fn(&[Var]) -> Result<Var> + Send + Sync + 'static) -> Function {
        Box::new(move |x| Ok(vec![f(x)?]))
    }
    fn attention(t: usize, c: usize, n: usize, m: usize, h: usize) -> Vec<Vec<usize>> {
        let (cached, current) = (vec![c, m, h], vec![t, m, h]);
        vec![
            vec![t, n, h],
            cached.clone(),
            cached,
            current.clone(),
            current,
        ]
    }
    let (mut failures, pools) = (Failures::default(), pools());
    for dtype in DTYPES {
        let (cos, sin) = ops::derived::rope_tables(7, 203, 64, 5e5, dtype).expect("tables");
        let ids = (0..130).map(|i| (i * 7919 % 2003) as u32).collect();
        let large: Vec<(&str, Vec<Vec<usize>>, Function)> = vec![
            (
                "rms_norm",
                vec![vec![401, 500], vec![500]],
                op(|x| rms_norm(&x[0], &x[1], 1e-6)),
            ),
            (
                "swiglu_mlp",
                vec![vec![701, 64], vec![300, 64], vec![300, 64], vec![64, 300]],
                op(|x| swiglu_mlp(&x[0], &x[1], &x[2], &x[3])),
            ),
            (
                "cross_entropy",
                vec![vec![130, 2003]],
                op(move |x| cross_entropy(&x[0], &ids)),
            ),
            (
                "rope",
                vec![vec![203, 12, 64]],
                op(move |x| rope(&x[0], &cos, &sin)),
            ),
            (
                "sgd_update",
                vec![vec![301, 700], vec![301, 700], vec![]],
                op(|x| sgd_update(&x[0], &x[1], &x[2])),
            ),
            ("dot", vec![vec![301, 700]; 2], op(|x| dot(&x[0], &x[1]))),
            (
                "swa_attention",
                attention(150, 270, 6, 3, 64),
                op(|x| swa_attention(&x[0], [&x[1], &x[2]], [&x[3], &x[4]], 270)),
            ),
            // one query: one pass over the keys, in several parts
            (
                "swa_attention",
                attention(1, 5000, 4, 2, 64),
                op(|x| swa_attention(&x[0], [&x[1], &x[2]], [&x[3], &x[4]], 4800)),
            ),
            // one head, in several runs of rows
            (
                "swa_attention",
                attention(1100, 1430, 1, 1, 32),
                op(|x| swa_attention(&x[0], [&x[1], &x[2]], [&x[3], &x[4]], 1400)),
            ),
        ];
        for (name, shapes, f) in &large {
            let x = Random::new(1).tensors(shapes, dtype);
            let name = format!("{name} {dtype} {shapes:?}");
            check(
                &name,
                &pools,
                &mut failures,
                || Ok(orders(f, &x, 7)?.into()),
            );
        }
    }
    failures.finish();
}

/// Products of more than 2^23 operations and their gradients, which are products in the other transposes; some of them with
/// operands that are zero in large blocks.
#[test]
fn matrix_products_large_enough_to_share() {
    let (mut failures, pools) = (Failures::default(), pools());
    let sizes = [
        (301, 257, 199),
        (16, 700, 800),
        (3, 2000, 900),
        (1, 2101, 2050),
        (700, 5, 1500),
        (129, 1500, 65),
    ];
    for dtype in DTYPES {
        for (i, (m, k, n)) in sizes.into_iter().enumerate() {
            for (transpose, a, b) in [
                (Transpose::None, [m, k], [k, n]),
                (Transpose::B, [m, k], [n, k]),
                (Transpose::A, [k, m], [k, n]),
            ] {
                let mut random = Random::new(1);
                let x = [a, b].map(|s| random.tensor(&s, dtype));
                let x = if i % 2 == 0 {
                    x.map(without_a_block)
                } else {
                    x
                };
                let ct = random.tensor(&[m, n], dtype);
                let f = move |x: &[Var]| Ok(vec![matmul(&x[0], &x[1], transpose)?]);
                let name = format!("matmul {transpose:?} {dtype} {:?}", [m, k, n]);
                check(&name, &pools, &mut failures, || {
                    let dx = raise(f, 2, &[true]);
                    let x1 = [&x[..], std::slice::from_ref(&ct)].concat();
                    Ok(vec![values(f, &x)?, values(dx, &x1)?])
                });
            }
        }
    }
    failures.finish();
}

/// The middle third in both axes set to zero.
fn without_a_block(x: Tensor) -> Tensor {
    let [rows, cols] = *x.shape() else {
        panic!("a matrix")
    };
    let third = |i: usize, n: usize| i > n / 3 && i < 2 * n / 3;
    let keep = |(i, x): (usize, f64)| match third(i / cols, rows) && third(i % cols, cols) {
        true => 0.0,
        false => x,
    };
    let numbers: Vec<f64> = x.to_f64s().into_iter().enumerate().map(keep).collect();
    Tensor::from_f64s(x.shape(), x.dtype(), &numbers).expect("as many numbers")
}
