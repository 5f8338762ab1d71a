//! What all sessions with a model share: its weights, without history.

use std::sync::{Arc, OnceLock};

use ops::{DType, Tensor, Var, gather, values};
use sha2::{Digest, Sha256};

use crate::weights::{Attention, Block, Mlp};
use crate::{Config, Model, Result, Weights};

/// A model to read and write with. Any number of sessions share one copy of its weights.
pub struct Base {
    pub(super) config: Config,
    pub(super) weights: Weights<Tensor>,
    /// The type of activations, keys and values.
    pub(super) compute: DType,
    /// Angle of each pair of a head per position.
    frequencies: Vec<f64>,
    fingerprint: OnceLock<String>,
}

impl Base {
    /// From a model, whose buffers it shares.
    pub fn new(model: &Model) -> Arc<Base> {
        let (h, theta) = (model.config.head_dim(), model.config.rope_theta);
        let frequency = |pair: usize| theta.powf(-2.0 * pair as f64 / h as f64);
        Arc::new(Base {
            config: model.config.clone(),
            weights: model.weights.clone(),
            compute: model.compute,
            frequencies: (0..h / 2).map(frequency).collect(),
            fingerprint: OnceLock::new(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The type of the weights, and of what is learned.
    pub fn dtype(&self) -> DType {
        self.weights.embed.dtype()
    }

    /// SHA-256 of the configuration and of the weights in f32, in hexadecimal. Made once.
    pub fn fingerprint(&self) -> &str {
        self.fingerprint.get_or_init(|| {
            let mut hash = Sha256::new();
            let config = serde_json::to_vec(&self.config);
            hash.update(config.expect("a configuration is plain data"));
            for (name, w) in self.weights.named() {
                hash.update(name);
                let w = w.cast(DType::F32);
                let numbers = w.as_slice::<f32>().expect("cast to it");
                hash.update(bytemuck::cast_slice(numbers));
            }
            let digest = hash.finalize();
            digest.iter().map(|byte| format!("{byte:02x}")).collect()
        })
    }

    /// An empty tensor like the activations.
    pub(super) fn nothing(&self) -> Result<Tensor> {
        Ok(values::cast(
            &self.weights.embed.full_like(&[0], 0.0)?,
            self.compute,
        )?)
    }

    /// Rows `ids` of the embedding matrix [t, d].
    pub(super) fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        let embed = Var::constant(self.weights.embed.clone());
        let rows = gather(&embed, &ids.into())?;
        Ok(values::cast(rows.value(), self.compute)?)
    }

    /// The output matrix [V, d].
    pub(super) fn head(&self) -> &Tensor {
        self.weights.head.as_ref().unwrap_or(&self.weights.embed)
    }

    /// Cosines and sines [t, h/2] of the angles at these positions. A position turns a pair by an angle known to 16 digits, so
    /// the angle between a query and a key, which alone counts, is that of any two with their distance.
    pub(super) fn angles(&self, positions: impl Iterator<Item = usize>) -> Result<[Tensor; 2]> {
        let (mut cos, mut sin) = (vec![], vec![]);
        let mut rows = 0;
        for position in positions {
            for frequency in &self.frequencies {
                let (s, c) = (position as f64 * frequency).sin_cos();
                cos.push(c);
                sin.push(s);
            }
            rows += 1;
        }
        let device = self.weights.embed.device();
        let table = |x| {
            let table = Tensor::from_f64s(&[rows, self.frequencies.len()], self.dtype(), x)?;
            table.to(device)
        };
        Ok([table(&cos)?, table(&sin)?])
    }

    /// RMSNorm if there is a weight for it.
    pub(super) fn norm(&self, x: &Tensor, w: &Option<Tensor>) -> Result<Tensor> {
        Ok(match w {
            None => x.clone(),
            Some(w) => values::rms_norm(x, w, self.config.rms_norm_eps)?,
        })
    }

    pub(super) fn norm_bwd(&self, x: &Tensor, w: &Option<Tensor>, dy: Tensor) -> Result<Tensor> {
        Ok(match w {
            None => dy,
            Some(w) => values::rms_norm_bwd(x, w, &dy, self.config.rms_norm_eps)?,
        })
    }

    /// The final norm.
    pub(super) fn last_norm(&self, x: &Tensor) -> Result<Tensor> {
        let eps = self.config.rms_norm_eps;
        Ok(values::rms_norm(x, &self.weights.norm, eps)?)
    }

    /// x + norm(z).
    pub(super) fn residual(&self, x: &Tensor, z: &Tensor, w: &Option<Tensor>) -> Result<Tensor> {
        let mut y = self.norm(z, w)?;
        y.add_assign(x)?;
        Ok(y)
    }

    /// Queries [t, n, h], keys and values [t, m, h] of norm(x), neither normed nor rotated.
    pub(super) fn projections(&self, w: &Attention<Tensor>, x: &Tensor) -> Result<[Tensor; 3]> {
        let (t, h) = (x.shape()[0], self.config.head_dim());
        let y = self.norm(x, &w.norm)?;
        let heads = |w: &Tensor, n: usize| values::linear(&y, w)?.reshape(&[t, n, h]);
        let (n, m) = (self.config.num_attention_heads, self.config.kv_heads());
        Ok([heads(&w.q, n)?, heads(&w.k, m)?, heads(&w.v, m)?])
    }

    /// Queries or keys, normed and rotated.
    pub(super) fn rotated(
        &self,
        x: &Tensor,
        norm: &Option<Tensor>,
        [cos, sin]: &[Tensor; 2],
    ) -> Result<Tensor> {
        Ok(values::rope(&self.norm(x, norm)?, cos, sin)?)
    }
}

/// The norms of a fast MLP, and its matrices as they are before reading.
pub(super) fn fast_mlp(w: &Block<Tensor>) -> &Mlp<Tensor> {
    let fast = w.fast.as_ref();
    fast.expect("every block from the first fast one on has a fast MLP")
}

/// gate, up, down of a static MLP.
pub(super) fn matrices(w: &Mlp<Tensor>) -> [&Tensor; 3] {
    [&w.gate, &w.up, &w.down]
}
