//! Ours and the peers side by side.

use std::fmt::Write;

use serde::Serialize;

use super::peers::{NotTimed, Peer, Printed, Timed};
use super::step::StepReport;

/// What `ttt bench peers --json` prints.
#[derive(Serialize)]
pub struct Comparison {
    ours: Ours,
    peers: Vec<Beside>,
}

/// Ours, timed before the peers and after them.
#[derive(Serialize)]
struct Ours {
    /// Mean of the two medians.
    step_s: f64,
    static_step_s: f64,
    /// The one after over the one before.
    step_drift: f64,
    static_step_drift: f64,
    /// Highest resident memory of the first training steps.
    peak_rss_gb: f64,
    before: StepReport,
    after: StepReport,
}

/// A peer beside ours.
#[derive(Serialize)]
struct Beside {
    name: &'static str,
    training_step: Outcome,
    static_step: Outcome,
}

/// What became of one kind of step.
#[derive(Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum Outcome {
    Timed {
        step_s_median: f64,
        /// Over ours.
        ratio: f64,
        /// Highest resident memory of its process, where it reports it.
        peak_rss_gb: Option<f64>,
    },
    Absent {
        reason: String,
    },
    Failed {
        error: String,
    },
}

impl Outcome {
    fn new(timed: Timed, ours: f64) -> Self {
        match timed {
            Ok(Printed {
                step_s_median,
                rss_gb,
            }) => Outcome::Timed {
                step_s_median,
                ratio: step_s_median / ours,
                peak_rss_gb: rss_gb,
            },
            Err(NotTimed::Absent(reason)) => Outcome::Absent { reason },
            Err(NotTimed::Failed(error)) => Outcome::Failed { error },
        }
    }

    /// Time and ratio.
    fn cells(&self) -> (String, String) {
        match self {
            Outcome::Timed {
                step_s_median,
                ratio,
                ..
            } => (milliseconds(*step_s_median), format!("{ratio:.2}")),
            Outcome::Absent { .. } => ("absent".into(), String::new()),
            Outcome::Failed { .. } => ("failed".into(), String::new()),
        }
    }

    /// Why there is no time, as a phrase.
    fn why(&self) -> Option<String> {
        match self {
            Outcome::Timed { .. } => None,
            Outcome::Absent { reason } => Some(format!("absent: {reason}")),
            Outcome::Failed { error } => Some(format!("failed: {error}")),
        }
    }
}

impl Comparison {
    /// Ours before, the peers, and ours after.
    pub fn new(
        before: StepReport,
        peers: impl IntoIterator<Item = Peer>,
        after: StepReport,
    ) -> Self {
        let step = [before.step_s_median, after.step_s_median];
        let fixed = [before.static_step_s_median, after.static_step_s_median];
        let ours = Ours {
            step_s: (step[0] + step[1]) / 2.0,
            static_step_s: (fixed[0] + fixed[1]) / 2.0,
            step_drift: step[1] / step[0],
            static_step_drift: fixed[1] / fixed[0],
            peak_rss_gb: before.peak_rss_bytes as f64 / 1e9,
            before,
            after,
        };
        let beside = |peer: Peer| Beside {
            name: peer.name,
            training_step: Outcome::new(peer.training, ours.step_s),
            static_step: Outcome::new(peer.fixed, ours.static_step_s),
        };
        let peers = peers.into_iter().map(beside).collect();
        Comparison { ours, peers }
    }

    /// One line each, then what the table cannot say.
    pub fn table(&self) -> String {
        let mut table = row(
            "",
            ["training step", "ratio"],
            ["static step", "ratio"],
            ["peak memory", "ratio"],
        );
        let ours = &self.ours;
        table += &row(
            "ours",
            [&milliseconds(ours.step_s), ""],
            [&milliseconds(ours.static_step_s), ""],
            [&gigabytes(ours.peak_rss_gb), ""],
        );
        let mut reasons = String::new();
        for peer in &self.peers {
            let (step, ratio) = peer.training_step.cells();
            let (static_step, static_ratio) = peer.static_step.cells();
            let (memory, memory_ratio) = match peer.training_step {
                Outcome::Timed {
                    peak_rss_gb: Some(gb),
                    ..
                } => (gigabytes(gb), format!("{:.2}", gb / ours.peak_rss_gb)),
                _ => ("-".into(), String::new()),
            };
            table += &row(
                peer.name,
                [&step, &ratio],
                [&static_step, &static_ratio],
                [&memory, &memory_ratio],
            );
            let whys = [peer.training_step.why(), peer.static_step.why()];
            reasons += &match whys {
                [Some(a), Some(b)] if a == b => format!("{} {a}\n", peer.name),
                whys => {
                    let kinds = ["training step", "static step"].into_iter().zip(whys);
                    let line = |(kind, why): (_, Option<String>)| {
                        Some(format!("{}, {kind}, {}\n", peer.name, why?))
                    };
                    kinds.filter_map(line).collect()
                }
            };
        }
        let percent = |drift: f64| 100.0 * (drift - 1.0);
        let _ = writeln!(
            reasons,
            "ratios are theirs to ours; ours is the mean of before and after them, and drifted by {:+.1} % (training) and \
             {:+.1} % (static)",
            percent(ours.step_drift),
            percent(ours.static_step_drift)
        );
        let _ = writeln!(
            reasons,
            "medians of {} tokens per step in f32, on {} threads",
            ours.before.tokens, ours.before.threads
        );
        table + &reasons
    }
}

fn row(name: &str, training: [&str; 2], fixed: [&str; 2], memory: [&str; 2]) -> String {
    let cells = [training, fixed, memory].map(|[value, ratio]| format!("{value:>14} {ratio:>6}"));
    format!("{name:10}{}\n", cells.concat())
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.1} ms", 1e3 * seconds)
}

fn gigabytes(gb: f64) -> String {
    format!("{gb:.2} GB")
}
