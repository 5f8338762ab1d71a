//! PTX text to a syntax tree: no meaning yet, only structure.

pub(crate) mod ast;
mod lexer;
mod parser;

pub(crate) use parser::parse;
