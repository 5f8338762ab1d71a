//! `cvt`: between whole numbers, between floating-point formats, and from one to the other.

use half::{bf16, f16};

use super::float::{flush, saturate, saturate_wide};
use super::line::{Line, compute};
use super::rounding::{self, Rounding};
use crate::counters::Class;
use crate::error::Result;
use crate::exec::registers::{Bank, LANES, Lane, Registers, Row};
use crate::program::Action;
use crate::types::Type;

pub(super) fn decode(line: &mut Line) -> Result<Option<(Action, Class)>> {
    if line.name != "cvt" {
        return Ok(None);
    }
    Ok(Some((cvt(line)?, Class::Convert)))
}

#[derive(Clone, Copy)]
struct How {
    rounding: Option<Rounding>,
    saturate: bool,
    flush: bool,
    relu: bool,
}

fn is_float(ty: Type) -> bool {
    matches!(
        ty,
        Type::F16 | Type::BF16 | Type::TF32 | Type::F32 | Type::F64
    )
}

fn cvt(line: &mut Line) -> Result<Action> {
    if let Some(action) = super::fp8::convert(line)? {
        return Ok(action);
    }
    let [to, from] = line.types()[..] else {
        return line.error("two types expected");
    };
    let how = How {
        rounding: line.rounding(),
        saturate: line.take("sat"),
        flush: line.take("ftz"),
        relu: line.take("relu"),
    };
    if matches!(to, Type::F16x2 | Type::BF16x2) {
        return pack(line, to, from, how);
    }
    line.finish(2..=2)?;
    let whole = |ty: Type| matches!(ty, Type::U(_) | Type::S(_));
    match (is_float(from), is_float(to)) {
        (false, false)
            if whole(from) && whole(to) && how.rounding.is_none() && !how.flush && !how.relu =>
        {
            whole_to_whole(line, to, from, how.saturate)
        }
        (false, true) if whole(from) && how.rounding.is_some() && !how.relu => {
            whole_to_float(line, to, from, how)
        }
        (true, false) if whole(to) && how.rounding.is_some() && !how.relu => {
            float_to_whole(line, to, from, how.rounding.expect("checked"), how.flush)
        }
        (true, true) => float_to_float(line, to, from, how),
        _ => line.unknown(),
    }
}

/// Bits of the sources, whatever their bank: a register may be wider than the type.
fn source(line: &mut Line, ty: Type) -> Result<(Bank, usize)> {
    let operand = line.operand(1)?;
    let bank = match line.register(operand) {
        Ok(register) => register.bank,
        Err(_) if ty.bits() == 64 => Bank::Double,
        Err(_) => Bank::Word,
    };
    if bank == Bank::Predicate || (bank == Bank::Word && ty.bits() == 64) {
        return line.unknown();
    }
    // the register's own width is checked against the narrower of the two
    let bits = if bank == Bank::Double {
        64
    } else {
        ty.bits().min(16)
    };
    Ok((bank, line.source_of(operand, bank, bits)?))
}

fn dest(line: &mut Line, ty: Type) -> Result<(Bank, usize, u8)> {
    let register = line.register(line.operand(0)?)?;
    if register.bank == Bank::Predicate || register.bits < ty.bits() {
        return line.unknown();
    }
    Ok((register.bank, register.slot, register.bits))
}

fn read(registers: &Registers, (bank, slot): (Bank, usize)) -> Row<u64> {
    match bank {
        Bank::Double => registers.doubles[slot],
        _ => registers.words[slot].map(u64::from),
    }
}

fn write(registers: &mut Registers, (bank, slot): (Bank, usize), values: Row<u64>, mask: u32) {
    match bank {
        Bank::Double => u64::set(registers, slot, values, mask),
        _ => u32::set(registers, slot, values.map(|v| v as u32), mask),
    }
}

/// Converts bits to bits, lane by lane, for operands of any bank.
fn map(
    line: &mut Line,
    to: Type,
    from: Type,
    f: impl Fn(u64) -> u64 + Send + Sync + 'static,
) -> Result<Action> {
    let a = source(line, from)?;
    let (bank, slot, bits) = dest(line, to)?;
    // a result narrower than its register is extended with its sign
    let extend = move |v: u64| {
        let v = if to.is_signed() {
            sign_extend(v, to.bits())
        } else {
            v
        };
        if bits < 32 { v & ((1 << bits) - 1) } else { v }
    };
    Ok(compute(move |registers, mask| {
        let a = read(registers, a);
        let mut out = [0; LANES];
        for lane in 0..LANES {
            out[lane] = extend(f(a[lane]));
        }
        write(registers, (bank, slot), out, mask);
    }))
}

