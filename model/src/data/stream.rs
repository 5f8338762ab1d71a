//! Decoding ids one at a time, as they are generated.

use super::{Result, Tokenizer};

/// Turns ids into text as they come, holding back the bytes of an unfinished character.
///
/// All the text of [`push`](Stream::push) followed by [`finish`](Stream::finish) equals
/// [`Tokenizer::decode`] of all the ids.
#[derive(Clone, Debug)]
pub struct Stream {
    tokenizer: Tokenizer,
    held: Vec<u8>,
}

impl Stream {
    pub(super) fn new(tokenizer: Tokenizer) -> Stream {
        Stream {
            tokenizer,
            held: Vec::new(),
        }
    }

    /// Takes the next id and returns the text that is now complete, which may be empty. Bytes that
    /// cannot be UTF-8 become U+FFFD.
    ///
    /// Errors: an id outside the vocabulary; the stream can go on after it.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.held.extend_from_slice(self.tokenizer.token(id)?);
        let mut text = String::new();
        let mut rest = self.held.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    // No length: the bytes may still become a character.
                    let Some(bad) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[bad..];
                }
            }
        }
        self.held = rest.to_vec();
        Ok(text)
    }

    /// Ends the stream: U+FFFD where a character was left unfinished, else nothing. The stream can
    /// be used again for another text.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned()
    }
}
