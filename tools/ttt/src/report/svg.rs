//! Small line charts as inline SVG. Colours come from the page's style sheet.

use std::fmt::Write;

use super::series::Point;
use super::text::{escape, fixed, scientific, short, thousands};

const LEFT: f64 = 46.0;
const RIGHT: f64 = 16.0;
/// Room above a panel, for its label.
const ABOVE: f64 = 27.0;
/// Room between two panels.
const BETWEEN: f64 = 14.0;
/// Room below the last panel, for the labels of the x axis.
const BELOW: f64 = 38.0;
/// Width of a digit of a label.
const DIGIT: f64 = 6.4;

/// Panels over a common x axis.
pub struct Chart {
    /// What the chart shows, for those who do not see it.
    pub label: String,
    /// Class of the element.
    pub class: &'static str,
    /// Width in pixels at full size.
    pub width: f64,
    /// First and last value of the x axis.
    pub x: (f64, f64),
    /// Marks of the x axis: where, and what they are called.
    pub x_ticks: Vec<(f64, String)>,
    /// Label of the x axis.
    pub x_label: &'static str,
    /// Classes and names of lines, listed above the first panel.
    pub key: Vec<(&'static str, String)>,
    /// From top to bottom.
    pub panels: Vec<Panel>,
    /// Texts that appear under the pointer.
    pub hovers: Vec<Hover>,
}

/// One plot of a chart.
pub struct Panel {
    /// Height of the plot in pixels at full size.
    pub height: f64,
    /// The y axis.
    pub y: Scale,
    /// Label of the y axis.
    pub label: String,
    /// What is drawn, from back to front.
    pub marks: Vec<Mark>,
}

/// Something drawn, with its class. What is not finite is left out.
pub enum Mark {
    /// A line through points.
    Line(&'static str, Vec<Point>),
    /// A dot at each point.
    Dots(&'static str, Vec<Point>),
    /// Bars from zero: left, right, value.
    Bars(&'static str, Vec<(f64, f64, f64)>),
    /// Upright lines from a low to a high value: place, low, high.
    Spans(&'static str, Vec<(f64, f64, f64)>),
}

/// A column of a chart with its text.
pub struct Hover {
    /// Left and right end of the column.
    pub range: (f64, f64),
    /// Where the text belongs.
    pub at: f64,
    /// The text.
    pub text: String,
}

/// A y axis that begins and ends on ticks.
#[derive(Clone, Copy)]
pub struct Scale {
    low: f64,
    step: f64,
    steps: usize,
    /// All of the above are logarithms to base ten.
    logarithmic: bool,
}

impl Scale {
    /// The axis that takes in all finite values, with about `steps` steps.
    pub fn covering(values: impl IntoIterator<Item = f64>, steps: usize) -> Self {
        let values = values.into_iter().filter(|v| v.is_finite());
        let bounds = values.map(|v| v.clamp(-1e12, 1e12)).fold(None, |b, v| {
            let (low, high) = b.unwrap_or((v, v));
            Some((v.min(low), v.max(high)))
        });
        let (low, high) = bounds.unwrap_or((0.0, 1.0));
        // Not so fine that the axis shows noise only, or that its labels need more room.
        let finest = (2e-3 * low.abs().max(high.abs())).max(1e-3);
        let step = nice(((high - low) / steps as f64).max(finest));
        let first = (low / step + 1e-6).floor();
        let last = (high / step - 1e-6).ceil().max(first + 1.0);
        Self {
            low: first * step,
            step,
            steps: (last - first) as usize,
            logarithmic: false,
        }
    }

    /// The axis in powers of ten that takes in all positive values.
    pub fn powers(values: impl IntoIterator<Item = f64>) -> Self {
        let values = values.into_iter().filter(|v| *v > 0.0 && v.is_finite());
        let bounds = values.map(f64::log10).fold(None, |b, v| {
            let (low, high) = b.unwrap_or((v, v));
            Some((v.min(low), v.max(high)))
        });
        let (low, high) = bounds.unwrap_or((0.0, 1.0));
        let first = (low + 1e-6).floor();
        let last = (high - 1e-6).ceil().max(first + 1.0);
        Self {
            low: first,
            step: 1.0,
            steps: (last - first) as usize,
            logarithmic: true,
        }
    }

    /// Where a value lies between the ends of the axis, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let value = if self.logarithmic {
            value.log10()
        } else {
            value
        };
        (value.clamp(self.low, self.high()) - self.low) / (self.high() - self.low)
    }

    fn label(&self, tick: f64) -> String {
        match tick.abs() {
            _ if self.logarithmic => short(10f64.powf(tick)),
            0.0..1e5 => fixed(tick, self.decimals()),
            _ => scientific(tick),
        }
    }

    fn high(&self) -> f64 {
        self.low + self.step * self.steps as f64
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        (0..=self.steps).map(|i| self.low + self.step * i as f64)
    }

    fn decimals(&self) -> usize {
        (-(self.step.log10() + 1e-6).floor()).clamp(0.0, 3.0) as usize
    }
}

/// The smallest of 1, 2, 5 times a power of ten that is not below `step`.
fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let near = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|f| f * power >= step * (1.0 - 1e-6));
    near.unwrap_or(10.0) * power
}

/// Round whole numbers from `from` to `to`, about `count` of them.
pub fn whole_ticks(from: u64, to: u64, count: usize) -> Vec<u64> {
    let step = nice((to.saturating_sub(from) as f64 / count as f64).max(1.0)) as u64;
    let mut tick = from.div_ceil(step).saturating_mul(step);
    let mut ticks = Vec::new();
    while tick <= to && ticks.len() <= 2 * count {
        ticks.push(tick);
        tick = tick.saturating_add(step);
    }
    ticks
}

/// Marks with all their digits.
pub fn labelled(ticks: Vec<u64>) -> Vec<(f64, String)> {
    let label = |tick: u64| (tick as f64, thousands(tick));
    ticks.into_iter().map(label).collect()
}

impl Chart {
    /// The chart as an `<svg>` element.
    pub fn svg(&self) -> String {
        let panels: f64 = self.panels.iter().map(|p| p.height + ABOVE + BETWEEN).sum();
        let places = self.key_places();
        let above = places.last().map_or(0.0, |p| p.1 + 10.0);
        let height = above + panels - BETWEEN + BELOW;
        let (class, label) = (self.class, escape(&self.label));
        let mut out = format!(
            r#"<svg class="chart {class}" viewBox="0 0 {} {}" role="img" aria-label="{label}">"#,
            px(self.width),
            px(height),
        );
        for ((class, name), (x, y)) in self.key.iter().zip(places) {
            let (from, to, middle, at) = (px(x), px(x + 26.0), px(x + 13.0), px(y - 4.0));
            let _ = write!(
                out,
                r#"<line class="line {class}" x1="{from}" x2="{to}" y1="{at}" y2="{at}"/><circle class="dot {class}" cx="{middle}" cy="{at}" r="3"/>"#
            );
            text(&mut out, "name", x + 32.0, y, name);
        }
        let mut top = above;
        for panel in &self.panels {
            top += ABOVE;
            self.panel(&mut out, panel, top);
            top += panel.height + BETWEEN;
        }
        top -= BETWEEN;
        self.x_axis(&mut out, top);
        for hover in &self.hovers {
            self.hover(&mut out, hover, top);
        }
        out.push_str("</svg>\n");
        out
    }

