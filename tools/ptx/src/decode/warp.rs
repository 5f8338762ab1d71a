//! What the lanes of a warp do together: shuffles, votes, matches, reductions.

use super::line::{Line, compute};
use crate::counters::Class;
use crate::error::Result;
use crate::exec::registers::{Bank, Lane};
use crate::program::{Action, ReduceMode, Register, ShuffleMode, VoteMode};
use crate::text::ast::Operand;
use crate::types::Type;

pub(super) fn decode(line: &mut Line) -> Result<Option<(Action, Class)>> {
    let action = match line.name {
        "shfl" => shuffle(line)?,
        "vote" => vote(line)?,
        "match" => matching(line)?,
        "redux" => reduce(line)?,
        "elect" => elect(line)?,
        "activemask" => {
            line.take("b32");
            line.finish(1..=1)?;
            let d = line.dest::<u32>(0)?;
            compute(move |registers, mask| u32::set(registers, d, [mask; 32], mask))
        }
        _ => return Ok(None),
    };
    Ok(Some((action, Class::Warp)))
}

/// `d` or `d|p`: the slots of both.
fn with_predicate(line: &mut Line, operand: &Operand) -> Result<(usize, Option<usize>)> {
    Ok(match operand {
        Operand::Pair(d, p) => (
            line.dest_of(d, Bank::Word, 32)?,
            Some(line.dest_of(p, Bank::Predicate, 1)?),
        ),
        d => (line.dest_of(d, Bank::Word, 32)?, None),
    })
}

fn shuffle(line: &mut Line) -> Result<Action> {
    if !line.take("sync") || !line.take("b32") {
        return line.error("only shfl.sync of b32 is known");
    }
    let mode = match line.take_one(&["up", "down", "bfly", "idx"]) {
        Some("up") => ShuffleMode::Up,
        Some("down") => ShuffleMode::Down,
        Some("bfly") => ShuffleMode::Butterfly,
        Some(_) => ShuffleMode::Index,
        None => return line.unknown(),
    };
    line.finish(5..=5)?;
    let (dest, valid) = with_predicate(line, line.operand(0)?)?;
    Ok(Action::Shuffle {
        mode,
        dest,
        valid,
        value: line.source::<u32>(1)?,
        lane: line.source::<u32>(2)?,
        clamp: line.source::<u32>(3)?,
        members: line.source::<u32>(4)?,
    })
}

fn vote(line: &mut Line) -> Result<Action> {
    if !line.take("sync") {
        return line.error("only vote.sync is known");
    }
    let mode = match line.take_one(&["all", "any", "uni", "ballot"]) {
        Some("all") => VoteMode::All,
        Some("any") => VoteMode::Any,
        Some("uni") => VoteMode::Uniform,
        Some(_) => VoteMode::Ballot,
        None => return line.unknown(),
    };
    line.ty()?;
    line.finish(3..=3)?;
    let dest = if mode == VoteMode::Ballot {
        line.dest::<u32>(0)?
    } else {
        line.dest::<bool>(0)?
    };
    let (predicate, negated) = line.predicate(1)?;
    Ok(Action::Vote {
        mode,
        dest,
        predicate,
        negated,
        members: line.source::<u32>(2)?,
    })
}

fn matching(line: &mut Line) -> Result<Action> {
    if !line.take("sync") {
        return line.unknown();
    }
    let all = line.take("all");
    if !all && !line.take("any") {
        return line.unknown();
    }
    let ty = line.ty()?;
    line.finish(3..=3)?;
    let (dest, predicate) = with_predicate(line, line.operand(0)?)?;
    let (bank, slot) = match ty.bits() {
        32 => (Bank::Word, line.source::<u32>(1)?),
        64 => (Bank::Double, line.source::<u64>(1)?),
        _ => return line.unknown(),
    };
    Ok(Action::Match {
        all,
        dest,
        predicate,
        value: Register {
            bank,
            slot,
            bits: ty.bits(),
        },
        members: line.source::<u32>(2)?,
    })
}

fn reduce(line: &mut Line) -> Result<Action> {
    if !line.take("sync") {
        return line.unknown();
    }
    let op = line.take_one(&["add", "min", "max", "and", "or", "xor"]);
    let mode = match (op, line.ty()?) {
        (Some("add"), Type::U(32) | Type::S(32)) => ReduceMode::Add,
        (Some("min"), Type::U(32)) => ReduceMode::MinUnsigned,
        (Some("max"), Type::U(32)) => ReduceMode::MaxUnsigned,
        (Some("min"), Type::S(32)) => ReduceMode::MinSigned,
        (Some("max"), Type::S(32)) => ReduceMode::MaxSigned,
        (Some("and"), Type::B(32)) => ReduceMode::And,
        (Some("or"), Type::B(32)) => ReduceMode::Or,
        (Some("xor"), Type::B(32)) => ReduceMode::Xor,
        _ => return line.unknown(),
    };
    line.finish(3..=3)?;
    Ok(Action::Reduce {
        mode,
        dest: line.dest::<u32>(0)?,
        value: line.source::<u32>(1)?,
        members: line.source::<u32>(2)?,
    })
}

fn elect(line: &mut Line) -> Result<Action> {
    if !line.take("sync") {
        return line.unknown();
    }
    line.finish(2..=2)?;
    let Operand::Pair(d, p) = line.operand(0)? else {
        return line.unknown();
    };
    let dest = match &**d {
        Operand::Name(name, 0) if name == "_" => None,
        d => Some(line.dest_of(d, Bank::Word, 32)?),
    };
    Ok(Action::Elect {
        dest,
        predicate: line.dest_of(p, Bank::Predicate, 1)?,
        members: line.source::<u32>(1)?,
    })
}
