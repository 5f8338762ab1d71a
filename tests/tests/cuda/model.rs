//! Models on the device: the meta-gradient, training, reading and writing.

use std::path::Path;

use ::model::files::read_input_ids;
use ::model::gradients::sequence_gradient;
use ::model::session::Session;
use ::model::train::{Schedule, Trainer};
use ::model::{Config, Model, Reading};
use ::ops::derived::relative_error;
use ::ops::{DType, Device, Tensor};

use crate::process::{Calls, mark, on_device, traced};

pub const CUDA: Device = Device::Cuda(0);

/// Losses, gradients and final fast weights.
fn meta_gradient(model: &Model, ids: &[u32]) -> Vec<Tensor> {
    let result = sequence_gradient(model, ids, &Reading::default()).expect("a gradient");
    let mut all = vec![result.nll];
    all.extend(result.gradient.values().into_iter().cloned());
    all.extend(result.fast.iter().flat_map(|f| f.each().map(Tensor::clone)));
    all
}

/// How much larger the roundings of bf16 are than those of f32: 2^-9 of a number instead of 2^-24.
///
/// An error is, to first order, a sum over all roundings of what each makes of the result. In bf16 there are no more of them than in f32,
/// because both sum in f32 and bf16 rounds what is stored. So an evaluation in bf16 may be this many times as wrong as one in f32.
const COARSER: f64 = 32768.0;

/// The largest error of any tensor, relative to its largest element, is at most twice that of the CPU in f32; in bf16, [`COARSER`] times
/// that.
#[test]
fn the_meta_gradient_is_as_good_as_on_the_cpu() {
    if !on_device("model::the_meta_gradient_is_as_good_as_on_the_cpu") {
        return;
    }
    for case in ["two_fast_blocks", "grouped_query_llama", "ragged_tail"] {
        let case = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("oracle")
            .join(case);
        let load = |dtype| Model::load(&case, dtype).expect("a model");
        let exact = load(DType::F64);
        let ids = read_input_ids(&case.join("tokens.safetensors"), exact.config.vocab_size);
        let ids = ids.expect("token ids");
        let exact = meta_gradient(&exact, &ids);
        let error = |model: &Model| {
            let x = meta_gradient(model, &ids);
            let errors = x
                .iter()
                .zip(&exact)
                .map(|(x, exact)| relative_error(x, exact));
            errors.fold(0.0, f64::max)
        };
        let narrow = load(DType::F32);
        let cpu = error(&narrow);
        for (dtype, coarser) in [(DType::F32, 1.0), (DType::BF16, COARSER)] {
            let model = narrow.clone().to(CUDA).expect("a device");
            let got = error(&model.computing_in(dtype).expect("a type of the device"));
            let allowed = 2.0 * coarser * cpu;
            println!("{}: {dtype} {got:.1e} of {allowed:.1e}", case.display());
            assert!(
                got <= allowed,
                "{}: {dtype} {got:e}, allowed {allowed:e}",
                case.display()
            );
        }
    }
}

pub fn config() -> Config {
    serde_json::from_value(serde_json::json!({
        "vocab_size": 23, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2,
        "num_key_value_heads": 1, "sliding_window": 11,
        "ttt": {"mini_batch_size": 4, "num_fast_layers": 2, "inner_learning_rate": 0.5, "inner_clip_norm": 1.0},
    }))
    .expect("a configuration")
}

fn schedule(steps: u64) -> Schedule {
    serde_json::from_value(serde_json::json!({
        "steps": steps, "batch_size": 2, "accumulation": 1, "sequence_length": 14, "learning_rate": 0.01,
        "min_learning_rate": 0.001, "warmup": 0.2, "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.95, "clip_norm": 1.0,
        "inner_warmup_start": 0.5, "inner_warmup": 0.2, "first_order": false, "seed": 1,
    }))
    .expect("a schedule")
}

