//! Tokens to a syntax tree.

use super::ast::{Function, Immediate, Instruction, Module, Operand, Statement, Threads, Variable};
use super::lexer::{Token, tokens};
use crate::error::{Error, Result};
use crate::types::{Space, Type};

/// Operands within operands.
const DEEPEST: u32 = 16;
/// Bytes of a variable.
const LARGEST: u64 = 1 << 30;

/// Reads a module.
pub(crate) fn parse(text: &str) -> Result<Module> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        tokens,
        at: 0,
        depth: 0,
        source: None,
        module: Module::default(),
    };
    while parser.peek() != Token::End {
        parser.top_level()?;
    }
    Ok(parser.module)
}

struct Parser<'t> {
    tokens: Vec<(Token<'t>, u32)>,
    at: usize,
    /// Of the operand that is read.
    depth: u32,
    /// The latest `.loc`.
    source: Option<(u32, u32)>,
    module: Module,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Token<'t> {
        self.tokens[self.at].0
    }

    fn line(&self) -> u32 {
        self.tokens[self.at].1
    }

    fn next(&mut self) -> Token<'t> {
        let token = self.peek();
        if token != Token::End {
            self.at += 1;
        }
        token
    }

    fn error<T>(&self, wanted: &str) -> Result<T> {
        let found = match self.peek() {
            Token::Word(word) => format!("`{word}`"),
            Token::Text(_) => "a string".into(),
            Token::Mark(mark) => format!("`{mark}`"),
            Token::End => "the end".into(),
        };
        Err(Error::at(
            self.line(),
            format!("expected {wanted}, found {found}"),
        ))
    }

    fn accept(&mut self, mark: char) -> bool {
        let found = self.peek() == Token::Mark(mark);
        self.at += usize::from(found);
        found
    }

    fn accept_word(&mut self, word: &str) -> bool {
        let found = self.peek() == Token::Word(word);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, mark: char) -> Result<()> {
        if self.accept(mark) {
            Ok(())
        } else {
            self.error(&format!("`{mark}`"))
        }
    }

    fn word(&mut self, wanted: &str) -> Result<&'t str> {
        if let Token::Word(word) = self.peek() {
            self.at += 1;
            Ok(word)
        } else {
            self.error(wanted)
        }
    }

    fn number(&mut self) -> Result<u64> {
        let negative = self.accept('-');
        let Token::Word(word) = self.peek() else {
            return self.error("a number");
        };
        match immediate(word) {
            Some(Immediate::Integer(value)) => {
                self.at += 1;
                Ok(if negative {
                    value.wrapping_neg()
                } else {
                    value
                })
            }
            _ => self.error("a whole number"),
        }
    }

    fn top_level(&mut self) -> Result<()> {
        let line = self.line();
        let word = self.word("a directive")?;
        match word {
            ".version" | ".address_size" => {
                self.word("a number")?;
            }
            ".target" => {
                self.word("an architecture")?;
                while self.accept(',') {
                    self.word("a target option")?;
                }
            }
            ".file" => self.file()?,
            ".loc" => self.loc()?,
            ".section" => {
                self.word("the name of a section")?;
                self.skip_braces()?;
            }
            ".visible" | ".extern" | ".weak" | ".common" => {}
            ".entry" => self.function(true, line)?,
            ".func" => self.function(false, line)?,
            ".global" | ".const" | ".shared" => {
                let variables = self.variables(space(word).expect("a space"))?;
                self.module.variables.extend(variables);
            }
            ".pragma" | ".alias" => self.skip_statement()?,
            _ => return Err(Error::at(line, format!("`{word}` is not known"))),
        }
        Ok(())
    }

    fn file(&mut self) -> Result<()> {
        let index = self.number()? as u32;
        let Token::Text(path) = self.next() else {
            return self.error("the path of a file");
        };
        self.module.files.insert(index, path.to_string());
        while self.accept(',') {
            self.number()?;
        }
        Ok(())
    }

    fn loc(&mut self) -> Result<()> {
        let (file, line) = (self.number()? as u32, self.number()? as u32);
        self.number()?;
        self.source = Some((file, line));
        while self.accept(',') {
            match self.word("function_name or inlined_at")? {
                "function_name" => {
                    self.word("a label")?;
                    if self.accept('+') {
                        self.number()?;
                    }
                }
                "inlined_at" => {
                    for _ in 0..3 {
                        self.number()?;
                    }
                }
                word => {
                    return Err(Error::at(
                        self.line(),
                        format!("`{word}` in .loc is not known"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Goes on behind the next `;`.
    fn skip_statement(&mut self) -> Result<()> {
        loop {
            match self.next() {
                Token::Mark(';') => return Ok(()),
                Token::End => return self.error("`;`"),
                _ => {}
            }
        }
    }

    fn skip_braces(&mut self) -> Result<()> {
        self.expect('{')?;
        let mut depth = 1;
        while depth > 0 {
            match self.next() {
                Token::Mark('{') => depth += 1,
                Token::Mark('}') => depth -= 1,
                Token::End => return self.error("`}`"),
                _ => {}
            }
        }
        Ok(())
    }

    /// After the state space: `.align 4 .b8 name[16] = {1, 2}, other;`
    fn variables(&mut self, space: Space) -> Result<Vec<Variable>> {
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

    fn parameters(&mut self) -> Result<Vec<Variable>> {
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

    fn function(&mut self, entry: bool, line: u32) -> Result<()> {
        let returns = if !entry && self.peek() == Token::Mark('(') {
            self.parameters()?
        } else {
            vec![]
        };
        let name = self.word("the name of a function")?.to_string();
        let params = if self.peek() == Token::Mark('(') {
            self.parameters()?
        } else {
            vec![]
        };
        let (mut threads, mut cluster) = (None, None);
        let body = loop {
            match self.peek() {
                Token::Mark(';') => {
                    self.at += 1;
                    break None;
                }
                Token::Mark('{') => break Some(self.body()?),
                Token::Word(".reqntid") => {
                    self.at += 1;
                    threads = Some(Threads::Exactly(self.dimensions()?));
                }
                Token::Word(".maxntid") => {
                    self.at += 1;
                    let limit = self
                        .dimensions()?
                        .iter()
                        .fold(1, |a: u32, b| a.saturating_mul(*b));
                    threads = threads.or(Some(Threads::AtMost(limit)));
                }
                Token::Word(".reqnctapercluster") => {
                    self.at += 1;
                    cluster = Some(self.dimensions()?);
                }
                Token::Word(".minnctapersm" | ".maxnctapersm" | ".maxnreg" | ".maxclusterrank") => {
                    self.at += 1;
                    self.number()?;
                }
                Token::Word(".noreturn" | ".explicitcluster" | ".blocksareclusters") => {
                    self.at += 1
                }
                Token::Word(".pragma") => self.skip_statement()?,
                _ => return self.error("the body of a function or a directive that is known"),
            }
        };
        self.module.functions.push(Function {
            name,
            entry,
            returns,
            params,
            threads,
            cluster,
            body,
            line,
        });
        Ok(())
    }

    fn dimensions(&mut self) -> Result<[u32; 3]> {
        let mut dimensions = [1; 3];
        for (i, dimension) in dimensions.iter_mut().enumerate() {
            if i == 0 || self.accept(',') {
                *dimension = self.number()? as u32;
            }
        }
        Ok(dimensions)
    }

    fn body(&mut self) -> Result<Vec<Statement>> {
        self.expect('{')?;
        self.source = None;
        let mut statements = vec![];
        let mut depth = 1;
        loop {
            match self.peek() {
                Token::Mark('{') => {
                    self.at += 1;
                    depth += 1;
                    statements.push(Statement::Open);
                }
                Token::Mark('}') => {
                    self.at += 1;
                    depth -= 1;
                    if depth == 0 {
                        return Ok(statements);
                    }
                    statements.push(Statement::Close);
                }
                Token::Mark(';') => self.at += 1,
                Token::Word(word) if word.starts_with('.') => self.directive(&mut statements)?,
                Token::Word(name) if self.tokens[self.at + 1].0 == Token::Mark(':') => {
                    self.at += 2;
                    if self.accept_word(".branchtargets") {
                        let mut targets = vec![self.word("a label")?.to_string()];
                        while self.accept(',') {
                            targets.push(self.word("a label")?.to_string());
                        }
                        self.expect(';')?;
                        statements.push(Statement::Targets(name.to_string(), targets));
                    } else if self.peek() == Token::Word(".callprototype") {
                        // calls that use it are refused where they stand
                        self.skip_statement()?;
                    } else {
                        statements.push(Statement::Label(name.to_string()));
                    }
                }
                Token::Word(_) | Token::Mark('@') => {
                    let instruction = self.instruction()?;
                    statements.push(Statement::Instruction(instruction));
                }
                _ => return self.error("an instruction"),
            }
        }
    }

    fn directive(&mut self, statements: &mut Vec<Statement>) -> Result<()> {
        let line = self.line();
        let word = self.word("a directive")?;
        match word {
            ".loc" => self.loc()?,
            ".pragma" => self.skip_statement()?,
            ".reg" => {
                let ty = self.register_type()?;
                let mut names = vec![];
                loop {
                    let name = self.word("the name of a register")?.to_string();
                    let count = if self.accept('<') {
                        let count = self.number()? as u32;
                        self.expect('>')?;
                        Some(count)
                    } else {
                        None
                    };
                    names.push((name, count));
                    if !self.accept(',') {
                        break;
                    }
                }
                self.expect(';')?;
                statements.push(Statement::Registers(ty, names, line));
            }
            _ => match space(word) {
                Some(space) => {
                    let variables = self.variables(space)?;
                    statements.extend(variables.into_iter().map(Statement::Variable));
                }
                None => return Err(Error::at(line, format!("`{word}` is not known"))),
            },
        }
        Ok(())
    }

    fn register_type(&mut self) -> Result<Type> {
        let line = self.line();
        let ty = self.word("a type")?;
        let known = ty.strip_prefix('.').and_then(Type::parse);
        known.ok_or_else(|| Error::at(line, format!("registers of type {ty} are not known")))
    }

    fn instruction(&mut self) -> Result<Instruction> {
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

    fn operand(&mut self) -> Result<Operand> {
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

fn space(word: &str) -> Option<Space> {
    Some(match word {
        ".global" | ".const" => Space::Global,
        ".shared" => Space::Shared,
        ".local" => Space::Local,
        ".param" => Space::Param,
        _ => return None,
    })
}

fn immediate(word: &str) -> Option<Immediate> {
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
