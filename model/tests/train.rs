//! Training: schedules, resuming bit for bit, the same bits on any number of threads, and errors that say what is wrong.

use std::fs;
use std::path::Path;

use model::files::{Stored, read_tensors, write_tensors};
use model::train::{Schedule, StepMetrics, Trainer};
use model::{Config, Error, Model, Result};
use ops::{DType, Tensor};
use tempfile::TempDir;

const TEXT: &str = "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my \
    purse, and nothing particular to interest me on shore, I thought I would sail about a little and see the watery part of \
    the world. It is a way I have of driving off the spleen and regulating the circulation.";
const T: usize = 32;

fn config() -> Config {
    serde_json::from_str(
        r#"{"vocab_size": 256, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
            "num_attention_heads": 2, "sliding_window": 12, "tie_word_embeddings": true, "ttt": {"mini_batch_size": 8,
            "num_fast_layers": 1, "inner_learning_rate": 1.0, "inner_clip_norm": 1.0}}"#,
    )
    .expect("a configuration")
}

fn schedule() -> Schedule {
    Schedule {
        steps: 6,
        batch_size: 2,
        accumulation: 1,
        sequence_length: T,
        extension: 0.0,
        extension_length: 0,
        learning_rate: 1e-2,
        min_learning_rate: 1e-4,
        warmup: 0.3,
        weight_decay: 0.1,
        beta1: 0.9,
        beta2: 0.95,
        clip_norm: 1.0,
        inner_warmup_start: 0.1,
        inner_warmup: 0.5,
        first_order: false,
        memory: None,
        seed: 0,
    }
}

fn trainer_of(config: &Config, schedule: Schedule, threads: usize) -> Result<Trainer> {
    Trainer::new(Model::random(config, 5, DType::F32)?, schedule, threads)
}

fn trainer(schedule: Schedule, threads: usize) -> Trainer {
    trainer_of(&config(), schedule, threads).expect("a trainer")
}

/// Takes `steps` steps, each on other pieces of the text.
fn run(trainer: &mut Trainer, steps: usize) -> Result<Vec<StepMetrics>> {
    let tokens: Vec<u32> = TEXT.bytes().map(u32::from).collect();
    let count = trainer.schedule().sequences_per_step();
    let mut metrics = vec![];
    for _ in 0..steps {
        let starts = (0..count).map(|i| (trainer.step as usize * count + i) * 37);
        let sequences: Vec<&[u32]> = starts
            .map(|start| start % (tokens.len() - T - 1))
            .map(|start| &tokens[start..start + T + 1])
            .collect();
        metrics.push(trainer.step(&sequences)?);
    }
    Ok(metrics)
}

/// Every weight's bits, by name.
fn bits(trainer: &Trainer) -> Vec<(String, Vec<u64>)> {
    let bits = |t: &Tensor| t.to_f64s().into_iter().map(f64::to_bits).collect();
    let named = trainer.model.weights.named();
    named.into_iter().map(|(n, t)| (n, bits(t))).collect()
}

#[track_caller]
fn assert_says<T>(result: Result<T>, words: &[&str]) {
    let message = result.err().expect("an error").to_string();
    for word in words {
        assert!(message.contains(word), "{message:?} lacks {word:?}");
    }
    assert!(!message.contains('\n'), "{message:?} has several lines");
}

/// The state of a trainer after three steps, in a file.
fn saved(folder: &TempDir) -> Result<std::path::PathBuf> {
    let path = folder.path().join("state.safetensors");
    let mut first = trainer(schedule(), 1);
    run(&mut first, 3)?;
    first.save(&path)?;
    Ok(path)
}

// ---- results

