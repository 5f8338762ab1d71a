//! The inner loop as a whole: the meta-gradient against finite differences, causality, ragged ends.

use model::gradients::{Workers, sequence_gradient};
use model::{Config, Model, Reading};
use ops::{DType, Tensor};
use tests::Random;

fn config(fast: usize, window: usize, clip: f64) -> Config {
    // without clipping a long step makes the loss too wild for finite differences
    let eta = if clip == 0.0 { 0.05 } else { 0.8 };
    serde_json::from_value(serde_json::json!({
        "vocab_size": 13, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 3,
        "num_attention_heads": 2, "sliding_window": window, "tie_word_embeddings": fast != 1,
        "ttt": {"mini_batch_size": 4, "num_fast_layers": fast, "inner_learning_rate": eta, "inner_clip_norm": clip},
    }))
    .expect("a configuration")
}

fn ids(count: usize, seed: u64) -> Vec<u32> {
    let mut random = Random::new(seed);
    (0..count).map(|_| (random.unit() * 13.0) as u32).collect()
}

/// A random model whose norms are not 1 and whose embeddings are large enough to matter.
fn model(config: &Config) -> Model {
    let mut model = Model::random(config, 3, DType::F64).expect("a model");
    let mut random = Random::new(5);
    for w in model.weights.values_mut() {
        let noisy: Vec<f64> = w
            .to_f64s()
            .iter()
            .map(|x| 1.5 * x + 0.2 * random.normal())
            .collect();
        *w = Tensor::from_f64s(w.shape(), DType::F64, &noisy).expect("the same shape");
    }
    model
}

/// Along a random unit direction in all parameters at once, by the five-point rule. The loss bends sharply (a clipped step moves
/// a long way): its fifth derivative along such a direction is near 1e12, seen from how the rule's error falls with h^4. At
/// h = 3e-5 that leaves 1e-9 of truncation beside eps/h = 1e-11 of rounding; 1e-7 still tells a term wrong by a part in ten
/// million.
#[test]
fn meta_gradient_is_the_derivative() {
    // clipping that always binds, never binds, and is off; windows below and above b
    for (fast, window, clip) in [(1, 6, 0.05), (2, 6, 1e3), (2, 3, 0.3), (3, 9, 0.0)] {
        let model = model(&config(fast, window, clip));
        let ids = ids(15, 7);
        let reading = Reading::default();
        let gradient = sequence_gradient(&model, &ids, &reading)
            .expect("a gradient")
            .gradient;
        let mut random = Random::new(11);
        let direction = model
            .weights
            .map(|_, w| (0..w.len()).map(|_| random.normal()).collect::<Vec<f64>>());
        let square: f64 = direction
            .values()
            .into_iter()
            .flatten()
            .map(|d| d * d)
            .sum();
        let direction =
            direction.map(|_, d| d.iter().map(|d| d / square.sqrt()).collect::<Vec<f64>>());
        let loss = |h: f64| {
            let mut moved = model.clone();
            for (w, d) in moved
                .weights
                .values_mut()
                .into_iter()
                .zip(direction.values())
            {
                let x: Vec<f64> = w.to_f64s().iter().zip(d).map(|(w, d)| w + h * d).collect();
                *w = Tensor::from_f64s(w.shape(), DType::F64, &x).expect("the same shape");
            }
            sequence_gradient(&moved, &ids, &reading)
                .expect("a loss")
                .loss
                .item()
                .expect("a scalar")
        };
        let h = 3e-5;
        let numeric = (8.0 * (loss(h) - loss(-h)) - (loss(2.0 * h) - loss(-2.0 * h))) / (12.0 * h);
        let exact: f64 = (gradient.values().into_iter().zip(direction.values()))
            .flat_map(|(g, d)| g.to_f64s().into_iter().zip(d.clone()))
            .map(|(g, d)| g * d)
            .sum();
        let error = (numeric - exact).abs() / exact.abs();
        assert!(
            error < 1e-7,
            "S {fast}, window {window}, clip {clip}: {numeric} against {exact}"
        );
    }
}

