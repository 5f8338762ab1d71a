//! Logic, shifts and bit fields.

use num_traits::PrimInt;

use super::line::{Line, compute};
use crate::counters::Class;
use crate::error::Result;
use crate::exec::registers::Lane;
use crate::program::Action;
use crate::types::Type;

pub(super) fn decode(line: &mut Line) -> Result<Option<(Action, Class)>> {
    let action = match line.name {
        "and" | "or" | "xor" | "not" | "cnot" | "shl" | "shr" => match line.ty()? {
            Type::Pred => predicates(line)?,
            Type::B(16) | Type::U(16) => logic::<u16>(line)?,
            Type::B(32) | Type::U(32) => logic::<u32>(line)?,
            Type::B(64) | Type::U(64) => logic::<u64>(line)?,
            // only the shift to the right sees the sign
            Type::S(16) => logic::<i16>(line)?,
            Type::S(32) => logic::<i32>(line)?,
            Type::S(64) => logic::<i64>(line)?,
            _ => return line.unknown(),
        },
        "lop3" => lop3(line)?,
        "shf" => funnel(line)?,
        "prmt" => permute(line)?,
        "popc" | "clz" | "brev" | "bfind" => count(line)?,
        "bfe" | "bfi" | "bmsk" | "szext" => field(line)?,
        _ => return Ok(None),
    };
    Ok(Some((action, Class::Integer)))
}

fn predicates(line: &mut Line) -> Result<Action> {
    let unary = line.name == "not";
    line.finish(if unary { 2..=2 } else { 3..=3 })?;
    let (d, a) = (line.dest::<bool>(0)?, line.source::<bool>(1)?);
    let b = if unary { a } else { line.source::<bool>(2)? };
    let f: fn(u32, u32) -> u32 = match line.name {
        "and" => |a, b| a & b,
        "or" => |a, b| a | b,
        "xor" => |a, b| a ^ b,
        "not" => |a, _| !a,
        _ => return line.unknown(),
    };
    Ok(compute(move |registers, mask| {
        let bits = f(registers.predicates[a], registers.predicates[b]);
        registers.set_predicate(d, bits, mask);
    }))
}

fn logic<T: Lane + PrimInt>(line: &mut Line) -> Result<Action> {
    let bits = u32::from(T::BITS);
    match line.name {
        "and" => line.map2(|a: T, b: T| a & b),
        "or" => line.map2(|a: T, b: T| a | b),
        "xor" => line.map2(|a: T, b: T| a ^ b),
        "not" => line.map1(|a: T| !a),
        "cnot" => line.map1(|a: T| if a.is_zero() { T::one() } else { T::zero() }),
        "shl" => line.map2(move |a: T, by: u32| {
            if by >= bits {
                T::zero()
            } else {
                a << by as usize
            }
        }),
        _ => line.map2(move |a: T, by: u32| {
            if by >= bits {
                // zero, or all signs
                a >> (bits - 1) as usize >> 1
            } else {
                a >> by as usize
            }
        }),
    }
}

fn lop3(line: &mut Line) -> Result<Action> {
    line.take("b32");
    line.finish(5..=5)?;
    let (d, a) = (line.dest::<u32>(0)?, line.source::<u32>(1)?);
    let (b, c) = (line.source::<u32>(2)?, line.source::<u32>(3)?);
    let table = line.constant(4)? as u32;
    Ok(compute(move |registers, mask| {
        let (a, b) = (u32::get(registers, a), u32::get(registers, b));
        let c = u32::get(registers, c);
        let mut out = [0; 32];
        for term in (0..8).filter(|term| table >> term & 1 == 1) {
            for lane in 0..32 {
                let a = if term & 4 != 0 { a[lane] } else { !a[lane] };
                let b = if term & 2 != 0 { b[lane] } else { !b[lane] };
                let c = if term & 1 != 0 { c[lane] } else { !c[lane] };
                out[lane] |= a & b & c;
            }
        }
        u32::set(registers, d, out, mask);
    }))
}

fn funnel(line: &mut Line) -> Result<Action> {
    line.take("b32");
    let (left, wrap) = (line.take("l"), line.take("wrap"));
    if !left && !line.take("r") || !wrap && !line.take("clamp") {
        return line.unknown();
    }
    line.map3(move |low: u32, high: u32, by: u32| {
        let by = if wrap { by & 31 } else { by.min(32) };
        let both = u64::from(high) << 32 | u64::from(low);
        if left {
            (both << by >> 32) as u32
        } else {
            (both >> by) as u32
        }
    })
}

fn permute(line: &mut Line) -> Result<Action> {
    line.take("b32");
    let mode = line.take_one(&["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"]);
    line.map3(move |a: u32, b: u32, selector: u32| {
        let bytes = (u64::from(b) << 32 | u64::from(a)).to_le_bytes();
        let s = selector as usize & 3;
        let pick: [usize; 4] = match mode {
            None => std::array::from_fn(|i| selector as usize >> (4 * i) & 15),
            Some("f4e") => std::array::from_fn(|i| s + i),
            Some("b4e") => std::array::from_fn(|i| (8 + s - i) & 7),
            Some("rc8") => [s; 4],
            Some("ecl") => std::array::from_fn(|i| i.max(s)),
            Some("ecr") => std::array::from_fn(|i| i.min(s)),
            Some(_) => std::array::from_fn(|i| 2 * (s & 1) + (i & 1)),
        };
        u32::from_le_bytes(pick.map(|p| {
            let byte = bytes[p & 7];
            if p & 8 == 0 {
                byte
            } else {
                (byte as i8 >> 7) as u8
            }
        }))
    })
}

