//! The page and the pictures of a comparison.

use std::fmt::Write;
use std::path::Path;

use model::{Error, Result, files};

use super::result::Comparison;
use crate::report::lines::{Lines, Plot, key, table};
use crate::report::page::page;
use crate::report::text::{count, escape, tokens};

impl Comparison {
    /// The two panels of the method's figure.
    fn panels(&self) -> [Plot; 2] {
        let loss = Plot {
            label: "Loss minus that of the reference by context length".into(),
            x_label: "context length, tokens",
            panels: vec![self.difference_lines()],
        };
        let latency = Plot {
            label: "Latency by context length".into(),
            x_label: "context length, tokens",
            panels: self.latency_lines().into(),
        };
        [loss, latency]
    }

    /// The page.
    pub fn html(&self, settings: &str) -> String {
        let names: Vec<String> = self.models.iter().map(|m| m.name.clone()).collect();
        let key = key(&names);
        let mut body = format!("<h1>{TITLE}</h1>\n");
        for finding in self.findings() {
            let _ = writeln!(body, "<p class=\"lead\">{}</p>", escape(&finding));
        }
        let seeds = self.models.iter().map(|m| m.runs.len()).max().unwrap_or(0);
        let _ = write!(body, "<p class=\"note\">{}", self.about(seeds));
        body.push_str("<span class=\"pointer\"> Point at a plot to read values.</span></p>\n");
        let [loss, latency] = self.panels();
        let figure = |plot: &Plot| format!("{key}<figure>\n{}</figure>\n", plot.svg());
        let _ = write!(
            body,
            "<h2>Loss against context length</h2>\n{}",
            figure(&loss)
        );
        body.push_str(&table(&loss.panels[0], "context"));
        if !self.latency.is_empty() {
            let _ = write!(
                body,
                "<h2>Latency against context length</h2>\n{}",
                figure(&latency)
            );
            for lines in &latency.panels {
                let _ = write!(
                    body,
                    "<h3>{}</h3>\n{}",
                    escape(&lines.label),
                    table(lines, "context")
                );
            }
        }
        let alone = |label: &str, x_label: &'static str, lines: Lines| {
            let heading = format!("<h2>{label}</h2>\n");
            let numbers = table(&lines, "tokens");
            let plot = Plot {
                label: label.to_string(),
                x_label,
                panels: vec![lines],
            };
            heading + &figure(&plot) + &numbers
        };
        body.push_str(&alone("Loss", "context length, tokens", self.loss_lines()));
        let position = "position in the longest sequences, tokens";
        body.push_str(&alone("Loss by position", position, self.position_lines()));
        if !settings.is_empty() {
            let _ = write!(body, "<h2>Settings</h2>\n<pre>{}</pre>\n", escape(settings));
        }
        page(TITLE, &body)
    }

    /// What the reader has to know.
    fn about(&self, seeds: usize) -> String {
        let sizes: Vec<String> = (self.models.iter())
            .map(|m| format!("{} {}", escape(&m.name), count(m.parameters as u64)))
            .collect();
        let mut text = format!(
            "Parameters: {}. A context length is the length of the sequences that held-out books are cut into, each read from \
             nothing; the loss is the mean over all their tokens, the same tokens at every length.",
            sizes.join(", ")
        );
        if seeds > 1 {
            let _ = write!(
                text,
                " Dots are means over {seeds} seeds, bars one standard deviation to each side; a difference is taken seed by seed, \
                 between models trained on the same tokens in the same order."
            );
        }
        if let Some(length) = self.trained_length {
            let _ = write!(
                text,
                " The longest sequences of training had {} tokens: beyond that, attention sees distances it was never trained on.",
                tokens(length)
            );
        }
        text
    }

    /// Writes results.json, losses.csv, report.html, loss.png and latency.png.
    pub fn write(&self, folder: &Path, settings: &str) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(|e| Error::File {
            path: folder.to_path_buf(),
            message: format!("cannot be made: {e}; choose a folder you can write to with --run"),
        })?;
        let json = serde_json::to_string_pretty(self).expect("plain data");
        files::write(&folder.join("results.json"), &[json.as_bytes(), b"\n"])?;
        files::write(&folder.join("losses.csv"), &[self.csv().as_bytes()])?;
        files::write(
            &folder.join("report.html"),
            &[self.html(settings).as_bytes()],
        )?;
        let [loss, latency] = self.panels();
        files::write(&folder.join("loss.png"), &[&loss.picture()])?;
        match self.latency.is_empty() {
            true => Ok(()),
            false => files::write(&folder.join("latency.png"), &[&latency.picture()]),
        }
    }
}

const TITLE: &str = "TTT-E2E and attention side by side";
