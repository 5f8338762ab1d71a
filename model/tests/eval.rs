//! An evaluation is the mean of the losses of `Net::read` over sequences that do not overlap.

use std::sync::atomic::{AtomicUsize, Ordering};

use model::data::Tokenizer;
use model::eval::{EvalOptions, Evaluation, evaluate};
use model::gradients::Workers;
use model::{Config, Model, Net, Reading, Result};
use ops::{DType, Var};

fn small() -> Model {
    let config: Config = serde_json::from_str(
        r#"{"vocab_size": 256, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
            "num_attention_heads": 2, "sliding_window": 6, "ttt": {"mini_batch_size": 4,
            "num_fast_layers": 1, "inner_learning_rate": 1.0, "inner_clip_norm": 1.0}}"#,
    )
    .expect("a configuration");
    Model::random(&config, 1, DType::F64).expect("a model")
}

const TEXT: &str =
    "It is a truth universally acknowledged, that a naïve reader must be in want of a good book.";

fn tokens() -> Vec<u32> {
    TEXT.bytes().map(u32::from).collect()
}

fn run(options: &EvalOptions, threads: usize) -> Result<Evaluation> {
    let workers = Workers::new(threads, threads)?;
    evaluate(
        &small(),
        &Tokenizer::bytes(),
        &tokens(),
        options,
        &workers,
        &|_| {},
    )
}

const OPTIONS: EvalOptions = EvalOptions {
    sequence_length: 20,
    learn: true,
    buckets: 3,
    max_tokens: None,
};

#[test]
fn equals_reading() -> Result<()> {
    let (model, tokens) = (small(), tokens());
    for learn in [true, false] {
        let evaluation = run(&EvalOptions { learn, ..OPTIONS }, 2)?;
        let mut losses = vec![];
        for start in (0..tokens.len() - 1).step_by(20) {
            let ids = &tokens[start..tokens.len().min(start + 21)];
            let weights = model.weights.map(|_, w| Var::constant(w.clone()));
            let net = Net::new(&model.config, weights, ids.len())?;
            let reading = Reading {
                learn,
                ..Reading::default()
            };
            losses.push(net.read(ids, &reading)?.nll.to_f64s());
        }
        let all = losses.concat();
        let sum: f64 = all.iter().sum();
        assert_eq!(evaluation.tokens, tokens.len() - 1);
        assert_eq!(evaluation.bytes, TEXT.len() as u64 - 1);
        assert!((evaluation.nats_per_token - sum / all.len() as f64).abs() < 1e-12);
        let bits = sum / 2f64.ln() / (TEXT.len() - 1) as f64;
        assert!((evaluation.bits_per_byte - bits).abs() < 1e-12);
        // the last sequence is shorter and counts where it is
        let last = losses.last().expect("some").len();
        assert!(last > 6 && last < 13);
        let edges: Vec<_> = evaluation
            .by_position
            .iter()
            .map(|b| (b.from, b.to))
            .collect();
        assert_eq!(edges, [(0, 6), (6, 13), (13, 20)]);
        for b in &evaluation.by_position {
            let part: Vec<f64> = losses
                .iter()
                .flat_map(|w| w.iter().take(b.to).skip(b.from))
                .copied()
                .collect();
            assert_eq!(b.tokens, part.len());
            let mean = part.iter().sum::<f64>() / part.len() as f64;
            assert!((b.nats_per_token - mean).abs() < 1e-12);
        }
    }
    Ok(())
}

#[test]
fn learning_makes_a_difference_after_the_first_mini_batch() -> Result<()> {
    let (on, off) = (
        run(&OPTIONS, 1)?,
        run(
            &EvalOptions {
                learn: false,
                ..OPTIONS
            },
            1,
        )?,
    );
    assert!((on.nats_per_token - off.nats_per_token).abs() > 1e-3);
    let five = EvalOptions {
        buckets: 5,
        ..OPTIONS
    };
    let (on, off) = (
        run(&five, 1)?,
        run(
            &EvalOptions {
                learn: false,
                ..five
            },
            1,
        )?,
    );
    let first = on.by_position[0].nats_per_token - off.by_position[0].nats_per_token;
    assert!(first.abs() < 1e-12);
    Ok(())
}

#[test]
fn the_number_of_workers_changes_no_bit() -> Result<()> {
    let (one, two) = (run(&OPTIONS, 1)?, run(&OPTIONS, 2)?);
    assert_eq!(one.nats_per_token.to_bits(), two.nats_per_token.to_bits());
    assert_eq!(one.by_position, two.by_position);
    Ok(())
}

#[test]
fn the_first_tokens_alone_and_progress() -> Result<()> {
    let options = EvalOptions {
        max_tokens: Some(7),
        ..OPTIONS
    };
    let evaluation = run(&options, 2)?;
    assert_eq!(evaluation.tokens, 7);
    // parts that nothing reaches are left out
    assert_eq!(evaluation.by_position.len(), 2);
    let most = AtomicUsize::new(0);
    let progress = |done| {
        most.fetch_max(done, Ordering::Relaxed);
    };
    let workers = Workers::new(2, 2)?;
    evaluate(
        &small(),
        &Tokenizer::bytes(),
        &tokens(),
        &OPTIONS,
        &workers,
        &progress,
    )?;
    assert_eq!(most.into_inner(), tokens().len() - 1);
    Ok(())
}

#[test]
fn several_texts_as_one() -> Result<()> {
    let (model, tokens, workers) = (small(), tokens(), Workers::new(1, 1)?);
    let part = |ids: &[u32]| {
        evaluate(
            &model,
            &Tokenizer::bytes(),
            ids,
            &OPTIONS,
            &workers,
            &|_| {},
        )
    };
    // cut where a sequence ends: the parts are the whole; the shorter one has no last bucket
    let (a, b, whole) = (part(&tokens[..6])?, part(&tokens[..41])?, part(&tokens)?);
    let (c, d) = (part(&tokens[..61])?, part(&tokens[60..])?);
    let all = Evaluation::of_all([&c, &d]).expect("two");
    assert!((all.nats_per_token - whole.nats_per_token).abs() < 1e-12);
    assert!((all.bits_per_byte - whole.bits_per_byte).abs() < 1e-12);
    assert_eq!((all.tokens, all.bytes), (whole.tokens, whole.bytes));
    for (x, y) in all.by_position.iter().zip(&whole.by_position) {
        assert_eq!((x.from, x.to, x.tokens), (y.from, y.to, y.tokens));
        assert!((x.nats_per_token - y.nats_per_token).abs() < 1e-12);
    }
    let all = Evaluation::of_all([&a, &b]).expect("two");
    let counts: Vec<_> = all.by_position.iter().map(|b| b.tokens).collect();
    assert_eq!(counts, [6 + 6 + 5, 7 + 7, 7 + 7]);
    assert_eq!(Evaluation::of_all([]), None);
    Ok(())
}

#[test]
fn options_that_cannot_work_are_errors() -> Result<()> {
    let wrong = [
        EvalOptions {
            sequence_length: 0,
            ..OPTIONS
        },
        EvalOptions {
            buckets: 0,
            ..OPTIONS
        },
        EvalOptions {
            buckets: 21,
            ..OPTIONS
        },
        EvalOptions {
            max_tokens: Some(0),
            ..OPTIONS
        },
    ];
    for options in wrong {
        assert!(run(&options, 1).is_err(), "{options:?}");
    }
    Ok(())
}
