//! What the user is told: sentences on standard error, and lines of JSON in files.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use ptx::{Finding, Kernel, Launch, Report};
use serde::Serialize;

use crate::code::Code;
use crate::settings::{PREFIX, Settings};

/// Where reports go.
pub struct Reports {
    findings: Option<File>,
    launches: Option<File>,
}

/// A line about a call.
#[derive(Serialize)]
struct CallLine<'a> {
    call: &'a str,
    result: &'a str,
    message: &'a str,
}

/// A line about a launch.
#[derive(Serialize)]
struct LaunchLine<'a> {
    grid: [u32; 3],
    block: [u32; 3],
    dynamic_shared: u32,
    /// Nanoseconds, an estimate.
    time: f64,
    #[serde(flatten)]
    report: &'a Report,
}

/// A line about a launch of which a sample ran, or that is like one.
#[derive(Serialize)]
struct SampleLine<'a> {
    kernel: &'a str,
    grid: [u32; 3],
    block: [u32; 3],
    dynamic_shared: u32,
    /// Nanoseconds, an estimate.
    time: f64,
}

fn open(variable: &str, path: &Option<PathBuf>) -> Result<Option<File>, String> {
    let Some(path) = path else { return Ok(None) };
    let file = OpenOptions::new().create(true).append(true).open(path);
    match file {
        Ok(file) => Ok(Some(file)),
        Err(error) => Err(format!(
            "{PREFIX}{variable} names {}, which cannot be written: {error}",
            path.display()
        )),
    }
}

fn line(file: &mut Option<File>, value: &impl Serialize) {
    let Some(open) = file else { return };
    let mut text = serde_json::to_string(value).expect("plain data");
    text.push('\n');
    if let Err(error) = open.write_all(text.as_bytes()) {
        eprintln!("cuda (interpreted): a report could not be written: {error}");
        *file = None;
    }
}

impl Reports {
    pub fn open(settings: &Settings) -> Result<Reports, String> {
        Ok(Reports {
            findings: open("FINDINGS_FILE", &settings.findings)?,
            launches: open("LAUNCHES_FILE", &settings.launches)?,
        })
    }

    /// A call that did not succeed.
    pub fn failure(&mut self, call: &str, code: Code, why: &str) {
        eprintln!("cuda (interpreted): {call}: {why}");
        let result = code.texts().map_or("", |(name, _)| {
            name.to_str().expect("names are plain letters")
        });
        let message = why;
        line(
            &mut self.findings,
            &CallLine {
                call,
                result,
                message,
            },
        );
    }

    /// Something worth knowing that fails nothing.
    pub fn note(&mut self, call: &str, message: &str) {
        eprintln!("cuda (interpreted): {call}: {message}");
        let result = "";
        line(
            &mut self.findings,
            &CallLine {
                call,
                result,
                message,
            },
        );
    }

    pub fn finding(&mut self, finding: &Finding) {
        eprintln!("cuda (interpreted): {finding}");
        line(&mut self.findings, finding);
    }

    /// A launch that takes `time` nanoseconds, of which a sample ran.
    pub fn sampled(&mut self, kernel: &Kernel, launch: &Launch, time: f64) {
        let row = SampleLine {
            kernel: kernel.name(),
            grid: launch.grid,
            block: launch.block,
            dynamic_shared: launch.dynamic_shared,
            time,
        };
        line(&mut self.launches, &row);
    }

    /// A launch that took `time` nanoseconds.
    pub fn launch(&mut self, launch: &Launch, time: f64, report: &Report) {
        if self.launches.is_some() {
            let row = LaunchLine {
                grid: launch.grid,
                block: launch.block,
                dynamic_shared: launch.dynamic_shared,
                time,
                report,
            };
            line(&mut self.launches, &row);
        }
    }
}
