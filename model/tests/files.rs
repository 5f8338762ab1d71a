//! Models and token files on disk: what goes in comes out, and files that do not fit are named, with the reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::bf16;
use model::files::{read_input_ids, write_tensors};
use model::{Config, Model, Net, Reading, Result};
use ops::{DType, Tensor, Var};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The tensors of a file: type, shape and bytes by name.
type Raw = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn config_json() -> Value {
    json!({
        "model_type": "ttt_e2e", "vocab_size": 11, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "sliding_window": 6, "tie_word_embeddings": true,
        "ttt": {"mini_batch_size": 4, "num_fast_layers": 1, "inner_learning_rate": 1.0, "inner_clip_norm": 1.0},
    })
}

fn config() -> Config {
    serde_json::from_value(config_json()).expect("a configuration")
}

fn model(dtype: DType) -> Model {
    Model::random(&config(), 3, dtype).expect("a model")
}

/// A folder that holds the model above in f32.
fn saved() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    model(DType::F32).save(folder.path()).expect("saved");
    folder
}

fn read_raw(path: &Path) -> Raw {
    let bytes = fs::read(path).expect("a file");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let raw = |v: &TensorView<'_>| (v.dtype(), v.shape().to_vec(), v.data().to_vec());
    file.tensors()
        .iter()
        .map(|(n, v)| (n.clone(), raw(v)))
        .collect()
}

fn write_raw(path: &Path, raw: &Raw) {
    let views = raw.iter().map(|(name, (dtype, shape, data))| {
        let view = TensorView::new(*dtype, shape.clone(), data).expect("as many bytes");
        (name, view)
    });
    fs::write(path, safetensors::serialize(views, None).expect("laid out")).expect("written");
}

fn bits(model: &Model) -> Vec<(String, Vec<usize>, Vec<u64>)> {
    let bits = |t: &Tensor| t.to_f64s().into_iter().map(f64::to_bits).collect();
    let named = model.weights.named().into_iter();
    named
        .map(|(n, t)| (n, t.shape().to_vec(), bits(t)))
        .collect()
}

#[track_caller]
fn assert_says<T>(result: Result<T>, words: &[&str]) {
    let message = result.err().expect("an error").to_string();
    for word in words {
        assert!(message.contains(word), "{message:?} lacks {word:?}");
    }
    assert!(!message.contains('\n'), "{message:?} has several lines");
}

/// Loading fails, and the message has the file's name and `words`.
#[track_caller]
fn assert_no_model(folder: &Path, file: &str, words: &[&str]) {
    for dtype in [DType::F32, DType::F64] {
        assert_says(Model::load(folder, dtype), &[&[file], words].concat());
    }
}

const WEIGHTS: &str = "model.safetensors";
const UP: &str = "model.layers.1.mlp.up_proj.weight";
const FAST: &str = "model.layers.1.fast_mlp.down_proj.weight";
const NORM: &str = "model.norm.weight";
const EMBED: &str = "model.embed_tokens.weight";

// ---- what goes in comes out

#[test]
fn models_round_trip() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        for tied in [true, false] {
            let folder = TempDir::new().expect("a folder");
            let mut config = config();
            config.tie_word_embeddings = tied;
            let mut model = Model::random(&config, 9, dtype)?;
            // a norm that is absent stays absent
            model.weights.blocks[0].attention.q_norm = None;
            let deep = folder.path().join("made/if/need/be");
            model.save(&deep)?;
            let loaded = Model::load(&deep, dtype)?;
            assert_eq!(loaded.config, config);
            assert_eq!(bits(&loaded), bits(&model));
            assert!(loaded.weights.values().iter().all(|w| w.dtype() == dtype));
            // again, over the files that are there
            let before = fs::read(deep.join(WEIGHTS)).expect("a file");
            loaded.save(&deep)?;
            assert!(before == fs::read(deep.join(WEIGHTS)).expect("a file"));
            assert_eq!(fs::read_dir(&deep).expect("a folder").count(), 2);
        }
    }
    Ok(())
}

