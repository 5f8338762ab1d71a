//! The program as its users meet it: results on the reference models, errors in one sentence, runs that survive whatever
//! ends them.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use model::files::{Stored, read_tensors, write_tensors};
use ops::{DType, Tensor};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use tempfile::TempDir;

/// The reference models.
const ORACLE: [&str; 6] = [
    "grouped_query_llama",
    "no_clip_small_lr",
    "one_fast_block",
    "ragged_tail",
    "two_fast_blocks",
    "window_smaller_than_batch",
];
/// Exit code of a run that was interrupted and saved.
const INTERRUPTED: i32 = 130;
const STATE: &str = "run/state.safetensors";
const WEIGHTS: &str = "run/model/model.safetensors";

/// A folder to work in, with the reference models in `oracle`, a text to train on and one to evaluate on.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oracle");
        std::os::unix::fs::symlink(oracle, folder.path().join("oracle")).expect("a link");
        let line = |i: usize| format!("Line {i} of {}: it was the best of times.\n", i * i + 7);
        let text: String = (0..90).map(line).collect();
        fs::write(folder.path().join("text.txt"), text).expect("written");
        let text: String = (200..220).map(line).collect();
        fs::write(folder.path().join("heldout.txt"), text).expect("written");
        Place(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).expect("written");
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).expect("JSON")
    }

    /// A copy of a reference model, to damage.
    fn copy(&self, from: &str, to: &str) {
        fs::create_dir(self.path(to)).expect("made");
        for name in ["config.json", "model.safetensors", "tokens.safetensors"] {
            let from = self.path(&format!("oracle/{from}/{name}"));
            fs::copy(from, self.path(&format!("{to}/{name}"))).expect("copied");
        }
    }

    /// The program with the words of `line`, in this folder.
    fn ttt(&self, line: &str) -> Command {
        self.command(env!("CARGO_BIN_EXE_ttt"), line.split_whitespace())
    }

    fn command<'a>(&self, program: &str, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.0.path())
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null());
        command
    }

    /// Runs `line`, which must succeed; its standard output.
    #[track_caller]
    fn succeeds(&self, line: &str) -> String {
        let output = self.ttt(line).output().expect("the program starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ttt {line}\n{stderr}");
        assert!(!stderr.contains("panicked"), "ttt {line}\n{stderr}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs `line`, which must end with exit code 1 and one sentence that has all of `words`.
    #[track_caller]
    fn fails(&self, line: &str, words: &[&str]) {
        assert_fails(&mut self.ttt(line), line, words);
    }

    /// Runs `line`, which must be refused as a wrong use of the command line.
    #[track_caller]
    fn refuses(&self, line: &str, words: &[&str]) {
        let output = self.ttt(line).output().expect("the program starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "ttt {line}\n{stderr}");
        assert!(stderr.starts_with("error: "), "ttt {line}\n{stderr}");
        for word in words {
            assert!(stderr.contains(word), "ttt {line}: {word:?} in {stderr:?}");
        }
    }

    /// Files under a temporary name.
    fn leftovers(&self, folder: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path(folder)).expect("a folder");
        let paths = entries.map(|e| e.expect("an entry").path());
        paths
            .filter(|p| p.extension().is_some_and(|e| e == "tmp"))
            .collect()
    }

    /// The steps in a run's metrics.
    fn steps(&self, run: &str) -> Vec<u64> {
        let text = String::from_utf8(self.read(&format!("{run}/metrics.jsonl"))).expect("text");
        let step = |line: &str| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            line["step"].as_u64().expect("a number")
        };
        text.lines().map(step).collect()
    }
}

#[track_caller]
fn assert_fails(command: &mut Command, line: &str, words: &[&str]) {
    let output = command.output().expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "ttt {line}\n{stderr}");
    let said: Vec<&str> = stderr
        .lines()
        .filter(|l| !l.starts_with("warning: "))
        .collect();
    let [said] = said[..] else {
        panic!("ttt {line}: more or less than one line in {stderr:?}");
    };
    assert!(said.starts_with("error: "), "ttt {line}\n{said}");
    assert!(!said.contains("panicked"), "ttt {line}\n{said}");
    for word in words {
        assert!(said.contains(word), "ttt {line}: {word:?} in {said:?}");
    }
}

/// A tiny training run, with some options changed or added.
fn train(changes: &[(&str, &str)]) -> String {
    let mut options = BTreeMap::from([
        ("run", "run"),
        ("tokenizer", "bytes"),
        ("data", "text.txt"),
        ("heldout", "heldout.txt"),
        ("steps", "4"),
        ("batch-size", "2"),
        ("sequence-length", "64"),
        ("extension", "0.5"),
        ("extension-length", "128"),
        ("mini-batch-size", "16"),
        ("sliding-window", "16"),
        ("hidden-size", "16"),
        ("num-attention-heads", "2"),
        ("num-key-value-heads", "2"),
        ("intermediate-size", "32"),
        ("num-hidden-layers", "2"),
        ("num-fast-layers", "1"),
        ("threads", "2"),
    ]);
    options.extend(changes.iter().copied());
    let words = options
        .iter()
        .map(|(name, value)| format!(" --{name} {value}"));
    format!("train{}", words.collect::<String>())
}

