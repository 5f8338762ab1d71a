//! The memory plan keeps its word: what a sequence takes is what the plan says, and no budget changes a loss.
//!
//! In a process of its own, because the memory measured is that of all threads.

use model::gradients::sequence_gradient;
use model::memory::{Bytes, Plan};
use model::{Config, Model, Reading};
use ops::{DType, measure_peak};

fn config(layers: usize, fast: usize, b: usize) -> Config {
    serde_json::from_value(serde_json::json!({
        "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": layers,
        "num_attention_heads": 2, "sliding_window": 128,
        "ttt": {"mini_batch_size": b, "num_fast_layers": fast, "inner_learning_rate": 1.0, "inner_clip_norm": 1.0},
    }))
    .expect("a configuration")
}

/// The plan is a count of what ops keep, rounded up where it depends on the moment; between half of it and a tenth more than it
/// is what it must be good for.
#[test]
fn a_sequence_takes_what_the_plan_says() {
    // the last learns nothing: it has no mini-batches, and three pieces
    for (layers, fast, b, t) in [
        (4, 1, Some(64), 1024),
        (8, 2, Some(256), 1024),
        (4, 1, None, 12_288),
    ] {
        let ids: Vec<u32> = (0..=t).map(|i| (i * i % 509) as u32).collect();
        let config = config(layers, fast, b.unwrap_or(64));
        let model = Model::random(&config, 1, DType::F32).expect("a model");
        let plan = |bytes| Plan::within(&config, DType::F32, t, b, Bytes(bytes)).expect("a plan");
        let (most, least) = (plan(u64::MAX).bytes.0, plan(0).bytes.0);
        assert!(least < most, "{least} of {most}");
        let mut loss = None;
        let mut before = u64::MAX;
        for share in [1.0, 0.6, 0.3, 0.0] {
            let budget = least + ((most - least) as f64 * share) as u64;
            let expected = plan(budget).bytes.0;
            assert!(expected <= budget, "{expected} of {budget}");
            let reading = Reading {
                learn: b.is_some(),
                memory: Some(Bytes(budget)),
                ..Reading::default()
            };
            let run = || {
                sequence_gradient(&model, &ids, &reading)
                    .expect("a gradient")
                    .loss
                    .item()
                    .expect("a scalar")
            };
            let (now, peak) = measure_peak(run);
            let ratio = peak as f64 / expected as f64;
            println!(
                "L {layers}, S {fast}, b {b:?}, T {t}: budget {budget}, plan {expected}, peak {peak}, ratio {ratio:.2}"
            );
            assert!(
                (0.5..1.1).contains(&ratio),
                "{peak} bytes where {expected} were planned"
            );
            assert!(
                (peak as u64) < before,
                "less memory than with a larger budget"
            );
            before = peak as u64;
            assert_eq!(*loss.get_or_insert(now), now, "a budget changes no loss");
        }
    }
}

#[test]
fn too_little_is_an_error_that_says_how_much_it_takes() {
    let config = config(4, 1, 64);
    let e = Plan::within(&config, DType::F32, 1024, Some(64), Bytes(1000)).expect_err("too little");
    let text = e.to_string();
    for part in ["memory", "1.0 kB", "needs at least", "MB"] {
        assert!(text.contains(part), "{text}");
    }
}
