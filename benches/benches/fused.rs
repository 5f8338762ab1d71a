//! Every case at orders 0, 1 and 2: checked, then timed. Criterion reports each; a table of all ends the run and lies as CSV in
//! `target/tmp/fused.csv`.
//!
//! `cargo bench -p benches --bench fused`, or `... -- 'swa_attention.*order 2'` for some.

use std::path::Path;
use std::time::{Duration, Instant};

use benches::case::Case;
use benches::cases::cases;
use benches::check::check;
use benches::level::{Level, Numbers};
use benches::machine::{LARGE_COPY, Rates};
use benches::table::{Row, csv, median, text};
use criterion::Criterion;

/// Timed samples of each.
const SAMPLES: usize = 10;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(SAMPLES)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(700))
        .configure_from_args();
    let mut rows = vec![];
    for case in cases() {
        rows.extend((0..3).filter_map(|order| time(&mut criterion, &case, order)));
    }
    criterion.final_summary();
    if !rows.is_empty() {
        report(&rows);
    }
}

/// Checks and times one order of a case; `None` if the filter leaves it out, or for a mere test.
fn time(criterion: &mut Criterion, case: &Case, order: usize) -> Option<Row> {
    let mut ready: Option<(Level, Rates)> = None;
    let mut times = vec![];
    criterion.bench_function(&case.name(order), |b| {
        let (level, _) = ready.get_or_insert_with(|| prepare(case, order));
        b.iter_custom(|runs| {
            let start = Instant::now();
            for _ in 0..runs {
                level.run().expect("it ran in the check");
            }
            let took = start.elapsed();
            times.push(took.as_secs_f64() / runs as f64);
            took
        });
    });
    let (_, machine) = ready?;
    // the samples come after the runs that warm up; a test runs once
    let samples = times.split_off(times.len().checked_sub(SAMPLES)?);
    Some(Row {
        op: case.op,
        what: case.what.clone(),
        order,
        seconds: median(samples),
        cost: case.cost(order),
        machine,
    })
}

fn prepare(case: &Case, order: usize) -> (Level<'_>, Rates) {
    if let Err(e) = check(case, order) {
        panic!("{e}: not timed");
    }
    let numbers = Numbers::of(case).expect("it ran in the check");
    let level = Level::new(&case.f, &numbers, order).expect("it ran in the check");
    let rates = Rates::measure(case.cost(order).bytes).expect("a product of two squares");
    (level, rates)
}

fn report(rows: &[Row]) {
    let product = median(rows.iter().map(|r| r.machine.product).collect());
    let copy = Rates::measure(LARGE_COPY)
        .expect("a product of two squares")
        .copy;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{}", text(rows));
    println!(
        "{threads} threads. A 1024-cube product: {:.0} GFLOP/s (median over the run). A copy out of memory: {:.1} GB/s; \
         \"of copy\" is of a copy that moves as many bytes as the row.",
        product / 1e9,
        copy / 1e9,
    );
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fused.csv");
    match std::fs::write(&path, csv(rows)) {
        Ok(()) => println!("{}", path.display()),
        Err(e) => eprintln!("error: {}: cannot be written: {e}", path.display()),
    }
}
