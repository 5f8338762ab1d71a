//! Arithmetic of f16 and bf16, alone and in pairs. Everything is computed in f64 and rounded once.

use half::{bf16, f16};

use super::float::saturate_wide;
use super::line::{Half, Line, compute};
use super::moves::{COMPARISONS, relation};
use super::rounding::{self, Rounding};
use crate::counters::Class;
use crate::error::Result;
use crate::exec::registers::{Bank, Lane};
use crate::program::Action;
use crate::text::ast::Operand;
use crate::types::Type;

pub(super) fn decode(line: &mut Line) -> Result<Option<(Action, Class)>> {
    let known = [
        "add", "sub", "mul", "fma", "min", "max", "abs", "neg", "ex2", "tanh", "setp", "set",
    ];
    if !known.contains(&line.name) {
        return Ok(None);
    }
    let ty = line.peek_type();
    let action = match (line.name, ty) {
        ("setp" | "set", Some(Type::F16x2)) => {
            return Ok(Some((compare::<f16>(line)?, Class::Move)));
        }
        ("setp" | "set", Some(Type::BF16x2)) => {
            return Ok(Some((compare::<bf16>(line)?, Class::Move)));
        }
        ("setp" | "set", _) => return Ok(None),
        (_, Some(Type::F16)) => one::<f16>(line)?,
        (_, Some(Type::BF16)) => one::<bf16>(line)?,
        (_, Some(Type::F16x2)) => pair::<f16>(line)?,
        (_, Some(Type::BF16x2)) => pair::<bf16>(line)?,
        _ => return Ok(None),
    };
    Ok(Some((action, Class::Half)))
}

/// The function of an instruction on exact values, rounded once; None stands for another form.
type Function<T> = Box<dyn Fn([T; 3]) -> T + Send + Sync>;

fn function<T: Half>(line: &mut Line) -> Result<(Function<T>, usize)> {
    line.ty()?;
    line.take("rn");
    let flush = line.take("ftz");
    let relu = line.take("relu");
    let saturate = line.take("sat");
    let nan = line.take("NaN");
    let approximate = line.take("approx");
    let known = match line.name {
        "add" | "sub" | "mul" => !relu && !nan && !approximate,
        "fma" => !nan && !approximate,
        "min" | "max" => !relu && !saturate && !approximate,
        "abs" | "neg" => !relu && !saturate && !nan && !approximate,
        _ => approximate && !relu && !saturate && !nan,
    };
    if !known {
        return line.unknown();
    }
    let bits = if T::from_bits(0x3c00).to_f64() == 1.0 {
        14
    } else {
        126
    };
    let smallest = 2f64.powi(-bits);
    let before = move |x: T| {
        let x = x.to_f64();
        if flush && x.abs() < smallest {
            0f64.copysign(x)
        } else {
            x
        }
    };
    let after = move |x: f64| {
        let x = if flush && T::round(x).to_f64().abs() < smallest {
            0f64.copysign(x)
        } else {
            x
        };
        let x = if saturate { saturate_wide(x) } else { x };
        // what is not a number stays so
        let x = if relu && x < 0.0 { 0.0 } else { x };
        T::round(x)
    };
    let sign = 1u64 << (T::BITS - 1);
    let function: Function<T> = match line.name {
        "add" => Box::new(move |[a, b, _]| after(rounding::add(before(a), before(b)))),
        "sub" => Box::new(move |[a, b, _]| after(rounding::add(before(a), -before(b)))),
        "mul" => Box::new(move |[a, b, _]| after(before(a) * before(b))),
        "fma" => Box::new(move |[a, b, c]| {
            after(rounding::fma(
                before(a),
                before(b),
                before(c),
                Rounding::Nearest,
            ))
        }),
        "min" | "max" => {
            let less = line.name == "min";
            Box::new(move |[a, b, _]| {
                let (x, y) = (before(a), before(b));
                if nan && (x.is_nan() || y.is_nan()) {
                    return after(f64::NAN);
                }
                let x_less = if x == y { x.is_sign_negative() } else { x < y };
                after(if x.is_nan() || (!y.is_nan() && x_less != less) {
                    y
                } else {
                    x
                })
            })
        }
        "abs" => Box::new(move |[a, ..]| T::from_bits(a.bits() & !sign)),
        "neg" => Box::new(move |[a, ..]| T::from_bits(a.bits() ^ sign)),
        "ex2" => Box::new(move |[a, ..]| after(before(a).exp2())),
        _ => Box::new(move |[a, ..]| after(before(a).tanh())),
    };
    let sources = match line.name {
        "fma" => 3,
        "add" | "sub" | "mul" | "min" | "max" => 2,
        _ => 1,
    };
    line.finish(sources + 1..=sources + 1)?;
    Ok((function, sources))
}