#[test]
fn a_resumed_run_has_the_same_bits() -> Result<()> {
    let folder = TempDir::new().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let kinds = [
        schedule(),
        Schedule {
            memory: Some(model::memory::Bytes(0)),
            accumulation: 2,
            ..schedule()
        },
        Schedule {
            first_order: true,
            clip_norm: 0.0,
            ..schedule()
        },
    ];
    for schedule in kinds {
        let mut straight = trainer(schedule.clone(), 2);
        let metrics = run(&mut straight, 6)?;
        straight.save(&path("straight"))?;

        let mut first = trainer(schedule.clone(), 2);
        let mut parts = run(&mut first, 3)?;
        first.save(&path("state"))?;
        let mut second = Trainer::new(
            // restoring replaces the weights, whatever they were
            Model::random(&config(), 77, DType::F32)?,
            schedule,
            1,
        )?;
        second.restore(&path("state"))?;
        assert_eq!((second.step, bits(&second)), (3, bits(&first)));
        parts.extend(run(&mut second, 3)?);
        second.save(&path("resumed"))?;

        assert_eq!(parts, metrics);
        assert_eq!(bits(&second), bits(&straight));
        let file = |name: &str| fs::read(path(name)).expect("a file");
        assert!(file("straight") == file("resumed"), "the files differ");
    }
    Ok(())
}

#[test]
fn threads_change_no_bit() -> Result<()> {
    let results = [1, 2, 3].map(|threads| {
        let schedule = Schedule {
            batch_size: 3,
            ..schedule()
        };
        let mut trainer = trainer(schedule, threads);
        let metrics = run(&mut trainer, 3).expect("three steps");
        (metrics, bits(&trainer))
    });
    assert!(
        results.iter().all(|r| *r == results[0]),
        "threads change results"
    );
    Ok(())
}

#[test]
fn accumulated_batches_equal_one_batch() -> Result<()> {
    let run_of = |batch_size, accumulation| {
        let schedule = Schedule {
            batch_size,
            accumulation,
            ..schedule()
        };
        let mut trainer = trainer(schedule, 2);
        Ok::<_, Error>((run(&mut trainer, 3)?, bits(&trainer)))
    };
    let whole = run_of(2, 1)?;
    assert_eq!(run_of(1, 2)?, whole);
    assert_ne!(run_of(1, 1)?, whole);
    Ok(())
}

#[test]
fn a_repeated_sequence_is_learned() -> Result<()> {
    let tokens: Vec<u32> = TEXT.bytes().take(T + 1).map(u32::from).collect();
    let fixed = Config {
        ttt: None,
        ..config()
    };
    for config in [config(), fixed] {
        let schedule = Schedule {
            steps: 40,
            batch_size: 1,
            ..schedule()
        };
        let mut trainer = trainer_of(&config, schedule, 1)?;
        let mut losses = vec![];
        for _ in 0..40 {
            losses.push(trainer.step(&[&tokens])?.loss);
        }
        // near log 256 = 5.5 at first
        assert!((losses[0] - 256f64.ln()).abs() < 0.5, "{losses:?}");
        assert!(losses[39] < losses[0] - 2.0, "{losses:?}");
    }
    Ok(())
}

#[test]
fn metrics_say_what_a_step_did() -> Result<()> {
    let mut trainer = trainer(schedule(), 1);
    for (i, metrics) in run(&mut trainer, 6)?.iter().enumerate() {
        assert_eq!(metrics.step, i as u64 + 1);
        assert_eq!(metrics.learning_rate, schedule().learning_rate_at(i as u64));
        assert!(metrics.loss > 0.0 && metrics.gradient_norm > 0.0);
    }
    Ok(())
}

// ---- schedules

#[test]
fn the_learning_rate_warms_up_and_falls_like_a_cosine() {
    let s = Schedule {
        steps: 100,
        learning_rate: 2e-3,
        min_learning_rate: 1e-5,
        warmup: 0.1,
        ..schedule()
    };
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-15, "{a} is not {b}");
    for step in 0..10 {
        close(s.learning_rate_at(step), 2e-3 * (step + 1) as f64 / 10.0);
    }
    close(s.learning_rate_at(10), 2e-3);
    close(s.learning_rate_at(55), (2e-3 + 1e-5) / 2.0);
    close(s.learning_rate_at(100), 1e-5);
    close(s.learning_rate_at(1000), 1e-5);
    for step in 10..100 {
        assert!(s.learning_rate_at(step + 1) < s.learning_rate_at(step));
    }
    let cold = Schedule { warmup: 0.0, ..s };
    close(cold.learning_rate_at(0), 2e-3);
    let only_warm = Schedule {
        warmup: 1.0,
        ..cold
    };
    close(only_warm.learning_rate_at(99), 2e-3);
}

