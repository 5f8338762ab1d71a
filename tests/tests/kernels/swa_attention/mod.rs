//! Attention over a sliding window: orders 0, 1 and 2.

mod estimates;
mod numbers;
mod plain;

use kernels_cu::swa_attention::{
    Caches, Sizes, backward, backward_workspace, double_backward, double_backward_workspace,
    forward,
};
use kernels_cu::{DType, View};
use numbers::{Case, Numbers, Results, inputs};
use ptx::Report;
use tests::interpreted::{Interpreted, late_and_early, no_worse_than_twice};

const fn case([t, c, n, m, h, window]: [usize; 6]) -> Case {
    Case {
        t,
        c,
        n,
        m,
        h,
        window,
    }
}

const CASES: [Case; 10] = [
    case([1, 0, 1, 1, 16, 1]),
    case([5, 0, 2, 1, 8, 1]),
    case([37, 0, 2, 2, 16, 100]),
    case([70, 0, 2, 1, 16, 9]),
    case([6, 3, 2, 1, 24, 1]),
    case([33, 100, 4, 2, 32, 50]),
    case([150, 70, 2, 1, 64, 300]),
    case([65, 129, 1, 1, 80, 100]),
    case([40, 50, 1, 1, 96, 64]),
    case([67, 40, 2, 1, 128, 90]),
];

const ALL: [bool; 5] = [true; 5];
/// Cached keys are constants of the inner gradient.
const CURRENT: [bool; 5] = [true, false, false, true, true];

/// What a device gives, where `present` says which gradients there are, and which cotangents of them.
fn run(
    device: &mut Interpreted,
    numbers: &Numbers,
    present: [bool; 5],
    wanted: [bool; 6],
) -> Results {
    let dtype = numbers.dtype;
    let Case { t, n, .. } = numbers.case;
    let sizes = numbers.sizes();
    let (x, ct) = numbers.upload(device);
    let [o, first @ ..] = {
        let [q, k0, v0, k, v, o] = numbers.outputs(device);
        [o, q, k0, v0, k, v]
    };
    let lse = device.output(t * n, DType::F32);
    let (x_in, do_) = (inputs(&x), &x[5]);
    let launch = forward(&sizes, &x_in, &o, &lse).expect("a launch");
    let check = |report: &Report, entry: &str| {
        if numbers.case.h >= 64 {
            gates(&format!("{dtype:?} {:?} {entry}", numbers.case), report);
        }
    };
    check(&device.run(&launch), launch.entry());
    let caches = Caches { o: &o, lse: &lse };

    let workspace = device.output(backward_workspace(&sizes) / 4, DType::F32);
    let d = std::array::from_fn(|i| present[i].then_some(&first[i]));
    for launch in backward(&sizes, &x_in, do_, &caches, d, &workspace).expect("launches") {
        check(&device.run(&launch), launch.entry());
    }

    let second = numbers.outputs(device);
    let workspace = device.output(double_backward_workspace(&sizes) / 4, DType::F32);
    let ct = std::array::from_fn(|i| present[i].then_some(&ct[i]));
    let d = std::array::from_fn(|i| wanted[i].then_some(&second[i]));
    let launches = double_backward(&sizes, &x_in, do_, &caches, ct, d, &workspace);
    for launch in launches.expect("launches") {
        check(&device.run(&launch), launch.entry());
    }
    let read = |view: &View, there: bool| {
        if there {
            device.download(view, dtype)
        } else {
            vec![]
        }
    };
    Results {
        zeroth: [read(&o, true), device.download(&lse, DType::F32)],
        first: std::array::from_fn(|i| read(&first[i], present[i])),
        second: std::array::from_fn(|i| read(&second[i], wanted[i])),
    }
}

fn gates(what: &str, report: &Report) {
    let total = &report.counters.total;
    let ratio = |a: u64, b: u64| a as f64 / b.max(1) as f64;
    let sectors = ratio(total.global_sectors, total.global_sectors_ideal);
    let wavefronts = ratio(total.shared_wavefronts, total.shared_wavefronts_ideal);
    assert!(sectors <= 1.15, "{what}: {sectors} times the sectors");
    assert!(
        wavefronts <= 1.1,
        "{what}: {wavefronts} times the wavefronts"
    );
}

