//! Device functions: where their parameters live, and how they call one another.

use super::decoder::Decoder;
use super::symbols::Symbol;
use crate::error::{Error, Result};
use crate::exec::registers::Bank;
use crate::program::Register;
use crate::text::ast::{Function, Variable};

/// Where a parameter of a function lives.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// Offset in local memory, and bytes.
    Memory(u64, u64),
    Register(Register),
}

/// A device function and where its parameters live.
pub(super) struct Called<'m> {
    pub function: &'m Function,
    pub params: Vec<Place>,
    pub returns: Vec<Place>,
    pub start: u32,
    /// Functions that it calls.
    pub calls: Vec<usize>,
}

impl<'m> Decoder<'m> {
    /// Index of a function that is called.
    pub fn function(&mut self, name: &str, line: u32) -> Result<usize> {
        if let Some(known) = self.functions.iter().position(|f| f.function.name == name) {
            return Ok(known);
        }
        let module = self.module;
        let mut candidates = module
            .functions
            .iter()
            .filter(|f| !f.entry && f.name == name);
        let Some(function) = candidates.find(|f| f.body.is_some()) else {
            return Err(Error::at(
                line,
                format!("the function {name} has no body here"),
            ));
        };
        let place = |d: &mut Self, list: &[Variable]| -> Vec<Place> {
            list.iter().map(|v| d.parameter(v)).collect()
        };
        let (params, returns) = (
            place(self, &function.params),
            place(self, &function.returns),
        );
        self.functions.push(Called {
            function,
            params,
            returns,
            start: 0,
            calls: vec![],
        });
        Ok(self.functions.len() - 1)
    }

    fn parameter(&mut self, variable: &Variable) -> Place {
        let Some(ty) = variable.register else {
            return Place::Memory(self.local(variable.size, variable.align), variable.size);
        };
        let bank = match ty.bits() {
            1 => Bank::Predicate,
            64 => Bank::Double,
            _ => Bank::Word,
        };
        Place::Register(Register {
            bank,
            slot: self.fresh(bank),
            bits: ty.bits(),
        })
    }

    pub fn called(&mut self, index: usize) -> Result<(usize, usize)> {
        let Called {
            function,
            params,
            returns,
            ..
        } = &self.functions[index];
        let function = *function;
        let named = function
            .params
            .iter()
            .zip(params)
            .chain(function.returns.iter().zip(returns));
        let named: Vec<(String, Place)> = named.map(|(v, at)| (v.name.clone(), *at)).collect();
        self.scopes.open();
        for (name, place) in named {
            match place {
                Place::Memory(at, bytes) => self
                    .scopes
                    .declare_symbol(&name, Symbol::CallParam(at, bytes)),
                Place::Register(register) => self.scopes.declare_register(&name, register),
            }
        }
        let range = self.body(function)?;
        self.scopes.close();
        Ok(range)
    }

    /// Registers and local variables have one place per function, so a function may not call itself.
    pub fn no_recursion(&self, from: usize, line: u32) -> Result<()> {
        let mut reached = vec![false; self.functions.len()];
        let mut left = self.functions[from].calls.clone();
        while let Some(next) = left.pop() {
            if next == from {
                let name = &self.functions[from].function.name;
                return Err(Error::at(
                    line,
                    format!("{name} may call itself, which is not supported"),
                ));
            }
            if !std::mem::replace(&mut reached[next], true) {
                left.extend(&self.functions[next].calls);
            }
        }
        Ok(())
    }
}
