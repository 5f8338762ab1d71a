//! Losses of trained models at growing context lengths, and what several seeds say about them.

use model::data::{Book, Corpus, Tokenizer};
use model::eval::{EvalOptions, Evaluation, evaluate};
use model::gradients::Workers;
use model::{Error, Model, Result};
use serde::{Deserialize, Serialize};

/// Parts of the longest sequences that have a loss of their own before they are put together.
const PARTS: usize = 64;

/// What held-out text is read, and how.
pub struct HeldOut<'a> {
    pub corpus: &'a Corpus,
    pub tokenizer: &'a Tokenizer,
    /// Tokens per sequence, rising.
    pub lengths: &'a [usize],
    /// Tokens of each book.
    pub max_tokens: usize,
    pub workers: &'a Workers,
}

/// One trained model on the held-out text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// Mean loss in nats per token in sequences of each of the lengths.
    pub nats_per_token: Vec<f64>,
    /// In the longest sequences, by position.
    pub by_position: Vec<Position>,
}

/// The targets at positions from..to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Position {
    pub from: usize,
    pub to: usize,
    pub nats_per_token: f64,
}

impl HeldOut<'_> {
    /// Tokens of a book that are predicted: whole sequences of the longest kind if there is room for one, so that every length
    /// is measured on the same targets.
    pub fn targets(&self, book: &Book) -> usize {
        let most = (book.tokens().len().saturating_sub(1)).min(self.max_tokens);
        match self.lengths.last() {
            Some(&longest) if most >= longest => most / longest * longest,
            _ => most,
        }
    }

    /// Reads all books at all lengths; a model that can learn does.
    pub fn losses(&self, model: &Model) -> Result<Losses> {
        let mut losses = Losses {
            nats_per_token: vec![],
            by_position: vec![],
        };
        for &sequence_length in self.lengths {
            let options = EvalOptions {
                sequence_length,
                learn: model.config.fast_layers() > 0,
                buckets: PARTS.min(sequence_length),
                max_tokens: None,
            };
            let mut books = vec![];
            for book in self.corpus.books() {
                let options = EvalOptions {
                    max_tokens: Some(self.targets(book)),
                    ..options
                };
                let tokens = book.tokens();
                books.push(evaluate(
                    model,
                    self.tokenizer,
                    tokens,
                    &options,
                    self.workers,
                    &|_| (),
                )?);
            }
            let Some(all) = Evaluation::of_all(&books) else {
                let message = "holds no book; name texts to compare on";
                return Err(Error::setting("heldout", "", message));
            };
            losses.nats_per_token.push(all.nats_per_token);
            losses.by_position = doubling(&all);
        }
        Ok(losses)
    }
}

/// Parts 0, 1, 2..4, 4..8, ... together: positions far in need no finer ones.
fn doubling(all: &Evaluation) -> Vec<Position> {
    let mut positions: Vec<Position> = vec![];
    let (mut sum, mut tokens, mut from) = (0.0, 0, 0);
    for (i, part) in all.by_position.iter().enumerate() {
        sum += part.nats_per_token * part.tokens as f64;
        tokens += part.tokens;
        if (i + 1).is_power_of_two() || i + 1 == all.by_position.len() {
            positions.push(Position {
                from,
                to: part.to,
                nats_per_token: sum / tokens as f64,
            });
            (sum, tokens, from) = (0.0, 0, part.to);
        }
    }
    positions
}

/// Mean, and standard deviation if there are two or more.
pub fn mean_and_deviation(x: &[f64]) -> (f64, f64) {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let square: f64 = x.iter().map(|x| (x - mean).powi(2)).sum();
    (
        mean,
        if x.len() > 1 {
            (square / (n - 1.0)).sqrt()
        } else {
            0.0
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::eval::Bucket;

    #[test]
    fn seeds_by_hand() {
        assert_eq!(mean_and_deviation(&[2.0]), (2.0, 0.0));
        assert_eq!(mean_and_deviation(&[1.0, 2.0, 3.0]), (2.0, 1.0));
    }

    #[test]
    fn parts_double() {
        let bucket = |i: usize| Bucket {
            from: 10 * i,
            to: 10 * (i + 1),
            tokens: if i < 5 { 10 } else { 5 },
            nats_per_token: i as f64,
        };
        let all = Evaluation {
            tokens: 55,
            bytes: 1,
            nats_per_token: 1.0,
            bits_per_byte: 1.0,
            by_position: (0..6).map(bucket).collect(),
            seconds: 1.0,
            tokens_per_second: 1.0,
        };
        let found = doubling(&all);
        let ends: Vec<_> = found.iter().map(|p| (p.from, p.to)).collect();
        assert_eq!(ends, [(0, 10), (10, 20), (20, 40), (40, 60)]);
        let means: Vec<_> = found.iter().map(|p| p.nats_per_token).collect();
        assert_eq!(means, [0.0, 1.0, 2.5, (40.0 + 25.0) / 15.0]);
    }
}
