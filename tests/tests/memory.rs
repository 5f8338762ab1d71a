//! The loss over a large vocabulary keeps no logits. A process of its own, because it looks at the process's memory.
#![cfg(target_os = "linux")]

use ops::{DType, Tensor, Var, backward, grad, linear_cross_entropy, mul, sum_all};
use tests::Random;

/// The most memory this process has had at once, in bytes.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process's status");
    let line = status.lines().find(|l| l.starts_with("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().nth(1)?.parse::<usize>().ok());
    kib.expect("a peak in KiB") * 1024
}

/// A vocabulary of 128 256 and 512 tokens: whole logits are 263 MB in f32, and second order needs several of them.
#[test]
fn a_large_vocabulary_takes_no_memory_for_logits() {
    let (t, d, v) = (512, 8, 128_256);
    let mut random = Random::new(1);
    let (x, w) = (
        random.tensor(&[t, d], DType::F32),
        random.tensor(&[v, d], DType::F32),
    );
    let ids = (0..t).map(|i| (i * 7919 % v) as u32).collect();
    let before = peak_memory();
    let (x, w) = (Var::leaf(x), Var::leaf(w));
    let l = linear_cross_entropy(&x, &w, &ids).expect("the loss");
    let l = sum_all(&l).expect("a sum");
    let g = grad(&l, std::slice::from_ref(&x)).expect("an inner gradient");
    let g = g.into_iter().flatten().next().expect("a gradient by x");
    let square = sum_all(&mul(&g, &g).expect("squares")).expect("a sum");
    let outer = ops::add(&l, &square).expect("a sum");
    let d: Vec<Option<Tensor>> = backward(&outer, &[x, w]).expect("gradients");
    let finite = |d: &Option<Tensor>| d.as_ref().is_some_and(|d| d.first_non_finite().is_none());
    assert!(d.iter().all(finite));
    let (grown, logits) = (peak_memory().saturating_sub(before), 4 * t * v);
    assert!(
        grown < logits / 4,
        "memory grew by {grown} bytes, and whole logits are {logits}"
    );
}