#[test]
fn weights_of_every_float_type_are_converted() -> Result<()> {
    let folder = saved();
    let model = model(DType::F32);
    for stored in [DType::BF16, DType::F16, DType::F32, DType::F64] {
        let cast = model.weights.map(|_, w| w.cast(stored));
        write_tensors(&folder.path().join(WEIGHTS), cast.named(), &BTreeMap::new())?;
        for dtype in [DType::F32, DType::F64] {
            let loaded = Model::load(folder.path(), dtype)?;
            let expected = Model {
                config: config(),
                weights: cast.map(|_, w| w.cast(dtype)),
                compute: dtype,
            };
            assert_eq!(bits(&loaded), bits(&expected), "{stored} as {dtype}");
        }
    }
    Ok(())
}

#[test]
fn types_may_be_mixed() -> Result<()> {
    let folder = saved();
    let path = folder.path().join(WEIGHTS);
    let mut raw = read_raw(&path);
    let halves: Vec<bf16> = (0..8).map(|i| bf16::from_f32(1.0 + i as f32)).collect();
    let bytes = bytemuck::cast_slice(&halves).to_vec();
    raw.insert(NORM.into(), (Dtype::BF16, vec![8], bytes));
    write_raw(&path, &raw);
    let norm = Model::load(folder.path(), DType::F32)?.weights.norm;
    let expected: Vec<f64> = (0..8).map(|i| 1.0 + f64::from(i)).collect();
    assert_eq!((norm.dtype(), norm.to_f64s()), (DType::F32, expected));
    Ok(())
}

#[test]
fn a_plain_llama() -> Result<()> {
    let folder = TempDir::new().expect("a folder");
    let mut json = config_json();
    json["model_type"] = json!("llama");
    json["tie_word_embeddings"] = json!(false);
    json["architectures"] = json!(["LlamaForCausalLM"]);
    json["sliding_window"] = Value::Null;
    json.as_object_mut().expect("an object").remove("ttt");
    let config: Config = serde_json::from_value(json.clone()).expect("a configuration");
    let mut model = Model::random(&config, 4, DType::F64)?;
    for (i, block) in model.weights.blocks.iter_mut().enumerate() {
        let a = &mut block.attention;
        (a.q_norm, a.k_norm, a.post_norm, block.mlp.post_norm) = (None, None, None, None);
        let values: Vec<f64> = (0..8).map(|j| 1.0 + (8 * i + j) as f64 / 100.0).collect();
        block.mlp.norm = Some(Tensor::from_f64s(&[8], DType::F64, &values)?);
    }
    // as Hugging Face names them
    let names =
        |name: String| name.replace("pre_feedforward_layernorm", "post_attention_layernorm");
    let named = model
        .weights
        .named()
        .into_iter()
        .map(|(n, t)| (names(n), t));
    let angles = Tensor::from_f64s(&[2], DType::F64, &[1.0, 0.1])?;
    let buffer = (
        "model.layers.0.self_attn.rotary_emb.inv_freq".to_string(),
        &angles,
    );
    let path = folder.path().join(WEIGHTS);
    write_tensors(&path, named.chain([buffer]), &BTreeMap::new())?;
    fs::write(folder.path().join("config.json"), json.to_string()).expect("written");

    let loaded = Model::load(folder.path(), DType::F64)?;
    assert_eq!(bits(&loaded), bits(&model));
    let nll = |model: &Model| {
        let weights = model.weights.map(|_, w| Var::constant(w.clone()));
        let net = Net::new(&model.config, weights, 5)?;
        Ok::<_, model::Error>(
            net.read(&[1, 2, 3, 4, 5], &Reading::default())?
                .nll
                .to_f64s(),
        )
    };
    assert_eq!(nll(&loaded)?, nll(&model)?);
    // saved under the names of this project, it is still the same model
    let own = folder.path().join("own");
    loaded.save(&own)?;
    let again = Model::load(&own, DType::F64)?;
    assert_eq!(bits(&again), bits(&model));
    Ok(())
}

