//! Arithmetic of whole numbers.

use num_traits::{
    AsPrimitive, CheckedDiv, CheckedRem, PrimInt, WrappingAdd, WrappingMul, WrappingSub,
};

use super::line::{Line, compute};
use crate::counters::Class;
use crate::error::Result;
use crate::exec::registers::{LANES, Lane};
use crate::program::Action;
use crate::types::Type;

trait Whole:
    Lane
    + PrimInt
    + WrappingAdd
    + WrappingSub
    + WrappingMul
    + CheckedDiv
    + CheckedRem
    + AsPrimitive<i128>
{
}

impl<T> Whole for T where
    T: Lane
        + PrimInt
        + WrappingAdd
        + WrappingSub
        + WrappingMul
        + CheckedDiv
        + CheckedRem
        + AsPrimitive<i128>
{
}

pub(super) fn decode(line: &mut Line) -> Result<Option<(Action, Class)>> {
    let names = [
        "add", "sub", "mul", "mad", "div", "rem", "min", "max", "abs", "neg", "sad", "mul24",
        "mad24", "addc", "subc", "madc", "dp4a", "dp2a",
    ];
    if !names.contains(&line.name) {
        return Ok(None);
    }
    let action = match line.name {
        "dp4a" | "dp2a" => dot(line)?,
        "addc" | "subc" | "madc" => carry(line)?,
        _ if line.has("cc") => carry(line)?,
        _ => match line.peek_type() {
            Some(Type::S(16)) => arithmetic::<i16>(line)?,
            Some(Type::U(16)) => arithmetic::<u16>(line)?,
            Some(Type::S(32)) => arithmetic::<i32>(line)?,
            Some(Type::U(32)) => arithmetic::<u32>(line)?,
            Some(Type::S(64)) => arithmetic::<i64>(line)?,
            Some(Type::U(64)) => arithmetic::<u64>(line)?,
            _ => return Ok(None),
        },
    };
    Ok(Some((action, Class::Integer)))
}

fn high<T: Whole>(a: T, b: T) -> T
where
    i128: AsPrimitive<T>,
{
    let (a, b): (i128, i128) = (a.as_(), b.as_());
    (a.wrapping_mul(b) >> T::BITS).as_()
}

fn arithmetic<T: Whole>(line: &mut Line) -> Result<Action>
where
    i128: AsPrimitive<T>,
{
    let ty = line.ty()?;
    let name = line.name;
    match name {
        "add" | "sub" if line.take("sat") => {
            if ty != Type::S(32) {
                return line.unknown();
            }
            if name == "add" {
                line.map2(|a: i32, b: i32| a.saturating_add(b))
            } else {
                line.map2(|a: i32, b: i32| a.saturating_sub(b))
            }
        }
        "add" => line.map2(|a: T, b: T| a.wrapping_add(&b)),
        "sub" => line.map2(|a: T, b: T| a.wrapping_sub(&b)),
        "mul" | "mad" if line.take("wide") => wide(line, ty),
        "mul" if line.take("lo") => line.map2(|a: T, b: T| a.wrapping_mul(&b)),
        "mul" if line.take("hi") => line.map2(high::<T>),
        "mad" if line.take("lo") => {
            line.map3(|a: T, b: T, c: T| a.wrapping_mul(&b).wrapping_add(&c))
        }
        "mad" if line.take("hi") => {
            if line.take("sat") {
                if ty != Type::S(32) {
                    return line.unknown();
                }
                return line.map3(|a: i32, b: i32, c: i32| {
                    (((i64::from(a) * i64::from(b)) >> 32) as i32).saturating_add(c)
                });
            }
            line.map3(|a: T, b: T, c: T| high(a, b).wrapping_add(&c))
        }
        "mul24" | "mad24" => multiply24(line, ty),
        // by zero: all bits set, and the dividend as remainder
        "div" => line.map2(|a: T, b: T| {
            if b.is_zero() {
                !T::zero()
            } else {
                a.checked_div(&b).unwrap_or(a)
            }
        }),
        "rem" => line.map2(|a: T, b: T| {
            if b.is_zero() {
                a
            } else {
                a.checked_rem(&b).unwrap_or(T::zero())
            }
        }),
        "min" => line.map2(|a: T, b: T| Ord::min(a, b)),
        "max" => line.map2(|a: T, b: T| Ord::max(a, b)),
        "abs" if ty.is_signed() => line.map1(|a: T| {
            if a < T::zero() {
                T::zero().wrapping_sub(&a)
            } else {
                a
            }
        }),
        "neg" if ty.is_signed() => line.map1(|a: T| T::zero().wrapping_sub(&a)),
        "sad" => line.map3(|a: T, b: T, c: T| {
            let difference = if a < b {
                b.wrapping_sub(&a)
            } else {
                a.wrapping_sub(&b)
            };
            difference.wrapping_add(&c)
        }),
        _ => line.unknown(),
    }
}

