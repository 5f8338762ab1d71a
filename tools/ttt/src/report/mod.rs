//! Reports: HTML files that stand alone, and the pictures in them. Here is that of a training run.

mod html;
pub mod lines;
pub mod page;
mod png;
mod series;
mod svg;
#[cfg(test)]
mod tests;
pub mod text;

/// What a report shows.
pub struct Report {
    /// Heading of the page.
    pub title: String,
    /// Names and values of the settings, in the order shown.
    pub settings: Vec<(String, String)>,
    /// The model's configuration, shown as it is.
    pub config_json: String,
    /// Number of parameters of the model.
    pub parameters: usize,
    /// Records taken while training.
    pub training: Vec<TrainingPoint>,
    /// Time the training took.
    pub seconds: f64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Results on books that were not trained on.
    pub heldout: Vec<HeldOut>,
    /// Text the model wrote.
    pub samples: Vec<Sample>,
}

/// One record taken while training.
pub struct TrainingPoint {
    /// Training step.
    pub step: u64,
    /// Loss of the step in nats per token.
    pub loss: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Speed of the step.
    pub tokens_per_second: f64,
}

/// Results on one held-out book.
pub struct HeldOut {
    /// Name of the book.
    pub book: String,
    /// With test-time training; `None` for a model that has none.
    pub on: Option<Curve>,
    /// Without test-time training.
    pub off: Curve,
}

/// Loss on one book.
pub struct Curve {
    /// Mean over all tokens, in nats.
    pub nats_per_token: f64,
    /// The same in bits per byte of text.
    pub bits_per_byte: f64,
    /// Means by position in the sequence.
    pub buckets: Vec<Position>,
}

/// Loss over one stretch of the sequence.
pub struct Position {
    /// First token of the stretch.
    pub from: usize,
    /// First token after the stretch.
    pub to: usize,
    /// Mean over the stretch, in nats.
    pub nats_per_token: f64,
}

/// Text the model wrote.
pub struct Sample {
    /// What the model was given.
    pub prompt: String,
    /// How the model went on.
    pub text: String,
}

impl Report {
    /// The page, without scripts and without references to anything outside it.
    pub fn html(&self) -> String {
        html::training_page(self)
    }
}

impl HeldOut {
    /// Stretches of the sequence with the loss without and with test-time training.
    fn rows(&self) -> Vec<Row> {
        let on = |off: &Position| {
            let mut buckets = self.on.iter().flat_map(|curve| &curve.buckets);
            let same = buckets.find(|on| (on.from, on.to) == (off.from, off.to));
            same.map_or(f64::NAN, |on| on.nats_per_token)
        };
        let row = |off: &Position| Row {
            from: off.from,
            to: off.to,
            off: off.nats_per_token,
            on: on(off),
        };
        self.off.buckets.iter().map(row).collect()
    }
}

/// Loss over one stretch of the sequence; what was not measured is NaN.
struct Row {
    from: usize,
    to: usize,
    off: f64,
    on: f64,
}

impl Row {
    /// What test-time training takes off the loss.
    fn gain(&self) -> f64 {
        self.off - self.on
    }

    fn middle(&self) -> f64 {
        (self.from as f64 + self.to as f64) / 2.0
    }
}
