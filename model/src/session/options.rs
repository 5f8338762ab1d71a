//! How a session learns.

use crate::{Config, Error, Result, Ttt};

/// Switches of a session. The default is the method as it was trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Take inner steps. Off: the fast weights stay as they are.
    pub learn: bool,
    /// Only the first so many fast layers learn. `None`: all.
    pub fast_layers: Option<usize>,
    /// Learn only from surprising mini-batches: those whose loss is at least this quantile of the losses of the last 64. 0 learns
    /// from all, 0.5 from about half of them. `None`: from all.
    pub surprise: Option<f64>,
    /// The inner learning rate is divided by 1 + (inner steps taken) / this. `None`: it stays.
    pub decay: Option<f64>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            learn: true,
            fast_layers: None,
            surprise: None,
            decay: None,
        }
    }
}

impl Options {
    /// Errors that name the option and what would work.
    pub(super) fn check(&self, config: &Config) -> Result<()> {
        let s = config.fast_layers();
        if let Some(k) = self.fast_layers.filter(|&k| k > s) {
            let message = format!("must be at most {s}, the model's fast layers");
            return Err(Error::setting("fast_layers", k, message));
        }
        if let Some(q) = self.surprise.filter(|q| !(0.0..1.0).contains(q)) {
            let message = "must be at least 0 and below 1; 0.5 learns from about half of the text";
            return Err(Error::setting("surprise", q, message));
        }
        if let Some(n) = self.decay.filter(|n| !(*n > 0.0 && n.is_finite())) {
            let message =
                "must be a positive number of inner steps, after which the rate has halved";
            return Err(Error::setting("decay", n, message));
        }
        Ok(())
    }

    /// Fast layers that learn.
    pub(super) fn learners(&self, config: &Config) -> usize {
        let s = config.fast_layers();
        match self.learn {
            true => self.fast_layers.unwrap_or(s).min(s),
            false => 0,
        }
    }

    /// The inner loop, if anything learns.
    pub(super) fn ttt<'a>(&self, config: &'a Config) -> Option<&'a Ttt> {
        config.ttt.as_ref().filter(|_| self.learners(config) > 0)
    }
}
