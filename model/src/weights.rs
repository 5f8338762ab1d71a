//! The parameters of a model, under their names on disk.

use ops::{Device, Tensor};

use crate::{Config, Result};

/// All parameters. `W` is a tensor, a variable, a gradient, an optimiser's moment, ...
#[derive(Debug, Clone, PartialEq)]
pub struct Weights<W> {
    /// Embedding matrix [V, d].
    pub embed: W,
    /// The blocks, first to last.
    pub blocks: Vec<Block<W>>,
    /// Final norm `[d]`.
    pub norm: W,
    /// Output matrix [V, d]; `None` if it is the embedding matrix.
    pub head: Option<W>,
}

/// One block.
#[derive(Debug, Clone, PartialEq)]
pub struct Block<W> {
    /// Attention with its norms.
    pub attention: Attention<W>,
    /// The fast MLP, in the last S blocks. Its two norms are not fast.
    pub fast: Option<Mlp<W>>,
    /// The static MLP.
    pub mlp: Mlp<W>,
}

/// Projections [out, in] and norms of attention. A norm that is absent is not applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention<W> {
    /// Before the projections `[d]`.
    pub norm: Option<W>,
    /// Queries [n h, d].
    pub q: W,
    /// Keys [m h, d].
    pub k: W,
    /// Values [m h, d].
    pub v: W,
    /// Output [d, n h].
    pub o: W,
    /// Per query head `[h]`.
    pub q_norm: Option<W>,
    /// Per key head `[h]`.
    pub k_norm: Option<W>,
    /// After the output projection `[d]`.
    pub post_norm: Option<W>,
}

/// A SwiGLU MLP and its norms. A norm that is absent is not applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp<W> {
    /// Before `[d]`.
    pub norm: Option<W>,
    /// [ff, d].
    pub gate: W,
    /// [ff, d].
    pub up: W,
    /// [d, ff].
    pub down: W,
    /// After `[d]`.
    pub post_norm: Option<W>,
}

/// The three matrices of a fast MLP that learn while reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Fast<W> {
    /// [ff, d].
    pub gate: W,
    /// [ff, d].
    pub up: W,
    /// [d, ff].
    pub down: W,
}

impl<W> Weights<W> {
    /// Builds the parameters that `config` calls for. `make(name, shape, optional)` returns a parameter, or `None` for an
    /// optional one (a norm) that is absent.
    pub fn build(
        config: &Config,
        mut make: impl FnMut(&str, &[usize], bool) -> Result<Option<W>>,
    ) -> Result<Self> {
        let (v, d, ff) = (
            config.vocab_size,
            config.hidden_size,
            config.intermediate_size,
        );
        let (n, m, h) = (
            config.num_attention_heads,
            config.kv_heads(),
            config.head_dim(),
        );
        const MADE: &str = "a required parameter is made or an error";
        let embed = make("model.embed_tokens.weight", &[v, d], false)?.expect(MADE);
        let norm = make("model.norm.weight", &[d], false)?.expect(MADE);
        let head = match config.tie_word_embeddings {
            true => None,
            false => Some(make("lm_head.weight", &[v, d], false)?.expect(MADE)),
        };
        let mut block = |i: usize| {
            let prefix = format!("model.layers.{i}.");
            let mut weight = |name: &str, shape: &[usize], optional: bool| {
                make(&format!("{prefix}{name}.weight"), shape, optional)
            };
            macro_rules! need {
                ($name:expr, $shape:expr) => {
                    weight($name, &$shape, false)?.expect(MADE)
                };
            }
            let attention = Attention {
                norm: weight("input_layernorm", &[d], true)?,
                q: need!("self_attn.q_proj", [n * h, d]),
                k: need!("self_attn.k_proj", [m * h, d]),
                v: need!("self_attn.v_proj", [m * h, d]),
                o: need!("self_attn.o_proj", [d, n * h]),
                q_norm: weight("self_attn.q_norm", &[h], true)?,
                k_norm: weight("self_attn.k_norm", &[h], true)?,
                post_norm: weight("post_attention_layernorm", &[d], true)?,
            };
            let mut mlp = |module: &str, norm: &str| {
                Ok::<_, crate::Error>(Mlp {
                    norm: weight(&format!("pre_{norm}"), &[d], true)?,
                    gate: need!(&format!("{module}.gate_proj"), [ff, d]),
                    up: need!(&format!("{module}.up_proj"), [ff, d]),
                    down: need!(&format!("{module}.down_proj"), [d, ff]),
                    post_norm: weight(&format!("post_{norm}"), &[d], true)?,
                })
            };
            let fast = match config.is_fast(i) {
                true => Some(mlp("fast_mlp", "fast_feedforward_layernorm")?),
                false => None,
            };
            let mlp = mlp("mlp", "feedforward_layernorm")?;
            Ok::<_, crate::Error>(Block {
                attention,
                fast,
                mlp,
            })
        };
        let blocks = (0..config.num_hidden_layers)
            .map(&mut block)
            .collect::<Result<_>>()?;
        Ok(Weights {
            embed,
            blocks,
            norm,
            head,
        })
    }

