//! A session on disk: what was learned, and where reading stopped, to go on from there at any time.
//!
//! A memory is a safetensors file. Fast weights W are stored as their difference from the weights W0 the model came with:
//!
//! | tensor | shape | what it is |
//! |---|---|---|
//! | `difference.NAME` | as NAME | d = W - W0, rounded |
//! | `rest.NAME` | as NAME | W - (W0 + d), absent if zero: with it W comes back bit for bit |
//! | `cache.I.k`, `cache.I.v` | [c, m, h] | keys, normed and rotated, and values of block I that are still needed |
//! | `open` | [o, d] | what the prefix made of the inputs of the open mini-batch, if the session learns |
//! | `logits` | [1, V] | logits after the last token, if they have been asked for |
//! | `surprise` | [..] | losses of the last mini-batches, if they decide who learns |
//!
//! NAME is that of the matrix in `model.safetensors`. In the session's own dtype everything is kept bit for bit; in bf16 numbers are
//! rounded and a memory takes about a quarter of that. The header says whose memory it is: `base` is
//! [`Base::fingerprint`].

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ops::{DType, Tensor, values};
use serde::{Deserialize, Serialize};

use super::{Base, Options, Session};
use crate::files::{Stored, read_with_header, write_tensors};
use crate::weights::fast_names;
use crate::{Error, Result};

/// The name of the header's one entry, a [`Header`] as JSON: several would be written in any order, and the same memory would not
/// be the same file.
const ENTRY: &str = "ttt-memory-1";

/// A session as it is stored.
#[derive(Debug, Clone)]
pub struct Memory {
    /// Whose memory it is.
    pub header: Header,
    tensors: BTreeMap<String, Tensor>,
}

/// What is known of a memory without the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`Base::fingerprint`] of the model that learned.
    pub base: String,
    /// How numbers are stored.
    pub dtype: String,
    /// Tokens that have gone in.
    pub inputs: usize,
    /// The last token read, if it has not gone in yet.
    pub last: Option<u32>,
    /// Inner steps taken.
    pub steps: u64,
    /// The tokens after the inputs of the open mini-batch, as far as they are known.
    pub targets: Vec<u32>,
    /// Which of the stored losses is the oldest.
    pub oldest: usize,
}

impl Header {
    /// Number of tokens read.
    pub fn position(&self) -> usize {
        self.inputs.saturating_add(usize::from(self.last.is_some()))
    }
}

impl Memory {
    /// Reads a memory.
    ///
    /// Errors: a file that is missing, truncated, or something else.
    pub fn load(path: &Path) -> Result<Memory> {
        let (stored, header) = read_with_header(path)?;
        let Some(header) = header.get(ENTRY) else {
            let message = "is no memory of a session: pass a file that was written with --memory";
            return Err(Error::file(path, message));
        };
        let header: Header = serde_json::from_str(header).map_err(|e| {
            let message = format!("has a header that cannot be read ({e}); the file is damaged");
            Error::file(path, message)
        })?;
        let mut tensors = BTreeMap::new();
        for (name, stored) in stored {
            let Stored::Float(tensor) = stored else {
                let message = format!("tensor '{name}' holds integers; the file is damaged");
                return Err(Error::file(path, message));
            };
            if let Some(i) = tensor.first_non_finite() {
                let message =
                    format!("tensor '{name}' is not finite at element {i}; the file is damaged");
                return Err(Error::file(path, message));
            }
            tensors.insert(name, tensor);
        }
        Ok(Memory { header, tensors })
    }

    /// Writes it, under a temporary name first.
    pub fn save(&self, path: &Path) -> Result<()> {
        let tensors = self.tensors.iter().map(|(name, t)| (name.clone(), t));
        let header = serde_json::to_string(&self.header).expect("a header is plain data");
        write_tensors(
            path,
            tensors,
            &BTreeMap::from([(ENTRY.to_string(), header)]),
        )
    }

    /// Bytes of its tensors: what it costs to keep.
    pub fn bytes(&self) -> usize {
        let tensors = self.tensors.values();
        tensors.map(|t| t.len() * t.dtype().size()).sum()
    }

