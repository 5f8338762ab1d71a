//! Copies along axes with steps of their own.

use kernels_cu::DType;
use kernels_cu::layout::{Axis, copy};
use tests::Random;
use tests::interpreted::{late_and_early, round};

fn axes(axes: &[[usize; 3]]) -> Vec<Axis> {
    let of = |&[size, from, to]: &[usize; 3]| Axis { size, from, to };
    axes.iter().map(of).collect()
}

/// Calls `f` with the place on both sides of every element.
fn places(axes: &[Axis], from: usize, to: usize, f: &mut impl FnMut(usize, usize)) {
    match axes.split_first() {
        None => f(from, to),
        Some((axis, rest)) => {
            (0..axis.size).for_each(|i| places(rest, from + i * axis.from, to + i * axis.to, f));
        }
    }
}

#[test]
fn every_element_goes_to_its_place() {
    let cases = [
        // one run
        vec![[1000, 1, 1]],
        // rows into wider rows, in words of 16 bytes and not
        vec![[30, 64, 128], [64, 1, 1]],
        vec![[30, 7, 11], [7, 1, 1]],
        // a transpose, a repeated row, a repeated column
        vec![[13, 1, 9], [9, 13, 1]],
        vec![[5, 0, 16], [16, 1, 1]],
        vec![[16, 1, 5], [5, 0, 1]],
        // axes that do not merge
        vec![[2, 300, 81], [3, 70, 27], [3, 11, 9], [3, 3, 3], [3, 1, 1]],
        vec![[1, 0, 0]],
    ];
    late_and_early(|device| {
        let mut results = vec![];
        for dtype in DType::ALL {
            for case in &cases {
                let axes = axes(case);
                let (mut read, mut written) = (0, 0);
                places(&axes, 0, 0, &mut |from, to| {
                    (read, written) = (read.max(from + 1), written.max(to + 1));
                });
                let mut random = Random::new(1);
                let x: Vec<f64> = (0..read).map(|_| round(random.normal(), dtype)).collect();
                // zeros stay where nothing is written
                let mut want = vec![0.0; written];
                let (from, to) = (device.upload(&x, dtype), device.upload(&want, dtype));
                places(&axes, 0, 0, &mut |from, to| want[to] = x[from]);
                let launch = copy(dtype, &axes, &from, &to).expect("a launch");
                device.run(&launch);
                let got = device.download(&to, dtype);
                assert_eq!(got, want, "{dtype:?} {case:?}");
                results.push(got);
            }
        }
        results
    });
}

#[test]
fn what_lies_side_by_side_moves_without_waste() {
    late_and_early(|device| {
        for dtype in DType::ALL {
            let x = device.upload(&vec![1.0; 64 * 256], dtype);
            let y = device.upload(&vec![0.0; 64 * 512], dtype);
            let axes = axes(&[[64, 256, 512], [256, 1, 1]]);
            let launch = copy(dtype, &axes, &x, &y).expect("a launch");
            let total = device.run(&launch).counters.total;
            assert!(total.global_sectors as f64 <= 1.05 * total.global_sectors_ideal as f64);
        }
        vec![]
    });
}

#[test]
fn places_outside_are_refused() {
    late_and_early(|device| {
        let x = device.upload(&[0.0; 12], DType::F32);
        for case in [[[3, 4, 4], [5, 1, 1]], [[0, 1, 1], [4, 1, 1]]] {
            assert!(copy(DType::F32, &axes(&case), &x, &x).is_err());
        }
        vec![]
    });
}