fn floats(path: &Path) -> BTreeMap<String, Tensor> {
    let tensors = read_tensors(path).expect("tensors").into_iter();
    let float = |(name, t)| match t {
        Stored::Float(t) => (name, t),
        Stored::Integer(..) => panic!("{name} holds integers"),
    };
    tensors.map(float).collect()
}

/// Writes token ids to a file.
fn write_ids(path: &Path, ids: &[i64]) {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::I64, vec![ids.len()], &bytes).expect("a tensor");
    let file = safetensors::serialize([("input_ids", view)], None).expect("laid out");
    fs::write(path, file).expect("written");
}

/// Waits until `done`, at most half a minute.
#[track_caller]
fn wait_until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Starts the program and lets it say what it likes.
fn start(command: &mut Command) -> Child {
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.spawn().expect("the program starts")
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status()
        .expect("kill");
    assert!(sent.success());
}

// ---- help

#[test]
fn help() {
    let place = Place::new();
    for command in [
        "",
        "train",
        "eval",
        "generate",
        "grad",
        "bench step",
        "bench peers",
    ] {
        let help = place.succeeds(&format!("{command} --help"));
        assert!(help.contains("Example"), "{command}: {help}");
        assert!(help.contains("ttt "), "{command}: {help}");
    }
    assert!(place.succeeds("bench --help").contains("step"));
    assert!(place.succeeds("--version").starts_with("ttt "));
}

#[test]
fn wrong_usage() {
    let place = Place::new();
    place.refuses("trian", &["trian", "train"]);
    place.refuses("train --stepz 4", &["--stepz", "--steps"]);
    place.refuses("train --steps many", &["--steps", "many"]);
    place.refuses("train --steps -4", &["-4"]);
    place.refuses("train --architecture rnn", &["rnn", "sliding-window"]);
    place.refuses("train --preset huge", &["huge", "paper-125m"]);
    place.refuses("train --resume run --run other", &["--resume", "--run"]);
    place.refuses("grad --model m", &["--tokens", "--out"]);
    place.refuses("eval", &["--model"]);
    place.refuses("bench peers", &["--model", "--tokens"]);
    for command in [
        "train",
        "eval --model m",
        "generate --model m prompt",
        "grad --model m --tokens t --out o",
        "bench step --model m --tokens t",
    ] {
        // what a machine without a device says, in one sentence
        if let Err(error) = ops::Device::Cuda(0).check() {
            let line = format!("{command} --device cuda:0");
            place.fails(&line, &[&error.to_string()]);
        }
        let line = format!("{command} --device gpu");
        place.refuses(&line, &["device 'gpu' is not available", "'cpu', 'cuda'"]);
        if command != "train" {
            let line = format!("{command} --dtype f23");
            place.refuses(&line, &["unknown dtype 'f23'", "f32, f64"]);
        }
    }
    // without a word: help, as a mistake
    let output = place.ttt("").output().expect("the program starts");
    assert_eq!(output.status.code(), Some(2));
}

// ---- grad

/// Runs `ttt grad` on every reference model; every tensor must be close to the expected one.
fn reproduces(options: &str, tolerance: f64) {
    let place = Place::new();
    for name in ORACLE {
        let folder = format!("oracle/{name}");
        let line = format!(
            "grad --model {folder} --tokens {folder}/tokens.safetensors --out mine.safetensors {options}"
        );
        let out = place.succeeds(&line);
        assert!(out.starts_with("loss "), "{out}");
        let mine = floats(&place.path("mine.safetensors"));
        let expected = floats(&place.path(&format!("{folder}/expected.safetensors")));
        assert!(mine.keys().eq(expected.keys()), "{name}: other tensors");
        for (tensor, expected) in expected {
            let mine = &mine[&tensor];
            assert_eq!(mine.shape(), expected.shape(), "{name}: {tensor}");
            let (mine, expected) = (mine.to_f64s(), expected.to_f64s());
            let largest = expected.iter().fold(0.0f64, |m, x| m.max(x.abs()));
            for (i, (a, b)) in mine.iter().zip(&expected).enumerate() {
                assert!(
                    (a - b).abs() <= tolerance * largest,
                    "{name}: {tensor}[{i}] is {a}, expected {b}, {options}"
                );
            }
        }
    }
}

#[test]
fn grad_reproduces_the_reference() {
    reproduces("", 1e-9);
    reproduces("--dtype f64 --threads 1", 1e-9);
}

#[test]
fn grad_reproduces_the_reference_when_recomputing() {
    reproduces("--memory 0", 1e-9);
}

