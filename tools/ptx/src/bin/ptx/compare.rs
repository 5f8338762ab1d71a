//! `ptx compare`

use std::path::PathBuf;

use serde_json::json;

use crate::Outcome;
use crate::launch::{LaunchArgs, Ran};
use crate::show;
use crate::tensor::Tensor;

/// Runs versions of a kernel on the same arguments; shows how results and counters differ.
#[derive(clap::Args)]
pub struct Compare {
    /// Files of PTX; the others are compared with the first
    #[arg(required = true, num_args = 2..)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    launch: LaunchArgs,
}

/// How a buffer differs from that of the first version.
struct Difference {
    /// Elements whose bits differ.
    elements: usize,
    /// The largest difference; not a number if only one of two values is one.
    largest: f64,
}

fn difference(a: &Tensor, b: &Tensor) -> Difference {
    let size = a.ty.bytes;
    let pairs = a.bytes.chunks_exact(size).zip(b.bytes.chunks_exact(size));
    let elements = pairs.filter(|(a, b)| a != b).count();
    let mut largest = 0f64;
    for (a, b) in a.values().zip(b.values()) {
        let off = if a.is_nan() && b.is_nan() || a == b {
            0.0
        } else {
            (a - b).abs()
        };
        if off > largest || off.is_nan() {
            largest = off;
        }
        if largest.is_nan() {
            break;
        }
    }
    Difference { elements, largest }
}

impl Compare {
    pub fn run(&self) -> Outcome {
        let ran = self.files.iter().map(|path| self.launch.run(path));
        let ran: Vec<Ran> = ran.collect::<Result<_, _>>()?;
        let names: Vec<String> = self
            .files
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let differences: Vec<Vec<(usize, Difference)>> = ran[1..]
            .iter()
            .map(|other| {
                let pairs = ran[0].results.iter().zip(&other.results).enumerate();
                let buffers = pairs.filter_map(|(index, (a, b))| {
                    Some((index, difference(a.as_ref()?, b.as_ref()?)))
                });
                buffers.collect()
            })
            .collect();
        if self.launch.json {
            let versions = ran
                .iter()
                .zip(&names)
                .map(|(ran, name)| json!({ "file": name, "report": ran.report }));
            let differences = differences.iter().zip(&names[1..]).flat_map(|(list, name)| {
                list.iter().map(move |(index, d)| {
                    json!({ "file": name, "argument": index, "elements": d.elements, "largest": d.largest })
                })
            });
            let versions: Vec<_> = versions.collect();
            let differences: Vec<_> = differences.collect();
            println!(
                "{}",
                json!({ "versions": versions, "differences": differences })
            );
        } else {
            self.text(&ran, &names, &differences);
        }
        Ok(ran.iter().all(|ran| ran.report.errors().next().is_none()))
    }

    fn text(&self, ran: &[Ran], names: &[String], differences: &[Vec<(usize, Difference)>]) {
        for (ran, name) in ran.iter().zip(names) {
            println!(
                "{name}: {}",
                show::heading(&ran.kernel, &self.launch.launch())
            );
            show::findings(&ran.report);
        }
        for (list, name) in differences.iter().zip(&names[1..]) {
            println!("results of {name} beside those of {}:", names[0]);
            for (index, difference) in list {
                match difference.elements {
                    0 => println!("  argument {index}: the same bits"),
                    n => println!(
                        "  argument {index}: {n} elements differ, by {:e} at most",
                        difference.largest
                    ),
                }
            }
        }
        let counters: Vec<_> = ran.iter().map(|ran| &ran.report.counters).collect();
        show::side_by_side(&counters);
    }
}
