//! Reports as text.

use ptx::{Counters, Estimate, Kernel, Launch, Report, Work};

use crate::tensor::Tensor;

/// Values of a buffer that are shown.
const SHOWN: usize = 16;

pub fn heading(kernel: &Kernel, launch: &Launch) -> String {
    let Launch {
        grid,
        block,
        dynamic_shared,
        ..
    } = launch;
    let shared = kernel.static_shared() + *dynamic_shared as usize;
    format!(
        "{}: grid {} x {} x {}, block {} x {} x {}, {shared} bytes of shared memory",
        kernel.name(),
        grid[0],
        grid[1],
        grid[2],
        block[0],
        block[1],
        block[2]
    )
}

pub fn findings(report: &Report) {
    if report.findings.is_empty() {
        println!("nothing is wrong, as far as this launch shows");
    }
    for finding in &report.findings {
        let severity = match finding.severity {
            ptx::Severity::Error => "error",
            ptx::Severity::Note => "note",
        };
        println!("{severity}: {finding}");
    }
}

pub fn tensor(tensor: &Tensor) -> String {
    let values: Vec<String> = tensor.values().take(SHOWN).map(|v| v.to_string()).collect();
    let count = tensor.bytes.len() / tensor.ty.bytes;
    let more = if count > SHOWN { ", ..." } else { "" };
    format!(
        "{}{:?} {}{more}",
        tensor.ty.name,
        tensor.shape,
        values.join(", ")
    )
}

/// Rows of a table of counters: name and value.
fn rows(counters: &Counters) -> Vec<(String, u64)> {
    let Work {
        instructions,
        lanes,
        matrix_flops,
        global_sectors,
        global_sectors_ideal,
        global_bytes,
        shared_wavefronts,
        shared_wavefronts_ideal,
        shared_bytes,
    } = counters.total;
    let mut rows = vec![
        ("warp instructions".to_string(), instructions),
        ("active lanes".to_string(), lanes),
    ];
    for (class, count) in &counters.classes {
        // as in JSON
        let name = serde_json::to_value(class)
            .ok()
            .and_then(|v| Some(v.as_str()?.to_string()));
        rows.push((
            format!("  {}", name.unwrap_or_default().replace('_', " ")),
            *count,
        ));
    }
    let more = [
        ("operations of matrix instructions", matrix_flops),
        ("bytes of global memory", global_bytes),
        ("sectors of global memory", global_sectors),
        ("  if bytes lay side by side", global_sectors_ideal),
        ("bytes of shared memory", shared_bytes),
        ("wavefronts of shared memory", shared_wavefronts),
        ("  without bank conflicts", shared_wavefronts_ideal),
    ];
    rows.extend(more.map(|(name, value)| (name.to_string(), value)));
    rows
}

pub fn counters(counters: &Counters) {
    for (name, value) in rows(counters) {
        println!("{value:>16}  {name}");
    }
}

/// Counters of versions in columns, with the last relative to the first.
pub fn side_by_side(all: &[&Counters]) {
    let tables: Vec<Vec<(String, u64)>> = all.iter().map(|counters| rows(counters)).collect();
    let mut names: Vec<&String> = vec![];
    for (name, _) in tables.iter().flatten() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for name in names {
        let value = |table: &Vec<(String, u64)>| {
            table
                .iter()
                .find(|row| row.0 == *name)
                .map_or(0, |row| row.1)
        };
        let values: Vec<u64> = tables.iter().map(value).collect();
        let columns: String = values.iter().map(|v| format!("{v:>16}")).collect();
        let (first, last) = (values[0], values[values.len() - 1]);
        let ratio = if first == 0 {
            String::new()
        } else {
            format!("{:.3}", last as f64 / first as f64)
        };
        println!("{columns} {ratio:>8}  {name}");
    }
}

/// The work of each line, beside its text.
pub fn lines(counters: &Counters, text: &str) {
    let text: Vec<&str> = text.lines().collect();
    println!("  line  instructions  lanes   sectors (ideal)  wavefronts (ideal)");
    for line in &counters.lines {
        let Work {
            instructions,
            lanes,
            global_sectors,
            global_sectors_ideal,
            shared_wavefronts,
            shared_wavefronts_ideal,
            ..
        } = line.work;
        let of = |amount: u64, ideal: u64| {
            if amount == 0 {
                String::new()
            } else {
                format!("{amount} ({ideal})")
            }
        };
        let source = line
            .source
            .as_ref()
            .map_or(String::new(), |s| format!("   // {}:{}", s.file, s.line));
        println!(
            "{:>6} {instructions:>13} {:>6.2} {:>17} {:>19}  {}{source}",
            line.line,
            lanes as f64 / instructions as f64,
            of(global_sectors, global_sectors_ideal),
            of(shared_wavefronts, shared_wavefronts_ideal),
            text.get(line.line as usize - 1)
                .map_or("", |line| line.trim()),
        );
    }
}

pub fn estimate(estimate: &Estimate) {
    println!(
        "estimate for {}: {:.3} us, bound by {}",
        estimate.chip,
        estimate.seconds * 1e6,
        estimate.bound
    );
    for part in &estimate.parts {
        println!("{:>13.3} us  {}", part.seconds * 1e6, part.name);
    }
    let occupancy = &estimate.occupancy;
    println!(
        "  a multiprocessor holds {} blocks, {} warps; more do not fit because of {}",
        occupancy.blocks, occupancy.warps, occupancy.limit
    );
    println!("  it assumes:");
    for assumption in &estimate.assumptions {
        println!("  - {assumption}");
    }
}
