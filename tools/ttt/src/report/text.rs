//! Numbers and text as a reader wants them.

/// Escapes text for HTML and XML, in elements as well as in attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            '\r' => {}
            // Not allowed in a page.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A number with fixed decimals; a dash if it is not finite.
pub fn fixed(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return "–".to_string();
    }
    if value.abs() >= 1e9 {
        return scientific(value);
    }
    let digits = format!("{:.decimals$}", value.abs());
    let zero = digits.chars().all(|c| c == '0' || c == '.');
    let sign = if value < 0.0 && !zero { "−" } else { "" };
    format!("{sign}{digits}")
}

/// A number with its sign.
pub fn signed(value: f64, decimals: usize) -> String {
    let text = fixed(value, decimals);
    let positive = text.starts_with(|c: char| c.is_ascii_digit()) && value > 0.0;
    if positive { format!("+{text}") } else { text }
}

/// A whole number with its digits in groups of three.
pub fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A large count in words: `31.2 million`.
pub fn count(value: u64) -> String {
    let v = value as f64;
    match value {
        0..1_000_000 => thousands(value),
        1_000_000..1_000_000_000 => format!("{:.1} million", v / 1e6),
        _ => format!("{:.2} billion", v / 1e9),
    }
}

/// A number of tokens in powers of two where it is one: `512`, `8K`, `2M`.
pub fn tokens(value: usize) -> String {
    match value {
        _ if value >= 1 << 20 && value.is_multiple_of(1 << 20) => format!("{}M", value >> 20),
        _ if value >= 1 << 10 && value.is_multiple_of(1 << 10) => format!("{}K", value >> 10),
        _ => thousands(value as u64),
    }
}

/// An amount of bytes: `31.2 MB`.
pub fn bytes(value: u64) -> String {
    model::memory::Bytes(value).to_string()
}

/// A number with three digits that count: `0.0123`, `1.23`, `123`.
pub fn short(value: f64) -> String {
    match value.abs() {
        1e-3..1e5 => {
            let digits = (2.0 - (value.abs().log10() + 1e-9).floor()).max(0.0);
            let text = fixed(value, digits as usize);
            match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
                false => text,
            }
        }
        _ => scientific(value),
    }
}

/// A number in powers of ten: `3.0×10⁻⁴`.
pub fn scientific(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_string();
    }
    if value == 0.0 {
        return "0".to_string();
    }
    let text = format!("{value:.1e}").replace('-', "−");
    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
    format!("{digits}×10{}", superscript(power))
}

/// A whole number in superscript digits.
pub fn superscript(text: &str) -> String {
    let raise = |c: char| match c.to_digit(10) {
        Some(digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(digit as usize).unwrap_or(c),
        None => '⁻',
    };
    text.chars().map(raise).collect()
}

/// A duration: `2 h 14 min`; a dash if it is not a duration.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "–".to_string();
    }
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    let s = seconds.round() as u64;
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{} h {m} min", thousands(h)),
    }
}

/// `1 record`, `2 records`.
pub fn plural(n: usize, noun: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{} {noun}{s}", thousands(n as u64))
}
