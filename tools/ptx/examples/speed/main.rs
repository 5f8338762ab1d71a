//! Warp instructions a second, for attention over a sliding window.
//!
//!     cargo run --release -p ptx --example speed [seconds per line] [part of the lines' names, such as "1 threads"]

mod attention;

use std::time::{Duration, Instant};

use attention::Attention;
use ptx::Options;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(2.0), |s| s.parse())?;
    let wanted = std::env::args().nth(2).unwrap_or_default();
    let kernel = attention::kernel()?;

    let mut small = Attention::new(2, 200, 77)?;
    let report = small.run(&kernel, &Options::default())?;
    let errors = small.errors()?;
    let right = errors[0] < 1e-2 && errors[1] < 1e-4;
    if !report.findings.is_empty() || !right {
        return Err(format!("wrong by {errors:?}; found {:?}", report.findings).into());
    }
    println!(
        "output within {:.1e}, logarithms within {:.1e} of f64",
        errors[0], errors[1]
    );

    let mut attention = Attention::new(8, 2048, 512)?;
    let off = Options {
        checks: false,
        counters: false,
        ..Options::default()
    };
    println!("M warp instructions a second: best, median, and in a second of processor time");
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    // both stay to the end: time of threads that are gone is not known
    let pools = [(1, pool(1)?), (2, pool(2)?)];
    for (threads, pool) in &pools {
        for (checks, options) in [("on", Options::default()), ("off", off)] {
            let name = format!("{threads} threads, checks {checks}");
            if !name.contains(&wanted) {
                continue;
            }
            let mut rates = vec![];
            let (start, busy) = (Instant::now(), processor_time());
            let mut all = 0.0;
            while rates.len() < 3 || start.elapsed() < Duration::from_secs_f64(seconds) {
                let start = Instant::now();
                let report = pool.install(|| attention.run(&kernel, &options))?;
                let instructions = report.counters.total.instructions as f64;
                all += instructions;
                rates.push(instructions / start.elapsed().as_secs_f64() / 1e6);
            }
            rates.sort_by(f64::total_cmp);
            let (best, median) = (rates[rates.len() - 1], rates[rates.len() / 2]);
            let each = match (busy, processor_time()) {
                (Some(from), Some(to)) => format!("{:6.1}", all / (to - from) / 1e6),
                _ => "unknown".into(),
            };
            println!("{name:21}: {best:6.1} {median:6.1} {each}");
        }
    }
    Ok(())
}

/// Seconds the threads of this process have run: other work on the machine does not count. Known on Linux.
fn processor_time() -> Option<f64> {
    let mut nanoseconds = 0.0;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        let times = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        nanoseconds += times.split(' ').next()?.parse::<f64>().ok()?;
    }
    Some(nanoseconds / 1e9)
}
