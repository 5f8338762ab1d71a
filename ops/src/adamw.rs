//! The outer optimiser's update, in place.

use crate::dtype::{Element, Float, for_float};
use crate::error::{Error, Result};
use crate::{Tensor, cuda, par};

/// One step of AdamW (arXiv 1711.05101).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, times the learning rate.
    pub weight_decay: f64,
    /// Number of this step, from 1: undoes the moments' bias towards zero.
    pub step: u64,
}

impl AdamW {
    /// m <- b1 m + (1-b1) g; v <- b2 v + (1-b2) g^2; w <- w - lr (mh / (sqrt(vh) + eps) + decay w), where g is `gradient` times
    /// `scale` (the clipping factor) and mh, vh are m and v over 1 - b^step.
    pub fn update(
        &self,
        w: &mut Tensor,
        m: &mut Tensor,
        v: &mut Tensor,
        gradient: &Tensor,
        scale: f64,
    ) -> Result<()> {
        let same = |t: &Tensor| t.shape() == w.shape() && t.dtype() == w.dtype();
        if ![&*m, &*v, gradient].into_iter().all(same) {
            let message = format!("w {w:?}, m {m:?}, v {v:?}, gradient {gradient:?} differ");
            return Err(Error::shape("adamw", message));
        }
        if let Some(cuda) = cuda::of("adamw", [&*w, &*m, &*v, gradient])? {
            return cuda.adamw(self, [w, m, v], gradient, scale);
        }
        for_float!("adamw", w.dtype(), T => {
            let own = "dispatched on this dtype";
            let w = w.make_mut::<T>().expect(own);
            let m = m.make_mut::<T>().expect(own);
            let v = v.make_mut::<T>().expect(own);
            self.run(w, m, v, gradient.data::<T>(), T::from_f64(scale));
        });
        Ok(())
    }

    fn run<T: Float>(&self, w: &mut [T], m: &mut [T], v: &mut [T], g: &[T], scale: T) {
        let number = T::from_f64;
        let (b1, b2) = (number(self.beta1), number(self.beta2));
        let unbias = |b: f64| number(1.0 / (1.0 - b.powi(self.step as i32)));
        let (u1, u2) = (unbias(self.beta1), unbias(self.beta2));
        let (lr, eps) = (number(self.learning_rate), number(self.eps));
        let keep = number(1.0 - self.learning_rate * self.weight_decay);
        par::pieces_of([w, m, v], |start, [w, m, v]| {
            let g = &g[start..start + w.len()];
            par::simd(
                #[inline(always)]
                || {
                    for (((w, m), v), g) in w.iter_mut().zip(m).zip(v).zip(g) {
                        let g = *g * scale;
                        *m = b1 * *m + (T::ONE - b1) * g;
                        *v = b2 * *v + (T::ONE - b2) * g * g;
                        *w = *w * keep - lr * (*m * u1) / (Float::sqrt(*v * u2) + eps);
                    }
                },
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_formula() -> Result<()> {
        let adam = AdamW {
            learning_rate: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            step: 1,
        };
        let of = |x: f64| Tensor::from_vec(&[1], vec![x]);
        let (mut w, mut m, mut v) = (of(2.0)?, of(0.0)?, of(0.0)?);
        let shared = w.clone();
        adam.update(&mut w, &mut m, &mut v, &of(-6.0)?, 0.5)?;
        // the first step has the size of the learning rate, whatever the gradient
        assert!((w.item()? - (2.0 * (1.0 - 0.01) + 0.1)).abs() < 1e-8);
        assert!((m.item()? + 0.3).abs() < 1e-12 && (v.item()? - 0.45).abs() < 1e-12);
        assert_eq!(
            shared.item()?,
            2.0,
            "a shared buffer is copied before it is written"
        );
        let adam = AdamW { step: 2, ..adam };
        adam.update(&mut w, &mut m, &mut v, &of(1.0)?, 1.0)?;
        let (mh, vh): (f64, f64) = ((0.9 * -0.3 + 0.1) / 0.19, (0.95 * 0.45 + 0.05) / 0.0975);
        let expected = 2.08 * 0.99 - 0.1 * mh / (vh.sqrt() + 1e-8);
        assert!((w.item()? - expected).abs() < 1e-8, "{w:?} {expected}");
        Ok(())
    }
}