#[test]
fn the_inner_learning_rate_warms_up() {
    let s = Schedule {
        steps: 100,
        inner_warmup: 0.2,
        inner_warmup_start: 0.1,
        ..schedule()
    };
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-15, "{a} is not {b}");
    close(s.inner_lr_scale_at(0), 0.1);
    close(s.inner_lr_scale_at(10), 0.55);
    close(s.inner_lr_scale_at(20), 1.0);
    close(s.inner_lr_scale_at(99), 1.0);
    let none = Schedule {
        inner_warmup: 0.0,
        ..s
    };
    close(none.inner_lr_scale_at(0), 1.0);
}

// ---- errors

#[test]
fn settings_that_cannot_work() {
    type Change = fn(&mut Schedule);
    let cases: [(Change, &[&str]); 17] = [
        (|s| s.steps = 0, &["steps", "0", "at least 1"]),
        (|s| s.batch_size = 0, &["batch_size", "0", "at least 1"]),
        (|s| s.accumulation = 0, &["accumulation", "0", "at least 1"]),
        (|s| s.sequence_length = 0, &["sequence_length", "at least"]),
        (|s| s.learning_rate = 0.0, &["learning_rate", "positive"]),
        (|s| s.learning_rate = -1.0, &["learning_rate", "-1"]),
        (|s| s.learning_rate = f64::NAN, &["learning_rate", "NaN"]),
        (|s| s.learning_rate = f64::INFINITY, &["learning_rate"]),
        (|s| s.min_learning_rate = 1.0, &["min_learning_rate", "1"]),
        (|s| s.min_learning_rate = f64::NAN, &["min_learning_rate"]),
        (|s| s.warmup = 1.5, &["warmup", "1.5", "between 0 and 1"]),
        (|s| s.inner_warmup = f64::NAN, &["inner_warmup", "NaN"]),
        (|s| s.inner_warmup_start = -0.1, &["inner_warmup_start"]),
        (|s| s.beta1 = 1.0, &["beta1", "below 1"]),
        (|s| s.beta2 = f64::NAN, &["beta2", "NaN"]),
        (|s| s.weight_decay = -1.0, &["weight_decay", ">= 0"]),
        (|s| s.clip_norm = f64::NAN, &["clip_norm", "NaN"]),
    ];
    for (change, words) in cases {
        let mut schedule = schedule();
        change(&mut schedule);
        assert_says(trainer_of(&config(), schedule, 1), words);
    }
}

#[test]
fn a_mini_batch_larger_than_the_sequence() -> Result<()> {
    let mut config = config();
    config.ttt.as_mut().expect("a fast model").mini_batch_size = T + 1;
    let words = ["mini_batch_size = 33", "sequence_length = 32", "smaller"];
    assert_says(trainer_of(&config, schedule(), 1), &words);
    // where nothing learns while reading, it does not matter
    config.ttt.as_mut().expect("a fast model").num_fast_layers = 0;
    trainer_of(&config, schedule(), 1)?;
    Ok(())
}

#[test]
fn sequences_that_cannot_be_read() {
    let mut trainer = trainer(schedule(), 2);
    let before = bits(&trainer);
    assert_says(trainer.step(&[]), &["batch_size", "at least 1"]);
    assert_says(trainer.step(&[&[]]), &["two tokens"]);
    assert_says(trainer.step(&[&[1]]), &["two tokens"]);
    assert_says(trainer.step(&[&[1, 256, 1]]), &["256", "position 1"]);
    assert_says(trainer.step(&[&[1, 2, 256]]), &["256"]);
    assert_eq!((trainer.step, bits(&trainer)), (0, before));
}

