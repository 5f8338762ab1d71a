//! Branches, calls, barriers and fences.

use super::line::Line;
use crate::counters::Class;
use crate::error::Result;
use crate::exec::registers::Bank;
use crate::program::{Action, Barrier, BarrierReduce};
use crate::text::ast::Operand;

use super::symbols::Symbol;

pub(super) fn decode(line: &mut Line) -> Result<Option<(Action, Class)>> {
    let at = line.decoder.program.code.len();
    let action = match line.name {
        "bra" => {
            line.take("uni");
            line.finish(1..=1)?;
            branch_to(line, at, 0, line.operand(0)?)?;
            Action::Branch(0)
        }
        "brx" => {
            if !line.take("idx") {
                return line.unknown();
            }
            line.take("uni");
            line.finish(2..=2)?;
            let index = line.source::<u32>(0)?;
            let targets = match line.operand(1)? {
                Operand::Name(name, 0) => line.decoder.scopes.targets(name),
                _ => None,
            };
            let Some(targets) = targets else {
                return line.error("no .branchtargets before it");
            };
            for (position, label) in targets.iter().enumerate() {
                branch_to(line, at, position, &Operand::Name(label.clone(), 0))?;
            }
            Action::BranchIndexed(index, vec![0; targets.len()])
        }
        "call" => call(line, at)?,
        "ret" => {
            line.take("uni");
            line.finish(0..=0)?;
            Action::Return
        }
        "exit" => {
            line.finish(0..=0)?;
            Action::Exit
        }
        "trap" | "brkpt" => {
            line.finish(0..=0)?;
            Action::Trap
        }
        "nanosleep" => {
            line.take("u32");
            line.finish(1..=1)?;
            return Ok(Some((Action::Fence, Class::Other)));
        }
        "bar" | "barrier" => return Ok(Some((barrier(line)?, Class::Barrier))),
        "membar" | "fence" => {
            line.ignore(&[
                "cta", "gl", "sys", "gpu", "cluster", "sc", "acq_rel", "acquire", "release",
            ]);
            if line.take("proxy") {
                line.ignore(&[
                    "alias",
                    "async",
                    "async::global",
                    "async::shared::cta",
                    "global",
                    "shared::cta",
                ]);
            }
            line.finish(0..=0)?;
            return Ok(Some((Action::Fence, Class::Barrier)));
        }
        _ => return Ok(None),
    };
    Ok(Some((action, Class::Control)))
}

fn branch_to(line: &mut Line, at: usize, position: usize, label: &Operand) -> Result<()> {
    match label {
        Operand::Name(name, 0) => {
            let text_line = line.instruction.line;
            line.decoder.scopes.branch(at, position, name, text_line);
            Ok(())
        }
        other => line.error(format!("{} is not a label", other.describe())),
    }
}

/// `call (results), function, (arguments);`
fn call(line: &mut Line, at: usize) -> Result<Action> {
    line.take("uni");
    let (results, name, arguments): (&[Operand], _, &[Operand]) = match &line.instruction.operands[..]
    {
        [
            Operand::List(results),
            Operand::Name(name, 0),
            Operand::List(arguments),
        ] => (results, name, arguments),
        [Operand::List(results), Operand::Name(name, 0)] => (results, name, &[]),
        [Operand::Name(name, 0), Operand::List(arguments)] => (&[], name, arguments),
        [Operand::Name(name, 0)] => (&[], name, &[]),
        _ => return line.error("only calls of a function by its name are known"),
    };
    line.finish(1..=3)?;
    if line.decoder.scopes.register(name).is_some() {
        return line.error("only calls of a function by its name are known");
    }
    let index = line.decoder.function(name, line.instruction.line)?;
    let called = &line.decoder.functions[index];
    let (params, returns) = (called.params.clone(), called.returns.clone());
    let sizes =
        |list: &[crate::text::ast::Variable]| list.iter().map(|v| v.size).collect::<Vec<_>>();
    let (param_sizes, return_sizes) = (
        sizes(&called.function.params),
        sizes(&called.function.returns),
    );
    let place = |operand: &Operand| match operand {
        Operand::Name(name, 0) => match line.decoder.scopes.symbol(name) {
            Some(Symbol::CallParam(at)) => Ok(at),
            _ => line.error(format!("{name} is not a .param variable")),
        },
        other => line.error(format!("{} is not a .param variable", other.describe())),
    };
    if arguments.len() != params.len() || results.len() != returns.len() {
        return line.error(format!("the number of arguments does not fit {name}"));
    }
    let mut copies_in = vec![];
    for (argument, (to, bytes)) in arguments.iter().zip(params.iter().zip(param_sizes)) {
        copies_in.push((place(argument)?, *to, bytes));
    }
    let mut copies_out = vec![];
    for (result, (from, bytes)) in results.iter().zip(returns.iter().zip(return_sizes)) {
        copies_out.push((*from, place(result)?, bytes));
    }
    line.decoder.calls.push((at, index));
    Ok(Action::Call {
        target: 0,
        arguments: copies_in,
        results: copies_out,
    })
}

fn barrier(line: &mut Line) -> Result<Action> {
    line.ignore(&["cta", "aligned"]);
    if line.name == "bar" && line.take("warp") {
        if !line.take("sync") {
            return line.unknown();
        }
        line.finish(1..=1)?;
        return Ok(Action::WarpBarrier(line.source::<u32>(0)?));
    }
    let Some(kind) = line.take_one(&["sync", "arrive", "red"]) else {
        return line.unknown();
    };
    if kind != "red" {
        line.finish(1..=2)?;
        let id = line.source::<u32>(0)?;
        let threads = if line.count() == 2 {
            Some(line.source::<u32>(1)?)
        } else {
            None
        };
        if kind == "arrive" && threads.is_none() {
            return line.error("the number of threads is missing");
        }
        return Ok(Action::Barrier(Barrier {
            id,
            threads,
            wait: kind == "sync",
            reduce: None,
        }));
    }
    let op = match line.take_one(&["popc", "and", "or"]) {
        Some("popc") => BarrierReduce::Popc,
        Some("and") => BarrierReduce::And,
        Some(_) => BarrierReduce::Or,
        None => return line.unknown(),
    };
    line.ignore(&["u32", "pred"]);
    line.finish(3..=4)?;
    let dest = line.register(line.operand(0)?)?;
    let wanted = if op == BarrierReduce::Popc {
        Bank::Word
    } else {
        Bank::Predicate
    };
    if dest.bank != wanted {
        return line.unknown();
    }
    let id = line.source::<u32>(1)?;
    let threads = if line.count() == 4 {
        Some(line.source::<u32>(2)?)
    } else {
        None
    };
    let (predicate, negated) = line.predicate(line.count() - 1)?;
    Ok(Action::Barrier(Barrier {
        id,
        threads,
        wait: true,
        reduce: Some((op, dest, predicate, negated)),
    }))
}
