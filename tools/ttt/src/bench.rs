//! `ttt bench`: how long a training step takes, and how much of the machine it uses.

use std::path::PathBuf;
use std::time::Instant;

use clap::Subcommand;
use model::files::read_input_ids;
use model::gradients::{Workers, sequence_gradient};
use model::memory::Bytes;
use model::{Model, Reading, Result, flops};
use ops::{DType, Tensor, Transpose, Var, matmul};
use serde::Serialize;

use crate::args::Machine;

/// `ttt bench`.
#[derive(Subcommand)]
pub enum Bench {
    /// Time a whole training step (forward, inner loop, meta-gradient) and the same weights trained statically
    Step(Step),
}

/// `ttt bench step`.
#[derive(clap::Args)]
#[command(after_help = "\
Example: ttt bench step --model tests/oracle/one_fast_block --tokens tests/oracle/one_fast_block/tokens.safetensors")]
pub struct Step {
    /// Model folder
    #[arg(long)]
    model: PathBuf,
    /// Safetensors file with `input_ids` [T + 1]
    #[arg(long)]
    tokens: PathBuf,
    /// Timed steps of each kind, after one untimed
    #[arg(long, default_value_t = 5)]
    repeat: usize,
    /// What the backward pass may keep, like 2GB: what does not fit is computed again; 0 for as little as possible
    #[arg(long)]
    memory: Option<Bytes>,
    /// Precision: f32 or f64
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
struct StepReport {
    step_s_median: f64,
    static_step_s_median: f64,
    step_flops: f64,
    static_step_flops: f64,
    /// Highest resident memory of this process after the training steps, before the static ones.
    peak_rss_bytes: u64,
    /// Rate of a 1024-cube product, median over the run.
    gemm_gflops: f64,
    tokens: usize,
    threads: usize,
}

impl Bench {
    /// Runs the benchmark.
    pub fn run(&self) -> Result<()> {
        match self {
            Bench::Step(step) => step.run(),
        }
    }
}

impl Step {
    fn run(&self) -> Result<()> {
        let dtype = crate::args::compute_dtype(self.dtype)?;
        let model = Model::load(&self.model, dtype)?;
        let ids = read_input_ids(&self.tokens, model.config.vocab_size)?;
        if self.repeat == 0 {
            return Err(model::Error::setting("repeat", 0, "must be at least 1"));
        }
        let threads = self.machine.threads();
        let workers = Workers::new(threads, 1)?;
        let training = Reading {
            memory: self.memory,
            ..Reading::default()
        };
        let fixed = Reading {
            learn: false,
            ..training
        };
        let step = |reading: &Reading| -> Result<f64> {
            let start = Instant::now();
            let run = |ids: &Vec<u32>| sequence_gradient(&model, ids, reading);
            let result = workers.map(std::slice::from_ref(&ids), run).remove(0)?;
            let seconds = start.elapsed().as_secs_f64();
            // check before believing a time
            for (name, g) in result.gradient.named() {
                if g.first_non_finite().is_some() || !result.loss.is_finite() {
                    return Err(model::Error::NotFinite {
                        what: format!("the gradient of {name}"),
                        remedy: "time a model whose step is sound",
                    });
                }
            }
            Ok(seconds)
        };
        let gemm = || workers.map(&[()], |()| gemm_rate(dtype)).remove(0);
        step(&training)?;
        let (mut times, mut static_times, mut rates) = (vec![], vec![], vec![]);
        for _ in 0..self.repeat {
            rates.push(gemm()?);
            times.push(step(&training)?);
        }
        let peak_rss_bytes = peak_rss_bytes();
        step(&fixed)?;
        for _ in 0..self.repeat {
            rates.push(gemm()?);
            static_times.push(step(&fixed)?);
        }
        let tokens = ids.len() - 1;
        let report = StepReport {
            step_s_median: median(&mut times),
            static_step_s_median: median(&mut static_times),
            step_flops: flops::training_step(&model.config, tokens),
            static_step_flops: flops::static_step(&model.config, tokens),
            peak_rss_bytes,
            gemm_gflops: median(&mut rates) / 1e9,
            tokens,
            threads,
        };
        match self.json {
            true => println!("{}", serde_json::to_string(&report).expect("plain numbers")),
            false => report.print(),
        }
        Ok(())
    }
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

/// FLOP/s of the best of three 1024-cube products.
fn gemm_rate(dtype: DType) -> Result<f64> {
    let n = 1024;
    let x: Vec<f64> = (0..n * n).map(|i| (i % 17) as f64 / 17.0).collect();
    let x = Var::constant(Tensor::from_f64s(&[n, n], dtype, &x)?);
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let start = Instant::now();
        matmul(&x, &x, Transpose::None)?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(2.0 * (n as f64).powi(3) / best)
}

fn median(x: &mut [f64]) -> f64 {
    x.sort_by(f64::total_cmp);
    let n = x.len();
    (x[(n - 1) / 2] + x[n / 2]) / 2.0
}

/// Highest resident set of this process so far, from the kernel; 0 where it does not tell.
fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.map_or(0, |kib| kib * 1024)
}
