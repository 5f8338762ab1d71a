//! Warp instructions a second, for attention over a sliding window.
//!
//!     cargo run --release -p ptx --example speed [seconds per line]

mod attention;

use std::time::{Duration, Instant};

use attention::Attention;
use ptx::Options;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(2.0), |s| s.parse())?;
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
    println!("M warp instructions a second: best, median");
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()?;
        for (name, options) in [("checks on", Options::default()), ("checks off", off)] {
            let mut rates = vec![];
            let start = Instant::now();
            while rates.len() < 3 || start.elapsed() < Duration::from_secs_f64(seconds) {
                let start = Instant::now();
                let report = pool.install(|| attention.run(&kernel, &options))?;
                let instructions = report.counters.total.instructions as f64;
                rates.push(instructions / start.elapsed().as_secs_f64() / 1e6);
            }
            rates.sort_by(f64::total_cmp);
            let (best, median) = (rates[rates.len() - 1], rates[rates.len() / 2]);
            println!("{threads} threads, {name:10}: {best:6.1} {median:6.1}");
        }
    }
    Ok(())
}