/// One whose weights are f64 or f32.
fn trainer(device: Device, compute: DType) -> Trainer {
    let weights = match compute {
        DType::BF16 => DType::F32,
        other => other,
    };
    let model = Model::random(&config(), 3, weights).expect("a model");
    let model = model.to(device).expect("a device");
    let model = model.computing_in(compute).expect("a type of the device");
    Trainer::new(model, schedule(10), 1).expect("a trainer")
}

pub fn tokens(step: u32, sequence: u32) -> Vec<u32> {
    (0..15)
        .map(|i| (i * i + 3 * step + 7 * sequence + i) % 23)
        .collect()
}

/// Distance of the weights from those in f64, all parameters together.
fn drift(trainer: &Trainer, exact: &Trainer) -> f64 {
    let weights = trainer.model.weights.values().into_iter();
    let pairs = weights.zip(exact.model.weights.values());
    let squares = pairs.flat_map(|(a, b)| {
        let pairs = a.to_f64s().into_iter().zip(b.to_f64s());
        pairs.map(|(a, b)| (a - b) * (a - b))
    });
    squares.sum::<f64>().sqrt()
}

/// The weights on the device drift from those in f64 by at most twice as much as the weights in f32 on the CPU do within the ten steps
/// (at which of them a gradient passes zero, and AdamW makes much of a rounding, is a matter of luck). In bf16 gradients near
/// zero change their sign, and AdamW makes whole steps of that: all that is known is that two runs come apart by no more than they walk.
/// A weight walks at most about the learning rate a step.
///
/// A loss is then off by at most its gradient's norm times the drift, and by what sums of 24 terms are off in f32
/// (`tests::compare_f32`); in bf16, [`COARSER`] times that.
#[test]
fn ten_steps_follow_those_of_the_cpu() {
    if !on_device("model::ten_steps_follow_those_of_the_cpu") {
        return;
    }
    let mut trainers = [
        trainer(Device::Cpu, DType::F64),
        trainer(CUDA, DType::F32),
        trainer(CUDA, DType::BF16),
    ];
    let mut pair = [DType::F64, DType::F32].map(|dtype| trainer(Device::Cpu, dtype));
    let mut cpu = 0.0f64;
    for step in 0..10 {
        let sequences = [tokens(step, 0), tokens(step, 1)];
        let sequences = sequences.each_ref().map(Vec::as_slice);
        for trainer in &mut pair {
            trainer.step(&sequences).expect("a step");
        }
        cpu = cpu.max(drift(&pair[1], &pair[0]));
    }
    let walk = 2.0 * 0.01 * (trainers[0].model.weights.count() as f64).sqrt();
    for step in 0..10 {
        let [by_f32, by_bf16] = [1, 2].map(|i| drift(&trainers[i], &trainers[0]));
        let sequences = [tokens(step, 0), tokens(step, 1)];
        let sequences = sequences.each_ref().map(Vec::as_slice);
        let [exact, in_f32, in_bf16] = trainers
            .each_mut()
            .map(|t| t.step(&sequences).expect("a step"));
        let bound = 2.0 * cpu + f64::from(step) * walk;
        for (dtype, coarser, [drift, bound], got) in [
            (DType::F32, 1.0, [by_f32, 2.0 * cpu], in_f32),
            (DType::BF16, COARSER, [by_bf16, bound], in_bf16),
        ] {
            assert!(
                drift <= bound,
                "step {step}: {dtype} {drift:e}, allowed {bound:e}"
            );
            let rounding = coarser * 4.0 * 24f64.sqrt() * f64::from(f32::EPSILON);
            let drift = if dtype == DType::F32 { bound } else { drift };
            let allowed = exact.gradient_norm * drift + rounding * exact.loss;
            let off = (got.loss - exact.loss).abs();
            println!(
                "{step} {dtype}: weights {drift:.1e} of {bound:.1e}, loss {off:.1e} of {allowed:.1e}"
            );
            assert!(
                off <= allowed,
                "step {step}: {dtype} {off:e}, allowed {allowed:e}"
            );
        }
    }
}

