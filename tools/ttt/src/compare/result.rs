//! What a comparison found, in numbers and words.

use std::fmt::Write;

use serde::Serialize;

use super::losses::{Losses, mean_and_deviation};
use crate::bench::read::rows::Row;
use crate::report::lines::{Lines, Series, Value};
use crate::report::text::{signed, tokens};

/// Several models, compared.
#[derive(Serialize)]
pub struct Comparison {
    /// Tokens per held-out sequence, rising.
    pub lengths: Vec<usize>,
    /// The longest sequence that the models were trained on; `None` where they do not say.
    pub trained_length: Option<usize>,
    /// Number of the model whose loss is taken off in the first panel: full attention, or else the first.
    pub reference: usize,
    /// The models.
    pub models: Vec<Compared>,
    /// What they take after each context.
    pub latency: Vec<Row>,
}

/// A model, trained with several seeds.
#[derive(Serialize)]
pub struct Compared {
    /// Its name.
    pub name: String,
    /// Number of its parameters.
    pub parameters: usize,
    /// The window of the blocks that have one.
    pub window: Option<usize>,
    /// One per seed.
    pub runs: Vec<Losses>,
}

impl Comparison {
    /// Mean over the seeds, with their deviation, of one model's loss at each length.
    fn losses(&self, model: usize) -> Vec<(f64, f64)> {
        let of_length = |i: usize| {
            let runs = self.models[model].runs.iter();
            mean_and_deviation(&runs.map(|r| r.nats_per_token[i]).collect::<Vec<_>>())
        };
        (0..self.lengths.len()).map(of_length).collect()
    }

    /// Mean over the seeds, with their deviation, of the loss of `model` minus that of `other` trained with the same seed.
    pub fn differences(&self, model: usize, other: usize) -> Vec<(f64, f64)> {
        let (a, b) = (&self.models[model].runs, &self.models[other].runs);
        let of_length = |i: usize| {
            let pairs = a.iter().zip(b);
            let minus = |(a, b): (&Losses, &Losses)| a.nats_per_token[i] - b.nats_per_token[i];
            mean_and_deviation(&pairs.map(minus).collect::<Vec<_>>())
        };
        (0..self.lengths.len()).map(of_length).collect()
    }

    fn lines(&self, label: String, numbers: impl Fn(usize) -> Vec<(f64, f64)>) -> Lines {
        let series = (0..self.models.len()).map(|model| Series {
            name: self.models[model].name.clone(),
            model,
            values: (self.lengths.iter().zip(numbers(model)))
                .map(|(&x, (y, error))| Value {
                    error,
                    ..Value::new(x, y)
                })
                .collect(),
        });
        Lines {
            label,
            powers: false,
            series: series.collect(),
        }
    }

    /// Losses by context length.
    pub fn loss_lines(&self) -> Lines {
        self.lines("loss, nats per token".into(), |m| self.losses(m))
    }

    /// The first panel of the method's figure.
    pub fn difference_lines(&self) -> Lines {
        let label = format!(
            "loss minus that of {}, nats per token",
            self.models[self.reference].name
        );
        self.lines(label, |m| self.differences(m, self.reference))
    }

    /// Losses by position in the longest sequences.
    pub fn position_lines(&self) -> Lines {
        let values = |model: &Compared| -> Vec<Value> {
            let parts = model.runs.first().map_or(0, |r| r.by_position.len());
            let value = |i: usize| {
                let runs = model.runs.iter().map(|r| r.by_position[i].nats_per_token);
                let (y, error) = mean_and_deviation(&runs.collect::<Vec<_>>());
                let x = model.runs[0].by_position[i].to;
                Value {
                    error,
                    ..Value::new(x, y)
                }
            };
            (0..parts).map(value).collect()
        };
        let series = self.models.iter().enumerate().map(|(i, model)| Series {
            name: model.name.clone(),
            model: i,
            values: values(model),
        });
        Lines {
            label: "loss up to this position, from half of it on, nats per token".into(),
            powers: false,
            series: series.collect(),
        }
    }

    /// The second panel of the method's figure.
    pub fn latency_lines(&self) -> [Lines; 2] {
        let lines = |label: &str, number: fn(&Row) -> f64| {
            let series = self.models.iter().enumerate().map(|(model, m)| Series {
                name: m.name.clone(),
                model,
                values: (self.latency.iter().filter(|r| r.model == m.name))
                    .map(|r| Value {
                        measured: r.measured,
                        ..Value::new(r.context, number(r))
                    })
                    .collect(),
            });
            Lines {
                label: label.to_string(),
                powers: true,
                series: series.filter(|s| !s.values.is_empty()).collect(),
            }
        };
        [
            lines("latency of reading, seconds per 1K tokens", |r| {
                r.prefill_s_per_1k
            }),
            lines("latency of writing, milliseconds per token", |r| {
                r.decode_ms_per_token
            }),
        ]
    }

