//! Memories as the program's users meet them: made, gone on from, interrupted, looked at, refused.
#![cfg(unix)]

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use model::{Config, Model};
use ops::DType;
use serde_json::Value;
use tempfile::TempDir;

/// A folder with two models, `m` and `other`, and texts.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Place(TempDir::new().expect("a folder"));
        let config: Config = serde_json::from_value(serde_json::json!({
            "vocab_size": 256, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
            "num_attention_heads": 2, "sliding_window": 8, "tie_word_embeddings": true,
            "ttt": {"mini_batch_size": 16, "num_fast_layers": 2, "inner_learning_rate": 0.5, "inner_clip_norm": 1.0},
        }))
        .expect("a configuration");
        for (name, seed) in [("m", 1), ("other", 2)] {
            let model = Model::random(&config, seed, DType::F32).expect("a model");
            model.save(&place.path(name)).expect("saved");
        }
        let line = |i: usize| format!("Line {i} of {}: it was the best of times.\n", i * i + 7);
        let text = |lines: std::ops::Range<usize>| lines.map(line).collect::<String>();
        place.write("a.txt", text(0..40));
        place.write("b.txt", text(40..75));
        place.write("long.txt", text(0..1000));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).expect("written");
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn ttt(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ttt"));
        command
            .args(line.split_whitespace())
            .current_dir(self.0.path())
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null());
        command
    }

    /// Runs `line` with `input` on its standard input.
    fn run(&self, line: &str, input: &[u8]) -> Output {
        let mut command = self.ttt(line);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = pipes.stderr(Stdio::piped()).spawn().expect("started");
        // a program that has refused no longer reads
        let _ = child.stdin.take().expect("a pipe").write_all(input);
        child.wait_with_output().expect("ended")
    }

    /// Its standard output; it must succeed.
    #[track_caller]
    fn says(&self, line: &str, input: &str) -> String {
        let output = self.run(line, input.as_bytes());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ttt {line}\n{stderr}");
        String::from_utf8(output.stdout).expect("text")
    }

    #[track_caller]
    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.says(line, "")).expect("JSON")
    }

    /// It must end with exit code 1 and one sentence that has all of `words`.
    #[track_caller]
    fn fails(&self, line: &str, input: &[u8], words: &[&str]) {
        let output = self.run(line, input);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "ttt {line}\n{stderr}");
        assert_eq!(stderr.lines().count(), 1, "ttt {line}\n{stderr}");
        assert!(stderr.starts_with("error: "), "ttt {line}\n{stderr}");
        for word in words {
            assert!(stderr.contains(word), "ttt {line}: {word:?} in {stderr:?}");
        }
    }
}

#[test]
fn a_memory_goes_on_where_it_stopped() {
    let place = Place::new();
    let once = place.json("read --model m a.txt b.txt --memory once --json");
    place.says("read --model m a.txt --memory twice", "");
    let second = place.json("read --model m b.txt --memory twice --json");
    assert_eq!(place.bytes("once"), place.bytes("twice"));
    let tokens = |report: &Value| report["tokens"].as_u64().expect("a number");
    let position = |report: &Value| report["position"].as_u64().expect("a number");
    assert_eq!(position(&once), tokens(&once));
    assert_eq!(position(&second), position(&once));
    assert!(tokens(&second) < tokens(&once));
    // what repeats is learned
    let bits = |i: usize| {
        once["texts"][i]["bits_per_byte"]
            .as_f64()
            .expect("a number")
    };
    assert!(bits(1) < bits(0), "{once}");
    // learning off: nothing is learned, and the window is kept all the same
    place.says("read --model m a.txt --memory off --ttt off", "");
    let info = place.json("memory info off --json");
    assert_eq!(info["inner_steps"], 0);
    assert!(
        info["learned"]
            .as_array()
            .expect("a list")
            .iter()
            .all(|n| n["norm"] == 0.0)
    );
    // a smaller file that is read back
    place.says(
        "read --model m a.txt --memory small --memory-dtype bf16",
        "",
    );
    place.says("read --model m a.txt --memory exact", "");
    assert!(2 * place.bytes("small").len() < place.bytes("exact").len());
    place.says("read --model m b.txt --memory small", "");
}

