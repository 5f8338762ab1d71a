//! `ttt read`: reads texts and keeps what was learned.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use model::data::{Corpus, Tokenizer};
use model::files::load_tokenizer;
use model::gradients::Workers;
use model::session::{Base, Options, Session};
use model::{Error, Model, Result};
use ops::DType;
use serde::Serialize;

use crate::args::Machine;
use crate::interrupt::Interrupt;
use crate::learning::{Learning, Storage, resume_or_start};

/// Tokens between two looks at the progress bar and at Ctrl-C.
const PIECE: usize = 256;
/// What a crash may cost.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// `ttt read`.
#[derive(clap::Args)]
#[command(after_help = "\
The texts are read one after the other, as one long text. The memory keeps what was learned and where
reading stopped; it is made if it is not there, and gone on from if it is. It is saved every minute,
at the end, and on Ctrl-C, which also says how to go on.

Examples:
  ttt read --model runs/ttt-e2e-1/model data/books/heldout/*.txt.gz --memory library.safetensors
  ttt read --model runs/ttt-e2e-1/model more.txt --memory library.safetensors
  ttt generate --model runs/ttt-e2e-1/model --memory library.safetensors \"It was\"")]
pub struct Read {
    /// Model folder: config.json, model.safetensors and tokenizer.json
    #[arg(long)]
    model: PathBuf,
    /// Texts to read, in this order: text files (.txt, .txt.gz, ...) or folders of .txt and .txt.gz files
    #[arg(value_name = "FILE", required = true)]
    texts: Vec<PathBuf>,
    /// Where the memory is, or is to be
    #[arg(long, value_name = "FILE")]
    memory: PathBuf,
    /// Tokens of the texts to leave out, from the start: those read before an interruption
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: usize,
    #[command(flatten)]
    learning: Learning,
    #[command(flatten)]
    storage: Storage,
    /// Precision of the computation: f32 or f64; on a CUDA device f32 or bf16
    #[arg(long, default_value = "f32")]
    dtype: DType,
    #[command(flatten)]
    machine: Machine,
    /// Print one JSON object instead of a line for each text
    #[arg(long)]
    json: bool,
}

/// The result, as `--json` prints it.
#[derive(Serialize)]
struct Report {
    texts: Vec<Text>,
    /// Tokens read in this run.
    tokens: usize,
    /// Absent if nothing was predicted.
    bits_per_byte: Option<f64>,
    seconds: f64,
    tokens_per_second: f64,
    /// Tokens the memory has read, in this run and before.
    position: usize,
    inner_steps: u64,
    learn: bool,
    /// What the session took besides the model.
    state_bytes: usize,
    memory_bytes: usize,
    /// Ctrl-C stopped it.
    interrupted: bool,
}

/// One text, as far as it was read.
#[derive(Serialize)]
struct Text {
    name: String,
    tokens: usize,
    /// Bytes of the tokens that were predicted.
    #[serde(skip)]
    bytes: u64,
    #[serde(skip)]
    nats: f64,
    bits_per_byte: Option<f64>,
}

/// How a run of `ttt read` ended.
#[derive(PartialEq)]
pub enum Ended {
    /// All texts are read.
    Whole,
    /// Ctrl-C came before.
    Interrupted,
}

impl Read {
    /// Reads, learns, saves and says how well the texts were predicted.
    pub fn run(&self) -> Result<Ended> {
        let model = self.machine.load(&self.model, self.dtype)?;
        let tokenizer = load_tokenizer(&self.model, &model.config)?;
        let options = self.learning.options(&model.config)?;
        let mut corpora = vec![];
        for path in &self.texts {
            let paths = std::slice::from_ref(path);
            let corpus = Corpus::open(paths, &tokenizer, &crate::cache::cache_dir())?;
            for warning in corpus.warnings() {
                eprintln!("warning: {warning}");
            }
            corpora.push(corpus);
        }
        let tokens: usize = corpora.iter().map(|c| c.tokens() as usize).sum();
        if self.skip > 0 && self.skip >= tokens {
            let message = format!("leaves nothing of {tokens} tokens to read; choose fewer");
            return Err(Error::setting("skip", self.skip, message));
        }
        let workers = Workers::new(self.machine.threads(), 1)?;
        let read = |corpora: &Vec<Corpus>| self.read(&model, &tokenizer, options, corpora);
        let report = workers.map(&[corpora], read).remove(0)?;
        match self.json {
            true => crate::output::write_json(&report)?,
            false => crate::output::write_out(&report.to_text())?,
        }
        if !report.interrupted {
            return Ok(Ended::Whole);
        }
        eprintln!(
            "stopped and saved; to read the rest, run the same command with --skip {}",
            self.skip + report.tokens
        );
        Ok(Ended::Interrupted)
    }

    fn read(
        &self,
        model: &Model,
        tokenizer: &Tokenizer,
        options: Options,
        corpora: &[Corpus],
    ) -> Result<Report> {
        let base = Base::new(model);
        let mut session = resume_or_start(&base, options, Some(&self.memory))?;
        let interrupt = Interrupt::listen("finishing this piece, then saving");
        // a memory that cannot be written is found out before any time is spent
        self.storage.save(&session, &self.memory)?;
        let books = corpora.iter().flat_map(Corpus::books);
        let tokens: usize = books.clone().map(|b| b.tokens().len()).sum();
        let bar = crate::output::token_bar((tokens - self.skip) as u64);
        let (start, mut saved) = (Instant::now(), Instant::now());
        let (mut skip, mut texts) = (self.skip, vec![]);
        let first = session.position();
        'books: for book in books {
            let skipped = skip.min(book.tokens().len());
            skip -= skipped;
            let rest = &book.tokens()[skipped..];
            if rest.is_empty() {
                continue;
            }
            bar.set_message(book.name.clone());
            texts.push(Text {
                name: book.name.clone(),
                tokens: 0,
                bytes: 0,
                nats: 0.0,
                bits_per_byte: None,
            });
            let text = texts.last_mut().expect("just pushed");
            for piece in rest.chunks(PIECE) {
                text.read(piece, &mut session, tokenizer)?;
                bar.inc(piece.len() as u64);
                if saved.elapsed() > SAVE_EVERY {
                    self.storage.save(&session, &self.memory)?;
                    saved = Instant::now();
                }
                if interrupt.heard() {
                    break 'books;
                }
            }
        }
        bar.finish_and_clear();
        let seconds = start.elapsed().as_secs_f64();
        let memory = self.storage.save(&session, &self.memory)?;
        let read = session.position() - first;
        Ok(Report {
            bits_per_byte: bits_per_byte(&texts),
            texts,
            tokens: read,
            seconds,
            tokens_per_second: read as f64 / seconds,
            position: session.position(),
            inner_steps: session.steps(),
            learn: options.learn,
            state_bytes: session.state_bytes(),
            memory_bytes: memory.bytes(),
            interrupted: read < tokens - self.skip,
        })
    }
}

impl Text {
    fn read(&mut self, piece: &[u32], session: &mut Session, tokenizer: &Tokenizer) -> Result<()> {
        let losses = session.read(piece)?;
        // the first token of all has no predecessor
        let predicted = &piece[piece.len() - losses.len()..];
        self.bytes += tokenizer.byte_len(predicted);
        self.nats += losses.iter().sum::<f64>();
        self.tokens += piece.len();
        self.bits_per_byte = bits_per_byte(std::slice::from_ref(self));
        Ok(())
    }
}

fn bits_per_byte(texts: &[Text]) -> Option<f64> {
    let bytes: u64 = texts.iter().map(|t| t.bytes).sum();
    let nats: f64 = texts.iter().map(|t| t.nats).sum();
    (bytes > 0).then(|| nats / std::f64::consts::LN_2 / bytes as f64)
}

impl Report {
    fn to_text(&self) -> String {
        let bits = |bits: Option<f64>| bits.map_or("-".to_string(), |bits| format!("{bits:.4}"));
        let mut lines: Vec<String> = (self.texts.iter())
            .map(|t| {
                format!(
                    "{}: {} tokens, {} bits per byte",
                    t.name,
                    t.tokens,
                    bits(t.bits_per_byte)
                )
            })
            .collect();
        lines.push(format!(
            "{} tokens in {:.1} s ({:.0} tokens/s), {} bits per byte",
            self.tokens,
            self.seconds,
            self.tokens_per_second,
            bits(self.bits_per_byte)
        ));
        lines.push(format!(
            "the memory has read {} tokens in {} inner steps and takes {} bytes",
            self.position, self.inner_steps, self.memory_bytes
        ));
        lines.join("\n") + "\n"
    }
}