#[test]
fn grad_in_single_precision_is_close() {
    reproduces("--dtype f32", 1e-3);
    reproduces("--dtype f32 --memory 0", 1e-3);
}

#[test]
fn grad_in_first_order_differs() {
    let place = Place::new();
    let line =
        "grad --model oracle/one_fast_block --tokens oracle/one_fast_block/tokens.safetensors";
    place.succeeds(&format!("{line} --out exact.safetensors"));
    place.succeeds(&format!("{line} --out first.safetensors --first-order"));
    let exact = floats(&place.path("exact.safetensors"));
    let first = floats(&place.path("first.safetensors"));
    let values = |t: &Tensor| t.to_f64s();
    assert_eq!(values(&exact["loss"]), values(&first["loss"]));
    assert_eq!(values(&exact["token_nll"]), values(&first["token_nll"]));
    let fast = "grad.model.layers.3.fast_mlp.up_proj.weight";
    assert_ne!(values(&exact[fast]), values(&first[fast]));
}

#[test]
fn grad_names_what_is_wrong() {
    let place = Place::new();
    let good = "oracle/one_fast_block";
    let run = |model: &str, tokens: &str, rest: &str, words: &[&str]| {
        place.fails(
            &format!("grad --model {model} --tokens {tokens} --out mine.safetensors {rest}"),
            words,
        );
        assert!(!place.path("mine.safetensors").exists());
    };
    let good_tokens = "oracle/one_fast_block/tokens.safetensors";
    let bad_model = |name: &str, words: &[&str]| run(name, good_tokens, "", words);
    let bad_tokens = |name: &str, words: &[&str]| run(good, name, "", words);
    let copy = |name: &str| place.copy("one_fast_block", name);

    for dtype in ["bf16", "f16"] {
        let words = [&format!("dtype = {dtype}"), "f32 and f64"];
        run(good, good_tokens, &format!("--dtype {dtype}"), &words);
    }

    // models
    bad_model("nowhere", &["nowhere/config.json", "cannot be read"]);
    copy("missing");
    fs::remove_file(place.path("missing/model.safetensors")).expect("removed");
    bad_model("missing", &["missing/model.safetensors", "cannot be read"]);
    copy("cut");
    let whole = place.read("cut/model.safetensors");
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        place.write("cut/model.safetensors", &whole[..length]);
        bad_model("cut", &["cut/model.safetensors", "truncated"]);
    }
    let mut tensors = floats(&place.path("oracle/one_fast_block/model.safetensors"));
    let up = "model.layers.1.mlp.up_proj.weight";
    let good_up = tensors[up].clone();
    copy("edited");
    let mut edited = |tensor: Option<Tensor>, name: &str, words: &[&str]| {
        tensors.remove(up);
        tensors.extend(tensor.map(|t| (name.to_string(), t)));
        let named = tensors.iter().map(|(n, t)| (n.clone(), t));
        let path = place.path("edited/model.safetensors");
        write_tensors(&path, named, &BTreeMap::new()).expect("written");
        bad_model("edited", words);
        tensors.remove(name);
    };
    edited(None, up, &["no tensor", up, "[48, 32]"]);
    let other = "model.layers.1.mlp.upper.weight";
    edited(Some(good_up.clone()), other, &["no tensor", up]);
    let transposed = good_up.reshape(&[32, 48]).expect("as many");
    edited(Some(transposed), up, &[up, "[32, 48]", "[48, 32]"]);
    let mut values = good_up.to_f64s();
    values[33] = f64::NAN;
    let nan = Tensor::from_f64s(&[48, 32], DType::F64, &values).expect("a tensor");
    edited(Some(nan), up, &[up, "not finite", "element 33"]);

    // configurations
    copy("contradiction");
    let mut config = place.json("contradiction/config.json");
    let mut contradiction = |field: &str, value: Value, words: &[&str]| {
        let before = std::mem::replace(config.pointer_mut(field).expect("there"), value);
        place.write("contradiction/config.json", config.to_string());
        bad_model("contradiction", words);
        *config.pointer_mut(field).expect("there") = before;
    };
    contradiction("/hidden_size", 64.into(), &["shape", "[64, 64]"]);
    contradiction("/num_hidden_layers", 5.into(), &["no tensor"]);
    contradiction("/ttt/num_fast_layers", 2.into(), &["fast_mlp"]);
    contradiction("/sliding_window", 0.into(), &["sliding_window = 0"]);
    contradiction("/head_dim", 15.into(), &["head_dim = 15", "even"]);
    contradiction("/ttt/mini_batch_size", 0.into(), &["mini_batch_size = 0"]);
    contradiction("/vocab_size", "x".into(), &["config.json", "\"x\""]);

    // tokens
    bad_tokens("nowhere", &["nowhere", "cannot be read"]);
    bad_tokens("text.txt", &["text.txt", "not a whole safetensors file"]);
    bad_tokens(
        "oracle/one_fast_block/model.safetensors",
        &["no tensor 'input_ids'"],
    );
    let ids = |ids: &[i64], words: &[&str]| {
        write_ids(&place.path("ids"), ids);
        bad_tokens("ids", words);
    };
    ids(&[1, 2, 64], &["ids: ", "id 64", "position 2", "0..64"]);
    ids(&[-3, 2], &["id -3", "position 0"]);
    ids(&[1], &["1 tokens", "at least 2"]);
    ids(&[], &["0 tokens"]);

    // places to write to
    place.write("file", "in the way");
    let line = format!("grad --model {good} --tokens {good_tokens} --out");
    place.fails(
        &format!("{line} file/mine"),
        &["file/mine", "cannot be written"],
    );
    place.fails(&format!("{line} nowhere/mine"), &["nowhere/mine"]);
    place.fails(&format!("{line} ."), &["cannot be written"]);
    assert_eq!(place.leftovers("."), Vec::<PathBuf>::new());
}

