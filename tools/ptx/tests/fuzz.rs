//! Damaged texts are refused or run, but nothing panics and nothing hangs.
//!
//! `PTX_FUZZ_SECONDS=600 cargo test -p ptx --test fuzz` looks for so long, elsewhere each time.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use ptx::{Device, Launch, Module, Options};

/// One thing done to a text: what, and where (modulo what there is).
#[derive(Debug, Clone)]
enum Damage {
    Byte(usize, u8),
    Delete(usize, usize),
    Repeat(usize, usize),
    /// Exchanges two words.
    Swap(usize, usize),
    /// Puts a word in the place of another.
    Word(usize, &'static str),
    /// The text ends here.
    Cut(usize),
}

/// Words that are hard to take.
const WORDS: [&str; 34] = [
    "0",
    "-1",
    "4294967295",
    "18446744073709551615",
    "0x7fffffffffffffff",
    "0f7FFFFFFF",
    "0d7FF0000000000000",
    "1e400",
    "99999999999999999999",
    "%r1",
    "%rd1",
    "%p1",
    "%f1",
    "%nothing",
    "%tid.x",
    "{",
    "}",
    "[",
    "]",
    "(",
    "-",
    "|",
    ".align",
    ".b128",
    ".pred",
    ".reg",
    ".param",
    ".shared",
    "ret;",
    "bra",
    "call",
    "@",
    "!",
    "\u{e9}",
];

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<usize>;
    prop_oneof![
        3 => (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        2 => (at(), 1usize..200).prop_map(|(at, length)| Damage::Delete(at, length)),
        1 => (at(), 1usize..2000).prop_map(|(at, length)| Damage::Repeat(at, length)),
        4 => (at(), at()).prop_map(|(a, b)| Damage::Swap(a, b)),
        4 => (at(), proptest::sample::select(WORDS.to_vec())).prop_map(|(at, word)| Damage::Word(at, word)),
        1 => at().prop_map(Damage::Cut),
    ]
}

/// Places of the words of a text.
fn words(text: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut words = vec![];
    let mut start = None;
    for (at, byte) in text.iter().chain([&b' ']).enumerate() {
        let inside = byte.is_ascii_alphanumeric() || b"_$%.".contains(byte);
        match (inside, start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                words.push(from..at);
                start = None;
            }
            _ => {}
        }
    }
    words
}

fn apply(mut text: Vec<u8>, damage: &Damage) -> Vec<u8> {
    let length = text.len().max(1);
    let word = |at: usize| {
        let words = words(&text);
        words.get(at % words.len().max(1)).cloned()
    };
    match *damage {
        Damage::Byte(at, byte) if !text.is_empty() => text[at % length] = byte,
        Damage::Delete(at, count) => {
            let from = at % length;
            text.drain(from..(from + count).min(text.len()));
        }
        Damage::Repeat(at, count) => {
            let from = at % length;
            let copy = text[from..(from + count).min(text.len())].to_vec();
            text.splice(from..from, copy);
        }
        Damage::Swap(a, b) => {
            if let (Some(a), Some(b)) = (word(a), word(b)) {
                let (a, b) = if a.start <= b.start { (a, b) } else { (b, a) };
                if a.end <= b.start {
                    let (first, second) = (text[a.clone()].to_vec(), text[b.clone()].to_vec());
                    text.splice(b, first);
                    text.splice(a, second);
                }
            }
        }
        Damage::Word(at, with) => {
            if let Some(place) = word(at) {
                text.splice(place, with.bytes());
            }
        }
        Damage::Cut(at) => text.truncate(at % length),
        Damage::Byte(..) => {}
    }
    text
}

/// Texts of the corpus, the shorter ones.
fn corpus() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/ptx");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| entry.expect("a file").path())
        .collect();
    paths.sort();
    let texts = paths
        .iter()
        .map(|path| std::fs::read(path).expect("a kernel"));
    texts.filter(|text| text.len() < 20_000).collect()
}

