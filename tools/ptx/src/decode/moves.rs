//! Moves, packing, comparison and selection.

use half::{bf16, f16};

use super::line::{Line, compute};
use super::symbols::special;
use crate::counters::Class;
use crate::error::Result;
use crate::exec::registers::{Bank, LANES, Lane, Registers, lanes_of};
use crate::program::{Action, LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, resolve};
use crate::text::ast::Operand;
use crate::types::{Space, Type};

pub(super) fn decode(line: &mut Line) -> Result<Option<(Action, Class)>> {
    let action = match line.name {
        "mov" => mov(line)?,
        "cvta" => cvta(line)?,
        "isspacep" => is_space(line)?,
        "setp" => compare(line, true)?,
        "set" => compare(line, false)?,
        "selp" => match line.ty()?.bits() {
            16 => select::<u16>(line)?,
            32 => select::<u32>(line)?,
            64 => select::<u64>(line)?,
            _ => return line.unknown(),
        },
        "slct" => slct(line)?,
        _ => return Ok(None),
    };
    Ok(Some((action, Class::Move)))
}

fn mov(line: &mut Line) -> Result<Action> {
    let ty = line.ty()?;
    line.finish(2..=2)?;
    if let Operand::Name(name, 0) = line.operand(1)?
        && matches!(
            name.as_str(),
            "%clock"
                | "%clock64"
                | "%clock_hi"
                | "%globaltimer"
                | "%globaltimer_lo"
                | "%globaltimer_hi"
        )
    {
        let register = line.register(line.operand(0)?)?;
        return Ok(Action::Clock(register));
    }
    if let Operand::List(items) = line.operand(1)? {
        return pack(line, ty, items);
    }
    if let Operand::List(items) = line.operand(0)? {
        return unpack(line, ty, items);
    }
    match ty.bits() {
        1 => {
            let (d, a) = (line.dest::<bool>(0)?, line.source::<bool>(1)?);
            Ok(compute(move |registers, mask| {
                let bits = registers.predicates[a];
                registers.set_predicate(d, bits, mask);
            }))
        }
        8 => line.map1(|a: u8| a),
        16 => line.map1(|a: u16| a),
        32 => line.map1(|a: u32| a),
        64 => {
            // 32-bit special registers may be moved to 64 bits
            if let Operand::Name(name, 0) = line.operand(1)?
                && special(name).is_some_and(|(bank, _)| bank == Bank::Word)
            {
                return line.map1(|a: u32| u64::from(a));
            }
            line.map1(|a: u64| a)
        }
        _ => line.unknown(),
    }
}

/// Registers of equal width that make up one of `ty`.
fn parts(line: &mut Line, ty: Type, items: &[Operand], write: bool) -> Result<(Vec<usize>, u32)> {
    let width = u32::from(ty.bits()) / items.len().max(1) as u32;
    if ![8, 16, 32].contains(&width) || width * items.len() as u32 != u32::from(ty.bits()) {
        return line.unknown();
    }
    let mut slots = vec![];
    for item in items {
        slots.push(if write {
            line.dest_of(item, Bank::Word, width as u8)?
        } else {
            line.source_of(item, Bank::Word, width as u8)?
        });
    }
    Ok((slots, width))
}

fn pack(line: &mut Line, ty: Type, items: &[Operand]) -> Result<Action> {
    let (parts, width) = parts(line, ty, items, false)?;
    let keep = (1u64 << width) - 1;
    let value = move |registers: &Registers, lane: usize| {
        let parts = parts.iter().rev();
        parts.fold(0u64, |all, slot| {
            all << width | (u64::from(registers.words[*slot][lane]) & keep)
        })
    };
    if ty.bits() == 64 {
        let d = line.dest::<u64>(0)?;
        Ok(compute(move |registers, mask| {
            let out = std::array::from_fn(|lane| value(registers, lane));
            u64::set(registers, d, out, mask);
        }))
    } else {
        let d = line.dest::<u32>(0)?;
        Ok(compute(move |registers, mask| {
            let out = std::array::from_fn(|lane| value(registers, lane) as u32);
            u32::set(registers, d, out, mask);
        }))
    }
}

fn unpack(line: &mut Line, ty: Type, items: &[Operand]) -> Result<Action> {
    let (parts, width) = parts(line, ty, items, true)?;
    let double = ty.bits() == 64;
    let a = if double {
        line.source::<u64>(1)?
    } else {
        line.source::<u32>(1)?
    };
    let keep = (1u64 << width) - 1;
    Ok(compute(move |registers, mask| {
        let all = if double {
            registers.doubles[a]
        } else {
            registers.words[a].map(u64::from)
        };
        for (at, slot) in parts.iter().enumerate() {
            let part = all.map(|v| (v >> (width * at as u32) & keep) as u32);
            u32::set(registers, *slot, part, mask);
        }
    }))
}