#[test]
fn a_tied_model_may_carry_its_head() -> Result<()> {
    let folder = saved();
    let path = folder.path().join(WEIGHTS);
    let mut raw = read_raw(&path);
    raw.insert("lm_head.weight".into(), raw[EMBED].clone());
    write_raw(&path, &raw);
    let loaded = Model::load(folder.path(), DType::F32)?;
    assert!(loaded.weights.head.is_none());
    assert_eq!(bits(&loaded), bits(&model(DType::F32)));
    Ok(())
}

// ---- damaged files

#[test]
fn missing_files() {
    let folder = saved();
    let nowhere = folder.path().join("nowhere");
    assert_no_model(&nowhere, "nowhere", &["config.json", "cannot be read"]);
    fs::remove_file(folder.path().join(WEIGHTS)).expect("removed");
    assert_no_model(folder.path(), WEIGHTS, &["cannot be read"]);
    fs::create_dir(folder.path().join(WEIGHTS)).expect("made");
    assert_no_model(folder.path(), WEIGHTS, &[]);
    fs::remove_file(folder.path().join("config.json")).expect("removed");
    assert_no_model(folder.path(), "config.json", &["cannot be read"]);
}

#[test]
fn truncated_weights() {
    let folder = saved();
    let path = folder.path().join(WEIGHTS);
    let whole = fs::read(&path).expect("a file");
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().expect("eight")) as usize;
    let start = 0..12;
    let border = header - 3..header + 3;
    let even = (1..100).map(|i| whole.len() * i / 100);
    let end = whole.len() - 3..whole.len();
    for length in start.chain(border).chain(even).chain(end) {
        fs::write(&path, &whole[..length]).expect("written");
        assert_no_model(folder.path(), WEIGHTS, &["truncated"]);
    }
    let longer = [&whole[..], b"more"].concat();
    fs::write(&path, longer).expect("written");
    assert_no_model(folder.path(), WEIGHTS, &["not a whole safetensors file"]);
}

#[test]
fn garbage_in_place_of_weights() {
    let folder = saved();
    let path = folder.path().join(WEIGHTS);
    let mut seed = 1u64;
    let mut noise = |length: usize| -> Vec<u8> {
        let mut next = || {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    };
    let mut cases: Vec<Vec<u8>> = [1, 8, 9, 100, 5000].map(&mut noise).to_vec();
    cases.push(b"<!DOCTYPE html><html>Not Found</html>".to_vec());
    cases.push(vec![0; 4096]);
    cases.push(vec![255; 4096]);
    // a small header of nonsense, an empty one, and one that is too deep
    for header in [
        "{",
        "[]",
        "{}}",
        "\"x\"",
        r#"{"a": 1}"#,
        &"[".repeat(100_000),
    ] {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(noise(64));
        cases.push(bytes);
    }
    // ranges that overflow, overlap or point outside
    for (shape, offsets) in [
        ("[8]", "[0, 18446744073709551615]"),
        ("[8]", "[64, 32]"),
        ("[8]", "[0, 1000000]"),
        ("[9]", "[0, 32]"),
        ("[4611686018427387904, 4]", "[0, 32]"),
    ] {
        let header = format!(
            r#"{{"{NORM}": {{"dtype": "F32", "shape": {shape}, "data_offsets": {offsets}}}}}"#
        );
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 32]);
        cases.push(bytes);
    }
    for bytes in cases {
        fs::write(&path, bytes).expect("written");
        assert_no_model(folder.path(), WEIGHTS, &["not a whole safetensors file"]);
    }
    // an empty file of tensors is sound, but no model
    let mut empty = 2u64.to_le_bytes().to_vec();
    empty.extend(b"{}");
    fs::write(&path, empty).expect("written");
    assert_no_model(folder.path(), WEIGHTS, &["no tensor", EMBED]);
}