/// Loads a text, decodes its kernels, and runs those that are left on some memory: all in two minutes.
fn survive(text: &str) {
    let (done, wait) = std::sync::mpsc::channel();
    let owned = text.to_string();
    let thread = std::thread::spawn(move || {
        if let Ok(module) = Module::parse(&owned) {
            for name in module.kernels() {
                if let Ok(kernel) = module.kernel(name) {
                    run(&kernel);
                }
            }
        }
        // nobody waits any longer when it took too long
        let _ = done.send(());
    });
    // a variable of a gigabyte alone takes ten seconds
    let hangs = wait.recv_timeout(Duration::from_secs(120)) == Err(RecvTimeoutError::Timeout);
    if hangs || thread.join().is_err() {
        let path = std::env::temp_dir().join("ptx_fuzz.ptx");
        std::fs::write(&path, text).expect("a temporary file");
        panic!(
            "{}, see {}",
            if hangs { "it hangs" } else { "it panics" },
            path.display()
        );
    }
}

fn run(kernel: &ptx::Kernel) {
    let mut device = Device::new();
    let args: Vec<ptx::Arg> = kernel
        .argument_bytes()
        .into_iter()
        .map(|bytes| match bytes {
            8 => {
                let at = device.allocate(4096);
                device.fill(at, 0, 4096).expect("an allocation");
                at.into()
            }
            4 => 40i32.into(),
            bytes => ptx::Arg::bytes(vec![1; bytes.min(1 << 20)]),
        })
        .collect();
    let launch = Launch {
        grid: [2, 1, 1],
        block: [64, 1, 1],
        dynamic_shared: 4096,
        cluster: [1; 3],
    };
    let options = Options {
        instructions_per_warp: 1 << 14,
        ..Options::default()
    };
    // an error is as good as a report
    let _ = device.launch(kernel, &launch, &args, &options);
}

#[test]
fn damaged_texts() {
    let texts = corpus();
    let strategy = (0..texts.len(), proptest::collection::vec(damage(), 1..5));
    let test = |(file, damages): (usize, Vec<Damage>)| {
        let text = damages.iter().fold(texts[file].clone(), apply);
        survive(&String::from_utf8_lossy(&text));
        Ok(())
    };
    let config = |cases| Config {
        cases,
        failure_persistence: None,
        // the text is written down; what hangs would hang again
        max_shrink_iters: 0,
        ..Config::default()
    };
    match std::env::var("PTX_FUZZ_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok())
    {
        None => {
            let rng = TestRunner::deterministic().new_rng();
            let mut runner = TestRunner::new_with_rng(config(1000), rng);
            runner
                .run(&strategy, test)
                .unwrap_or_else(|e| panic!("{e}"));
        }
        Some(seconds) => {
            let start = Instant::now();
            let mut cases = 0;
            while start.elapsed() < Duration::from_secs(seconds) {
                let mut runner = TestRunner::new(config(2000));
                runner
                    .run(&strategy, test)
                    .unwrap_or_else(|e| panic!("{e}"));
                cases += 2000;
            }
            println!("{cases} texts in {:?}", start.elapsed());
        }
    }
}

#[test]
fn texts_made_to_hurt() {
    let kernel = |body: &str| {
        format!(
            ".version 8.0 .target sm_80 .address_size 64 .visible .entry k(.param .u64 a) {{ {body} ret; }}"
        )
    };
    let deep = |open: &str| kernel(&format!("mov.u32 {}1;", open.repeat(100_000)));
    let hard = [
        deep("{"),
        deep("("),
        deep("["),
        deep("-"),
        deep("a|"),
        kernel(".reg .b32 %r<4294967295>; .reg .b64 %d<4294967295>;"),
        kernel(
            ".local .align 9223372036854775808 .b8 x[18446744073709551615]; .shared .b8 y[18446744073709551615];",
        ),
        kernel(".local .b8 x[18446744073709551615]; .local .b64 y[2305843009213693952];"),
        format!(".global .b64 x[2305843009213693951]; {}", kernel("")),
        format!(
            ".global .align 1152921504606846976 .b8 x[8]; .shared .align 1152921504606846976 .b8 y[8]; {}",
            kernel("")
        ),
        kernel(&"{".repeat(50_000)),
        kernel("bra A; { A: }"),
        "{".repeat(100_000),
        "/*".into(),
        "\"".into(),
        ".version".into(),
        String::new(),
    ];
    for text in &hard {
        survive(text);
    }
}
