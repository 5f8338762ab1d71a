//! The page of a report.

use std::fmt::Write;

use super::page::{NARROW, WIDE, page};
use super::series::{self, Point};
use super::svg::{Chart, Hover, Mark, Panel, Scale, labelled, whole_ticks};
use super::text::{
    count, duration, escape, fixed, plural, scientific, signed, superscript, thousands,
};
use super::{Curve, HeldOut, Report, Row, TrainingPoint};

const KEY: &str = r#"<p class="key"><span><svg viewBox="0 0 32 12" aria-hidden="true"><line class="line on" x1="0" x2="32" y1="6" y2="6"/><circle class="dot on" cx="16" cy="6" r="3"/></svg>test-time training on</span> <span><svg viewBox="0 0 32 12" aria-hidden="true"><line class="line off" x1="0" x2="32" y1="6" y2="6"/><circle class="dot off" cx="16" cy="6" r="3"/></svg>off</span></p>
"#;

/// The whole page.
pub fn training_page(report: &Report) -> String {
    let title = escape(&report.title);
    let training = Training::new(&report.training);
    let parts = [
        format!("<h1>{title}</h1>\n"),
        summary(report, &training),
        training.section(),
        heldout(&report.heldout),
        samples(report),
        settings(report),
    ];
    page(&title, &parts.concat())
}

fn summary(report: &Report, training: &Training) -> String {
    let mut out = format!(
        r#"<p class="lead">The model has <b>{}</b> parameters."#,
        count(report.parameters as u64)
    );
    if let Some(last) = training.records.last() {
        let (steps, tokens) = (thousands(last.step), count(report.tokens));
        let _ = write!(
            out,
            " It was trained up to step <b>{steps}</b>, on <b>{tokens}</b> tokens"
        );
        if report.seconds.is_finite() && report.seconds >= 0.0 {
            let _ = write!(out, ", in <b>{}</b>", duration(report.seconds));
        }
        if let Some(speed) = training.speed() {
            let _ = write!(
                out,
                " ({} tokens per second)",
                thousands(speed.round() as u64)
            );
        }
        out.push('.');
        out.push_str(&training.outcome());
    } else {
        out.push_str(" No training was recorded.");
    }
    match &report.heldout[..] {
        [] => {}
        [book] => out.push_str(&one_book(book)),
        books if books.len() <= 4 => out.push_str(&few_books(books)),
        books => out.push_str(&many_books(books)),
    }
    out.push_str("</p>\n");
    let lost = training.records.len() - training.losses.len();
    if lost > 0 {
        let diverged = training.records.last().is_some_and(|p| !p.loss.is_finite());
        let end = if diverged {
            ", the last one among them: the training diverged"
        } else {
            ""
        };
        let records = plural(lost, "record");
        let _ = writeln!(
            out,
            r#"<p class="warn">The loss is not a finite number in {records}{end}. The curve and the means leave that out.</p>"#
        );
    }
    out
}

fn one_book(book: &HeldOut) -> String {
    let name = escape(&book.book);
    let off = fixed(book.off.bits_per_byte, 3);
    let Some(on) = &book.on else {
        return format!(" On the held-out book <i>{name}</i> it needs <b>{off}</b> bits per byte.");
    };
    let on = fixed(on.bits_per_byte, 3);
    let mut out = format!(
        " On the held-out book <i>{name}</i> it needs <b>{on}</b> bits per byte with test-time training on and <b>{off}</b> with it off"
    );
    let rows = book.rows();
    match rows.last().map(Row::gain).filter(|gain| gain.is_finite()) {
        Some(gain) => {
            let did = if gain < 0.0 { "raised" } else { "lowered" };
            let (last, gain) = (last_name(rows.len()), fixed(gain.abs(), 3));
            let _ = write!(
                out,
                "; by the {last} of the sequence, learning while reading {did} the loss by <b>{gain}</b> nats per token."
            );
        }
        None => out.push('.'),
    }
    out
}

