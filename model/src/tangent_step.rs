//! The other way to the meta-gradient: one tangent sweep, then one reverse sweep (MATH of the method, fact 1).
//!
//! With v the cotangent of g_i = dl_i/dW, what flows back through a mini-batch is the gradient of <v, dl_i/dW>. That is the
//! derivative of l_i along v, a scalar that one tangent sweep gives, and its gradient needs one reverse sweep more: the inner
//! gradient is never differentiated. Nothing of a mini-batch is kept but its inputs.

use std::sync::Arc;

use ops::{At, Op, Tensor, Var, apply, backward, tangents, vjp};

use crate::suffix::{Inner, State, Suffix, flat, inner_error, mean};
use crate::{Error, Result};

/// One mini-batch and its inner step as an op.
struct TangentStep {
    suffix: Suffix,
    shape: State,
    targets: Arc<[u32]>,
    inner: Inner,
}

impl Suffix {
    /// [`step`](Self::step), differentiated the other way.
    pub(crate) fn tangent_step(
        &self,
        x: &Var,
        targets: &Arc<[u32]>,
        state: &State,
        inner: &Inner,
    ) -> Result<(Var, State)> {
        let shape = state.detach();
        let step = TangentStep {
            suffix: self.constant(),
            shape: shape.clone(),
            targets: targets.clone(),
            inner: inner.clone(),
        };
        let inputs = self.inputs(x, state);
        let mut out = apply(step, &inputs.iter().collect::<Vec<_>>())?.into_iter();
        let mut next = || out.next().expect("as many outputs as a step has");
        Ok((next(), shape.with_values(&mut next)))
    }
}

impl TangentStep {
    /// The cotangents of all inputs `z`, tracked, from those of losses, fast weights and caches.
    fn pull(&self, z: &[Var], ct: &[Option<Var>]) -> Result<Vec<Option<Var>>> {
        let (x, state, suffix) = self.suffix.with_inputs(&self.shape, z);
        let w = flat(&state.fast);
        let (nll, caches) = suffix.losses(&x, &self.targets, &state.fast, &state.caches)?;
        let mut y = vec![nll.clone()];
        y.extend(caches.iter().flat_map(|c| [c.k.clone(), c.v.clone()]));
        let (ct_fast, ct_caches) = ct[1..].split_at(w.len());
        let mut seeds = vec![ct[0].clone()];
        seeds.extend_from_slice(ct_caches);
        let learns = self.inner.ttt.is_some() && ct_fast.iter().any(Option::is_some);
        if learns {
            let l = mean(&nll)?;
            // g, then v: back through the update alone
            let g: Vec<Option<Var>> = (backward(&l, &w)?.into_iter())
                .map(|g| g.map(Var::leaf))
                .collect();
            let there: Vec<Var> = g.iter().flatten().cloned().collect();
            let constant: Vec<_> = state.fast.iter().map(|f| f.map(Var::detach)).collect();
            let after = flat(&self.inner.learn(&constant, g.clone())?);
            let mut found = vjp(&after, ct_fast, &there)?.into_iter();
            let v: Vec<Option<Var>> = g.iter().map(|g| g.as_ref().and(found.next()?)).collect();
            // the derivative of l along v
            if let Some(along) = tangents(&[l], &w, &v)?.remove(0) {
                let one = along.value().full_like(&[], 1.0)?;
                seeds.push(Some(Var::constant(one)));
                y.push(along);
            }
        }
        let mut dz = vjp(&y, &seeds, z)?;
        // W_i = W_{i-1} - ...
        for (dw, ct) in dz[1..].iter_mut().zip(ct_fast) {
            *dw = match (dw.take(), ct) {
                (Some(dw), Some(ct)) => Some(ops::add(&dw, ct)?),
                (dw, ct) => dw.or(ct.clone()),
            };
        }
        Ok(dz)
    }
}

impl Op<Tensor> for TangentStep {
    fn name(&self) -> &'static str {
        "tangent_step"
    }

    fn eval(&self, z: &[&Tensor]) -> ops::Result<Vec<Tensor>> {
        let z: Vec<Var> = z.iter().map(|z| Var::constant((*z).clone())).collect();
        let (x, state, suffix) = self.suffix.with_inputs(&self.shape, &z);
        let inner = Inner {
            first_order: true,
            ..self.inner.clone()
        };
        let step = suffix.step(&x, &self.targets, &state, &inner);
        let (nll, state) = step.map_err(inner_error)?;
        let mut out = vec![nll.into_value()];
        out.extend(state.values().into_iter().map(Var::into_value));
        Ok(out)
    }

    /// First order only: g is taken as a constant once v is known, so this rule is not differentiated again.
    fn vjp(&self, at: &At<Tensor>, ct: &[Option<Var>]) -> ops::Result<Vec<Option<Var>>> {
        let z: Vec<Var> = at.x.iter().map(|z| Var::leaf(z.value().clone())).collect();
        let ct: Vec<_> = ct.iter().map(|ct| ct.as_ref().map(Var::detach)).collect();
        let dz = self.pull(&z, &ct).map_err(|e: Error| inner_error(e))?;
        Ok(dz.into_iter().map(|dz| dz.map(|dz| dz.detach())).collect())
    }
}
