//! Models on disk: a folder with `config.json`, `model.safetensors` and, for text, `tokenizer.json`.

use std::collections::BTreeMap;
use std::path::Path;

use ops::{DType, Device, Mapped, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::data::{Tokenizer, write_atomic};
use crate::{Config, Error, Result, Weights};

/// A model: what it is and its parameters.
#[derive(Debug, Clone)]
pub struct Model {
    /// Shape and constants.
    pub config: Config,
    /// Parameters, f32 or f64.
    pub weights: Weights<Tensor>,
    /// The type that activations are computed in: that of the weights, or bf16 where those are f32. Gradients and fast weights have the
    /// type of the weights.
    pub compute: DType,
}

impl Model {
    /// Reads a model folder; weights of any float type are converted to `dtype`. Errors name the file and the tensor: a missing
    /// or truncated file, a tensor that is missing, unknown, of the wrong shape or type, or not finite.
    pub fn load(folder: &Path, dtype: DType) -> Result<Model> {
        let config = Config::load(&folder.join("config.json"))?;
        let path = folder.join("model.safetensors");
        let tensors = read_tensors(&path)?;
        let weights = assemble(&path, &config, tensors, dtype)?;
        Ok(Model {
            config,
            weights,
            compute: dtype,
        })
    }

    /// The same model on a device.
    pub fn to(self, device: Device) -> Result<Model> {
        Ok(Model {
            config: self.config,
            weights: self.weights.to(device)?,
            compute: self.compute,
        })
    }

    /// The same model computing in another type.
    ///
    /// Errors: neither that of its weights nor bf16 for f32 weights on a CUDA device.
    pub fn computing_in(mut self, dtype: DType) -> Result<Model> {
        let weights = &self.weights.embed;
        let mixed = (weights.dtype(), dtype) == (DType::F32, DType::BF16);
        if dtype != weights.dtype() && !(mixed && weights.device() != Device::Cpu) {
            let message = format!(
                "a model of {} weights on {} computes in {0}; use bf16 with --device cuda",
                weights.dtype(),
                weights.device()
            );
            return Err(Error::setting("dtype", dtype, message));
        }
        self.compute = dtype;
        Ok(self)
    }

    /// Writes `config.json` and `model.safetensors`, each under a temporary name first; makes the folder if need be.
    pub fn save(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(|e| {
            Error::file(
                folder,
                format!("cannot be made: {e}; choose a folder you can write to"),
            )
        })?;
        write_tensors(
            &folder.join("model.safetensors"),
            self.weights.named(),
            &BTreeMap::new(),
        )?;
        let json =
            serde_json::to_string_pretty(&self.config).expect("a configuration is plain data");
        write(&folder.join("config.json"), &[json.as_bytes(), b"\n"])
    }
}

/// The tokenizer of a model folder: its `tokenizer.json`, or plain bytes if there is none and the vocabulary has 256 ids.
pub fn load_tokenizer(folder: &Path, config: &Config) -> Result<Tokenizer> {
    let path = folder.join("tokenizer.json");
    if !path.exists() && config.vocab_size == 256 {
        return Ok(Tokenizer::bytes());
    }
    let tokenizer = Tokenizer::load(&path)?;
    if tokenizer.vocab_size() > config.vocab_size {
        let message = format!(
            "has {} ids, but config.json says vocab_size = {}; use the tokenizer the model was trained with",
            tokenizer.vocab_size(),
            config.vocab_size
        );
        return Err(Error::file(&path, message));
    }
    Ok(tokenizer)
}

/// Tensors of a file by name, in the type they are stored in.
pub type Tensors = BTreeMap<String, Stored>;

/// One tensor as stored: floats, or integers (token ids).
#[derive(Debug, Clone)]
pub enum Stored {
    /// bf16, f16, f32 or f64.
    Float(Tensor),
    /// Any integer type: shape and values.
    Integer(Vec<usize>, Vec<i64>),
}

/// Places of the parameters in the file of a plain Transformer: what Hugging Face's Llama calls
/// `post_attention_layernorm` normalises the input of the MLP.
fn name_on_disk(name: &str, tensors: &Tensors, config: &Config) -> String {
    let llama = config.model_type != "ttt_e2e"
        && !tensors.contains_key("model.layers.0.pre_feedforward_layernorm.weight");
    match name {
        _ if !llama => name.to_string(),
        _ if name.ends_with("post_attention_layernorm.weight") => String::new(),
        _ => name.replace(".pre_feedforward_layernorm.", ".post_attention_layernorm."),
    }
}

/// The parameters that `config` calls for, out of the tensors of a file.
pub fn assemble(
    path: &Path,
    config: &Config,
    mut tensors: Tensors,
    dtype: DType,
) -> Result<Weights<Tensor>> {
    let all = tensors.clone();
    let weights = Weights::build(config, |name, shape, optional| {
        let name = name_on_disk(name, &all, config);
        let tensor = match tensors.remove(&name) {
            Some(Stored::Float(tensor)) => tensor,
            Some(Stored::Integer(..)) => {
                return Err(Error::file(
                    path,
                    format!("tensor '{name}' holds integers, not floats"),
                ));
            }
            None if optional => return Ok(None),
            None => {
                let message = format!(
                    "has no tensor '{name}' of shape {shape:?}, which config.json calls for; \
                     the two do not belong together"
                );
                return Err(Error::file(path, message));
            }
        };
        if tensor.shape() != shape {
            let message = format!(
                "tensor '{name}' has shape {:?}, but config.json calls for {shape:?}",
                tensor.shape()
            );
            return Err(Error::file(path, message));
        }
        if let Some(i) = tensor.first_non_finite() {
            let message =
                format!("tensor '{name}' is not finite at element {i}; the file is damaged");
            return Err(Error::file(path, message));
        }
        Ok(Some(tensor.cast(dtype)))
    })?;
    // a tied model may carry a copy of its embedding as the head; buffers of rotary angles are derived
    let harmless = |name: &str| {
        name.ends_with("rotary_emb.inv_freq")
            || config.tie_word_embeddings && name == "lm_head.weight"
    };
    if let Some(name) = tensors.keys().find(|name| !harmless(name)) {
        let message = format!(
            "tensor '{name}' has no place in the model that config.json describes; the two do not belong together"
        );
        return Err(Error::file(path, message));
    }
    Ok(weights)
}

/// Reads every tensor of a safetensors file.
pub fn read_tensors(path: &Path) -> Result<Tensors> {
    Ok(read_with_header(path)?.0)
}

/// Reads every tensor of a safetensors file, and what its header says besides.
pub fn read_with_header(path: &Path) -> Result<(Tensors, BTreeMap<String, String>)> {
    let bytes =
        Mapped::open(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
    let damaged = |e| {
        let message =
            format!("is not a whole safetensors file ({e}); it may be truncated: copy it again");
        Error::file(path, message)
    };
    let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let stored =
            decode(&view).map_err(|m| Error::file(path, format!("tensor '{name}' {m}")))?;
        tensors.insert(name, stored);
    }
    let header = header.metadata().clone().unwrap_or_default();
    Ok((tensors, header.into_iter().collect()))
}

fn decode(view: &TensorView<'_>) -> std::result::Result<Stored, String> {
    fn floats<T: ops::Element>(view: &TensorView<'_>) -> std::result::Result<Stored, String> {
        let data = bytemuck::pod_collect_to_vec::<u8, T>(view.data());
        let tensor = Tensor::from_vec(view.shape(), data).map_err(|e| e.to_string())?;
        Ok(Stored::Float(tensor))
    }
    fn integers<T: bytemuck::Pod>(view: &TensorView<'_>, f: fn(T) -> i64) -> Stored {
        let data = bytemuck::pod_collect_to_vec::<u8, T>(view.data());
        Stored::Integer(view.shape().to_vec(), data.into_iter().map(f).collect())
    }
    Ok(match view.dtype() {
        Dtype::F64 => floats::<f64>(view)?,
        Dtype::F32 => floats::<f32>(view)?,
        Dtype::BF16 => floats::<half::bf16>(view)?,
        Dtype::F16 => floats::<half::f16>(view)?,
        Dtype::I64 => integers::<i64>(view, |x| x),
        Dtype::I32 => integers::<i32>(view, i64::from),
        Dtype::U32 => integers::<u32>(view, i64::from),
        Dtype::U16 => integers::<u16>(view, i64::from),
        Dtype::U8 => integers::<u8>(view, i64::from),
        other => {
            return Err(format!(
                "has dtype {other:?}, which is not supported: save it as F32, F64, BF16 or F16 (token ids as I64)"
            ));
        }
    })
}

/// Writes named tensors as one safetensors file, under a temporary name first.
pub fn write_tensors<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, &'a Tensor)>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let tensors = tensors.into_iter();
    let tensors: Vec<(String, Tensor)> = tensors
        .map(|(name, t)| Ok((name, t.to(Device::Cpu)?)))
        .collect::<Result<_>>()?;
    let views = tensors.iter().map(|(name, t)| (name.as_str(), view(t)));
    let metadata = (!metadata.is_empty()).then(|| metadata.clone().into_iter().collect());
    let bytes = safetensors::serialize(views, metadata)
        .map_err(|e| Error::file(path, format!("cannot be laid out: {e}")))?;
    write(path, &[&bytes])
}

