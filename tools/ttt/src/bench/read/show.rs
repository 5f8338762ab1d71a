//! The result of `ttt bench read`: as a table, as CSV, as a page and as a picture.

use std::fmt::Write;
use std::path::Path;

use model::{Error, files};
use serde::Serialize;

use super::rows::{Reached, Row};
use crate::report::lines::{Lines, Plot, Series, Value, key};
use crate::report::page::{HEAD_END, TABLE, TABLE_END, page};
use crate::report::text::{bytes, count, escape, fixed, short, tokens};

/// What was measured.
#[derive(Serialize)]
pub struct Result {
    /// Names, with numbers of parameters.
    pub models: Vec<(String, usize)>,
    /// Threads used.
    pub threads: usize,
    /// Seconds per point.
    pub limit: f64,
    /// Model by model, contexts rising.
    pub rows: Vec<Row>,
}

impl Result {
    /// For a terminal.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (name, parameters) in &self.models {
            let _ = writeln!(text, "{name}: {parameters} parameters");
        }
        let _ = writeln!(
            text,
            "{} threads that read {} a second, measured beside each\n\n{:16} {:>8} {:>12} {:>12} {:>10} {:>12} {:>10} {:>9} {:>14}",
            self.threads,
            self.bandwidth(),
            "model",
            "context",
            "prefill",
            "decode",
            "between",
            "state",
            "moves",
            "bandwidth",
            "over first",
        );
        let _ = writeln!(
            text,
            "{:16} {:>8} {:>12} {:>12} {:>10} {:>12} {:>10} {:>9} {:>14}",
            "", "tokens", "s/1K tokens", "ms/token", "ms", "", "a token", "share", "read, write"
        );
        for r in &self.rows {
            let how = match r.reached {
                Reached::Read => "",
                Reached::Set => " *",
                Reached::Extrapolated => " extrapolated",
            };
            let _ = writeln!(
                text,
                "{:16} {:>8} {:>12.4} {:>12.3} {:>10.3} {:>12} {:>10} {:>8.0}% {:>7.3} {:>6.3}{how}",
                r.model,
                tokens(r.context),
                r.prefill_s_per_1k,
                r.decode_ms_per_token,
                r.decode_between_steps_ms,
                bytes(r.state_bytes),
                bytes(r.bytes_per_token),
                100.0 * r.bandwidth_share,
                r.prefill_over_first,
                r.decode_over_first,
            );
        }
        text
    }

    /// What memory gave, from the least to the most.
    fn bandwidth(&self) -> String {
        let rates = || self.rows.iter().map(|r| r.bandwidth);
        let least = rates().fold(f64::INFINITY, f64::min);
        let most = rates().fold(0.0, f64::max);
        format!("{} to {}", bytes(least as u64), bytes(most as u64))
    }

    /// The rows, comma-separated.
    pub fn csv(&self) -> String {
        let mut text =
            "model,context,prefill_s_per_1k,decode_ms_per_token,state_bytes,measured,reached,\
             decode_between_steps_ms,bytes_per_token,bandwidth,bandwidth_share\n"
                .to_string();
        for r in &self.rows {
            let reached = format!("{:?}", r.reached).to_lowercase();
            let _ = writeln!(
                text,
                "{},{},{},{},{},{},{reached},{},{},{},{}",
                r.model,
                r.context,
                r.prefill_s_per_1k,
                r.decode_ms_per_token,
                r.state_bytes,
                r.measured,
                r.decode_between_steps_ms,
                r.bytes_per_token,
                r.bandwidth,
                r.bandwidth_share
            );
        }
        text
    }

    /// The page.
    pub fn html(&self) -> String {
        let sizes = self
            .models
            .iter()
            .map(|(name, parameters)| format!("{} {}", escape(name), count(*parameters as u64)));
        let sizes: Vec<String> = sizes.collect();
        let body = format!(
            "<h1>Reading and writing deep in a text</h1>\n<p class=\"lead\">Time to read on, and to write a token, \
             after a context. Parameters: {}. {} threads, which read {} a second.</p>\n{}\n<p class=\"note\">{}</p>\n{}",
            sizes.join(", "),
            self.threads,
            self.bandwidth(),
            figure(&self.rows),
            NOTE,
            self.rows_table(),
        );
        page("Reading and writing deep in a text", &body)
    }

    fn rows_table(&self) -> String {
        let mut out = format!(
            "<h2>Numbers</h2>\n{TABLE}<th>model</th><th>context</th><th>prefill, s per 1K</th><th>decode, ms</th>\
             <th>between steps, ms</th><th>state</th><th>a token moves</th><th>of the bandwidth</th><th>how</th>{HEAD_END}"
        );
        for r in &self.rows {
            let _ = writeln!(
                out,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{} %</td><td>{}</td></tr>",
                escape(&r.model),
                tokens(r.context),
                short(r.prefill_s_per_1k),
                short(r.decode_ms_per_token),
                short(r.decode_between_steps_ms),
                bytes(r.state_bytes),
                bytes(r.bytes_per_token),
                fixed(100.0 * r.bandwidth_share, 0),
                format!("{:?}", r.reached).to_lowercase(),
            );
        }
        out + TABLE_END
    }

    /// Writes all forms to a folder.
    pub fn write(&self, folder: &Path) -> model::Result<()> {
        std::fs::create_dir_all(folder).map_err(|e| Error::File {
            path: folder.to_path_buf(),
            message: format!("cannot be made: {e}; choose a folder you can write to with --out"),
        })?;
        let json = serde_json::to_string_pretty(self).expect("plain data");
        files::write(&folder.join("read.json"), &[json.as_bytes(), b"\n"])?;
        files::write(&folder.join("read.csv"), &[self.csv().as_bytes()])?;
        files::write(&folder.join("read.html"), &[self.html().as_bytes()])?;
        files::write(&folder.join("read.png"), &[&plot(&self.rows).picture()])
    }
}

const NOTE: &str = "Decode includes a token's share of an inner step. Dots that are not filled are extrapolated along the line \
    through the last two measured contexts. <i>set</i>: the state was set instead of read, because reading would have taken longer \
    than the limit. A token moves every weight once, and the keys and values it sees.";

/// The plot with its key.
pub fn figure(rows: &[Row]) -> String {
    let names: Vec<String> = names(rows);
    format!("{}<figure>\n{}</figure>", key(&names), plot(rows).svg())
}

fn names(rows: &[Row]) -> Vec<String> {
    let mut names: Vec<String> = vec![];
    for r in rows {
        if !names.contains(&r.model) {
            names.push(r.model.clone());
        }
    }
    names
}

/// Prefill and decode by context.
pub fn plot(rows: &[Row]) -> Plot {
    let names = names(rows);
    let lines = |label: &str, number: fn(&Row) -> f64| {
        let series = names.iter().enumerate().map(|(model, name)| Series {
            name: name.clone(),
            model,
            values: (rows.iter().filter(|r| r.model == *name))
                .map(|r| Value {
                    measured: r.measured,
                    ..Value::new(r.context, number(r))
                })
                .collect(),
        });
        Lines {
            label: label.to_string(),
            powers: true,
            series: series.collect(),
        }
    };
    Plot {
        label: "Seconds per 1K tokens read, and milliseconds per token written, by context".into(),
        x_label: "context, tokens",
        panels: vec![
            lines("prefill, seconds per 1K tokens", |r| r.prefill_s_per_1k),
            lines("decode, milliseconds per token", |r| r.decode_ms_per_token),
        ],
    }
}
