//! How long reading and writing take, deep in a text.
//!
//! Models whose state stops growing read to each context once; a session is kept at each, and the sessions take turns, so that a
//! machine that is slow for a while is slow for all contexts alike. A model whose cache grows reads on from context to context
//! and is measured on the way. Where reading up to a context would take longer than the limit, the state is set instead: the
//! position moves and the cache is filled with zeros, which take as long to read as any other keys.

use std::time::Instant;

use model::memory::Bytes;
use model::session::Session;
use model::{Config, Error, Model, Result};
use ops::DType;

use super::cost::{Stream, key_value_bytes};
use super::rows::{Place, Reached, Row, Sample, affine, middle, rows_of};
use crate::bench::machine::median;

/// What is measured, and for how long.
#[derive(Debug, Clone)]
pub struct Measuring {
    /// Tokens of context, rising.
    pub contexts: Vec<usize>,
    /// Times each is measured.
    pub rounds: usize,
    /// Tokens read, rounded up to whole mini-batches, and tokens written each time by models that do not learn; one that learns
    /// writes a whole mini-batch.
    pub prefill: usize,
    pub decode: usize,
    /// Seconds that reading up to one context, and measuring there a model whose cache grows, may take.
    pub limit: f64,
    /// What a growing cache may take.
    pub memory: Bytes,
    /// Threads that read and write.
    pub threads: usize,
}

impl Measuring {
    /// Errors that name the setting, the value and what would work.
    pub fn check(&self) -> Result<()> {
        let rising = self.contexts.windows(2).all(|w| w[0] < w[1]);
        if self.contexts.first().is_none_or(|&c| c < 2) || !rising {
            let contexts: Vec<String> = self.contexts.iter().map(usize::to_string).collect();
            let message = "must be at least 2 tokens each, and rise";
            return Err(Error::setting("contexts", contexts.join(","), message));
        }
        if let Some(&most) = self.contexts.last().filter(|&&c| c > 1 << 32) {
            return Err(Error::setting(
                "contexts",
                most,
                "must be at most 4 294 967 296 tokens",
            ));
        }
        let counts = [
            ("rounds", self.rounds),
            ("prefill", self.prefill),
            ("decode", self.decode),
        ];
        for (name, value) in counts {
            if value == 0 || value > 1 << 24 {
                return Err(Error::setting(
                    name,
                    value,
                    "must lie between 1 and 16 777 216",
                ));
            }
        }
        if self.limit.is_nan() || self.limit < 0.0 {
            return Err(Error::setting(
                "limit",
                self.limit,
                "must be a number of seconds",
            ));
        }
        Ok(())
    }
}

/// A place whose session waits for its turn.
type Waiting = (Session, Place);

/// Measures every model after every context; `say` hears what is going on.
pub fn measure(
    models: &[(String, Model)],
    options: &Measuring,
    say: &dyn Fn(&str),
) -> Result<Vec<Row>> {
    let stream = Stream::new(options.threads);
    let constant = |m: &&(String, Model)| m.1.config.window() != usize::MAX;
    let mut places: Vec<(usize, Vec<Waiting>)> = vec![];
    for (i, (name, model)) in models.iter().enumerate() {
        if constant(&&models[i]) {
            say(&format!("{name} reads"));
            places.push((i, Reader::new(model, options)?.places()?));
        }
    }
    for round in 0..options.rounds {
        say(&format!("round {} of {}", round + 1, options.rounds));
        for i in 0..options.contexts.len() {
            let at = (i + round) % options.contexts.len();
            for (m, places) in &mut places {
                let (session, place) = &mut places[at];
                place
                    .samples
                    .push(sample(session, &models[*m].1.config, options, &stream)?);
                place.state_bytes = session.state_bytes() as u64;
            }
        }
    }
    let mut rows = vec![];
    for (i, (name, model)) in models.iter().enumerate() {
        let found = places.iter_mut().find(|p| p.0 == i);
        let places = match found {
            Some((_, places)) => places.drain(..).map(|(_, place)| place).collect(),
            None => {
                say(&format!("{name} reads and is measured on the way"));
                Reader::new(model, options)?.growing(&stream)?
            }
        };
        rows.extend(rows_of(name, model, &places, options)?);
    }
    Ok(rows)
}

/// A session on its way through the contexts.
struct Reader<'a> {
    config: &'a Config,
    dtype: DType,
    options: &'a Measuring,
    session: Session,
    reached: Reached,
}

impl<'a> Reader<'a> {
    fn new(model: &'a Model, options: &'a Measuring) -> Result<Self> {
        Ok(Reader {
            config: &model.config,
            dtype: model.weights.embed.dtype(),
            options,
            session: Session::new(model, model.config.fast_layers() > 0)?,
            reached: Reached::Read,
        })
    }