fn few_books(books: &[HeldOut]) -> String {
    let learning = books.iter().any(|book| book.on.is_some());
    let (mut bits, mut gains) = (Vec::new(), Vec::new());
    for book in books {
        let (name, off) = (escape(&book.book), fixed(book.off.bits_per_byte, 3));
        match &book.on {
            Some(on) => {
                let on = fixed(on.bits_per_byte, 3);
                bits.push(format!("<b>{on}</b> and <b>{off}</b> (<i>{name}</i>)"));
            }
            None => bits.push(format!("<b>{off}</b> (<i>{name}</i>)")),
        }
        let rows = book.rows();
        if let Some(gain) = rows.last().map(Row::gain).filter(|gain| gain.is_finite()) {
            let change = signed(-gain, 3);
            gains.push((
                format!("<b>{change}</b> (<i>{name}</i>)"),
                last_name(rows.len()),
            ));
        }
    }
    let how = if learning {
        ", with test-time training on and off"
    } else {
        ""
    };
    let bits = bits.join(", ");
    let mut out = format!(" On held-out books it needs{how}, in bits per byte: {bits}.");
    if let Some((_, last)) = gains.first() {
        let last = *last;
        let gains = gains
            .iter()
            .map(|gain| gain.0.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        let _ = write!(
            out,
            " By the {last} of the sequence, learning while reading changed the loss in nats per token by {gains}."
        );
    }
    out
}

/// Means over many books.
fn many_books(books: &[HeldOut]) -> String {
    let bits = |curve: &Curve| curve.bits_per_byte;
    let learning = books.iter().filter(|book| book.on.is_some());
    let on: Vec<f64> = learning
        .clone()
        .flat_map(|book| &book.on)
        .map(bits)
        .collect();
    let all: Vec<f64> = books.iter().map(|book| bits(&book.off)).collect();
    let off: Vec<f64> = learning.clone().map(|book| bits(&book.off)).collect();
    if on.is_empty() {
        let (n, off) = (plural(all.len(), "held-out book"), fixed(mean(&all), 3));
        return format!(" On {n} it needs <b>{off}</b> bits per byte on average.");
    }
    let rows: Vec<Vec<Row>> = learning.map(HeldOut::rows).collect();
    let gains = rows.iter().filter_map(|rows| rows.last()).map(Row::gain);
    let gains: Vec<f64> = gains.filter(|gain| gain.is_finite()).collect();
    let mut out = format!(
        " On {} it needs <b>{}</b> bits per byte on average with test-time training on and <b>{}</b> with it off",
        plural(on.len(), "held-out book"),
        fixed(mean(&on), 3),
        fixed(mean(&off), 3),
    );
    let low = gains.iter().copied().reduce(f64::min);
    let high = gains.iter().copied().reduce(f64::max);
    if let (Some(low), Some(high)) = (low, high) {
        let last = rows
            .first()
            .map_or("last part", |rows| last_name(rows.len()));
        let _ = write!(
            out,
            "; by the {last} of the sequence, learning while reading changed the loss by <b>{}</b> nats per token on average ({} to {}).",
            signed(-mean(&gains), 3),
            signed(-high, 3),
            signed(-low, 3),
        );
    } else {
        out.push('.');
    }
    out
}

/// What the last of `n` stretches of a sequence is called.
fn last_name(n: usize) -> &'static str {
    match n {
        4 => "last quarter",
        8 => "last eighth",
        16 => "last sixteenth",
        _ => "last part",
    }
}

/// NaN for no values.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The records of a training in the order of their steps.
struct Training<'a> {
    records: Vec<&'a TrainingPoint>,
    /// The finite ones of the losses.
    losses: Vec<Point>,
    smoothed: Vec<Point>,
    /// Losses above it leave the plot.
    ceiling: f64,
}

impl<'a> Training<'a> {
    fn new(points: &'a [TrainingPoint]) -> Self {
        let mut records: Vec<_> = points.iter().collect();
        records.sort_by_key(|p| p.step);
        let losses = records.iter().map(|p| (p.step as f64, p.loss));
        let losses: Vec<_> = losses.filter(|p| p.1.is_finite()).collect();
        let ceiling = series::ceiling(&losses);
        let smoothed = series::smooth(&losses, ceiling);
        Self {
            records,
            losses,
            smoothed,
            ceiling,
        }
    }

    /// The median of the recorded speeds.
    fn speed(&self) -> Option<f64> {
        let speeds = self.records.iter().map(|p| p.tokens_per_second);
        let mut speeds: Vec<f64> = speeds.filter(|v| v.is_finite() && *v > 0.0).collect();
        speeds.sort_by(f64::total_cmp);
        speeds.get(speeds.len() / 2).copied()
    }

