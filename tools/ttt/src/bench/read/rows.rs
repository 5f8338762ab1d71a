//! What measurements come to: a row for each model and context.

use model::{Error, Model, Result};
use serde::Serialize;

use super::cost::{bytes_per_token, key_value_bytes};
use super::measure::Measuring;
use crate::bench::machine::median;

/// A model after a context.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its name.
    pub model: String,
    /// Tokens before it is measured.
    pub context: usize,
    /// Seconds to read 1000 tokens: the median of the rounds.
    pub prefill_s_per_1k: f64,
    /// Milliseconds to write a token, its share of an inner step included: the median of the rounds.
    pub decode_ms_per_token: f64,
    /// What the session remembers the text by.
    pub state_bytes: u64,
    /// False: worked out from the last two contexts that were.
    pub measured: bool,
    /// How the context was reached.
    pub reached: Reached,
    /// Milliseconds to write a token that no inner step follows: the median token.
    pub decode_between_steps_ms: f64,
    /// Bytes such a token must move.
    pub bytes_per_token: u64,
    /// Bytes per second that the threads read from memory one after the other, before or after.
    pub bandwidth: f64,
    /// A token's bytes per second, over that.
    pub bandwidth_share: f64,
    /// Prefill time over that after the first context: the median of the rounds' ratios.
    pub prefill_over_first: f64,
    /// Decode time, likewise.
    pub decode_over_first: f64,
}

/// How a session got to a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reached {
    /// It read every token.
    Read,
    /// It read for as long as the limit; then its state was set.
    Set,
    /// Not at all.
    Extrapolated,
}

/// One round.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Seconds per token.
    pub prefill: f64,
    pub decode: f64,
    pub between: f64,
    /// Bytes that the threads read from memory one after the other in the time `between`, at the rate before or after the tokens were
    /// written, whichever is more.
    pub readable: f64,
}

/// A model at a context.
pub struct Place {
    pub context: usize,
    pub reached: Reached,
    pub samples: Vec<Sample>,
    pub state_bytes: u64,
}

/// The medians of the rounds.
pub fn middle(samples: &[Sample]) -> Sample {
    let of =
        |number: fn(&Sample) -> f64| median(&mut samples.iter().map(number).collect::<Vec<_>>());
    Sample {
        prefill: of(|s| s.prefill),
        decode: of(|s| s.decode),
        between: of(|s| s.between),
        readable: of(|s| s.readable),
    }
}

/// The line through two points, at x.
pub fn affine(a: (usize, f64), b: (usize, f64), x: usize) -> f64 {
    let slope = (b.1 - a.1) / (b.0 as f64 - a.0 as f64);
    b.1 + slope * (x as f64 - b.0 as f64)
}

/// The rows of a model: those of the places that were measured, and the contexts after them extrapolated.
pub fn rows_of(
    name: &str,
    model: &Model,
    places: &[Place],
    options: &Measuring,
) -> Result<Vec<Row>> {
    let (config, dtype) = (&model.config, model.weights.embed.dtype());
    let Some(first) = places.first() else {
        let message = format!("is too little for the keys and values of {name} at any context");
        return Err(Error::setting("cache_memory", options.memory, message));
    };
    let row =
        |context: usize, sample: Sample, ratios: [f64; 2], reached: Reached, state_bytes: u64| {
            let bytes = bytes_per_token(config, dtype, context)?;
            Ok::<_, Error>(Row {
                model: name.to_string(),
                context,
                prefill_s_per_1k: 1e3 * sample.prefill,
                decode_ms_per_token: 1e3 * sample.decode,
                state_bytes,
                measured: reached != Reached::Extrapolated,
                reached,
                decode_between_steps_ms: 1e3 * sample.between,
                bytes_per_token: bytes,
                bandwidth: sample.readable / sample.between,
                bandwidth_share: bytes as f64 / sample.readable,
                prefill_over_first: ratios[0],
                decode_over_first: ratios[1],
            })
        };
    let mut rows = vec![];
    for place in places {
        let ratio = |number: fn(&Sample) -> f64| {
            let pairs = place.samples.iter().zip(&first.samples);
            median(
                &mut pairs
                    .map(|(a, b)| number(a) / number(b))
                    .collect::<Vec<_>>(),
            )
        };
        let ratios = [ratio(|s| s.prefill), ratio(|s| s.decode)];
        let sample = middle(&place.samples);
        rows.push(row(
            place.context,
            sample,
            ratios,
            place.reached,
            place.state_bytes,
        )?);
    }
    for &context in &options.contexts[places.len()..] {
        let [.., a, b] = places else { break };
        let (from, to) = (middle(&a.samples), middle(&b.samples));
        let at = |number: fn(&Sample) -> f64| {
            affine(
                (a.context, number(&from)),
                (b.context, number(&to)),
                context,
            )
        };
        let sample = Sample {
            prefill: at(|s| s.prefill),
            decode: at(|s| s.decode),
            between: at(|s| s.between),
            readable: at(|s| s.readable),
        };
        let start = middle(&first.samples);
        let ratios = [sample.prefill / start.prefill, sample.decode / start.decode];
        let more =
            key_value_bytes(config, dtype, context) - key_value_bytes(config, dtype, b.context);
        rows.push(row(
            context,
            sample,
            ratios,
            Reached::Extrapolated,
            b.state_bytes + more,
        )?);
    }
    Ok(rows)
}
