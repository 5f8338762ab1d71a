//! Matrix instructions of a warp: `mma.sync`, `ldmatrix`, `stmatrix`, `movmatrix`.

use super::line::Line;
use crate::counters::Class;
use crate::error::Result;
use crate::program::{Accumulator, Action, Factor, Mma};
use crate::types::{Space, Type};

pub(super) fn decode(line: &mut Line) -> Result<Option<(Action, Class)>> {
    Ok(Some(match line.name {
        "mma" => (mma(line)?, Class::Matrix),
        "ldmatrix" => (fragments(line, false)?, Class::LoadShared),
        "stmatrix" => (fragments(line, true)?, Class::StoreShared),
        "movmatrix" => {
            let known = line.take("sync") && line.take("aligned") && line.take("m8n8");
            if !known || !line.take("trans") || !line.take("b16") {
                return line.unknown();
            }
            line.finish(2..=2)?;
            let action = Action::MoveMatrix {
                dest: line.dest::<u32>(0)?,
                source: line.source::<u32>(1)?,
            };
            (action, Class::Warp)
        }
        _ => return Ok(None),
    }))
}

fn mma(line: &mut Line) -> Result<Action> {
    if !line.take("sync") || !line.take("aligned") || !line.take("row") || !line.take("col") {
        return line.unknown();
    }
    let Some(shape) = line.take_one(&["m16n8k4", "m16n8k8", "m16n8k16", "m16n8k32"]) else {
        return line.error("this shape is not known");
    };
    let k: usize = shape["m16n8k".len()..].parse().expect("a number");
    let saturate = line.take("satfinite");
    let [d, a, b, c] = line.types()[..] else {
        return line.error("four types expected");
    };
    let factor = |ty| {
        Some(match ty {
            Type::F16 => Factor::F16,
            Type::BF16 => Factor::BF16,
            Type::TF32 => Factor::TF32,
            Type::S(8) => Factor::S8,
            Type::U(8) => Factor::U8,
            Type::E4M3 => Factor::E4M3,
            Type::E5M2 => Factor::E5M2,
            _ => return None,
        })
    };
    let accumulator = |ty| {
        Some(match ty {
            Type::F16 => Accumulator::F16,
            Type::F32 => Accumulator::F32,
            Type::S(32) => Accumulator::S32,
            _ => return None,
        })
    };
    let (Some(a_type), Some(b_type)) = (factor(a), factor(b)) else {
        return line.error("these types are not known");
    };
    let (Some(result), Some(addend)) = (accumulator(d), accumulator(c)) else {
        return line.error("these types are not known");
    };
    let whole = matches!(a_type, Factor::S8 | Factor::U8);
    let eight = matches!(a_type, Factor::E4M3 | Factor::E5M2);
    let same = if whole {
        matches!(b_type, Factor::S8 | Factor::U8)
    } else if eight {
        matches!(b_type, Factor::E4M3 | Factor::E5M2)
    } else {
        a_type == b_type
    };
    let shapes: &[usize] = match a_type {
        Factor::F16 | Factor::BF16 => &[8, 16],
        Factor::TF32 => &[4, 8],
        Factor::S8 | Factor::U8 | Factor::E4M3 | Factor::E5M2 => &[16, 32],
    };
    let accumulators = match (result, addend) {
        (Accumulator::S32, Accumulator::S32) => whole,
        (Accumulator::F32, Accumulator::F32) => !whole,
        (Accumulator::S32, _) | (_, Accumulator::S32) => false,
        // halves are accumulated for halves only
        _ => a_type == Factor::F16 || eight,
    };
    if !same || !shapes.contains(&k) || !accumulators || saturate && !whole {
        return line.unknown();
    }
    line.finish(4..=4)?;
    let mma = Mma {
        k,
        a_type,
        b_type,
        result,
        addend,
        saturate,
        d: line.words(0, true)?,
        a: line.words(1, false)?,
        b: line.words(2, false)?,
        c: line.words(3, false)?,
    };
    let per_word = match a_type {
        Factor::F16 | Factor::BF16 => 2,
        Factor::TF32 => 1,
        Factor::S8 | Factor::U8 | Factor::E4M3 | Factor::E5M2 => 4,
    };
    let sizes = |accumulator| {
        if accumulator == Accumulator::F16 {
            2
        } else {
            4
        }
    };
    let fits = mma.a.len() == 16 * k / 32 / per_word
        && mma.b.len() == 8 * k / 32 / per_word
        && mma.d.len() == sizes(result)
        && mma.c.len() == sizes(addend);
    if !fits {
        return line.error("the number of registers does not fit the shape");
    }
    Ok(Action::Mma(Box::new(mma)))
}

fn fragments(line: &mut Line, write: bool) -> Result<Action> {
    let known = line.take("sync") && line.take("aligned") && line.take("m8n8") && line.take("b16");
    let count = match line.take_one(&["x1", "x2", "x4"]) {
        Some("x1") => 1,
        Some("x2") => 2,
        Some(_) => 4,
        None => 0,
    };
    if !known || count == 0 {
        return line.unknown();
    }
    let transpose = line.take("trans");
    let mut space = line.space();
    line.finish(2..=2)?;
    let (at, list) = if write { (0, 1) } else { (1, 0) };
    let address = line.address(at, &mut space)?;
    if space != Space::Shared {
        return line.error("only shared memory is known here");
    }
    let slots = line.words(list, !write)?;
    if slots.len() != count {
        return line.error("the number of registers does not fit");
    }
    Ok(if write {
        Action::StoreMatrix {
            address,
            source: slots,
            transpose,
        }
    } else {
        Action::LoadMatrix {
            address,
            dest: slots,
            transpose,
        }
    })
}
