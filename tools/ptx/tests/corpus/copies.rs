//! Asynchronous copies: a pipeline, and barriers in shared memory.

use half::bf16;
use ptx::{Asynchrony, Launch, Options};

use crate::{Corpus, EPSILON, close, doubles, random};

#[test]
fn a_product_with_a_pipeline() {
    let [m, n, k] = [40, 72, 104];
    let (a, b) = (
        random(1, m * k, bf16::from_f32),
        random(2, n * k, bf16::from_f32),
    );
    let mut c = Corpus::new("copies");
    let (pa, pb, pc) = (c.put(&a), c.put(&b), c.room::<f32>(m * n));
    let mut args = [pa, pb, pc].map(|p| p.into()).to_vec();
    args.extend([m, n, k].map(|size| (size as i32).into()));
    let launch = Launch {
        grid: [n.div_ceil(32) as u32, m.div_ceil(32) as u32, 1],
        block: [64, 1, 1],
        dynamic_shared: 0,
        cluster: [1; 3],
    };
    let report = c.launch("product_swizzled", launch, &args);
    let (a, b) = (doubles(&a), doubles(&b));
    let sum = |at: usize, term: &dyn Fn(f64) -> f64| -> f64 {
        let (i, j) = (at / n, at % n);
        (0..k).map(|q| term(a[i * k + q] * b[j * k + q])).sum()
    };
    let want: Vec<f64> = (0..m * n).map(|at| sum(at, &|v| v)).collect();
    let tolerance = |at: usize| k as f64 * EPSILON * sum(at, &f64::abs);
    close("c", &c.get_f64::<f32>(pc, m * n), &want, tolerance);
    // the swizzle leaves no conflicts of banks
    let work = report.counters.total;
    assert_eq!(work.shared_wavefronts, work.shared_wavefronts_ideal);
    // copies that are done early give the same
    let late = c.get::<f32>(pc, m * n);
    let kernel = c.module.kernel("product_swizzled").expect("a kernel");
    let options = Options {
        asynchrony: Asynchrony::Early,
        ..Options::default()
    };
    let early = c
        .device
        .launch(&kernel, &launch, &args, &options)
        .expect("a launch");
    assert_eq!(early, report);
    assert_eq!(c.get::<f32>(pc, m * n), late);
}

#[test]
fn one_warp_hands_over_to_another() {
    let rounds = 7;
    let x = random(1, rounds * 128, |x| x);
    let mut c = Corpus::new("copies");
    let (input, out) = (c.put(&x), c.room::<f32>(x.len()));
    let args = [input.into(), out.into(), (rounds as i32).into()];
    c.launch("handed_over", Launch::linear(1, 64), &args);
    let want: Vec<f32> = x.iter().map(|v| 2.0 * v).collect();
    assert_eq!(c.get::<f32>(out, x.len()), want);
}
