//! Primitives at random shapes, empty ones included: values against their definition by index, gradients against finite
//! differences to order three, linear ops against their adjoints.

use std::sync::Arc;

use autograd::{Check, check_grads};
use ops::*;
use proptest::prelude::*;
use tests::{Random, dot as inner, raise, values};

type Fun<'f> = &'f dyn Fn(&[Var]) -> Result<Var>;

/// Finite differences to order three.
fn gradients(f: Fun, x: &[Tensor], seed: u64) -> std::result::Result<(), TestCaseError> {
    let check = Check {
        order: 3,
        seed,
        directions: 1,
        ..Check::default()
    };
    check_grads(|x| Ok(vec![f(x)?]), x, &check).map_err(|e| TestCaseError::fail(e.to_string()))
}

/// <A x, y> = <x, A' y>, where A' is the rule of A; both are sums of the same products, which differ by rounding: 16 eps of the
/// length of the vector of terms, times the square root of the longest sum.
fn adjoint(f: Fun, x: &Tensor, random: &mut Random) -> std::result::Result<(), TestCaseError> {
    let f = |x: &[Var]| Ok(vec![f(x)?]);
    let ax = values(f, std::slice::from_ref(x)).expect("A x");
    let y = random.tensor(ax[0].shape(), x.dtype());
    let back = values(raise(f, 1, &[true]), &[x.clone(), y.clone()]).expect("A' y");
    let ((a, size_a), (b, size_b)) = (inner(&ax, &[y]), inner(std::slice::from_ref(x), &back));
    let allowed = 16.0 * f64::EPSILON * (x.len().max(1) as f64).sqrt() * (size_a + size_b);
    prop_assert!(
        (a - b).abs() <= allowed,
        "<A x, y> = {a:e}, <x, A' y> = {b:e}, allowed {allowed:e}"
    );
    Ok(())
}

/// The value against its definition: element `index` of the result. Exactly, but for sums.
fn defined(
    y: &Var,
    shape: &[usize],
    allowed: f64,
    mut element: impl FnMut(&[usize]) -> f64,
) -> std::result::Result<(), TestCaseError> {
    prop_assert_eq!(y.value().shape(), shape);
    for (flat, got) in y.value().to_f64s().into_iter().enumerate() {
        let index = unflatten(flat, shape);
        let want = element(&index);
        prop_assert!(
            (got - want).abs() <= allowed,
            "element {index:?} is {got:e}, should be {want:e}"
        );
    }
    Ok(())
}

fn unflatten(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (i, n) in shape.iter().enumerate().rev() {
        (index[i], flat) = (flat % n, flat / n);
    }
    index
}

/// An element by its index.
fn at(x: &Tensor, index: &[usize]) -> f64 {
    let flat = index.iter().zip(x.shape()).fold(0, |flat, (i, n)| {
        assert!(i < n);
        flat * n + i
    });
    x.as_slice::<f64>().expect("f64")[flat]
}

fn var(x: &Tensor) -> Var {
    Var::constant(x.clone())
}

/// Shapes of rank 0 to 3.
fn shape() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..5usize, 0..4)
}

/// Shapes of rank 1 to 4 and an axis.
fn shape_and_axis() -> impl Strategy<Value = (Vec<usize>, usize)> {
    prop::collection::vec(0..5usize, 1..4).prop_flat_map(|s| {
        let rank = s.len();
        (Just(s), 0..rank)
    })
}

