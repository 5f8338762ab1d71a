//! `ptx opcodes`

use std::path::PathBuf;

use ptx::Module;

use crate::Outcome;
use crate::launch::read;

/// Lists the opcodes of files, and which of them cannot be run.
#[derive(clap::Args)]
pub struct Opcodes {
    /// Files of PTX
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write everything as JSON
    #[arg(long)]
    json: bool,
    /// Only those that are not known
    #[arg(long)]
    unknown: bool,
}

impl Opcodes {
    pub fn run(&self) -> Outcome {
        let mut known = true;
        let mut all = serde_json::Map::new();
        for path in &self.files {
            let name = path.display().to_string();
            let module = Module::parse(&read(path)?).map_err(|e| format!("{name}: {e}"))?;
            let mut opcodes = module.opcodes();
            let total = opcodes.len();
            let unknown = opcodes.iter().filter(|o| o.problem.is_some()).count();
            known &= unknown == 0;
            opcodes.retain(|o| !self.unknown || o.problem.is_some());
            if self.json {
                all.insert(
                    name,
                    serde_json::to_value(&opcodes).map_err(|e| e.to_string())?,
                );
                continue;
            }
            println!("{name}: {total} opcodes, {unknown} not known");
            for opcode in opcodes {
                let problem = opcode
                    .problem
                    .map_or(String::new(), |p| format!("   not known: {p}"));
                println!("{:>8}  {}{problem}", opcode.count, opcode.name);
            }
        }
        if self.json {
            println!("{}", serde_json::Value::Object(all));
        }
        Ok(known)
    }
}
