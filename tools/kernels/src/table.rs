//! What a kernel takes on an architecture.

use std::fmt::Write;

use kernels_cu::list::Entry;
use kernels_cu::{Compiler, Resources, Result};
use ptx::Chip;
use serde::Serialize;

use crate::loops::matrix_share;

/// One kernel on one architecture.
#[derive(Debug, Serialize)]
pub struct Row {
    kernel: &'static str,
    entry: &'static str,
    variant: String,
    arch: String,
    registers: u32,
    registers_allowed: u32,
    spill_bytes: u32,
    stack_bytes: u32,
    shared_bytes: u32,
    /// Warps on a multiprocessor at once and the most it could hold, where the chip is known.
    warps: Option<[u64; 2]>,
    /// What allows no more.
    limit: Option<&'static str>,
    /// Matrix instructions of all instructions in the loop that has most of them.
    matrix_share: Option<f64>,
}

impl Row {
    /// Compiles.
    pub fn new(compiler: &Compiler, entry: &Entry, arch: &str) -> Result<Row> {
        let all = compiler.resources(&entry.program, arch)?;
        let found = all.into_iter().find(|r| r.entry == entry.entry);
        // a name that is not there is a list that is wrong
        let found: Resources =
            found.unwrap_or_else(|| panic!("no kernel {} in {}", entry.entry, entry.program.name));
        let shared = found.shared + entry.shared;
        let chip = match arch {
            "80" => Some(Chip::A100),
            "90" | "90a" => Some(Chip::H100),
            _ => None,
        };
        let occupancy = chip.map(|chip| {
            let registers = Some(u64::from(found.registers));
            (
                chip.occupancy(entry.threads.into(), shared.into(), registers),
                chip.warps,
            )
        });
        let ptx = compiler.ptx(&entry.program, arch)?;
        let share = matrix_share(&ptx, entry.entry);
        Ok(Row {
            kernel: entry.program.name,
            entry: entry.entry,
            variant: entry.variant.clone(),
            arch: arch.to_string(),
            registers: found.registers,
            registers_allowed: entry.registers,
            spill_bytes: found.spills.iter().sum(),
            stack_bytes: found.stack,
            shared_bytes: shared,
            warps: occupancy.as_ref().map(|(o, most)| [o.warps, *most]),
            limit: occupancy.map(|(o, _)| o.limit),
            matrix_share: share.map(|(matrix, all)| matrix as f64 / all as f64),
        })
    }

    /// No spills, no stack, no more registers than planned.
    pub fn within_budget(&self) -> bool {
        self.spill_bytes == 0 && self.stack_bytes == 0 && self.registers <= self.registers_allowed
    }
}

/// The table.
pub fn text(rows: &[Row]) -> String {
    let name = |row: &Row| format!("{} {} {}", row.kernel, row.entry, row.variant);
    let width = rows.iter().map(|row| name(row).len()).max().unwrap_or(0);
    let mut text = format!(
        "{:width$}  {:>6}  {:>9}  {:>6}  {:>6}  {:>8}  {:>7}  {:<13}  {:>6}\n",
        "kernel", "arch", "registers", "spills", "stack", "shared", "warps", "limit", "matrix"
    );
    for row in rows {
        let registers = format!("{}/{}", row.registers, row.registers_allowed);
        let warps = row
            .warps
            .map_or("-".into(), |[warps, most]| format!("{warps}/{most}"));
        let matrix = row
            .matrix_share
            .map_or("-".into(), |share| format!("{:.0} %", 100.0 * share));
        writeln!(
            text,
            "{:width$}  {:>6}  {registers:>9}  {:>6}  {:>6}  {:>8}  {warps:>7}  {:<13}  {matrix:>6}{}",
            name(row),
            format!("sm_{}", row.arch),
            row.spill_bytes,
            row.stack_bytes,
            row.shared_bytes,
            row.limit.unwrap_or("-"),
            if row.within_budget() { "" } else { "  OVER BUDGET" },
        )
        .expect("a string grows");
    }
    text
}
