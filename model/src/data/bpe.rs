//! Training of a byte-level BPE vocabulary (Sennrich et al., arXiv:1508.07909), and the
//! `tokenizer.json` that describes it.
//!
//! Here and not taken from the `tokenizers` crate because the same texts must give the same file:
//! its trainer breaks ties by the order of a randomly seeded hash map.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

type Pair = (u32, u32);

/// The characters that spell the 256 bytes in a `tokenizer.json` (GPT-2's table): printable
/// Latin-1 as itself, the others from U+0100 on in the order of the bytes.
pub(super) fn spelling() -> [char; 256] {
    let mut next = 0x100;
    std::array::from_fn(|byte| {
        let printable = matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if printable { byte as u32 } else { next };
        next += u32::from(!printable);
        char::from_u32(code).expect("all codes are below U+0200")
    })
}

/// A vocabulary: ids 0..256 are the bytes, then one id for each merge.
pub(super) struct Vocabulary {
    /// Bytes of each id.
    pub(super) tokens: Vec<Vec<u8>>,
    /// Pairs in the order they are merged; merge `k` makes id `256 + k`.
    pub(super) merges: Vec<Pair>,
}

impl Vocabulary {
    /// The 256 bytes, with no merges.
    pub(super) fn bytes() -> Vocabulary {
        Vocabulary {
            tokens: (0..=255).map(|byte| vec![byte]).collect(),
            merges: Vec::new(),
        }
    }

    /// Merges the most frequent pair again and again, up to `size` ids in all, or fewer where no
    /// pair occurs twice any more. Ties go to the smallest pair of ids.
    ///
    /// `words`: each different word (merges stay inside a word) and how often it occurs.
    pub(super) fn train(words: &BTreeMap<Vec<u8>, u64>, size: usize) -> Vocabulary {
        let mut vocabulary = Vocabulary::bytes();
        let mut known: HashSet<Vec<u8>> = vocabulary.tokens.iter().cloned().collect();
        let weights: Vec<i64> = words.values().map(|&count| count as i64).collect();
        let mut words: Vec<Vec<u32>> = words
            .keys()
            .map(|word| word.iter().map(|&byte| u32::from(byte)).collect())
            .collect();

        let mut counts: HashMap<Pair, i64> = HashMap::new();
        let mut places: HashMap<Pair, Vec<usize>> = HashMap::new();
        for (i, word) in words.iter().enumerate() {
            for pair in pairs(word) {
                *counts.entry(pair).or_default() += weights[i];
                places.entry(pair).or_default().push(i);
            }
        }
        // Entries whose count is no longer the pair's are out of date and skipped when they come up.
        let mut queue: BinaryHeap<(i64, Reverse<Pair>)> = counts
            .iter()
            .map(|(&pair, &count)| (count, Reverse(pair)))
            .collect();

        while vocabulary.tokens.len() < size {
            let Some((count, Reverse(pair))) = queue.pop() else {
                break;
            };
            if count < 2 {
                break;
            }
            if counts.get(&pair) != Some(&count) {
                continue;
            }
            let mut token = vocabulary.tokens[pair.0 as usize].clone();
            token.extend_from_slice(&vocabulary.tokens[pair.1 as usize]);
            if !known.insert(token.clone()) {
                // Another pair already spells this token: one token, one id.
                counts.remove(&pair);
                continue;
            }
            let id = vocabulary.tokens.len() as u32;
            vocabulary.tokens.push(token);
            vocabulary.merges.push(pair);

            let mut here = places.remove(&pair).unwrap_or_default();
            here.sort_unstable();
            here.dedup();
            let mut changes: HashMap<Pair, i64> = HashMap::new();
            for i in here {
                for old in pairs(&words[i]) {
                    *changes.entry(old).or_default() -= weights[i];
                }
                words[i] = merge(&words[i], pair, id);
                for new in pairs(&words[i]) {
                    *changes.entry(new).or_default() += weights[i];
                    if new.0 == id || new.1 == id {
                        places.entry(new).or_default().push(i);
                    }
                }
            }
            for (pair, change) in changes {
                let count = counts.entry(pair).or_default();
                *count += change;
                if change != 0 && *count > 0 {
                    queue.push((*count, Reverse(pair)));
                }
            }
        }
        vocabulary
    }

    /// The text of a `tokenizer.json`: byte-level BPE with GPT-2's pre-tokenizer, no normaliser,
    /// no special tokens. One entry a line.
    pub(super) fn definition(&self) -> String {
        let spelling = spelling();
        let spell = |token: &[u8]| {
            let mut text = String::from("\"");
            for &byte in token {
                if matches!(byte, b'"' | b'\\') {
                    text.push('\\');
                }
                text.push(spelling[byte as usize]);
            }
            text + "\""
        };
        let vocab: Vec<String> = (self.tokens.iter().enumerate())
            .map(|(id, token)| format!("      {}: {id}", spell(token)))
            .collect();
        let merges: Vec<String> = (self.merges.iter())
            .map(|&(left, right)| {
                let (left, right) = (left as usize, right as usize);
                let (left, right) = (&self.tokens[left], &self.tokens[right]);
                format!("      [{}, {}]", spell(left), spell(right))
            })
            .collect();
        let byte_level = r#"{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}"#;
        format!(
            r#"{{
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": [],
  "normalizer": null,
  "pre_tokenizer": {byte_level},
  "post_processor": null,
  "decoder": {byte_level},
  "model": {{
    "type": "BPE",
    "dropout": null,
    "unk_token": null,
    "continuing_subword_prefix": null,
    "end_of_word_suffix": null,
    "fuse_unk": false,
    "byte_fallback": false,
    "ignore_merges": false,
    "vocab": {{
{vocab}
    }},
    "merges": [
{merges}
    ]
  }}
}}
"#,
            vocab = vocab.join(",\n"),
            merges = merges.join(",\n"),
        )
    }
}

fn pairs(word: &[u32]) -> impl Iterator<Item = Pair> + '_ {
    word.windows(2).map(|pair| (pair[0], pair[1]))
}

/// `word` with `id` for each occurrence of `pair`, from left to right.
fn merge(word: &[u32], pair: Pair, id: u32) -> Vec<u32> {
    let mut merged = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, after)) = rest.split_first() {
        if first == pair.0 && after.first() == Some(&pair.1) {
            merged.push(id);
            rest = &after[1..];
        } else {
            merged.push(first);
            rest = after;
        }
    }
    merged
}
