//! Every variant of every CUDA kernel: checked, then timed where there is a device, and counted where there is none.
//!
//! `cargo bench -p benches --bench kernels`, or `... -- swa_attention` for some. On a device criterion reports each with events around the launches and
//! the second-level cache flushed before them; a table ends the run and lies as CSV in `target/tmp/kernels.csv`. Without one the kernels run in
//! the PTX interpreter, and the table has the cost model's *estimates* for A100 and H100 instead of times.

use std::path::Path;
use std::time::Duration;

use benches::kernels::{KernelCase, Made, Size, cases};
use benches::table::median;
use criterion::Criterion;
use kernels::{Interpreted, Machine};
use kernels_cu::{Error, Gpu};
use ptx::{Asynchrony, Chip, Estimate};

/// Timed samples of each.
const SAMPLES: usize = 10;
/// Blocks of a launch that are interpreted for an estimate, about.
const BLOCKS: u64 = 32;
/// More than any second-level cache holds.
const FLUSH: usize = 256 << 20;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(SAMPLES)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(700))
        .configure_from_args();
    let mut rows = vec![];
    match Gpu::open(0) {
        Ok(mut gpu) if !gpu.name().contains("interpreted") => {
            for case in cases() {
                rows.extend(time(&mut criterion, &mut gpu, &case));
            }
            criterion.final_summary();
            finish(&rows, gpu.name());
        }
        Err(
            error @ (Error::NoNvrtc { .. } | Error::OldDevice { .. } | Error::OldDriver { .. }),
        ) => panic!("{error}"),
        _ => {
            // criterion's filter, without criterion
            let filter: Vec<String> = std::env::args()
                .skip(1)
                .filter(|arg| !arg.starts_with('-'))
                .collect();
            let wanted = |case: &KernelCase| {
                filter
                    .iter()
                    .all(|text| case.name().contains(text.as_str()))
            };
            for case in cases().into_iter().filter(wanted) {
                let Some(found) = estimate(&case) else { return };
                rows.extend(found);
            }
            finish(&rows, "no device: estimates by the cost model");
        }
    }
}

/// A line of the table.
struct Row {
    name: String,
    /// "measured", or the chip of an estimate and what binds it there.
    how: String,
    seconds: f64,
    flops: f64,
    bytes: f64,
    /// Peak of the matrix pipe at this type and of memory.
    peaks: Option<[f64; 2]>,
}

/// Checks, then times on a device; `None` if the filter leaves it out.
fn time(criterion: &mut Criterion, gpu: &mut Gpu, case: &KernelCase) -> Option<Row> {
    let mut ready: Option<Made> = None;
    let mut times = vec![];
    let flush = gpu
        .allocate(FLUSH)
        .unwrap_or_else(|error| panic!("{error}"));
    criterion.bench_function(&case.name(), |b| {
        let made = ready.get_or_insert_with(|| {
            case.check(gpu)
                .unwrap_or_else(|message| panic!("{message}: not timed"));
            (case.make)(gpu, Size::Real).unwrap_or_else(|error| panic!("{error}"))
        });
        b.iter_custom(|runs| {
            let mut total = 0.0;
            for _ in 0..runs {
                gpu.fill(&flush, 0).expect("its memory");
                let run = || {
                    made.launches
                        .iter()
                        .try_for_each(|launch| Gpu::launch(gpu, launch))
                };
                total += gpu.timed(run).unwrap_or_else(|error| panic!("{error}"));
            }
            times.push(total / runs as f64);
            Duration::from_secs_f64(total)
        });
    });
    let made = ready?;
    let samples = times.split_off(times.len().checked_sub(SAMPLES)?);
    let (flops, bytes) = cost(&made);
    let chip = [Chip::A100, Chip::H100]
        .into_iter()
        .find(|chip| gpu.name().contains(chip.name));
    Some(Row {
        name: case.name(),
        how: "measured".into(),
        seconds: median(samples),
        flops,
        bytes,
        peaks: chip.map(|chip| peaks(&chip)),
    })
}

/// Checks in the interpreter, then estimates; `None` where there is no compiler.
fn estimate(case: &KernelCase) -> Option<Vec<Row>> {
    let mut device = Interpreted::new(Asynchrony::Late)?;
    case.check(&mut device)
        .unwrap_or_else(|message| panic!("{message}: not counted"));
    let mut device = Interpreted::for_estimates()?;
    let made = (case.make)(&mut device as &mut dyn Machine, Size::Real);
    let made = made.unwrap_or_else(|error| panic!("{error}"));
    let (flops, bytes) = cost(&made);
    let of = |chip: Chip| {
        let estimates: Vec<Estimate> = made
            .launches
            .iter()
            .map(|launch| {
                let blocks: u64 = launch.grid().iter().map(|n| u64::from(*n)).product();
                device.estimate(launch, &chip, blocks.div_ceil(BLOCKS))
            })
            .collect();
        let longest = estimates
            .iter()
            .max_by(|a, b| a.seconds.total_cmp(&b.seconds));
        Row {
            name: case.name(),
            how: format!(
                "{} estimate, by {}",
                chip.name,
                longest.map_or("nothing", |e| e.bound)
            ),
            seconds: estimates.iter().map(|e| e.seconds).sum(),
            flops,
            bytes,
            peaks: Some(peaks(&chip)),
        }
    };
    Some([Chip::A100, Chip::H100].map(of).into())
}

/// FLOPs of products and bytes of all launches.
fn cost(made: &Made) -> (f64, f64) {
    let costs = made.launches.iter().map(|launch| launch.cost());
    costs.fold((0.0, 0.0), |(flops, bytes), cost| {
        (flops + cost.flops as f64, bytes + cost.bytes as f64)
    })
}

/// FLOP/s of bf16 products, and bytes per second of memory.
fn peaks(chip: &Chip) -> [f64; 2] {
    [
        chip.matrix_flops * chip.clock * chip.multiprocessors as f64,
        chip.memory,
    ]
}

/// Prints the table and writes the file.
fn finish(rows: &[Row], device: &str) {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    println!("{device}");
    println!(
        "{:width$}  {:<30}  {:>10}  {:>8}  {:>7}  {:>8}  {:>9}",
        "", "", "ms", "TFLOP/s", "of bf16", "GB/s", "of memory"
    );
    let mut csv =
        "case,how,seconds,flops,bytes,share_of_bf16_peak,share_of_memory_peak\n".to_string();
    for row in rows {
        let rates = [row.flops / row.seconds, row.bytes / row.seconds];
        let shares = row
            .peaks
            .map(|peaks| [rates[0] / peaks[0], rates[1] / peaks[1]]);
        let percent =
            |i: usize| shares.map_or("-".to_string(), |s| format!("{:.0} %", 100.0 * s[i]));
        println!(
            "{:width$}  {:<30}  {:10.4}  {:8.1}  {:>7}  {:8.0}  {:>9}",
            row.name,
            row.how,
            1e3 * row.seconds,
            rates[0] / 1e12,
            percent(0),
            rates[1] / 1e9,
            percent(1),
        );
        let share = |i: usize| shares.map_or(String::new(), |s| format!("{:.4}", s[i]));
        csv += &format!(
            "\"{}\",\"{}\",{:e},{:.0},{:.0},{},{}\n",
            row.name,
            row.how,
            row.seconds,
            row.flops,
            row.bytes,
            share(0),
            share(1)
        );
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels.csv");
    match std::fs::write(&path, csv) {
        Ok(()) => println!("{}", path.display()),
        Err(e) => eprintln!("error: {}: cannot be written: {e}", path.display()),
    }
}
