//! What the cost model says of a training step of the published 3B model on an A100: an *estimate*, of every launch of the real step.
//!
//! `cargo bench -p benches --bench step`, or `... -- f32`. Models with the 3B's width, heads, MLPs, vocabulary, mini-batch and window but few blocks are
//! trained and read statically on the interpreted driver, where a few blocks of each launch run and stand for the rest. A step costs
//! C + P (L - S) + F (S - 1) for L blocks of which S are fast: three models give the cost P of a plain block, F of a fast one, and C of the
//! first fast block, the embedding and the loss.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use cuda_interpreted::links;
use model::gradients::sequence_gradient;
use model::{Config, Model, Reading, Weights};
use ops::{DType, Device, Tensor};

/// Tokens of the sequence.
const T: u32 = 8192;
/// L and S of the published model.
const PUBLISHED: [f64; 2] = [32.0, 8.0];
/// L and S of those that run.
const SMALL: [[usize; 2]; 3] = [[2, 1], [3, 1], [3, 2]];
/// Blocks of a launch that run, about.
const BLOCKS: &str = "16";
/// What a process of this program is to do.
const TASK: &str = "BENCH_STEP";

/// Seconds by kernel.
type Times = BTreeMap<String, f64>;

fn main() {
    if let Ok(task) = std::env::var(TASK) {
        return child(&task);
    }
    let dtype = match std::env::args().any(|arg| arg == "f32") {
        true => "f32",
        false => "bf16",
    };
    if kernels::compiler().is_none() {
        return;
    }
    let steps = [true, false].map(|learn| whole(SMALL.map(|size| times(size, learn, dtype))));
    let totals = steps.each_ref().map(|times| times.values().sum::<f64>());
    println!(
        "\nestimates by the cost model, A100, {dtype}: one sequence of {T} tokens, 3B parameters, nothing computed again\n"
    );
    println!(
        "{:36} {:>12} {:>7} {:>12} {:>7}",
        "kernel", "training", "", "static", ""
    );
    let mut names: Vec<&String> = steps[0].keys().collect();
    let time = |step: usize, name: &String| steps[step].get(name).copied().unwrap_or(0.0);
    names.sort_by(|a, b| time(0, b).total_cmp(&time(0, a)));
    for name in names {
        let [a, b] = [0, 1].map(|step| time(step, name));
        if a.max(b) < 0.002 * totals[0] {
            continue;
        }
        let share = |step: usize, x: f64| 100.0 * x / totals[step];
        println!(
            "{name:36} {:9.1} ms {:5.1} % {:9.1} ms {:5.1} %",
            1e3 * a,
            share(0, a),
            1e3 * b,
            share(1, b)
        );
    }
    let [training, fixed] = totals;
    println!(
        "{:36} {:9.1} ms {:7} {:9.1} ms",
        "together",
        1e3 * training,
        "",
        1e3 * fixed
    );
    println!("training step over static step: {:.2}", training / fixed);
}

/// The published model's times from those of the small ones.
fn whole([one, plain, fast]: [Times; 3]) -> Times {
    let [l, s] = PUBLISHED;
    let names = [&one, &plain, &fast].into_iter().flat_map(Times::keys);
    let names: std::collections::BTreeSet<&String> = names.collect();
    let of = |name: &String| {
        let [one, plain, fast] = [&one, &plain, &fast].map(|x| x.get(name).copied().unwrap_or(0.0));
        let (p, f) = (plain - one, fast - one);
        one - p + p * (l - s) + f * (s - 1.0)
    };
    names
        .into_iter()
        .map(|name| (name.clone(), of(name)))
        .collect()
}

/// Runs one small model in a process that finds the interpreted driver.
fn times([l, s]: [usize; 2], learn: bool, dtype: &str) -> Times {
    let program = std::env::current_exe().expect("a path");
    // target/PROFILE/deps/PROGRAM
    let target = program.ancestors().nth(3).expect("a target folder");
    let folder = target.join("interpreted");
    links::make(&folder, &program).unwrap_or_else(|error| panic!("{error}"));
    let mut path = links::search_path(&folder);
    path.push(":");
    path.push(target.join("nvrtc/nvidia/cuda_nvrtc/lib"));
    let launches: PathBuf = target.join(format!("tmp/launches-{l}-{s}-{learn}-{dtype}.jsonl"));
    let _ = std::fs::create_dir_all(target.join("tmp"));
    let _ = std::fs::remove_file(&launches);
    let status = Command::new(&program)
        .env("LD_LIBRARY_PATH", path)
        .env("XDG_CACHE_HOME", target.join("kernels"))
        .env("TTT_INTERPRETED_DEVICE", "A100")
        .env("TTT_INTERPRETED_MEMORY", "4096G")
        .env("TTT_INTERPRETED_SAMPLE", BLOCKS)
        .env("TTT_INTERPRETED_LAUNCHES_FILE", &launches)
        .env(
            TASK,
            format!("{l} {s} {learn} {dtype} {}", launches.display()),
        )
        .status();
    assert!(status.expect("a process").success(), "{l} blocks, {s} fast");
    let mut all = Times::new();
    let mark = std::fs::read_to_string(mark(&launches)).expect("a number of lines");
    let mark: usize = mark.trim().parse().expect("a number");
    for line in lines(&launches).iter().skip(mark) {
        let line: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        let name = line["kernel"].as_str().expect("a name").to_string();
        *all.entry(name).or_default() += line["time"].as_f64().expect("a time") / 1e9;
    }
    let total: f64 = all.values().sum();
    let step = if learn { "training" } else { "static" };
    println!("{l} blocks, {s} fast: {step} step {:.1} ms", 1e3 * total);
    all
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("a file of launches");
    text.lines().map(str::to_string).collect()
}

/// The file that says how many launches came before the step.
fn mark(launches: &Path) -> PathBuf {
    launches.with_extension("before")
}

/// One gradient of one sequence on the device.
fn child(task: &str) {
    let words: Vec<&str> = task.splitn(5, ' ').collect();
    let &[l, s, learn, dtype, launches] = &words[..] else {
        panic!("{task}")
    };
    let number = |word: &str| word.parse::<usize>().expect("a number");
    let config: Config = serde_json::from_value(serde_json::json!({
        "vocab_size": 128_256, "hidden_size": 2560, "intermediate_size": 5632, "num_hidden_layers": number(l),
        "num_attention_heads": 32, "num_key_value_heads": 32, "sliding_window": 8192,
        "ttt": {"mini_batch_size": 1024, "num_fast_layers": number(s), "inner_learning_rate": 1.0, "inner_clip_norm": 1.0},
    }))
    .expect("a configuration");
    let seed = Tensor::zeros(&[1], DType::F32)
        .to(Device::Cuda(0))
        .expect("a device");
    // no block of a launch that does not run touches memory, so weights of any size cost nothing
    let weights = Weights::build(&config, |_, shape, _| Ok(Some(seed.full_like(shape, 0.0)?)));
    let model = Model {
        config,
        weights: weights.expect("weights"),
        compute: DType::F32,
    };
    let dtype: DType = dtype.parse().expect("a dtype");
    let model = model.computing_in(dtype).expect("a type of the device");
    let ids: Vec<u32> = (0..=T).map(|i| i * 7919 % 128_256).collect();
    seed.item().expect("all work before is done");
    let launches = Path::new(launches);
    std::fs::write(mark(launches), lines(launches).len().to_string()).expect("a file");
    let reading = Reading {
        learn: learn == "true",
        ..Reading::default()
    };
    let result = sequence_gradient(&model, &ids, &reading).expect("a gradient");
    result.loss.item().expect("a loss");
}
