//! `ttt eval needle`: does a model find again what it read long before?

mod result;
mod trial;

use std::path::PathBuf;

use model::data::{Corpus, Tokenizer};
use model::files::load_tokenizer;
use model::gradients::Workers;
use model::{Error, Model, Result};
use ops::DType;

use crate::args::Machine;
use result::{Row, Rows};
use trial::{Kind, Trial};

/// `ttt eval needle`.
#[derive(clap::Args)]
#[command(after_help = "\
Something is hidden at a depth of a held-out text, and asked for at its end. Exact: the share of trials in which every token
of the answer was the likeliest. Gain: how much the answer's loss falls because it was hidden there, in nats per token, beside
the same text without it. A memory that compresses is expected to lose to attention here.

Examples:
  ttt eval needle --models runs/compare-1/models/*_seed0/model
  ttt eval needle --models runs/ttt-e2e-1/model --kind passage --readings 1,2 --contexts 512,4096
  ttt eval needle --models runs/hybrid-1/model runs/ttt-e2e-1/model --out needle")]
pub struct Needle {
    /// Model folders
    #[arg(long, value_name = "FOLDER", num_args = 1.., required = true)]
    models: Vec<PathBuf>,
    /// Texts to hide things in: .txt or .txt.gz files, or folders of them
    #[arg(long, value_name = "PATH", num_args = 1.., default_value = "data/books/heldout")]
    texts: Vec<PathBuf>,
    /// What is hidden
    #[arg(long, value_enum, default_value = "passkey")]
    kind: Kind,
    /// Tokens of text, rising
    #[arg(long, value_delimiter = ',', default_values_t = [256, 1024, 4096])]
    contexts: Vec<usize>,
    /// Where it is hidden: 0 at the start, 1 at the end
    #[arg(long, value_delimiter = ',', default_values_t = [0.1, 0.5, 0.9])]
    depths: Vec<f64>,
    /// Times the text is read before the question, for models that learn while reading; others read it once
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    readings: Vec<usize>,
    /// Trials at each context and depth
    #[arg(long, default_value_t = 8)]
    trials: u64,
    /// Folder to write needle.json, needle.html and needle.png to
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// One JSON object instead of tables
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: Machine,
}

impl Needle {
    /// Hides, asks, prints and writes.
    pub fn run(&self) -> Result<()> {
        self.check()?;
        let workers = Workers::new(self.machine.threads(), self.machine.threads())?;
        let mut rows = vec![];
        for (i, folder) in self.models.iter().enumerate() {
            let model = self.machine.load(folder, DType::F32)?;
            let tokenizer = load_tokenizer(folder, &model.config)?;
            let corpus = Corpus::open(&self.texts, &tokenizer, &crate::cache::cache_dir())?;
            let name = crate::runs::model_name(folder);
            let taken = self.models[..i]
                .iter()
                .any(|f| crate::runs::model_name(f) == name);
            let name = if taken {
                format!("{name} ({})", i + 1)
            } else {
                name
            };
            let learns = model.config.fast_layers() > 0;
            for &readings in self.readings.iter().filter(|&&r| learns || r == 1) {
                let name = match readings {
                    1 => name.clone(),
                    n => format!("{name}, read {n} times"),
                };
                eprintln!("{name}");
                rows.extend(self.ask(&name, &model, &tokenizer, &corpus, readings, &workers)?);
            }
        }
        let rows = Rows { rows };
        if let Some(folder) = &self.out {
            rows.write(folder)?;
        }
        match self.json {
            true => crate::output::write_json(&rows),
            false => crate::output::write_out(&rows.table()),
        }
    }

    fn check(&self) -> Result<()> {
        if self.trials == 0 {
            return Err(Error::setting("trials", 0, "must be at least 1"));
        }
        if self.readings.contains(&0) || !self.readings.contains(&1) {
            let readings: Vec<String> = self.readings.iter().map(usize::to_string).collect();
            let message = "must be at least 1 each, with 1 among them to compare with";
            return Err(Error::setting("readings", readings.join(","), message));
        }
        match self.depths.iter().find(|d| !(0.0..=1.0).contains(*d)) {
            Some(depth) => Err(Error::setting("depths", depth, "must lie between 0 and 1")),
            None => Ok(()),
        }
    }

    fn ask(
        &self,
        name: &str,
        model: &Model,
        tokenizer: &Tokenizer,
        corpus: &Corpus,
        readings: usize,
        workers: &Workers,
    ) -> Result<Vec<Row>> {
        let books = corpus.books();
        let mut rows = vec![];
        for &context in &self.contexts {
            for &depth in &self.depths {
                let numbers: Vec<u64> = (0..self.trials).collect();
                let score = |&number: &u64| {
                    let book =
                        |i: u64| books[((number + i) % books.len() as u64) as usize].tokens();
                    let texts = [book(0), book(1)];
                    Trial::new(self.kind, number, context, depth, tokenizer, texts)?
                        .score(model, readings)
                };
                let scores = workers.map(&numbers, score);
                let scores: Vec<_> = scores.into_iter().collect::<Result<_>>()?;
                rows.push(Row::of(name, context, depth, readings, &scores));
            }
        }
        Ok(rows)
    }
}
