//! Choosing the next token.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::{Error, Result};

/// How the next token is drawn from the logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 always takes the most likely token.
    pub temperature: f64,
    /// Only the most likely tokens that together have this probability are drawn from; 1 means all.
    pub top_p: f64,
    /// Only this many of the most likely tokens are drawn from; 0 means all.
    pub top_k: usize,
    /// Seed: the same seed and logits give the same tokens.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            temperature: 0.8,
            top_p: 0.95,
            top_k: 0,
            seed: 0,
        }
    }
}

/// Draws tokens.
///
/// ```
/// use model::sampling::{Sampler, Sampling};
/// let mut sampler = Sampler::new(Sampling { temperature: 0.0, ..Sampling::default() })?;
/// assert_eq!(sampler.sample(&[0.1, 2.0, -1.0])?, 1);
/// # Ok::<(), model::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
}

impl Sampler {
    /// Errors: a temperature that is negative or not finite, a `top_p` outside (0, 1].
    pub fn new(sampling: Sampling) -> Result<Self> {
        let Sampling {
            temperature,
            top_p,
            seed,
            ..
        } = sampling;
        if !(temperature >= 0.0 && temperature.is_finite()) {
            let message = "must be a number >= 0; 0 always takes the most likely token";
            return Err(Error::setting("temperature", temperature, message));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            let message = "must be above 0 and at most 1; 1 draws from all tokens";
            return Err(Error::setting("top_p", top_p, message));
        }
        Ok(Sampler {
            sampling,
            rng: ChaCha8Rng::seed_from_u64(seed),
        })
    }

    /// The next token, an index into `logits`. Ties go to the smaller index.
    ///
    /// Errors: no logits, one that is NaN or plus infinity, or none that is finite. Minus infinity rules a token out.
    pub fn sample(&mut self, logits: &[f64]) -> Result<u32> {
        let broken = |l: &f64| l.is_nan() || *l == f64::INFINITY;
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if logits.iter().any(broken) || !max.is_finite() {
            let token = logits.iter().position(broken);
            return Err(Error::NotFinite {
                what: match token {
                    Some(i) => format!("the logit of token {i}"),
                    None => "the largest logit".to_string(),
                },
                remedy: "the model has no next token to offer; try it with learning off, or use another checkpoint",
            });
        }
        let Sampling {
            temperature,
            top_p,
            top_k,
            ..
        } = self.sampling;
        if temperature == 0.0 {
            let best = logits.iter().position(|&l| l == max);
            return Ok(best.expect("the maximum is one of them") as u32);
        }
        // unnormalised probabilities, the most likely is 1
        let weight = |&l: &f64| ((l - max) / temperature).exp();
        let mut tokens: Vec<(u32, f64)> = (0..).zip(logits.iter().map(weight)).collect();
        if top_p < 1.0 || top_k > 0 {
            tokens.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        }
        if top_k > 0 {
            tokens.truncate(top_k);
        }
        if top_p < 1.0 {
            let enough = top_p * total(&tokens);
            let mut sum = 0.0;
            let above = tokens.iter().position(|(_, w)| {
                sum += w;
                sum >= enough
            });
            tokens.truncate(above.map_or(tokens.len(), |i| i + 1));
        }
        // 53 random bits: uniform in [0, 1)
        let uniform = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = uniform * total(&tokens);
        let drawn = tokens.iter().find(|(_, w)| {
            left -= w;
            left < 0.0
        });
        // rounding may leave a rest at the end; the most likely token is then as good as any
        let best = || {
            tokens
                .iter()
                .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
        };
        Ok(drawn
            .or_else(best)
            .expect("at least the most likely token")
            .0)
    }
}