/// A changed token changes no earlier loss, not in a single bit, although later mini-batches learn from it.
#[test]
fn nothing_flows_backwards_in_time() {
    let model = model(&config(2, 6, 0.3));
    let original = ids(18, 1);
    let nll = |ids: &[u32]| {
        sequence_gradient(&model, ids, &Reading::default())
            .expect("losses")
            .nll
            .to_f64s()
    };
    let before = nll(&original);
    for changed in 0..original.len() {
        let mut ids = original.clone();
        ids[changed] = (ids[changed] + 1) % 13;
        let after = nll(&ids);
        // loss i predicts token i + 1 from tokens 0..=i
        let earlier = changed.saturating_sub(1);
        for i in 0..earlier {
            assert_eq!(
                before[i].to_bits(),
                after[i].to_bits(),
                "token {changed} changed loss {i}"
            );
        }
        if changed + 1 < original.len() {
            assert_ne!(
                before[changed], after[changed],
                "token {changed} is not read at all"
            );
        }
    }
}

#[test]
fn learning_starts_with_the_second_mini_batch() {
    let model = model(&config(1, 6, 0.3));
    let ids = ids(18, 2);
    let nll = |learn| {
        let reading = Reading {
            learn,
            ..Reading::default()
        };
        sequence_gradient(&model, &ids, &reading)
            .expect("losses")
            .nll
            .to_f64s()
    };
    let (on, off) = (nll(true), nll(false));
    for i in 0..4 {
        assert!(
            (on[i] - off[i]).abs() < 1e-12,
            "loss {i} comes before the first update"
        );
    }
    assert!((4..17).all(|i| on[i] != off[i]));
}

/// A last mini-batch shorter than b is scored and changes nothing.
#[test]
fn a_ragged_tail_changes_no_weight() {
    let model = model(&config(2, 6, 0.3));
    let ids = ids(16, 3);
    let read = |count: usize| {
        sequence_gradient(&model, &ids[..count], &Reading::default()).expect("losses")
    };
    let (whole, ragged) = (read(13), read(16));
    assert_eq!(ragged.nll.len(), 15);
    for (a, b) in whole.fast.iter().zip(&ragged.fast) {
        for (a, b) in a.each().iter().zip(b.each()) {
            assert_eq!(a.to_f64s(), b.to_f64s());
        }
    }
    assert_eq!(whole.nll.to_f64s(), ragged.nll.to_f64s()[..12]);
}

/// The same bits whatever the number of threads, for one sequence and for a batch.
#[test]
fn threads_change_no_bit() {
    let mut big = config(2, 60, 0.3);
    big.hidden_size = 64;
    big.intermediate_size = 96;
    if let Some(ttt) = &mut big.ttt {
        ttt.mini_batch_size = 64;
    }
    let model = Model::random(&big, 1, DType::F32).expect("a model");
    let sequences: Vec<Vec<u32>> = (0..3).map(|i| ids(301, i)).collect();
    let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
    let gradient = |threads: usize, sequences: &[&[u32]]| {
        let workers = Workers::new(threads, sequences.len()).expect("threads");
        let batch = workers
            .batch_gradient(&model, sequences, &Reading::default())
            .expect("a gradient");
        let bits = |w: &Tensor| w.to_f64s().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        (
            batch.losses.iter().map(bits).collect::<Vec<_>>(),
            batch
                .gradient
                .values()
                .into_iter()
                .map(bits)
                .collect::<Vec<_>>(),
        )
    };
    for batch in [&sequences[..1], &sequences[..]] {
        let one = gradient(1, batch);
        for threads in [2, 3, 5] {
            assert!(
                one == gradient(threads, batch),
                "{threads} threads, {} sequences",
                batch.len()
            );
        }
    }
}