#[test]
fn a_loss_that_is_not_finite() -> Result<()> {
    for value in [f64::NAN, f64::INFINITY, 1e38] {
        let mut trainer = trainer(schedule(), 1);
        run(&mut trainer, 1)?;
        let shape = trainer.model.weights.norm.shape().to_vec();
        trainer.model.weights.norm = Tensor::from_f64s(&shape, DType::F32, &[value; 16])?;
        let before = bits(&trainer);
        let error = run(&mut trainer, 1).expect_err("an error");
        assert!(matches!(error, Error::NotFinite { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.contains("step 2"), "{message}");
        assert!(message.contains("learning rate"), "{message}");
        // the step was not taken
        assert_eq!((trainer.step, bits(&trainer)), (1, before));
    }
    Ok(())
}

/// Restoring fails with the file's name and `words`, and changes nothing.
#[track_caller]
fn assert_no_state(trainer: &mut Trainer, path: &Path, words: &[&str]) {
    let before = (trainer.step, bits(trainer));
    let name = path.file_name().expect("a name").to_string_lossy();
    assert_says(trainer.restore(path), &[&[name.as_ref()], words].concat());
    assert_eq!((trainer.step, bits(trainer)), before);
}

#[test]
fn a_state_that_is_cut_short() -> Result<()> {
    let folder = TempDir::new().expect("a folder");
    let whole = fs::read(saved(&folder)?).expect("a file");
    let mut trainer = trainer(schedule(), 1);
    let path = folder.path().join("cut");
    assert_no_state(&mut trainer, &path, &["cannot be read"]);
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().expect("eight")) as usize;
    let marks = [
        0,
        1,
        7,
        8,
        9,
        header - 1,
        header,
        header + 1,
        whole.len() - 1,
    ];
    let even = (1..20).map(|i| whole.len() * i / 20);
    for length in marks.into_iter().chain(even) {
        fs::write(&path, &whole[..length]).expect("written");
        assert_no_state(&mut trainer, &path, &["truncated"]);
    }
    Ok(())
}

#[test]
fn a_state_with_a_bit_flipped_in_its_header() -> Result<()> {
    let folder = TempDir::new().expect("a folder");
    let mut bytes = fs::read(saved(&folder)?).expect("a file");
    let mut trainer = trainer(schedule(), 1);
    let before = (trainer.step, bits(&trainer));
    let path = folder.path().join("flipped");
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
    // every 29th byte: all of the lengths, names, types, shapes and ranges come up
    for i in (0..8).chain((8..header).step_by(29)) {
        for bit in [0, 1 + i % 7] {
            bytes[i] ^= 1 << bit;
            fs::write(&path, &bytes).expect("written");
            let what = format!("bit {bit} of byte {i}");
            let error = trainer.restore(&path).expect_err(&what).to_string();
            assert!(error.contains("flipped"), "{what}: {error}");
            bytes[i] ^= 1 << bit;
        }
    }
    assert_eq!((trainer.step, bits(&trainer)), before);
    Ok(())
}

#[test]
fn a_state_of_another_model() -> Result<()> {
    let folder = TempDir::new().expect("a folder");
    let path = saved(&folder)?;
    let with = |change: fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        trainer_of(&config, schedule(), 1).expect("a trainer")
    };
    type Case = (fn(&mut Config), &'static [&'static str]);
    let cases: [Case; 5] = [
        (|c| c.hidden_size = 32, &["shape", "[256, 16]", "[256, 32]"]),
        (|c| c.num_hidden_layers = 3, &["no tensor"]),
        (|c| c.num_hidden_layers = 1, &["no tensor"]),
        (|c| c.ttt = None, &["fast_mlp", "no place"]),
        (|c| c.tie_word_embeddings = false, &["lm_head.weight"]),
    ];
    for (change, words) in cases {
        assert_no_state(&mut with(change), &path, words);
    }
    // a model without one of the norms
    let mut bare = trainer(schedule(), 1);
    bare.model.weights.blocks[0].attention.norm = None;
    assert_no_state(&mut bare, &path, &["input_layernorm"]);
    // weights alone
    let mut trainer = trainer(schedule(), 1);
    trainer.model.save(&folder.path().join("model"))?;
    let weights = folder.path().join("model/model.safetensors");
    assert_no_state(&mut trainer, &weights, &["step"]);
    Ok(())
}