pub(crate) fn sign_extend(v: u64, bits: u8) -> u64 {
    let unused = 64 - u32::from(bits);
    ((v << unused) as i64 >> unused) as u64
}

fn zero_extend(v: u64, bits: u8) -> u64 {
    let unused = 64 - u32::from(bits);
    v << unused >> unused
}

/// The value of bits of a type, wide enough for all of them.
fn whole(v: u64, ty: Type) -> i128 {
    if ty.is_signed() {
        i128::from(sign_extend(v, ty.bits()) as i64)
    } else {
        i128::from(zero_extend(v, ty.bits()))
    }
}

fn range(ty: Type) -> (i128, i128) {
    let bits = u32::from(ty.bits());
    if ty.is_signed() {
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        (0, (1 << bits) - 1)
    }
}

fn whole_to_whole(line: &mut Line, to: Type, from: Type, saturates: bool) -> Result<Action> {
    if saturates {
        let (low, high) = range(to);
        return map(line, to, from, move |v| {
            zero_extend(whole(v, from).clamp(low, high) as u64, to.bits())
        });
    }
    let (signed, bits, to_bits) = (from.is_signed(), from.bits(), to.bits());
    if signed {
        map(line, to, from, move |v| {
            zero_extend(sign_extend(v, bits), to_bits)
        })
    } else {
        let bits = bits.min(to_bits);
        map(line, to, from, move |v| zero_extend(v, bits))
    }
}

fn whole_to_float(line: &mut Line, to: Type, from: Type, how: How) -> Result<Action> {
    let rounding = how.rounding.expect("checked by the caller");
    if (how.saturate || how.flush) && to != Type::F32 {
        return line.unknown();
    }
    match (to, from) {
        (Type::F32, Type::S(32)) if rounding == Rounding::Nearest && !how.saturate => {
            line.map1(|a: i32| a as f32)
        }
        (Type::F32, Type::U(32)) if rounding == Rounding::Nearest && !how.saturate => {
            line.map1(|a: u32| a as f32)
        }
        (Type::F32 | Type::F16 | Type::BF16, _) => map(line, to, from, move |v| {
            let exact = whole(v, from);
            let bits = u64::from(round_exact(exact, to, rounding));
            if how.saturate {
                u64::from(saturate(f32::from_bits(bits as u32)).to_bits())
            } else {
                bits
            }
        }),
        (Type::F64, _) => map(line, to, from, move |v| {
            let exact = whole(v, from);
            let nearest = exact as f64;
            let residual = (exact - nearest as i128) as f64;
            let rounded = match rounding {
                Rounding::Down if residual < 0.0 => nearest.next_down(),
                Rounding::Up if residual > 0.0 => nearest.next_up(),
                Rounding::Zero if residual * nearest < 0.0 => {
                    if nearest > 0.0 {
                        nearest.next_down()
                    } else {
                        nearest.next_up()
                    }
                }
                _ => nearest,
            };
            rounded.to_bits()
        }),
        _ => line.unknown(),
    }
}

/// A whole number rounded once: f64 holds its upper bits, and the rest as a last bit that is never dropped silently.
fn round_exact(exact: i128, to: Type, rounding: Rounding) -> u32 {
    let magnitude = exact.unsigned_abs();
    let extra = (128 - magnitude.leading_zeros()).saturating_sub(50);
    let sticky = u128::from(magnitude & ((1 << extra) - 1) != 0);
    let held = ((magnitude >> extra << 1) | sticky) as f64 * 2f64.powi(extra as i32 - 1);
    let x = if exact < 0 { -held } else { held };
    let format = match to {
        Type::F16 => rounding::F16,
        Type::BF16 => rounding::BF16,
        _ => rounding::F32,
    };
    rounding::round(x, format, rounding)
}

fn value(bits: u64, ty: Type) -> f64 {
    match ty {
        Type::F16 => f64::from(f16::from_bits(bits as u16).to_f32()),
        Type::BF16 => f64::from(bf16::from_bits(bits as u16).to_f32()),
        Type::F64 => f64::from_bits(bits),
        _ => f64::from(f32::from_bits(bits as u32)),
    }
}

fn round_whole(x: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::Nearest => x.round_ties_even(),
        Rounding::Away => x.round(),
        Rounding::Zero => x.trunc(),
        Rounding::Down => x.floor(),
        Rounding::Up => x.ceil(),
    }
}

