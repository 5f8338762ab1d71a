//! Tokenizer, corpus and sampler: what goes in comes out, and bad input is named.

use flate2::{Compression, write::GzEncoder};
use model::data::{Corpus, Sampler, Tokenizer, Window, eval_windows, write_atomic};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use tempfile::TempDir;

const TRICKY: &str = "Tabs\tand  double   spaces \n\n\n a\r\nb\r\n\r\nc'll don't I'VE \u{feff}naïve \
    café e\u{301} 日本語。\n漢字 русский العربية 👩‍👩‍👧‍👦🏳️‍🌈 12345 ½ ٣ \0 \u{7f} \u{85} \u{a0} \u{2028} <|endoftext|> “—…” \
    \n  trailing \n";

fn books(set: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../data/books")
        .join(set)
}

fn book(path: &str) -> String {
    let file = fs::File::open(books(path)).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    text
}

/// A small BPE, learned once.
fn bpe() -> &'static Tokenizer {
    static BPE: LazyLock<Tokenizer> = LazyLock::new(|| {
        let alice = book("heldout/carroll_alice.txt.gz");
        // Runs of white space get tokens of their own, so that a wrong border inside one shows.
        let gaps = "x\n\n\n\n  y\n  \n \tz\r\n\r\n\r\n   ".repeat(1000);
        Tokenizer::train_bpe(&[&alice, TRICKY, &gaps], 600).unwrap()
    });
    &BPE
}