/// Runs a case and holds it to its meaning.
fn compare(
    device: &mut Interpreted,
    case: Case,
    dtype: DType,
    present: [bool; 5],
    wanted: [bool; 6],
) -> Vec<Vec<f64>> {
    let numbers = Numbers::new(case, dtype);
    let got = run(device, &numbers, present, wanted);
    let (truth, rough) = numbers.expected(present);
    let (truth, got) = (all(&truth), all(&got));
    let rough: Vec<_> = rough.iter().map(all).collect();
    for (i, (name, got)) in got.iter().enumerate().filter(|x| !x.1.1.is_empty()) {
        let what = format!("{name} of {dtype:?} {case:?}, cotangents {present:?}");
        let truth = &truth[i].1;
        let error = |x: &[f64]| {
            x.iter()
                .zip(truth)
                .fold(0.0, |e: f64, (x, y)| e.max((x - y).abs()))
        };
        let rough = rough
            .iter()
            .map(|x| &x[i].1)
            .max_by(|x, y| error(x).total_cmp(&error(y)));
        no_worse_than_twice(&what, got, truth, rough.expect("a meaning"), dtype);
    }
    got.into_iter().map(|x| x.1).collect()
}

/// With names.
fn all(x: &Results) -> Vec<(String, Vec<f64>)> {
    let names = ["q", "cached k", "cached v", "k", "v", "do"];
    let mut all = vec![
        ("o".to_string(), x.zeroth[0].clone()),
        ("lse".into(), x.zeroth[1].clone()),
    ];
    for (order, x) in [("d", &x.first[..]), ("d2", &x.second[..])] {
        all.extend(
            names
                .iter()
                .zip(x)
                .map(|(name, x)| (format!("{order} {name}"), x.clone())),
        );
    }
    all
}

fn compare_all(dtype: DType, present: [bool; 5]) {
    late_and_early(|device| {
        let of = |case| compare(device, case, dtype, present, [true; 6]);
        CASES.into_iter().flat_map(of).collect()
    });
}

#[test]
fn f32_is_as_good_as_the_meaning() {
    compare_all(DType::F32, ALL);
}

#[test]
fn bf16_is_as_good_as_the_meaning() {
    compare_all(DType::BF16, ALL);
}

#[test]
fn f32_with_constant_cached_keys() {
    compare_all(DType::F32, CURRENT);
}

#[test]
fn bf16_with_constant_cached_keys() {
    compare_all(DType::BF16, CURRENT);
}

#[test]
fn any_subset_of_cotangents_and_results() {
    late_and_early(|device| {
        let subsets = [
            (0b00001, 0b000001),
            (0b00010, 0b100000),
            (0b01100, 0b001010),
            (0b10101, 0b010101),
            (0b11110, 0b111011),
        ];
        let mut results = vec![];
        for (present, wanted) in subsets {
            let of = |bits: u32, i: usize| bits >> i & 1 == 1;
            let (present, wanted) = (
                std::array::from_fn(|i| of(present, i)),
                std::array::from_fn(|i| of(wanted, i)),
            );
            let case = case([43, 21, 2, 1, 32, 17]);
            results.extend(compare(device, case, DType::F32, present, wanted));
        }
        results
    });
}

#[test]
fn views_and_sizes_that_do_not_fit_are_refused() {
    let numbers = Numbers::new(case([4, 2, 2, 1, 16, 3]), DType::F32);
    let sizes = numbers.sizes();
    let view = |n: usize| View::interpreted(1 << 20, 4 * n);
    let (q, cached, current) = (view(4 * 2 * 16), view(2 * 16), view(4 * 16));
    let (lse, short) = (view(8), view(7));
    let x = [&q, &cached, &cached, &current, &current, &q].map(View::clone);
    let x = inputs(&x);
    assert!(forward(&sizes, &x, &q, &lse).is_ok());
    let refused = |sizes: &Sizes, o: &View, lse: &View| {
        let error = forward(sizes, &x, o, lse).expect_err("a misfit");
        error.to_string()
    };
    assert!(refused(&sizes, &current, &lse).contains("o "));
    assert!(refused(&sizes, &q, &short).contains("lse "));
    for sizes in [
        Sizes { h: 12, ..sizes },
        Sizes { h: 136, ..sizes },
        Sizes {
            used: sizes.h + 1,
            ..sizes
        },
        Sizes { m: 0, ..sizes },
        Sizes { window: 0, ..sizes },
        Sizes {
            n: 3,
            m: 2,
            ..sizes
        },
    ] {
        assert!(refused(&sizes, &q, &lse).contains("a multiple of 8"));
    }
}
