//! `ttt grad`: what another implementation must reproduce.

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::files::{read_input_ids, write_tensors};
use model::gradients::{Workers, sequence_gradient};
use model::memory::Bytes;
use model::weights::fast_names;
use model::{Reading, Result};
use ops::{DType, Tensor};

use crate::args::Machine;

/// `ttt grad`.
#[derive(clap::Args)]
#[command(after_help = "\
The output holds `loss` [1], `token_nll` [T], `grad.<name>` for every parameter and `fast_after.<name>` for
every fast matrix.

Example: ttt grad --model DIR --tokens DIR/tokens.safetensors --out mine.safetensors --dtype f64")]
pub struct Grad {
    /// Model folder: config.json and model.safetensors
    #[arg(long)]
    model: PathBuf,
    /// Safetensors file with `input_ids` [T + 1]
    #[arg(long)]
    tokens: PathBuf,
    /// Safetensors file to write
    #[arg(long)]
    out: PathBuf,
    /// Precision of the computation: f64 or f32; on a CUDA device f32 or bf16
    #[arg(long, default_value = "f64")]
    dtype: DType,
    /// Treat the inner gradients as constants
    #[arg(long)]
    first_order: bool,
    /// What the backward pass may keep, like 2GB: what does not fit is computed again; 0 for as little as possible
    #[arg(long)]
    memory: Option<Bytes>,
    #[command(flatten)]
    machine: Machine,
}

impl Grad {
    /// Computes and writes.
    pub fn run(&self) -> Result<()> {
        let model = self.machine.load(&self.model, self.dtype)?;
        let ids = read_input_ids(&self.tokens, model.config.vocab_size)?;
        let reading = Reading {
            first_order: self.first_order,
            memory: self.memory,
            ..Reading::default()
        };
        let workers = Workers::new(self.machine.threads(), 1)?;
        let run = |ids: &Vec<u32>| sequence_gradient(&model, ids, &reading);
        let result = workers.map(&[ids], run).remove(0)?;
        let loss = result.loss.item()?;
        let loss_tensor = Tensor::from_f64s(&[1], result.nll.dtype(), &[loss])?;
        let mut out: Vec<(String, &Tensor)> = vec![
            ("loss".into(), &loss_tensor),
            ("token_nll".into(), &result.nll),
        ];
        for (name, g) in result.gradient.named() {
            out.push((format!("grad.{name}"), g));
        }
        for (j, fast) in result.fast.iter().enumerate() {
            let names = fast_names(model.config.first_fast() + j);
            for (name, w) in names.iter().zip(fast.each()) {
                out.push((format!("fast_after.{name}"), w));
            }
        }
        write_tensors(&self.out, out, &BTreeMap::new())?;
        println!("loss {loss:.12}");
        Ok(())
    }
}
