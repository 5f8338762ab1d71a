//! Arithmetic of f32 and f64. A result of f32 that is not a number is the canonical one, 0x7fffffff.

use super::line::Line;
use super::rounding::{self, Rounding, f64s};
use crate::counters::Class;
use crate::error::Result;
use crate::program::Action;
use crate::types::Type;

/// Zero with the same sign for numbers too small to be normal.
#[inline(always)]
pub(super) fn flush(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE {
        0f32.copysign(x)
    } else {
        x
    }
}

#[inline(always)]
fn canonical(x: f32) -> f32 {
    // in whole numbers: as floats, one NaN is as good as another to the compiler
    let bits = x.to_bits();
    f32::from_bits(if bits & 0x7fff_ffff > 0x7f80_0000 {
        0x7fff_ffff
    } else {
        bits
    })
}

/// Between 0 and 1; what is not a number becomes 0.
#[inline(always)]
pub(super) fn saturate(x: f32) -> f32 {
    if x > 0.0 { x.min(1.0) } else { 0.0 }
}

/// [`saturate`] of f64.
pub(super) fn saturate_wide(x: f64) -> f64 {
    if x > 0.0 { x.min(1.0) } else { 0.0 }
}

pub(super) fn decode(line: &mut Line) -> Result<Option<(Action, Class)>> {
    let known = [
        "add", "sub", "mul", "fma", "mad", "div", "min", "max", "abs", "neg", "rcp", "sqrt",
        "rsqrt", "ex2", "lg2", "sin", "cos", "tanh", "testp", "copysign",
    ];
    if !known.contains(&line.name) {
        return Ok(None);
    }
    let special = [
        "rcp", "sqrt", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh", "div",
    ];
    let (action, class) = match line.peek_type() {
        Some(Type::F32) => (single(line)?, Class::Float),
        Some(Type::F64) => (double(line)?, Class::Double),
        _ => return Ok(None),
    };
    let class = if special.contains(&line.name) {
        Class::Special
    } else {
        class
    };
    Ok(Some((action, class)))
}

/// What an f32 instruction does around its function.
#[derive(Clone, Copy)]
struct Around {
    /// `.ftz`
    flush: bool,
    /// `.sat`
    saturate: bool,
}

impl Around {
    #[inline(always)]
    fn before(self, x: f32) -> f32 {
        if self.flush { flush(x) } else { x }
    }

    #[inline(always)]
    fn after(self, x: f32) -> f32 {
        let x = if self.flush { flush(x) } else { x };
        if self.saturate {
            saturate(x)
        } else {
            canonical(x)
        }
    }
}

fn unary(
    line: &mut Line,
    around: Around,
    f: impl Fn(f32) -> f32 + Send + Sync + 'static,
) -> Result<Action> {
    line.map1(move |a| around.after(f(around.before(a))))
}

fn binary(
    line: &mut Line,
    around: Around,
    f: impl Fn(f32, f32) -> f32 + Send + Sync + 'static,
) -> Result<Action> {
    line.map2(move |a, b| around.after(f(around.before(a), around.before(b))))
}

/// 2^x from a polynomial in f64: within 0.501 of the last bit, and exact for whole numbers.
#[inline(always)]
fn exp2(x: f32) -> f32 {
    // ln(2)^k / k!
    const TERMS: [f64; 11] = {
        let mut terms = [1.0; 11];
        let mut k = 1;
        while k < 11 {
            terms[k] = terms[k - 1] * std::f64::consts::LN_2 / k as f64;
            k += 1;
        }
        terms
    };
    // what is added to round to a whole number, which then stands in the last bits
    const ROUND: f64 = 1.5 * (1u64 << 52) as f64;
    let x = f64::from(x).clamp(-200.0, 200.0);
    let whole = x + ROUND;
    let rest = x - (whole - ROUND);
    let mut power = TERMS[10];
    for term in TERMS[..10].iter().rev() {
        power = power.mul_add(rest, *term);
    }
    let scale = f64::from_bits(whole.to_bits().wrapping_add(1023) << 52);
    (power * scale) as f32
}

/// In f64, with the zero of a sum that cancels as the rounding wants it.
fn sum(a: f32, b: f32, rounding: Rounding) -> f32 {
    if rounding == Rounding::Down && a == -b && (a != 0.0 || a.to_bits() != b.to_bits()) {
        return -0.0;
    }
    rounding::to_f32(rounding::add(f64::from(a), f64::from(b)), rounding)
}

