//! `ttt eval`: losses on books, with and without learning while reading.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use model::data::{Book, Corpus, Tokenizer, eval_windows};
use model::eval::{EvalOptions, Evaluation, evaluate};
use model::files::load_tokenizer;
use model::gradients::Workers;
use model::{Error, Model, Result};
use ops::DType;
use serde::Serialize;

/// T where neither the command line nor the model folder says.
const SEQUENCE_LENGTH: usize = 1024;

use crate::args::Machine;

/// `ttt eval`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "\
Each book is cut into sequences that do not overlap, and each sequence is read from nothing. The
loss of a token is taken before the model learns from it. Gain is the loss with learning off minus
the loss with learning on: above 0, learning while reading helps.

Examples:
  ttt eval --model runs/ttt-e2e-1/model              the shipped held-out books
  ttt eval --model runs/ttt-e2e-1/model book.txt --sequence-length 8192
  ttt eval --model runs/ttt-e2e-1/model --max-tokens 10000 --json > losses.json")]
pub struct Eval {
    #[command(subcommand)]
    of: Option<Of>,
    /// Model folder: config.json, model.safetensors and tokenizer.json
    #[arg(long, required = true)]
    model: Option<PathBuf>,
    /// Texts to read: .txt or .txt.gz files, or folders of them
    #[arg(value_name = "TEXT", default_value = "data/books/heldout")]
    texts: Vec<PathBuf>,
    /// Learning while reading
    #[arg(long, value_enum, default_value = "both")]
    ttt: Ttt,
    /// Tokens predicted per sequence [default: that of the model's training, else 1024]
    #[arg(long, value_name = "T")]
    sequence_length: Option<usize>,
    /// Parts of the sequence to give losses for
    #[arg(long, default_value_t = 8)]
    buckets: usize,
    /// Tokens to predict in each book, from its start [default: all]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Precision of the computation: f32 or f64; on a CUDA device f32 or bf16
    #[arg(long, default_value = "f32")]
    dtype: DType,
    #[command(flatten)]
    machine: Machine,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// What else to evaluate than losses.
#[derive(clap::Subcommand)]
enum Of {
    /// Recall: hide something in a long text and ask for it
    Needle(crate::needle::Needle),
}

/// Which readings to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Ttt {
    /// Learn while reading
    On,
    /// Read only
    Off,
    /// One after the other, to compare
    Both,
}

/// The result, as `--json` prints it.
#[derive(Serialize)]
struct Report {
    sequence_length: usize,
    dtype: String,
    books: Vec<Losses>,
    all: Losses,
}

/// A text, with learning on and off.
#[derive(Serialize)]
struct Losses {
    name: String,
    on: Option<Evaluation>,
    off: Option<Evaluation>,
}

impl Eval {
    /// Prints losses, or what else was asked for.
    pub fn run(&self) -> Result<()> {
        match (&self.of, &self.model) {
            (Some(Of::Needle(needle)), _) => needle.run(),
            (None, Some(folder)) => self.losses(folder),
            (None, None) => unreachable!("the command line asks for a model"),
        }
    }

    /// Reads the texts and prints the losses.
    fn losses(&self, folder: &Path) -> Result<()> {
        let model = self.machine.load(folder, self.dtype)?;
        let tokenizer = load_tokenizer(folder, &model.config)?;
        let readings = self.readings(&model)?;
        let sequence_length = match self.sequence_length {
            Some(t) => t,
            None => trained_length(folder)?.unwrap_or(SEQUENCE_LENGTH),
        };
        if let Some(ttt) = model
            .config
            .ttt
            .as_ref()
            .filter(|_| readings.contains(&true))
            && sequence_length < ttt.mini_batch_size
        {
            eprintln!(
                "warning: sequences of {sequence_length} tokens are shorter than a mini-batch of {}, so nothing is learned; \
                 choose a longer --sequence-length",
                ttt.mini_batch_size
            );
        }
        let corpus = Corpus::open(&self.texts, &tokenizer, &crate::cache::cache_dir())?;
        corpus
            .warnings()
            .iter()
            .for_each(|w| eprintln!("warning: {w}"));

        let targets = |book: &Book| self.targets(book) * readings.len();
        let bar =
            crate::output::token_bar(corpus.books().iter().map(targets).sum::<usize>() as u64);
        let mut books = vec![];
        for book in corpus.books() {
            if book.tokens().len() < 2 && corpus.books().len() > 1 {
                eprintln!(
                    "warning: {} is a single token, which leaves nothing to predict; it is left out",
                    book.name
                );
                continue;
            }
            let mut losses = Losses {
                name: book.name.clone(),
                on: None,
                off: None,
            };
            for &learn in &readings {
                let options = EvalOptions {
                    sequence_length,
                    learn,
                    buckets: self.buckets,
                    max_tokens: self.max_tokens,
                };
                let evaluation = Some(self.read(&model, &tokenizer, book, &options, &bar)?);
                match learn {
                    true => losses.on = evaluation,
                    false => losses.off = evaluation,
                }
            }
            books.push(losses);
        }
        bar.finish_and_clear();
        let report = Report {
            sequence_length,
            dtype: self.dtype.to_string(),
            all: Losses {
                name: "all".to_string(),
                on: Evaluation::of_all(books.iter().filter_map(|b| b.on.as_ref())),
                off: Evaluation::of_all(books.iter().filter_map(|b| b.off.as_ref())),
            },
            books,
        };
        match self.json {
            true => crate::output::write_json(&report),
            false => crate::output::write_out(&report.to_text()),
        }
    }

