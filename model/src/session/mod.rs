//! Reading and writing text with a state that does not grow.
//!
//! A [`Session`] holds the fast weights, the keys and values still in the window, and the inputs of the mini-batch it is in.
//! Every token is scored with the fast weights of its mini-batch, and a whole mini-batch is followed by one inner step, so
//! losses are those of [`Net::read`](crate::Net::read) however the text is cut into calls. Nothing is recorded on a tape.
//!
//! `forward` takes rows of tokens through the model, `step` is the inner step, `cache` the window; [`batch`] is many sessions
//! over one copy of the weights, and [`Memory`] is a session on disk.

mod base;
pub mod batch;
mod cache;
mod forward;
mod generate;
mod memory;
mod options;
mod state;
mod step;
mod surprise;

use std::sync::Arc;

use ops::{DType, Device, Tensor, Var, concat, cross_entropy, linear_cross_entropy};

pub use base::Base;
pub use generate::generate;
pub use memory::{Header, Memory};
pub use options::Options;
use state::{Part, State};

use crate::weights::Fast;
use crate::{Error, Model, Result, Ttt};

/// Inputs that go through the model at once, rounded up to whole mini-batches: enough rows for products at full speed; with more,
/// only memory grows.
const CHUNK: usize = 256;

/// A text being read or written.
///
/// A clone is a fork: both go on from here and neither sees what the other reads. It costs nothing until one of them writes what
/// they share. To roll back, put the fork in the place of the session.
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
/// let fork = session.clone();
/// assert_eq!(session.logits()?.len(), 256);
/// session = fork;
/// assert_eq!(session.position(), 18);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Session {
    base: Arc<Base>,
    options: Options,
    /// Most inputs that are open, go in at once, or both.
    chunk: usize,
    state: State,
}

impl Session {
    /// A session of its own at the start of a text. With `learn` it takes an inner step on every mini-batch; a model without
    /// fast layers has nothing to learn with and only reads.
    pub fn new(model: &Model, learn: bool) -> Result<Self> {
        let options = Options {
            learn,
            ..Options::default()
        };
        Self::start(&Base::new(model), options)
    }

    /// A session at the start of a text, over weights that others may share.
    ///
    /// Errors: an option that cannot work with this model.
    pub fn start(base: &Arc<Base>, options: Options) -> Result<Self> {
        options.check(&base.config)?;
        let b = options.ttt(&base.config).map_or(1, |t| t.mini_batch_size);
        let chunk = CHUNK.checked_next_multiple_of(b).unwrap_or(b);
        Ok(Session {
            state: State::new(base, chunk)?,
            base: base.clone(),
            options,
            chunk,
        })
    }

    /// Reads `tokens` and returns, in nats, the loss of each that had a predecessor: of all but the first token of the text.
    /// Each loss is taken before the inner step that uses it. Losses do not depend on how a text is cut into calls, up to
    /// rounding (which many inner steps at a high rate can make much of).
    ///
    /// Errors: a token outside the vocabulary, before anything is read; a loss that is not finite, after which the session is of
    /// no more use.
    pub fn read(&mut self, tokens: &[u32]) -> Result<Vec<f64>> {
        self.check(tokens)?;
        let (Some(&first), Some(&last)) = (tokens.first(), tokens.last()) else {
            return Ok(vec![]);
        };
        let before = self.position().max(1);
        let mut losses = vec![];
        if let Some(logits) = self.state.next.take() {
            // the last token went in for its logits; now its target is known
            let nll = cross_entropy(&Var::constant(logits), &[first].into())?;
            losses.push(nll.value().item()?);
            self.device().graph(|| self.close(&[first]))??;
        }
        let known = match self.state.last {
            Some(last) => &[&[last], tokens].concat()[..],
            None => tokens,
        };
        let (inputs, targets) = (&known[..known.len() - 1], &known[1..]);
        let mut at = 0;
        while at < inputs.len() {
            let room = self.chunk - self.state.open.len();
            let end = inputs.len().min(at.saturating_add(room));
            losses.extend(self.advance(&inputs[at..end], &targets[at..end])?);
            at = end;
        }
        self.state.last = Some(last);
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
        Ok(batch::logits(std::slice::from_mut(self))?.swap_remove(0))
    }

    /// Number of tokens read.
    pub fn position(&self) -> usize {
        self.state.inputs + usize::from(self.state.last.is_some())
    }

    /// Goes on as if `count` more tokens had been read: the position moves, and where attention is full, keys and values of zeros
    /// stand for theirs. What reading and writing cost from here on is what they cost that deep in a text; what comes out means
    /// nothing. For measurements.
    pub fn skip(&mut self, count: usize) -> Result<()> {
        /// Rows written at once.
        const ROWS: usize = 4096;
        let config = &self.base.config;
        let row = [config.kv_heads(), config.head_dim()];
        let shape = [ROWS.min(count), row[0], row[1]];
        let zeros = self.base.nothing()?.full_like(&shape, 0.0)?;
        for cache in &mut self.state.caches {
            if cache.window() < usize::MAX {
                continue;
            }
            for start in (0..count).step_by(ROWS) {
                let rows = zeros.rows(0, ROWS.min(count - start))?;
                cache.push(&rows, &rows, self.state.open.len())?;
            }
        }
        self.state.inputs += count;
        Ok(())
    }

