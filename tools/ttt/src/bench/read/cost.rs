//! What must move through memory.

use std::time::Instant;

use model::weights::count_of;
use model::{Config, Result};
use ops::{DType, Tensor};

/// Bytes of the keys and values that a query reads after `context` tokens: all of them, or those in the window, block by block.
pub fn key_value_bytes(config: &Config, dtype: DType, context: usize) -> u64 {
    let position = 2 * config.kv_heads() * config.head_dim() * dtype.size();
    let seen = |window: usize| window.min(context) as u64 * position as u64;
    config.windows().map(seen).sum()
}

/// Bytes that writing one token must move: every weight once, but of an embedding that is not also the output matrix one row; and
/// the keys and values it sees. Inner steps are not among them.
pub fn bytes_per_token(config: &Config, dtype: DType, context: usize) -> Result<u64> {
    let mut weights = count_of(config)?;
    if !config.tie_word_embeddings {
        weights -= (config.vocab_size - 1) * config.hidden_size;
    }
    Ok((weights * dtype.size()) as u64 + key_value_bytes(config, dtype, context))
}

/// More memory than caches hold, to measure how fast it is read. A machine that others share reads now at one rate, now at
/// another half as high again, so the rate is taken beside whatever is compared with it.
pub struct Stream {
    words: Tensor,
    threads: usize,
}

impl Stream {
    /// For this many threads, which read one after the other.
    pub fn new(threads: usize) -> Self {
        Stream {
            words: Tensor::zeros(&[1 << 26], DType::F32),
            threads: threads.max(1),
        }
    }

    /// Bytes per second: the best of three times.
    pub fn bandwidth(&self) -> f64 {
        let words = self.words.as_slice::<f32>().expect("made of this type");
        let share = words.len().div_ceil(self.threads);
        let once = || {
            let start = Instant::now();
            let sum = |part: &[f32]| part.iter().fold(0u32, |a, w| a.wrapping_add(w.to_bits()));
            std::thread::scope(|scope| {
                for part in words.chunks(share) {
                    scope.spawn(move || std::hint::black_box(sum(part)));
                }
            });
            start.elapsed().as_secs_f64()
        };
        let best = (0..3).map(|_| once()).fold(f64::INFINITY, f64::min);
        size_of_val(words) as f64 / best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_by_hand() -> Result<()> {
        let config: Config = serde_json::from_value(serde_json::json!({
            "vocab_size": 100, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention"],
        }))
        .expect("a configuration");
        // a position is 2 x 4 numbers of 4 bytes in each block
        assert_eq!(key_value_bytes(&config, DType::F32, 10), 2 * 10 * 32);
        assert_eq!(key_value_bytes(&config, DType::F32, 1000), 1016 * 32);
        // a block: q and o 64 each, k and v 32 each, an MLP of 3 x 96; norms 4 x 8 + 2 x 4
        let block = 64 + 64 + 32 + 32 + 288 + 40;
        // one row of the embedding, the output matrix, the last norm
        let weights = 2 * block + 8 + 800 + 8;
        let bytes = bytes_per_token(&config, DType::F32, 10)?;
        assert_eq!(bytes, 4 * weights + 640);
        Ok(())
    }
}