    /// Where the entries of the key begin, row after row.
    fn key_places(&self) -> Vec<(f64, f64)> {
        let (mut x, mut y) = (0.0, 16.0);
        let mut places = vec![];
        for (_, name) in &self.key {
            let width = 32.0 + DIGIT * name.chars().count() as f64;
            if x > 0.0 && x + width > self.width {
                (x, y) = (0.0, y + 18.0);
            }
            places.push((x, y));
            x += width + 18.0;
        }
        places
    }

    fn x(&self, value: f64) -> f64 {
        let (from, to) = self.x;
        let share = if to > from {
            (value - from) / (to - from)
        } else {
            0.5
        };
        LEFT + share.clamp(0.0, 1.0) * (self.width - LEFT - RIGHT)
    }

    fn panel(&self, out: &mut String, panel: &Panel, top: f64) {
        let scale = &panel.y;
        let y = |value: f64| top + panel.height * (1.0 - scale.share(value));
        let (left, right) = (px(LEFT), px(self.width - RIGHT));
        text(out, "name", 0.0, top - 13.0, &panel.label);
        for tick in scale.ticks() {
            let share = (tick - scale.low) / (scale.high() - scale.low);
            let height = top + panel.height * (1.0 - share);
            let at = px(height);
            let zero = !scale.logarithmic && scale.low < 0.0 && tick.abs() < scale.step / 2.0;
            let class = if zero { "axis" } else { "grid" };
            let _ = write!(
                out,
                r#"<line class="{class}" x1="{left}" x2="{right}" y1="{at}" y2="{at}"/>"#
            );
            text(out, "tick y", LEFT - 6.0, height + 3.5, &scale.label(tick));
        }
        let place = |p: &Point| (self.x(p.0), y(p.1));
        let finite = |p: &&Point| p.0.is_finite() && p.1.is_finite();
        for mark in &panel.marks {
            match mark {
                Mark::Line(class, points) => {
                    let _ = write!(out, r#"<polyline class="line {class}" points=""#);
                    for (i, (x, y)) in points.iter().filter(finite).map(place).enumerate() {
                        let gap = if i == 0 { "" } else { " " };
                        let _ = write!(out, "{gap}{},{}", px(x), px(y));
                    }
                    out.push_str(r#""/>"#);
                }
                Mark::Dots(class, points) => {
                    for (x, y) in points.iter().filter(finite).map(place) {
                        let (x, y) = (px(x), px(y));
                        let _ = write!(
                            out,
                            r#"<circle class="dot {class}" cx="{x}" cy="{y}" r="3"/>"#
                        );
                    }
                }
                Mark::Spans(class, spans) => {
                    let whole = |s: &&(f64, f64, f64)| s.1.is_finite() && s.2.is_finite();
                    for &(at, from, to) in spans.iter().filter(whole) {
                        let (x, y1, y2) = (px(self.x(at)), px(y(from)), px(y(to)));
                        let _ = write!(
                            out,
                            r#"<line class="span {class}" x1="{x}" x2="{x}" y1="{y1}" y2="{y2}"/>"#
                        );
                    }
                }
                Mark::Bars(class, bars) => {
                    for &(from, to, value) in bars.iter().filter(|bar| bar.2.is_finite()) {
                        let (x0, x1) = (self.x(from) + 1.5, self.x(to) - 1.5);
                        let (y0, y1) = (y(value).min(y(0.0)), y(value).max(y(0.0)));
                        let (width, height) = (px((x1 - x0).max(0.5)), px(y1 - y0));
                        let (x, y) = (px(x0), px(y0));
                        let _ = write!(
                            out,
                            r#"<rect class="bar {class}" x="{x}" y="{y}" width="{width}" height="{height}"/>"#
                        );
                    }
                }
            }
        }
    }

    fn x_axis(&self, out: &mut String, bottom: f64) {
        for (tick, label) in &self.x_ticks {
            let half = DIGIT * label.len() as f64 / 2.0;
            let x = self.x(*tick);
            let (at, from, to) = (px(x), px(bottom), px(bottom + 4.0));
            let _ = write!(
                out,
                r#"<line class="axis" x1="{at}" x2="{at}" y1="{from}" y2="{to}"/>"#
            );
            // A label at the right end stays inside.
            text(
                out,
                "tick x",
                x.min(self.width - half),
                bottom + 16.0,
                label,
            );
        }
        text(
            out,
            "name x",
            (LEFT + self.width - RIGHT) / 2.0,
            bottom + 33.0,
            self.x_label,
        );
    }

    fn hover(&self, out: &mut String, hover: &Hover, bottom: f64) {
        let (left, right) = (self.x(hover.range.0), self.x(hover.range.1));
        let (x, width, at) = (px(left), px(right - left), px(self.x(hover.at)));
        let (top, height, bottom) = (px(ABOVE), px(bottom - ABOVE), px(bottom));
        let title = escape(&hover.text);
        let _ = write!(
            out,
            r#"<g class="hover"><title>{title}</title><rect x="{x}" y="{top}" width="{width}" height="{height}"/><line x1="{at}" x2="{at}" y1="{top}" y2="{bottom}"/></g>"#
        );
    }
}

fn text(out: &mut String, class: &str, x: f64, y: f64, text: &str) {
    let (x, y, text) = (px(x), px(y), escape(text));
    let _ = write!(
        out,
        r#"<text class="{class}" x="{x}" y="{y}">{text}</text>"#
    );
}

/// A coordinate.
fn px(value: f64) -> String {
    let value = if value.is_finite() { value } else { 0.0 };
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_string)
}
