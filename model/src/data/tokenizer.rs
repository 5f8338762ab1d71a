//! Text to ids and back.

use super::bpe::{Vocabulary, spelling};
use super::{Error, Result, Stream, write_atomic};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{DecoderWrapper, ModelWrapper};
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

/// Ids at or above this are taken for a damaged file (the largest vocabularies in use have some
/// 300,000 ids).
const MOST_IDS: usize = 1 << 24;

/// Long texts are encoded in pieces of at least this many bytes.
const PIECE: usize = 1 << 14;

/// A byte-level tokenizer: every id stands for a fixed string of bytes, so that text and ids give
/// each other back exactly and bits per byte are exact. Clones share one definition.
#[derive(Clone, Debug)]
pub struct Tokenizer(Arc<Definition>);

#[derive(Debug)]
struct Definition {
    /// The `tokenizer.json`, as read or made.
    json: String,
    fingerprint: String,
    /// Bytes of each id; empty for an id that is not in use.
    tokens: Vec<Box<[u8]>>,
    /// None: an id is a byte.
    encoder: Option<tokenizers::Tokenizer>,
    /// The pre-tokenizer is known to split at the borders of [`pieces`].
    in_pieces: bool,
    /// Text reaches the model unchanged, so its tokens spell it byte for byte.
    exact: bool,
}

impl Tokenizer {
    /// The tokenizer whose 256 ids are the bytes.
    pub fn bytes() -> Tokenizer {
        let vocabulary = Vocabulary::bytes();
        let json = vocabulary.definition();
        Tokenizer(Arc::new(Definition {
            fingerprint: hex(&Sha256::digest(&json)),
            json,
            tokens: vocabulary.tokens.into_iter().map(Vec::into).collect(),
            encoder: None,
            in_pieces: false,
            exact: true,
        }))
    }

    /// Reads a Hugging Face `tokenizer.json` of a byte-level tokenizer: decoder `ByteLevel`, as
    /// GPT-2, Llama 3, Qwen and SmolLM have it, or as [`Tokenizer::save`] writes it. Truncation,
    /// padding and the adding of special tokens are left out.
    ///
    /// Errors: the file cannot be read or parsed, its decoder is another one, its tokens have
    /// affixes, its dropout is not zero, an id is 2^24 or more, it has no tokens.
    pub fn load(path: &Path) -> Result<Tokenizer> {
        let json = fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        Tokenizer::parse(json).map_err(|message| Error::file(path, message))
    }

    /// Learns a byte-level BPE vocabulary of `vocab_size` ids from `texts`: ids 0..256 are the
    /// bytes, merges stay inside GPT-2's words, no special tokens. The same texts (in whatever
    /// order) give the same tokenizer.
    ///
    /// Errors: `vocab_size` is below 256 or above 2^24, or the texts are too short for that many
    /// ids (the sentence says how many they allow).
    pub fn train_bpe(texts: &[&str], vocab_size: usize) -> Result<Tokenizer> {
        if !(256..=MOST_IDS).contains(&vocab_size) {
            return Err(Error::Value(format!(
                "vocab_size is {vocab_size}, but a byte-level vocabulary has from 256 (the bytes) \
                 to {MOST_IDS} ids; choose a size in that range"
            )));
        }
        let pieces: Vec<&str> = texts.iter().flat_map(|text| pieces(text)).collect();
        let counts: Vec<_> = pieces.into_par_iter().map(words).collect();
        let mut total = BTreeMap::new();
        for (word, count) in counts.into_iter().flatten() {
            *total.entry(word).or_default() += count;
        }
        let vocabulary = Vocabulary::train(&total, vocab_size);
        let made = vocabulary.tokens.len();
        if made < vocab_size {
            return Err(Error::Value(format!(
                "vocab_size is {vocab_size}, but these texts repeat too little for more than \
                 {made} ids; ask for {made} or give more text"
            )));
        }
        Tokenizer::parse(vocabulary.definition()).map_err(Error::Value)
    }

