//! Writing on.

use std::ops::ControlFlow;

use super::Session;
use crate::Result;
use crate::data::Tokenizer;
use crate::sampling::Sampler;

/// Writes up to `max_tokens` tokens after what the session has read, and reads them while it writes. `on_text` gets the text
/// piece by piece, whole characters only, and may end it; all of it is returned.
///
/// Errors: nothing has been read yet; those of [`Session::read`]; an id the tokenizer does not have.
pub fn generate(
    session: &mut Session,
    tokenizer: &Tokenizer,
    max_tokens: usize,
    sampler: &mut Sampler,
    on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> Result<String> {
    let mut stream = tokenizer.stream();
    let mut text = String::new();
    let mut say = |piece: &str| {
        text.push_str(piece);
        on_text(piece)
    };
    for _ in 0..max_tokens {
        let mut logits = session.logits()?;
        // rows of the embedding beyond the tokenizer's vocabulary stand for no text
        logits.truncate(tokenizer.vocab_size());
        let token = sampler.sample(&logits)?;
        session.read(&[token])?;
        if say(&stream.push(token)?).is_break() {
            return Ok(text);
        }
    }
    let _ = say(&stream.finish());
    Ok(text)
}
