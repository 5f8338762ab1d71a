//! `ttt bench step`.

use std::time::Instant;

use model::gradients::{Workers, sequence_gradient};
use model::memory::Bytes;
use model::{Model, Reading, Result, flops};
use ops::DType;
use serde::Serialize;

use super::Workload;
use super::machine::{gemm_rate, median, peak_rss_bytes};
use crate::args::Machine;

/// `ttt bench step`.
#[derive(clap::Args)]
#[command(after_help = "\
Example: ttt bench step --model tests/oracle/one_fast_block --tokens tests/oracle/one_fast_block/tokens.safetensors")]
pub struct Step {
    #[command(flatten)]
    workload: Workload,
    /// What the training step may keep, like 2GB: what does not fit is computed again; 0 for as little as possible
    #[arg(long)]
    memory: Option<Bytes>,
    /// Precision: f32 or f64; on a CUDA device f32 or bf16
    #[arg(long, default_value = "f32")]
    dtype: DType,
    #[command(flatten)]
    machine: Machine,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What `ttt bench step --json` prints.
#[derive(Serialize)]
pub struct StepReport {
    pub step_s_median: f64,
    pub static_step_s_median: f64,
    step_flops: f64,
    static_step_flops: f64,
    /// Highest resident memory of this process after the training steps, before the static ones.
    pub peak_rss_bytes: u64,
    /// Rate of a 1024-cube product, median over the run.
    gemm_gflops: f64,
    pub tokens: usize,
    pub threads: usize,
}

impl Step {
    /// Times both steps and prints.
    pub fn run(&self) -> Result<()> {
        let (model, ids) = self.workload.load(&self.machine, self.dtype)?;
        let threads = self.machine.threads();
        let report = measure(&model, &ids, self.workload.repeat, self.memory, threads)?;
        match self.json {
            true => println!("{}", serde_json::to_string(&report).expect("plain numbers")),
            false => report.print(),
        }
        Ok(())
    }
}

/// Times `repeat` training steps and as many static steps on ids [T + 1], in the type the model computes in.
pub fn measure(
    model: &Model,
    ids: &[u32],
    repeat: usize,
    memory: Option<Bytes>,
    threads: usize,
) -> Result<StepReport> {
    let workers = Workers::new(threads, 1)?;
    let training = Reading {
        memory,
        ..Reading::default()
    };
    let fixed = Reading {
        learn: false,
        memory: None,
        ..training
    };
    let step = |reading: &Reading| -> Result<f64> {
        let start = Instant::now();
        let run = |ids: &&[u32]| sequence_gradient(model, ids, reading);
        let result = workers.map(&[ids], run).remove(0)?;
        // a device has done all that was asked for once it has the loss
        let loss = result.loss.item()?;
        let seconds = start.elapsed().as_secs_f64();
        // check before believing a time
        for (name, g) in result.gradient.named() {
            if g.first_non_finite().is_some() || !loss.is_finite() {
                return Err(model::Error::NotFinite {
                    what: format!("the gradient of {name}"),
                    remedy: "time a model whose step is sound",
                });
            }
        }
        Ok(seconds)
    };
    let gemm = || {
        workers
            .map(&[()], |()| gemm_rate(&model.weights.embed))
            .remove(0)
    };
    step(&training)?;
    let (mut times, mut static_times, mut rates) = (vec![], vec![], vec![]);
    for _ in 0..repeat {
        rates.push(gemm()?);
        times.push(step(&training)?);
    }
    let peak_rss_bytes = peak_rss_bytes();
    step(&fixed)?;
    for _ in 0..repeat {
        rates.push(gemm()?);
        static_times.push(step(&fixed)?);
    }
    let tokens = ids.len() - 1;
    Ok(StepReport {
        step_s_median: median(&mut times),
        static_step_s_median: median(&mut static_times),
        step_flops: flops::training_step(&model.config, tokens),
        static_step_flops: flops::static_step(&model.config, tokens),
        peak_rss_bytes,
        gemm_gflops: median(&mut rates) / 1e9,
        tokens,
        threads,
    })
}

impl StepReport {
    fn print(&self) {
        let row = |name: &str, seconds: f64, flops: f64| {
            let rate = flops / seconds / 1e9;
            let share = 100.0 * rate / self.gemm_gflops;
            println!(
                "{name:14} {:9.1} ms  {:8.1} tokens/s  {:7.1} GFLOP  {rate:6.1} GFLOP/s  {share:3.0} % of a 1024-cube product",
                1e3 * seconds,
                self.tokens as f64 / seconds,
                flops / 1e9,
            );
        };
        row("training step", self.step_s_median, self.step_flops);
        row(
            "static step",
            self.static_step_s_median,
            self.static_step_flops,
        );
        println!(
            "1024-cube product {:.0} GFLOP/s on {} threads",
            self.gemm_gflops, self.threads
        );
        println!(
            "peak memory of the training step {:.2} GB",
            self.peak_rss_bytes as f64 / 1e9
        );
    }
}
