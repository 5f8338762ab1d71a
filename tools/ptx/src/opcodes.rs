//! The opcodes of a module, and which of them are not known.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::decode::problems;
use crate::error::Error;
use crate::module::{Kernel, Module};
use crate::text::ast::{Instruction, Statement};

/// An opcode with its suffixes, as a module has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Opcode {
    /// As it is written.
    pub name: String,
    /// How often it stands in the text.
    pub count: usize,
    /// Why it cannot be run, with the first line where that is so.
    pub problem: Option<String>,
}

impl Module {
    /// All opcodes, by name.
    pub fn opcodes(&self) -> Vec<Opcode> {
        let module = self.syntax();
        let mut found: BTreeMap<&str, Opcode> = BTreeMap::new();
        for function in &module.functions {
            for instruction in instructions(function.body.iter().flatten()) {
                let opcode = found.entry(&instruction.opcode).or_insert_with(|| Opcode {
                    name: instruction.opcode.clone(),
                    count: 0,
                    problem: None,
                });
                opcode.count += 1;
            }
        }
        for error in self
            .kernels()
            .into_iter()
            .flat_map(|name| problems(module, name))
        {
            let Error::Ptx { line, .. } = error else {
                continue;
            };
            let at = module
                .functions
                .iter()
                .flat_map(|f| instructions(f.body.iter().flatten()));
            for instruction in at.filter(|instruction| instruction.line == line) {
                if let Some(opcode) = found.get_mut(&instruction.opcode[..]) {
                    opcode.problem.get_or_insert(error.to_string());
                }
            }
        }
        found.into_values().collect()
    }
}

impl Kernel {
    /// The first opcode of a line of the text.
    pub fn opcode_at(&self, line: u32) -> Option<&str> {
        let functions = &self.module.syntax.functions;
        let mut all = functions
            .iter()
            .flat_map(|f| instructions(f.body.iter().flatten()));
        let found = all.find(|instruction| instruction.line == line)?;
        Some(&found.opcode)
    }
}

fn instructions<'s>(
    statements: impl Iterator<Item = &'s Statement>,
) -> impl Iterator<Item = &'s Instruction> {
    statements.filter_map(|statement| match statement {
        Statement::Instruction(instruction) => Some(instruction),
        _ => None,
    })
}
