//! Reading without a tape against reading on one, and against the independent implementation in `oracle/`: losses of every token and
//! the fast weights after the last mini-batch.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::files::{Stored, read_input_ids, read_tensors};
use model::session::Session;
use model::weights::fast_names;
use model::{Config, Model, Net, Reading};
use ops::derived::relative_error;
use ops::{DType, Tensor, Var};
use rayon::ThreadPoolBuilder;
use tests::Random;

const B: usize = 4;
const V: usize = 13;

/// What reading leaves: losses, then fast matrices, each with a name.
type Results = Vec<(String, Tensor)>;

fn results(model: &Model, nll: Tensor, fast: Vec<[Tensor; 3]>) -> Results {
    let first = model.config.first_fast();
    let mut all = vec![("token_nll".to_string(), nll)];
    for (j, fast) in fast.into_iter().enumerate() {
        let names = fast_names(first + j).map(|name| format!("fast_after.{name}"));
        all.extend(names.into_iter().zip(fast));
    }
    all
}

/// Read by a session, in one call.
fn session(model: &Model, ids: &[u32]) -> Results {
    let mut session = Session::new(model, true).expect("a session");
    let losses = session.read(ids).expect("losses");
    let dtype = model.weights.embed.dtype();
    let nll = Tensor::from_f64s(&[losses.len()], dtype, &losses).expect("a vector");
    let fast = session.fast();
    let fast = fast.iter().map(|f| f.each().map(Tensor::clone)).collect();
    results(model, nll, fast)
}

/// Read on a tape.
fn tape(model: &Model, ids: &[u32]) -> Results {
    let weights = model.weights.map(|_, w| Var::constant(w.clone()));
    let net = Net::new(&model.config, weights, ids.len()).expect("a net");
    let outcome = net.read(ids, &Reading::default()).expect("losses");
    let value = |w: &Var| w.value().clone();
    let fast = outcome.fast.iter().map(|f| f.each().map(value)).collect();
    results(model, outcome.nll, fast)
}

/// The largest relative error of a tensor, and its name.
fn worst(got: &Results, want: &Results) -> (f64, String) {
    assert_eq!(got.len(), want.len());
    let errors = got.iter().zip(want).map(|((name, got), (wanted, want))| {
        assert_eq!(name, wanted);
        (relative_error(got, want), name.clone())
    });
    errors.max_by(|a, b| a.0.total_cmp(&b.0)).expect("tensors")
}

/// Which norms a model has.
#[derive(Debug, Clone, Copy)]
enum Norms {
    Sandwich,
    Before,
    After,
    None,
}

/// A random model whose norms are not 1 and whose activations are of the size of 1, with norms or without.
fn random(config: &Config, norms: Norms) -> Model {
    let mut model = Model::random(config, 3, DType::F64).expect("a model");
    let mut random = Random::new(5);
    for w in model.weights.values_mut() {
        let (mean, deviation) = match *w.shape() {
            [_, width] => (0.0, 1.0 / (width as f64).sqrt()),
            _ => (1.0, 0.2),
        };
        // numbers that f32 can hold, so that both dtypes read with the same weights
        let mut number = || (mean + deviation * random.normal()) as f32 as f64;
        let numbers: Vec<f64> = (0..w.len()).map(|_| number()).collect();
        *w = Tensor::from_f64s(w.shape(), DType::F64, &numbers).expect("the same shape");
    }
    model.weights.embed.scale_assign(3.0).expect("floats");
    for block in &mut model.weights.blocks {
        let mlps = block.fast.iter_mut().chain([&mut block.mlp]);
        let mlps = mlps.map(|m| [&mut m.norm, &mut m.post_norm]);
        let attention = &mut block.attention;
        let mut all: Vec<_> = mlps.collect();
        all.push([&mut attention.norm, &mut attention.post_norm]);
        for [before, after] in all {
            if matches!(norms, Norms::After | Norms::None) {
                *before = None;
            }
            if matches!(norms, Norms::Before | Norms::None) {
                *after = None;
            }
        }
        if matches!(norms, Norms::Before | Norms::None) {
            (attention.q_norm, attention.k_norm) = (None, None);
        }
    }
    model
}

/// Models that take every path: one, two and all blocks fast, grouped queries, norms that are missing, tied and untied output
/// matrix, clipping that binds, never binds and is off, no learning rate, windows below, at and above b, and none. Steps that are not
/// clipped are short: after a long one the next is chaotic, and makes 1e-7 of a rounding error.
fn models() -> Vec<Model> {
    let norms = [Norms::Sandwich, Norms::Before, Norms::After, Norms::None];
    let mut models = vec![];
    for (layers, fast) in [(3, 1), (3, 2), (2, 2)] {
        for (i, window) in [Some(1), Some(3), Some(B), Some(9), None]
            .into_iter()
            .enumerate()
        {
            for (j, (eta, clip)) in [(0.8, 0.05), (0.05, 1e3), (0.05, 0.0), (0.0, 1.0)]
                .into_iter()
                .enumerate()
            {
                let config: Config = serde_json::from_value(serde_json::json!({
                    "vocab_size": V, "hidden_size": 16, "intermediate_size": 12,
                    "num_hidden_layers": layers, "num_attention_heads": 4,
                    "num_key_value_heads": ([1, 2, 4][(i + j) % 3]), "sliding_window": window,
                    "tie_word_embeddings": (i + j) % 2 == 0,
                    "ttt": {"mini_batch_size": B, "num_fast_layers": fast,
                            "inner_learning_rate": 1.0, "inner_clip_norm": clip},
                }))
                .expect("a configuration");
                // every pair of a norm and a step, and of a norm and a window, comes up
                for norms in [norms[(i + j) % 4], norms[(i + 2 * j + 1) % 4]] {
                    let mut model = random(&config, norms);
                    let ttt = model.config.ttt.as_mut().expect("an inner loop");
                    ttt.inner_learning_rate = eta; // a file may not say 0
                    models.push(model);
                }
            }
        }
    }
    models
}

