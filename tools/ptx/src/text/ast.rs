//! The syntax tree of a module.

use std::collections::BTreeMap;

use crate::program::FUNCTION_WINDOW;
use crate::types::{Space, Type};

#[derive(Debug, Default)]
pub(crate) struct Module {
    /// Files that `.loc` refers to.
    pub files: BTreeMap<u32, String>,
    pub variables: Vec<Variable>,
    pub functions: Vec<Function>,
}

impl Module {
    /// The address that stands for a function.
    pub fn function_address(&self, name: &str) -> Option<u64> {
        let named = |f: &Function| f.name == name && !f.entry && f.body.is_some();
        let index = self.functions.iter().position(named)?;
        Some(FUNCTION_WINDOW + 16 * index as u64)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub name: String,
    pub space: Space,
    pub align: u64,
    /// Bytes; 0 for an array of unstated length.
    pub size: u64,
    pub unsized_array: bool,
    /// The type of a parameter that is a register.
    pub register: Option<Type>,
    /// First bytes of the value; what is missing is zero.
    pub init: Vec<u8>,
    /// Places in `init` that hold the address of a symbol plus an offset.
    pub addresses: Vec<(u64, String, i64)>,
    pub line: u32,
}

#[derive(Debug)]
pub(crate) struct Function {
    pub name: String,
    pub entry: bool,
    pub returns: Vec<Variable>,
    pub params: Vec<Variable>,
    /// Threads per block: exactly (`.reqntid`) or at most (`.maxntid`).
    pub threads: Option<Threads>,
    /// Blocks per cluster (`.reqnctapercluster`).
    pub cluster: Option<[u32; 3]>,
    /// None for a declaration.
    pub body: Option<Vec<Statement>>,
    pub line: u32,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Threads {
    Exactly([u32; 3]),
    AtMost(u32),
}

#[derive(Debug)]
pub(crate) enum Statement {
    Open,
    Close,
    /// `.reg .b32 %r<10>, x;`: names, with a count where one is given; and the line.
    Registers(Type, Vec<(String, Option<u32>)>, u32),
    Variable(Variable),
    Label(String),
    /// `name: .branchtargets a, b;`
    Targets(String, Vec<String>),
    Instruction(Instruction),
}

#[derive(Debug)]
pub(crate) struct Instruction {
    /// Predicate and whether it is negated.
    pub guard: Option<(String, bool)>,
    /// With suffixes, as written.
    pub opcode: String,
    pub operands: Vec<Operand>,
    pub line: u32,
    /// File and line of the source the compiler read.
    pub source: Option<(u32, u32)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand {
    /// A register, symbol or label, with an offset for `symbol+4`.
    Name(String, i64),
    /// `!p`
    Not(String),
    /// `a|b`
    Pair(Box<Operand>, Box<Operand>),
    Immediate(Immediate),
    /// `{a, b}` and `(a, b)`
    List(Vec<Operand>),
    /// `[base+offset]`, `[base, {x, y}]`
    Address {
        base: Box<Operand>,
        offset: i64,
        more: Vec<Operand>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Immediate {
    /// Integers, wrapped to 64 bits.
    Integer(u64),
    F32(u32),
    F64(u64),
}

impl Operand {
    /// As in the text, nearly; for messages.
    pub fn describe(&self) -> String {
        match self {
            Operand::Name(name, 0) => name.clone(),
            Operand::Name(name, offset) => format!("{name}+{offset}"),
            Operand::Not(name) => format!("!{name}"),
            Operand::Pair(a, b) => format!("{}|{}", a.describe(), b.describe()),
            Operand::Immediate(Immediate::Integer(value)) => format!("{}", *value as i64),
            Operand::Immediate(Immediate::F32(bits)) => format!("0f{bits:08X}"),
            Operand::Immediate(Immediate::F64(bits)) => format!("0d{bits:016X}"),
            Operand::List(items) => {
                let items: Vec<_> = items.iter().map(Operand::describe).collect();
                format!("{{{}}}", items.join(", "))
            }
            Operand::Address { base, offset, .. } => format!("[{}+{offset}]", base.describe()),
        }
    }
}
