//! Words, strings and punctuation, each with its line.

use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Token<'t> {
    /// An opcode with its suffixes, a directive, a name or a number: `ld.global.f32`, `.reg`, `%tid.x`, `0f3F800000`.
    Word(&'t str),
    Text(&'t str),
    Mark(char),
    End,
}

pub(super) fn tokens(text: &str) -> Result<Vec<(Token<'_>, u32)>> {
    let mut tokens = vec![];
    let (mut rest, mut line) = (text, 1);
    while let Some(c) = rest.chars().next() {
        let length = if c.is_whitespace() {
            c.len_utf8()
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            let end = rest.find("*/").map(|end| end + 2);
            end.ok_or_else(|| Error::at(line, "a comment without end"))?
        } else if c == '"' {
            let end = rest[1..].find('"').map(|end| end + 2);
            let end = end.ok_or_else(|| Error::at(line, "a string without end"))?;
            tokens.push((Token::Text(&rest[1..end - 1]), line));
            end
        } else if is_word(c) {
            let length = word(rest);
            tokens.push((Token::Word(&rest[..length]), line));
            length
        } else if "{}[]()<>,;:|@!=+-*~&^".contains(c) {
            tokens.push((Token::Mark(c), line));
            1
        } else if c == '\0' {
            // texts handed over as C strings
            break;
        } else {
            return Err(Error::at(line, format!("unexpected character {c:?}")));
        };
        line += rest[..length].matches('\n').count() as u32;
        rest = &rest[length..];
    }
    tokens.push((Token::End, line));
    Ok(tokens)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_$%.".contains(c)
}

/// Length of a word; `::` belongs to it (`shared::cta`), a single `:` ends a label, and directives may be written
/// without a space between them (`.reg.b32`).
fn word(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let directive = bytes[0] == b'.';
    let mut at = 0;
    while at < bytes.len() {
        if directive && at > 0 && bytes[at] == b'.' {
            break;
        }
        if is_word(bytes[at] as char) {
            at += 1;
        } else if rest[at..].starts_with("::") {
            at += 2;
        } else {
            break;
        }
    }
    at
}
