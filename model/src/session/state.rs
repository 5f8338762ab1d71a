//! What a session remembers of a text.

use std::ops::Range;

use ops::Tensor;

use super::base::Base;
use super::cache::{Cache, Rows};
use super::surprise::Surprise;
use crate::Result;
use crate::weights::Fast;

/// What a text has left behind. A clone shares all buffers with it until one of them writes.
#[derive(Clone)]
pub(super) struct State {
    /// Fast weights; inner steps change them in place.
    pub fast: Vec<Fast<Tensor>>,
    /// Keys and values of each block, those of the open mini-batch included.
    pub caches: Vec<Cache>,
    /// What the prefix made of the inputs of the open mini-batch [.., d].
    pub open: Rows,
    /// The token after each of them, as far as it is known.
    pub targets: Vec<u32>,
    /// The last token read: an input once its successor or its logits are asked for.
    pub last: Option<u32>,
    /// Logits `[V]` after the last input, if they have been asked for.
    pub next: Option<Tensor>,
    /// Tokens that have gone in.
    pub inputs: usize,
    /// Inner steps taken.
    pub steps: u64,
    /// Losses of the last mini-batches, if they decide who learns.
    pub surprise: Surprise,
}

impl State {
    /// At the start of a text of which at most `chunk` inputs are open, go in at once, or both.
    pub fn new(base: &Base, chunk: usize) -> Result<Self> {
        let config = &base.config;
        let row = [config.kv_heads(), config.head_dim()];
        let like = &base.nothing()?;
        let cache = |window| Cache::new(&row, like, window, chunk);
        Ok(State {
            fast: base.weights.fast(),
            caches: config.windows().map(cache).collect::<Result<_>>()?,
            open: Rows::new(&[config.hidden_size], like)?,
            targets: vec![],
            last: None,
            next: None,
            inputs: 0,
            steps: 0,
            surprise: Surprise::default(),
        })
    }

    /// Bytes of its buffers, with the fast weights of the first `learners` fast layers; those of the others are the model's.
    pub fn bytes(&self, learners: usize) -> usize {
        let fast = self.fast.iter().take(learners).flat_map(Fast::each);
        let tensors = fast.chain(&self.next);
        let tensors: usize = tensors.map(|w| w.len() * w.dtype().size()).sum();
        let caches: usize = self.caches.iter().map(Cache::bytes).sum();
        let open = self.open.bytes() + self.targets.len() * size_of::<u32>();
        tensors + caches + open + self.surprise.losses.len() * size_of::<f64>()
    }
}

/// A state, and the rows of a batch that are its own: inputs that follow those that have gone in.
pub(super) struct Part<'a> {
    pub state: &'a mut State,
    pub rows: Range<usize>,
}

impl<'a> Part<'a> {
    /// All `count` rows of a batch.
    pub fn whole(state: &'a mut State, count: usize) -> Self {
        let rows = 0..count;
        Part { state, rows }
    }
}