    /// Writes the `tokenizer.json`, byte for byte the one that was loaded or made; that of
    /// [`Tokenizer::bytes`] is a BPE with no merges. Other programs can read it.
    ///
    /// Errors: the file cannot be written; an older one is then left as it was.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomic(path, &[self.0.json.as_bytes()]).map_err(|e| Error::io("write", path, e))
    }

    /// The ids of `text`; nothing is added in front or behind.
    ///
    /// Errors: the vocabulary lacks bytes of the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let Some(encoder) = &self.0.encoder else {
            return Ok(text.bytes().map(u32::from).collect());
        };
        let parts = if self.0.in_pieces {
            pieces(text)
        } else {
            vec![text]
        };
        let ids: std::result::Result<Vec<Vec<u32>>, _> = parts
            .into_par_iter()
            .map(|part| Ok(encoder.encode_fast(part, false)?.get_ids().to_vec()))
            .collect();
        let ids = ids
            .map_err(|e: tokenizers::Error| {
                Error::Value(format!(
                    "the tokenizer cannot encode this text ({e}); use a byte-level one"
                ))
            })?
            .concat();
        let spelt = self.byte_len(&ids);
        if self.0.exact && spelt != text.len() as u64 {
            return Err(Error::Value(format!(
                "the tokens of this text spell {spelt} of its {} bytes: the vocabulary lacks some \
                 bytes; use a tokenizer whose alphabet holds all 256",
                text.len()
            )));
        }
        Ok(ids)
    }

    /// The text of `ids`; bytes that are not UTF-8 become U+FFFD.
    ///
    /// Errors: an id outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let mut bytes = Vec::new();
        for &id in ids {
            bytes.extend_from_slice(self.token(id)?);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A decoder that takes one id at a time.
    pub fn stream(&self) -> Stream {
        Stream::new(self.clone())
    }

    /// The bytes of one id; none for an id below [`vocab_size`](Tokenizer::vocab_size) that is
    /// not in use.
    ///
    /// Errors: an id outside the vocabulary.
    pub fn token(&self, id: u32) -> Result<&[u8]> {
        let token = self.0.tokens.get(id as usize).ok_or_else(|| {
            Error::Value(format!(
                "id {id} is outside the vocabulary of {} ids; is this the tokenizer the ids were \
                 made with?",
                self.vocab_size()
            ))
        });
        token.map(|token| &**token)
    }

    /// How many bytes of text `ids` stand for; ids outside the vocabulary count as none.
    pub fn byte_len(&self, ids: &[u32]) -> u64 {
        let token = |id: &u32| self.0.tokens.get(*id as usize);
        ids.iter().filter_map(token).map(|t| t.len() as u64).sum()
    }

    /// The number of ids: one more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.0.tokens.len()
    }

    /// A stable hash of the definition: SHA-256 of the `tokenizer.json`, in 64 hexadecimal digits.
    pub fn fingerprint(&self) -> &str {
        &self.0.fingerprint
    }

    /// Builds the tokenizer that a `tokenizer.json` describes, or says what is wrong with it.
    fn parse(json: String) -> std::result::Result<Tokenizer, String> {
        let bytes = Tokenizer::bytes();
        if json == bytes.0.json {
            return Ok(bytes);
        }
        let mut encoder: tokenizers::Tokenizer = json.parse().map_err(|e| {
            format!("this is not a Hugging Face tokenizer.json ({e}); fetch or make it anew")
        })?;
        if !matches!(encoder.get_decoder(), Some(DecoderWrapper::ByteLevel(_))) {
            return Err(
                "`decoder` is not of type ByteLevel, and only byte-level tokenizers give exact \
                 bits per byte; use one like GPT-2's, Llama 3's or SmolLM's, or train one"
                    .into(),
            );
        }
        if let ModelWrapper::BPE(model) = encoder.get_model() {
            let affix = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
            if affix(&model.continuing_subword_prefix) || affix(&model.end_of_word_suffix) {
                return Err(
                    "`model.continuing_subword_prefix` or `end_of_word_suffix` is set, so tokens \
                     are not plain bytes of text; use a tokenizer without them"
                        .into(),
                );
            }
            if let Some(dropout) = model.dropout.filter(|&dropout| dropout != 0.0) {
                return Err(format!(
                    "`model.dropout` is {dropout}, which makes every encoding different; set it to \
                     null"
                ));
            }
        }
        // With `None` this cannot fail, and there is nothing to do if it did.
        let _ = encoder.with_truncation(None);
        encoder.with_padding(None);

        let mut added: HashMap<u32, String> = HashMap::new();
        let mut plain = true;
        for (id, token) in encoder.get_added_tokens_decoder() {
            plain &= !(token.lstrip
                || token.rstrip
                || token.single_word
                || token.content.contains(char::is_whitespace));
            added.insert(id, token.content);
        }
        let tokens = token_bytes(encoder.get_vocab(true), &added)?;
        let (mut exact, mut in_pieces) = (encoder.get_normalizer().is_none() && plain, false);
        match encoder.get_pre_tokenizer() {
            Some(PreTokenizerWrapper::ByteLevel(last)) => {
                exact &= !last.add_prefix_space;
                in_pieces = exact && last.use_regex;
            }
            Some(PreTokenizerWrapper::Sequence(steps)) => {
                let steps: &[PreTokenizerWrapper] = steps.as_ref();
                let byte_level = steps.iter().find_map(|step| match step {
                    PreTokenizerWrapper::ByteLevel(step) => Some(step),
                    _ => None,
                });
                let known = |step: &PreTokenizerWrapper| {
                    matches!(
                        step,
                        PreTokenizerWrapper::ByteLevel(_) | PreTokenizerWrapper::Digits(_)
                    )
                };
                exact &= byte_level.is_some_and(|step| !step.add_prefix_space);
                in_pieces = exact
                    && steps.iter().all(known)
                    && byte_level.is_some_and(|step| step.use_regex);
            }
            _ => exact = false,
        }
        Ok(Tokenizer(Arc::new(Definition {
            fingerprint: hex(&Sha256::digest(&json)),
            json,
            tokens,
            encoder: Some(encoder),
            in_pieces,
            exact,
        })))
    }
}