    fn number_of(&self, name: &str) -> Option<usize> {
        self.models.iter().position(|m| m.name == name)
    }

    /// What the numbers say, a sentence each.
    pub fn findings(&self) -> Vec<String> {
        let mut findings = vec![];
        let Some(ttt) = self.number_of("ttt-e2e") else {
            return findings;
        };
        if let Some(sliding) = self.number_of("sliding-window") {
            let window = self.models[sliding].window.unwrap_or(0);
            let differences = self.differences(ttt, sliding);
            let beyond = self
                .lengths
                .iter()
                .zip(differences)
                .filter(|(l, _)| **l > window);
            let beyond: Vec<_> = beyond.collect();
            let above: Vec<String> = (beyond.iter().filter(|(_, d)| d.0 >= 0.0))
                .map(|(l, _)| tokens(**l))
                .collect();
            let listed: Vec<String> = (beyond.iter())
                .map(|(l, d)| format!("{} at {}", with_deviation(d), tokens(**l)))
                .collect();
            findings.push(match above.is_empty() {
                true => format!(
                    "TTT-E2E is below the sliding window at every length beyond the window: {} nats per token.",
                    listed.join(", ")
                ),
                false => format!(
                    "TTT-E2E is not below the sliding window at {} tokens: {} nats per token.",
                    above.join(", "),
                    listed.join(", ")
                ),
            });
        }
        for name in ["full-attention", "hybrid"] {
            if let Some(other) = self.number_of(name) {
                let differences = self.differences(ttt, other);
                let listed: Vec<String> = (self.lengths.iter().zip(differences))
                    .map(|(l, d)| format!("{} at {}", with_deviation(&d), tokens(*l)))
                    .collect();
                let list = listed.join(", ");
                findings.push(format!("TTT-E2E minus {name}: {list} nats per token."));
            }
        }
        for name in ["full-attention", "sliding-window", "hybrid"] {
            findings.extend(self.speed_beside(name));
        }
        findings
    }

    /// How long another model takes after the longest context, over how long TTT-E2E takes.
    fn speed_beside(&self, name: &str) -> Option<String> {
        let at = |name: &str, context: usize| {
            let mut rows = self.latency.iter();
            rows.find(|r| r.model == name && r.context == context)
        };
        let context = self.latency.iter().map(|r| r.context).max()?;
        let (ttt, other) = (at("ttt-e2e", context)?, at(name, context)?);
        let how = if other.measured {
            ""
        } else {
            " (extrapolated)"
        };
        Some(format!(
            "After {} tokens {name} takes {:.2} times as long as TTT-E2E to read and {:.2} times to write{how}.",
            tokens(context),
            other.prefill_s_per_1k / ttt.prefill_s_per_1k,
            other.decode_ms_per_token / ttt.decode_ms_per_token
        ))
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let width = self
            .models
            .iter()
            .map(|m| m.name.len())
            .max()
            .unwrap_or(0)
            .max(8);
        let mut text = String::new();
        let mut table = |title: &str, numbers: &dyn Fn(usize) -> Vec<(f64, f64)>| {
            let heads: String = self
                .lengths
                .iter()
                .map(|l| format!("{:>18}", tokens(*l)))
                .collect();
            let _ = writeln!(text, "{title}\n{:width$}{heads}", "length");
            for (i, model) in self.models.iter().enumerate() {
                let cells: String = (numbers(i).iter())
                    .map(|(mean, deviation)| match *deviation > 0.0 {
                        true => format!("{:>18}", format!("{mean:.4} ± {deviation:.4}")),
                        false => format!("{:>18}", format!("{mean:.4}")),
                    })
                    .collect();
                let _ = writeln!(text, "{:width$}{cells}", model.name);
            }
            text.push('\n');
        };
        table("nats per token on held-out books", &|m| self.losses(m));
        let title = format!("the same minus {}", self.models[self.reference].name);
        table(&title, &|m| self.differences(m, self.reference));
        for finding in self.findings() {
            let _ = writeln!(text, "{finding}");
        }
        text
    }

    /// A line per model, seed and length.
    pub fn csv(&self) -> String {
        let mut text = "model,parameters,run,length,nats_per_token\n".to_string();
        for model in &self.models {
            for (run, losses) in model.runs.iter().enumerate() {
                for (length, nats) in self.lengths.iter().zip(&losses.nats_per_token) {
                    let (name, parameters) = (&model.name, model.parameters);
                    let _ = writeln!(text, "{name},{parameters},{run},{length},{nats}");
                }
            }
        }
        text
    }
}

/// `−0.123 ± 0.004`.
fn with_deviation(d: &(f64, f64)) -> String {
    match d.1 > 0.0 {
        true => format!("{} ± {:.3}", signed(d.0, 3), d.1),
        false => signed(d.0, 3),
    }
}
