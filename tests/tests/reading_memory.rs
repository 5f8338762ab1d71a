//! What an inner step takes while reading: the same for every mini-batch, and less than on a tape.
//!
//! In a process of its own, because the memory measured is that of all threads.

use model::session::Session;
use model::{Config, Model, Net, Reading};
use ops::{DType, Var, measure_peak};

const B: usize = 64;

#[test]
fn a_step_takes_no_more_than_the_one_before() {
    let config: Config = serde_json::from_value(serde_json::json!({
        "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4,
        "num_attention_heads": 2, "sliding_window": 32,
        "ttt": {"mini_batch_size": B, "num_fast_layers": 3, "inner_learning_rate": 1.0, "inner_clip_norm": 1.0},
    }))
    .expect("a configuration");
    let model = Model::random(&config, 1, DType::F32).expect("a model");
    let ids: Vec<u32> = (0..=8 * B).map(|i| (i * i % 509) as u32).collect();
    let mut session = Session::new(&model, true).expect("a session");
    // the first step makes fast weights of the session's own
    session.read(&ids[..=B]).expect("losses");
    let mut peaks = ids[B + 1..].chunks(B).map(|ids| {
        let (losses, peak) = measure_peak(|| session.read(ids));
        assert_eq!(losses.expect("losses").len(), B);
        peak
    });
    let first = peaks.next().expect("a step");
    for peak in peaks {
        assert_eq!(peak, first);
    }

    let weights = model.weights.map(|_, w| Var::constant(w.clone()));
    let net = Net::new(&config, weights, B).expect("a net");
    let read = || net.read(&ids[..=B], &Reading::default()).map(|_| ());
    let (read, taped) = measure_peak(read);
    read.expect("losses");
    println!("{first} bytes, on a tape {taped}");
    assert!(2 * first < taped, "{first} bytes, on a tape {taped}");
}
