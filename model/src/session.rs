//! Reading and writing text with a state that does not grow.
//!
//! A [`Session`] holds the fast weights, the keys and values still in the window, and the inputs of the mini-batch it is in.
//! Every token is scored with the fast weights of its mini-batch, and a whole mini-batch is followed by one inner step, so
//! losses are those of [`Net::read`] however the text is cut into calls. Nothing is recorded on a tape.

use ops::{Tensor, Var, concat, cross_entropy, slice};

use crate::block::KeyValues;
use crate::data::Tokenizer;
use crate::sampling::Sampler;
use crate::suffix::Suffix;
use crate::ttt::Net;
use crate::weights::Fast;
use crate::{Error, Model, Result, Ttt};

/// Inputs that go through the model at once, rounded up to whole mini-batches: enough rows for products at full speed; with more,
/// only memory grows.
const CHUNK: usize = 256;

/// Tokens that [`Session::new`] makes room for where attention is full.
const FULL_ATTENTION: usize = 65_536;

/// Most positions that one call of attention may span.
const MOST_POSITIONS: usize = 1 << 24;

/// A text being read or written.
///
/// ```
/// use model::session::Session;
/// use model::{Config, Model};
/// let config: Config = serde_json::from_str(
///     r#"{"vocab_size": 256, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2,
///         "num_attention_heads": 2, "sliding_window": 4, "ttt": {"mini_batch_size": 4,
///         "num_fast_layers": 1, "inner_learning_rate": 1.0, "inner_clip_norm": 1.0}}"#,
/// )?;
/// let model = Model::random(&config, 0, ops::DType::F32)?;
/// let mut session = Session::new(&model, true)?;
/// let losses = session.read(b"to be or not to be".map(u32::from).as_slice())?;
/// assert_eq!(losses.len(), 17);
/// assert_eq!(session.logits()?.len(), 256);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Session {
    net: Net,
    suffix: Suffix,
    /// The inner loop, if the session learns.
    ttt: Option<Ttt>,
    /// Most inputs that go through the prefix at once.
    chunk: usize,
    /// Most tokens of the text.
    longest: usize,
    /// Fast weights; inner steps change them in place.
    fast: Vec<Fast<Tensor>>,
    /// Keys and values of the prefix after the last input.
    prefix: Vec<KeyValues>,
    /// Those of the suffix.
    live: Vec<KeyValues>,
    /// Those of the suffix where the open mini-batch starts.
    start: Vec<KeyValues>,
    /// What the prefix made of the inputs of the open mini-batch [.., d].
    open: Vec<Var>,
    /// The token after each of them, as far as it is known.
    targets: Vec<u32>,
    /// The last token read: an input once its successor or its logits are asked for.
    last: Option<u32>,
    /// Logits [1, V] after the last token, if they have been asked for.
    next: Option<Var>,
    position: usize,
}

impl Session {
    /// A session at the start of a text of any length; of at most 65 536 tokens if attention is full, or its window longer
    /// than that. With `learn` it takes an inner step on every mini-batch; a model without fast layers has nothing to learn
    /// with and only reads.
    pub fn new(model: &Model, learn: bool) -> Result<Self> {
        let bounded = model.config.window() <= FULL_ATTENTION;
        let length = if bounded { usize::MAX } else { FULL_ATTENTION };
        Self::with_length(model, learn, length)
    }

    /// A session for a text of at most `length` tokens.
    ///
    /// Errors: a window, or a mini-batch, of more than 16 million tokens.
    pub fn with_length(model: &Model, learn: bool, length: usize) -> Result<Self> {
        let config = &model.config;
        let ttt = config.ttt.clone();
        let ttt = ttt.filter(|ttt| learn && ttt.num_fast_layers > 0);
        let b = ttt.as_ref().map_or(1, |ttt| ttt.mini_batch_size);
        let chunk = CHUNK.checked_next_multiple_of(b).unwrap_or(b);
        // what is in the window, and what goes in at once
        let positions = (config.window() - 1).saturating_add(chunk).min(length);
        if positions > MOST_POSITIONS {
            let message = format!(
                "is more than the {MOST_POSITIONS} tokens a session can look back on or learn from at once; \
                 use a smaller sliding_window and mini_batch_size"
            );
            return Err(Error::setting("positions", positions, message));
        }
        let weights = model.weights.map(|_, w| Var::constant(w.clone()));
        let net = Net::new(config, weights, positions)?;
        let suffix = net.suffix();
        let live = net.empty_caches(suffix.attentions());
        Ok(Session {
            fast: model.weights.fast(),
            prefix: net.empty_caches(net.prefix_attentions()),
            start: live.clone(),
            live,
            open: vec![],
            targets: vec![],
            last: None,
            next: None,
            position: 0,
            longest: length,
            chunk,
            ttt,
            suffix,
            net,
        })
    }

