//! Rows of a table, and the adjoint.

use std::sync::Arc;

use kernels_cu::DType;
use kernels_cu::embedding::{Places, Shape, gather, scatter_add};
use ops::{Tensor, Var};
use tests::Random;
use tests::interpreted::{Interpreted, late_and_early, round};

#[test]
fn places_are_those_of_each_row_in_order() {
    let places = Places::of(&[2, 0, 2, 3, 0], 5);
    assert_eq!(places.starts, [0, 2, 2, 4, 5, 5]);
    assert_eq!(places.order, [1, 4, 0, 2, 3]);
}

/// Rows gathered, and added: by the op in f32, rounded once.
fn by_ops(shape: &Shape, x: &[f64], ids: &Arc<[u32]>, g: &[f64]) -> [Vec<f64>; 2] {
    let Shape {
        rows,
        count,
        d,
        dtype,
    } = *shape;
    let var = |rows: usize, x: &[f64]| {
        let tensor = Tensor::from_f64s(&[rows, d], ops::DType::F32, x);
        Var::constant(tensor.expect("as many as the shape has"))
    };
    let read = ops::gather(&var(rows, x), ids).expect("rows");
    let added = ops::scatter_add(&var(count, g), ids, rows).expect("a table");
    [read, added].map(|y| {
        let y = y.value().to_f64s();
        y.into_iter().map(|y| round(y, dtype)).collect()
    })
}

fn on(device: &mut Interpreted, shape: &Shape, x: &[f64], ids: &[u32], g: &[f64]) -> [Vec<f64>; 2] {
    let Shape {
        rows,
        count,
        d,
        dtype,
    } = *shape;
    let [x, g] = [x, g].map(|x| device.upload(x, dtype));
    let places = Places::of(ids, rows);
    let [ids, starts, order] = [ids, &places.starts, &places.order].map(|x| device.upload_u32(x));
    let [read, added] = [count, rows].map(|rows| device.output(rows * d, dtype));
    for launch in [
        gather(shape, &x, &ids, &read),
        scatter_add(shape, &g, [&starts, &order], &added),
    ] {
        let total = device.run(&launch.expect("a launch")).counters.total;
        assert!(
            !d.is_multiple_of(64)
                || total.global_sectors as f64 <= 1.05 * total.global_sectors_ideal as f64,
            "{shape:?} {total:?}"
        );
    }
    [read, added].map(|y| device.download(&y, dtype))
}

#[test]
fn both_are_the_op_to_the_bit() {
    late_and_early(|device| {
        let mut results = vec![];
        // a row alone, rows of no whole pieces, a row named by all, rows that nobody names
        for [rows, count, d] in [
            [1, 1, 1],
            [7, 20, 5],
            [1, 37, 8],
            [300, 64, 64],
            [9, 5, 2560],
        ] {
            for dtype in DType::ALL {
                let shape = Shape {
                    rows,
                    count,
                    d,
                    dtype,
                };
                let mut random = Random::new((rows * d) as u64);
                let mut numbers = |n: usize| -> Vec<f64> {
                    (0..n).map(|_| round(random.normal(), dtype)).collect()
                };
                let (x, g) = (numbers(rows * d), numbers(count * d));
                // the first row, the last, and others, again and again
                let ids: Arc<[u32]> = (0..count)
                    .map(|i| [0, rows - 1, i * 5 % rows][i % 3] as u32)
                    .collect();
                let got = on(device, &shape, &x, &ids, &g);
                assert!(got == by_ops(&shape, &x, &ids, &g), "{shape:?}");
                results.extend(got);
            }
        }
        results
    });
}