fn folder(texts: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in texts {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(text).unwrap();
    gzip.finish().unwrap()
}

fn open(folder: &Path, cache: &Path) -> model::data::Result<Corpus> {
    Corpus::open(&[folder.to_path_buf()], bpe(), cache)
}

#[track_caller]
fn assert_says<T>(result: model::data::Result<T>, parts: &[&str]) {
    let message = result.err().expect("an error").to_string();
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

// ---- tokenizer

#[test]
fn tricky_text_round_trips() {
    for tokenizer in [&Tokenizer::bytes(), bpe()] {
        for text in ["", " ", "\n", "\r\n", "a", TRICKY] {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
            assert_eq!(tokenizer.byte_len(&ids), text.len() as u64);
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        }
    }
}

#[test]
fn the_first_256_ids_are_the_bytes() {
    for tokenizer in [&Tokenizer::bytes(), bpe()] {
        for byte in 0..=255u8 {
            assert_eq!(tokenizer.token(u32::from(byte)).unwrap(), [byte]);
        }
    }
    assert_eq!(Tokenizer::bytes().vocab_size(), 256);
    assert_eq!(Tokenizer::bytes().encode("é").unwrap(), [0xC3, 0xA9]);
}

proptest! {
    #[test]
    fn any_text_round_trips(text in r"(?s)(.|[a-z ]|\n|\r\n|\s|\p{L}|\p{M}|\p{N}){0,200}") {
        for tokenizer in [&Tokenizer::bytes(), bpe()] {
            let ids = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text.as_str());
        }
    }

    #[test]
    fn a_stream_gives_what_decode_gives(ids in prop::collection::vec(0u32..600, 0..60)) {
        // Random ids are mostly not UTF-8: both sides must put U+FFFD in the same places.
        let mut stream = bpe().stream();
        let mut text = String::new();
        for (cut, &id) in ids.iter().enumerate() {
            text += &stream.push(id).unwrap();
            let so_far = text.clone() + &stream.clone().finish();
            prop_assert_eq!(so_far, bpe().decode(&ids[..=cut]).unwrap());
        }
        text += &stream.finish();
        prop_assert_eq!(text, bpe().decode(&ids).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn cuts_at_line_breaks_change_nothing(
        lines in prop::collection::vec(r"[a-z0-9 ,.'\t\u{a0}é日]{0,12}(\r\n|\n|\n\n| \n)", 2500)
    ) {
        // Long enough for several pieces, whose borders fall among awkward neighbours.
        let text = lines.concat();
        prop_assert_eq!(bpe().encode(&text).unwrap(), encode_whole(bpe(), &text));
    }
}

#[test]
fn a_stream_waits_for_whole_characters() {
    let bytes = Tokenizer::bytes();
    let mut stream = bytes.stream();
    let out: Vec<String> = "é👍"
        .bytes()
        .map(|b| stream.push(u32::from(b)).unwrap())
        .collect();
    assert_eq!(out, ["", "é", "", "", "", "👍"]);
    assert_eq!(stream.finish(), "");
    assert_eq!(stream.push(0xE2).unwrap(), "");
    assert_eq!(stream.finish(), "\u{fffd}");
    assert_says(stream.push(256), &["id 256", "256 ids"]);
}

#[test]
fn training_is_deterministic() {
    let (a, b) = ("the cat sat on the mat. ".repeat(9), TRICKY.repeat(3));
    let first = Tokenizer::train_bpe(&[&a, &b], 300).unwrap();
    for _ in 0..5 {
        let again = Tokenizer::train_bpe(&[&b, &a], 300).unwrap();
        assert_eq!(again.fingerprint(), first.fingerprint());
    }
    let other = Tokenizer::train_bpe(&[&a, &b], 301).unwrap();
    assert_ne!(other.fingerprint(), first.fingerprint());
}

/// The algorithm as the paper has it: count all pairs, merge the most frequent one, count again.
fn naive_bpe(text: &str, most: usize) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u32>> = Vec::new();
    for byte in text.bytes() {
        if byte == b' ' || words.is_empty() {
            words.push(Vec::new());
        }
        words.last_mut().unwrap().push(u32::from(byte));
    }
    let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    while tokens.len() < most {
        let spelt = |(a, b): (u32, u32)| [&tokens[a as usize][..], &tokens[b as usize]].concat();
        let mut counts: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for pair in words.iter().flat_map(|word| word.windows(2)) {
            *counts.entry((pair[0], pair[1])).or_default() += 1;
        }
        counts.retain(|&pair, &mut count| count > 1 && !tokens.contains(&spelt(pair)));
        let Some((&pair, _)) = counts.iter().rev().max_by_key(|&(_, &count)| count) else {
            break;
        };
        let (token, id) = (spelt(pair), tokens.len() as u32);
        tokens.push(token);
        for word in &mut words {
            let mut at = 0;
            while at + 1 < word.len() {
                if (word[at], word[at + 1]) == pair {
                    word.splice(at..at + 2, [id]);
                }
                at += 1;
            }
        }
    }
    tokens
}

proptest! {
    #[test]
    fn training_finds_what_the_plain_algorithm_finds(text in "[abc]{1,9}( [abc]{1,9}){0,60}") {
        let expected = naive_bpe(&text, 300);
        let trained = Tokenizer::train_bpe(&[&text], expected.len()).unwrap();
        let tokens: Vec<&[u8]> = (0..expected.len() as u32)
            .map(|id| trained.token(id).unwrap())
            .collect();
        prop_assert_eq!(&tokens, &expected);
        if expected.len() < 300 {
            prop_assert!(Tokenizer::train_bpe(&[&text], 300).is_err());
        }
    }
}

#[test]
fn a_saved_tokenizer_loads_as_it_was() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tokenizer.json");
    for tokenizer in [&Tokenizer::bytes(), bpe()] {
        tokenizer.save(&path).unwrap();
        let loaded = Tokenizer::load(&path).unwrap();
        assert_eq!(loaded.fingerprint(), tokenizer.fingerprint());
        assert_eq!(
            loaded.encode(TRICKY).unwrap(),
            tokenizer.encode(TRICKY).unwrap()
        );
        // Another program reads the same ids out of the file.
        assert_eq!(
            encode_whole(tokenizer, TRICKY),
            tokenizer.encode(TRICKY).unwrap()
        );
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_says(
        bpe().save(&folder.path().join("no/where.json")),
        &["write", "where.json"],
    );
}

#[test]
fn bad_tokenizer_files_are_named() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tokenizer.json");
    assert_says(Tokenizer::load(&path), &["read", "tokenizer.json"]);
    let small = Tokenizer::train_bpe(&["aaaa aaaa"], 257).unwrap();
    small.save(&path).unwrap();
    let good = fs::read_to_string(&path).unwrap();
    let (head, tail) = good.split_once("\"decoder\"").unwrap();
    for (json, says) in [
        ("{}".into(), "tokenizer.json ("),
        (good[..good.len() / 2].into(), "tokenizer.json ("),
        (
            format!(
                "{head}\"decoder\"{}",
                tail.replacen("ByteLevel", "ByteFallback", 1)
            ),
            "`decoder`",
        ),
        (
            good.replace("\"dropout\": null", "\"dropout\": 0.1"),
            "dropout",
        ),
        (
            good.replace(
                "\"end_of_word_suffix\": null",
                "\"end_of_word_suffix\": \"</w>\"",
            ),
            "end_of_word_suffix",
        ),
        (good.replace(": 256", ": 4000000000"), "4000000000"),
    ] {
        assert_ne!(json, good);
        fs::write(&path, json).unwrap();
        assert_says(Tokenizer::load(&path), &["tokenizer.json", says]);
    }
    // Without "b" the letter would be lost without a word.
    fs::write(&path, good.replace("\"b\": 98,", "")).unwrap();
    assert_says(
        Tokenizer::load(&path).unwrap().encode("abc"),
        &["2 of its 3 bytes"],
    );
}

#[test]
fn bad_vocabulary_sizes_are_named() {
    assert_says(
        Tokenizer::train_bpe(&["text"], 255),
        &["vocab_size is 255", "256"],
    );
    assert_says(
        Tokenizer::train_bpe(&["aaaa aaaa"], 5000),
        &["vocab_size is 5000", "ask for 258"],
    );
    assert_says(Tokenizer::train_bpe(&[], 300), &["ask for 256"]);
}

/// The ids of the whole text in one piece, by the crate alone from the saved file.
fn encode_whole(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tokenizer.json");
    tokenizer.save(&path).unwrap();
    let whole = tokenizers::Tokenizer::from_file(&path).unwrap();
    whole.encode_fast(text, false).unwrap().get_ids().to_vec()
}

#[test]
fn books_encode_in_pieces_as_in_one() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tokenizer.json");
    bpe().save(&path).unwrap();
    let json = fs::read_to_string(&path).unwrap();
    let (head, tail) = json.split_once("\"pre_tokenizer\": {").unwrap();
    let (step, tail) = tail.split_once("},").unwrap();
    let digits = r#"{"type": "Digits", "individual_digits": true}"#;
    let steps = format!(
        r#""pre_tokenizer": {{"type": "Sequence", "pretokenizers": [{digits}, {{{step}}}]}},"#
    );
    fs::write(&path, format!("{head}{steps}{tail}")).unwrap();
    let with_digits = Tokenizer::load(&path).unwrap();
    for name in [
        "train/melville_mobydick.txt.gz",
        "heldout/carroll_alice.txt.gz",
    ] {
        let text = book(name);
        for tokenizer in [bpe(), &with_digits] {
            let ids = tokenizer.encode(&text).unwrap();
            assert_eq!(ids, encode_whole(tokenizer, &text), "{name}");
            assert_eq!(tokenizer.decode(&ids).unwrap(), text, "{name}");
        }
    }
}

