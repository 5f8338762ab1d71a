//! What is measured side by side, and the pages that show it.
#![cfg(unix)]

mod browser;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use browser::Browser;
use resvg::tiny_skia::Pixmap;
use serde_json::Value;
use tempfile::TempDir;

/// A small model and a short training.
const TINY: &str = "--hidden-size 16 --num-attention-heads 2 --num-key-value-heads 2 --intermediate-size 32 \
    --num-hidden-layers 2 --num-fast-layers 1 --mini-batch-size 16 --sliding-window 16 --threads 2";
const SHORT: &str = "--tokenizer bytes --data text.txt --heldout heldout.txt --steps 4 --batch-size 2 \
    --sequence-length 64 --extension 0";

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let line = |i: usize| format!("Line {i} of {}: it was the best of times.\n", i * i + 7);
        let text: String = (0..120).map(line).collect();
        fs::write(folder.path().join("text.txt"), text).expect("written");
        let text: String = (200..260).map(line).collect();
        fs::write(folder.path().join("heldout.txt"), text).expect("written");
        Place(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).expect("a file")).expect("JSON")
    }

    fn run(&self, line: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_ttt"))
            .args(line.split_whitespace())
            .current_dir(self.0.path())
            .env("XDG_CACHE_HOME", self.path("cache"))
            .stdin(Stdio::null())
            .output()
            .expect("the program starts")
    }

    #[track_caller]
    fn succeeds(&self, line: &str) -> String {
        let output = self.run(line);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ttt {line}\n{stderr}");
        String::from_utf8(output.stdout).expect("text")
    }

    #[track_caller]
    fn fails(&self, line: &str, words: &[&str]) {
        let output = self.run(line);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "ttt {line}\n{stderr}");
        assert!(!stderr.contains("panicked"), "ttt {line}\n{stderr}");
        for word in words {
            assert!(stderr.contains(word), "ttt {line}: {word:?} in {stderr:?}");
        }
    }
}

/// A picture with more than a few colours.
fn is_a_picture(path: &Path) {
    let picture = Pixmap::load_png(path).expect("a picture");
    let colours: std::collections::HashSet<_> = picture.data().chunks(4).collect();
    assert!(colours.len() > 20, "{}", path.display());
}

/// The page needs nothing but itself.
fn stands_alone(path: &Path) {
    let html = fs::read_to_string(path).expect("a page");
    assert!(html.starts_with("<!DOCTYPE html>"));
    for word in ["http://", "https://", "<script", "<link", "@import", "NaN"] {
        assert!(!html.contains(word), "{} has {word}", path.display());
    }
    assert!(
        html.contains("<title>128 tokens"),
        "values under the pointer"
    );
}

#[test]
fn compared_and_looked_at() {
    let place = Place::new();
    // training, evaluation, latency
    let line = format!(
        "compare {TINY} {SHORT} --run compared --seeds 2 --lengths 32,128,512 --contexts 128,256,512 \
         --ablate mini-batch-size=8"
    );
    let out = place.succeeds(&line);
    for words in [
        "2 trainings of ttt-e2e (10960 parameters)",
        "512 tokens, ",
        "about",
        "minus full-attention",
    ] {
        assert!(out.contains(words), "{words:?} in {out}");
    }
    let results = place.json("compared/results.json");
    let names: Vec<&str> = (results["models"].as_array().expect("models").iter())
        .map(|m| m["name"].as_str().expect("a name"))
        .collect();
    let expected = [
        "ttt-e2e",
        "full-attention",
        "sliding-window",
        "hybrid",
        "ttt-e2e mini-batch-size=8",
    ];
    assert_eq!(names, expected);
    assert_eq!(results["reference"], 1);
    for model in results["models"].as_array().expect("models") {
        let runs = model["runs"].as_array().expect("runs");
        assert_eq!(runs.len(), 2);
        for run in runs {
            for nats in run["nats_per_token"].as_array().expect("losses") {
                assert!((2.0..7.0).contains(&nats.as_f64().expect("a number")));
            }
            let ends = run["by_position"].as_array().expect("positions");
            assert_eq!(ends.last().expect("one")["to"], 512);
        }
        assert_ne!(runs[0], runs[1], "seeds differ");
    }
    rows_are_sound(&results["latency"], &[128, 256, 512]);
    // nothing is trained twice, and the same models give the same losses
    let again = place.succeeds(&line);
    assert_eq!(again.matches("trained already").count(), 10);
    assert_eq!(
        place.json("compared/results.json")["models"],
        results["models"]
    );
    place.fails(
        &line.replace("--steps 4", "--steps 5"),
        &["other settings", "--run"],
    );

    // models that are trained already
    let trained = "compared/models/full-attention_seed0/model compared/models/ttt-e2e_seed0/model";
    let line = format!(
        "--models {trained} --heldout heldout.txt --lengths 32,128,512 --no-latency --run again"
    );
    place.succeeds(&format!("compare {line}"));
    let again = place.json("again/results.json");
    for (new, old) in [(0, 1), (1, 0)] {
        assert_eq!(
            again["models"][new]["runs"][0],
            results["models"][old]["runs"][0]
        );
    }

    // something hidden
    place.succeeds(&format!(
        "eval needle --models {trained} --texts text.txt heldout.txt --contexts 128,256 --trials 2 --out needle"
    ));
    let rows = place.json("needle/needle.json");
    let rows = rows["rows"].as_array().expect("rows");
    // full attention reads once, TTT-E2E once and twice, at two contexts and three depths
    assert_eq!(rows.len(), 18);
    assert!(
        rows.iter()
            .all(|r| r["gain"].as_f64().is_some_and(f64::is_finite))
    );

    // reading deep in a text
    place.succeeds(&format!("bench read {TINY} --contexts 128,256,512,1024 --rounds 2 --prefill 32 --decode 8 --cache-memory 250KB --out read"));
    let read = place.json("read/read.json");
    rows_are_sound(&read["rows"], &[128, 256, 512, 1024]);
    let measured = |model: &str| -> Vec<bool> {
        let rows = read["rows"].as_array().expect("rows").iter();
        rows.filter(|r| r["model"] == model)
            .map(|r| r["measured"] == true)
            .collect()
    };
    assert_eq!(measured("ttt-e2e"), [true; 4]);
    // 256 bytes a token, and twice as much again to move them: 250 KB do for 256 tokens
    assert_eq!(measured("full-attention"), [true, true, false, false]);
    let csv = fs::read_to_string(place.path("read/read.csv")).expect("a file");
    assert_eq!(csv.lines().count(), 17);

    for picture in [
        "compared/loss.png",
        "compared/latency.png",
        "needle/needle.png",
        "read/read.png",
    ] {
        is_a_picture(&place.path(picture));
    }
    let pages = [
        "compared/report.html",
        "again/report.html",
        "needle/needle.html",
        "read/read.html",
    ];
    for page in pages {
        stands_alone(&place.path(page));
    }
    let Some(browser) = Browser::find() else {
        return;
    };
    for page in pages {
        browser.look(&place.path(page));
    }
    place.succeeds(&format!(
        "train {TINY} {SHORT} --heldout-length 64 --run run"
    ));
    browser.look(&place.path("run/report.html"));
}

