//! The loss on a text, per token and per byte, and by position in the sequence.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde::Serialize;

use crate::data::{Tokenizer, eval_windows};
use crate::gradients::Workers;
use crate::session::Session;
use crate::{Error, Model, Result};

/// How a text is evaluated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvalOptions {
    /// T: the text is cut into sequences of this many targets that do not overlap; each is read from nothing.
    pub sequence_length: usize,
    /// Take inner steps while reading. A model without fast layers has none to take.
    pub learn: bool,
    /// Parts of the sequence with a loss of their own.
    pub buckets: usize,
    /// Targets to evaluate, from the start of the text; `None`: all.
    pub max_tokens: Option<usize>,
}

impl Default for EvalOptions {
    fn default() -> Self {
        EvalOptions {
            sequence_length: 1024,
            learn: true,
            buckets: 8,
            max_tokens: None,
        }
    }
}

/// What a model makes of a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Tokens predicted: all but the first.
    pub tokens: usize,
    /// Bytes of UTF-8 these tokens stand for.
    pub bytes: u64,
    /// Mean loss of a token, before the inner step that uses it.
    pub nats_per_token: f64,
    /// Sum of the losses in bits, over the bytes.
    pub bits_per_byte: f64,
    /// Losses by position in the sequence. Parts that no sequence reaches are left out.
    pub by_position: Vec<Bucket>,
    /// Time it took.
    pub seconds: f64,
    /// Tokens predicted per second.
    pub tokens_per_second: f64,
}

/// The targets at positions `from..to` of their sequences.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bucket {
    /// First position.
    pub from: usize,
    /// One beyond the last position.
    pub to: usize,
    /// Number of targets.
    pub tokens: usize,
    /// Their mean loss.
    pub nats_per_token: f64,
}

impl Evaluation {
    /// Several texts as one, every token counting the same; `None` for none. The parts must come from the same options.
    pub fn of_all<'a>(parts: impl IntoIterator<Item = &'a Evaluation>) -> Option<Evaluation> {
        let mut parts = parts.into_iter();
        let mut all = parts.next()?.clone();
        for part in parts {
            let nats =
                all.nats_per_token * all.tokens as f64 + part.nats_per_token * part.tokens as f64;
            all.tokens += part.tokens;
            all.bytes += part.bytes;
            all.seconds += part.seconds;
            all.nats_per_token = nats / all.tokens as f64;
            all.bits_per_byte = nats / std::f64::consts::LN_2 / all.bytes as f64;
            all.tokens_per_second = all.tokens as f64 / all.seconds;
            for bucket in &part.by_position {
                match all.by_position.iter_mut().find(|b| b.from == bucket.from) {
                    None => all.by_position.push(bucket.clone()),
                    Some(b) => {
                        let nats = b.nats_per_token * b.tokens as f64
                            + bucket.nats_per_token * bucket.tokens as f64;
                        b.tokens += bucket.tokens;
                        b.nats_per_token = nats / b.tokens as f64;
                    }
                }
            }
        }
        all.by_position.sort_by_key(|b| b.from);
        Some(all)
    }
}

/// Evaluates the ids of one text. Sequences are read side by side, and the result does not depend on the number of workers.
/// `progress` gets the number of tokens done so far, from any thread.
///
/// Errors: a text of fewer than two tokens, options that cannot work, and those of [`Session::read`].
pub fn evaluate(
    model: &Model,
    tokenizer: &Tokenizer,
    tokens: &[u32],
    options: &EvalOptions,
    workers: &Workers,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Evaluation> {
    let (t, buckets) = (options.sequence_length, options.buckets);
    if t == 0 {
        return Err(Error::setting("sequence_length", 0, "must be at least 1"));
    }
    if buckets == 0 || buckets > t {
        let message = format!("must be at least 1 and at most the sequence length {t}");
        return Err(Error::setting("buckets", buckets, message));
    }
    if options.max_tokens == Some(0) {
        return Err(Error::setting("max_tokens", 0, "must be at least 1"));
    }
    let most = options.max_tokens.unwrap_or(usize::MAX).saturating_add(1);
    let tokens = &tokens[..tokens.len().min(most)];
    if tokens.len() < 2 {
        let message =
            "is too short to evaluate: at least two are needed, one to read and one to predict";
        return Err(Error::setting("tokens", tokens.len(), message));
    }
    let start = Instant::now();
    let done = AtomicUsize::new(0);
    let windows = eval_windows(tokens.len(), t);
    let read = |window: &std::ops::Range<usize>| {
        let mut session = Session::new(model, options.learn)?;
        let losses = session.read(&tokens[window.clone()])?;
        progress(done.fetch_add(losses.len(), Ordering::Relaxed) + losses.len());
        Ok::<_, Error>(losses)
    };
    let windows = workers.map(&windows, read);
    let windows: Vec<Vec<f64>> = windows.into_iter().collect::<Result<_>>()?;
    let by_position = by_position(&windows, t, buckets);
    let (sum, count) = sum_and_count(windows.iter().flatten());
    let bytes = tokenizer.byte_len(&tokens[1..]);
    let seconds = start.elapsed().as_secs_f64();
    Ok(Evaluation {
        tokens: count,
        bytes,
        nats_per_token: sum / count as f64,
        bits_per_byte: sum / std::f64::consts::LN_2 / bytes as f64,
        by_position,
        seconds,
        tokens_per_second: count as f64 / seconds,
    })
}

fn by_position(windows: &[Vec<f64>], t: usize, buckets: usize) -> Vec<Bucket> {
    let edge = |i: usize| (t as u128 * i as u128 / buckets as u128) as usize;
    let bucket = |i: usize| {
        let (from, to) = (edge(i), edge(i + 1));
        let part = |w: &'_ Vec<f64>| from.min(w.len())..to.min(w.len());
        let (sum, tokens) = sum_and_count(windows.iter().flat_map(|w| &w[part(w)]));
        (tokens > 0).then(|| Bucket {
            from,
            to,
            tokens,
            nats_per_token: sum / tokens as f64,
        })
    };
    (0..buckets).filter_map(bucket).collect()
}

fn sum_and_count<'a>(losses: impl Iterator<Item = &'a f64>) -> (f64, usize) {
    losses.fold((0.0, 0), |(sum, count), loss| (sum + loss, count + 1))
}
