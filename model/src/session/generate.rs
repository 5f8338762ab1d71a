//! Writing on.

use super::Session;
use crate::Result;
use crate::data::Tokenizer;
use crate::sampling::Sampler;

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