    /// Reads `tokens` and returns, in nats, the loss of each that had a predecessor: of all but the first token of the text.
    /// Each loss is taken before the inner step that uses it. Losses do not depend on how a text is cut into calls, up to
    /// rounding (which many inner steps at a high rate can make much of).
    ///
    /// Errors: a token outside the vocabulary or beyond the length of the session, both before anything is read; a loss that
    /// is not finite, after which the session is of no more use.
    pub fn read(&mut self, tokens: &[u32]) -> Result<Vec<f64>> {
        self.check(tokens)?;
        let (Some(&first), Some(&last)) = (tokens.first(), tokens.last()) else {
            return Ok(vec![]);
        };
        let mut losses = vec![];
        if let Some(logits) = self.next.take() {
            // the last token went in for its logits; now its target is known
            let nll = cross_entropy(&logits, &[first].into())?;
            losses.extend(nll.value().to_f64s());
            self.close(&[first])?;
            self.last = None;
        }
        let known = match self.last {
            Some(last) => &[&[last], tokens].concat()[..],
            None => tokens,
        };
        let (inputs, targets) = (&known[..known.len() - 1], &known[1..]);
        let mut at = 0;
        while at < inputs.len() {
            let end = inputs
                .len()
                .min(at.saturating_add(self.chunk - self.targets.len()));
            losses.extend(self.advance(&inputs[at..end], &targets[at..end])?);
            at = end;
        }
        self.last = Some(last);
        let before = self.position.max(1);
        self.position += tokens.len();
        match losses.iter().position(|l| !l.is_finite()) {
            None => Ok(losses),
            Some(i) => Err(Error::NotFinite {
                what: format!("the loss of token {}", before + i),
                remedy: "read with learning off, or lower inner_learning_rate or set inner_clip_norm in config.json",
            }),
        }
    }

    /// Logits of the token that comes next, V of them.
    ///
    /// Errors: nothing has been read yet.
    pub fn logits(&mut self) -> Result<Vec<f64>> {
        if let Some(logits) = &self.next {
            return Ok(logits.value().to_f64s());
        }
        let Some(last) = self.last else {
            let message =
                "a session needs at least one token to predict the next from; read something first";
            return Err(Error::setting("tokens", 0, message));
        };
        let (h, caches) = self.net.prefix(&[last].into(), &self.prefix, &[], true)?;
        self.prefix = caches;
        let (logits, live) = self.suffix.logits(&h, &constants(&self.fast), &self.live)?;
        self.live = live;
        if self.ttt.is_some() {
            self.open.push(h);
        }
        let values = logits.value().to_f64s();
        self.next = Some(logits);
        Ok(values)
    }

    /// Number of tokens read.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The fast weights, first fast block to last.
    pub fn fast(&self) -> Vec<Fast<Tensor>> {
        self.fast.clone()
    }

    /// How many numbers the session remembers the text by: fast weights, keys and values, and the open mini-batch. It stops
    /// growing once the window is full.
    pub fn state_len(&self) -> usize {
        let fast = self.fast.iter().flat_map(Fast::each);
        let caches = self.prefix.iter().chain(&self.live).chain(&self.start);
        let caches = caches.flat_map(|c| [&c.k, &c.v]);
        let inputs = caches.chain(&self.open).map(Var::value);
        fast.chain(inputs).map(Tensor::len).sum()
    }