    /// What was learned: the name of each fast matrix and its difference from the model's.
    pub fn differences(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let tensors = self.tensors.iter();
        tensors.filter_map(|(name, t)| Some((name.strip_prefix("difference.")?, t)))
    }

    /// The weighted sum of what several memories of one model have learned. It goes on where the first of them stopped.
    ///
    /// Errors: no memory; memories of different models.
    pub fn merge(memories: &[(&Memory, f64)]) -> Result<Memory> {
        let Some((first, _)) = memories.first() else {
            return Err(Error::setting("memories", 0, "must be at least 1"));
        };
        let mut merged = (*first).clone();
        merged.tensors.retain(|name, _| !name.starts_with("rest."));
        merged.header.steps = memories.iter().map(|(m, _)| m.header.steps).sum();
        for (i, (memory, _)) in memories.iter().enumerate() {
            if memory.header.base != first.header.base {
                let message =
                    "is that of another model than the first; merge memories of one model";
                return Err(Error::setting("memory", i + 1, message));
            }
        }
        for (name, _) in first.differences() {
            let name = format!("difference.{name}");
            let mut sum = first.tensors[&name].cast(DType::F64);
            sum.scale_assign(0.0)?;
            for (memory, weight) in memories {
                let parts =
                    ["difference.", "rest."].map(|part| name.replacen("difference.", part, 1));
                for part in parts.iter().filter_map(|part| memory.tensors.get(part)) {
                    values::sgd_update(&mut sum, &part.cast(DType::F64), -weight)?;
                }
            }
            let sum = sum.cast(first.tensors[&name].dtype());
            merged.tensors.insert(name, sum);
        }
        Ok(merged)
    }

    /// A tensor of this shape, of the dtype and on the device of `like`, out of a memory of this model.
    fn take(&self, name: &str, shape: &[usize], like: &Tensor) -> Result<Tensor> {
        match self.tensors.get(name) {
            Some(tensor) if tensor.shape() == shape => {
                Ok(tensor.cast(like.dtype()).to(like.device())?)
            }
            other => {
                let found = other.map_or("is missing".to_string(), |t| format!("is {t:?}"));
                let message = format!("{found}, and {shape:?} was expected; the file is damaged");
                Err(Error::setting("tensor of the memory", name, message))
            }
        }
    }
}

impl Session {
    /// The session as it can be kept, with numbers in `dtype`. In the type of the weights nothing is lost, and a session
    /// [resumed](Self::resume) from it goes on with the same bits; a narrower one rounds.
    pub fn memory(&self, dtype: DType) -> Result<Memory> {
        let (base, state) = (&self.base, &self.state);
        let mut tensors = BTreeMap::new();
        let mut put = |name: String, tensor: &Tensor| tensors.insert(name, tensor.cast(dtype));
        let first = base.config.first_fast();
        for (j, (w, own)) in state.fast.iter().zip(&base.weights.fast()).enumerate() {
            let matrices = w.each().into_iter().zip(own.each());
            for ((w, own), name) in matrices.zip(fast_names(first + j)) {
                let mut difference = w.clone();
                values::sgd_update(&mut difference, own, 1.0)?;
                put(format!("difference.{name}"), &difference);
                let mut back = own.clone();
                back.add_assign(&difference)?;
                let mut rest = w.clone();
                values::sgd_update(&mut rest, &back, 1.0)?;
                if dtype == base.dtype() && values::norm(&[&rest])?.item()? > 0.0 {
                    put(format!("rest.{name}"), &rest);
                }
            }
        }
        for (i, cache) in state.caches.iter().enumerate() {
            let open = if i > first { state.open.len() } else { 0 };
            let [k, v] = cache.last(cache.needed(state.inputs, open))?;
            put(format!("cache.{i}.k"), &k);
            put(format!("cache.{i}.v"), &v);
        }
        if state.open.len() > 0 {
            put("open".to_string(), &state.open.rows(0, state.open.len())?);
        }
        if let Some(logits) = &state.next {
            put("logits".to_string(), logits);
        }
        let losses = &state.surprise.losses;
        if !losses.is_empty() {
            let losses = Tensor::from_f64s(&[losses.len()], DType::F64, losses)?;
            tensors.insert("surprise".to_string(), losses);
        }
        let header = Header {
            base: base.fingerprint().to_string(),
            dtype: dtype.to_string(),
            inputs: state.inputs,
            last: state.last,
            steps: state.steps,
            targets: state.targets.clone(),
            oldest: state.surprise.next,
        };
        Ok(Memory { header, tensors })
    }