fn window(space: Space) -> Option<u64> {
    match space {
        Space::Global => Some(0),
        Space::Shared => Some(SHARED_WINDOW),
        Space::Local => Some(LOCAL_WINDOW),
        Space::Param => Some(PARAM_WINDOW),
        Space::Generic => None,
    }
}

fn cvta(line: &mut Line) -> Result<Action> {
    let from_generic = line.take("to");
    let (space, ty) = (line.space(), line.ty()?);
    let (Some(window), Type::U(64)) = (window(space), ty) else {
        return line.unknown();
    };
    if from_generic {
        line.map1(move |a: u64| a.wrapping_sub(window))
    } else {
        line.map1(move |a: u64| a.wrapping_add(window))
    }
}

fn is_space(line: &mut Line) -> Result<Action> {
    let space = line.space();
    line.map1(move |a: u64| resolve(Space::Generic, a).0 == space)
}

/// What `setp` and `set` compare by.
pub(super) const COMPARISONS: [&str; 18] = [
    "eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu",
    "geu", "num", "nan",
];

/// Comparison of types and what it gives for values that are not ordered.
pub(super) fn relation<T: PartialOrd>(name: &str) -> Option<fn(T, T) -> bool> {
    fn unordered<T: PartialOrd>(a: &T, b: &T) -> bool {
        a.partial_cmp(b).is_none()
    }
    Some(match name {
        "eq" => |a, b| a == b,
        "ne" => |a, b| a != b && !unordered(&a, &b),
        "lt" | "lo" => |a, b| a < b,
        "le" | "ls" => |a, b| a <= b,
        "gt" | "hi" => |a, b| a > b,
        "ge" | "hs" => |a, b| a >= b,
        "equ" => |a, b| a == b || unordered(&a, &b),
        "neu" => |a, b| a != b,
        "ltu" => |a, b| a < b || unordered(&a, &b),
        "leu" => |a, b| a <= b || unordered(&a, &b),
        "gtu" => |a, b| a > b || unordered(&a, &b),
        "geu" => |a, b| a >= b || unordered(&a, &b),
        "num" => |a, b| !unordered(&a, &b),
        "nan" => |a, b| unordered(&a, &b),
        _ => return None,
    })
}