    /// Tokens that all rounds together go on after a context.
    fn spent(&self) -> usize {
        let round =
            prefill_tokens(self.config, self.options) + decode_tokens(self.config, self.options);
        self.options.rounds * round
    }

    /// True if keys and values of `context` tokens do, with what it takes to move them to a buffer twice as large.
    fn fits(&self, context: usize) -> bool {
        3 * key_value_bytes(self.config, self.dtype, context) <= self.options.memory.0
    }

    /// Brings the session to where its rounds have `context` in their middle, or to half of it, at the start of a mini-batch.
    fn reach(&mut self, context: usize) -> Result<()> {
        let b = self.config.ttt.as_ref().map_or(1, |t| t.mini_batch_size);
        let target = (context - (self.spent() / 2).min(context / 2)).max(1);
        let target = (target - 1) / b * b + 1;
        // the window full, and inner steps taken
        let settled = match self.config.window() {
            usize::MAX => 1,
            k => k.saturating_add(2 * b),
        };
        let start = Instant::now();
        while self.session.position() < target {
            let at = self.session.position();
            let late =
                self.reached == Reached::Set || start.elapsed().as_secs_f64() > self.options.limit;
            if late && at >= settled {
                self.reached = Reached::Set;
                self.session.skip(target - at)?;
                break;
            }
            let piece = (target - at).min(b.max(1024));
            self.session.read(&ids(self.config, at, piece))?;
        }
        Ok(())
    }

    /// A session at each context.
    fn places(mut self) -> Result<Vec<Waiting>> {
        let mut places = vec![];
        for &context in &self.options.contexts {
            self.reach(context)?;
            let mut session = self.session.clone();
            // what the fork shares is copied now
            let b = self.config.ttt.as_ref().map_or(1, |t| t.mini_batch_size);
            session.read(&ids(self.config, session.position(), b))?;
            let place = Place {
                context,
                reached: self.reached,
                samples: vec![],
                state_bytes: 0,
            };
            places.push((session, place));
        }
        Ok(places)
    }

    /// Samples at each context that the limits allow; the first two are measured in any case that fits.
    fn growing(mut self, stream: &Stream) -> Result<Vec<Place>> {
        let mut places: Vec<Place> = vec![];
        for &context in &self.options.contexts {
            if !self.fits(context) {
                break;
            }
            if let [.., a, b] = &places[..] {
                let seconds = |p: &Place| {
                    let s = middle(&p.samples);
                    s.prefill * prefill_tokens(self.config, self.options) as f64
                        + s.decode * decode_tokens(self.config, self.options) as f64
                };
                let expected = affine((a.context, seconds(a)), (b.context, seconds(b)), context);
                if expected > self.options.limit {
                    break;
                }
            }
            self.reach(context)?;
            let mut samples = vec![];
            let start = Instant::now();
            while samples.is_empty()
                || samples.len() < self.options.rounds
                    && start.elapsed().as_secs_f64() < self.options.limit
            {
                samples.push(sample(
                    &mut self.session,
                    self.config,
                    self.options,
                    stream,
                )?);
            }
            places.push(Place {
                context,
                reached: self.reached,
                samples,
                state_bytes: self.session.state_bytes() as u64,
            });
        }
        Ok(places)
    }
}

/// Tokens that stand for a text.
fn ids(config: &Config, from: usize, count: usize) -> Vec<u32> {
    let id = |i: usize| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    let ids = (from..from + count).map(|i| (id(i) % config.vocab_size as u64) as u32);
    ids.collect()
}

fn prefill_tokens(config: &Config, options: &Measuring) -> usize {
    let b = config.ttt.as_ref().map_or(1, |t| t.mini_batch_size);
    options.prefill.next_multiple_of(b)
}

fn decode_tokens(config: &Config, options: &Measuring) -> usize {
    config
        .ttt
        .as_ref()
        .map_or(options.decode, |t| t.mini_batch_size)
}

/// Reads, then writes.
fn sample(
    session: &mut Session,
    config: &Config,
    options: &Measuring,
    stream: &Stream,
) -> Result<Sample> {
    let text = ids(config, session.position(), prefill_tokens(config, options));
    let start = Instant::now();
    session.read(&text)?;
    let prefill = start.elapsed().as_secs_f64() / text.len() as f64;
    let before = stream.bandwidth();
    let mut times = vec![];
    for id in ids(config, session.position(), decode_tokens(config, options)) {
        let start = Instant::now();
        session.logits()?;
        session.read(&[id])?;
        times.push(start.elapsed().as_secs_f64());
    }
    let decode = times.iter().sum::<f64>() / times.len() as f64;
    let between = median(&mut times);
    Ok(Sample {
        prefill,
        decode,
        between,
        readable: between * before.max(stream.bandwidth()),
    })
}
