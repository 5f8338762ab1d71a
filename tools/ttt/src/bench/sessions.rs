//! `ttt bench sessions`.

use std::path::PathBuf;
use std::time::Instant;

use model::gradients::Workers;
use model::session::{Base, Options, Session, batch};
use model::{Error, Model, Result};
use ops::DType;
use serde::Serialize;

use super::machine::median;
use crate::args::Machine;

/// `ttt bench sessions`.
#[derive(clap::Args)]
#[command(after_help = "\
Every session has read a text of its own and learned from it, and writes on, learning from what it writes.
Together, what sessions share of the model is one product for a group of them.

Example: ttt bench sessions --model runs/ttt-e2e-1/model --sessions 100")]
pub struct Sessions {
    /// Model folder
    #[arg(long)]
    model: PathBuf,
    /// How many sessions
    #[arg(long, default_value_t = 100)]
    sessions: usize,
    /// Tokens each has read before
    #[arg(long, default_value_t = 256)]
    prompt_tokens: usize,
    /// Tokens each writes [default: twice a mini-batch]
    #[arg(long)]
    tokens: Option<usize>,
    /// Pairs of runs, one session after another and all together, after one untimed that must agree
    #[arg(long, default_value_t = 5)]
    repeat: usize,
    /// Precision: f32 or f64; on a CUDA device f32 or bf16
    #[arg(long, default_value = "f32")]
    dtype: DType,
    #[command(flatten)]
    machine: Machine,
    /// One JSON object instead of lines
    #[arg(long)]
    json: bool,
}

/// What `ttt bench sessions --json` prints.
#[derive(Serialize)]
struct Report {
    sessions: usize,
    /// Tokens that each session wrote in a run.
    tokens: usize,
    threads: usize,
    /// Tokens per second of all sessions, one after the other; median.
    alone_tokens_per_second: f64,
    /// The same, all together.
    together_tokens_per_second: f64,
    /// Median of the ratios of the pairs.
    ratio: f64,
    /// What each session takes besides the model.
    state_bytes_per_session: usize,
    model_bytes: usize,
}

impl Sessions {
    /// Times both and prints.
    pub fn run(&self) -> Result<()> {
        for (name, count) in [
            ("sessions", self.sessions),
            ("prompt_tokens", self.prompt_tokens),
            ("repeat", self.repeat),
            ("tokens", self.tokens.unwrap_or(1)),
        ] {
            if count == 0 {
                return Err(Error::setting(name, 0, "must be at least 1"));
            }
        }
        let model = self.machine.load(&self.model, self.dtype)?;
        let workers = Workers::new(self.machine.threads(), 1)?;
        let report = workers
            .map(&[model], |model| self.measure(model))
            .remove(0)?;
        match self.json {
            true => crate::output::write_json(&report),
            false => crate::output::write_out(&report.to_text()),
        }
    }

    fn measure(&self, model: &Model) -> Result<Report> {
        let base = Base::new(model);
        let vocab = model.config.vocab_size;
        let b = model.config.ttt.as_ref().map_or(16, |t| t.mini_batch_size);
        let tokens = self.tokens.unwrap_or(2 * b);
        // texts that repeat and differ
        let id = |session: usize, i: usize| ((session + 1) * (i % 97) * 31 % vocab) as u32;
        let mut sessions: Vec<Session> = vec![];
        for i in 0..self.sessions {
            let mut session = Session::start(&base, Options::default())?;
            let prompt: Vec<u32> = (0..self.prompt_tokens).map(|t| id(i, t)).collect();
            session.read(&prompt)?;
            sessions.push(session);
        }
        let alone = |sessions: &mut [Session]| {
            for (i, session) in sessions.iter_mut().enumerate() {
                for t in 0..tokens {
                    session.logits()?;
                    session.read(&[id(i, t)])?;
                }
            }
            Ok(())
        };
        let together = |sessions: &mut [Session]| {
            let choose = |i| {
                let mut t = 0;
                move |_: &[f64]| {
                    t += 1;
                    Ok(id(i, t - 1))
                }
            };
            let mut choose: Vec<_> = (0..sessions.len()).map(choose).collect();
            batch::write(sessions, &mut choose, tokens).map(|_| ())
        };
        let time = |sessions: &mut [Session], run: &dyn Fn(&mut [Session]) -> Result<()>| {
            let start = Instant::now();
            run(sessions)?;
            Ok::<f64, Error>((tokens * self.sessions) as f64 / start.elapsed().as_secs_f64())
        };
        let mut forks = sessions.clone();
        alone(&mut forks)?;
        together(&mut sessions)?;
        check(&mut sessions, &mut forks)?;
        let (mut rates, mut rates_together, mut ratios) = (vec![], vec![], vec![]);
        for _ in 0..self.repeat {
            let (one, all) = (
                time(&mut sessions, &alone)?,
                time(&mut sessions, &together)?,
            );
            rates.push(one);
            rates_together.push(all);
            ratios.push(all / one);
        }
        let bytes = sessions.iter().map(Session::state_bytes);
        Ok(Report {
            sessions: self.sessions,
            tokens,
            threads: self.machine.threads(),
            alone_tokens_per_second: median(&mut rates),
            together_tokens_per_second: median(&mut rates_together),
            ratio: median(&mut ratios),
            state_bytes_per_session: bytes.max().unwrap_or(0),
            model_bytes: model.weights.count() * base.dtype().size(),
        })
    }
}

/// An error unless sessions that wrote the same, together and alone, expect the same of the next token, but for rounding and what
/// inner steps make of it.
fn check(together: &mut [Session], alone: &mut [Session]) -> Result<()> {
    for (i, (a, b)) in together.iter_mut().zip(alone).enumerate() {
        let (a, b) = (a.logits()?, b.logits()?);
        let largest = b.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        let differences = a.iter().zip(&b).map(|(a, b)| (a - b).abs());
        let worst = differences.fold(0.0, f64::max) / largest;
        if worst.is_nan() || worst > 1e-3 {
            let message = format!(
                "together its logits differ by {worst:.1e} of the largest from what it has alone: nothing is timed"
            );
            return Err(Error::setting("session", i, message));
        }
    }
    Ok(())
}

impl Report {
    fn to_text(&self) -> String {
        format!(
            "{} sessions of {} tokens each on {} threads\n\
             one after another {:9.0} tokens/s\n\
             all together      {:9.0} tokens/s, {:.2} times as many\n\
             a session takes {} bytes besides the model's {}\n",
            self.sessions,
            self.tokens,
            self.threads,
            self.alone_tokens_per_second,
            self.together_tokens_per_second,
            self.ratio,
            self.state_bytes_per_session,
            self.model_bytes
        )
    }
}