    /// The same structure with `f(name, parameter)` in every place, in a fixed order.
    pub fn map<U>(&self, mut f: impl FnMut(&str, &W) -> U) -> Weights<U> {
        Weights {
            embed: f("model.embed_tokens.weight", &self.embed),
            norm: f("model.norm.weight", &self.norm),
            head: self.head.as_ref().map(|w| f("lm_head.weight", w)),
            blocks: (self.blocks.iter().enumerate())
                .map(|(i, b)| {
                    b.map(&mut |name, w| f(&format!("model.layers.{i}.{name}.weight"), w))
                })
                .collect(),
        }
    }

    /// Every parameter in the order of [`map`](Self::map), with its name.
    pub fn named(&self) -> Vec<(String, &W)> {
        let mut all = vec![];
        self.map(|name, _| all.push(name.to_string()));
        all.into_iter().zip(self.values()).collect()
    }

    /// Every parameter in the order of [`map`](Self::map).
    pub fn values(&self) -> Vec<&W> {
        let mut all: Vec<&W> = vec![&self.embed, &self.norm];
        all.extend(&self.head);
        for b in &self.blocks {
            let a = &b.attention;
            all.extend(&a.norm);
            all.extend([&a.q, &a.k, &a.v, &a.o]);
            all.extend(a.q_norm.iter().chain(&a.k_norm).chain(&a.post_norm));
            for m in b.fast.iter().chain([&b.mlp]) {
                all.extend(&m.norm);
                all.extend([&m.gate, &m.up, &m.down]);
                all.extend(&m.post_norm);
            }
        }
        all
    }

    /// [`values`](Self::values), for writing.
    pub fn values_mut(&mut self) -> Vec<&mut W> {
        let mut all: Vec<&mut W> = vec![&mut self.embed, &mut self.norm];
        all.extend(&mut self.head);
        for b in &mut self.blocks {
            let a = &mut b.attention;
            all.extend(&mut a.norm);
            all.extend([&mut a.q, &mut a.k, &mut a.v, &mut a.o]);
            all.extend(
                a.q_norm
                    .iter_mut()
                    .chain(&mut a.k_norm)
                    .chain(&mut a.post_norm),
            );
            for m in b.fast.iter_mut().chain([&mut b.mlp]) {
                all.extend(&mut m.norm);
                all.extend([&mut m.gate, &mut m.up, &mut m.down]);
                all.extend(&mut m.post_norm);
            }
        }
        all
    }

    /// The fast matrices of the last S blocks, as they are before reading.
    pub fn fast(&self) -> Vec<Fast<W>>
    where
        W: Clone,
    {
        let fast = self.blocks.iter().filter_map(|b| b.fast.as_ref());
        fast.map(Mlp::matrices).collect()
    }
}

