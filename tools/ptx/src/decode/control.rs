//! Branches, calls, barriers and fences.

use super::line::Line;
use crate::counters::Class;
use crate::error::Result;
use crate::exec::registers::Bank;
use crate::program::{Action, Barrier, BarrierReduce};
use crate::text::ast::Operand;

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
        "call" => super::calls::decode(line, at)?,
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