/// Sums of up to a hundred numbers of size one.
const SUM: f64 = 1e-13;

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn elementwise(shape in shape(), seed in 0..1000u64) {
        let mut random = Random::new(seed);
        let (a, b) = (random.tensor(&shape, DType::F64), random.tensor(&shape, DType::F64));
        let positive: Vec<f64> = a.to_f64s().iter().map(|x| 0.5 + x.abs().min(2.0)).collect();
        let positive = Tensor::from_f64s(&shape, DType::F64, &positive).expect("as many numbers");
        type One = (fn(&Var) -> Result<Var>, fn(f64) -> f64, bool);
        let one: [One; 8] = [
            (neg, |x| -x, true),
            (|x| scale(x, 2.5), |x| 2.5 * x, true),
            (|x| cast(x, DType::F64), |x| x, true),
            (exp, f64::exp, false),
            (sigmoid, |x| 1.0 / (1.0 + (-x).exp()), false),
            (recip, f64::recip, false),
            (log, f64::ln, false),
            (rsqrt, |x| 1.0 / x.sqrt(), false),
        ];
        for (i, (f, definition, linear)) in one.into_iter().enumerate() {
            let x = if i < 5 { &a } else { &positive };
            defined(&f(&var(x)).expect("fits"), &shape, 0.0, |i| definition(at(x, i)))?;
            gradients(&|x| f(&x[0]), std::slice::from_ref(x), seed)?;
            if linear {
                adjoint(&|x| f(&x[0]), x, &mut random)?;
            }
        }
        defined(&add(&var(&a), &var(&b)).expect("fits"), &shape, 0.0, |i| at(&a, i) + at(&b, i))?;
        defined(&mul(&var(&a), &var(&b)).expect("fits"), &shape, 0.0, |i| at(&a, i) * at(&b, i))?;
        let choose: Arc<[bool]> = (0..a.len()).map(|i| (i * 7 + seed as usize).is_multiple_of(3)).collect();
        let chosen = select(&choose, &var(&a), &var(&b)).expect("fits");
        let flags: Vec<f64> = choose.iter().map(|&c| c as u8 as f64).collect();
        let flags = Tensor::from_f64s(&shape, DType::F64, &flags).expect("as many numbers");
        defined(&chosen, &shape, 0.0, |i| at(if at(&flags, i) == 1.0 { &a } else { &b }, i))?;
        let x = [a, b];
        gradients(&|x| add(&x[0], &x[1]), &x, seed)?;
        gradients(&|x| mul(&x[0], &x[1]), &x, seed)?;
        gradients(&|x| select(&choose, &x[0], &x[1]), &x, seed)?;
    }

    #[test]
    fn matrix_product(batch in 0..4usize, m in 0..6usize, k in 0..6usize, n in 0..6usize, t in 0..3usize, seed in 0..1000u64) {
        let t = [Transpose::None, Transpose::A, Transpose::B][t];
        let (a, b) = match t {
            Transpose::None => ([m, k], [k, n]),
            Transpose::A => ([k, m], [k, n]),
            Transpose::B => ([m, k], [n, k]),
        };
        // batch 0 stands for rank 2
        let rank = |s: [usize; 2]| if batch == 0 { s.to_vec() } else { vec![batch, s[0], s[1]] };
        let mut random = Random::new(seed);
        let x = [random.tensor(&rank(a), DType::F64), random.tensor(&rank(b), DType::F64)];
        let y = matmul(&var(&x[0]), &var(&x[1]), t).expect("fits");
        defined(&y, &rank([m, n]), SUM, |index| {
            let (outer, [i, j]) = index.split_last_chunk().expect("a matrix");
            let element = |x: &Tensor, i: usize, j: usize| at(x, &[outer, &[i, j]].concat());
            (0..k).map(|l| {
                let (a, b) = match t {
                    Transpose::None => (element(&x[0], *i, l), element(&x[1], l, *j)),
                    Transpose::A => (element(&x[0], l, *i), element(&x[1], l, *j)),
                    Transpose::B => (element(&x[0], *i, l), element(&x[1], *j, l)),
                };
                a * b
            }).sum()
        })?;
        gradients(&|x| matmul(&x[0], &x[1], t), &x, seed)?;
        adjoint(&|a| matmul(&a[0], &var(&x[1]), t), &x[0], &mut random)?;
        adjoint(&|b| matmul(&var(&x[0]), &b[0], t), &x[1], &mut random)?;
    }

    #[test]
    fn broadcast_and_sum(axes in prop::collection::vec((0..5usize, any::<bool>()), 0..5), seed in 0..1000u64) {
        let big: Vec<usize> = axes.iter().map(|a| a.0).collect();
        let small: Vec<usize> = axes.iter().map(|a| if a.1 { 1 } else { a.0 }).collect();
        let reduced = |index: &[usize]| -> Vec<usize> {
            index.iter().zip(&small).map(|(i, n)| if *n == 1 { 0 } else { *i }).collect()
        };
        let mut random = Random::new(seed);
        let (x, y) = (random.tensor(&small, DType::F64), random.tensor(&big, DType::F64));
        defined(&broadcast(&var(&x), &big).expect("fits"), &big, 0.0, |i| at(&x, &reduced(i)))?;
        defined(&sum(&var(&y), &small).expect("fits"), &small, 8.0 * SUM, |i| {
            let all = (0..y.len()).map(|flat| unflatten(flat, &big));
            all.filter(|j| reduced(j) == i).map(|j| at(&y, &j)).sum()
        })?;
        gradients(&|x| broadcast(&x[0], &big), std::slice::from_ref(&x), seed)?;
        gradients(&|x| sum(&x[0], &small), std::slice::from_ref(&y), seed)?;
        adjoint(&|x| broadcast(&x[0], &big), &x, &mut random)?;
        adjoint(&|x| sum(&x[0], &small), &y, &mut random)?;
        adjoint(&|x| sum_all(&x[0]), &y, &mut random)?;
    }

    #[test]
    fn permutation(sizes in prop::collection::vec((0..5usize, any::<u64>()), 0..5), seed in 0..1000u64) {
        let shape: Vec<usize> = sizes.iter().map(|s| s.0).collect();
        let mut axes: Vec<usize> = (0..shape.len()).collect();
        axes.sort_by_key(|&i| sizes[i].1);
        let to: Vec<usize> = axes.iter().map(|&a| shape[a]).collect();
        let mut random = Random::new(seed);
        let x = random.tensor(&shape, DType::F64);
        defined(&permute(&var(&x), &axes).expect("fits"), &to, 0.0, |index| {
            let mut from = vec![0; index.len()];
            for (i, &a) in index.iter().zip(&axes) {
                from[a] = *i;
            }
            at(&x, &from)
        })?;
        adjoint(&|x| permute(&x[0], &axes), &x, &mut random)?;
        let flat = [x.len()];
        defined(&reshape(&var(&x), &flat).expect("fits"), &flat, 0.0, |i| at(&x, &unflatten(i[0], &shape)))?;
        adjoint(&|x| reshape(&x[0], &flat), &x, &mut random)?;
        gradients(&|x| permute(&x[0], &axes), &[x], seed)?;
    }

    #[test]
    fn slice_and_pad((shape, axis) in shape_and_axis(), cut in (0..5usize, 0..5usize), seed in 0..1000u64) {
        let size = shape[axis];
        let (start, end) = (cut.0.min(cut.1).min(size), cut.0.max(cut.1).min(size));
        let mut random = Random::new(seed);
        let x = random.tensor(&shape, DType::F64);
        let moved = |index: &[usize], by: isize| {
            let mut index = index.to_vec();
            index[axis] = index[axis].checked_add_signed(by)?;
            (index[axis] < size).then_some(index)
        };
        let mut short = shape.clone();
        short[axis] = end - start;
        defined(&slice(&var(&x), axis, start, end).expect("fits"), &short, 0.0, |i| {
            at(&x, &moved(i, start as isize).expect("inside"))
        })?;
        let mut long = shape.clone();
        long[axis] += cut.0 + cut.1;
        defined(&pad(&var(&x), axis, cut.0, cut.1).expect("fits"), &long, 0.0, |i| {
            moved(i, -(cut.0 as isize)).map_or(0.0, |i| at(&x, &i))
        })?;
        adjoint(&|x| slice(&x[0], axis, start, end), &x, &mut random)?;
        adjoint(&|x| pad(&x[0], axis, cut.0, cut.1), &x, &mut random)?;
        gradients(&|x| slice(&x[0], axis, start, end), std::slice::from_ref(&x), seed)?;
        gradients(&|x| pad(&x[0], axis, cut.0, cut.1), &[x], seed)?;
    }

    #[test]
    fn concatenation((shape, axis) in shape_and_axis(), sizes in prop::collection::vec(0..4usize, 1..4), seed in 0..1000u64) {
        let mut random = Random::new(seed);
        let with = |size: usize| {
            let mut shape = shape.clone();
            shape[axis] = size;
            shape
        };
        let x: Vec<Tensor> = sizes.iter().map(|&size| random.tensor(&with(size), DType::F64)).collect();
        let f = |x: &[Var]| concat(&x.iter().collect::<Vec<_>>(), axis);
        let vars: Vec<Var> = x.iter().map(var).collect();
        defined(&f(&vars).expect("fits"), &with(sizes.iter().sum()), 0.0, |index| {
            let (mut index, mut part) = (index.to_vec(), 0);
            while index[axis] >= sizes[part] {
                index[axis] -= sizes[part];
                part += 1;
            }
            at(&x[part], &index)
        })?;
        let zeros = |x: &Tensor| Var::constant(Tensor::zeros(x.shape(), x.dtype()));
        let rest: Vec<Var> = x[1..].iter().map(zeros).collect();
        adjoint(&|first| f(&[first, &rest].concat()), &x[0], &mut random)?;
        gradients(&f, &x, seed)?;
    }

    #[test]
    fn gather_and_scatter_add(
        rows in 1..5usize, rest in prop::collection::vec(0..4usize, 0..3), ids in prop::collection::vec(0..100u32, 0..8), seed in 0..1000u64,
    ) {
        let ids: Arc<[u32]> = ids.iter().map(|i| i % rows as u32).collect();
        let (table, picked) = ([&[rows], &rest[..]].concat(), [&[ids.len()], &rest[..]].concat());
        let mut random = Random::new(seed);
        let (x, y) = (random.tensor(&table, DType::F64), random.tensor(&picked, DType::F64));
        let with = |index: &[usize], row: usize| [&[row], &index[1..]].concat();
        defined(&gather(&var(&x), &ids).expect("fits"), &picked, 0.0, |i| at(&x, &with(i, ids[i[0]] as usize)))?;
        defined(&scatter_add(&var(&y), &ids, rows).expect("fits"), &table, SUM, |i| {
            let named = (0..ids.len()).filter(|&row| ids[row] as usize == i[0]);
            named.map(|row| at(&y, &with(i, row))).sum()
        })?;
        adjoint(&|x| gather(&x[0], &ids), &x, &mut random)?;
        adjoint(&|x| scatter_add(&x[0], &ids, rows), &y, &mut random)?;
        gradients(&|x| gather(&x[0], &ids), &[x], seed)?;
        gradients(&|x| scatter_add(&x[0], &ids, rows), &[y], seed)?;
    }

    #[test]
    fn rotation(t in 1..5usize, n in 1..4usize, half in 1..4usize, start in 0..3000usize, seed in 0..1000u64) {
        let h = 2 * half;
        let (cos, sin) = derived::rope_tables(start, t, h, 1e4, DType::F64).expect("tables");
        let mut random = Random::new(seed);
        let x = random.tensor(&[t, n, h], DType::F64);
        defined(&rope(&var(&x), &cos, &sin).expect("fits"), &[t, n, h], 1e-11, |index| {
            let &[i, head, j] = index else { panic!("rank 3") };
            let angle = (start + i) as f64 * 1e4f64.powf(-((j % half) as f64) / half as f64);
            let (x1, x2) = (at(&x, &[i, head, j % half]), at(&x, &[i, head, j % half + half]));
            if j < half { x1 * angle.cos() - x2 * angle.sin() } else { x2 * angle.cos() + x1 * angle.sin() }
        })?;
        adjoint(&|x| rope(&x[0], &cos, &sin), &x, &mut random)?;
        gradients(&|x| rope(&x[0], &cos, &sin), &[x], seed)?;
    }
}