    /// True for learning on.
    fn readings(&self, model: &Model) -> Result<Vec<bool>> {
        let can_learn = model.config.fast_layers() > 0;
        match self.ttt {
            Ttt::On if !can_learn => {
                let message = "this model has no fast layers to learn with; use --ttt off";
                Err(Error::setting("ttt", "on", message))
            }
            Ttt::On => Ok(vec![true]),
            Ttt::Both if can_learn => Ok(vec![true, false]),
            _ => Ok(vec![false]),
        }
    }

    /// Tokens to predict in a book.
    fn targets(&self, book: &Book) -> usize {
        let all = book.tokens().len().saturating_sub(1);
        all.min(self.max_tokens.unwrap_or(usize::MAX))
    }

    fn read(
        &self,
        model: &Model,
        tokenizer: &Tokenizer,
        book: &Book,
        options: &EvalOptions,
        bar: &ProgressBar,
    ) -> Result<Evaluation> {
        let learning = if options.learn { "on" } else { "off" };
        bar.set_message(format!("{}, learning {learning}", book.name));
        let sequences = eval_windows(self.targets(book) + 1, options.sequence_length).len();
        let workers = Workers::new(self.machine.threads(), sequences)?;
        let before = bar.position();
        let progress = |done: usize| bar.set_position(before + done as u64);
        let read = evaluate(
            model,
            tokenizer,
            book.tokens(),
            options,
            &workers,
            &progress,
        );
        // of several workers, the last to say is not always the one with most done
        bar.set_position(before + self.targets(book) as u64);
        read
    }
}

/// The last sequence length in the `training.json` that training leaves in a model folder, if it is there.
fn trained_length(folder: &Path) -> Result<Option<usize>> {
    #[derive(serde::Deserialize)]
    struct Training {
        sequence_length: Option<usize>,
        #[serde(default)]
        extension: f64,
        #[serde(default)]
        extension_length: usize,
    }
    let path = folder.join("training.json");
    let Ok(json) = std::fs::read_to_string(&path) else {
        return Ok(None);
    };
    let training: Training = serde_json::from_str(&json).map_err(|e| Error::File {
        message: format!(
            "does not say what the model was trained on ({e}); remove it, or pass --sequence-length"
        ),
        path,
    })?;
    Ok(match training.extension > 0.0 {
        true => Some(training.extension_length),
        false => training.sequence_length,
    })
}

impl Losses {
    fn each(&self) -> impl Iterator<Item = &Evaluation> {
        self.on.iter().chain(&self.off)
    }

    /// The columns on, off and gain of a number, as far as there are any.
    fn columns(&self, number: impl Fn(&Evaluation) -> Option<f64>) -> Vec<f64> {
        let mut columns: Vec<f64> = self.each().map(|e| number(e).unwrap_or(f64::NAN)).collect();
        if let [on, off] = columns[..] {
            columns.push(off - on);
        }
        columns
    }
}

impl Report {
    fn to_text(&self) -> String {
        let titles = match (&self.all.on, &self.all.off) {
            (Some(_), Some(_)) => &["on", "off", "gain"][..],
            (Some(_), None) => &["on"],
            _ => &["off"],
        };
        let width = 9 * titles.len();
        let titles: String = titles.iter().map(|t| format!("{t:>9}")).collect();
        let name_width = self
            .books
            .iter()
            .map(|b| b.name.chars().count())
            .max()
            .unwrap_or(0)
            .max(8);
        let cells =
            |numbers: &[f64]| -> String { numbers.iter().map(|x| format!("{x:>9.4}")).collect() };
        let mut text = String::new();
        let mut line = |l: String| writeln!(text, "{}", l.trim_end()).expect("a string takes all");

        line(format!(
            "{:name_width$}  {:>9}  {:>width$}  {:>width$}",
            "", "", "nats/token", "bits/byte"
        ));
        line(format!(
            "{:name_width$}  {:>9}  {titles}  {titles}",
            "book", "tokens"
        ));
        let all = (self.books.len() > 1).then_some(&self.all);
        for book in self.books.iter().chain(all) {
            let tokens = book.each().next().map_or(0, |e| e.tokens);
            let nats = cells(&book.columns(|e| Some(e.nats_per_token)));
            let bits = cells(&book.columns(|e| Some(e.bits_per_byte)));
            line(format!(
                "{:name_width$}  {tokens:>9}  {nats}  {bits}",
                book.name
            ));
        }

        line(String::new());
        line(format!(
            "{:name_width$}  {:>9}  {:>width$}",
            "", "", "nats/token"
        ));
        line(format!(
            "{:name_width$}  {:>9}  {titles}",
            "position", "tokens"
        ));
        for (i, bucket) in self
            .all
            .each()
            .next()
            .iter()
            .flat_map(|e| e.by_position.iter().enumerate())
        {
            let position = format!("{}..{}", bucket.from, bucket.to);
            let nats = cells(
                &self
                    .all
                    .columns(|e| e.by_position.get(i).map(|b| b.nats_per_token)),
            );
            line(format!(
                "{position:name_width$}  {:>9}  {nats}",
                bucket.tokens
            ));
        }

        line(String::new());
        let speed = |learning: &str, e: &Option<Evaluation>| {
            let e = e.as_ref()?;
            Some(format!(
                ", learning {learning} {:.0} tokens/s",
                e.tokens_per_second
            ))
        };
        let speeds = [speed("on", &self.all.on), speed("off", &self.all.off)];
        let speeds: String = speeds.into_iter().flatten().collect();
        line(format!(
            "sequences of {} tokens, {}{speeds}",
            self.sequence_length, self.dtype
        ));
        text
    }
}