const WAITS: &str = "model::a_step_waits_once";

#[test]
fn a_step_waits_once() {
    if traced() {
        let mut trainer = trainer(CUDA, DType::F32);
        let sequences = [tokens(0, 0), tokens(0, 1)];
        let sequences = sequences.each_ref().map(Vec::as_slice);
        mark();
        trainer.step(&sequences).expect("a step");
        mark();
        return;
    }
    let Some(calls) = Calls::of(WAITS) else {
        return;
    };
    let launches = calls.count("cuLaunchKernel");
    assert!(launches > 1000, "{launches}");
    let waits = ["Synchronize", "cuStreamQuery", "cuEventQuery"];
    let waits: usize = waits.iter().map(|call| calls.count(call)).sum();
    assert_eq!(waits, 1, "a step waits for the device once");
}

#[test]
fn sessions_read_and_write_as_on_the_cpu() {
    if !on_device("model::sessions_read_and_write_as_on_the_cpu") {
        return;
    }
    let model = Model::random(&config(), 3, DType::F32).expect("a model");
    let mut sessions = [Device::Cpu, CUDA].map(|device| {
        let model = model.clone().to(device).expect("a device");
        Session::new(&model, true).expect("a session")
    });
    let text = [tokens(1, 1), tokens(2, 2)].concat();
    let close = |[a, b]: [Vec<f64>; 2]| {
        assert_eq!(a.len(), b.len());
        // seven inner steps, each of some hundred roundings of 2^-24
        let far = a.iter().zip(&b).find(|(a, b)| (*a - *b).abs() > 1e-4);
        assert!(far.is_none(), "{far:?}");
    };
    close(sessions.each_mut().map(|s| s.read(&text).expect("losses")));
    for token in [3, 5, 8] {
        close(sessions.each_mut().map(|s| s.logits().expect("logits")));
        close(
            sessions
                .each_mut()
                .map(|s| s.read(&[token]).expect("a loss")),
        );
    }
}

/// [`COARSER`] times twice the error of the CPU in f32, over all numbers that reading and writing give.
#[test]
fn sessions_in_bf16() {
    if !on_device("model::sessions_in_bf16") {
        return;
    }
    let numbers = |model: &Model| {
        let mut session = Session::new(model, true).expect("a session");
        let text = [tokens(1, 1), tokens(2, 2)].concat();
        let mut all = session.read(&text).expect("losses");
        for token in [3, 5, 8] {
            all.extend(session.logits().expect("logits"));
            all.extend(session.read(&[token]).expect("a loss"));
        }
        let memory = session.memory(session.dtype()).expect("a memory");
        let base = ::model::session::Base::new(model);
        let resumed = Session::resume(&base, Default::default(), &memory);
        let mut resumed = resumed.expect("the same memory");
        let bits = |x: Vec<f64>| x.into_iter().map(f64::to_bits).collect::<Vec<_>>();
        let [a, b] = [&mut session, &mut resumed].map(|s| bits(s.logits().expect("logits")));
        assert_eq!(a, b, "a resumed session goes on");
        all
    };
    let model = |dtype| Model::random(&config(), 3, dtype).expect("a model");
    let exact = numbers(&model(DType::F64));
    let error = |x: Vec<f64>| {
        let errors = x.iter().zip(&exact).map(|(x, exact)| (x - exact).abs());
        errors.fold(0.0, f64::max)
    };
    let cpu = error(numbers(&model(DType::F32)));
    let half = model(DType::F32).to(CUDA).expect("a device");
    numbers(&half);
    let half = half
        .computing_in(DType::BF16)
        .expect("a type of the device");
    let got = error(numbers(&half));
    let allowed = 2.0 * COARSER * cpu;
    println!("{got:.1e} of {allowed:.1e}");
    assert!(got <= allowed, "{got:e}, allowed {allowed:e}");
}
