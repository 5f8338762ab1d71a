//! What `ttt eval needle` found.

use std::fmt::Write;
use std::path::Path;

use model::{Error, Result, files};
use serde::Serialize;

use super::trial::Score;
use crate::report::lines::{Lines, Plot, Series, Value, key, table};
use crate::report::page::{HEAD_END, TABLE, TABLE_END, page};
use crate::report::text::{escape, fixed, signed, tokens};

/// All of it, model by model.
#[derive(Serialize)]
pub struct Rows {
    pub rows: Vec<Row>,
}

/// A model at one context and depth.
#[derive(Serialize)]
pub struct Row {
    /// Its name, and how often it read.
    pub model: String,
    /// Tokens of text.
    pub context: usize,
    /// Where the thing was hidden, 0 to 1.
    pub depth: f64,
    /// How often the text was read.
    pub readings: usize,
    /// Trials.
    pub trials: usize,
    /// Share of them with every token right.
    pub exact: f64,
    /// Mean loss of the answer, nats per token.
    pub nats_per_token: f64,
    /// How much higher it is after a text in which it was not hidden.
    pub gain: f64,
}

impl Row {
    /// The means of some trials.
    pub fn of(model: &str, context: usize, depth: f64, readings: usize, scores: &[Score]) -> Self {
        let mean = |number: fn(&Score) -> f64| {
            scores.iter().map(number).sum::<f64>() / scores.len() as f64
        };
        Row {
            model: model.to_string(),
            context,
            depth,
            readings,
            trials: scores.len(),
            exact: mean(|s| f64::from(u8::from(s.exact))),
            nats_per_token: mean(|s| s.nats),
            gain: mean(|s| s.control_nats - s.nats),
        }
    }
}

impl Rows {
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.rows.iter().map(|r| r.model.clone()).collect();
        names.dedup();
        names
    }

    /// For a terminal.
    pub fn table(&self) -> String {
        let width = self.names().iter().map(String::len).max().unwrap_or(5);
        let mut text = format!(
            "{:width$} {:>8} {:>6} {:>7} {:>12} {:>8}\n",
            "model", "context", "depth", "exact", "nats/token", "gain"
        );
        for r in &self.rows {
            let _ = writeln!(
                text,
                "{:width$} {:>8} {:>6} {:>6.0}% {:>12.3} {:>8}",
                r.model,
                tokens(r.context),
                r.depth,
                100.0 * r.exact,
                r.nats_per_token,
                signed(r.gain, 3)
            );
        }
        text
    }

    /// Means over the depths by context.
    fn lines(&self, label: &str, number: fn(&Row) -> f64) -> Lines {
        let series = self.names().into_iter().enumerate().map(|(model, name)| {
            let own: Vec<&Row> = self.rows.iter().filter(|r| r.model == name).collect();
            let mut contexts: Vec<usize> = own.iter().map(|r| r.context).collect();
            contexts.dedup();
            let value = |&context: &usize| {
                let at: Vec<f64> = (own.iter().filter(|r| r.context == context))
                    .map(|r| number(r))
                    .collect();
                Value::new(context, at.iter().sum::<f64>() / at.len() as f64)
            };
            Series {
                name,
                model,
                values: contexts.iter().map(value).collect(),
            }
        });
        Lines {
            label: label.to_string(),
            powers: false,
            series: series.collect(),
        }
    }

    fn plot(&self) -> Plot {
        Plot {
            label: "Share found and gain by context".into(),
            x_label: "context, tokens",
            panels: vec![
                self.lines("gain, nats per token of the answer", |r| r.gain),
                self.lines("share of answers that are exact", |r| r.exact),
            ],
        }
    }

    /// The page.
    pub fn html(&self) -> String {
        let plot = self.plot();
        let mut body = format!(
            "<h1>{TITLE}</h1>\n<p class=\"lead\">{LEAD}</p>\n{}<figure>\n{}</figure>\n",
            key(&self.names()),
            plot.svg()
        );
        for lines in &plot.panels {
            let _ = write!(
                body,
                "<h3>{}</h3>\n{}",
                escape(&lines.label),
                table(lines, "context")
            );
        }
        let _ = write!(
            body,
            "<h2>By depth</h2>\n{TABLE}<th>model</th><th>context</th><th>depth</th><th>exact</th><th>nats per token</th>\
             <th>gain</th>{HEAD_END}"
        );
        for r in &self.rows {
            let _ = writeln!(
                body,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{} %</td><td>{}</td><td>{}</td></tr>",
                escape(&r.model),
                tokens(r.context),
                fixed(r.depth, 2),
                fixed(100.0 * r.exact, 0),
                fixed(r.nats_per_token, 3),
                signed(r.gain, 3)
            );
        }
        body.push_str(TABLE_END);
        page(TITLE, &body)
    }

    /// Writes all forms to a folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(|e| Error::File {
            path: folder.to_path_buf(),
            message: format!("cannot be made: {e}; choose a folder you can write to with --out"),
        })?;
        let json = serde_json::to_string_pretty(self).expect("plain data");
        files::write(&folder.join("needle.json"), &[json.as_bytes(), b"\n"])?;
        files::write(&folder.join("needle.html"), &[self.html().as_bytes()])?;
        files::write(&folder.join("needle.png"), &[&self.plot().picture()])
    }
}

const TITLE: &str = "Found again";
const LEAD: &str = "Something is hidden in a held-out text and asked for at its end. The gain is how much the loss of the answer \
    falls because it was hidden there: zero for a model that has forgotten it. Attention that still sees it copies it; a memory \
    that compresses keeps what it learned from it.";
