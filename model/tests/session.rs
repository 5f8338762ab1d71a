//! However a text is cut into calls, a session gives the losses of `Net::read`.

use std::ops::ControlFlow;

use model::data::Tokenizer;
use model::sampling::{Sampler, Sampling};
use model::session::{Session, generate};
use model::{Config, LayerType, Model, Net, Reading, Result};
use ops::{DType, Var};
use proptest::prelude::*;

const B: usize = 4;

/// A small model in f64: `layers` blocks of which the last `fast` are fast, window `k` (0: full attention).
fn model(layers: usize, fast: usize, k: usize) -> Model {
    let window = if k == 0 {
        "null".to_string()
    } else {
        k.to_string()
    };
    let config = format!(
        r#"{{"vocab_size": 11, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": {layers},
            "num_attention_heads": 2, "num_key_value_heads": 1, "sliding_window": {window},
            "tie_word_embeddings": true, "ttt": {{"mini_batch_size": {B}, "num_fast_layers": {fast},
            "inner_learning_rate": 0.7, "inner_clip_norm": 0.5}}}}"#
    );
    let config: Config = serde_json::from_str(&config).expect("a configuration");
    let mut model = Model::random(&config, 3, DType::F64).expect("a model");
    // louder embeddings, so that losses differ from log V
    model.weights.embed.scale_assign(40.0).expect("floats");
    model
}

fn ids(count: usize) -> Vec<u32> {
    (0..count as u32).map(|i| (i * i + i / 3) % 11).collect()
}

fn expected(model: &Model, ids: &[u32], learn: bool) -> Vec<f64> {
    let weights = model.weights.map(|_, w| Var::constant(w.clone()));
    let net = Net::new(&model.config, weights, ids.len()).expect("a net");
    let reading = Reading {
        learn,
        ..Reading::default()
    };
    net.read(ids, &reading).expect("losses").nll.to_f64s()
}

fn worst(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max)
}

/// Every shape of model that takes another path: static, one and several fast layers, all layers fast; windows below, at and
/// above b, and none.
fn models() -> impl Iterator<Item = Model> {
    let shapes = [(2, 0), (2, 1), (3, 2), (2, 2)];
    let windows = [1, 3, B, 9, 100, 0];
    shapes
        .into_iter()
        .flat_map(move |(l, s)| windows.map(|k| model(l, s, k)))
}

