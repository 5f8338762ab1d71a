//! Which mini-batches are surprising.

/// Losses that a quantile is taken of, and how many there must be before it means something.
const MOST: usize = 64;
const FEWEST: usize = 8;

/// Mean losses of the last mini-batches.
#[derive(Clone, Default)]
pub(super) struct Surprise {
    /// In the order they came, but for the oldest, whose place the next one takes.
    pub losses: Vec<f64>,
    /// That place.
    pub next: usize,
}

impl Surprise {
    /// Takes in the loss of a mini-batch: true if it is at least the `quantile` of those before it, or if they are too few.
    pub fn surprises(&mut self, loss: f64, quantile: f64) -> bool {
        let mut sorted = self.losses.clone();
        sorted.sort_by(f64::total_cmp);
        let threshold = sorted.get((quantile * sorted.len() as f64) as usize);
        let surprises = sorted.len() < FEWEST || threshold.is_none_or(|t| loss >= *t);
        match self.losses.get_mut(self.next) {
            Some(oldest) => *oldest = loss,
            None => self.losses.push(loss),
        }
        self.next = (self.next + 1) % MOST;
        surprises
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_of_the_last_losses() {
        let mut surprise = Surprise::default();
        // too few to compare with
        for loss in [5.0, 1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0] {
            assert!(surprise.surprises(loss, 0.5));
        }
        // the fifth of 1..8 is 5
        assert!(surprise.clone().surprises(5.0, 0.5));
        assert!(!surprise.clone().surprises(4.9, 0.5));
        assert!(surprise.clone().surprises(1.0, 0.0));
        assert!(!surprise.clone().surprises(7.9, 0.99));
        // what lies further back than 64 mini-batches no longer counts
        for _ in 0..MOST {
            surprise.surprises(0.5, 0.5);
        }
        assert_eq!(surprise.losses.len(), MOST);
        assert!(surprise.surprises(0.6, 0.99));
    }

    /// Of losses that come in any order about a quantile's share is surprising.
    #[test]
    fn about_as_many_as_asked_for() {
        for quantile in [0.25, 0.5, 0.9] {
            let mut surprise = Surprise::default();
            let mut x = 1u64;
            let mut loss = || {
                x = x
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                (x >> 33) as f64
            };
            let count = (0..4000)
                .filter(|_| surprise.surprises(loss(), quantile))
                .count();
            let share = count as f64 / 4000.0;
            // five standard deviations of a share are 0.04; each is compared with the 64 before it alone, which adds to that
            assert!(
                (share - (1.0 - quantile)).abs() < 0.06,
                "{quantile}: {share}"
            );
        }
    }
}
