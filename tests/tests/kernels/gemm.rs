//! Matrix products: three transposes, ragged shapes, sums of two products, parts of k, few rows.

use kernels_cu::gemm::{Gemm, TileSize, Transpose, Views};
use kernels_cu::{DType, View};
use ops::{Tensor, Var, matmul};
use tests::Random;
use tests::interpreted::{Interpreted, late_and_early, no_worse_than_twice, round};

/// Rounded normal numbers.
fn numbers(random: &mut Random, n: usize, dtype: DType) -> Vec<f64> {
    (0..n).map(|_| round(random.normal(), dtype)).collect()
}

/// Shapes of A and B, behind the batch.
fn shapes(gemm: &Gemm) -> [[usize; 3]; 2] {
    let Gemm { batch, m, n, k, .. } = *gemm;
    match gemm.transpose {
        Transpose::None => [[batch, m, k], [batch, k, n]],
        Transpose::B => [[batch, m, k], [batch, n, k]],
        Transpose::A => [[batch, k, m], [batch, k, n]],
    }
}

/// op(A) op(B) in a precision.
fn meaning(gemm: &Gemm, a: &[f64], b: &[f64], dtype: ops::DType) -> Vec<f64> {
    let [a, b]: [Var; 2] = std::array::from_fn(|i| {
        let tensor = Tensor::from_f64s(&shapes(gemm)[i], dtype, [a, b][i]);
        Var::constant(tensor.expect("a tensor"))
    });
    let transpose = match gemm.transpose {
        Transpose::None => ops::Transpose::None,
        Transpose::B => ops::Transpose::B,
        Transpose::A => ops::Transpose::A,
    };
    let product = matmul(&a, &b, transpose).expect("a product");
    product.value().to_f64s()
}

/// What one test asks for.
struct Case {
    gemm: Gemm,
    /// A second product.
    two: bool,
    /// A bf16 shadow and sums of squares.
    extras: bool,
}

/// Runs a product, compares it, and gives its results.
fn check(device: &mut Interpreted, case: &Case) -> Vec<Vec<f64>> {
    let gemm = case.gemm;
    let mut random = Random::new((gemm.m * 31 + gemm.n * 7 + gemm.k) as u64);
    let sizes = shapes(&gemm).map(|s| s.iter().product::<usize>());
    let products = if case.two { 2 } else { 1 };
    let factors: Vec<[Vec<f64>; 2]> = (0..products)
        .map(|_| sizes.map(|n| numbers(&mut random, n, gemm.input)))
        .collect();
    let views: Vec<[View; 2]> = factors
        .iter()
        .map(|[a, b]| [a, b].map(|x| device.upload(x, gemm.input)))
        .collect();
    let length = gemm.batch * gemm.m * gemm.n;
    let before = numbers(&mut random, length, gemm.output);
    let c = match gemm.beta == 0.0 {
        true => device.output(length, gemm.output),
        false => device.upload(&before, gemm.output),
    };
    let workspace = device.output(gemm.workspace(products) / 4, DType::F32);
    let shadow = device.output(length, DType::BF16);
    let squares = device.output(gemm.squares(products), DType::F32);
    let launches = gemm.launch(&Views {
        factors: views[0].each_ref(),
        second: views.get(1).map(|v| v.each_ref()),
        c: &c,
        shadow: case.extras.then_some(&shadow),
        squares: case.extras.then_some(&squares),
        workspace: Some(&workspace),
    });
    // lines of whole sectors
    let wide = [gemm.m, gemm.n, gemm.k]
        .iter()
        .all(|x| x.is_multiple_of(16))
        || gemm.m <= 4 && gemm.k.is_multiple_of(16) && gemm.n.is_multiple_of(16);
    for launch in launches.expect("launches") {
        let work = device.run(&launch).counters.total;
        if wide {
            let [real, ideal] = [work.global_sectors, work.global_sectors_ideal];
            assert!(
                real as f64 <= 1.05 * ideal as f64,
                "{case_name}: {real} sectors, ideal {ideal}",
                case_name = name(case)
            );
            let [real, ideal] = [work.shared_wavefronts, work.shared_wavefronts_ideal];
            assert!(
                real as f64 <= 1.1 * ideal as f64,
                "{case_name}: {real} wavefronts, ideal {ideal}",
                case_name = name(case)
            );
        }
    }
    let got = device.download(&c, gemm.output);
    let [truth, f32] = [ops::DType::F64, ops::DType::F32].map(|dtype| {
        let sum = factors.iter().fold(vec![0.0; length], |sum, [a, b]| {
            let product = meaning(&gemm, a, b, dtype);
            sum.iter().zip(product).map(|(x, y)| x + y).collect()
        });
        let ends = sum.iter().zip(&before);
        ends.map(|(sum, c)| f64::from(gemm.alpha) * sum + f64::from(gemm.beta) * c)
            .collect::<Vec<f64>>()
    });
    if gemm.input == DType::F32 && gemm.k * products < 32 {
        short_sums(case, &factors, &before, &got, &truth);
    } else {
        let rough: Vec<f64> = match (gemm.input, gemm.output) {
            (DType::F32, _) => f32,
            (DType::BF16, DType::F32) => in_order(case, &factors, &before),
            (DType::BF16, DType::BF16) => truth.iter().map(|x| round(*x, DType::BF16)).collect(),
        };
        no_worse_than_twice(&name(case), &got, &truth, &rough, gemm.output);
    }
    let mut results = vec![];
    if case.extras {
        let shadow = device.download(&shadow, DType::BF16);
        let want = got.iter().map(|x| round(*x, DType::BF16));
        assert!(
            shadow.iter().copied().eq(want),
            "{}: the shadow",
            name(case)
        );
        let squares = device.download(&squares, DType::F32);
        let [sum, want] = [
            squares.iter().sum::<f64>(),
            got.iter().map(|x| x * x).sum::<f64>(),
        ];
        // in f32, each number is squared and added to fewer than 2^9 others before the sums are added here; in bf16, the number was rounded
        // after it was squared
        let allowed = match gemm.output {
            DType::F32 => 512.0 * f64::from(f32::EPSILON),
            DType::BF16 => 0.5f64.powi(8),
        };
        assert!(
            (sum - want).abs() <= allowed * want,
            "{}: {sum}, {want}",
            name(case)
        );
        results.extend([shadow, squares]);
    }
    results.push(got);
    results
}

