//! Tokens to a syntax tree: modules, functions and their bodies.

use super::ast::{Function, Immediate, Module, Statement, Threads};
use super::lexer::{Token, tokens};
use super::operands::{immediate, space};
use crate::error::{Error, Result};
use crate::types::Type;

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

pub(super) struct Parser<'t> {
    tokens: Vec<(Token<'t>, u32)>,
    pub(super) at: usize,
    /// Of the operand that is read.
    pub(super) depth: u32,
    /// The latest `.loc`.
    pub(super) source: Option<(u32, u32)>,
    module: Module,
}

impl<'t> Parser<'t> {
    pub(super) fn peek(&self) -> Token<'t> {
        self.tokens[self.at].0
    }

    pub(super) fn line(&self) -> u32 {
        self.tokens[self.at].1
    }

    fn next(&mut self) -> Token<'t> {
        let token = self.peek();
        if token != Token::End {
            self.at += 1;
        }
        token
    }

    pub(super) fn error<T>(&self, wanted: &str) -> Result<T> {
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

    pub(super) fn accept(&mut self, mark: char) -> bool {
        let found = self.peek() == Token::Mark(mark);
        self.at += usize::from(found);
        found
    }

    pub(super) fn accept_word(&mut self, word: &str) -> bool {
        let found = self.peek() == Token::Word(word);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, mark: char) -> Result<()> {
        if self.accept(mark) {
            Ok(())
        } else {
            self.error(&format!("`{mark}`"))
        }
    }

    pub(super) fn word(&mut self, wanted: &str) -> Result<&'t str> {
        if let Token::Word(word) = self.peek() {
            self.at += 1;
            Ok(word)
        } else {
            self.error(wanted)
        }
    }

    pub(super) fn number(&mut self) -> Result<u64> {
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

    pub(super) fn register_type(&mut self) -> Result<Type> {
        let line = self.line();
        let ty = self.word("a type")?;
        let known = ty.strip_prefix('.').and_then(Type::parse);
        known.ok_or_else(|| Error::at(line, format!("registers of type {ty} are not known")))
    }
}