// ---- train

#[test]
fn train_names_what_is_wrong() {
    let place = Place::new();
    let bad = |changes: &[(&str, &str)], words: &[&str]| {
        place.fails(&train(changes), words);
        assert!(!place.path("run").exists(), "{changes:?} made a folder");
    };
    // settings
    let learning_rate: &[&str] = &["learning_rate = 0", "positive"];
    bad(&[("lr", "0")], learning_rate);
    bad(&[("learning-rate", "nan")], &["learning_rate = NaN"]);
    bad(&[("sliding-window", "0")], &["sliding_window = 0", "1"]);
    bad(
        &[("mini-batch-size", "65")],
        &["mini_batch_size = 65", "64"],
    );
    bad(&[("mini-batch-size", "0")], &["mini_batch_size = 0"]);
    bad(&[("batch-size", "0")], &["batch_size = 0"]);
    bad(&[("accumulation", "0")], &["accumulation = 0"]);
    bad(&[("steps", "0")], &["steps = 0"]);
    bad(&[("sequence-length", "0")], &["sequence_length", "0"]);
    bad(&[("hidden-size", "17")], &["hidden_size = 17", "2"]);
    bad(&[("hidden-size", "18")], &["head_dim = 9", "even"]);
    bad(&[("num-attention-heads", "0")], &["num_attention_heads"]);
    bad(
        &[("num-key-value-heads", "3")],
        &["num_key_value_heads = 3"],
    );
    bad(&[("num-hidden-layers", "0")], &["num_hidden_layers = 0"]);
    bad(&[("num-fast-layers", "3")], &["num_fast_layers = 3", "2"]);
    bad(
        &[("inner-learning-rate", "0")],
        &["inner_learning_rate = 0"],
    );
    // numbers that are out of all proportion
    bad(
        &[("seed", "18446744073709551615")],
        &["9223372036854775807"],
    );
    bad(
        &[("steps", "18446744073709551615")],
        &["9223372036854775807"],
    );
    let most = "9223372036854775807";
    bad(&[("hidden-size", most)], &["hidden_size", "at most"]);
    bad(&[("intermediate-size", most)], &["intermediate_size"]);
    bad(&[("num-hidden-layers", most)], &["num_hidden_layers"]);
    bad(&[("num-fast-layers", most)], &["num_fast_layers"]);
    bad(&[("sequence-length", most)], &["sequence_length"]);
    bad(
        &[("batch-size", most), ("accumulation", "4")],
        &["accumulation"],
    );
    // texts
    bad(&[("data", "nowhere.txt")], &["nowhere.txt"]);
    place.write("empty.txt", "");
    bad(&[("data", "empty.txt")], &["empty.txt", "empty"]);
    place.write(
        "short.txt",
        "sixty-four bytes are not enough for sixty-four tokens to predict",
    );
    bad(
        &[("data", "short.txt")],
        &["64", "short", "sequence_length"],
    );
    place.write("binary.txt", [0xff, 0xfe, 0x00, 0x80]);
    bad(&[("data", "binary.txt")], &["binary.txt", "UTF-8"]);
    fs::create_dir(place.path("no_texts")).expect("made");
    bad(&[("data", "no_texts")], &["no_texts", ".txt"]);
    place.write("cut.txt.gz", [0x1f, 0x8b, 8, 0, 0]);
    bad(&[("data", "cut.txt.gz")], &["cut.txt.gz"]);
    bad(&[("tokenizer", "nowhere.json")], &["nowhere.json"]);
    place.write("tokenizer.json", "{}");
    bad(&[("tokenizer", "tokenizer.json")], &["tokenizer.json"]);
    // a model to start from
    bad(&[("init", "nowhere")], &["nowhere/config.json"]);
    bad(
        &[("init", "oracle/one_fast_block")],
        &["vocab_size 64", "256"],
    );
    // configurations
    bad(
        &[("config", "nowhere.toml")],
        &["nowhere.toml", "cannot be read"],
    );
    for (text, words) in [
        (
            "[model]\nhidden_sizes = 32\n",
            ["hidden_sizes", "hidden_size"],
        ),
        ("[training]\nsteps = \"many\"\n", ["many", "u64"]),
        ("[training]\nsteps = -1\n", ["-1", "u64"]),
        ("[trainign]\nsteps = 1\n", ["trainign", "training"]),
        (
            "[model]\narchitecture = \"rnn\"\n",
            ["rnn", "sliding-window"],
        ),
        ("\n\nsteps = = 1\n", ["line 3", ""]),
        ("model = 3\n", ["model.toml", ""]),
    ] {
        place.write("model.toml", text);
        let words = [&["model.toml"], &words[..]].concat();
        bad(&[("config", "model.toml")], &words);
    }
    place.write("model.toml", [0xff]);
    bad(
        &[("config", "model.toml")],
        &["model.toml", "cannot be read"],
    );
    // places to write to
    place.write("file", "in the way");
    bad(&[("run", "file/run")], &["file/run", "cannot be made"]);
    bad(&[("run", "file")], &["file", "cannot be made"]);
    // resuming
    fs::create_dir(place.path("nothing")).expect("made");
    place.fails("train --resume nothing", &["nothing/settings.toml"]);
    place.fails("train --resume nowhere", &["nowhere/settings.toml"]);
}