/// Products of bf16 factors, which f32 holds exactly, added in f32 one after the other.
fn in_order(case: &Case, factors: &[[Vec<f64>; 2]], before: &[f64]) -> Vec<f64> {
    let Gemm {
        transpose,
        m,
        n,
        k,
        alpha,
        beta,
        ..
    } = case.gemm;
    let f32 = |x| round(x, DType::F32);
    let place = |at: usize| (at / (m * n), at / n % m, at % n);
    let sum = |at: usize| {
        let (batch, i, j) = place(at);
        let terms = factors.iter().flat_map(|[a, b]| {
            (0..k).map(move |l| {
                let row = if transpose == Transpose::A {
                    l * m + i
                } else {
                    i * k + l
                };
                let column = if transpose == Transpose::B {
                    j * k + l
                } else {
                    l * n + j
                };
                a[batch * m * k + row] * b[batch * k * n + column]
            })
        });
        let sum = terms.fold(0.0, |sum, term| f32(sum + term));
        f32(f32(f64::from(alpha) * sum) + f32(f64::from(beta) * before[at]))
    };
    (0..before.len()).map(sum).collect()
}

/// Products of f32 leave out small small and what small cannot hold: each of a and b is big to 2^-11, big + small to 2^-23, so a product is off by at
/// most 2^-22 + 2 2^-23 = 2^-21 of its size. Sums of 32 and more are bound by the roundings of their terms, which f32 has too; shorter ones
/// are held to this bound, with half a unit for each of the three times k additions and of the last four operations.
fn short_sums(case: &Case, factors: &[[Vec<f64>; 2]], before: &[f64], got: &[f64], truth: &[f64]) {
    let Gemm { k, alpha, beta, .. } = case.gemm;
    let mut sizes: Vec<f64> = before.iter().map(|c| (f64::from(beta) * c).abs()).collect();
    for factors in factors {
        let [a, b] = factors
            .each_ref()
            .map(|x| x.iter().map(|x| x.abs()).collect::<Vec<f64>>());
        let products = meaning(&case.gemm, &a, &b, ops::DType::F64);
        let both = sizes.iter_mut().zip(products);
        both.for_each(|(size, product)| *size += f64::from(alpha.abs()) * product);
    }
    let roundings = (3 * k * factors.len() + 4) as f64;
    let lost = 0.5f64.powi(21) + roundings * 0.5f64.powi(24);
    for ((got, truth), size) in got.iter().zip(truth).zip(sizes) {
        let error = (got - truth).abs();
        assert!(
            error <= lost * size,
            "{}: error {error:e} of {size}",
            name(case)
        );
    }
}

fn name(case: &Case) -> String {
    format!("{:?}{}", case.gemm, if case.two { " twice" } else { "" })
}

/// Each pair of types, in all transposes.
fn every(sizes: [usize; 3]) -> impl Iterator<Item = Gemm> {
    let types = [
        (DType::BF16, DType::BF16),
        (DType::BF16, DType::F32),
        (DType::F32, DType::F32),
    ];
    Transpose::ALL.into_iter().flat_map(move |transpose| {
        types.map(|(input, output)| Gemm {
            output,
            ..Gemm::new(transpose, sizes, input)
        })
    })
}

fn plain(gemm: Gemm) -> Case {
    Case {
        gemm,
        two: false,
        extras: false,
    }
}

fn check_all(cases: impl IntoIterator<Item = Case>) {
    let cases: Vec<Case> = cases.into_iter().collect();
    late_and_early(|device| cases.iter().flat_map(|case| check(device, case)).collect());
}

#[test]
fn products_of_any_shape() {
    let shapes = [
        [1, 1, 1],
        [5, 3, 7],
        [64, 64, 64],
        [72, 136, 40],
        [65, 130, 33],
        [96, 160, 176],
    ];
    check_all(shapes.into_iter().flat_map(every).map(plain));
}