fn single(line: &mut Line) -> Result<Action> {
    line.ty()?;
    let around = Around {
        flush: line.take("ftz"),
        saturate: line.take("sat"),
    };
    let approximate = line.take("approx");
    let full = line.take("full");
    let rounding = line.rounding();
    if (approximate || full) && rounding.is_some() || rounding == Some(Rounding::Away) {
        return line.unknown();
    }
    let exact = rounding.unwrap_or(Rounding::Nearest);
    let wide = |x: f32| f64::from(x);
    match (line.name, exact) {
        ("add", Rounding::Nearest) => binary(line, around, |a, b| a + b),
        ("sub", Rounding::Nearest) => binary(line, around, |a, b| a - b),
        ("mul", Rounding::Nearest) => binary(line, around, |a, b| a * b),
        ("add", _) => binary(line, around, move |a, b| sum(a, b, exact)),
        ("sub", _) => binary(line, around, move |a, b| sum(a, -b, exact)),
        ("mul", _) => binary(line, around, move |a, b| {
            rounding::to_f32(wide(a) * wide(b), exact)
        }),
        ("fma" | "mad", Rounding::Nearest) if !around.flush && !around.saturate => line.map3(
            #[inline(always)]
            |a: f32, b: f32, c: f32| canonical(a.mul_add(b, c)),
        ),
        ("fma" | "mad", Rounding::Nearest) => line.map3(
            #[inline(always)]
            move |a: f32, b: f32, c: f32| {
                let (a, b, c) = (around.before(a), around.before(b), around.before(c));
                around.after(a.mul_add(b, c))
            },
        ),
        ("fma" | "mad", _) => line.map3(move |a: f32, b: f32, c: f32| {
            let (a, b, c) = (around.before(a), around.before(b), around.before(c));
            around.after(rounding::to_f32(
                rounding::fma(wide(a), wide(b), wide(c), exact),
                exact,
            ))
        }),
        ("div", Rounding::Nearest) if approximate || full || rounding.is_some() => {
            binary(line, around, |a, b| a / b)
        }
        ("div", _) if rounding.is_some() => binary(line, around, move |a, b| {
            rounding::to_f32(rounding::div(wide(a), wide(b)), exact)
        }),
        ("rcp", Rounding::Nearest) if approximate || rounding.is_some() => {
            unary(line, around, |a| 1.0 / a)
        }
        ("rcp", _) => unary(line, around, move |a| {
            rounding::to_f32(rounding::div(1.0, wide(a)), exact)
        }),
        ("sqrt", Rounding::Nearest) if approximate || rounding.is_some() => {
            unary(line, around, f32::sqrt)
        }
        ("sqrt", _) if rounding.is_some() => unary(line, around, move |a| {
            rounding::to_f32(rounding::sqrt(wide(a)), exact)
        }),
        ("rsqrt", _) if approximate => unary(line, around, move |a| (1.0 / wide(a).sqrt()) as f32),
        ("ex2", _) if approximate => unary(line, around, exp2),
        ("lg2", _) if approximate => unary(line, around, f32::log2),
        ("sin", _) if approximate => unary(line, around, f32::sin),
        ("cos", _) if approximate => unary(line, around, f32::cos),
        ("tanh", _) if approximate => unary(line, around, f32::tanh),
        ("min" | "max", _) => extreme(line, around),
        ("abs", _) => line.map1(move |a: f32| around.before(a).abs()),
        ("neg", _) => line.map1(move |a: f32| -around.before(a)),
        ("copysign", _) => line.map2(|sign: f32, a: f32| a.copysign(sign)),
        ("testp", _) => test(line, |a: f32| a.classify(), f32::is_nan),
        _ => line.unknown(),
    }
}

/// The smaller (larger): the other one if one is not a number, and -0 below +0.
#[inline(always)]
fn pick<T: Copy + PartialOrd>(a: T, b: T, less: bool, a_negative: bool) -> T {
    let a_less = if a == b { a_negative } else { a < b };
    // not a number compares false with itself
    #[allow(clippy::eq_op)]
    let (a_nan, b_nan) = (a != a, b != b);
    if a_nan || (!b_nan && a_less != less) {
        b
    } else {
        a
    }
}

/// [`pick`] without branches.
#[inline(always)]
fn plain_extreme(a: f32, b: f32, less: bool) -> f32 {
    // of equal ones only zeros differ, in their sign
    let (x, y) = (a.to_bits(), b.to_bits());
    let equal = f32::from_bits(if less { x | y } else { x & y });
    let chosen = if (a < b) == less { a } else { b };
    let ordered = if a == b { equal } else { chosen };
    let ordered = if a.is_nan() { b } else { ordered };
    canonical(if b.is_nan() { a } else { ordered })
}

fn extreme(line: &mut Line, around: Around) -> Result<Action> {
    let less = line.name == "min";
    let (nan, sign, magnitude) = (line.take("NaN"), line.take("xorsign"), line.take("abs"));
    if sign != magnitude {
        return line.unknown();
    }
    if !nan && !sign && !around.flush {
        return if less {
            line.map2(|a, b| plain_extreme(a, b, true))
        } else {
            line.map2(|a, b| plain_extreme(a, b, false))
        };
    }
    line.map2(move |a: f32, b: f32| {
        let (mut a, mut b) = (around.before(a), around.before(b));
        let negative = a.is_sign_negative() != b.is_sign_negative();
        if sign {
            (a, b) = (a.abs(), b.abs());
        }
        if nan && (a.is_nan() || b.is_nan()) {
            return canonical(f32::NAN);
        }
        let x = canonical(pick(a, b, less, a.is_sign_negative()));
        if sign && negative { -x } else { x }
    })
}