    /// Number of inner steps taken.
    pub fn steps(&self) -> u64 {
        self.state.steps
    }

    /// The type of the weights, and of what is learned.
    pub fn dtype(&self) -> DType {
        self.base.dtype()
    }

    /// The fast weights, first fast block to last.
    pub fn fast(&self) -> Vec<Fast<Tensor>> {
        self.state.fast.clone()
    }

    /// Bytes that the session takes besides the model's weights: fast weights that learn, keys and values, the open mini-batch,
    /// and the last logits. They stop growing once the window is full and a mini-batch has been read.
    pub fn state_bytes(&self) -> usize {
        self.state.bytes(self.options.learners(&self.base.config))
    }

    /// The inner loop, if the session learns.
    fn ttt(&self) -> Option<Ttt> {
        self.options.ttt(&self.base.config).cloned()
    }

    fn check(&self, tokens: &[u32]) -> Result<()> {
        let vocab = self.base.config.vocab_size;
        match tokens.iter().position(|&id| id as usize >= vocab) {
            None => Ok(()),
            Some(i) => {
                let message = format!(
                    "token {} of the text is outside the model's vocabulary 0..{vocab}; use the model's own tokenizer",
                    self.position() + i
                );
                Err(Error::setting("token id", tokens[i], message))
            }
        }
    }

    /// Inputs with the tokens that follow them: losses, and an inner step for every mini-batch that they complete. They do
    /// not reach beyond the end of a mini-batch by more than whole ones.
    fn advance(&mut self, inputs: &[u32], targets: &[u32]) -> Result<Vec<f64>> {
        let (base, t) = (self.base.clone(), inputs.len());
        let first = self.state.inputs;
        let angles = base.angles(first..first + t)?;
        let device = self.device();
        let mut part = [Part::whole(&mut self.state, t)];
        let h = device.graph(|| base.prefix(inputs, &angles, &mut part))??;
        let b = self.ttt().map_or(usize::MAX, |ttt| ttt.mini_batch_size);
        let mut losses = vec![];
        let mut at = 0;
        while at < t {
            let end = t.min(at.saturating_add(b - self.state.targets.len()));
            let rows = |x: &Tensor| x.rows(at, end);
            let (x, targets) = (rows(&h)?, &targets[at..end]);
            let angles = [rows(&angles[0])?, rows(&angles[1])?];
            let nll = device.graph(|| self.score(&x, &angles, targets))??;
            losses.push(Var::constant(nll));
            at = end;
        }
        // a device is waited for once
        let losses = concat(&losses.iter().collect::<Vec<_>>(), 0)?;
        Ok(losses.value().to(Device::Cpu)?.to_f64s())
    }

    /// Losses of inputs of one mini-batch, of which the prefix made x [t, d], and an inner step if they complete it.
    fn score(&mut self, x: &Tensor, angles: &[Tensor; 2], targets: &[u32]) -> Result<Tensor> {
        let (base, t) = (self.base.clone(), targets.len());
        self.state.inputs += t;
        match self.ttt() {
            Some(ttt) if t == ttt.mini_batch_size => {
                base.step(x, angles, targets, &mut self.state, &self.options, &ttt)
            }
            _ => {
                let mut part = [Part::whole(&mut self.state, t)];
                let y = base.suffix(x.clone(), angles, &mut part)?;
                let [y, head] = [y, base.head().clone()].map(Var::constant);
                let nll = linear_cross_entropy(&y, &head, &targets.into())?;
                self.open(x)?;
                self.close(targets)?;
                Ok(nll.into_value())
            }
        }
    }

    fn device(&self) -> Device {
        self.base.head().device()
    }

    /// Notes what the prefix made of inputs that have gone in, if the session learns.
    fn open(&mut self, x: &Tensor) -> Result<()> {
        let Some(ttt) = self.ttt() else {
            return Ok(());
        };
        let b = ttt.mini_batch_size;
        self.state.open.push(x, b, b)
    }

    /// Notes the targets of inputs that have gone in, and takes the inner step if they complete the mini-batch.
    fn close(&mut self, targets: &[u32]) -> Result<()> {
        let Some(ttt) = self.ttt() else {
            return Ok(());
        };
        let (base, b) = (&self.base, ttt.mini_batch_size);
        let state = &mut self.state;
        state.targets.extend_from_slice(targets);
        if state.targets.len() == b {
            let x = state.open.rows(0, b)?;
            state.open.truncate(0);
            for cache in &mut state.caches[base.config.first_fast() + 1..] {
                cache.take_back(b);
            }
            let angles = base.angles(state.inputs - b..state.inputs)?;
            let targets = std::mem::take(&mut state.targets);
            base.step(&x, &angles, &targets, state, &self.options, &ttt)?;
        }
        Ok(())
    }
}
