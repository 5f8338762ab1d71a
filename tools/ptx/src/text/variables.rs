//! Variables and parameters: their types, places and initial values.

use super::ast::{Immediate, Operand, Variable};
use super::lexer::Token;
use super::parser::Parser;
use crate::error::{Error, Result};
use crate::types::{Space, Type};

/// Bytes of a variable.
const LARGEST: u64 = 1 << 30;

impl Parser<'_> {
    /// After the state space: `.align 4 .b8 name[16] = {1, 2}, other;`
    pub(super) fn variables(&mut self, space: Space) -> Result<Vec<Variable>> {
        let mut variables = vec![];
        let (ty, align) = self.variable_type()?;
        loop {
            let mut variable = self.declarator(space, ty, align)?;
            if self.accept('=') {
                self.initializer(ty, &mut variable)?;
            }
            variables.push(variable);
            if !self.accept(',') {
                break;
            }
        }
        self.expect(';')?;
        Ok(variables)
    }

    /// Element bytes and alignment, with vectors (`.v4 .f32`) as larger elements and pointer attributes left out.
    fn variable_type(&mut self) -> Result<(u64, u64)> {
        let (mut align, mut vector, mut pointer) = (None, 1, false);
        loop {
            let word = self.word("a type")?;
            match word {
                ".align" => {
                    let value = self.number()?;
                    if !value.is_power_of_two() || value > LARGEST {
                        return self.error("an alignment that is a power of two");
                    }
                    // after .ptr it is the alignment of what is pointed to
                    align = align.or((!pointer).then_some(value));
                }
                ".v2" => vector = 2,
                ".v4" => vector = 4,
                ".ptr" => pointer = true,
                ".global" | ".shared" | ".const" | ".local" if pointer => {}
                _ => {
                    let ty = word.strip_prefix('.').and_then(Type::parse);
                    let Some(ty) = ty.filter(|ty| *ty != Type::Pred) else {
                        self.at -= 1;
                        return self.error("a type");
                    };
                    let bytes = u64::from(ty.bytes()) * vector;
                    if self.accept_word(".ptr") {
                        while matches!(self.peek(), Token::Word(word) if word.starts_with('.')) {
                            if self.word("an attribute")? == ".align" {
                                self.number()?;
                            }
                        }
                    }
                    return Ok((bytes, align.unwrap_or(bytes)));
                }
            }
        }
    }

    fn declarator(&mut self, space: Space, bytes: u64, align: u64) -> Result<Variable> {
        let line = self.line();
        let name = self.word("a name")?.to_string();
        let (mut count, mut unsized_array) = (1u64, false);
        while self.accept('[') {
            if self.accept(']') {
                (count, unsized_array) = (0, true);
            } else {
                count = count.saturating_mul(self.number()?);
                self.expect(']')?;
            }
        }
        let size = count.saturating_mul(bytes);
        if size > LARGEST {
            let message = format!("{name} has {size} bytes; a variable has {LARGEST} at most");
            return Err(Error::at(line, message));
        }
        Ok(Variable {
            name,
            space,
            align,
            size,
            unsized_array,
            register: None,
            init: vec![],
            addresses: vec![],
            line,
        })
    }

    fn initializer(&mut self, bytes: u64, variable: &mut Variable) -> Result<()> {
        let mut depth = 0;
        loop {
            if self.accept('{') {
                depth += 1;
            } else if self.accept('}') {
                depth -= 1;
            } else if !self.accept(',') {
                self.initial_value(bytes, variable)?;
            }
            if depth == 0 {
                break;
            }
        }
        if variable.unsized_array {
            variable.size = variable.init.len() as u64;
            variable.unsized_array = false;
        }
        Ok(())
    }

    fn initial_value(&mut self, bytes: u64, variable: &mut Variable) -> Result<()> {
        let line = self.line();
        let value = match self.operand()? {
            Operand::Immediate(Immediate::Integer(value)) => value,
            Operand::Immediate(Immediate::F32(bits)) => u64::from(bits),
            Operand::Immediate(Immediate::F64(bits)) => bits,
            Operand::Name(name, offset) => {
                let symbol = if name == "generic" {
                    match self.operand()? {
                        Operand::List(items) => match items.as_slice() {
                            [Operand::Name(name, offset)] => (name.clone(), *offset),
                            _ => return self.error("a symbol"),
                        },
                        _ => return self.error("a symbol"),
                    }
                } else {
                    (name, offset)
                };
                let extra = if self.accept('+') {
                    self.number()? as i64
                } else {
                    0
                };
                let at = variable.init.len() as u64;
                variable.addresses.push((at, symbol.0, symbol.1 + extra));
                0
            }
            other => {
                let message = format!("{} as an initial value is not known", other.describe());
                return Err(Error::at(line, message));
            }
        };
        if bytes > 8 {
            return Err(Error::at(
                line,
                "initial values of vector variables are not known",
            ));
        }
        variable
            .init
            .extend_from_slice(&value.to_le_bytes()[..bytes as usize]);
        Ok(())
    }

    pub(super) fn parameters(&mut self) -> Result<Vec<Variable>> {
        let mut parameters = vec![];
        self.expect('(')?;
        while !self.accept(')') {
            match self.word("`.param` or `.reg`")? {
                ".param" => {
                    let (bytes, align) = self.variable_type()?;
                    parameters.push(self.declarator(Space::Param, bytes, align)?);
                }
                ".reg" => {
                    let ty = self.register_type()?;
                    let mut register = self.declarator(Space::Param, ty.bytes().into(), 1)?;
                    register.register = Some(ty);
                    parameters.push(register);
                }
                _ => return self.error("`.param` or `.reg`"),
            }
            self.accept(',');
        }
        Ok(parameters)
    }
}
