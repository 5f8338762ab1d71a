//! Which tokens a step trains on, and which windows an evaluation reads.

use super::{Corpus, Error, Result};
use std::ops::Range;

/// `T + 1` tokens of one book: `T` inputs and, one further on, `T` targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Window {
    /// Index into [`Corpus::books`].
    pub book: usize,
    /// Index of the first token in the book.
    pub start: usize,
}

/// Training windows in a random order that depends on nothing but seed, step and batch size, so
/// that resuming a run needs no state.
///
/// An epoch lays windows of `T` targets end to end over each book, from an offset drawn anew for
/// every epoch out of what is left over at the end, and visits all of them once in a random order.
/// In an epoch no token is a target twice, and fewer than `T` of each book are not.
#[derive(Clone, Debug)]
pub struct Sampler {
    corpus: Corpus,
    sequence_length: usize,
    seed: u64,
    windows_per_epoch: u64,
}

impl Sampler {
    /// A sampler of windows with `sequence_length` (`T`) inputs and targets. Books of fewer than
    /// `T + 1` tokens give no windows; see [`skipped`](Sampler::skipped).
    ///
    /// Errors: `T` is zero, or all books are shorter than `T + 1`.
    pub fn new(corpus: &Corpus, sequence_length: usize, seed: u64) -> Result<Sampler> {
        if sequence_length == 0 {
            return Err(Error::Value(
                "sequence_length is 0; give the number of tokens to predict, at least 1".into(),
            ));
        }
        let targets = |tokens: &[u32]| tokens.len().saturating_sub(1);
        let books = corpus.books();
        let windows = books
            .iter()
            .map(|book| (targets(book.tokens()) / sequence_length) as u64);
        let windows_per_epoch = windows.sum();
        if windows_per_epoch == 0 {
            let longest = books.iter().max_by_key(|book| book.tokens().len());
            let (name, tokens) = longest.map_or(("none", 0), |b| (&b.name, b.tokens().len()));
            return Err(Error::Value(format!(
                "sequence_length is {sequence_length}, so a window takes {} tokens, but the longest \
                 of {} books ({name}) has {tokens}; choose a sequence_length of at most {} or add \
                 longer books",
                sequence_length.saturating_add(1),
                books.len(),
                tokens.saturating_sub(1),
            )));
        }
        Ok(Sampler {
            corpus: corpus.clone(),
            sequence_length,
            seed,
            windows_per_epoch,
        })
    }

    /// The `batch` windows of one step: numbers `step * batch` to `(step + 1) * batch` of the
    /// epochs laid end to end. Costs time in proportion to the windows of an epoch.
    pub fn windows(&self, step: u64, batch: usize) -> Vec<Window> {
        let first = u128::from(step) * batch as u128;
        let mut current = (None, Vec::new());
        (0..batch as u128)
            .map(|i| {
                let number = first + i;
                let epoch = number / u128::from(self.windows_per_epoch);
                if current.0 != Some(epoch) {
                    current = (Some(epoch), self.epoch(epoch as u64));
                }
                current.1[(number % u128::from(self.windows_per_epoch)) as usize]
            })
            .collect()
    }

    /// The `T + 1` tokens of a window of this sampler. Panics for a window that lies outside its
    /// book, which [`windows`](Sampler::windows) never gives.
    pub fn tokens(&self, window: Window) -> &[u32] {
        let book = &self.corpus.books()[window.book];
        &book.tokens()[window.start..][..self.sequence_length + 1]
    }

    /// Windows of an epoch.
    pub fn windows_per_epoch(&self) -> u64 {
        self.windows_per_epoch
    }

    /// Names of the books too short for a window.
    pub fn skipped(&self) -> Vec<&str> {
        let books = self.corpus.books().iter();
        books
            .filter(|book| book.tokens().len() <= self.sequence_length)
            .map(|book| book.name.as_str())
            .collect()
    }

    /// All windows of an epoch, in the order they are visited.
    fn epoch(&self, epoch: u64) -> Vec<Window> {
        let mut draw = Draw(Draw(self.seed).next() ^ epoch);
        let mut windows = Vec::with_capacity(self.windows_per_epoch as usize);
        for (book, tokens) in self.corpus.books().iter().map(|b| b.tokens()).enumerate() {
            let targets = tokens.len().saturating_sub(1);
            let offset = draw.below(targets % self.sequence_length + 1);
            windows.extend((0..targets / self.sequence_length).map(|k| Window {
                book,
                start: offset + k * self.sequence_length,
            }));
        }
        for last in (1..windows.len()).rev() {
            windows.swap(last, draw.below(last + 1));
        }
        windows
    }
}

/// The generator SplitMix64 (Steele, Lea, Flood 2014): its numbers follow from its seed alone, on
/// every machine and with every version of every crate.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from `0..n`.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

/// The windows that evaluate a book of `tokens` tokens: `T + 1` tokens each, each beginning with
/// the last token of the one before, the last one shorter if need be, so that every token but the
/// first is a target exactly once. None for a book of fewer than two tokens; a `T` of 0 counts
/// as 1.
pub fn eval_windows(tokens: usize, sequence_length: usize) -> Vec<Range<usize>> {
    let length = sequence_length.max(1);
    (0..tokens.saturating_sub(1))
        .step_by(length)
        .map(|start| start..tokens.min(start.saturating_add(length).saturating_add(1)))
        .collect()
}