    /// The loss at the start and at the end.
    fn outcome(&self) -> String {
        let (Some(first), Some(last)) = (self.losses.first(), self.smoothed.last()) else {
            return String::new();
        };
        let (start, end) = (fixed(first.1, 3), fixed(last.1, 3));
        if self.losses.len() == 1 {
            return format!(" The training loss was <b>{end}</b> nats per token.");
        }
        let over = match series::reach(self.losses.len()) {
            0 => String::new(),
            n => format!(" (mean over the last {})", plural(n + 1, "record")),
        };
        format!(" The training loss went from {start} to <b>{end}</b> nats per token{over}.")
    }

    fn section(&self) -> String {
        let mut out = "<h2>Training</h2>\n".to_string();
        if self.records.is_empty() {
            out.push_str("<p class=\"note\">No training was recorded.</p>\n");
            return out;
        }
        let wide = self.chart("wide", WIDE, 500, 120);
        let narrow = self.chart("narrow", NARROW, 200, 50);
        let _ = writeln!(out, "<figure>\n{}{}</figure>", wide.svg(), narrow.svg());
        let window = 2 * series::reach(self.losses.len()) + 1;
        out.push_str(r#"<p class="note">Top: loss on the training text"#);
        if window > 1 {
            let records = plural(window, "record");
            let _ = write!(out, ", thin as recorded, thick as the mean over {records}");
        }
        out.push_str(". Bottom: learning rate.");
        if self.losses.iter().any(|p| p.1 > self.ceiling) {
            out.push_str(
                " Rare spikes go beyond the top of the plot and count only up to it in the mean.",
            );
        }
        out.push_str("<span class=\"pointer\"> Point at the plot to read values.</span></p>\n");
        out
    }

    fn chart(&self, class: &'static str, width: f64, bins: usize, hovers: usize) -> Chart {
        let steps = self.records.iter().map(|p| p.step);
        let (first, last) = (steps.clone().min().unwrap_or(0), steps.max().unwrap_or(0));
        let raw = series::envelope(&self.losses, bins);
        let picks = series::spread(self.smoothed.len(), 2 * bins);
        let smoothed: Vec<_> = picks.into_iter().map(|i| self.smoothed[i]).collect();
        let heights = raw.iter().map(|p| p.1.min(self.ceiling));
        let y = Scale::covering(heights, 7);
        let mut marks = vec![Mark::Line("raw", raw), Mark::Line("on", smoothed)];
        if let [only] = self.losses[..] {
            marks = vec![Mark::Dots("on", vec![only])];
        }
        let loss = Panel {
            height: width.sqrt() * 9.5,
            y,
            label: "loss, nats per token".into(),
            marks,
        };
        Chart {
            label: "Training loss and learning rate by step".into(),
            class,
            width,
            x: (first as f64, last as f64),
            x_ticks: labelled(whole_ticks(first, last, (width / 100.0) as usize)),
            x_label: "training step",
            key: vec![],
            panels: vec![loss, self.learning_rate(bins)],
            hovers: self.hovers(hovers),
        }
    }

    fn learning_rate(&self, bins: usize) -> Panel {
        let rates = self
            .records
            .iter()
            .map(|p| (p.step as f64, p.learning_rate));
        let rates: Vec<Point> = rates.filter(|p| p.1.is_finite()).collect();
        let rates = series::envelope(&rates, bins / 2);
        let highest = rates.iter().map(|p| p.1.abs()).fold(0.0, f64::max);
        // Ticks are multiples of this power of ten.
        let power = if highest > 0.0 {
            highest.log10().floor().clamp(-300.0, 300.0)
        } else {
            0.0
        };
        let rates: Vec<Point> = rates
            .iter()
            .map(|p| (p.0, p.1 / 10f64.powf(power)))
            .collect();
        let label = match power as i32 {
            0 => "learning rate".to_string(),
            power => format!("learning rate, 10{}", superscript(&power.to_string())),
        };
        let y = Scale::covering(rates.iter().map(|p| p.1).chain([0.0]), 2);
        let mark = if rates.len() == 1 {
            Mark::Dots("on", rates)
        } else {
            Mark::Line("on", rates)
        };
        Panel {
            height: 62.0,
            y,
            label,
            marks: vec![mark],
        }
    }

    fn hovers(&self, count: usize) -> Vec<Hover> {
        let picks = series::spread(self.records.len(), count);
        let step = |i: usize| self.records[picks[i]].step as f64;
        let hover = |i: usize| {
            let record = self.records[picks[i]];
            let at = step(i);
            let left = if i > 0 { (step(i - 1) + at) / 2.0 } else { at };
            let right = if i + 1 < picks.len() {
                (at + step(i + 1)) / 2.0
            } else {
                at
            };
            let mut text = format!("step {}\n", thousands(record.step));
            let _ = writeln!(text, "loss {}", fixed(record.loss, 3));
            let near = self.smoothed.partition_point(|p| p.0 < at);
            if let Some(mean) = self.smoothed.get(near).filter(|p| p.0 == at) {
                let _ = writeln!(text, "mean {}", fixed(mean.1, 3));
            }
            let _ = write!(text, "learning rate {}", scientific(record.learning_rate));
            Hover {
                range: (left, right),
                at,
                text,
            }
        };
        (0..picks.len()).map(hover).collect()
    }
}

fn heldout(books: &[HeldOut]) -> String {
    let mut out = "<h2>Held-out books</h2>\n".to_string();
    if books.is_empty() {
        out.push_str("<p class=\"note\">No book was held out.</p>\n");
        return out;
    }
    out.push_str("<p>Loss on books the model was not trained on. ");
    let learning = books.iter().any(|book| book.on.is_some());
    if learning {
        out.push_str(
            "<i>On</i>, the model goes on learning from every stretch of text it has read; <i>off</i>, the same model reads with its weights as they are after training. The gain is off minus on: above zero, learning while reading helps.</p>\n",
        );
    } else {
        out.push_str("This model does not learn while it reads.</p>\n");
    }
    out.push_str(&overview(books, learning));
    if books.iter().any(|book| !book.off.buckets.is_empty()) {
        out.push_str("<h3>By position in the sequence, nats per token</h3>\n");
        if learning {
            out.push_str(KEY);
        }
        out.push_str("<div class=\"books\">\n");
        let rows: Vec<Vec<Row>> = books.iter().map(HeldOut::rows).collect();
        let values = rows.iter().flatten().flat_map(|row| [row.off, row.on]);
        let y = Scale::covering(values, 4);
        let gain = Scale::covering(rows.iter().flatten().map(Row::gain).chain([0.0]), 2);
        for (book, rows) in books.iter().zip(&rows) {
            out.push_str(&book_panel(book, rows, y, gain));
        }
        out.push_str("</div>\n");
    }
    out
}

/// Means over whole books.
fn overview(books: &[HeldOut], learning: bool) -> String {
    let mut out = r#"<table class="overview"><thead><tr><th>Bits per byte</th>"#.to_string();
    out.push_str(if learning {
        "<th>on</th><th>off</th><th>gain</th>"
    } else {
        "<th>loss</th>"
    });
    out.push_str("</tr></thead><tbody>\n");
    for book in books {
        let off = book.off.bits_per_byte;
        let _ = write!(out, "<tr><td>{}</td>", escape(&book.book));
        if learning {
            let on = book.on.as_ref().map_or(f64::NAN, |on| on.bits_per_byte);
            let cells = (fixed(on, 4), fixed(off, 4), signed(off - on, 4));
            let _ = write!(
                out,
                "<td>{}</td><td>{}</td><td>{}</td>",
                cells.0, cells.1, cells.2
            );
        } else {
            let _ = write!(out, "<td>{}</td>", fixed(off, 4));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table>\n");
    out
}

fn book_panel(book: &HeldOut, rows: &[Row], y: Scale, gain: Scale) -> String {
    let name = escape(&book.book);
    let chart = book_chart(book, rows, y, gain).svg();
    let table = book_table(book, rows);
    format!(
        "<article class=\"book\">\n<h3>{name}</h3>\n<figure>\n{chart}</figure>\n{table}</article>\n"
    )
}

fn book_chart(book: &HeldOut, rows: &[Row], y: Scale, gain: Scale) -> Chart {
    let points = |value: fn(&Row) -> f64| rows.iter().map(|r| (r.middle(), value(r))).collect();
    let (off, on): (Vec<Point>, Vec<Point>) = (points(|r| r.off), points(|r| r.on));
    let mut marks = vec![Mark::Line("off", off.clone()), Mark::Dots("off", off)];
    let mut panels = Vec::new();
    if book.on.is_some() {
        marks.extend([Mark::Line("on", on.clone()), Mark::Dots("on", on)]);
        let bars = rows
            .iter()
            .map(|r| (r.from as f64, r.to as f64, r.gain()))
            .collect();
        let marks = vec![Mark::Bars("on", bars)];
        panels.push(Panel {
            height: 56.0,
            y: gain,
            label: "gain, nats per token".into(),
            marks,
        });
    }
    panels.insert(
        0,
        Panel {
            height: 170.0,
            y,
            label: "loss, nats per token".into(),
            marks,
        },
    );
    let first = rows.iter().map(|r| r.from).min().unwrap_or(0);
    let last = rows.iter().map(|r| r.to).max().unwrap_or(0);
    let mut x_ticks: Vec<u64> = rows
        .iter()
        .map(|r| r.from as u64)
        .chain([last as u64])
        .collect();
    x_ticks.sort_unstable();
    // Every boundary, or every second one, ...
    let every = (x_ticks.len() - 1).div_ceil(4).max(1);
    let x_ticks = x_ticks.into_iter().step_by(every).collect();
    let hover = |row: &Row| {
        let mut text = format!("tokens {}\n", span(row));
        if book.on.is_some() {
            let _ = writeln!(text, "on {}", fixed(row.on, 4));
        }
        let _ = write!(text, "off {}", fixed(row.off, 4));
        if book.on.is_some() {
            let _ = write!(text, "\ngain {}", signed(row.gain(), 4));
        }
        Hover {
            range: (row.from as f64, row.to as f64),
            at: row.middle(),
            text,
        }
    };
    Chart {
        label: format!("Loss by position in the sequence on {}", book.book),
        class: "small",
        width: NARROW,
        x: (first as f64, last as f64),
        x_ticks: labelled(x_ticks),
        x_label: "position in the sequence, tokens",
        key: vec![],
        panels,
        hovers: rows.iter().map(hover).collect(),
    }
}

fn book_table(book: &HeldOut, rows: &[Row]) -> String {
    let learning = book.on.is_some();
    let line = |class: &str, name: &str, on: f64, off: f64| {
        let mut out = format!("<tr{class}><td>{name}</td>");
        if learning {
            let (on, off, gain) = (fixed(on, 4), fixed(off, 4), signed(off - on, 4));
            let _ = write!(out, "<td>{on}</td><td>{off}</td><td>{gain}</td>");
        } else {
            let _ = write!(out, "<td>{}</td>", fixed(off, 4));
        }
        out + "</tr>\n"
    };
    let mut out = "<table><thead><tr><th>Tokens</th>".to_string();
    out.push_str(if learning {
        "<th>on</th><th>off</th><th>gain</th>"
    } else {
        "<th>loss</th>"
    });
    out.push_str("</tr></thead><tbody>\n");
    for row in rows {
        out.push_str(&line("", &span(row), row.on, row.off));
    }
    let on = book.on.as_ref().map_or(f64::NAN, |on| on.nats_per_token);
    out.push_str(&line(r#" class="all""#, "all", on, book.off.nats_per_token));
    out.push_str("</tbody></table>\n");
    out
}

/// The tokens of a stretch.
fn span(row: &Row) -> String {
    format!(
        "{}–{}",
        thousands(row.from as u64),
        thousands(row.to as u64)
    )
}

fn samples(report: &Report) -> String {
    if report.samples.is_empty() {
        return String::new();
    }
    let mut out = "<h2>Text the model wrote</h2>\n".to_string();
    out.push_str("<p class=\"note\">What the model was given is <span class=\"prompt\">set like this</span>; the rest is its own.</p>\n");
    for sample in &report.samples {
        let (prompt, text) = (escape(&sample.prompt), escape(&sample.text));
        let _ = writeln!(
            out,
            r#"<blockquote><p><span class="prompt">{prompt}</span>{text}</p></blockquote>"#
        );
    }
    out
}

fn settings(report: &Report) -> String {
    let mut out = String::new();
    if !report.settings.is_empty() {
        out.push_str("<h2>Settings</h2>\n<table class=\"settings\"><tbody>\n");
        for (name, value) in &report.settings {
            let (name, value) = (escape(name), escape(value));
            let _ = writeln!(out, "<tr><td>{name}</td><td>{value}</td></tr>");
        }
        out.push_str("</tbody></table>\n");
    }
    if !report.config_json.is_empty() {
        let config = escape(&report.config_json);
        let _ = write!(
            out,
            "<h2>Configuration of the model</h2>\n<pre>{config}</pre>\n"
        );
    }
    out
}