#[test]
fn losses_do_not_depend_on_the_cuts() -> Result<()> {
    for model in models() {
        // whole mini-batches of targets, a ragged end, and less than one mini-batch
        for count in [5 * B + 1, 5 * B + 3, B, 2] {
            for learn in [true, false] {
                let ids = ids(count);
                let expected = expected(&model, &ids, learn);
                for cut in [1, 2, 3, 7, B, B + 1, count] {
                    let mut session = Session::new(&model, learn)?;
                    let mut losses = vec![];
                    for part in ids.chunks(cut) {
                        losses.extend(session.read(part)?);
                    }
                    let worst = worst(&losses, &expected);
                    assert!(
                        worst < 1e-10,
                        "cut {cut}, {count} tokens, learn {learn}: {worst:e} {:?}",
                        model.config
                    );
                    assert_eq!(session.position(), count);
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random cuts, some of them empty, with the logits asked for in between or not.
    #[test]
    fn random_cuts(
        cuts in prop::collection::vec((0usize..11, any::<bool>()), 1..12),
        shape in prop::sample::select(vec![(1, 1), (3, 2), (2, 0)]),
        k in prop::sample::select(vec![2, 6, 0]),
    ) {
        let model = model(shape.0, shape.1, k);
        let ids = ids(cuts.iter().map(|c| c.0).sum::<usize>() + 2);
        let expected = expected(&model, &ids, true);
        let mut session = Session::new(&model, true).unwrap();
        let mut losses = session.read(&ids[..2]).unwrap();
        let mut at = 2;
        for (count, ask) in cuts {
            if ask {
                let logits = session.logits().unwrap();
                prop_assert_eq!(&logits, &session.logits().unwrap());
                if let Some(&next) = ids.get(at) {
                    let sum: f64 = logits.iter().map(|l| l.exp()).sum();
                    let nll = sum.ln() - logits[next as usize];
                    prop_assert!((nll - expected[at - 1]).abs() < 1e-10);
                }
            }
            losses.extend(session.read(&ids[at..at + count]).unwrap());
            at += count;
        }
        prop_assert!(worst(&losses, &expected) < 1e-10);
    }
}

/// The blocks of a hybrid see what their types say: as many positions as a model of that type, and the same losses in any cuts.
#[test]
fn blocks_of_different_windows() -> Result<()> {
    use LayerType::{FullAttention, SlidingAttention};
    let with = |k: usize, types: &[LayerType]| {
        let mut model = model(types.len(), 1, k);
        model.config.layer_types = Some(types.to_vec());
        model
    };
    let ids = ids(40);
    for types in [
        vec![SlidingAttention, FullAttention],
        vec![FullAttention, SlidingAttention, SlidingAttention],
        vec![FullAttention, FullAttention],
    ] {
        let hybrid = with(5, &types);
        let losses = expected(&hybrid, &ids, true);
        let mut session = Session::new(&hybrid, true)?;
        let mut cut = session.read(&ids[..7])?;
        for id in &ids[7..] {
            session.logits()?;
            cut.extend(session.read(&[*id])?);
        }
        assert!(worst(&cut, &losses) < 1e-10, "{types:?}");
        let all_full = types.iter().all(|t| *t == FullAttention);
        let full = expected(&model(types.len(), 1, 0), &ids, true);
        let sliding = expected(&model(types.len(), 1, 5), &ids, true);
        assert_eq!(losses == full, all_full, "{types:?}");
        assert_ne!(losses, sliding, "{types:?}");
        // a window beyond the text is full attention
        let wide = expected(&with(40, &types), &ids, true);
        assert!(worst(&wide, &full) < 1e-12, "{types:?}");
    }
    let sliding = with(5, &[SlidingAttention, SlidingAttention]);
    assert_eq!(
        expected(&sliding, &ids, true),
        expected(&model(2, 1, 5), &ids, true)
    );
    Ok(())
}

#[test]
fn long_calls_are_cut_into_chunks() -> Result<()> {
    for (learn, k) in [(true, 9), (false, 9), (true, 0)] {
        let mut model = model(2, 1, k);
        // 600 steps with a high rate are chaotic: they make 1e-3 of a rounding error
        model
            .config
            .ttt
            .as_mut()
            .expect("a fast model")
            .inner_learning_rate = 0.01;
        let ids = ids(2500);
        let expected = expected(&model, &ids, learn);
        let mut session = Session::new(&model, learn)?;
        let mut losses = session.read(&ids[..3])?;
        losses.extend(session.read(&ids[3..])?);
        let worst = worst(&losses, &expected);
        assert!(worst < 1e-10, "learn {learn}, window {k}: {worst:e}");
    }
    Ok(())
}

#[test]
fn learning_changes_losses_and_fast_weights() -> Result<()> {
    let (model, ids) = (model(3, 2, 6), ids(20));
    let (mut on, mut off) = (Session::new(&model, true)?, Session::new(&model, false)?);
    let (a, b) = (on.read(&ids)?, off.read(&ids)?);
    assert!(
        worst(&a[..B], &b[..B]) < 1e-12,
        "the first mini-batch has learned nothing yet"
    );
    assert!(worst(&a[B..], &b[B..]) > 1e-3);
    let weights = |s: &Session| s.fast()[1].gate.to_f64s();
    let before = model.weights.fast()[1].gate.to_f64s();
    assert_eq!(weights(&off), before);
    assert_ne!(weights(&on), before);
    Ok(())
}

/// A session that skipped is as deep in a text as one that read, looks back on as many keys, and goes on.
#[test]
fn skipping_is_as_deep_as_reading() -> Result<()> {
    for full in [vec![], vec![0, 2], vec![0, 1, 2]] {
        let mut model = model(3, 2, 6);
        let kind = |i: usize| match full.contains(&i) {
            true => LayerType::FullAttention,
            false => LayerType::SlidingAttention,
        };
        model.config.layer_types = Some((0..3).map(kind).collect());
        let ids = ids(80);
        let mut session = Session::new(&model, true)?;
        session.read(&ids[..21])?;
        let before = session.clone();
        session.skip(4000)?;
        assert_eq!(session.position(), 4021);
        // keys and values of 4 numbers of 8 bytes
        let keys = 4020 * full.len() * 2 * 4 * 8;
        let bytes = session.state_bytes();
        let most = 2 * keys + before.state_bytes();
        assert!((keys..=most).contains(&bytes), "{bytes} for {keys}");
        assert_eq!(session.read(&ids[21..])?.len(), 59);
        session.logits()?;
        // the clone has not skipped
        let losses = before.clone().read(&ids[21..])?;
        assert!(worst(&losses, &expected(&model, &ids, true)[20..]) < 1e-10);
    }
    Ok(())
}

#[test]
fn state_stops_growing() -> Result<()> {
    for k in [3, 9, 300] {
        let model = model(3, 2, k);
        let mut session = Session::new(&model, true)?;
        let mut full = 0;
        for (i, id) in ids(3000).into_iter().enumerate() {
            session.read(&[id])?;
            session.logits()?;
            if i % B == 2 {
                // each mini-batch is this far along, so that the state is flat to the byte
                let bytes = session.state_bytes();
                match i < 2 * (k + 256) {
                    true => full = bytes,
                    false => assert_eq!(bytes, full, "at token {i}"),
                }
            }
        }
        // fast weights, three caches of keys and values of 4 numbers, h, logits, and the targets of 2 inputs that are known
        let numbers = 2 * 3 * 8 * 12 + 3 * (k - 1 + 256) * 2 * 4 + B * 8 + 11;
        assert_eq!(full, 8 * numbers + 4 * 2);
    }
    Ok(())
}

#[test]
fn mistakes_are_errors_that_say_what_to_do() -> Result<()> {
    let full = model(2, 1, 0);
    let mut session = Session::new(&full, true)?;
    assert!(session.logits().is_err());
    assert!(session.read(&[])?.is_empty());
    let error = session.read(&[1, 11]).unwrap_err().to_string();
    assert!(
        error.contains("token id = 11") && error.contains("vocabulary 0..11"),
        "{error}"
    );
    // nothing of the above was read
    assert_eq!(session.position(), 0);

    let mut broken = model(2, 1, 4);
    broken.weights.norm.scale_assign(1e308).expect("floats");
    broken.weights.embed.scale_assign(1e308).expect("floats");
    let error = Session::new(&broken, false)?
        .read(&ids(4))
        .unwrap_err()
        .to_string();
    assert!(error.contains("loss of token 1 is not finite"), "{error}");
    Ok(())
}

#[test]
fn generating_repeats_and_reads_what_it_writes() -> Result<()> {
    let mut config = model(2, 1, 6).config;
    config.vocab_size = 300; // more rows than the tokenizer has ids
    let model = Model::random(&config, 5, DType::F64)?;
    let tokenizer = Tokenizer::bytes();
    let prompt = tokenizer.encode("Once upon a time")?;
    let write = |seed: u64| {
        let mut session = Session::new(&model, true)?;
        session.read(&prompt)?;
        let mut sampler = Sampler::new(Sampling {
            seed,
            ..Sampling::default()
        })?;
        let mut pieces = String::new();
        let text = generate(&mut session, &tokenizer, 21, &mut sampler, &mut |piece| {
            pieces.push_str(piece);
            ControlFlow::Continue(())
        })?;
        assert_eq!(text, pieces);
        Ok::<_, model::Error>((text, session))
    };
    let (text, session) = write(1)?;
    assert_eq!(session.position(), prompt.len() + 21);
    assert_eq!(text, write(1)?.0);
    assert_ne!(text, write(2)?.0);
    // what is written is learned from as if it had been read
    assert_ne!(
        session.fast()[0].up.to_f64s(),
        model.weights.fast()[0].up.to_f64s()
    );
    Ok(())
}