// ---- corpus

#[test]
fn books_are_sorted_and_read_from_folders_and_files() {
    let folder = folder(&[("b.txt", "two\r\n"), ("a.txt", "one"), ("read.me", "no")]);
    fs::write(folder.path().join("c.txt.gz"), gzip(b"three")).unwrap();
    fs::create_dir(folder.path().join("d.txt")).unwrap();
    let single = TempDir::new().unwrap();
    let extra = single.path().join("aa.md");
    fs::write(&extra, "extra").unwrap();
    let cache = TempDir::new().unwrap();
    let paths = [folder.path().to_path_buf(), extra];
    let corpus = Corpus::open(&paths, &Tokenizer::bytes(), &cache.path().join("new/er")).unwrap();
    let names: Vec<_> = corpus.books().iter().map(|b| b.name.as_str()).collect();
    assert_eq!(names, ["a", "aa.md", "b", "c"]);
    assert_eq!(corpus.books()[2].tokens(), [116, 119, 111, 13, 10]);
    assert_eq!((corpus.tokens(), corpus.bytes()), (18, 18));
    assert!(corpus.warnings().is_empty());
}

#[test]
fn a_hit_gives_what_a_miss_gives() {
    let cache = TempDir::new().unwrap();
    let miss = open(&books("heldout"), cache.path()).unwrap();
    let files = || {
        let files = fs::read_dir(cache.path()).unwrap().map(|e| e.unwrap());
        let mut files: Vec<_> = files
            .map(|f| (f.path(), f.metadata().unwrap().modified().unwrap()))
            .collect();
        files.sort();
        files
    };
    let written = files();
    assert_eq!(written.len(), 3);
    let hit = open(&books("heldout"), cache.path()).unwrap();
    assert_eq!(files(), written, "a hit must write nothing");
    for (a, b) in miss.books().iter().zip(hit.books()) {
        assert_eq!((a.tokens(), a.bytes), (b.tokens(), b.bytes));
        assert_eq!(bpe().byte_len(b.tokens()), b.bytes);
    }
    let persuasion = book("heldout/austen_persuasion.txt.gz");
    assert_eq!(hit.books()[0].name, "austen_persuasion");
    assert_eq!(hit.books()[0].tokens(), bpe().encode(&persuasion).unwrap());
    // Another tokenizer is another cache.
    let bytes = Corpus::open(&[books("heldout")], &Tokenizer::bytes(), cache.path()).unwrap();
    assert_eq!(bytes.tokens(), hit.bytes());
    assert_eq!(files().len(), 6);
}