#[test]
fn tensors_that_do_not_fit() {
    type Change = fn(&mut Raw);
    let cases: [(Change, &[&str]); 13] = [
        (|r| drop(r.remove(UP)), &["no tensor", UP, "[12, 8]"]),
        (|r| drop(r.remove(FAST)), &["no tensor", FAST, "[8, 12]"]),
        (|r| drop(r.remove(EMBED)), &["no tensor", EMBED]),
        (
            |r| drop(r.insert("extra.weight".into(), r[NORM].clone())),
            &["extra.weight", "no place"],
        ),
        (
            |r| drop(r.insert("lm_heads.weight".into(), r[EMBED].clone())),
            &["lm_heads.weight", "no place"],
        ),
        // transposed
        (
            |r| r.get_mut(UP).expect("there").1 = vec![8, 12],
            &[UP, "[8, 12]", "[12, 8]"],
        ),
        // flat
        (
            |r| r.get_mut(UP).expect("there").1 = vec![96],
            &[UP, "[96]", "[12, 8]"],
        ),
        (
            |r| drop(r.insert(NORM.into(), (Dtype::F32, vec![0], vec![]))),
            &[NORM, "[0]", "[8]"],
        ),
        (
            |r| r.get_mut(NORM).expect("there").2[12..16].copy_from_slice(&f32::NAN.to_le_bytes()),
            &[NORM, "not finite", "element 3"],
        ),
        (
            |r| r.get_mut(UP).expect("there").2[..4].copy_from_slice(&f32::INFINITY.to_le_bytes()),
            &[UP, "not finite", "element 0"],
        ),
        (
            |r| r.get_mut(UP).expect("there").0 = Dtype::I32,
            &[UP, "integers"],
        ),
        (
            |r| drop(r.insert(NORM.into(), (Dtype::BOOL, vec![8], vec![1; 8]))),
            &[NORM, "BOOL", "not supported", "BF16"],
        ),
        (
            |r| drop(r.insert(NORM.into(), (Dtype::F8_E4M3, vec![8], vec![1; 8]))),
            &[NORM, "F8_E4M3", "not supported"],
        ),
    ];
    for (change, words) in cases {
        let folder = saved();
        let path = folder.path().join(WEIGHTS);
        let mut raw = read_raw(&path);
        change(&mut raw);
        write_raw(&path, &raw);
        assert_no_model(folder.path(), WEIGHTS, words);
    }
}

#[test]
fn halves_that_are_not_finite() {
    let folder = saved();
    let path = folder.path().join(WEIGHTS);
    let mut raw = read_raw(&path);
    let mut halves = vec![bf16::ONE; 8];
    halves[5] = bf16::NAN;
    let bytes = bytemuck::cast_slice(&halves).to_vec();
    raw.insert(NORM.into(), (Dtype::BF16, vec![8], bytes));
    write_raw(&path, &raw);
    assert_no_model(folder.path(), WEIGHTS, &[NORM, "element 5"]);
}

// ---- configurations

#[test]
fn configurations_that_contradict_the_weights() {
    let cases = [
        ("hidden_size", json!(16), EMBED),
        ("vocab_size", json!(12), "[11, 8]"),
        ("intermediate_size", json!(13), "[13, 8]"),
        ("num_hidden_layers", json!(3), "no tensor"),
        ("num_key_value_heads", json!(2), "k_proj"),
        ("head_dim", json!(2), "q_proj"),
        ("tie_word_embeddings", json!(false), "lm_head.weight"),
        ("ttt", Value::Null, "fast_mlp"),
    ];
    for (field, value, word) in cases {
        let folder = saved();
        let mut json = config_json();
        json[field] = value;
        fs::write(folder.path().join("config.json"), json.to_string()).expect("written");
        assert_no_model(folder.path(), WEIGHTS, &[word, "config.json"]);
    }
}