impl<W> Block<W> {
    /// The same structure with `f(name within the block, parameter)` in every place.
    pub fn map<U>(&self, f: &mut impl FnMut(&str, &W) -> U) -> Block<U> {
        let a = &self.attention;
        let attention = Attention {
            norm: a.norm.as_ref().map(|w| f("input_layernorm", w)),
            q: f("self_attn.q_proj", &a.q),
            k: f("self_attn.k_proj", &a.k),
            v: f("self_attn.v_proj", &a.v),
            o: f("self_attn.o_proj", &a.o),
            q_norm: a.q_norm.as_ref().map(|w| f("self_attn.q_norm", w)),
            k_norm: a.k_norm.as_ref().map(|w| f("self_attn.k_norm", w)),
            post_norm: a
                .post_norm
                .as_ref()
                .map(|w| f("post_attention_layernorm", w)),
        };
        let mut mlp = |module: &str, norm: &str, m: &Mlp<W>| Mlp {
            norm: m.norm.as_ref().map(|w| f(&format!("pre_{norm}"), w)),
            gate: f(&format!("{module}.gate_proj"), &m.gate),
            up: f(&format!("{module}.up_proj"), &m.up),
            down: f(&format!("{module}.down_proj"), &m.down),
            post_norm: m.post_norm.as_ref().map(|w| f(&format!("post_{norm}"), w)),
        };
        Block {
            attention,
            fast: (self.fast.as_ref()).map(|m| mlp("fast_mlp", "fast_feedforward_layernorm", m)),
            mlp: mlp("mlp", "feedforward_layernorm", &self.mlp),
        }
    }
}

impl<W: Clone> Mlp<W> {
    /// The matrices without the norms.
    pub fn matrices(&self) -> Fast<W> {
        Fast {
            gate: self.gate.clone(),
            up: self.up.clone(),
            down: self.down.clone(),
        }
    }
}

impl<W> Fast<W> {
    /// gate, up, down.
    pub fn each(&self) -> [&W; 3] {
        [&self.gate, &self.up, &self.down]
    }

    /// [`each`](Self::each), for writing.
    pub fn each_mut(&mut self) -> [&mut W; 3] {
        [&mut self.gate, &mut self.up, &mut self.down]
    }

    /// The same function of all three.
    pub fn map<U>(&self, mut f: impl FnMut(&W) -> U) -> Fast<U> {
        Fast {
            gate: f(&self.gate),
            up: f(&self.up),
            down: f(&self.down),
        }
    }
}

impl Weights<Tensor> {
    /// Number of parameters.
    pub fn count(&self) -> usize {
        self.values().iter().map(|w| w.len()).sum()
    }

    /// The same parameters on a device.
    pub fn to(mut self, device: Device) -> Result<Self> {
        for w in self.values_mut() {
            *w = w.to(device)?;
        }
        Ok(self)
    }
}

/// Number of parameters of a model with this configuration and all norms there are.
pub fn count_of(config: &Config) -> Result<usize> {
    let mut count = 0;
    Weights::build(config, |_, shape, _| {
        count += shape.iter().product::<usize>();
        Ok(Some(()))
    })?;
    Ok(count)
}

/// Names of the fast matrices of block `i` on disk, in the order of [`Fast::each`].
pub fn fast_names(i: usize) -> [String; 3] {
    ["gate", "up", "down"].map(|m| format!("model.layers.{i}.fast_mlp.{m}_proj.weight"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn map_named_and_build_agree() -> Result<()> {
        let config: Config = serde_json::from_str(
            r#"{"vocab_size": 5, "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 2,
                "num_attention_heads": 2, "ttt": {"mini_batch_size": 2, "num_fast_layers": 1,
                "inner_learning_rate": 1.0, "inner_clip_norm": 1.0}}"#,
        )
        .expect("a configuration");
        let built = Weights::build(&config, |name, _, _| Ok(Some(name.to_string())))?;
        built.map(|name, w| assert_eq!(name, w));
        for (name, w) in built.named() {
            assert_eq!(&name, w);
        }
        let fast: Vec<String> = built.fast()[0].each().map(String::clone).to_vec();
        assert_eq!(fast, fast_names(1));
        Ok(())
    }
}