#[test]
fn a_damaged_cache_is_made_anew() {
    let folder = folder(&[("a.txt", "some text, some text"), ("b.txt", "another one")]);
    let cache = TempDir::new().unwrap();
    let good = open(folder.path(), cache.path()).unwrap();
    let mut files: Vec<_> = fs::read_dir(cache.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.sort();
    let (sound, other) = (fs::read(&files[0]).unwrap(), fs::read(&files[1]).unwrap());
    let mut damaged = vec![
        Vec::new(),
        sound[..50].to_vec(),
        sound[..96].to_vec(),
        sound[..sound.len() - 4].to_vec(),
        sound[..sound.len() - 1].to_vec(),
        [&sound[..], &[0; 4]].concat(),
        other,
        b"something else that happens to be longer than the header of a cache file, which has \
          ninety-six bytes"
            .to_vec(),
    ];
    for at in 0..sound.len() {
        let mut flipped = sound.clone();
        flipped[at] ^= 0x10;
        damaged.push(flipped);
    }
    for bytes in damaged {
        // As a fresh file: one that is mapped must not be changed in place.
        write_atomic(&files[0], &[&bytes]).unwrap();
        let again = open(folder.path(), cache.path()).unwrap();
        assert_eq!(again.warnings().len(), 1, "{:?}", again.warnings());
        assert!(again.warnings()[0].contains("made anew"));
        for (a, b) in good.books().iter().zip(again.books()) {
            assert_eq!(a.tokens(), b.tokens());
        }
        assert_eq!(fs::read(&files[0]).unwrap(), sound);
    }
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 2);
}

#[test]
fn without_a_cache_folder_there_is_one_warning() {
    let folder = folder(&[("a.txt", "some text"), ("b.txt", "another one")]);
    // A file stands where the folder should be: refused to everyone, root included.
    let blocked = folder.path().join("a.txt");
    let corpus = open(folder.path(), &blocked).unwrap();
    assert_eq!(corpus.warnings().len(), 1);
    assert!(corpus.warnings()[0].contains("held in memory"));
    assert_eq!(
        corpus.books()[1].tokens(),
        bpe().encode("another one").unwrap()
    );
}