/// The bytes of each id: an added token is its text, any other is spelt in GPT-2's characters.
fn token_bytes(
    vocab: HashMap<String, u32>,
    added: &HashMap<u32, String>,
) -> std::result::Result<Vec<Box<[u8]>>, String> {
    let bytes: HashMap<char, u8> = spelling().into_iter().zip(0..=255).collect();
    let mut tokens: Vec<Box<[u8]>> = Vec::new();
    for (token, id) in vocab {
        let at = id as usize;
        if at >= MOST_IDS {
            return Err(format!(
                "token {token:?} has id {id}, but ids go up to {}; fetch or make the file anew",
                MOST_IDS - 1
            ));
        }
        if at >= tokens.len() {
            tokens.resize_with(at + 1, Box::default);
        }
        let spelt: Option<Vec<u8>> = token.chars().map(|c| bytes.get(&c).copied()).collect();
        tokens[at] = match (added.get(&id), spelt) {
            (None, Some(spelt)) => spelt.into(),
            (None, None) => token.into_bytes().into(),
            (Some(content), _) => content.as_bytes().into(),
        };
    }
    if tokens.is_empty() {
        return Err("the vocabulary is empty; fetch or make the file anew".into());
    }
    Ok(tokens)
}

/// Cuts `text` where a line break follows an ASCII letter or digit, at least [`PIECE`] bytes
/// apart. GPT-2's pre-tokenizer always splits there (no word of letters or digits takes a line
/// break in, and what follows is matched as if the text began there), so encoding the pieces
/// gives the ids of the whole.
fn pieces(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut pieces = Vec::new();
    let (mut start, mut at) = (0, PIECE);
    while at < bytes.len() {
        if matches!(bytes[at], b'\n' | b'\r') && bytes[at - 1].is_ascii_alphanumeric() {
            pieces.push(&text[start..at]);
            start = at;
            at += PIECE;
        } else {
            at += 1;
        }
    }
    pieces.push(&text[start..]);
    pieces
}

/// GPT-2's words of `text`, as bytes, and how often each occurs.
fn words(text: &str) -> HashMap<Vec<u8>, u64> {
    let mut split = PreTokenizedString::from(text);
    ByteLevel::new(false, false, true)
        .pre_tokenize(&mut split)
        .expect("splitting by a fixed pattern has no error");
    let mut counts = HashMap::new();
    for (_, (start, end), _) in split.get_splits(OffsetReferential::Original, OffsetType::Byte) {
        let word = text.as_bytes()[start..end].to_vec();
        *counts.entry(word).or_default() += 1;
    }
    counts
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
