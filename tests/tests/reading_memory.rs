//! What an inner step takes while reading: the same for every mini-batch, and less than on a tape. What a token takes while
//! writing: the same for every token, and no copy of the window.
//!
//! In a process of its own, because the memory measured is that of all threads.

use model::session::Session;
use model::{Config, Model, Net, Reading};
use ops::{DType, Var, measure_peak};

const B: usize = 64;

#[test]
fn a_step_takes_no_more_than_the_one_before() {
    // one thread: how much scratch several have at a time is a matter of luck
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    pool.expect("a thread").install(|| {
        reading();
        writing();
    });
}

/// Most bytes of tensors in each of many mini-batches, beyond those of the session.
fn writing() {
    let (window, width) = (2048, 64);
    let config: Config = serde_json::from_value(serde_json::json!({
        "vocab_size": 64, "hidden_size": width, "intermediate_size": 64, "num_hidden_layers": 3,
        "num_attention_heads": 2, "sliding_window": window,
        "ttt": {"mini_batch_size": B, "num_fast_layers": 2, "inner_learning_rate": 1.0, "inner_clip_norm": 1.0},
    }))
    .expect("a configuration");
    let model = Model::random(&config, 1, DType::F32).expect("a model");
    let id = |i: usize| (i * i % 61) as u32;
    let mut session = Session::new(&model, true).expect("a session");
    let ids: Vec<u32> = (0..window + 3 * B).map(id).collect();
    session.read(&ids).expect("losses");
    let mut write = |count: usize| {
        let (written, peak) = measure_peak(|| {
            (0..count).try_for_each(|i| {
                session.logits()?;
                session.read(&[id(i)]).map(|_| ())
            })
        });
        written.expect("tokens");
        (peak, session.state_bytes())
    };
    // ends the open mini-batch; from now on each run is one, and ends with its inner step
    write(1);
    let first = write(B);
    for _ in 0..20 {
        assert_eq!(write(B), first);
    }
    // between inner steps, less than the keys of one window
    let (token, _) = write(B / 2);
    let keys = window * width * 4;
    assert!(
        4 * token < keys,
        "{token} bytes for a token, {keys} of keys"
    );
}

fn reading() {
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
