//! The description of a model on disk: `config.json` in Hugging Face names.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A model's shape and constants. Letters as in the paper: d, n heads of size h, L blocks of which the last S are fast,
/// window k, mini-batch b, vocabulary V.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// `ttt_e2e`, or the name of a plain Transformer (`llama`, ...), whose norm names are then read as Llama's.
    #[serde(default = "default_model_type")]
    pub model_type: String,
    /// V.
    pub vocab_size: usize,
    /// d.
    pub hidden_size: usize,
    /// Width of the SwiGLU MLPs, static and fast.
    pub intermediate_size: usize,
    /// L.
    pub num_hidden_layers: usize,
    /// n.
    pub num_attention_heads: usize,
    /// Key/value heads; a divisor of n. Absent: n.
    #[serde(default)]
    pub num_key_value_heads: Option<usize>,
    /// h. Absent: d / n.
    #[serde(default)]
    pub head_dim: Option<usize>,
    /// Epsilon of every norm.
    #[serde(default = "default_eps")]
    pub rms_norm_eps: f64,
    /// Base of the rotary angles.
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
    /// k: keys a query sees, its own included. Absent or null: full attention.
    #[serde(default)]
    pub sliding_window: Option<usize>,
    /// What each block's attention sees. Absent: all alike, as `sliding_window` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_types: Option<Vec<LayerType>>,
    /// The output matrix is the embedding matrix.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// `silu`, the only activation there is.
    #[serde(default = "default_act")]
    pub hidden_act: String,
    /// Test-time training. Absent: a static model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttt: Option<Ttt>,
}

/// What the attention of a block sees, in Hugging Face's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerType {
    /// The last k positions.
    SlidingAttention,
    /// All positions.
    FullAttention,
}

/// The inner loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ttt {
    /// b: tokens per inner step.
    pub mini_batch_size: usize,
    /// S: how many of the last blocks have a fast MLP.
    pub num_fast_layers: usize,
    /// eta.
    pub inner_learning_rate: f64,
    /// c: the inner gradient is clipped to this global norm; 0 means no clipping.
    pub inner_clip_norm: f64,
}

/// Largest width, vocabulary, number of blocks and of heads: products of two of them cannot overflow.
const MAX_SIZE: usize = 1 << 24;

fn default_model_type() -> String {
    "ttt_e2e".to_string()
}
fn default_eps() -> f64 {
    1e-6
}
fn default_theta() -> f64 {
    500_000.0
}
fn default_act() -> String {
    "silu".to_string()
}