fn float_to_whole(
    line: &mut Line,
    to: Type,
    from: Type,
    rounding: Rounding,
    flushes: bool,
) -> Result<Action> {
    if from == Type::TF32 || flushes && from != Type::F32 {
        return line.unknown();
    }
    let (low, high) = range(to);
    // what is not a number: 0, or only the top bit set where 64 bits are involved
    let nan = if from == Type::F64 || to.bits() == 64 {
        1u64 << (to.bits() - 1)
    } else {
        0
    };
    map(line, to, from, move |bits| {
        let mut x = value(bits, from);
        if x.is_nan() {
            return nan;
        }
        if flushes {
            x = f64::from(flush(x as f32));
        }
        // `as` saturates at the ends of i128
        let whole = round_whole(x, rounding) as i128;
        zero_extend(whole.clamp(low, high) as u64, to.bits())
    })
}

fn float_to_float(line: &mut Line, to: Type, from: Type, how: How) -> Result<Action> {
    let How { rounding, .. } = how;
    let narrows = to.bits() < from.bits() || to == Type::TF32 || (to.bits() == 16 && to != from);
    if narrows && rounding.is_none()
        || how.relu && !matches!(to, Type::F16 | Type::BF16 | Type::TF32)
    {
        return line.unknown();
    }
    // between formats of the same size a rounding means: to a whole number
    let whole = !narrows && to == from;
    if !narrows && !whole && rounding.is_some() {
        return line.unknown();
    }
    let rounding = rounding.unwrap_or(Rounding::Nearest);
    match (to, from) {
        (Type::BF16, Type::F32) if rounding == Rounding::Nearest && !how.relu && !how.saturate => {
            return line.map1(|a: f32| rounding::bf16_nearest(a));
        }
        (Type::TF32, Type::F32)
            if matches!(rounding, Rounding::Nearest | Rounding::Away)
                && !how.relu
                && !how.saturate
                && !how.flush =>
        {
            let away = rounding == Rounding::Away;
            return line.map1(move |a: f32| rounding::tf32_nearest(a, away));
        }
        (Type::F32, Type::BF16) if !how.saturate && !how.flush => {
            return line.map1(|a: u16| f32::from_bits(u32::from(a) << 16));
        }
        (Type::F32, Type::F16) if !how.saturate && !how.flush => {
            return line.map1(|a: f16| {
                let wide = a.to_f32();
                if wide.is_nan() {
                    f32::from_bits(0x7fff_ffff)
                } else {
                    wide
                }
            });
        }
        (
            Type::F16 | Type::BF16 | Type::TF32 | Type::F32 | Type::F64,
            Type::F16 | Type::BF16 | Type::F32 | Type::F64,
        ) => {}
        _ => return line.unknown(),
    }
    map(line, to, from, move |bits| {
        let mut x = value(bits, from);
        if how.flush && from == Type::F32 {
            x = f64::from(flush(x as f32));
        }
        if whole && how.rounding.is_some() {
            x = round_whole(x, rounding);
        }
        if how.saturate {
            x = saturate_wide(x);
        }
        if how.relu && x < 0.0 {
            x = 0.0;
        }
        let out = encode(x, to, rounding);
        if how.flush && to == Type::F32 {
            u64::from(flush(f32::from_bits(out as u32)).to_bits())
        } else {
            out
        }
    })
}

fn encode(x: f64, to: Type, rounding: Rounding) -> u64 {
    let bits = match to {
        Type::F64 => return x.to_bits(),
        Type::F16 => rounding::round(x, rounding::F16, rounding),
        Type::BF16 => rounding::round(x, rounding::BF16, rounding),
        Type::TF32 => rounding::round(x, rounding::TF32, rounding) << 13,
        _ => rounding::round(x, rounding::F32, rounding),
    };
    u64::from(bits)
}

/// `cvt.rn.bf16x2.f32 d, a, b`: a to the upper half, b to the lower.
fn pack(line: &mut Line, to: Type, from: Type, how: How) -> Result<Action> {
    let Some(rounding) = how.rounding else {
        return line.unknown();
    };
    if from != Type::F32 || how.flush || !matches!(rounding, Rounding::Nearest | Rounding::Zero) {
        return line.unknown();
    }
    if to == Type::BF16x2 && rounding == Rounding::Nearest && !how.relu && !how.saturate {
        return line.map2(|a: f32, b: f32| {
            u32::from(rounding::bf16_nearest(a)) << 16 | u32::from(rounding::bf16_nearest(b))
        });
    }
    let format = if to == Type::F16x2 {
        Type::F16
    } else {
        Type::BF16
    };
    let half = move |x: f32| {
        let x = f64::from(x);
        let x = if how.relu && x < 0.0 { 0.0 } else { x };
        let x = if how.saturate { saturate_wide(x) } else { x };
        encode(x, format, rounding) as u32
    };
    line.map2(move |a: f32, b: f32| half(a) << 16 | half(b))
}
