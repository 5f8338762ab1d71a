//! Instructions and their operands.

use super::ast::{Immediate, Instruction, Operand};
use super::lexer::Token;
use super::parser::Parser;
use crate::error::Result;
use crate::types::Space;

/// Operands within operands.
const DEEPEST: u32 = 16;

impl Parser<'_> {
    pub(super) fn instruction(&mut self) -> Result<Instruction> {
        let guard = if self.accept('@') {
            let negated = self.accept('!');
            Some((self.word("a predicate")?.to_string(), negated))
        } else {
            None
        };
        let line = self.line();
        let mut opcode = self.word("an opcode")?.to_string();
        // inline assembly is sometimes written `cp.async.cg.shared.global. L2::128B`
        while opcode.ends_with('.') {
            opcode.push_str(self.word("a suffix")?);
        }
        let mut operands = vec![];
        while self.peek() != Token::Mark(';') {
            operands.push(self.operand()?);
            if !self.accept(',') {
                break;
            }
        }
        self.expect(';')?;
        Ok(Instruction {
            guard,
            opcode,
            operands,
            line,
            source: self.source,
        })
    }

    pub(super) fn operand(&mut self) -> Result<Operand> {
        if self.depth == DEEPEST {
            return self.error("an operand less deep");
        }
        self.depth += 1;
        let operand = self.operand_inside();
        self.depth -= 1;
        operand
    }

    fn operand_inside(&mut self) -> Result<Operand> {
        let operand = match self.peek() {
            Token::Mark('!') => {
                self.at += 1;
                Operand::Not(self.word("a predicate")?.to_string())
            }
            Token::Mark('{') => Operand::List(self.list('{', '}')?),
            Token::Mark('(') => Operand::List(self.list('(', ')')?),
            Token::Mark('[') => self.address()?,
            Token::Mark('-') => {
                self.at += 1;
                match self.operand()? {
                    Operand::Immediate(Immediate::Integer(value)) => {
                        Operand::Immediate(Immediate::Integer(value.wrapping_neg()))
                    }
                    _ => return self.error("a number after `-`"),
                }
            }
            Token::Word(word) => {
                self.at += 1;
                if word.starts_with(|c: char| c.is_ascii_digit()) {
                    match immediate(word) {
                        Some(value) => Operand::Immediate(value),
                        None => {
                            self.at -= 1;
                            return self.error("a number");
                        }
                    }
                } else {
                    let mut offset = 0;
                    if matches!(self.peek(), Token::Mark('+' | '-')) {
                        self.accept('+');
                        offset = self.number()? as i64;
                    }
                    Operand::Name(word.to_string(), offset)
                }
            }
            _ => return self.error("an operand"),
        };
        if self.accept('|') {
            let second = self.operand()?;
            return Ok(Operand::Pair(Box::new(operand), Box::new(second)));
        }
        Ok(operand)
    }

    fn list(&mut self, open: char, close: char) -> Result<Vec<Operand>> {
        self.expect(open)?;
        let mut items = vec![];
        while !self.accept(close) {
            items.push(self.operand()?);
            if !self.accept(',') {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }

    fn address(&mut self) -> Result<Operand> {
        self.expect('[')?;
        let (base, offset) = match self.operand()? {
            Operand::Name(name, offset) => (Operand::Name(name, 0), offset),
            base @ Operand::Immediate(_) => (base, 0),
            _ => return self.error("a register, symbol or number as address"),
        };
        let mut more = vec![];
        while self.accept(',') {
            more.push(self.operand()?);
        }
        self.expect(']')?;
        Ok(Operand::Address {
            base: Box::new(base),
            offset,
            more,
        })
    }
}

pub(super) fn space(word: &str) -> Option<Space> {
    Some(match word {
        ".global" | ".const" => Space::Global,
        ".shared" => Space::Shared,
        ".local" => Space::Local,
        ".param" => Space::Param,
        _ => return None,
    })
}

pub(super) fn immediate(word: &str) -> Option<Immediate> {
    let lower = word.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0f").filter(|hex| hex.len() == 8) {
        return Some(Immediate::F32(u32::from_str_radix(hex, 16).ok()?));
    }
    if let Some(hex) = lower.strip_prefix("0d").filter(|hex| hex.len() == 16) {
        return Some(Immediate::F64(u64::from_str_radix(hex, 16).ok()?));
    }
    let digits = lower.strip_suffix('u').unwrap_or(&lower);
    let value = if let Some(hex) = digits.strip_prefix("0x") {
        u64::from_str_radix(hex, 16).ok()?
    } else if let Some(binary) = digits.strip_prefix("0b") {
        u64::from_str_radix(binary, 2).ok()?
    } else if digits.len() > 1 && digits.starts_with('0') {
        u64::from_str_radix(digits, 8).ok()?
    } else if digits.contains('.') {
        return Some(Immediate::F64(digits.parse::<f64>().ok()?.to_bits()));
    } else {
        digits.parse().ok()?
    };
    Some(Immediate::Integer(value))
}