fn view(t: &Tensor) -> TensorView<'_> {
    fn bytes<T: ops::Element>(t: &Tensor) -> &[u8] {
        bytemuck::cast_slice(t.as_slice::<T>().expect("matched on the dtype"))
    }
    let (dtype, bytes) = match t.dtype() {
        DType::F64 => (Dtype::F64, bytes::<f64>(t)),
        DType::F32 => (Dtype::F32, bytes::<f32>(t)),
        DType::BF16 => (Dtype::BF16, bytes::<half::bf16>(t)),
        DType::F16 => (Dtype::F16, bytes::<half::f16>(t)),
    };
    TensorView::new(dtype, t.shape().to_vec(), bytes).expect("as many bytes as elements")
}

/// Writes a file under a temporary name and renames it, with an error that says what to do.
pub fn write(path: &Path, parts: &[&[u8]]) -> Result<()> {
    write_atomic(path, parts).map_err(|e| {
        let message = format!("cannot be written ({e}); free some space or choose another folder");
        Error::file(path, message)
    })
}

/// Token ids from a safetensors file: `input_ids` [T + 1], each below `vocab_size`.
pub fn read_input_ids(path: &Path, vocab_size: usize) -> Result<Vec<u32>> {
    let ids = match read_tensors(path)?.remove("input_ids") {
        Some(Stored::Integer(shape, ids)) if shape.len() == 1 => ids,
        Some(Stored::Integer(shape, _)) => {
            return Err(Error::file(
                path,
                format!("'input_ids' has shape {shape:?}, expected [T + 1]"),
            ));
        }
        Some(Stored::Float(_)) => {
            return Err(Error::file(
                path,
                "'input_ids' holds floats; save token ids as I64",
            ));
        }
        None => return Err(Error::file(path, "has no tensor 'input_ids'")),
    };
    if ids.len() < 2 {
        let message = format!(
            "'input_ids' has {} tokens; at least 2 are needed",
            ids.len()
        );
        return Err(Error::file(path, message));
    }
    for (position, &id) in ids.iter().enumerate() {
        if !(0..vocab_size as i64).contains(&id) {
            let message = format!(
                "token id {id} at position {position} is outside the model's vocabulary 0..{vocab_size}"
            );
            return Err(Error::file(path, message));
        }
    }
    Ok(ids.into_iter().map(|id| id as u32).collect())
}