fn total(tokens: &[(u32, f64)]) -> f64 {
    tokens.iter().map(|t| t.1).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(temperature: f64, top_p: f64, top_k: usize, seed: u64) -> Result<Sampler> {
        Sampler::new(Sampling {
            temperature,
            top_p,
            top_k,
            seed,
        })
    }

    /// Share of each token in many draws.
    fn shares(mut sampler: Sampler, logits: &[f64]) -> Result<Vec<f64>> {
        let draws = 40_000;
        let mut shares = vec![0.0; logits.len()];
        for _ in 0..draws {
            shares[sampler.sample(logits)? as usize] += 1.0 / draws as f64;
        }
        Ok(shares)
    }

    fn close(a: &[f64], b: &[f64]) -> bool {
        // five standard deviations of a share of 40 000 draws are at most 0.0125
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 0.0125)
    }

    const P: [f64; 4] = [0.1, 0.5, 0.15, 0.25];

    #[test]
    fn frequencies_are_probabilities() -> Result<()> {
        let logits = P.map(|p| p.ln() + 3.0);
        assert!(close(&shares(sampler(1.0, 1.0, 0, 1)?, &logits)?, &P));
        // temperature 1/2 squares the probabilities
        let squares = P.map(|p| p * p / P.iter().map(|p| p * p).sum::<f64>());
        assert!(close(&shares(sampler(0.5, 1.0, 0, 2)?, &logits)?, &squares));
        // the two most likely
        let two = [0.0, 2.0 / 3.0, 0.0, 1.0 / 3.0];
        assert!(close(&shares(sampler(1.0, 1.0, 2, 3)?, &logits)?, &two));
        assert!(close(&shares(sampler(1.0, 0.7, 0, 4)?, &logits)?, &two));
        // the fewest that reach 0.8 are three; top_p counts what top_k leaves
        let three = [0.0, 5.0 / 9.0, 1.5 / 9.0, 2.5 / 9.0];
        assert!(close(&shares(sampler(1.0, 0.8, 0, 5)?, &logits)?, &three));
        assert!(close(
            &shares(sampler(1.0, 0.6, 2, 6)?, &logits)?,
            &[0.0, 1.0, 0.0, 0.0]
        ));
        Ok(())
    }

    #[test]
    fn seeds_repeat() -> Result<()> {
        let logits: Vec<f64> = (0..50).map(|i| (i as f64).sin()).collect();
        let draw = |seed| -> Result<Vec<u32>> {
            let mut sampler = sampler(1.0, 0.9, 0, seed)?;
            (0..20).map(|_| sampler.sample(&logits)).collect()
        };
        assert_eq!(draw(7)?, draw(7)?);
        assert_ne!(draw(7)?, draw(8)?);
        Ok(())
    }

    #[test]
    fn temperature_zero_takes_the_first_maximum() -> Result<()> {
        assert_eq!(sampler(0.0, 0.5, 3, 0)?.sample(&[1.0, 4.0, 4.0, -2.0])?, 1);
        // so does a very small one, without overflow
        assert_eq!(sampler(1e-300, 1.0, 0, 0)?.sample(&[1.0, 4.0, 3.0])?, 1);
        Ok(())
    }

    #[test]
    fn what_cannot_be_drawn_from_is_an_error() -> Result<()> {
        for temperature in [-0.1, f64::NAN, f64::INFINITY] {
            assert!(sampler(temperature, 1.0, 0, 0).is_err());
        }
        for top_p in [0.0, -1.0, 1.1, f64::NAN] {
            assert!(sampler(1.0, top_p, 0, 0).is_err());
        }
        let inf = f64::INFINITY;
        for temperature in [0.0, 1.0] {
            let mut sampler = sampler(temperature, 1.0, 0, 0)?;
            for logits in [&[][..], &[0.0, f64::NAN], &[inf, 0.0], &[-inf, -inf]] {
                assert!(sampler.sample(logits).is_err(), "{logits:?}");
            }
            assert_eq!(sampler.sample(&[-inf, 0.0, -inf])?, 1);
        }
        Ok(())
    }
}