#[test]
fn interrupted_reading_loses_nothing() {
    let place = Place::new();
    let start = Instant::now();
    place.says("read --model m long.txt --memory whole --threads 1", "");
    let whole = start.elapsed();
    let mut command = place.ttt("read --model m long.txt --memory cut --threads 1");
    let piped = command.stdout(Stdio::null()).stderr(Stdio::piped());
    let child = piped.spawn().expect("started");
    // it saves once before it reads
    while !place.path("cut").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "no memory");
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(whole / 10);
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &id]).status();
    assert!(sent.expect("kill").success());
    let output = child.wait_with_output().expect("ended");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    let skip = stderr.split("--skip ").nth(1).expect("how to go on").trim();
    let read: u64 = skip.parse().expect("a number");
    let info = place.json("memory info cut --json");
    assert_eq!(info["position"], read);
    assert!(read < place.bytes("long.txt").len() as u64, "all was read");
    place.says(
        &format!("read --model m long.txt --memory cut --skip {skip}"),
        "",
    );
    assert_eq!(place.bytes("cut"), place.bytes("whole"));
}

#[test]
fn generating_goes_on_from_a_memory_and_leaves_it() {
    let place = Place::new();
    place.says("read --model m a.txt --memory m1", "");
    let before = place.bytes("m1");
    let line = "generate --model m --memory m1 --max-tokens 20 --json";
    let (first, second) = (place.json(line), place.json(line));
    assert_eq!(first["text"], second["text"]);
    assert_eq!(first["prompt_tokens"], 0);
    assert_eq!(place.bytes("m1"), before);
    place.says(
        "generate --model m --memory m1 --max-tokens 20 --keep Once",
        "",
    );
    let info = place.json("memory info m1 --json");
    let length = place.bytes("a.txt").len() + "Once".len() + 20;
    assert_eq!(info["position"], length as u64);
}

#[test]
fn a_conversation_is_kept_and_taken_back() {
    let place = Place::new();
    let line = "chat --model m --memory me --max-tokens 8 --seed 3";
    let said = place.says(line, "Hello there.\n\nHow are you?\n");
    assert_eq!(said.lines().count(), 2, "{said:?}");
    let before = place.bytes("me");
    // what was taken back has never been
    place.says(line, "Forget this.\n/undo\n/quit\nNever read.\n");
    assert_eq!(place.bytes("me"), before);
    place.says(line, "Remember this.\n");
    assert_ne!(place.bytes("me"), before);
    let output = place.run(line, b"/undo\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing to take back"));
}

#[test]
fn memories_are_looked_at_and_merged() {
    let place = Place::new();
    place.says("read --model m a.txt --memory a", "");
    place.says("read --model m b.txt --memory b", "");
    let info = place.says("memory info a", "");
    for word in ["tokens read", "inner steps", "fast_mlp.gate_proj"] {
        assert!(info.contains(word), "{info}");
    }
    let same = place.json("memory diff a a --json");
    assert_eq!(same["all"]["apart"], 0.0);
    let apart = place.json("memory diff a b --json");
    let number = |name: &str| apart["all"][name].as_f64().expect("a number");
    let cosine = (number("first").powi(2) + number("second").powi(2) - number("apart").powi(2))
        / (2.0 * number("first") * number("second"));
    assert!((cosine - number("cosine")).abs() < 1e-9, "{apart}");
    assert!(place.says("memory diff a b", "").contains("all"));
    // half of the way from a to b
    place.says("memory merge a b --out mean", "");
    let half = place.json("memory diff a mean --json");
    let half = half["all"]["apart"].as_f64().expect("a number");
    assert!((half / number("apart") - 0.5).abs() < 1e-5, "{half}");
    place.says("memory merge a b --weights 1 0 --out a-again", "");
    let again = place.json("memory diff a a-again --json");
    assert!(again["all"]["apart"].as_f64().expect("a number") < 1e-6);
    place.says("generate --model m --memory mean --max-tokens 4 so", "");
    let words = ["weights", "2 numbers"];
    place.fails("memory merge a b --weights 1 --out c", b"", &words);
}

