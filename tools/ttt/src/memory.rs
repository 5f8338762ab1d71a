//! `ttt memory`: what memories hold, how they differ, and one out of several.

use std::path::PathBuf;

use clap::Subcommand;
use model::session::Memory;
use model::{Error, Result};
use ops::DType;
use serde::Serialize;

/// `ttt memory`.
#[derive(Subcommand)]
pub enum MemoryCommand {
    /// What a memory holds: whose it is, how far it has read, how much it has learned
    Info(Info),
    /// How far two memories of one model are apart
    Diff(Diff),
    /// One memory out of several: the weighted sum of what they learned
    Merge(Merge),
}

impl MemoryCommand {
    /// Runs the command.
    pub fn run(&self) -> Result<()> {
        match self {
            MemoryCommand::Info(info) => info.run(),
            MemoryCommand::Diff(diff) => diff.run(),
            MemoryCommand::Merge(merge) => merge.run(),
        }
    }
}

/// `ttt memory info`.
#[derive(clap::Args)]
#[command(after_help = "Example: ttt memory info library.safetensors")]
pub struct Info {
    /// Memory
    memory: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct InfoReport {
    base: String,
    dtype: String,
    position: usize,
    inner_steps: u64,
    bytes: usize,
    /// Norm of the difference from the model's matrix.
    learned: Vec<Norm>,
}

#[derive(Serialize)]
struct Norm {
    name: String,
    norm: f64,
}

impl Info {
    fn run(&self) -> Result<()> {
        let memory = Memory::load(&self.memory)?;
        let header = &memory.header;
        let mut learned = vec![];
        for (name, difference) in memory.differences() {
            let norm = ops::values::norm(&[&difference.cast(DType::F64)])?.item()?;
            let name = name.to_string();
            learned.push(Norm { name, norm });
        }
        let report = InfoReport {
            base: header.base.clone(),
            dtype: header.dtype.clone(),
            position: header.position(),
            inner_steps: header.steps,
            bytes: memory.bytes(),
            learned,
        };
        if self.json {
            return crate::output::write_json(&report);
        }
        let mut text = format!(
            "model        {}\ntokens read  {}\ninner steps  {}\nbytes        {} in {}\n",
            report.base, report.position, report.inner_steps, report.bytes, report.dtype
        );
        for Norm { name, norm } in &report.learned {
            text += &format!("{norm:12.6}  change of {name}\n");
        }
        crate::output::write_out(&text)
    }
}

/// `ttt memory diff`.
#[derive(clap::Args)]
#[command(after_help = "\
Norms of what the first learned, of what the second learned, and of the difference between them, and the
cosine of the angle between the two: 1 if they learned the same, 0 if they have nothing in common.

Example: ttt memory diff monday.safetensors tuesday.safetensors")]
pub struct Diff {
    /// A memory
    first: PathBuf,
    /// Another of the same model
    second: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Distance {
    name: String,
    first: f64,
    second: f64,
    apart: f64,
    /// Absent if one of them has learned nothing.
    cosine: Option<f64>,
}

#[derive(Serialize)]
struct DiffReport {
    matrices: Vec<Distance>,
    all: Distance,
}

/// Sums over pairs of numbers.
#[derive(Default, Clone, Copy)]
struct Sums {
    aa: f64,
    bb: f64,
    ab: f64,
}

impl Sums {
    fn of(a: &[f64], b: &[f64]) -> Self {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum();
        Sums {
            aa: dot(a, a),
            bb: dot(b, b),
            ab: dot(a, b),
        }
    }

    fn distance(self, name: &str) -> Distance {
        let Sums { aa, bb, ab } = self;
        let both = (aa * bb).sqrt();
        Distance {
            name: name.to_string(),
            first: aa.sqrt(),
            second: bb.sqrt(),
            apart: (aa + bb - 2.0 * ab).max(0.0).sqrt(),
            cosine: (both > 0.0).then(|| ab / both),
        }
    }
}

impl Diff {
    fn run(&self) -> Result<()> {
        let (a, b) = (Memory::load(&self.first)?, Memory::load(&self.second)?);
        let names: Vec<&str> = a.differences().map(|d| d.0).collect();
        if a.header.base != b.header.base || !b.differences().map(|d| d.0).eq(names) {
            return Err(Error::File {
                path: self.second.clone(),
                message: format!(
                    "is the memory of another model than {}; compare memories of one model",
                    self.first.display()
                ),
            });
        }
        let (mut matrices, mut all) = (vec![], Sums::default());
        for ((name, a), (_, b)) in a.differences().zip(b.differences()) {
            let sums = Sums::of(&a.to_f64s(), &b.to_f64s());
            all.aa += sums.aa;
            all.bb += sums.bb;
            all.ab += sums.ab;
            matrices.push(sums.distance(name));
        }
        let all = all.distance("all");
        let report = DiffReport { matrices, all };
        if self.json {
            return crate::output::write_json(&report);
        }
        let mut text = format!(
            "{:>12}{:>12}{:>12}{:>9}\n",
            "first", "second", "apart", "cosine"
        );
        for d in report.matrices.iter().chain([&report.all]) {
            let cosine = d.cosine.map_or("-".to_string(), |c| format!("{c:.4}"));
            text += &format!(
                "{:12.6}{:12.6}{:12.6}{cosine:>9}  {}\n",
                d.first, d.second, d.apart, d.name
            );
        }
        crate::output::write_out(&text)
    }
}

/// `ttt memory merge`.
#[derive(clap::Args)]
#[command(after_help = "\
What each memory changed in the fast weights is added up. The result goes on where the first one stopped.
The mean, which is the default, is the careful choice: the sum of two large changes is no point that
learning ever came near.

Examples:
  ttt memory merge austen.safetensors twain.safetensors --out both.safetensors
  ttt memory merge a.safetensors b.safetensors --weights 0.8 0.2 --out both.safetensors")]
pub struct Merge {
    /// Memories of one model
    #[arg(required = true)]
    memories: Vec<PathBuf>,
    /// A factor for each [default: their mean]
    #[arg(long, value_name = "X", num_args = 1.., allow_negative_numbers = true)]
    weights: Vec<f64>,
    /// Where the new memory goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Merge {
    fn run(&self) -> Result<()> {
        let n = self.memories.len();
        let weights = match self.weights.len() {
            0 => vec![1.0 / n as f64; n],
            _ => self.weights.clone(),
        };
        if weights.len() != n || weights.iter().any(|w| !w.is_finite()) {
            let message = format!("must be {n} numbers, one for each memory");
            let given = format!("{:?}", self.weights);
            return Err(Error::setting("weights", given, message));
        }
        let load = |path: &PathBuf| Memory::load(path);
        let memories: Vec<Memory> = self.memories.iter().map(load).collect::<Result<_>>()?;
        let merged = Memory::merge(&memories.iter().zip(weights).collect::<Vec<_>>())?;
        merged.save(&self.out)
    }
}