/// Constant states stay constant, caches grow, and every number is one.
fn rows_are_sound(rows: &Value, contexts: &[u64]) {
    let rows = rows.as_array().expect("rows");
    for own in rows.chunks(contexts.len()) {
        let of = |name: &str| -> Vec<f64> {
            own.iter().map(|r| r[name].as_f64().expect(name)).collect()
        };
        let found: Vec<u64> = own
            .iter()
            .map(|r| r["context"].as_u64().expect("a number"))
            .collect();
        assert_eq!(found, contexts);
        for name in ["prefill_s_per_1k", "decode_ms_per_token", "bandwidth_share"] {
            assert!(of(name).iter().all(|x| x.is_finite()), "{name}: {own:?}");
        }
        let states = of("state_bytes");
        let model = own[0]["model"].as_str().expect("a name");
        let grows = ["full-attention", "hybrid"].contains(&model);
        let constant = states.iter().all(|s| *s == states[0]);
        assert_eq!(constant, !grows, "{model}: {states:?}");
    }
}

#[test]
fn mistakes_are_errors_that_say_what_to_do() {
    let place = Place::new();
    let compare = |options: &str, words: &[&str]| {
        place.fails(
            &format!("compare {TINY} {SHORT} --run run {options}"),
            words,
        );
        assert!(!place.path("run").exists(), "{options}");
    };
    compare("--seeds 0", &["seeds = 0"]);
    compare("--lengths 64,32", &["lengths = 64,32", "rise"]);
    compare("--ablate nothing=1", &["ablate", "'nothing' is no setting"]);
    compare(
        "--ablate mini-batch-size",
        &["ablate", "mini-batch-size=16,64"],
    );
    compare("--ablate mini-batch-size=0", &["mini_batch_size = 0"]);
    compare("--ablate mini-batch-size=x", &["'x' is not a number"]);
    compare("--contexts 1", &["contexts = 1"]);
    compare("--models nowhere", &["nowhere"]);
    let line =
        format!("compare {TINY} {SHORT} --run run").replace("--heldout heldout.txt", "--heldout");
    place.fails(&line, &["heldout", "name texts"]);
    let read =
        |options: &str, words: &[&str]| place.fails(&format!("bench read {TINY} {options}"), words);
    read("--contexts 64,32", &["contexts = 64,32", "rise"]);
    read("--rounds 0", &["rounds = 0"]);
    read("--limit nan", &["limit = NaN"]);
    read(
        "--cache-memory 1KB --contexts 128 --rounds 1",
        &["cache_memory", "full-attention"],
    );
    place.fails("eval needle --models nowhere", &["nowhere"]);
    for (options, words) in [
        ("--trials 0", "trials = 0"),
        ("--readings 2", "readings = 2"),
        ("--depths 2", "depths = 2"),
    ] {
        place.fails(&format!("eval needle --models nowhere {options}"), &[words]);
    }
}
