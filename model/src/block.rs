//! One Transformer block, as functions on variables.
//!
//! ```text
//! x <- x + norm(attn(norm(x)))            causal attention, sliding with window k or full
//! x <- x + norm(fast_mlp(norm(x)))        only in the last S blocks
//! x <- x + norm(mlp(norm(x)))
//! ```

use ops::{
    DType, Tensor, Var, add, cast, concat, linear, reshape, rms_norm, rope, slice, swa_attention,
    swiglu_mlp,
};

use crate::weights::{Attention, Fast, Mlp};
use crate::{Config, Result};

/// Cosines and sines for positions 0.., made once.
#[derive(Clone)]
pub struct Rotary {
    cos: Tensor,
    sin: Tensor,
}

impl Rotary {
    /// Tables for `positions` positions, of the dtype and on the device of `like`.
    pub fn new(config: &Config, positions: usize, like: &Tensor) -> Result<Self> {
        let (h, theta) = (config.head_dim(), config.rope_theta);
        let (cos, sin) = ops::derived::rope_tables(0, positions, h, theta, like.dtype())?;
        let device = like.device();
        Ok(Rotary {
            cos: cos.to(device)?,
            sin: sin.to(device)?,
        })
    }

    /// Cosines and sines of `count` positions from `start` on.
    pub fn tables(&self, start: usize, count: usize) -> Result<[Tensor; 2]> {
        let rows = |table: &Tensor| table.rows(start, start + count);
        Ok([rows(&self.cos)?, rows(&self.sin)?])
    }

    /// Rotates x [t, n, h], whose first row stands at position `start`.
    fn rotate(&self, x: &Var, start: usize) -> Result<Var> {
        let [cos, sin] = self.tables(start, x.value().shape()[0])?;
        Ok(rope(x, &cos, &sin)?)
    }
}

/// Keys (normed, not yet rotated) and values of the earlier positions that later queries still see: [c, m, h] each,
/// c < k. They are rotated by their place in the window, so angles stay exact at any position.
#[derive(Clone)]
pub struct KeyValues {
    /// Keys.
    pub k: Var,
    /// Values.
    pub v: Var,
}

impl KeyValues {
    /// Nothing read yet, of a dtype and on the device of `like`.
    pub fn empty(config: &Config, like: &Tensor, dtype: DType) -> Result<Self> {
        let shape = [0, config.kv_heads(), config.head_dim()];
        let none = cast(&Var::constant(like.full_like(&shape, 0.0)?), dtype)?;
        Ok(KeyValues {
            k: none.clone(),
            v: none,
        })
    }

    /// Number of positions held.
    pub fn len(&self) -> usize {
        self.k.value().shape()[0]
    }

    /// True at the start of a text.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What later queries still see after `current` [t, m, h]: each sees itself and the window - 1 positions before it.
    pub fn then(&self, current: &KeyValues, window: usize) -> Result<Self> {
        let (c, t) = (self.len(), current.len());
        let end = c + t;
        let first = end - end.min(window - 1);
        let tail = |cached: &Var, current: &Var| match first < c {
            true => concat(&[&slice(cached, 0, first, c)?, current], 0),
            false => slice(current, 0, first - c, t),
        };
        Ok(KeyValues {
            k: tail(&self.k, &current.k)?,
            v: tail(&self.v, &current.v)?,
        })
    }

    /// The same in buffers of its own, so that one of which it is a part can go.
    pub(crate) fn alone(&self) -> ops::Result<Self> {
        let copy = |x: &Var| concat(&[x], 0);
        Ok(KeyValues {
            k: copy(&self.k)?,
            v: copy(&self.v)?,
        })
    }

    /// The same without its history.
    pub fn detach(&self) -> Self {
        KeyValues {
            k: self.k.detach(),
            v: self.v.detach(),
        }
    }
}

/// RMSNorm if there is a weight for it.
pub fn norm(x: &Var, w: &Option<Var>, config: &Config) -> Result<Var> {
    Ok(match w {
        None => x.clone(),
        Some(w) => rms_norm(x, w, config.rms_norm_eps)?,
    })
}

/// x + norm(attn(norm(x))) for x [t, d] that follows the positions in `cache`, of which a query sees `window` with its own; and
/// its keys and values.
pub fn attention(
    config: &Config,
    rotary: &Rotary,
    w: &Attention<Var>,
    x: &Var,
    cache: &KeyValues,
    window: usize,
) -> Result<(Var, KeyValues)> {
    let (t, h) = (x.value().shape()[0], config.head_dim());
    let heads = |y: Var, n: usize| reshape(&y, &[t, n, h]);
    let y = norm(x, &w.norm, config)?;
    let q = heads(linear(&y, &w.q)?, config.num_attention_heads)?;
    let k = heads(linear(&y, &w.k)?, config.kv_heads())?;
    let v = heads(linear(&y, &w.v)?, config.kv_heads())?;
    let (q, k) = (norm(&q, &w.q_norm, config)?, norm(&k, &w.k_norm, config)?);
    let c = cache.len();
    let o = swa_attention(
        &rotary.rotate(&q, c)?,
        [&rotary.rotate(&cache.k, 0)?, &cache.v],
        [&rotary.rotate(&k, c)?, &v],
        window,
    )?;
    let y = norm(&linear(&o, &w.o)?, &w.post_norm, config)?;
    Ok((add(x, &y)?, KeyValues { k, v }))
}

/// x + norm(down(silu(gate norm(x)) * up norm(x))) with the norms of `w` and the matrices `m`, which are w's own or the fast
/// weights that have taken their place.
pub fn mlp(config: &Config, w: &Mlp<Var>, m: &Fast<Var>, x: &Var) -> Result<Var> {
    let y = norm(x, &w.norm, config)?;
    let y = swiglu_mlp(&y, &m.gate, &m.up, &m.down)?;
    let y = norm(&y, &w.post_norm, config)?;
    Ok(add(x, &y)?)
}