#[test]
fn a_whole_run() {
    let place = Place::new();
    let out = place.succeeds(&train(&[]));
    assert!(out.contains("bits per byte"), "{out}");
    let loss = |text: &str| {
        let line: Value = serde_json::from_str(text).expect("JSON");
        line["loss"].as_f64().expect("a number")
    };
    let metrics = String::from_utf8(place.read("run/metrics.jsonl")).expect("text");
    let losses: Vec<f64> = metrics.lines().map(loss).collect();
    assert_eq!(place.steps("run"), [1, 2, 3, 4]);
    assert!(losses[3] < losses[0], "{losses:?}");
    for name in ["config.json", "tokenizer.json", "training.json"] {
        place.json(&format!("run/model/{name}"));
    }
    assert_eq!(place.leftovers("run"), Vec::<PathBuf>::new());

    // the report needs nothing but itself
    let html = String::from_utf8(place.read("run/report.html")).expect("text");
    assert!(html.starts_with("<!DOCTYPE html>"));
    let rest = html.replace("http://www.w3.org/2000/svg", "");
    for word in ["http://", "https://", "<script src", "<link", "@import"] {
        assert!(!rest.contains(word), "report.html has {word}");
    }
    let settings = String::from_utf8(place.read("run/settings.toml")).expect("text");
    let settings: toml::Table = settings.parse().expect("TOML");
    assert_eq!(settings["model"]["hidden_size"].as_integer(), Some(16));
    assert_eq!(settings["training"]["steps"].as_integer(), Some(4));

    // reading
    let out = place.succeeds("eval --model run/model heldout.txt --json");
    let report: Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!(report["sequence_length"], 128);
    let bytes = place.read("heldout.txt").len() as u64;
    for ttt in ["on", "off"] {
        let all = &report["all"][ttt];
        assert_eq!(all["tokens"].as_u64(), Some(bytes - 1), "{report}");
        assert!(all["nats_per_token"].as_f64().expect("a number") < 6.0);
    }
    let table = place.succeeds("eval --model run/model heldout.txt --ttt off");
    assert!(table.contains("heldout"), "{table}");

    // writing
    let line = "generate --model run/model It --max-tokens 30 --seed 5";
    let text = place.succeeds(line);
    assert!(text.len() > 1, "{text:?}");
    assert_eq!(place.succeeds(line), text);
    let out = place.succeeds(&format!("{line} --json"));
    let report: Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!(report["tokens"], 30);
    assert_eq!(
        format!("{}\n", report["text"].as_str().expect("text")),
        text
    );

    // what can go wrong with a model there is
    place.fails("eval --model run/model nowhere.txt", &["nowhere.txt"]);
    place.fails("eval --model run/model empty.txt", &["empty.txt"]);
    place.fails("eval --model run/model --dtype bf16", &["dtype = bf16"]);
    place.fails("generate --model run/model --max-tokens 3", &["prompt"]);
    place.fails("generate --model run x", &["run/config.json"]);
    place.fails(&format!("{line} --temperature=-1"), &["temperature", "-1"]);
    let line = train(&[("run", "other"), ("extension-length", "1000000")]);
    place.fails(&line, &["extension_length = 1000000", "--extension 0"]);
    place.fails(&train(&[]), &["run = run", "--resume"]);
    for option in [
        "--steps 9",
        "--hidden-size 32",
        "--data text.txt",
        "--memory 1GB",
    ] {
        let line = format!("train --resume run {option}");
        place.fails(&line, &["resume = run", "own settings"]);
    }
    fs::write(place.path("run/state.safetensors"), "garbage").expect("written");
    place.fails(
        "train --resume run",
        &["run/state.safetensors", "truncated"],
    );
    fs::write(place.path("run/settings.toml"), "garbage").expect("written");
    place.fails("train --resume run", &["run/settings.toml"]);
}

