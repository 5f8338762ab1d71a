//! What the program says, and where.

use std::io::{ErrorKind, Write};

use indicatif::{ProgressBar, ProgressStyle};
use model::{Error, Result};

/// Writes `text` to standard output at once. Ends the program quietly where nobody reads any more (`ttt eval | head`).
pub fn write_out(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.or_else(|e| match e.kind() {
        ErrorKind::BrokenPipe => std::process::exit(0),
        _ => Err(Error::File {
            path: "standard output".into(),
            message: format!("cannot be written: {e}"),
        }),
    })
}

/// One JSON object and a line break.
pub fn write_json(value: &impl serde::Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(value).expect("results are plain data");
    write_out(&format!("{json}\n"))
}

/// A bar that counts tokens on standard error, if that is a terminal.
pub fn token_bar(tokens: u64) -> ProgressBar {
    let style = "{wide_bar} {human_pos}/{human_len} tokens  {msg}  {eta} left";
    let style = ProgressStyle::with_template(style).expect("a template that parses");
    ProgressBar::new(tokens).with_style(style)
}
