//! `ttt bench peers`: the same steps of the same model in other frameworks.

use std::path::{Path, PathBuf};
use std::process::Command;

use model::{Error, Result};
use ops::DType;
use serde::Deserialize;

use super::Workload;
use super::child::{Children, Ended};
use super::comparison::Comparison;
use super::step::measure;
use crate::args::Machine;
use crate::output::{write_json, write_out};

/// Name and script of each peer. A script takes MODEL --tokens FILE --time N [--static] and prints a line of JSON with
/// `step_s_median` in seconds and, where it can, `rss_gb`.
const PEERS: [(&str, &str); 2] = [("pytorch", "torch_ttt.py"), ("jax", "ttt_e2e_oracle.py")];

/// What runs the scripts.
const PYTHON: &str = "python3";

/// `ttt bench peers`.
#[derive(clap::Args)]
#[command(after_help = "\
The scripts are torch_ttt.py (PyTorch) and ttt_e2e_oracle.py (JAX); python3 runs them as SCRIPT MODEL --tokens FILE
--time N [--static]. A peer that is not there is reported as absent, with the reason. All compute in f32, on all cores.

Example: ttt bench peers --model DIR --tokens DIR/tokens.safetensors --scripts PEERS")]
pub struct Peers {
    #[command(flatten)]
    workload: Workload,
    /// Folder with the peers' scripts, torch_ttt.py and ttt_e2e_oracle.py; may be given more than once
    #[arg(long, value_name = "DIR")]
    scripts: Vec<PathBuf>,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Both steps of one peer.
pub struct Peer {
    pub name: &'static str,
    pub training: Timed,
    pub fixed: Timed,
}

/// What a script printed, or why there is no such thing.
pub type Timed = std::result::Result<Printed, NotTimed>;

/// The line of JSON of a script.
#[derive(Deserialize)]
pub struct Printed {
    pub step_s_median: f64,
    pub rss_gb: Option<f64>,
}

/// Why a peer has no time.
#[derive(Clone)]
pub enum NotTimed {
    /// It is not installed.
    Absent(String),
    /// It ran, and this is the last line of its errors.
    Failed(String),
}

impl Peers {
    /// Times ours, the peers and ours again.
    pub fn run(&self) -> Result<()> {
        if let Some(path) = self.scripts.iter().find(|path| !path.is_dir()) {
            return Err(Error::File {
                path: path.clone(),
                message: "is not a folder: --scripts takes the folder of the peers' scripts".into(),
            });
        }
        let (model, ids) = self.workload.load(&Machine::default(), DType::F32)?;
        let children = Children::new();
        let ours = || {
            eprintln!("ours: training step and static step");
            let threads = crate::args::cores();
            measure(&model, &ids, self.workload.repeat, None, threads)
        };
        let before = ours()?;
        let peers = PEERS.map(|(name, script)| self.peer(&children, name, script));
        let comparison = Comparison::new(before, peers, ours()?);
        match self.json {
            true => write_json(&comparison),
            false => write_out(&comparison.table()),
        }
    }

    fn peer(&self, children: &Children, name: &'static str, script: &str) -> Peer {
        let time = |fixed| {
            let script = self.find(script)?;
            let kind = if fixed { "static" } else { "training" };
            eprintln!("{name}: {kind} step");
            self.time(children, &script, fixed)
        };
        let training = time(false);
        let fixed = match &training {
            // it will not be there the second time either
            Err(absent @ NotTimed::Absent(_)) => Err(absent.clone()),
            _ => time(true),
        };
        Peer {
            name,
            training,
            fixed,
        }
    }

    /// The script, in the first folder that has it.
    fn find(&self, script: &str) -> std::result::Result<PathBuf, NotTimed> {
        let mut paths = self.scripts.iter().map(|folder| folder.join(script));
        paths.find(|path| path.is_file()).ok_or_else(|| {
            NotTimed::Absent(match &self.scripts[..] {
                [] => format!("give the folder of {script} with --scripts"),
                folders => {
                    let folders: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
                    let folders = folders.join(", ");
                    format!("no {script} in {folders}: give its folder with --scripts")
                }
            })
        })
    }

    fn time(&self, children: &Children, script: &Path, fixed: bool) -> Timed {
        let w = &self.workload;
        let mut command = Command::new(PYTHON);
        command.arg(script).arg(&w.model);
        command.arg("--tokens").arg(&w.tokens);
        command.args(["--time", &w.repeat.to_string()]);
        command.args(fixed.then_some("--static"));
        match children.run(&mut command) {
            Ended::Well(stdout) => read(&stdout),
            Ended::Missing => Err(NotTimed::Absent(format!("{PYTHON} is not on the PATH"))),
            Ended::Badly(line) => Err(match line.strip_prefix("ModuleNotFoundError: ") {
                Some(missing) => NotTimed::Absent(format!("{PYTHON} says: {missing}")),
                None => NotTimed::Failed(line),
            }),
        }
    }
}

/// The last line of a script's output that is what it should print.
fn read(stdout: &str) -> Timed {
    let printed = |line: &str| serde_json::from_str::<Printed>(line).ok();
    let found = stdout.lines().rev().find_map(printed);
    found.filter(|p| p.step_s_median > 0.0).ok_or_else(|| {
        let message = "its output has no line of JSON with a step_s_median above 0";
        NotTimed::Failed(message.into())
    })
}
