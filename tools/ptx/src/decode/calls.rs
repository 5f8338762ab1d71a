//! Calls: by name, through an address, and of the functions that print.

use super::functions::Place;
use super::line::Line;
use super::symbols::Symbol;
use crate::error::Result;
use crate::exec::registers::Bank;
use crate::program::{Action, Call, Callee, Pass, Register};
use crate::text::ast::{Function, Operand};

/// `call (results), function, (arguments), prototype;` at instruction `at`.
pub(super) fn decode(line: &mut Line, at: usize) -> Result<Action> {
    line.take("uni");
    line.finish(1..=4)?;
    let (results, rest) = match &line.instruction.operands[..] {
        [Operand::List(results), rest @ ..] => (&results[..], rest),
        rest => (&[][..], rest),
    };
    let (name, arguments, prototype) = match rest {
        [Operand::Name(name, 0)] => (name, &[][..], None),
        [Operand::Name(name, 0), Operand::List(arguments)] => (name, &arguments[..], None),
        [Operand::Name(name, 0), Operand::Name(prototype, 0)] => (name, &[][..], Some(prototype)),
        [
            Operand::Name(name, 0),
            Operand::List(arguments),
            Operand::Name(prototype, 0),
        ] => (name, &arguments[..], Some(prototype)),
        _ => return line.error("the operands of the call are not known"),
    };
    let address = line.decoder.scopes.register(name);
    match (address, prototype) {
        (None, None) if matches!(&name[..], "vprintf" | "__assertfail") => {
            print(line, name == "__assertfail", results, arguments)
        }
        (None, None) => {
            let index = line.decoder.function(name, line.instruction.line)?;
            let Some(callee) = callee(line, index, results, arguments)? else {
                return line.error(format!("the arguments do not fit {name}"));
            };
            line.decoder.calls.push((at, 0, index));
            Ok(Action::Call(Call {
                callees: vec![callee],
                by: None,
            }))
        }
        (Some(register), Some(_)) if register.bank == Bank::Double => {
            let callees = candidates(line, at, results, arguments)?;
            Ok(Action::Call(Call {
                callees,
                by: Some(register.slot),
            }))
        }
        _ => line.error(format!("{name} is not a function that can be called so")),
    }
}

/// The functions whose parameters fit a call through an address.
fn candidates(
    line: &mut Line,
    at: usize,
    results: &[Operand],
    arguments: &[Operand],
) -> Result<Vec<Callee>> {
    let module = line.decoder.module;
    let counts =
        |f: &Function| f.params.len() == arguments.len() && f.returns.len() == results.len();
    let in_memory = |f: &Function| {
        let mut all = f.params.iter().chain(&f.returns);
        all.all(|v| v.register.is_none())
    };
    let mut callees = vec![];
    for function in &module.functions {
        if function.entry || function.body.is_none() || !counts(function) || !in_memory(function) {
            continue;
        }
        let sizes = |operands: &[Operand]| -> Result<Vec<u64>> {
            operands.iter().map(|o| Ok(memory(line, o)?.1)).collect()
        };
        let fits = sizes(arguments)?
            .iter()
            .eq(function.params.iter().map(|v| &v.size))
            && sizes(results)?
                .iter()
                .eq(function.returns.iter().map(|v| &v.size));
        if !fits {
            continue;
        }
        let index = line
            .decoder
            .function(&function.name, line.instruction.line)?;
        if let Some(callee) = callee(line, index, results, arguments)? {
            line.decoder.calls.push((at, callees.len(), index));
            callees.push(callee);
        }
    }
    Ok(callees)
}

/// Place and size of a `.param` variable.
fn memory(line: &Line, operand: &Operand) -> Result<(u64, u64)> {
    if let Operand::Name(name, 0) = operand
        && let Some(Symbol::CallParam(at, bytes)) = line.decoder.scopes.symbol(name)
    {
        return Ok((at, bytes));
    }
    line.error(format!("{} is not a .param variable", operand.describe()))
}

/// How a function is handed its arguments and hands back its results; None if they do not fit.
fn callee(
    line: &mut Line,
    index: usize,
    results: &[Operand],
    arguments: &[Operand],
) -> Result<Option<Callee>> {
    let called = &line.decoder.functions[index];
    let (params, returns) = (called.params.clone(), called.returns.clone());
    let address = line.decoder.module.function_address(&called.function.name);
    if params.len() != arguments.len() || returns.len() != results.len() {
        return Ok(None);
    }
    let mut callee = Callee {
        address: address.expect("a function with a body"),
        target: 0,
        arguments: vec![],
        results: vec![],
    };
    for (operand, place) in arguments.iter().zip(params) {
        callee.arguments.push(match place {
            Place::Memory(to, bytes) => match memory(line, operand)? {
                (from, size) if size == bytes => Pass::Bytes { from, to, bytes },
                _ => return Ok(None),
            },
            Place::Register(to) => {
                let slot = line.source_of(operand, to.bank, to.bits)?;
                Pass::Register {
                    from: Register { slot, ..to },
                    to,
                }
            }
        });
    }
    for (operand, place) in results.iter().zip(returns) {
        callee.results.push(match place {
            Place::Memory(from, bytes) => match memory(line, operand)? {
                (to, size) if size == bytes => Pass::Bytes { from, to, bytes },
                _ => return Ok(None),
            },
            Place::Register(from) => {
                let slot = line.dest_of(operand, from.bank, from.bits)?;
                Pass::Register {
                    from,
                    to: Register { slot, ..from },
                }
            }
        });
    }
    Ok(Some(callee))
}

/// `vprintf(format, arguments)` and `__assertfail(message, file, line, function, size of a character)`.
fn print(
    line: &mut Line,
    assertion: bool,
    results: &[Operand],
    arguments: &[Operand],
) -> Result<Action> {
    let sizes: &[u64] = if assertion { &[8, 8, 4, 8, 8] } else { &[8, 8] };
    let places = arguments.iter().map(|o| memory(line, o));
    let places = places.collect::<Result<Vec<_>>>()?;
    let results = results.iter().map(|o| memory(line, o));
    let results = results.collect::<Result<Vec<_>>>()?;
    let fits = places.iter().map(|(_, bytes)| bytes).eq(sizes)
        && results.len() == usize::from(!assertion)
        && results.iter().all(|(_, bytes)| *bytes == 4);
    if !fits {
        return line.error("the arguments do not fit the function");
    }
    Ok(Action::Print {
        assertion,
        arguments: places.into_iter().map(|(at, _)| at).collect(),
        result: results.first().map(|(at, _)| *at),
    })
}