fn ids(count: usize) -> Vec<u32> {
    let mut random = Random::new(7);
    let mut id = || (random.unit() * V as f64) as u32;
    (0..count).map(|_| id()).collect()
}

/// Less than a mini-batch, one, and several with a ragged end.
const COUNTS: [usize; 4] = [3, B + 1, 2 * B + 1, 3 * B + 3];

/// 1e-12 of the largest element: a few thousand roundings of 2^-53, one after the other.
#[test]
fn agrees_with_the_tape_in_f64() {
    for model in models() {
        for count in COUNTS {
            let ids = ids(count);
            let (error, name) = worst(&session(&model, &ids), &tape(&model, &ids));
            let config = &model.config;
            assert!(
                error < 1e-12,
                "{name} is off by {error:e}, {count} tokens, {config:?}"
            );
        }
    }
}

/// In f32 both ways are as far from f64: the worst error without a tape is at most twice the worst on one, over all models. (Of one
/// model the smaller of the two is a matter of luck.) Steps that are not clipped make much of a rounding error, so models are
/// compared by kind of step.
#[test]
fn as_good_as_the_tape_in_f32() {
    let mut kinds = BTreeMap::new();
    for model in models() {
        let ids = ids(3 * B + 3);
        let narrow = Model {
            weights: model.weights.map(|_, w| w.cast(DType::F32)),
            compute: DType::F32,
            ..model.clone()
        };
        let exact = tape(&model, &ids);
        let error = |results| worst(&results, &exact).0;
        let errors = [session(&narrow, &ids), tape(&narrow, &ids)].map(error);
        let ttt = model.config.ttt.as_ref().expect("an inner loop");
        let kind = format!("({}, {})", ttt.inner_learning_rate, ttt.inner_clip_norm);
        let worst = kinds.entry(kind).or_insert([0.0f64; 2]);
        *worst = [0, 1].map(|i| worst[i].max(errors[i]));
    }
    assert_eq!(kinds.len(), 4);
    for (kind, [got, taped]) in kinds {
        println!("(eta, c) = {kind}: {got:e}, on a tape {taped:e}");
        assert!(
            got <= 2.0 * taped,
            "(eta, c) = {kind}: {got:e}, on a tape {taped:e}"
        );
    }
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle");
    let entries = std::fs::read_dir(folder).expect("the folder of cases");
    let paths = entries.map(|e| e.expect("a readable entry").path());
    let cases: Vec<_> = paths.filter(|p| p.join("config.json").exists()).collect();
    assert!(cases.len() >= 6, "{cases:?}");
    cases
}

/// Those of `names` in a file of expected results.
fn expected(path: &Path, names: &Results) -> Results {
    let tensors = read_tensors(path).expect("expected results");
    let find = |name: &String| match &tensors[name] {
        Stored::Float(t) => t.clone(),
        Stored::Integer(..) => panic!("{name} holds integers"),
    };
    names
        .iter()
        .map(|(name, _)| (name.clone(), find(name)))
        .collect()
}

/// As for the meta-gradient: 1e-9 in f64, and in f32 at most twice the error of a plain f32 evaluation.
#[test]
fn agrees_with_the_oracle() {
    for case in cases() {
        let read = |dtype| {
            let model = Model::load(&case, dtype).expect("a model");
            let ids = case.join("tokens.safetensors");
            let ids = read_input_ids(&ids, model.config.vocab_size).expect("token ids");
            session(&model, &ids)
        };
        let wide = read(DType::F64);
        let want = expected(&case.join("expected.safetensors"), &wide);
        let (error, name) = worst(&wide, &want);
        assert!(
            error < 1e-9,
            "{}: {name} is off by {error:e}",
            case.display()
        );
        let plain = expected(&case.join("plain_f32.safetensors"), &wide);
        let (allowed, _) = worst(&plain, &want);
        let (error, name) = worst(&read(DType::F32), &want);
        assert!(
            error <= 2.0 * allowed,
            "{}: {name} is off by {error:e} in f32, plain f32 by {allowed:e}",
            case.display()
        );
    }
}

/// The same bits whatever the number of threads, at sizes that are shared among them.
#[test]
fn threads_change_no_bit() {
    let config: Config = serde_json::from_value(serde_json::json!({
        "vocab_size": 2100, "hidden_size": 64, "intermediate_size": 1100, "num_hidden_layers": 3,
        "num_attention_heads": 2, "sliding_window": 300,
        "ttt": {"mini_batch_size": 270, "num_fast_layers": 2, "inner_learning_rate": 1.0, "inner_clip_norm": 1.0},
    }))
    .expect("a configuration");
    let model = Model::random(&config, 1, DType::F32).expect("a model");
    let ids: Vec<u32> = (0..700u32).map(|i| i * i % 2099).collect();
    let read = |threads: usize| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        let results = pool.expect("threads").install(|| session(&model, &ids));
        let bits = |t: &Tensor| t.to_f64s().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        results.iter().map(|(_, t)| bits(t)).collect::<Vec<_>>()
    };
    let one = read(1);
    for threads in [2, 3, 5] {
        assert!(read(threads) == one, "{threads} threads");
    }
}