fn count(line: &mut Line) -> Result<Action> {
    let ty = line.ty()?;
    match (line.name, ty) {
        ("popc", Type::B(32)) => line.map1(|a: u32| a.count_ones()),
        ("popc", Type::B(64)) => line.map1(|a: u64| a.count_ones()),
        ("clz", Type::B(32)) => line.map1(|a: u32| a.leading_zeros()),
        ("clz", Type::B(64)) => line.map1(|a: u64| a.leading_zeros()),
        ("brev", Type::B(32)) => line.map1(|a: u32| a.reverse_bits()),
        ("brev", Type::B(64)) => line.map1(|a: u64| a.reverse_bits()),
        ("bfind", ty) => {
            let shift = line.take("shiftamt");
            // position of the highest bit that differs from the sign, or the distance to the top
            let found = move |zeros: u32, bits: u32| {
                if zeros == bits {
                    u32::MAX
                } else if shift {
                    zeros
                } else {
                    bits - 1 - zeros
                }
            };
            match ty {
                Type::U(32) => line.map1(move |a: u32| found(a.leading_zeros(), 32)),
                Type::S(32) => line.map1(move |a: i32| found((a ^ a >> 31).leading_zeros(), 32)),
                Type::U(64) => line.map1(move |a: u64| found(a.leading_zeros(), 64)),
                Type::S(64) => line.map1(move |a: i64| found((a ^ a >> 63).leading_zeros(), 64)),
                _ => line.unknown(),
            }
        }
        _ => line.unknown(),
    }
}

/// `length` bits from `start`, extended with the field's top bit (of the word's, where the field is beyond it).
fn extract(a: u64, start: u32, length: u32, bits: u32, signed: bool) -> u64 {
    let (start, length) = (start & 255, length & 255);
    if length == 0 {
        return 0;
    }
    let top = (start + length - 1).min(bits - 1);
    let sign = signed && a >> top & 1 == 1;
    let field = if start >= bits { 0 } else { a >> start };
    let kept = if length >= 64 {
        u64::MAX
    } else {
        (1 << length) - 1
    };
    let available = bits.saturating_sub(start);
    let extend = if length.min(available) >= 64 {
        0
    } else {
        u64::MAX << length.min(available)
    };
    (field & kept) | if sign { extend } else { 0 }
}

fn insert(a: u64, b: u64, start: u32, length: u32, bits: u32) -> u64 {
    let (start, length) = (start & 255, length & 255);
    if start >= bits || length == 0 {
        return b;
    }
    let kept = if length >= 64 {
        u64::MAX
    } else {
        (1 << length) - 1
    };
    let mask = kept << start;
    (b & !mask) | (a << start & mask)
}

fn field(line: &mut Line) -> Result<Action> {
    let ty = line.ty()?;
    match (line.name, ty) {
        ("bfe", Type::U(32) | Type::S(32)) => {
            let signed = ty.is_signed();
            line.map3(move |a: u32, start: u32, length: u32| {
                extract(u64::from(a), start, length, 32, signed) as u32
            })
        }
        ("bfe", Type::U(64) | Type::S(64)) => {
            let signed = ty.is_signed();
            line.map3(move |a: u64, start: u32, length: u32| extract(a, start, length, 64, signed))
        }
        ("bfi", Type::B(32)) => {
            line.finish(5..=5)?;
            let (d, a) = (line.dest::<u32>(0)?, line.source::<u32>(1)?);
            let (b, start) = (line.source::<u32>(2)?, line.source::<u32>(3)?);
            let length = line.source::<u32>(4)?;
            Ok(compute(move |registers, mask| {
                let (a, b) = (u32::get(registers, a), u32::get(registers, b));
                let (s, n) = (u32::get(registers, start), u32::get(registers, length));
                let out = std::array::from_fn(|i| {
                    insert(u64::from(a[i]), u64::from(b[i]), s[i], n[i], 32) as u32
                });
                u32::set(registers, d, out, mask);
            }))
        }
        ("bfi", Type::B(64)) => {
            line.finish(5..=5)?;
            let (d, a) = (line.dest::<u64>(0)?, line.source::<u64>(1)?);
            let (b, start) = (line.source::<u64>(2)?, line.source::<u32>(3)?);
            let length = line.source::<u32>(4)?;
            Ok(compute(move |registers, mask| {
                let (a, b) = (u64::get(registers, a), u64::get(registers, b));
                let (s, n) = (u32::get(registers, start), u32::get(registers, length));
                let out = std::array::from_fn(|i| insert(a[i], b[i], s[i], n[i], 64));
                u64::set(registers, d, out, mask);
            }))
        }
        ("bmsk", Type::B(32)) => {
            let clamp = line.take("clamp");
            if !clamp && !line.take("wrap") {
                return line.unknown();
            }
            line.map2(move |start: u32, length: u32| {
                let (start, length) = if clamp {
                    (start, length)
                } else {
                    (start & 31, length & 31)
                };
                if start >= 32 {
                    return 0;
                }
                (((1u64 << length.min(32)) - 1) << start) as u32
            })
        }
        ("szext", Type::U(32) | Type::S(32)) => {
            let (clamp, signed) = (line.take("clamp"), ty.is_signed());
            if !clamp && !line.take("wrap") {
                return line.unknown();
            }
            line.map2(move |a: u32, length: u32| {
                let length = if clamp { length.min(32) } else { length & 31 };
                extract(u64::from(a), 0, length, 32, signed) as u32
            })
        }
        _ => line.unknown(),
    }
}