    /// Goes on where a memory stopped. With learning off, its open mini-batch is left as it is and never learned from.
    ///
    /// Errors: a memory of another model, or one that contradicts itself; an option that cannot work with this model.
    pub fn resume(base: &Arc<Base>, options: Options, memory: &Memory) -> Result<Self> {
        let header = &memory.header;
        if header.base != base.fingerprint() {
            let short = |hash: &str| hash.chars().take(12).collect::<String>();
            let message = format!(
                "is the memory of another model: it learned over {}, and this is {}; load it with the model it belongs to",
                short(&header.base),
                short(base.fingerprint())
            );
            return Err(Error::setting("memory", header.position(), message));
        }
        let mut session = Session::start(base, options)?;
        let (config, like) = (&base.config, &base.weights.embed);
        let activations = &base.nothing()?;
        let state = &mut session.state;
        let first = config.first_fast();
        for (j, w) in state.fast.iter_mut().enumerate() {
            for (w, name) in w.each_mut().into_iter().zip(fast_names(first + j)) {
                let shape = w.shape().to_vec();
                w.add_assign(&memory.take(&format!("difference.{name}"), &shape, like)?)?;
                let rest = format!("rest.{name}");
                if memory.tensors.contains_key(&rest) {
                    w.add_assign(&memory.take(&rest, &shape, like)?)?;
                }
            }
        }
        let stored = memory.tensors.get("open");
        let open = stored.map_or(0, |open| open.shape().first().copied().unwrap_or(0));
        let asked = memory.tensors.contains_key("logits");
        let known = header.targets.len() + usize::from(asked);
        let damaged = |name, value: usize, message| Err(Error::setting(name, value, message));
        if open > header.inputs
            || open > 0 && open != known
            || open == 0 && known > usize::from(asked)
        {
            let message = "inputs of the memory's open mini-batch do not fit its targets; the file is damaged";
            return damaged("open", open, message);
        }
        if asked == header.last.is_some() && header.position() > 0 {
            let message = "of the memory has gone in and has not; the file is damaged";
            return damaged("last token", header.position(), message);
        }
        let row = [config.kv_heads(), config.head_dim()];
        for (i, cache) in state.caches.iter_mut().enumerate() {
            let open = if i > first { open } else { 0 };
            let shape = [&[cache.needed(header.inputs, open)], &row[..]].concat();
            let [k, v] =
                ["k", "v"].map(|x| memory.take(&format!("cache.{i}.{x}"), &shape, activations));
            cache.push(&k?, &v?, 0)?;
        }
        if asked {
            state.next = Some(memory.take("logits", &[1, config.vocab_size], like)?);
        }
        if let Some(losses) = memory.tensors.get("surprise") {
            state.surprise.losses = losses.to_f64s();
            state.surprise.next = header.oldest;
        }
        state.last = header.last;
        state.inputs = header.inputs;
        state.steps = header.steps;
        if let Some(ttt) = session.ttt().filter(|_| open > 0) {
            if header.targets.len() >= ttt.mini_batch_size {
                let message =
                    "of the memory's open mini-batch would have closed it; the file is damaged";
                return damaged("targets", header.targets.len(), message);
            }
            session.open(&memory.take("open", &[open, config.hidden_size], activations)?)?;
            session.state.targets = header.targets.clone();
        }
        let ids = header.targets.iter().chain(&header.last).copied();
        session.check(&ids.collect::<Vec<_>>())?;
        Ok(session)
    }
}