/// Slots of destination and sources; a missing source repeats the first.
fn slots<T: Lane>(line: &mut Line, sources: usize) -> Result<[usize; 4]> {
    let mut slots = [0; 4];
    slots[0] = line.dest::<T>(0)?;
    for at in 1..4 {
        slots[at] = if at <= sources {
            line.source::<T>(at)?
        } else {
            slots[1]
        };
    }
    Ok(slots)
}

fn one<T: Half>(line: &mut Line) -> Result<Action> {
    let (f, sources) = function::<T>(line)?;
    let [d, a, b, c] = slots::<T>(line, sources)?;
    Ok(compute(move |registers, mask| {
        let (a, b) = (T::get(registers, a), T::get(registers, b));
        let c = T::get(registers, c);
        let out = std::array::from_fn(|lane| f([a[lane], b[lane], c[lane]]));
        T::set(registers, d, out, mask);
    }))
}

fn pair<T: Half>(line: &mut Line) -> Result<Action> {
    let (f, sources) = function::<T>(line)?;
    let [d, a, b, c] = slots::<u32>(line, sources)?;
    let half = |word: u32, at: u32| T::from_bits(u64::from(word >> (16 * at) & 0xffff));
    Ok(compute(move |registers, mask| {
        let (a, b) = (u32::get(registers, a), u32::get(registers, b));
        let c = u32::get(registers, c);
        let out = std::array::from_fn(|lane| {
            let f = |at| f([half(a[lane], at), half(b[lane], at), half(c[lane], at)]).bits() as u32;
            f(0) | f(1) << 16
        });
        u32::set(registers, d, out, mask);
    }))
}

/// Comparisons of pairs: `setp` gives two predicates, `set` a pair of ones or of masks.
fn compare<T: Half + PartialOrd>(line: &mut Line) -> Result<Action> {
    let types = line.types();
    let Some(name) = line.take_one(&COMPARISONS) else {
        return line.unknown();
    };
    let holds = relation::<T>(name).expect("a comparison that is known");
    let half = |word: u32, at: u32| T::from_bits(u64::from(word >> (16 * at) & 0xffff));
    line.finish(3..=3)?;
    let (a, b) = (line.source::<u32>(1)?, line.source::<u32>(2)?);
    let test = move |a: u32, b: u32, at: u32| holds(half(a, at), half(b, at));
    if line.name == "setp" {
        let (Operand::Pair(p, q), [_]) = (line.operand(0)?, &types[..]) else {
            return line.unknown();
        };
        let (p, q) = (
            line.dest_of(p, Bank::Predicate, 1)?,
            line.dest_of(q, Bank::Predicate, 1)?,
        );
        return Ok(compute(move |registers, mask| {
            let (a, b) = (u32::get(registers, a), u32::get(registers, b));
            for (at, slot) in [(0, p), (1, q)] {
                let out = std::array::from_fn(|lane| test(a[lane], b[lane], at));
                bool::set(registers, slot, out, mask);
            }
        }));
    }
    let one = match types[..] {
        [Type::U(32) | Type::S(32), _] => 0xffff,
        [result, ty] if result == ty => T::round(1.0).bits() as u32,
        _ => return line.unknown(),
    };
    let d = line.dest::<u32>(0)?;
    Ok(compute(move |registers, mask| {
        let (a, b) = (u32::get(registers, a), u32::get(registers, b));
        let out = std::array::from_fn(|lane| {
            let half = |at| if test(a[lane], b[lane], at) { one } else { 0 };
            half(0) | half(1) << 16
        });
        u32::set(registers, d, out, mask);
    }))
}
