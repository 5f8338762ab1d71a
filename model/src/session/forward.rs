//! Rows of one or many sessions through the model, without history.
//!
//! The rows of all sessions go through what they share together, one product for all; each session's rows go alone through its
//! own fast weights and over its own keys and values.

use ops::{Tensor, Var, concat, values};

use super::base::{Base, fast_mlp, matrices};
use super::state::{Part, State};
use crate::Result;
use crate::weights::Mlp;

impl Base {
    /// Embedding, the first L - S blocks, and the attention of the first fast block: ids `[t]` to [t, d].
    pub(super) fn prefix(
        &self,
        ids: &[u32],
        angles: &[Tensor; 2],
        parts: &mut [Part<'_>],
    ) -> Result<Tensor> {
        let first_fast = self.config.first_fast();
        let mut x = self.embed(ids)?;
        let blocks = self.weights.blocks.iter().enumerate();
        for (i, w) in blocks.take(first_fast + 1) {
            x = self.attention(i, &x, angles, parts)?;
            if i < first_fast {
                x = self.mlp(&w.mlp, &x)?;
            }
        }
        Ok(x)
    }

    /// What the output matrix reads [t, d] after x [t, d] of the prefix.
    pub(super) fn suffix(
        &self,
        mut x: Tensor,
        angles: &[Tensor; 2],
        parts: &mut [Part<'_>],
    ) -> Result<Tensor> {
        let first_fast = self.config.first_fast();
        for (j, w) in self.weights.blocks[first_fast..].iter().enumerate() {
            if j > 0 {
                x = self.attention(first_fast + j, &x, angles, parts)?;
            }
            let norms = fast_mlp(w);
            let y = self.norm(&x, &norms.norm)?;
            let z = self.each(parts, |state, rows| {
                let [z, ..] = values::swiglu_mlp(&rows(&y)?, state.fast[j].each())?;
                Ok(z)
            })?;
            x = self.residual(&x, &z, &norms.post_norm)?;
            x = self.mlp(&w.mlp, &x)?;
        }
        self.last_norm(&x)
    }

    /// Block i: x + norm(attn(norm(x))), with keys and values that go into the caches.
    fn attention(
        &self,
        i: usize,
        x: &Tensor,
        angles: &[Tensor; 2],
        parts: &mut [Part<'_>],
    ) -> Result<Tensor> {
        let w = &self.weights.blocks[i].attention;
        let [q, k, v] = self.projections(w, x)?;
        let q = self.rotated(&q, &w.q_norm, angles)?;
        let k = self.rotated(&k, &w.k_norm, angles)?;
        // the inner step goes over these positions again
        let again = i > self.config.first_fast();
        let o = self.each(parts, |state, rows| {
            let (q, cache) = (rows(&q)?, &mut state.caches[i]);
            let open = if again { state.open.len() } else { 0 };
            cache.push(&rows(&k)?, &rows(&v)?, open)?;
            let t = q.shape()[0];
            let (before, current) = (cache.before(t)?, cache.last(t)?);
            let [o, _] =
                values::swa_attention(&q, before.each_ref(), current.each_ref(), cache.window())?;
            Ok(o)
        })?;
        self.residual(x, &values::linear(&o, &w.o)?, &w.post_norm)
    }

    /// x + norm(mlp(norm(x))) of a static MLP.
    fn mlp(&self, w: &Mlp<Tensor>, x: &Tensor) -> Result<Tensor> {
        let [z, ..] = values::swiglu_mlp(&self.norm(x, &w.norm)?, matrices(w))?;
        self.residual(x, &z, &w.post_norm)
    }

    /// What `f` makes of each part, one below the other. It gets a state and a function that takes the rows of its part.
    fn each(
        &self,
        parts: &mut [Part<'_>],
        f: impl Fn(&mut State, &dyn Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> + Sync,
    ) -> Result<Tensor> {
        let one = |part: &mut Part<'_>| {
            let rows = part.rows.clone();
            f(part.state, &|x| Ok(x.rows(rows.start, rows.end)?))
        };
        match parts {
            [part] => one(part),
            parts => {
                let results = self.head().device().map(parts, one);
                let results: Vec<Tensor> = results.into_iter().collect::<Result<_>>()?;
                let results: Vec<Var> = results.into_iter().map(Var::constant).collect();
                Ok(concat(&results.iter().collect::<Vec<_>>(), 0)?.into_value())
            }
        }
    }
}