fn wide(line: &mut Line, ty: Type) -> Result<Action> {
    match (line.name, ty) {
        ("mul", Type::S(16)) => line.map2(|a: i16, b: i16| i32::from(a) * i32::from(b)),
        ("mul", Type::U(16)) => line.map2(|a: u16, b: u16| u32::from(a) * u32::from(b)),
        ("mul", Type::S(32)) => line.map2(|a: i32, b: i32| i64::from(a) * i64::from(b)),
        ("mul", Type::U(32)) => line.map2(|a: u32, b: u32| u64::from(a) * u64::from(b)),
        ("mad", Type::S(16)) => {
            line.map3(|a: i16, b: i16, c: i32| (i32::from(a) * i32::from(b)).wrapping_add(c))
        }
        ("mad", Type::U(16)) => {
            line.map3(|a: u16, b: u16, c: u32| (u32::from(a) * u32::from(b)).wrapping_add(c))
        }
        ("mad", Type::S(32)) => {
            line.map3(|a: i32, b: i32, c: i64| (i64::from(a) * i64::from(b)).wrapping_add(c))
        }
        ("mad", Type::U(32)) => {
            line.map3(|a: u32, b: u32, c: u64| (u64::from(a) * u64::from(b)).wrapping_add(c))
        }
        _ => line.unknown(),
    }
}

fn multiply24(line: &mut Line, ty: Type) -> Result<Action> {
    let shift = if line.take("hi") {
        16
    } else if line.take("lo") {
        0
    } else {
        return line.unknown();
    };
    let signed = move |a: i32, b: i32| {
        let product = i64::from(a << 8 >> 8) * i64::from(b << 8 >> 8);
        (product >> shift) as i32
    };
    let unsigned = move |a: u32, b: u32| {
        let product = u64::from(a << 8 >> 8) * u64::from(b << 8 >> 8);
        (product >> shift) as u32
    };
    match (line.name, ty) {
        ("mul24", Type::S(32)) => line.map2(signed),
        ("mul24", Type::U(32)) => line.map2(unsigned),
        ("mad24", Type::S(32)) => line.map3(move |a, b, c: i32| signed(a, b).wrapping_add(c)),
        ("mad24", Type::U(32)) => line.map3(move |a, b, c: u32| unsigned(a, b).wrapping_add(c)),
        _ => line.unknown(),
    }
}

/// `add.cc`, `addc`, `mad.lo.cc` and their like: the carry flag goes in, out, or both.
fn carry(line: &mut Line) -> Result<Action> {
    match line.ty()? {
        Type::S(32) | Type::U(32) => carry_of::<u32>(line),
        Type::S(64) | Type::U(64) => carry_of::<u64>(line),
        _ => line.unknown(),
    }
}

fn carry_of<T: Whole>(line: &mut Line) -> Result<Action>
where
    i128: AsPrimitive<T>,
{
    let (takes, gives) = (line.name.ends_with('c'), line.take("cc"));
    let minus = line.name.starts_with("sub");
    let product = line.name.starts_with("mad");
    let hi = product && line.take("hi");
    if product && !hi && !line.take("lo") {
        return line.unknown();
    }
    line.finish(if product { 4..=4 } else { 3..=3 })?;
    let (d, a, b) = (
        line.dest::<T>(0)?,
        line.source::<T>(1)?,
        line.source::<T>(2)?,
    );
    let c = if product {
        Some(line.source::<T>(3)?)
    } else {
        None
    };
    let flag = line.decoder.carry();
    Ok(compute(move |registers, mask| {
        let (mut a, mut b) = (T::get(registers, a), T::get(registers, b));
        if let Some(c) = c {
            for lane in 0..LANES {
                a[lane] = if hi {
                    high(a[lane], b[lane])
                } else {
                    a[lane].wrapping_mul(&b[lane])
                };
            }
            b = T::get(registers, c);
        }
        let carries = bool::get(registers, flag);
        let (mut out, mut carried) = ([T::default(); LANES], [false; LANES]);
        for lane in 0..LANES {
            let (x, y): (i128, i128) = (a[lane].as_(), b[lane].as_());
            let carry = i128::from(takes && carries[lane]);
            let exact = if minus { x - y - carry } else { x + y + carry };
            out[lane] = exact.as_();
            carried[lane] = exact < 0 || exact >> T::BITS != 0;
        }
        T::set(registers, d, out, mask);
        if gives {
            bool::set(registers, flag, carried, mask);
        }
    }))
}

/// Dot product of the bytes of two words (`dp4a`), or of two halves with two bytes (`dp2a`), plus a third.
fn dot(line: &mut Line) -> Result<Action> {
    let [a_type, b_type] = line.types()[..] else {
        return line.error("two types expected");
    };
    let part = |word: u32, at: usize, bits: u32, signed: bool| -> i32 {
        let high = word << (32 - bits * (at as u32 + 1));
        if signed {
            high as i32 >> (32 - bits)
        } else {
            (high >> (32 - bits)) as i32
        }
    };
    let (a_signed, b_signed) = (a_type.is_signed(), b_type.is_signed());
    if line.name == "dp4a" {
        return line.map3(move |a: u32, b: u32, c: u32| {
            (0..4).fold(c, |sum, i| {
                let product = part(a, i, 8, a_signed) * part(b, i, 8, b_signed);
                sum.wrapping_add(product as u32)
            })
        });
    }
    let first = match line.take_one(&["lo", "hi"]) {
        Some("lo") => 0,
        Some(_) => 2,
        None => return line.unknown(),
    };
    line.map3(move |a: u32, b: u32, c: u32| {
        (0..2).fold(c, |sum, i| {
            let product = part(a, i, 16, a_signed) * part(b, first + i, 8, b_signed);
            sum.wrapping_add(product as u32)
        })
    })
}
