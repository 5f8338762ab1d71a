//! Matrix-product FLOPs of one training step, in the leanest algorithm: nothing computed twice, only visible keys counted.

use crate::Config;

/// Mean number of keys a query sees over a sequence of `t` tokens with window `k`.
pub(crate) fn mean_keys(t: usize, k: usize) -> f64 {
    let (t, n) = (t as f64, t.min(k) as f64);
    (n * (n + 1.0) / 2.0 + (t - n) * n) / t
}

/// FLOPs (2 m n k per product) of products per token that a block's parts need once.
pub(crate) struct PerToken {
    /// The four projections of attention.
    pub projections: f64,
    /// An MLP.
    pub mlp: f64,
    /// One product between a query and each key it sees, per key.
    pub per_key: f64,
    /// The output matrix.
    pub head: f64,
}

impl PerToken {
    pub fn of(c: &Config) -> Self {
        let (d, h) = (c.hidden_size as f64, c.head_dim() as f64);
        let (n, m) = (c.num_attention_heads as f64, c.kv_heads() as f64);
        PerToken {
            projections: 2.0 * d * h * (2.0 * n + 2.0 * m),
            mlp: 2.0 * 3.0 * d * c.intermediate_size as f64,
            per_key: 2.0 * n * h,
            head: 2.0 * d * c.vocab_size as f64,
        }
    }
}

/// One step of ordinary training on `t` tokens: every product forward, twice backward; attention 2 + 5 products per key.
pub fn static_step(c: &Config, t: usize) -> f64 {
    let p = PerToken::of(c);
    let (blocks, fast) = (c.num_hidden_layers as f64, c.fast_layers() as f64);
    let keys: f64 = c.windows().map(|k| mean_keys(t, k)).sum();
    t as f64
        * (blocks * 3.0 * (p.projections + p.mlp)
            + 7.0 * p.per_key * keys
            + fast * 3.0 * p.mlp
            + 3.0 * p.head)
}

/// One step of training through the inner loop. In the suffix a static matrix takes 6 products (forward, inner dx, then two
/// each for the tangent's and the outer reverse sweep), a fast one 9; attention 17 per cached and 24 per current key; the
/// attention of the first fast block belongs to the prefix.
pub fn training_step(c: &Config, t: usize) -> f64 {
    let Some(ttt) = c.ttt.as_ref().filter(|_| c.fast_layers() > 0) else {
        return static_step(c, t);
    };
    let p = PerToken::of(c);
    let (prefix, fast) = (c.first_fast() as f64, c.fast_layers() as f64);
    let attention = |k: usize| 7.0 * p.per_key * mean_keys(t, k);
    let in_suffix = |k: usize| {
        let (keys, current) = (mean_keys(t, k), mean_keys(ttt.mini_batch_size.min(t), k));
        p.per_key * (17.0 * (keys - current) + 24.0 * current)
    };
    let in_prefix = c.first_fast() + 1;
    t as f64
        * (prefix * 3.0 * (p.projections + p.mlp)
            + 3.0 * p.projections
            + c.windows().take(in_prefix).map(attention).sum::<f64>()
            + (fast - 1.0) * 6.0 * p.projections
            + c.windows().skip(in_prefix).map(in_suffix).sum::<f64>()
            + fast * (6.0 + 9.0) * p.mlp
            + 6.0 * p.head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_count_by_hand() {
        let config: Config = serde_json::from_str(
            r#"{"vocab_size": 1024, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 8,
                "num_attention_heads": 4, "sliding_window": 512, "ttt": {"mini_batch_size": 256,
                "num_fast_layers": 2, "inner_learning_rate": 1.0, "inner_clip_norm": 1.0}}"#,
        )
        .expect("a configuration");
        // 7 blocks with projections and MLP thrice, one of them with its MLPs counted apart, and so on: see the formula
        assert!((static_step(&config, 2048) / 1e9 - 103.623).abs() < 1e-3);
        assert!((training_step(&config, 2048) / 1e9 - 144.699).abs() < 1e-3);
    }
}
