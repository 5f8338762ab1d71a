//! What a finished run shows: held-out losses, a few lines of writing, and the report.

use std::ops::ControlFlow;
use std::path::Path;

use model::data::{Corpus, Tokenizer};
use model::eval::{EvalOptions, Evaluation, evaluate};
use model::sampling::{Sampler, Sampling};
use model::session::{Session, generate};
use model::train::Trainer;
use model::{Model, Result, files};

use crate::report::{Curve, HeldOut, Position, Report, Sample, TrainingPoint};
use crate::settings::Settings;
use crate::train::Metrics;

/// Tokens of a held-out book that a sample's prompt takes, and tokens it writes.
const PROMPT: usize = 256;
const WRITTEN: usize = 120;

/// Evaluates the model on the held-out texts, lets it write, prints the result and writes `report.html`.
pub fn report(
    trainer: &Trainer,
    settings: &Settings,
    tokenizer: &Tokenizer,
    metrics: &[Metrics],
    folder: &Path,
) -> Result<()> {
    let model = &trainer.model;
    let tokens = settings.training.tokens_before(trainer.step);
    let mut heldout = vec![];
    let mut samples = vec![];
    if !settings.data.heldout.is_empty() {
        let cache = crate::cache::cache_dir();
        let corpus = Corpus::open(&settings.data.heldout, tokenizer, &cache)?;
        for book in corpus.books() {
            let evaluate = |learn| held_out(trainer, settings, tokenizer, book.tokens(), learn);
            let on = match model.config.fast_layers() > 0 {
                true => Some(evaluate(true)?),
                false => None,
            };
            let off = evaluate(false)?;
            println!("{}", summary(&book.name, on.as_ref(), &off));
            heldout.push(HeldOut {
                book: book.name.clone(),
                on: on.map(curve),
                off: curve(off),
            });
        }
        if let Some(book) = corpus.books().first() {
            samples.push(sample(model, tokenizer, book.tokens())?);
        }
    }
    let settings_text = toml::to_string(settings).expect("settings are plain data");
    let rows = settings_text.lines().filter_map(|l| l.split_once(" = "));
    let report = Report {
        title: folder
            .file_name()
            .map_or("training".into(), |n| n.to_string_lossy().into_owned()),
        settings: rows.map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        config_json: serde_json::to_string_pretty(&model.config).expect("plain data"),
        parameters: model.weights.count(),
        training: metrics.iter().map(point).collect(),
        seconds: metrics.last().map_or(0.0, |m| m.seconds),
        tokens,
        heldout,
        samples,
    };
    let path = folder.join("report.html");
    files::write(&path, &[report.html().as_bytes()])?;
    println!(
        "model {}\nreport {}",
        folder.join("model").display(),
        path.display()
    );
    Ok(())
}

fn held_out(
    trainer: &Trainer,
    settings: &Settings,
    tokenizer: &Tokenizer,
    tokens: &[u32],
    learn: bool,
) -> Result<Evaluation> {
    let sequence_length = settings.data.heldout_length;
    let options = EvalOptions {
        sequence_length,
        learn,
        buckets: sequence_length.min(8),
        max_tokens: None,
    };
    evaluate(
        &trainer.model,
        tokenizer,
        tokens,
        &options,
        trainer.workers(),
        &|_| (),
    )
}

fn summary(book: &str, on: Option<&Evaluation>, off: &Evaluation) -> String {
    let last = |e: &Evaluation| e.by_position.last().map_or(f64::NAN, |b| b.nats_per_token);
    match on {
        None => format!("{book}: {:.3} bits per byte", off.bits_per_byte),
        Some(on) => format!(
            "{book}: {:.3} bits per byte with test-time training on, {:.3} off; \
             in the last eighth of a sequence {:.3} and {:.3} nats per token",
            on.bits_per_byte,
            off.bits_per_byte,
            last(on),
            last(off)
        ),
    }
}

fn curve(e: Evaluation) -> Curve {
    let position = |b: &model::eval::Bucket| Position {
        from: b.from,
        to: b.to,
        nats_per_token: b.nats_per_token,
    };
    Curve {
        nats_per_token: e.nats_per_token,
        bits_per_byte: e.bits_per_byte,
        buckets: e.by_position.iter().map(position).collect(),
    }
}

fn point(m: &Metrics) -> TrainingPoint {
    TrainingPoint {
        step: m.step.step,
        loss: m.step.loss,
        learning_rate: m.step.learning_rate,
        tokens_per_second: m.tokens_per_second,
    }
}

/// Reads the start of a text, learning from it, and writes on.
fn sample(model: &Model, tokenizer: &Tokenizer, tokens: &[u32]) -> Result<Sample> {
    let prompt = &tokens[..tokens.len().min(PROMPT)];
    let mut session = Session::new(model, model.config.fast_layers() > 0)?;
    session.read(prompt)?;
    let mut sampler = Sampler::new(Sampling {
        temperature: 0.8,
        top_p: 0.95,
        top_k: 0,
        seed: 0,
    })?;
    let text = generate(&mut session, tokenizer, WRITTEN, &mut sampler, &mut |_| {
        ControlFlow::Continue(())
    })?;
    Ok(Sample {
        prompt: tokenizer.decode(prompt)?,
        text,
    })
}
