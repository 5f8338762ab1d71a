//! `ttt tokenizer`: a byte-level BPE trained on texts.

use std::path::PathBuf;

use model::Result;
use model::data::{Tokenizer, read_texts};

/// `ttt tokenizer`.
#[derive(clap::Args)]
#[command(after_help = "\
The shipped data/tokenizer.json was made by
  ttt tokenizer --data data/books/train --vocab-size 2048 --out data/tokenizer.json")]
pub struct TrainTokenizer {
    /// Folders or files (.txt, .txt.gz) to learn from
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    /// Ids in all, the 256 bytes included
    #[arg(long, default_value_t = 2048)]
    vocab_size: usize,
    /// The tokenizer.json to write
    #[arg(long)]
    out: PathBuf,
}

impl TrainTokenizer {
    /// Learns the merges and writes the file.
    pub fn run(&self) -> Result<()> {
        let texts = read_texts(&self.data)?;
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let tokenizer = Tokenizer::train_bpe(&texts, self.vocab_size)?;
        tokenizer.save(&self.out)?;
        let bytes: usize = texts.iter().map(|t| t.len()).sum();
        let mut tokens = 0;
        for text in &texts {
            tokens += tokenizer.encode(text)?.len();
        }
        let per_token = bytes as f64 / tokens.max(1) as f64;
        crate::output::write_out(&format!(
            "{}: {} ids, {per_token:.3} bytes per token on these texts\n",
            self.out.display(),
            tokenizer.vocab_size()
        ))
    }
}