#[test]
fn threads_change_no_bit() {
    let place = Place::new();
    for (run, threads) in [("one", "1"), ("three", "3")] {
        place.succeeds(&train(&[("run", run), ("threads", threads)]));
    }
    let weights = |run: &str| place.read(&format!("{run}/model/model.safetensors"));
    assert!(weights("one") == weights("three"), "other weights");
}

#[test]
fn options_win_over_a_file_over_a_preset() {
    let place = Place::new();
    place.write(
        "mine.toml",
        "[training]\nsteps = 9\nbeta2 = 0.9\n[model]\nrope_theta = 1e4\n",
    );
    place.succeeds(&train(&[("config", "mine.toml"), ("steps", "1")]));
    let settings = String::from_utf8(place.read("run/settings.toml")).expect("text");
    let settings: toml::Table = settings.parse().expect("TOML");
    assert_eq!(settings["training"]["steps"].as_integer(), Some(1));
    assert_eq!(settings["training"]["beta2"].as_float(), Some(0.9));
    assert_eq!(settings["training"]["beta1"].as_float(), Some(0.9));
    assert_eq!(place.json("run/model/config.json")["rope_theta"], 1e4);
}

#[test]
fn baselines_without_heldout_texts() {
    let place = Place::new();
    for architecture in ["sliding-window", "full-attention", "hybrid"] {
        let changes = [("architecture", architecture), ("run", architecture)];
        let line = train(&changes).replace("--heldout heldout.txt", "--heldout");
        let out = place.succeeds(&line);
        // 3 MLPs of 32 in 2 blocks; the two norms of the fast one have no counterpart
        let words = "10928 parameters (ttt-e2e would have 10960)";
        assert!(out.contains(words), "{out}");
        let model = format!("{architecture}/model");
        assert_eq!(
            place.json(&format!("{model}/config.json"))["ttt"],
            Value::Null
        );
        let out = place.succeeds(&format!("eval --model {model} heldout.txt --json"));
        let report: Value = serde_json::from_str(&out).expect("one JSON object");
        assert_eq!(report["all"]["on"], Value::Null);
        let line = format!("eval --model {model} heldout.txt --ttt on");
        place.fails(&line, &["ttt = on", "--ttt off"]);
        let line = format!("generate --model {model} It --max-tokens 40");
        assert_eq!(place.succeeds(&line), place.succeeds(&line));
    }
    let types = &place.json("hybrid/model/config.json")["layer_types"];
    assert_eq!(
        *types,
        serde_json::json!(["sliding_attention", "full_attention"])
    );
}

// ---- bench

#[test]
fn bench_step() {
    let place = Place::new();
    let tokens = "oracle/one_fast_block/tokens.safetensors";
    let line = format!("bench step --model oracle/one_fast_block --tokens {tokens}");
    let out = place.succeeds(&format!("{line} --json --repeat 1"));
    let report: Value = serde_json::from_str(&out).expect("one JSON object");
    for key in [
        "step_s_median",
        "static_step_s_median",
        "step_flops",
        "static_step_flops",
        "peak_rss_bytes",
        "gemm_gflops",
    ] {
        let value = report[key].as_f64();
        assert!(value.is_some_and(|x| x > 0.0), "{key}: {report}");
    }
    let flops = |key: &str| report[key].as_f64().expect("a number");
    assert!(flops("step_flops") > flops("static_step_flops"));
    place.fails(&format!("{line} --repeat 0"), &["repeat = 0"]);
    place.fails(&format!("{line} --dtype f16"), &["dtype = f16"]);
}

const PEERS: &str = "bench peers --repeat 1 --model oracle/one_fast_block \
                     --tokens oracle/one_fast_block/tokens.safetensors";

/// False, with a word on why, where no scripts can run.
fn has_python() -> bool {
    let found = Command::new("python3").arg("--version").output().is_ok();
    if !found {
        println!("skipped: python3 is not on the PATH");
    }
    found
}

#[test]
fn bench_peers_says_who_is_absent() {
    let place = Place::new();
    fs::create_dir(place.path("empty")).expect("made");
    fs::create_dir(place.path("scripts")).expect("made");
    place.write("scripts/torch_ttt.py", "");
    let says = |line: &str, words: &[&str]| {
        let out = place.succeeds(line);
        assert!(out.contains("ours"), "{out}");
        for word in words {
            assert!(out.contains(word), "{word:?} in {out}");
        }
    };
    says(
        PEERS,
        &[
            "pytorch absent: give the folder of torch_ttt.py with --scripts",
            "jax absent: give the folder of ttt_e2e_oracle.py with --scripts",
        ],
    );
    says(
        &format!("{PEERS} --scripts empty"),
        &["pytorch absent: no torch_ttt.py in empty"],
    );
    // a PATH without Python
    let mut command = place.ttt(&format!("{PEERS} --scripts scripts --json"));
    let output = command.env("PATH", place.path("empty")).output();
    let output = output.expect("the program starts");
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    for step in ["training_step", "static_step"] {
        let outcome = &report["peers"][0][step];
        assert_eq!(outcome["outcome"], "absent", "{report}");
        assert_eq!(outcome["reason"], "python3 is not on the PATH", "{report}");
    }
}