#[test]
fn a_state_with_wrong_tensors() -> Result<()> {
    let folder = TempDir::new().expect("a folder");
    let whole = read_tensors(&saved(&folder)?)?;
    let mut trainer = trainer(schedule(), 1);
    let path = folder.path().join("edited");
    let mut edited = |name: &str, tensor: Option<Tensor>, words: &[&str]| -> Result<()> {
        let mut floats: Vec<(String, Tensor)> = vec![];
        for (n, t) in &whole {
            match t {
                Stored::Float(t) if n != name => floats.push((n.clone(), t.clone())),
                _ => {}
            }
        }
        floats.extend(tensor.map(|t| (name.to_string(), t)));
        let tensors = floats.iter().map(|(n, t)| (n.clone(), t));
        write_tensors(&path, tensors, &Default::default())?;
        assert_no_state(&mut trainer, &path, words);
        Ok(())
    };
    let scalar = |x: f64| Tensor::from_f64s(&[1], DType::F64, &[x]).map(Some);
    edited("step", None, &["step"])?;
    edited("step", scalar(f64::NAN)?, &["step", "NaN"])?;
    edited("step", scalar(-1.0)?, &["step", "-1"])?;
    edited("step", scalar(2.5)?, &["step", "2.5"])?;
    let two = Tensor::from_f64s(&[2], DType::F64, &[1.0, 2.0])?;
    edited("step", Some(two), &["step"])?;
    // norms may be absent from a model, but not from one part of a state alone
    let norm = "model.layers.0.input_layernorm.weight";
    for kind in ["w", "m", "v"] {
        edited(&format!("{kind}.{norm}"), None, &[norm])?;
        let bad = Tensor::from_f64s(&[16], DType::F32, &[f64::NAN; 16])?;
        edited(&format!("{kind}.{norm}"), Some(bad), &["finite", norm])?;
        let up = "model.layers.1.mlp.up_proj.weight";
        edited(&format!("{kind}.{up}"), None, &["no tensor", up])?;
    }
    Ok(())
}

#[test]
fn a_state_that_cannot_be_written() -> Result<()> {
    let folder = TempDir::new().expect("a folder");
    let trainer = trainer(schedule(), 1);
    fs::write(folder.path().join("file"), "in the way").expect("written");
    fs::create_dir(folder.path().join("folder")).expect("made");
    for name in ["file/state", "folder", "nowhere/state"] {
        let path = folder.path().join(name);
        assert_says(trainer.save(&path), &[name, "cannot be written"]);
    }
    let left: Vec<_> = fs::read_dir(folder.path()).expect("a folder").collect();
    assert_eq!(left.len(), 2, "{left:?}");
    Ok(())
}

/// Steps count by the tokens they read: the rates fall as far in one long step as in the short ones that read as much.
#[test]
fn an_extension_reads_longer_sequences_at_the_end() {
    let plain = Schedule {
        steps: 100,
        ..schedule()
    };
    let extended = Schedule {
        steps: 70,
        extension: 10.0 / 70.0,
        extension_length: 4 * T,
        ..plain.clone()
    };
    assert_eq!(extended.extension_start(), 60);
    let lengths = [0, 59, 60, 69].map(|step| extended.length_at(step));
    assert_eq!(lengths, [T, T, 4 * T, 4 * T]);
    for (long, short) in [(0, 0), (12, 12), (60, 60), (65, 80), (70, 100)] {
        assert_eq!(extended.tokens_before(long), plain.tokens_before(short));
        assert_eq!(
            extended.learning_rate_at(long),
            plain.learning_rate_at(short)
        );
        assert_eq!(
            extended.inner_lr_scale_at(long),
            plain.inner_lr_scale_at(short)
        );
    }
    assert_eq!(plain.tokens_before(100), 100 * 2 * T as u64);
    let too_short = Schedule {
        extension_length: 4,
        ..extended
    };
    let e = too_short.check(&config()).expect_err("shorter than b");
    assert!(e.to_string().contains("extension_length = 4"), "{e}");
}