#[test]
fn bad_books_are_named() {
    let cache = TempDir::new().unwrap();
    let bad = |name: &str, bytes: &[u8], says: &[&str]| {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join(name), bytes).unwrap();
        assert_says(open(folder.path(), cache.path()), &[&[name], says].concat());
    };
    let packed = gzip("A long enough text to be packed. ".repeat(50).as_bytes());
    let mut flipped = packed.clone();
    flipped[packed.len() / 2] ^= 0xFF;
    bad("x.txt", b"", &["empty"]);
    bad("x.txt", b" \r\n", &["empty"]);
    bad("x.txt", b"caf\xE9 ole", &["byte 3", "UTF-8"]);
    bad("x.txt.gz", &gzip(b"caf\xE9 ole"), &["byte 3", "UTF-8"]);
    bad("x.txt.gz", &gzip(b""), &["empty"]);
    bad("x.txt.gz", b"", &["gzip"]);
    bad("x.txt.gz", b"plain text", &["gzip"]);
    bad("x.txt.gz", &packed[..packed.len() - 5], &["gzip"]);
    bad("x.txt.gz", &flipped, &["gzip"]);
    let empty = TempDir::new().unwrap();
    assert_says(open(empty.path(), cache.path()), &["no .txt"]);
    assert_says(
        open(&empty.path().join("gone"), cache.path()),
        &["read", "gone"],
    );
    assert_says(Corpus::open(&[], bpe(), cache.path()), &["no books"]);
}

#[test]
fn a_tokenizer_that_rewrites_text_is_told() {
    let cache = TempDir::new().unwrap();
    let folder = folder(&[("a.txt", "LOUD ÀÉ İ")]);
    let path = folder.path().join("tokenizer.json");
    bpe().save(&path).unwrap();
    let json = fs::read_to_string(&path).unwrap();
    let lower = json.replace(
        "\"normalizer\": null",
        "\"normalizer\": {\"type\": \"Lowercase\"}",
    );
    fs::write(&path, lower).unwrap();
    let lower = Tokenizer::load(&path).unwrap();
    for _ in 0..2 {
        let corpus = Corpus::open(&[folder.path().into()], &lower, cache.path()).unwrap();
        assert_eq!(corpus.warnings().len(), 1);
        assert!(corpus.warnings()[0].contains("rewrites"));
    }
}

// ---- sampler