fn test<T: crate::exec::registers::Lane>(
    line: &mut Line,
    classify: fn(T) -> std::num::FpCategory,
    is_nan: fn(T) -> bool,
) -> Result<Action> {
    use std::num::FpCategory::{Infinite, Nan, Normal, Subnormal};
    let property = line.take_one(&[
        "finite",
        "infinite",
        "number",
        "notanumber",
        "normal",
        "subnormal",
    ]);
    let Some(property) = property else {
        return line.unknown();
    };
    line.map1(move |a: T| match property {
        "finite" => !matches!(classify(a), Nan | Infinite),
        "infinite" => classify(a) == Infinite,
        "number" => !is_nan(a),
        "notanumber" => is_nan(a),
        "normal" => classify(a) == Normal,
        _ => classify(a) == Subnormal,
    })
}

fn double(line: &mut Line) -> Result<Action> {
    line.ty()?;
    let approximate = line.take("approx");
    let flush = line.take("ftz");
    let rounding = line.rounding();
    if approximate && rounding.is_some() || rounding == Some(Rounding::Away) {
        return line.unknown();
    }
    let exact = rounding.unwrap_or(Rounding::Nearest);
    if flush && !approximate {
        return line.unknown();
    }
    match line.name {
        "add" => line.map2(move |a, b| f64s::add(a, b, exact)),
        "sub" => line.map2(move |a: f64, b: f64| f64s::add(a, -b, exact)),
        "mul" => line.map2(move |a, b| f64s::mul(a, b, exact)),
        "fma" | "mad" if rounding.is_some() => line.map3(move |a, b, c| f64s::fma(a, b, c, exact)),
        "div" if rounding.is_some() => line.map2(move |a, b| f64s::div(a, b, exact)),
        "rcp" if rounding.is_some() => line.map1(move |a| f64s::div(1.0, a, exact)),
        // the upper half of the bits, as the instruction gives them
        "rcp" if approximate && flush => line.map1(|a: f64| upper(1.0 / upper(a))),
        "rsqrt" if approximate => line.map1(move |a: f64| {
            if flush {
                upper(1.0 / upper(a).sqrt())
            } else {
                1.0 / a.sqrt()
            }
        }),
        "sqrt" if rounding.is_some() => line.map1(move |a| f64s::sqrt(a, exact)),
        "min" => line.map2(|a: f64, b: f64| pick(a, b, true, a.is_sign_negative())),
        "max" => line.map2(|a: f64, b: f64| pick(a, b, false, a.is_sign_negative())),
        "abs" => line.map1(f64::abs),
        "neg" => line.map1(|a: f64| -a),
        "copysign" => line.map2(|sign: f64, a: f64| a.copysign(sign)),
        "testp" => test(line, |a: f64| a.classify(), f64::is_nan),
        _ => line.unknown(),
    }
}

fn upper(x: f64) -> f64 {
    let x = if x.is_subnormal() {
        0f64.copysign(x)
    } else {
        x
    };
    f64::from_bits(x.to_bits() & !0xffff_ffff)
}

#[cfg(test)]
mod tests {
    #[test]
    fn extremes_without_branches_are_the_same() {
        let values = [
            0.0,
            -0.0,
            1.0,
            -2.5,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
        ];
        for (a, b) in values.iter().flat_map(|a| values.map(|b| (*a, b))) {
            for less in [true, false] {
                let want = super::canonical(super::pick(a, b, less, a.is_sign_negative()));
                let got = super::plain_extreme(a, b, less);
                assert_eq!(got.to_bits(), want.to_bits(), "{a}, {b}, {less}");
            }
        }
    }

    #[test]
    fn powers_of_two_are_within_a_hair_of_half_a_bit() {
        for i in 0..400_000 {
            let x = -151.0 + i as f32 * 0.000_7;
            let (got, want) = (super::exp2(x), f64::from(x).exp2());
            let last = (want.max(f64::from(f32::MIN_POSITIVE)).log2().floor() - 23.0).exp2();
            let error = (f64::from(got) - want).abs() / last;
            assert!(
                error < 0.501 || want >= f64::from(f32::MAX),
                "2^{x} is {want}, not {got}"
            );
        }
        let special = [f32::NEG_INFINITY, f32::INFINITY, 10.0, -149.0, -0.0, 128.0];
        assert_eq!(special.map(super::exp2), special.map(f32::exp2));
        assert!(super::exp2(f32::NAN).is_nan());
    }
}