#[test]
fn what_cannot_be_done_is_said() {
    let place = Place::new();
    place.says("read --model m a.txt --memory a", "");
    place.says("read --model other a.txt --memory o", "");
    let whole = place.bytes("a");
    place.write("cut", &whole[..whole.len() / 2]);
    place.write("bad.txt", b"It was \xff\xfe not to be.");
    place.write("empty.txt", b"");
    let fails = |line: &str, words: &[&str]| place.fails(line, b"", words);
    for command in [
        "generate --model other --memory a x",
        "read --model other b.txt --memory a",
    ] {
        fails(command, &["a: ", "another model", "belongs to"]);
        assert_eq!(place.bytes("a"), whole);
    }
    fails("read --model m b.txt --memory cut", &["cut: ", "truncated"]);
    fails("memory info cut", &["cut: ", "truncated"]);
    fails(
        "memory info m/model.safetensors",
        &["no memory of a session"],
    );
    fails("memory info nowhere", &["nowhere", "cannot be read"]);
    fails("memory diff a o", &["o: ", "another model"]);
    fails("memory merge a o --out c", &["another model"]);
    fails(
        "generate --model m --memory nowhere x",
        &["nowhere", "cannot be read"],
    );
    fails(
        "read --model m bad.txt --memory new",
        &["bad.txt", "not UTF-8"],
    );
    fails(
        "read --model m empty.txt --memory new",
        &["empty.txt", "empty"],
    );
    fails("read --model m nowhere.txt --memory new", &["nowhere.txt"]);
    assert!(!place.path("new").exists());
    fails(
        "read --model m a.txt --memory no/such/folder",
        &["no/such/folder", "written"],
    );
    fails(
        "read --model m a.txt --memory new --skip 100000",
        &["skip = 100000"],
    );
    fails(
        "read --model m a.txt --memory new --surprise 1.5",
        &["surprise = 1.5"],
    );
    fails(
        "read --model m a.txt --memory new --fast-layers 3",
        &["fast_layers = 3", "at most 2"],
    );
    fails(
        "read --model m a.txt --memory new --decay 0",
        &["decay = 0"],
    );
    fails("generate --model m", &["prompt", "--memory"]);
    place.fails("chat --model m", b"caf\xe9\n", &["standard input", "UTF-8"]);
    place.fails(
        "generate --model m -",
        b"caf\xe9\n",
        &["standard input", "UTF-8"],
    );
}

#[test]
fn options_change_what_is_learned() {
    let place = Place::new();
    let read = |name: &str, options: &str| {
        place.json(&format!(
            "read --model m long.txt --memory {name} --json {options}"
        ))["inner_steps"]
            .as_u64()
            .expect("a number")
    };
    let all = read("all", "");
    let surprising = read("surprising", "--surprise 0.5");
    assert!(
        surprising < all && surprising > all / 10,
        "{surprising} of {all}"
    );
    assert_eq!(read("one", "--fast-layers 1"), all);
    assert_eq!(read("slow", "--decay 10"), all);
    let norm = |memory: &str, layer: usize| {
        let info = place.json(&format!("memory info {memory} --json"));
        let learned = info["learned"].as_array().expect("a list").clone();
        let of_layer = |n: &&Value| {
            let name = n["name"].as_str().expect("a name");
            name.starts_with(&format!("model.layers.{layer}."))
        };
        let norms = learned.iter().filter(of_layer);
        norms
            .map(|n| n["norm"].as_f64().expect("a number"))
            .sum::<f64>()
    };
    assert!(norm("one", 1) > 0.0);
    assert_eq!(norm("one", 2), 0.0);
    assert!(norm("all", 2) > 0.0);
    assert!(norm("slow", 1) < norm("all", 1));
}

#[test]
fn help() {
    let place = Place::new();
    for command in ["read", "chat", "memory info", "memory diff", "memory merge"] {
        let help = place.says(&format!("{command} --help"), "");
        assert!(help.contains("Example") && help.contains("ttt "), "{help}");
    }
}
