//! `ttt chat`: a conversation in the terminal that the model learns from.

use std::io::{BufRead, IsTerminal};
use std::ops::ControlFlow;
use std::path::PathBuf;

use model::data::Tokenizer;
use model::files::load_tokenizer;
use model::gradients::Workers;
use model::sampling::Sampler;
use model::session::{Base, Options, Session, generate};
use model::{Error, Model, Result};
use ops::DType;

use crate::args::Machine;
use crate::generate::Draws;
use crate::learning::{Learning, Storage, resume_or_start};

/// `ttt chat`.
#[derive(clap::Args)]
#[command(after_help = "\
Each line you write is read, and learned from, and answered with one line. With --memory the conversation
goes on where the last one stopped, and is saved after each answer.

  /undo   takes back your last line and its answer, as if they had never been
  /quit   ends, as does the end of input

Examples:
  ttt chat --model runs/ttt-e2e-1/model
  ttt chat --model runs/ttt-e2e-1/model --memory me.safetensors --temperature 0.6")]
pub struct Chat {
    /// Model folder: config.json, model.safetensors and tokenizer.json
    #[arg(long)]
    model: PathBuf,
    /// Memory to go on from, or to make
    #[arg(long, value_name = "FILE")]
    memory: Option<PathBuf>,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 200)]
    max_tokens: usize,
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
}

impl Chat {
    /// Reads lines and answers them until the input ends.
    pub fn run(&self) -> Result<()> {
        let sampler = self.draws.sampler()?;
        let model = self.machine.load(&self.model, self.dtype)?;
        let tokenizer = load_tokenizer(&self.model, &model.config)?;
        let options = self.learning.options(&model.config)?;
        let workers = Workers::new(self.machine.threads(), 1)?;
        let talk = |sampler: &Sampler| self.talk(&model, &tokenizer, options, sampler.clone());
        workers.map(&[sampler], talk).remove(0)
    }

    fn talk(
        &self,
        model: &Model,
        tokenizer: &Tokenizer,
        options: Options,
        mut sampler: Sampler,
    ) -> Result<()> {
        let base = Base::new(model);
        let mut session = resume_or_start(&base, options, self.memory.as_ref())?;
        self.save(&session)?;
        // before the last exchange
        let mut before = None;
        loop {
            let Some(line) = self.line()? else {
                return Ok(());
            };
            match line.trim() {
                "" => continue,
                "/quit" => return Ok(()),
                "/undo" => match before.take() {
                    Some(fork) => session = fork,
                    None => eprintln!("there is nothing to take back"),
                },
                said => {
                    before = Some(session.clone());
                    session.read(&tokenizer.encode(&format!("{said}\n"))?)?;
                    self.answer(&mut session, tokenizer, &mut sampler)?;
                }
            }
            self.save(&session)?;
        }
    }

    /// The next line of input, if there is one.
    fn line(&self) -> Result<Option<String>> {
        if std::io::stdin().is_terminal() {
            crate::output::write_out("> ")?;
        }
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        let read = read.map_err(|e| Error::File {
            path: "standard input".into(),
            message: format!("cannot be read: {e}; write text in UTF-8"),
        })?;
        Ok((read > 0).then_some(line))
    }

    /// Writes one line, as it comes.
    fn answer(
        &self,
        session: &mut Session,
        tokenizer: &Tokenizer,
        sampler: &mut Sampler,
    ) -> Result<()> {
        let mut said = false;
        let mut failed = None;
        let mut on_text = |text: &str| {
            // line breaks before the first word are no answer
            let text = if said { text } else { text.trim_start() };
            let (line, more) = match text.split_once('\n') {
                Some((line, _)) => (line, false),
                None => (text, true),
            };
            said |= !line.is_empty();
            failed = crate::output::write_out(line).err();
            match more && failed.is_none() {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        };
        generate(session, tokenizer, self.max_tokens, sampler, &mut on_text)?;
        match failed {
            Some(e) => Err(e),
            None => crate::output::write_out("\n"),
        }
    }

    fn save(&self, session: &Session) -> Result<()> {
        match &self.memory {
            Some(path) => self.storage.save(session, path).map(|_| ()),
            None => Ok(()),
        }
    }
}