#[test]
fn configurations_that_cannot_work() {
    let cases: &[(&str, Value, &[&str])] = &[
        ("/sliding_window", json!(0), &["sliding_window = 0", "1"]),
        (
            "/layer_types",
            json!(["full_attention"]),
            &["layer_types = 1 names", "num_hidden_layers = 2"],
        ),
        (
            "/layer_types",
            json!(["full_attention", "chunked_attention"]),
            &["chunked_attention", "sliding_attention"],
        ),
        ("/vocab_size", json!(0), &["vocab_size = 0", "at least 1"]),
        ("/hidden_size", json!(0), &["hidden_size = 0"]),
        ("/num_hidden_layers", json!(0), &["num_hidden_layers = 0"]),
        ("/num_attention_heads", json!(0), &["num_attention_heads"]),
        ("/num_attention_heads", json!(3), &["hidden_size = 8", "3"]),
        ("/num_key_value_heads", json!(0), &["num_key_value_heads"]),
        ("/num_key_value_heads", json!(3), &["must divide", "2"]),
        ("/head_dim", json!(3), &["head_dim = 3", "even"]),
        ("/head_dim", json!(0), &["head_dim = 0"]),
        ("/head_dim", json!(1u64 << 63), &["head_dim", "at most"]),
        ("/vocab_size", json!(u64::MAX), &["vocab_size", "at most"]),
        ("/hidden_act", json!("gelu"), &["gelu", "silu"]),
        ("/rms_norm_eps", json!(0.0), &["rms_norm_eps", "positive"]),
        ("/rope_theta", json!(-1.0), &["rope_theta = -1"]),
        ("/ttt/mini_batch_size", json!(0), &["mini_batch_size = 0"]),
        (
            "/ttt/num_fast_layers",
            json!(3),
            &["num_fast_layers = 3", "2"],
        ),
        (
            "/ttt/inner_learning_rate",
            json!(0.0),
            &["inner_learning_rate = 0", "positive"],
        ),
        (
            "/ttt/inner_learning_rate",
            json!(-0.5),
            &["inner_learning_rate = -0.5"],
        ),
        (
            "/ttt/inner_clip_norm",
            json!(-1.0),
            &["inner_clip_norm", "0 means"],
        ),
        ("/hidden_size", json!("eight"), &["eight"]),
        ("/hidden_size", json!(-8), &["-8"]),
        ("/hidden_size", json!(8.5), &["8.5"]),
        ("/hidden_size", Value::Null, &["null"]),
        ("/tie_word_embeddings", json!(1), &["boolean"]),
        ("/ttt", json!([]), &["4 elements"]),
        ("/ttt", json!({"mini_batch_size": 4}), &["num_fast_layers"]),
        ("", json!({}), &["vocab_size"]),
        ("", json!([1]), &["not a model configuration"]),
    ];
    for (field, value, words) in cases {
        let folder = saved();
        let mut json = config_json();
        match field.rsplit_once('/') {
            None => json = value.clone(),
            Some((at, name)) => {
                json.pointer_mut(at).expect("a table")[name] = value.clone();
            }
        }
        fs::write(folder.path().join("config.json"), json.to_string()).expect("written");
        assert_no_model(folder.path(), "config.json", words);
    }
}

#[test]
fn configurations_that_are_not_json() {
    let folder = saved();
    let path = folder.path().join("config.json");
    let whole = config_json().to_string();
    let nan = whole.replace("\"inner_learning_rate\":1.0", "\"inner_learning_rate\":NaN");
    assert_ne!(nan, whole);
    let cut = &whole[..whole.len() / 2];
    for text in ["", "{", "no", nan.as_str(), cut] {
        fs::write(&path, text).expect("written");
        assert_no_model(folder.path(), "config.json", &["not a model configuration"]);
    }
    fs::write(&path, [0xff, 0xfe, 0]).expect("written");
    assert_no_model(folder.path(), "config.json", &["cannot be read"]);
}

#[test]
fn numbers_that_json_cannot_hold() {
    for value in [f64::NAN, f64::INFINITY, -f64::INFINITY] {
        let check = |change: fn(&mut Config, f64), word: &str| {
            let mut config = config();
            change(&mut config, value);
            assert_says(config.check(), &[word]);
            assert_says(Model::random(&config, 0, DType::F32), &[word]);
        };
        check(|c, x| c.rms_norm_eps = x, "rms_norm_eps");
        check(|c, x| c.rope_theta = x, "rope_theta");
        check(
            |c, x| c.ttt.as_mut().expect("a fast model").inner_learning_rate = x,
            "inner_learning_rate",
        );
        check(
            |c, x| c.ttt.as_mut().expect("a fast model").inner_clip_norm = x,
            "inner_clip_norm",
        );
    }
}

// ---- token files

