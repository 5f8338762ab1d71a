//! Random parameters to start from.

use ops::{DType, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

use crate::{Config, Model, Result, Weights};

/// Standard deviation of the embedding's entries.
const EMBEDDING: f64 = 0.02;

impl Model {
    /// A model with random parameters: matrices normal with variance 1/in, embeddings with deviation 0.02, norms 1, all
    /// norms there are. The same seed gives the same bits; every parameter has a stream of its own, so adding a block changes
    /// no other block.
    pub fn random(config: &Config, seed: u64, dtype: DType) -> Result<Model> {
        config.check()?;
        let weights = Weights::build(config, |name, shape, _| {
            let count: usize = shape.iter().product();
            let tensor = match *shape {
                [_, width] => {
                    let deviation = match name {
                        "model.embed_tokens.weight" => EMBEDDING,
                        _ => (1.0 / width as f64).sqrt(),
                    };
                    let mut rng = ChaCha8Rng::seed_from_u64(seed);
                    rng.set_stream(stream(name));
                    let mut draw = || -> f64 { StandardNormal.sample(&mut rng) };
                    let values: Vec<f64> = (0..count).map(|_| deviation * draw()).collect();
                    Tensor::from_f64s(shape, dtype, &values)?
                }
                _ => Tensor::from_f64s(shape, dtype, &vec![1.0; count])?,
            };
            Ok(Some(tensor))
        })?;
        Ok(Model {
            config: config.clone(),
            weights,
            compute: dtype,
        })
    }
}

/// FNV-1a hash of a parameter's name: which of the generator's streams is its own.
fn stream(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    })
}