#[test]
fn bench_peers_compares() {
    if !has_python() {
        return;
    }
    let place = Place::new();
    for folder in ["a", "b"] {
        fs::create_dir(place.path(folder)).expect("made");
    }
    // checks how it is called; slower than anything, and twice as slow when it trains
    let fake = "import json, os, sys
model, tokens_option, tokens, time_option, time, *rest = sys.argv[1:]
assert (tokens_option, time_option, time) == ('--tokens', '--time', '1'), sys.argv
assert os.path.exists(model + '/config.json') and os.path.exists(tokens)
assert rest in ([], ['--static']), rest
print('loss 1.0')
print(json.dumps({'step_s_median': 500.0 if rest else 1000.0, 'rss_gb': 5000.0}))
";
    place.write("a/torch_ttt.py", fake);
    place.write("b/ttt_e2e_oracle.py", "import no_such_module\n");
    let line = format!("{PEERS} --scripts a --scripts b");
    let out = place.succeeds(&format!("{line} --json"));
    let report: Value = serde_json::from_str(&out).expect("one JSON object");
    let ours = &report["ours"];
    let number = |x: &Value| x.as_f64().unwrap_or_else(|| panic!("{x} in {report}"));
    let [torch, jax] = [&report["peers"][0], &report["peers"][1]];
    for (step, mine, theirs) in [
        ("training_step", "step_s", 1000.0),
        ("static_step", "static_step_s", 500.0),
    ] {
        let mine = number(&ours[mine]);
        assert!(mine > 0.0, "{report}");
        let ratio = number(&torch[step]["ratio"]);
        assert!((ratio * mine / theirs - 1.0).abs() < 1e-6, "{report}");
        assert_eq!(torch[step]["peak_rss_gb"], 5000.0, "{report}");
        assert_eq!(jax[step]["outcome"], "absent", "{report}");
        let reason = jax[step]["reason"].as_str().expect("text");
        assert!(reason.contains("no_such_module"), "{report}");
    }
    for when in ["before", "after"] {
        assert!(number(&ours[when]["step_s_median"]) > 0.0, "{report}");
    }
    assert!(number(&ours["step_drift"]) > 0.0, "{report}");

    // one that fails when it trains, and one that prints something else
    let fails = "import sys\nif '--static' not in sys.argv: raise ValueError('too long')\n";
    place.write("a/torch_ttt.py", format!("{fails}{fake}"));
    place.write("b/ttt_e2e_oracle.py", "print('{}')\n");
    let out = place.succeeds(&line);
    for words in [
        "pytorch, training step, failed: ValueError: too long",
        "500000.0 ms",
        "jax failed: its output has no line of JSON",
        "drifted by",
    ] {
        assert!(out.contains(words), "{words:?} in {out}");
    }
}

#[test]
fn bench_peers_names_what_is_wrong() {
    let place = Place::new();
    place.fails(
        &format!("{PEERS} --scripts nowhere"),
        &["nowhere", "--scripts"],
    );
    let line = "bench peers --tokens t";
    place.fails(&format!("{line} --model m"), &["m", "cannot be read"]);
    place.fails(&format!("{line} --model m --repeat 0"), &["repeat = 0"]);
}

#[test]
fn bench_peers_stops_its_child() {
    if !has_python() {
        return;
    }
    let place = Place::new();
    fs::create_dir(place.path("scripts")).expect("made");
    let sleeper = "import os, time
open('started', 'w').write(str(os.getpid()))
os.rename('started', 'pid')
time.sleep(600)
";
    place.write("scripts/torch_ttt.py", sleeper);
    let mut child = start(&mut place.ttt(&format!("{PEERS} --scripts scripts")));
    wait_until("no peer", || place.path("pid").exists());
    signal(&child, "-INT");
    let status = child.wait().expect("a child");
    assert_eq!(status.code(), Some(INTERRUPTED));
    let pid = String::from_utf8(place.read("pid")).expect("a number");
    let alive = Command::new("kill").args(["-0", &pid]).output();
    assert!(!alive.expect("kill").status.success(), "{pid} still runs");
}

// ---- ends that come too early

/// A run to interrupt: a state after every step.
fn long_run(steps: &'static str) -> String {
    train(&[("steps", steps), ("save-every", "1")])
}