/// A file with one tensor of integers.
fn tokens(path: &Path, name: &str, shape: &[usize], ids: &[i64]) {
    let bytes = bytemuck::cast_slice(ids).to_vec();
    write_raw(
        path,
        &Raw::from([(name.to_string(), (Dtype::I64, shape.to_vec(), bytes))]),
    );
}

#[test]
fn token_files() -> Result<()> {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("tokens.safetensors");
    tokens(&path, "input_ids", &[4], &[0, 10, 5, 5]);
    assert_eq!(read_input_ids(&path, 11)?, [0, 10, 5, 5]);
    // any other integers
    let write = |dtype, bytes: &[u8]| {
        let tensor = (dtype, vec![2], bytes.to_vec());
        write_raw(&path, &Raw::from([("input_ids".to_string(), tensor)]));
    };
    write(Dtype::U8, &[3, 10]);
    assert_eq!(read_input_ids(&path, 11)?, [3, 10]);
    write(Dtype::U16, &[3, 0, 0, 1]);
    assert_eq!(read_input_ids(&path, 300)?, [3, 256]);
    write(Dtype::U32, &[3, 0, 0, 0, 10, 0, 0, 0]);
    assert_eq!(read_input_ids(&path, 11)?, [3, 10]);
    write(Dtype::I32, &[3, 0, 0, 0, 10, 0, 0, 0]);
    assert_eq!(read_input_ids(&path, 11)?, [3, 10]);
    write(Dtype::BOOL, &[1, 0]);
    assert_says(read_input_ids(&path, 11), &["input_ids", "BOOL"]);
    Ok(())
}

#[test]
fn token_files_that_cannot_be_read() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("tokens.safetensors");
    let name = "tokens.safetensors";
    assert_says(read_input_ids(&path, 11), &[name, "cannot be read"]);
    let cases: &[(&[usize], &[i64], &[&str])] = &[
        (&[4], &[0, 1, 11, 2], &["11", "position 2", "0..11"]),
        (&[3], &[-1, 1, 2], &["-1", "position 0"]),
        (&[3], &[1, 2, i64::MAX], &["9223372036854775807"]),
        // 2^32 + 1 is not 1
        (&[2], &[1, 4294967297], &["4294967297", "position 1"]),
        (&[1, 4], &[1, 2, 3, 4], &["[1, 4]", "[T + 1]"]),
        (&[], &[1], &["[]", "[T + 1]"]),
        (&[1], &[1], &["1 tokens", "at least 2"]),
        (&[0], &[], &["0 tokens", "at least 2"]),
    ];
    for (shape, ids, words) in cases {
        tokens(&path, "input_ids", shape, ids);
        assert_says(read_input_ids(&path, 11), &[&[name], *words].concat());
    }
    tokens(&path, "ids", &[2], &[1, 2]);
    assert_says(read_input_ids(&path, 11), &[name, "no tensor 'input_ids'"]);
    let floats = Tensor::from_f64s(&[2], DType::F32, &[1.0, 2.0]).expect("a tensor");
    let named = [("input_ids".to_string(), &floats)];
    write_tensors(&path, named, &BTreeMap::new()).expect("written");
    assert_says(read_input_ids(&path, 11), &[name, "floats", "I64"]);
    fs::write(&path, "garbage").expect("written");
    assert_says(read_input_ids(&path, 11), &[name, "truncated"]);
}

// ---- saving

#[test]
fn saving_where_nothing_can_be_saved() {
    let folder = TempDir::new().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let list = || {
        let names = fs::read_dir(folder.path()).expect("a folder");
        let names = names.map(|e| e.expect("an entry").file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    let model = model(DType::F32);
    fs::write(at("file"), "in the way").expect("written");
    fs::create_dir_all(at("taken/model.safetensors")).expect("made");
    let before = list();
    assert_says(model.save(&at("file")), &["file", "cannot be made"]);
    assert_says(
        model.save(&at("file/deeper")),
        &["deeper", "cannot be made"],
    );
    assert_says(model.save(&at("taken")), &[WEIGHTS, "cannot be written"]);
    assert_eq!(list(), before);
    assert_eq!(fs::read(at("file")).expect("a file"), b"in the way");
    assert_eq!(fs::read_dir(at("taken")).expect("a folder").count(), 1);
}