    fn check(&self, tokens: &[u32]) -> Result<()> {
        let vocab = self.net.config().vocab_size;
        if let Some(i) = tokens.iter().position(|&id| id as usize >= vocab) {
            let message = format!(
                "token {} of the text is outside the model's vocabulary 0..{vocab}; use the model's own tokenizer",
                self.position + i
            );
            return Err(Error::setting("token id", tokens[i], message));
        }
        let length = self.position.saturating_add(tokens.len());
        if length > self.longest {
            let message = format!(
                "is more than the {} tokens this session has room for; make a longer one, or use a model with a \
                 sliding window, which reads texts of any length",
                self.longest
            );
            return Err(Error::setting("tokens", length, message));
        }
        Ok(())
    }

    /// Inputs with the tokens that follow them: losses, and an inner step for every mini-batch that they complete. They do
    /// not reach beyond the end of a mini-batch by more than whole ones.
    fn advance(&mut self, inputs: &[u32], targets: &[u32]) -> Result<Vec<f64>> {
        let (h, caches) = self.net.prefix(&inputs.into(), &self.prefix, &[], true)?;
        self.prefix = caches;
        let b = self
            .ttt
            .as_ref()
            .map_or(usize::MAX, |ttt| ttt.mini_batch_size);
        let mut losses = vec![];
        let mut at = 0;
        while at < inputs.len() {
            let end = inputs.len().min(at.saturating_add(b - self.targets.len()));
            let x = slice(&h, 0, at, end)?;
            let targets = &targets[at..end];
            let nll = match end - at == b {
                true => self.step(&x, targets)?,
                false => {
                    let known = targets.into();
                    // no share in the fast weights is left when the step wants to write them
                    let (nll, live) =
                        (self.suffix).losses(&x, &known, &constants(&self.fast), &self.live)?;
                    self.live = live;
                    if self.ttt.is_some() {
                        self.open.push(x);
                    }
                    self.close(targets)?;
                    nll.into_value()
                }
            };
            losses.extend(nll.to_f64s());
            at = end;
        }
        Ok(losses)
    }

    /// Notes the targets of inputs that have gone in, and takes the inner step if they complete the mini-batch.
    fn close(&mut self, targets: &[u32]) -> Result<()> {
        let Some(ttt) = &self.ttt else {
            return Ok(());
        };
        self.targets.extend_from_slice(targets);
        if self.targets.len() == ttt.mini_batch_size {
            let x = concat(&self.open.iter().collect::<Vec<_>>(), 0)?;
            let targets = std::mem::take(&mut self.targets);
            self.open.clear();
            self.step(&x, &targets)?;
        }
        Ok(())
    }

    /// One whole mini-batch x [b, d], from the caches at its start.
    fn step(&mut self, x: &Var, targets: &[u32]) -> Result<Tensor> {
        let ttt = self.ttt.as_ref();
        let ttt = ttt.expect("without an inner loop no mini-batch is ever whole");
        let (fast, start) = (&mut self.fast, &self.start);
        let (nll, live) = (self.suffix).read(x.value(), &targets.into(), fast, start, ttt)?;
        self.start = live.clone();
        self.live = live;
        Ok(nll)
    }
}

/// Fast weights as constants.
fn constants(fast: &[Fast<Tensor>]) -> Vec<Fast<Var>> {
    let constant = |w: &Tensor| Var::constant(w.clone());
    fast.iter().map(|f| f.map(constant)).collect()
}

/// Writes up to `max_tokens` tokens after what the session has read, and reads them while it writes. `on_text` gets the text
/// piece by piece, whole characters only; all of it is returned.
///
/// Errors: nothing has been read yet; those of [`Session::read`]; an id the tokenizer does not have.
pub fn generate(
    session: &mut Session,
    tokenizer: &Tokenizer,
    max_tokens: usize,
    sampler: &mut Sampler,
    on_text: &mut dyn FnMut(&str),
) -> Result<String> {
    let mut stream = tokenizer.stream();
    let mut text = String::new();
    let mut say = |piece: &str| {
        text.push_str(piece);
        on_text(piece);
    };
    for _ in 0..max_tokens {
        let mut logits = session.logits()?;
        // rows of the embedding beyond the tokenizer's vocabulary stand for no text
        logits.truncate(tokenizer.vocab_size());
        let token = sampler.sample(&logits)?;
        say(&stream.push(token)?);
        session.read(&[token])?;
    }
    say(&stream.finish());
    Ok(text)
}
