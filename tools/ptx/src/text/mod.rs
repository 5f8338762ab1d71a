//! PTX text to a syntax tree: no meaning yet, only structure.

pub(crate) mod ast;
mod lexer;
mod operands;
mod parser;
mod variables;

pub(crate) use parser::parse;
