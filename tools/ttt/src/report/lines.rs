//! Plots of several models over lengths that double: one line per model, in panels over a common axis.

use std::fmt::Write;

use super::page::{HEAD_END, NARROW, TABLE, TABLE_END, WIDE};
use super::png::png;
use super::svg::{Chart, Hover, Mark, Panel, Scale};
use super::text::{escape, fixed, short, tokens};

/// Classes of lines and filled dots, by number of the model, and those of dots that are not filled.
const CLASSES: [&str; 8] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"];
const OPEN: [&str; 8] = [
    "open s0", "open s1", "open s2", "open s3", "open s4", "open s5", "open s6", "open s7",
];

/// A plot.
pub struct Plot {
    /// What it shows, for those who do not see it.
    pub label: String,
    /// Label of the x axis.
    pub x_label: &'static str,
    /// From top to bottom.
    pub panels: Vec<Lines>,
}

/// One panel.
pub struct Lines {
    /// Label of the y axis.
    pub label: String,
    /// The y axis goes in powers of ten, and values are said with three digits; otherwise with four decimals.
    pub powers: bool,
    /// What is drawn.
    pub series: Vec<Series>,
}

/// The line of one model.
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its number among the models, which decides the colour.
    pub model: usize,
    /// Its values, x rising.
    pub values: Vec<Value>,
}

/// A value.
#[derive(Clone, Copy)]
pub struct Value {
    /// Length in tokens.
    pub x: usize,
    /// The value.
    pub y: f64,
    /// Half the length of its error bar; 0 for none.
    pub error: f64,
    /// False: it was worked out from others; its dot is not filled.
    pub measured: bool,
}

impl Plot {
    /// The plot for wide and for narrow pages; the page's style shows one of them.
    pub fn svg(&self) -> String {
        self.chart("wide", WIDE).svg() + &self.chart("narrow", NARROW).svg()
    }

    /// The plot alone, with its key.
    pub fn picture(&self) -> Vec<u8> {
        let mut chart = self.chart("wide", WIDE);
        for series in self.panels.iter().flat_map(|p| &p.series) {
            let entry = (CLASSES[series.model % CLASSES.len()], series.name.clone());
            if !chart.key.contains(&entry) {
                chart.key.push(entry);
            }
        }
        png(&chart.svg())
    }

    fn chart(&self, class: &'static str, width: f64) -> Chart {
        let mut lengths: Vec<usize> = (self.panels.iter().flat_map(|p| &p.series))
            .flat_map(|s| s.values.iter().map(|v| v.x))
            .collect();
        lengths.sort_unstable();
        lengths.dedup();
        let every = (lengths.len() as f64 * 44.0 / (width - 62.0))
            .ceil()
            .max(1.0);
        let ticks = lengths.iter().step_by(every as usize);
        let place = |x: usize| (x.max(1) as f64).log2();
        let ends = |x: Option<&usize>| x.map_or(0.0, |&x| place(x));
        Chart {
            label: self.label.clone(),
            class,
            width,
            x: (ends(lengths.first()), ends(lengths.last())),
            x_ticks: ticks.map(|&x| (place(x), tokens(x))).collect(),
            x_label: self.x_label,
            key: vec![],
            panels: self.panels.iter().map(|p| p.panel(width)).collect(),
            hovers: (0..lengths.len())
                .map(|i| self.hover(&lengths, i))
                .collect(),
        }
    }

    /// The values of all panels at one length.
    fn hover(&self, lengths: &[usize], i: usize) -> Hover {
        let place = |i: usize| (lengths[i].max(1) as f64).log2();
        let at = place(i);
        let left = if i > 0 { (place(i - 1) + at) / 2.0 } else { at };
        let right = match i + 1 < lengths.len() {
            true => (at + place(i + 1)) / 2.0,
            false => at,
        };
        let mut text = format!("{} tokens", tokens(lengths[i]));
        for panel in &self.panels {
            let _ = write!(text, "\n{}", panel.label);
            for series in &panel.series {
                let values = series.values.iter().filter(|v| v.x == lengths[i]);
                for v in values {
                    let _ = write!(text, "\n  {}: {}", series.name, v.text(panel.powers));
                }
            }
        }
        Hover {
            range: (left, right),
            at,
            text,
        }
    }
}

impl Value {
    /// A value without an error bar.
    pub fn new(x: usize, y: f64) -> Self {
        Value {
            x,
            y,
            error: 0.0,
            measured: true,
        }
    }

    /// As it is said.
    fn text(&self, powers: bool) -> String {
        let number = |x: f64| if powers { short(x) } else { fixed(x, 4) };
        let mut text = number(self.y);
        if self.error > 0.0 {
            let _ = write!(text, " ± {}", number(self.error));
        }
        if !self.measured {
            text.push_str(" (extrapolated)");
        }
        text
    }
}

impl Lines {
    fn panel(&self, width: f64) -> Panel {
        let all = || self.series.iter().flat_map(|s| &s.values);
        let ends = all().flat_map(|v| [v.y - v.error, v.y + v.error]);
        let y = match self.powers {
            true => Scale::powers(ends),
            false => Scale::covering(ends, 6),
        };
        let mut marks = vec![];
        for series in &self.series {
            let class = series.model % CLASSES.len();
            let place = |v: &Value| ((v.x.max(1) as f64).log2(), v.y);
            let spans = series.values.iter().filter(|v| v.error > 0.0);
            let span = |v: &Value| (place(v).0, v.y - v.error, v.y + v.error);
            marks.push(Mark::Spans(CLASSES[class], spans.map(span).collect()));
            let line = series.values.iter().map(place).collect();
            marks.push(Mark::Line(CLASSES[class], line));
            for (measured, classes) in [(true, CLASSES), (false, OPEN)] {
                let dots = series.values.iter().filter(|v| v.measured == measured);
                marks.push(Mark::Dots(classes[class], dots.map(place).collect()));
            }
        }
        Panel {
            height: width.sqrt() * 7.5,
            y,
            label: self.label.clone(),
            marks,
        }
    }
}

/// What belongs to which model.
pub fn key(names: &[String]) -> String {
    let mut out = "<p class=\"key\">".to_string();
    for (name, class) in names.iter().zip(CLASSES.iter().cycle()) {
        let name = escape(name);
        let _ = write!(
            out,
            r#"<span><svg viewBox="0 0 32 12" aria-hidden="true"><line class="line {class}" x1="0" x2="32" y1="6" y2="6"/><circle class="dot {class}" cx="16" cy="6" r="3"/></svg>{name}</span> "#
        );
    }
    out.push_str("</p>\n");
    out
}

/// A table of the plot's values: a row per length, a column per line.
pub fn table(lines: &Lines, x_label: &str) -> String {
    let mut lengths: Vec<usize> = (lines.series.iter())
        .flat_map(|s| s.values.iter().map(|v| v.x))
        .collect();
    lengths.sort_unstable();
    lengths.dedup();
    let mut out = format!("{TABLE}<th>{}</th>", escape(x_label));
    for series in &lines.series {
        let _ = write!(out, "<th>{}</th>", escape(&series.name));
    }
    out.push_str(HEAD_END);
    for x in lengths {
        let _ = write!(out, "<tr><td>{}</td>", tokens(x));
        for series in &lines.series {
            let value = series.values.iter().find(|v| v.x == x);
            let text = value.map_or("–".to_string(), |v| v.text(lines.powers));
            let _ = write!(out, "<td>{text}</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str(TABLE_END);
    out
}