/// What becomes of the lanes in which a comparison holds.
#[derive(Clone, Copy)]
struct Outcome {
    /// Combined with a predicate, by which operation and whether that is negated.
    with: Option<(&'static str, usize, bool)>,
    to: Target,
}

#[derive(Clone, Copy)]
enum Target {
    /// A predicate, and one for the opposite.
    Predicate(usize, Option<usize>),
    /// A word, and what stands for true.
    Word(usize, u32),
}

impl Outcome {
    #[inline(always)]
    fn put(self, registers: &mut Registers, holds: u32, mask: u32) {
        let combined = |holds: u32| match self.with {
            None => holds,
            Some((operation, with, negated)) => {
                let with = registers.predicates[with] ^ if negated { u32::MAX } else { 0 };
                match operation {
                    "and" => holds & with,
                    "or" => holds | with,
                    _ => holds ^ with,
                }
            }
        };
        let (first, second) = (combined(holds), combined(!holds));
        match self.to {
            Target::Predicate(d, other) => {
                registers.set_predicate(d, first, mask);
                if let Some(other) = other {
                    registers.set_predicate(other, second, mask);
                }
            }
            Target::Word(d, one) => {
                let out = std::array::from_fn(|lane| if first >> lane & 1 == 1 { one } else { 0 });
                u32::set(registers, d, out, mask);
            }
        }
    }
}

#[inline(always)]
fn greater<T: PartialOrd>(a: T, b: T) -> bool {
    a > b
}

fn test<T: Lane + PartialOrd>(
    line: &mut Line,
    name: &str,
    flush: Option<fn(T) -> T>,
    outcome: Outcome,
) -> Result<Action> {
    let Some(holds) = relation::<T>(name) else {
        return line.unknown();
    };
    let (a, b) = (line.source::<T>(1)?, line.source::<T>(2)?);
    // the common ones are loops of their own, which the compiler makes wide
    fn loop_of<T: Lane>(
        a: usize,
        b: usize,
        outcome: Outcome,
        holds: impl Fn(T, T) -> bool + Send + Sync + 'static,
    ) -> Action {
        compute(
            #[inline(always)]
            move |registers, mask| {
                let (a, b) = (T::get(registers, a), T::get(registers, b));
                let mut flags = [0; LANES];
                for lane in 0..LANES {
                    flags[lane] = u8::from(holds(a[lane], b[lane]));
                }
                outcome.put(registers, lanes_of(&flags), mask);
            },
        )
    }
    if let Some(flush) = flush {
        return Ok(loop_of::<T>(a, b, outcome, move |a, b| {
            holds(flush(a), flush(b))
        }));
    }
    Ok(match name {
        "eq" => loop_of::<T>(a, b, outcome, |a, b| a == b),
        "lt" | "lo" => loop_of::<T>(a, b, outcome, |a, b| a < b),
        "le" | "ls" => loop_of::<T>(a, b, outcome, |a, b| a <= b),
        "gt" | "hi" => loop_of::<T>(a, b, outcome, |a, b| a > b),
        "ge" | "hs" => loop_of::<T>(a, b, outcome, |a, b| a >= b),
        // the opposites hold if one is no number, too
        "leu" => loop_of::<T>(a, b, outcome, |a, b| !greater(a, b)),
        "geu" => loop_of::<T>(a, b, outcome, |a, b| !greater(b, a)),
        _ => loop_of::<T>(a, b, outcome, holds),
    })
}

fn compare(line: &mut Line, to_predicate: bool) -> Result<Action> {
    let types = line.types();
    let (result, ty) = match types[..] {
        [ty] if to_predicate => (Type::Pred, ty),
        [result, ty] if !to_predicate => (result, ty),
        _ => return line.error("the types of a comparison are not known"),
    };
    let flush = line.take("ftz");
    let Some(name) = line.take_one(&COMPARISONS) else {
        return line.unknown();
    };
    let combine = line.take_one(&["and", "or", "xor"]);
    let operands = if combine.is_some() { 4 } else { 3 };
    line.finish(operands..=operands)?;
    let float = matches!(ty, Type::F16 | Type::BF16 | Type::F32 | Type::F64);
    if !float && name.len() == 3 || flush && ty != Type::F32 {
        return line.unknown();
    }
    let with = match combine {
        None => None,
        Some(operation) => {
            let (with, negated) = line.predicate(3)?;
            Some((operation, with, negated))
        }
    };
    let to = match (line.operand(0)?, result) {
        (Operand::Pair(d, other), Type::Pred) => Target::Predicate(
            line.dest_of(d, Bank::Predicate, 1)?,
            Some(line.dest_of(other, Bank::Predicate, 1)?),
        ),
        (d, Type::Pred) => Target::Predicate(line.dest_of(d, Bank::Predicate, 1)?, None),
        (_, Type::F32) => Target::Word(line.dest::<u32>(0)?, 1f32.to_bits()),
        (_, Type::F16) => Target::Word(line.dest::<u16>(0)?, f16::ONE.to_bits().into()),
        (_, Type::BF16) => Target::Word(line.dest::<u16>(0)?, bf16::ONE.to_bits().into()),
        (_, Type::U(16) | Type::S(16)) => Target::Word(line.dest::<u16>(0)?, u16::MAX.into()),
        (_, Type::U(32) | Type::S(32)) => Target::Word(line.dest::<u32>(0)?, u32::MAX),
        _ => return line.unknown(),
    };
    let outcome = Outcome { with, to };
    match ty {
        Type::S(16) => test::<i16>(line, name, None, outcome),
        Type::U(16) | Type::B(16) => test::<u16>(line, name, None, outcome),
        Type::S(32) => test::<i32>(line, name, None, outcome),
        Type::U(32) | Type::B(32) => test::<u32>(line, name, None, outcome),
        Type::S(64) => test::<i64>(line, name, None, outcome),
        Type::U(64) | Type::B(64) => test::<u64>(line, name, None, outcome),
        Type::F16 => test::<f16>(line, name, None, outcome),
        Type::BF16 => test::<bf16>(line, name, None, outcome),
        Type::F32 => {
            let flush = flush.then_some(super::float::flush as fn(f32) -> f32);
            test::<f32>(line, name, flush, outcome)
        }
        Type::F64 => test::<f64>(line, name, None, outcome),
        _ => line.unknown(),
    }
}

fn select<T: Lane>(line: &mut Line) -> Result<Action> {
    line.finish(4..=4)?;
    let (d, a, b) = (
        line.dest::<T>(0)?,
        line.source::<T>(1)?,
        line.source::<T>(2)?,
    );
    let (p, negated) = line.predicate(3)?;
    Ok(compute(
        #[inline(always)]
        move |registers, mask| {
            let (a, b) = (T::get(registers, a), T::get(registers, b));
            let chosen = registers.predicates[p] ^ if negated { u32::MAX } else { 0 };
            let mut out = [T::default(); LANES];
            for lane in 0..LANES {
                let first = chosen >> lane & 1 == 1;
                out[lane] = if first { a[lane] } else { b[lane] };
            }
            T::set(registers, d, out, mask);
        },
    ))
}

fn slct(line: &mut Line) -> Result<Action> {
    line.take("ftz");
    let [ty, by] = line.types()[..] else {
        return line.error("two types expected");
    };
    match (ty.bits(), by) {
        (32, Type::S(32)) => line.map3(|a: u32, b: u32, c: i32| if c >= 0 { a } else { b }),
        (64, Type::S(32)) => line.map3(|a: u64, b: u64, c: i32| if c >= 0 { a } else { b }),
        (32, Type::F32) => line.map3(|a: u32, b: u32, c: f32| if c >= 0.0 { a } else { b }),
        (64, Type::F32) => line.map3(|a: u64, b: u64, c: f32| if c >= 0.0 { a } else { b }),
        _ => line.unknown(),
    }
}