#[test]
fn batches_lie_side_by_side() {
    let batch = |sizes| {
        let of = |gemm| plain(Gemm { batch: 3, ..gemm });
        every(sizes).map(of)
    };
    // the first has few rows
    check_all(
        [[2, 48, 40], [33, 20, 9], [32, 64, 48]]
            .into_iter()
            .flat_map(batch),
    );
}

#[test]
fn a_second_product_and_what_was_there_before_are_added() {
    let of = |sizes| {
        every(sizes).map(|gemm| Case {
            gemm: Gemm {
                alpha: -0.5,
                beta: 1.5,
                ..gemm
            },
            two: true,
            extras: true,
        })
    };
    check_all([[40, 72, 24], [33, 17, 70]].into_iter().flat_map(of));
}

#[test]
fn parts_of_a_long_k_are_summed() {
    let of = |sizes| {
        every(sizes).map(|gemm| {
            assert!(gemm.workspace(1) > 0, "{gemm:?} is not split");
            Case {
                gemm: Gemm { beta: 1.0, ..gemm },
                two: false,
                extras: true,
            }
        })
    };
    check_all([[16, 32, 1536], [9, 7, 1100]].into_iter().flat_map(of));
}

#[test]
fn few_rows_take_no_tensor_cores() {
    let of = |m: usize| {
        let shapes = [[m, 48, 1024], [m, 33, 77]];
        let all = shapes.into_iter().flat_map(every);
        let few = all.filter(|gemm| gemm.transpose == Transpose::B);
        few.map(|gemm| plain(Gemm { beta: 1.0, ..gemm }))
    };
    check_all((1..5).flat_map(of));
}

#[test]
fn large_tiles() {
    // two rows and two columns of them, ragged
    let of = |sizes| {
        every(sizes).map(|gemm| {
            let tile = Some(TileSize::Large);
            plain(Gemm { tile, ..gemm })
        })
    };
    check_all([[144, 272, 96], [133, 259, 37]].into_iter().flat_map(of));
}

#[test]
fn tf32_is_as_exact_as_its_factors() {
    late_and_early(|device| {
        let mut results = vec![];
        for transpose in Transpose::ALL {
            for tile in TileSize::ALL {
                let gemm = Gemm {
                    tf32: true,
                    tile: Some(tile),
                    ..Gemm::new(transpose, [136, 144, 40], DType::F32)
                };
                let mut random = Random::new(7);
                let [a, b] = shapes(&gemm).map(|s| {
                    let n = s.iter().product();
                    numbers(&mut random, n, DType::F32)
                });
                // to 11 significant bits: ties do not occur in 1000 random numbers of 24 bits with any odds
                let tf32 =
                    |x: &Vec<f64>| -> Vec<f64> { x.iter().map(|x| round_to_11_bits(*x)).collect() };
                let truth = meaning(&gemm, &tf32(&a), &tf32(&b), ops::DType::F64);
                let rough = meaning(&gemm, &tf32(&a), &tf32(&b), ops::DType::F32);
                let [va, vb] = [&a, &b].map(|x| device.upload(x, DType::F32));
                let c = device.output(truth.len(), DType::F32);
                let launches = gemm.launch(&Views::new(&va, &vb, &c)).expect("launches");
                launches.iter().for_each(|launch| {
                    device.run(launch);
                });
                let got = device.download(&c, DType::F32);
                no_worse_than_twice(&format!("{gemm:?}"), &got, &truth, &rough, DType::F32);
                results.push(got);
            }
        }
        results
    });
}

/// To the nearest number of 11 significant bits, ties away from zero.
fn round_to_11_bits(x: f64) -> f64 {
    let bits = (x as f32).to_bits();
    f64::from(f32::from_bits((bits + (1 << 12)) & !((1 << 13) - 1)))
}

#[test]
fn what_does_not_fit_is_an_error() {
    let view = |bytes| View::interpreted(0, bytes);
    let gemm = Gemm::new(Transpose::B, [64, 64, 64], DType::F32);
    let square = view(64 * 64 * 4);
    let small = view(64 * 63 * 4);
    let message = |gemm: &Gemm, views: &Views| {
        let launches = gemm.launch(views);
        launches.expect_err("an error").to_string()
    };
    let said = message(&gemm, &Views::new(&square, &small, &square));
    assert!(said.contains("B has 16128 bytes, not 16384"), "{said}");
    let narrow = Gemm {
        output: DType::BF16,
        ..gemm
    };
    let said = message(&narrow, &Views::new(&square, &square, &square));
    assert!(said.contains("a result of f32"), "{said}");
    let split = Gemm::new(Transpose::A, [8, 8, 4096], DType::F32);
    let [long, short] = [view(8 * 4096 * 4), view(8 * 8 * 4)];
    let said = message(&split, &Views::new(&long, &long, &short));
    assert!(said.contains("the workspace has less than"), "{said}");
    // nothing to do is no error
    let empty = Gemm::new(Transpose::B, [0, 64, 64], DType::F32);
    let none = empty.launch(&Views::new(&view(0), &square, &view(0)));
    assert!(none.expect("no launches").is_empty());
}