/// A corpus whose books have these lengths; a token is a byte.
fn corpus_of(lengths: &[usize]) -> Corpus {
    let folder = TempDir::new().unwrap();
    for (i, &length) in lengths.iter().enumerate() {
        let text: String = (0..length)
            .map(|k| char::from(b'a' + ((i + k * k) % 26) as u8))
            .collect();
        fs::write(folder.path().join(format!("{i:03}.txt")), text).unwrap();
    }
    let cache = TempDir::new().unwrap();
    // The maps outlive the files.
    Corpus::open(&[folder.path().into()], &Tokenizer::bytes(), cache.path()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn an_epoch_takes_every_target_about_once(
        lengths in prop::collection::vec(1usize..90, 1..6), length in 1usize..20, seed: u64,
    ) {
        let corpus = corpus_of(&lengths);
        let Ok(sampler) = Sampler::new(&corpus, length, seed) else {
            prop_assert!(lengths.iter().all(|&n| n < length + 1));
            return Ok(());
        };
        let size = sampler.windows_per_epoch() as usize;
        prop_assert_eq!(size, lengths.iter().map(|n| (n - 1) / length).sum::<usize>());
        for epoch in 0..3 {
            let mut targets = HashSet::new();
            for window in sampler.windows(epoch, size) {
                let book = corpus.books()[window.book].tokens();
                let end = window.start + length + 1;
                prop_assert!(end <= book.len(), "crosses the end of a book");
                prop_assert_eq!(sampler.tokens(window), &book[window.start..end]);
                for target in window.start + 1..end {
                    prop_assert!(targets.insert((window.book, target)), "twice");
                }
            }
            for (book, &n) in lengths.iter().enumerate() {
                let left = n - 1 - targets.iter().filter(|t| t.0 == book).count();
                prop_assert!(left < length);
            }
        }
    }

    #[test]
    fn windows_follow_from_seed_and_step(
        seed: u64, step in 0u64..1000, batch in 1usize..40,
    ) {
        let corpus = corpus_of(&[50, 33, 5]);
        let sampler = Sampler::new(&corpus, 4, seed).unwrap();
        let windows = sampler.windows(step, batch);
        // Again, from a fresh sampler, and one by one: batches run on across epochs.
        prop_assert_eq!(&sampler.windows(step, batch), &windows);
        prop_assert_eq!(&Sampler::new(&corpus, 4, seed).unwrap().windows(step, batch), &windows);
        let first = step * batch as u64;
        let one_by_one: Vec<Window> = (first..first + batch as u64)
            .flat_map(|number| sampler.windows(number, 1))
            .collect();
        prop_assert_eq!(one_by_one, windows);
    }

    #[test]
    fn evaluation_takes_every_target_once(tokens in 0usize..300, length in 1usize..50) {
        let windows = eval_windows(tokens, length);
        let targets: Vec<usize> = windows.iter().flat_map(|w| w.start + 1..w.end).collect();
        prop_assert_eq!(targets, (1..tokens.max(1)).collect::<Vec<_>>());
        for (k, window) in windows.iter().enumerate() {
            prop_assert!(window.end <= tokens && window.len() >= 2);
            prop_assert!(window.len() == length + 1 || k + 1 == windows.len());
        }
    }
}

#[test]
fn epochs_and_seeds_differ() {
    let corpus = corpus_of(&[1000, 777]);
    let sampler = Sampler::new(&corpus, 10, 1).unwrap();
    let size = sampler.windows_per_epoch() as usize;
    let (first, second) = (sampler.windows(0, size), sampler.windows(1, size));
    assert_ne!(first, second);
    let other = Sampler::new(&corpus, 10, 2).unwrap();
    assert_ne!(first, other.windows(0, size));
    let mut sorted = first.clone();
    sorted.sort();
    assert_ne!(first, sorted, "the order is random");
    // The offset moves through all that is left over: 999 targets leave 9, so 0..=9.
    let starts: HashSet<usize> = (0..300)
        .flat_map(|epoch| sampler.windows(epoch, size))
        .filter(|w| w.book == 0)
        .map(|w| w.start % 10)
        .collect();
    assert_eq!(starts.len(), 10);
    // Far along a run nothing overflows.
    assert_eq!(sampler.windows(u64::MAX, 3).len(), 3);
    assert!(sampler.windows(0, 0).is_empty());
}

#[test]
fn the_order_never_changes() {
    // A run must resume in the same order under every later version.
    let sampler = Sampler::new(&corpus_of(&[40, 30]), 8, 7).unwrap();
    let windows = sampler.windows(0, 7);
    let windows: Vec<_> = windows.iter().map(|w| (w.book, w.start)).collect();
    assert_eq!(
        windows,
        [(1, 11), (1, 3), (0, 21), (0, 5), (0, 13), (1, 19), (0, 29)]
    );
}

#[test]
fn texts_shorter_than_a_sequence() {
    let corpus = corpus_of(&[9, 5]);
    assert_says(
        Sampler::new(&corpus, 9, 0),
        &["sequence_length is 9", "10 tokens", "has 9", "at most 8"],
    );
    assert_says(Sampler::new(&corpus, 0, 0), &["sequence_length is 0"]);
    assert_says(Sampler::new(&corpus, usize::MAX, 0), &["sequence_length"]);
    let sampler = Sampler::new(&corpus, 8, 0).unwrap();
    assert_eq!(sampler.skipped(), ["001"]);
    assert_eq!(sampler.windows(0, 2), [Window { book: 0, start: 0 }; 2]);
    assert!(eval_windows(1, 8).is_empty());
    assert_eq!(eval_windows(3, 0), [0..2, 1..3]);
    assert_eq!(eval_windows(9, usize::MAX), vec![0..9usize; 1]);
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = folder(&[("a", "old")]);
    let path = folder.path().join("a");
    write_atomic(&path, &[b"n", b"ew"]).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    // Renaming onto a folder fails after the temporary file was written.
    let blocked = folder.path().join("folder");
    fs::create_dir(&blocked).unwrap();
    assert!(write_atomic(&blocked, &[b"x"]).is_err());
    assert!(write_atomic(Path::new(""), &[b"x"]).is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}