impl Config {
    /// Reads and checks a `config.json`.
    pub fn load(path: &Path) -> Result<Config> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::file(
                path,
                format!("cannot be read ({e}); a model folder needs it"),
            )
        })?;
        let config: Config = serde_json::from_str(&text)
            .map_err(|e| Error::file(path, format!("is not a model configuration: {e}")))?;
        config
            .check()
            .map_err(|e| Error::file(path, e.to_string()))?;
        Ok(config)
    }

    /// Errors that name the field, the value and what would work.
    pub fn check(&self) -> Result<()> {
        let positive = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.kv_heads()),
            ("head_dim", self.head_dim()),
            ("sliding_window", self.sliding_window.unwrap_or(1)),
        ];
        for (name, value) in positive {
            if value == 0 {
                return Err(Error::setting(name, 0, "must be at least 1"));
            }
        }
        // every other count is as large as it likes; these are multiplied with each other
        for (name, value) in &positive[..7] {
            if *value > MAX_SIZE {
                let message = format!("must be at most {MAX_SIZE}");
                return Err(Error::setting(name, value, message));
            }
        }
        let (n, m) = (self.num_attention_heads, self.kv_heads());
        if n % m != 0 {
            let message = format!("must divide num_attention_heads = {n}");
            return Err(Error::setting("num_key_value_heads", m, message));
        }
        if self.head_dim.is_none() && !self.hidden_size.is_multiple_of(n) {
            let message =
                format!("must be a multiple of num_attention_heads = {n}, or set head_dim");
            return Err(Error::setting("hidden_size", self.hidden_size, message));
        }
        if !self.head_dim().is_multiple_of(2) {
            let message = "must be even: rotary embedding turns pairs";
            return Err(Error::setting("head_dim", self.head_dim(), message));
        }
        if let Some(types) = &self.layer_types {
            if types.len() != self.num_hidden_layers {
                let message = format!(
                    "must name the attention of each of the num_hidden_layers = {} blocks",
                    self.num_hidden_layers
                );
                let count = format!("{} names", types.len());
                return Err(Error::setting("layer_types", count, message));
            }
            let sliding = types.iter().position(|t| *t == LayerType::SlidingAttention);
            if let (Some(i), None) = (sliding, self.sliding_window) {
                let message = format!(
                    "must be a number of positions: block {i} of layer_types is sliding_attention"
                );
                return Err(Error::setting("sliding_window", "null", message));
            }
        }
        if self.hidden_act != "silu" {
            let message = "only silu is implemented";
            return Err(Error::setting("hidden_act", &self.hidden_act, message));
        }
        let positive = [
            ("rms_norm_eps", self.rms_norm_eps),
            ("rope_theta", self.rope_theta),
        ];
        for (name, value) in positive {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::setting(name, value, "must be a positive number"));
            }
        }
        let Some(ttt) = &self.ttt else { return Ok(()) };
        if ttt.mini_batch_size == 0 {
            return Err(Error::setting(
                "ttt.mini_batch_size",
                0,
                "must be at least 1",
            ));
        }
        if ttt.num_fast_layers > self.num_hidden_layers {
            let message = format!(
                "must be at most num_hidden_layers = {}",
                self.num_hidden_layers
            );
            return Err(Error::setting(
                "ttt.num_fast_layers",
                ttt.num_fast_layers,
                message,
            ));
        }
        let eta = ttt.inner_learning_rate;
        if ttt.num_fast_layers > 0 && !(eta > 0.0 && eta.is_finite()) {
            let message = "must be positive; for a model that does not learn while reading, remove 'ttt' \
                           or turn test-time training off when evaluating";
            return Err(Error::setting("ttt.inner_learning_rate", eta, message));
        }
        if !(ttt.inner_clip_norm >= 0.0 && ttt.inner_clip_norm.is_finite()) {
            let message = "must be a number >= 0; 0 means no clipping";
            return Err(Error::setting(
                "ttt.inner_clip_norm",
                ttt.inner_clip_norm,
                message,
            ));
        }
        Ok(())
    }

    /// Key/value heads.
    pub fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// h.
    pub fn head_dim(&self) -> usize {
        self.head_dim
            .unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// Keys a query of block i sees, its own included; with full attention, more than any length.
    pub fn window_of(&self, i: usize) -> usize {
        let full = (self.layer_types.as_ref()).is_some_and(|t| t[i] == LayerType::FullAttention);
        let k = self.sliding_window.filter(|_| !full);
        k.unwrap_or(usize::MAX)
    }

    /// That of each block, first to last.
    pub fn windows(&self) -> impl Iterator<Item = usize> {
        (0..self.num_hidden_layers).map(|i| self.window_of(i))
    }

    /// The largest of them.
    pub fn window(&self) -> usize {
        self.windows().max().unwrap_or(usize::MAX)
    }

    /// S; 0 for a static model.
    pub fn fast_layers(&self) -> usize {
        self.ttt.as_ref().map_or(0, |t| t.num_fast_layers)
    }

    /// Index of the first block with a fast MLP; L for a static model.
    pub fn first_fast(&self) -> usize {
        self.num_hidden_layers - self.fast_layers()
    }

    /// True if block i has a fast MLP.
    pub fn is_fast(&self, i: usize) -> bool {
        i >= self.first_fast()
    }
}