/// What the same run gives when nothing interrupts it: weights, state and how long it took.
fn undisturbed(steps: &'static str) -> (Vec<u8>, Vec<u8>, Duration) {
    let place = Place::new();
    let start = Instant::now();
    place.succeeds(&long_run(steps));
    (place.read(WEIGHTS), place.read(STATE), start.elapsed())
}

#[test]
fn kill() {
    let (weights, state, took) = undisturbed("40");
    let place = Place::new();
    let mut killed = 0;
    let mut seed = 7u64;
    for attempt in 0..12 {
        let begun = place.path("run/settings.toml").exists();
        let line = match begun {
            true => "train --resume run --save-every 1 --threads 2".to_string(),
            false => long_run("40"),
        };
        let mut child = start(&mut place.ttt(&line));
        // a moment in the first half of what a whole run takes, now and then in its very beginning
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
        let share = (seed >> 40) as f64 / (1u64 << 24) as f64;
        std::thread::sleep(took.mul_f64(share * 0.5));
        if attempt == 0 {
            wait_until("no settings were written", || {
                place.path("run/settings.toml").exists()
            });
        }
        let running = child.try_wait().expect("a child").is_none();
        child.kill().expect("killed");
        child.wait().expect("a child");
        killed += usize::from(running);
        if killed == 6 {
            break;
        }
    }
    assert!(killed >= 3, "only {killed} were killed in time");
    place.succeeds("train --resume run --save-every 1");
    assert!(place.read(WEIGHTS) == weights, "other weights");
    assert!(place.read(STATE) == state, "another state");
    assert!(place.steps("run").into_iter().eq(1..=40));
    assert_eq!(place.leftovers("run"), Vec::<PathBuf>::new());
}

#[test]
fn interrupt() {
    let (weights, state, _) = undisturbed("40");
    for name in ["-INT", "-TERM"] {
        let place = Place::new();
        // a save only at the end, or at the signal
        let line = train(&[("steps", "40"), ("save-every", "1000")]);
        let mut command = place.ttt(&line);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = child.spawn().expect("the program starts");
        wait_until("no training", || place.path("run/metrics.jsonl").exists());
        signal(&child, name);
        let output = child.wait_with_output().expect("a child");
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert_eq!(output.status.code(), Some(INTERRUPTED), "{out}\n{err}");
        assert!(out.contains("ttt train --resume run"), "{out}\n{err}");
        assert!(err.contains("saving"), "{out}\n{err}");
        assert!(place.path(STATE).exists());
        assert!(!place.path(WEIGHTS).exists());
        let steps = place.steps("run");
        assert!(!steps.is_empty() && steps.len() < 40, "{steps:?}");
        place.succeeds("train --resume run");
        assert!(place.read(WEIGHTS) == weights, "other weights");
        assert!(place.read(STATE) == state, "another state");
        assert!(place.steps("run").into_iter().eq(1..=40));
    }
}

#[test]
fn disk_full() {
    let (weights, _, _) = undisturbed("40");
    let place = Place::new();
    // files may not grow beyond 40 KiB, and writing more is an error instead of a signal
    let limited = |line: &str| {
        let shell = "trap '' XFSZ; ulimit -f 40; exec \"$@\"";
        let program = env!("CARGO_BIN_EXE_ttt");
        let words = ["-c", shell, "bash", program].into_iter();
        place.command("bash", words.chain(line.split_whitespace()))
    };
    // a good state first
    let child = start(&mut place.ttt(&long_run("40")));
    wait_until("no state", || place.path(STATE).exists());
    signal(&child, "-INT");
    let mut child = child;
    let status = child.wait().expect("a child");
    assert_eq!(status.code(), Some(INTERRUPTED));
    let good = place.read(STATE);
    assert!(good.len() > 80_000 && !place.path(WEIGHTS).exists());

    let line = "train --resume run --save-every 1";
    assert_fails(
        &mut limited(line),
        line,
        &[STATE, "cannot be written", "free some space"],
    );
    assert!(place.read(STATE) == good, "the good state is gone");
    assert_eq!(place.leftovers("run"), Vec::<PathBuf>::new());
    // with space again, the run goes on from there
    place.succeeds(line);
    assert!(place.read(WEIGHTS) == weights, "other weights");

    // from the start: the settings fit, the first state does not
    let line = train(&[("run", "full"), ("save-every", "1")]);
    assert_fails(&mut limited(&line), &line, &["full/state.safetensors"]);
    assert_eq!(place.leftovers("full"), Vec::<PathBuf>::new());
    assert!(!place.path("full/state.safetensors").exists());

    // the other files
    let grad = "grad --model oracle/one_fast_block --tokens oracle/one_fast_block/tokens.safetensors --out mine";
    assert_fails(&mut limited(grad), grad, &["mine", "cannot be written"]);
    assert_eq!(place.leftovers("."), Vec::<PathBuf>::new());
    assert!(!place.path("mine").exists());
}
