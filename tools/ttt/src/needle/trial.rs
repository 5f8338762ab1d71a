//! One question about something said long before.

use model::data::Tokenizer;
use model::session::Session;
use model::{Error, Model, Result};

/// What is hidden in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// "The pass key is 52713", asked for at the end; the control has another key
    Passkey,
    /// A passage of another book, begun again at the end; the control does not have it
    Passage,
}

/// Tokens of a passage that are repeated as the question, and of those that follow as the answer.
const BEGUN: usize = 12;
const REST: usize = 12;

/// A text in which something is hidden, the same text without it, and a question at the end of both.
pub struct Trial {
    with: Vec<u32>,
    without: Vec<u32>,
    question: Vec<u32>,
    answer: Vec<u32>,
}

/// How one model did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Every token of the answer was the likeliest.
    pub exact: bool,
    /// Mean loss of the answer's tokens in nats.
    pub nats: f64,
    /// The same after the text without what was hidden.
    pub control_nats: f64,
}

impl Trial {
    /// Trial number `number` with `context` tokens, of `hay` but for what is hidden at `depth` (0 at the start, 1 at the end).
    /// Passages come from `other`.
    ///
    /// Errors: too little text, or a context too short to hide something in.
    pub fn new(
        kind: Kind,
        number: u64,
        context: usize,
        depth: f64,
        tokenizer: &Tokenizer,
        [hay, other]: [&[u32]; 2],
    ) -> Result<Self> {
        let random = |i: u64| spread(number.wrapping_mul(16).wrapping_add(i));
        let start = |tokens: &[u32], count: usize, i: u64| {
            let room = tokens.len().checked_sub(count);
            let message = || {
                format!("needs {count} tokens in a row, more than a text has; name longer texts")
            };
            let room = room.ok_or_else(|| Error::setting("contexts", context, message()))?;
            Ok::<_, Error>((random(i) % (room as u64 + 1)) as usize)
        };
        let (needle, control, question, answer) = match kind {
            Kind::Passkey => {
                let key = 10_000 + random(0) % 90_000;
                let wrong = 10_000 + (key - 10_000 + 1 + random(1) % 89_999) % 90_000;
                let say = |key: u64| {
                    let text = format!(
                        "\n\nThe pass key is {key}. Remember it. {key} is the pass key.\n\n"
                    );
                    tokenizer.encode(&text)
                };
                let question = tokenizer.encode("\n\nWhat is the pass key? The pass key is")?;
                (
                    say(key)?,
                    say(wrong)?,
                    question,
                    tokenizer.encode(&format!(" {key}"))?,
                )
            }
            Kind::Passage => {
                let at = start(other, BEGUN + REST, 0)?;
                let passage = &other[at..at + BEGUN + REST];
                let (question, answer) = passage.split_at(BEGUN);
                (passage.to_vec(), vec![], question.to_vec(), answer.to_vec())
            }
        };
        if context < needle.len() {
            let message = format!("is too short to hide {} tokens in", needle.len());
            return Err(Error::setting("contexts", context, message));
        }
        let at = start(hay, context, 2)?;
        let text = |needle: &[u32]| {
            let around = &hay[at..at + context - needle.len()];
            let before = (depth * around.len() as f64).round() as usize;
            let (before, after) = around.split_at(before.min(around.len()));
            [before, needle, after].concat()
        };
        Ok(Trial {
            with: text(&needle),
            without: text(&control),
            question,
            answer,
        })
    }

    /// Reads the text `readings` times, learning if the model can, then the question, and scores the answer.
    pub fn score(&self, model: &Model, readings: usize) -> Result<Score> {
        let (exact, nats) = self.answer(model, &self.with, readings)?;
        let (_, control_nats) = self.answer(model, &self.without, readings)?;
        Ok(Score {
            exact,
            nats,
            control_nats,
        })
    }

    fn answer(&self, model: &Model, text: &[u32], readings: usize) -> Result<(bool, f64)> {
        let mut session = Session::new(model, model.config.fast_layers() > 0)?;
        for _ in 0..readings {
            session.read(text)?;
        }
        session.read(&self.question)?;
        let (mut exact, mut nats) = (true, 0.0);
        for &token in &self.answer {
            let logits = session.logits()?;
            let own = logits[token as usize];
            exact &= logits.iter().all(|l| *l <= own);
            nats += session.read(&[token])?.iter().sum::<f64>();
        }
        Ok((exact, nats / self.answer.len() as f64))
    }
}

/// A number as good as random that depends on `i` alone (splitmix64).
fn spread(i: u64) -> u64 {
    let mut z = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> [Vec<u32>; 2] {
        let hay = |c: u8| vec![u32::from(c); 5000];
        [hay(b'h'), (0..5000).map(|i| 65 + i % 26).collect()]
    }

    #[test]
    fn the_key_is_where_it_should_be() -> Result<()> {
        let (tokenizer, [hay, other]) = (Tokenizer::bytes(), texts());
        for depth in [0.0, 0.5, 1.0] {
            let trial = Trial::new(Kind::Passkey, 7, 1000, depth, &tokenizer, [&hay, &other])?;
            let text = tokenizer.decode(&trial.with)?;
            let key = tokenizer.decode(&trial.answer)?;
            let said = text
                .find(&format!("The pass key is{key}."))
                .expect("hidden");
            assert_eq!(text.len(), 1000);
            let before = (depth * 943.0).round();
            assert!((said as f64 - before).abs() < 8.0, "{said} at {depth}");
            let control = tokenizer.decode(&trial.without)?;
            assert!(control.contains("The pass key is") && !control.contains(&key));
            assert_eq!(control.len(), 1000);
        }
        Ok(())
    }

    #[test]
    fn a_passage_goes_on_as_it_did() -> Result<()> {
        let (tokenizer, [hay, other]) = (Tokenizer::bytes(), texts());
        let trial = Trial::new(Kind::Passage, 3, 200, 0.5, &tokenizer, [&hay, &other])?;
        let whole = [&trial.question[..], &trial.answer].concat();
        assert_eq!(trial.with[88..88 + BEGUN + REST], whole);
        assert!(trial.without.iter().all(|&t| t == u32::from(b'h')));
        assert_eq!([trial.with.len(), trial.without.len()], [200, 200]);
        let short = Trial::new(Kind::Passage, 3, 5, 0.5, &tokenizer, [&hay, &other]);
        assert!(short.is_err_and(|e| e.to_string().contains("contexts = 5")));
        let long = Trial::new(Kind::Passage, 3, 9000, 0.5, &tokenizer, [&hay, &other]);
        assert!(long.is_err_and(|e| e.to_string().contains("longer texts")));
        Ok(())
    }
}
