//! `ttt generate`: continues a text, learning from it first.

use std::io::{IsTerminal, Read};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use model::data::Tokenizer;
use model::files::load_tokenizer;
use model::gradients::Workers;
use model::sampling::{Sampler, Sampling};
use model::session::{Base, Options, Session, generate};
use model::{Error, Model, Result};
use ops::DType;
use serde::Serialize;

/// Tokens of the prompt between two looks at the progress bar.
const PIECE: usize = 256;

use crate::args::Machine;
use crate::learning::{Learning, Storage, resume};

/// `ttt generate`.
#[derive(clap::Args)]
#[command(after_help = "\
The model reads the prompt, learning from it, and then writes on from there, learning from what it
writes as well. Only what it writes goes to standard output. A model with a sliding window needs no
more memory for a longer prompt.

With --memory it goes on from what `ttt read` or `ttt chat` left, with or without a prompt, and leaves
that as it is unless --keep is given.

Examples:
  ttt generate --model runs/ttt-e2e-1/model \"It was a dark night, and\"
  ttt generate --model runs/ttt-e2e-1/model --prompt-file chapter.txt --max-tokens 500 --seed 7
  zcat book.txt.gz | ttt generate --model runs/ttt-e2e-1/model - --ttt off
  ttt generate --model runs/ttt-e2e-1/model --memory library.safetensors")]
pub struct Generate {
    /// Model folder: config.json, model.safetensors and tokenizer.json
    #[arg(long)]
    model: PathBuf,
    /// Text to go on from; '-' reads it from standard input
    prompt: Option<String>,
    /// File with the text to go on from
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    prompt_file: Option<PathBuf>,
    /// Tokens to write
    #[arg(long, default_value_t = 200)]
    max_tokens: usize,
    /// Memory to go on from
    #[arg(long, value_name = "FILE")]
    memory: Option<PathBuf>,
    /// Save what was read and written to the memory
    #[arg(long, requires = "memory")]
    keep: bool,
    #[command(flatten)]
    draws: Draws,
    #[command(flatten)]
    learning: Learning,
    #[command(flatten)]
    storage: Storage,
    /// Precision of the computation: f32 or f64; on a CUDA device f32 or bf16
    #[arg(long, default_value = "f32")]
    dtype: DType,
    #[command(flatten)]
    machine: Machine,
    /// Print one JSON object when all is written, instead of the text as it comes
    #[arg(long)]
    json: bool,
}

/// How tokens are drawn.
#[derive(clap::Args)]
pub struct Draws {
    /// 0 always takes the most likely token; 1 draws from the model's own probabilities
    #[arg(long, default_value_t = 0.8)]
    temperature: f64,
    /// Draw from the most likely tokens that together have this probability; 1 means all
    #[arg(long, default_value_t = 0.95)]
    top_p: f64,
    /// Draw from this many of the most likely tokens; 0 means all
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Seed of the draws: the same seed writes the same text
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Draws {
    /// A sampler that draws so.
    pub fn sampler(&self) -> Result<Sampler> {
        Sampler::new(Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            seed: self.seed,
        })
    }
}

/// The result, as `--json` prints it.
#[derive(Serialize)]
struct Report {
    text: String,
    tokens: usize,
    learn: bool,
    seed: u64,
    prompt_tokens: usize,
    /// Absent for a prompt of one token.
    prompt_nats_per_token: Option<f64>,
    prompt_seconds: f64,
    seconds_per_token: f64,
}

impl Generate {
    /// Reads the prompt and writes on.
    pub fn run(&self) -> Result<()> {
        let sampler = self.draws.sampler()?;
        let model = self.machine.load(&self.model, self.dtype)?;
        let tokenizer = load_tokenizer(&self.model, &model.config)?;
        let options = self.learning.options(&model.config)?;
        let prompt = tokenizer.encode(&self.prompt()?)?;
        // a session stays in one thread; its operations use the worker's pool
        let workers = Workers::new(self.machine.threads(), 1)?;
        let write =
            |prompt: &Vec<u32>| self.write(&model, &tokenizer, prompt, options, sampler.clone());
        let report = workers.map(&[prompt], write).remove(0)?;
        if self.json {
            return crate::output::write_json(&report);
        }
        crate::output::write_out("\n")?;
        if std::io::stderr().is_terminal() {
            let loss = report.prompt_nats_per_token;
            let loss = loss.map_or(String::new(), |l| format!(" at {l:.3} nats each"));
            eprintln!(
                "[read {} tokens{loss} in {:.1} s, wrote {} at {:.1} ms each]",
                report.prompt_tokens,
                report.prompt_seconds,
                report.tokens,
                1e3 * report.seconds_per_token
            );
        }
        Ok(())
    }

    fn prompt(&self) -> Result<String> {
        let text = match (&self.prompt_file, self.prompt.as_deref()) {
            (Some(path), _) => std::fs::read_to_string(path).map_err(|e| Error::File {
                path: path.clone(),
                message: format!("cannot be read: {e}; the prompt is a text file in UTF-8"),
            })?,
            (None, Some("-")) => {
                let mut text = String::new();
                let read = std::io::stdin().read_to_string(&mut text);
                read.map_err(|e| Error::File {
                    path: "standard input".into(),
                    message: format!("cannot be read: {e}; the prompt is text in UTF-8"),
                })?;
                text
            }
            (None, text) => text.unwrap_or_default().to_string(),
        };
        match text.is_empty() && self.memory.is_none() {
            false => Ok(text),
            true => {
                let message = "is empty, and the model needs something to go on from: \
                               give a text, --prompt-file FILE, '-' for standard input, or --memory";
                Err(Error::setting("prompt", "''", message))
            }
        }
    }

    fn write(
        &self,
        model: &Model,
        tokenizer: &Tokenizer,
        prompt: &[u32],
        options: Options,
        mut sampler: Sampler,
    ) -> Result<Report> {
        let base = Base::new(model);
        let mut session = match &self.memory {
            Some(path) => resume(&base, options, path)?,
            None => Session::start(&base, options)?,
        };
        let bar = crate::output::token_bar(prompt.len() as u64);
        bar.set_message("reading");
        let start = Instant::now();
        let mut losses = vec![];
        for piece in prompt.chunks(PIECE) {
            losses.extend(session.read(piece)?);
            bar.inc(piece.len() as u64);
        }
        bar.finish_and_clear();
        let prompt_seconds = start.elapsed().as_secs_f64();

        let start = Instant::now();
        let mut failed = None;
        let mut on_text = |text: &str| {
            if !self.json {
                failed = crate::output::write_out(text).err();
            }
            match failed {
                None => ControlFlow::Continue(()),
                Some(_) => ControlFlow::Break(()),
            }
        };
        let text = generate(
            &mut session,
            tokenizer,
            self.max_tokens,
            &mut sampler,
            &mut on_text,
        )?;
        if let Some(e) = failed {
            return Err(e);
        }
        let seconds = start.elapsed().as_secs_f64();
        if let Some(path) = self.memory.as_ref().filter(|_| self.keep) {
            self.storage.save(&session, path)?;
        }
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        Ok(Report {
            text,
            tokens: self.max_tokens,
            learn: options.learn,
            seed: self.draws.seed,
            prompt_tokens: prompt.len(),
            prompt_nats_per_token: (!losses.is_empty()).then_some(mean),
            prompt_seconds,
            seconds_per_token: seconds / self.max_tokens.max(1) as f64,
        })
    }
}
