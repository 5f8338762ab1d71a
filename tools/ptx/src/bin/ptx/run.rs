//! `ptx run`

use std::path::PathBuf;

use ptx::{Chip, Estimate};
use serde_json::json;

use crate::Outcome;
use crate::launch::{LaunchArgs, Ran, save};
use crate::show;

/// Runs a kernel; shows what is wrong with it and its counters.
#[derive(clap::Args)]
pub struct Run {
    /// File of PTX
    file: PathBuf,
    #[command(flatten)]
    launch: LaunchArgs,
    /// Show the first values of a buffer afterwards; the first argument is 0
    #[arg(long, value_name = "ARGUMENT")]
    show: Vec<usize>,
    /// Write a buffer to a .npy or .safetensors file afterwards: 1=y.npy
    #[arg(long, value_name = "ARGUMENT=FILE", value_parser = save)]
    save: Vec<(usize, PathBuf)>,
    /// Show the work of each line of PTX
    #[arg(long)]
    lines: bool,
    /// An estimate of the time on a chip, with what it assumes
    #[arg(long, value_name = "CHIP", value_parser = chip)]
    estimate: Option<Chip>,
    /// Registers of a thread, as ptxas says, for the estimate
    #[arg(long, requires = "estimate")]
    registers: Option<u64>,
}

fn chip(name: &str) -> Result<Chip, String> {
    Chip::named(name).ok_or_else(|| "there are a100 and h100".into())
}

impl Run {
    pub fn run(&self) -> Outcome {
        // what cannot be shown is said before anything runs
        let wanted = self
            .show
            .iter()
            .chain(self.save.iter().map(|(index, _)| index));
        for index in wanted {
            if !matches!(self.launch.arguments.get(*index), Some(a) if !matches!(a, crate::arguments::Argument::Scalar(_)))
            {
                return Err(format!(
                    "argument {index} is not a buffer; the first argument is 0"
                ));
            }
        }
        let ran = self.launch.run(&self.file)?;
        let estimate = self.estimate.map(|chip| {
            Estimate::new(
                &ran.kernel,
                &self.launch.launch(),
                &ran.report,
                &chip,
                self.registers,
            )
        });
        for (index, path) in &self.save {
            if let Some(tensor) = &ran.results[*index] {
                tensor.write(path)?;
            }
        }
        if self.launch.json {
            self.json(&ran, estimate.as_ref());
        } else {
            self.text(&ran, estimate.as_ref());
        }
        Ok(ran.report.errors().next().is_none())
    }

    fn json(&self, ran: &Ran, estimate: Option<&Estimate>) {
        let shown = self.show.iter().filter_map(|index| {
            let values: Vec<f64> = ran.results[*index].as_ref()?.values().collect();
            Some((index.to_string(), json!(values)))
        });
        let shown: serde_json::Map<_, _> = shown.collect();
        println!(
            "{}",
            json!({ "report": ran.report, "estimate": estimate, "values": shown })
        );
    }

    fn text(&self, ran: &Ran, estimate: Option<&Estimate>) {
        let report = &ran.report;
        println!("{}", show::heading(&ran.kernel, &self.launch.launch()));
        print!("{}", report.printed);
        show::findings(report);
        for index in &self.show {
            if let Some(tensor) = &ran.results[*index] {
                println!("argument {index}: {}", show::tensor(tensor));
            }
        }
        show::counters(&report.counters);
        if self.lines {
            show::lines(&report.counters, &ran.text);
        }
        if let Some(estimate) = estimate {
            show::estimate(estimate);
        }
    }
}
