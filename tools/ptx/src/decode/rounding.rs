//! Rounding as PTX asks for it, to any of its floating-point formats.

use half::{bf16, f16};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// `.rn`: to nearest, ties to even.
    Nearest,
    /// `.rna`: to nearest, ties away from zero.
    Away,
    /// `.rz`
    Zero,
    /// `.rm`
    Down,
    /// `.rp`
    Up,
}

/// A binary floating-point format, at most as wide as f32.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Format {
    /// Bits of the fraction.
    fraction: u32,
    /// Bits of the exponent.
    exponent: u32,
}

pub(crate) const F16: Format = Format {
    fraction: 10,
    exponent: 5,
};
pub(crate) const BF16: Format = Format {
    fraction: 7,
    exponent: 8,
};
/// f32 with 10 bits of fraction; its bits are those of an f32 shifted right by 13.
pub(crate) const TF32: Format = Format {
    fraction: 10,
    exponent: 8,
};
pub(crate) const F32: Format = Format {
    fraction: 23,
    exponent: 8,
};

/// The bits of `x` rounded to `format`. NaN becomes the format's canonical one: all bits but the sign.
pub(crate) fn round(x: f64, format: Format, rounding: Rounding) -> u32 {
    let Format { fraction, exponent } = format;
    let top = (1u32 << exponent) - 1;
    if x.is_nan() {
        return (top << fraction) | ((1 << fraction) - 1);
    }
    let negative = x.is_sign_negative();
    let sign = u32::from(negative) << (fraction + exponent);
    if x.is_infinite() {
        return sign | (top << fraction);
    }
    if x == 0.0 {
        return sign;
    }
    // |x| = significand * 2^(power - 52), significand in [2^52, 2^53)
    let bits = x.to_bits() & !(1 << 63);
    let (power, significand) = if bits >> 52 == 0 {
        let shift = bits.leading_zeros() - 11;
        (-1022 - shift as i32, bits << shift)
    } else {
        (
            (bits >> 52) as i32 - 1023,
            (bits & ((1 << 52) - 1)) | (1 << 52),
        )
    };
    let least = 2 - (1i32 << (exponent - 1));
    let drop = (52 - fraction as i32 + (least - power).max(0)).min(63) as u32;
    let (mut kept, rest, half) = (
        significand >> drop,
        significand & ((1 << drop) - 1),
        1u64 << (drop - 1),
    );
    let up = match rounding {
        Rounding::Nearest => rest > half || (rest == half && kept & 1 == 1),
        Rounding::Away => rest >= half,
        Rounding::Zero => false,
        Rounding::Down => negative && rest != 0,
        Rounding::Up => !negative && rest != 0,
    };
    kept += u64::from(up);
    // the hidden bit adds one to the exponent field, and so does a carry out of the fraction
    let field = (power - least).max(0) as u64;
    let magnitude = (field << fraction) + kept;
    if magnitude >> fraction >= u64::from(top) {
        let finite = match rounding {
            Rounding::Nearest | Rounding::Away => false,
            Rounding::Zero => true,
            Rounding::Down => !negative,
            Rounding::Up => negative,
        };
        return sign | (top << fraction).wrapping_sub(u32::from(finite));
    }
    sign | magnitude as u32
}

pub(crate) fn to_f32(x: f64, rounding: Rounding) -> f32 {
    f32::from_bits(round(x, F32, rounding))
}

pub(crate) fn to_f16(x: f64, rounding: Rounding) -> f16 {
    f16::from_bits(round(x, F16, rounding) as u16)
}

pub(crate) fn to_bf16(x: f64, rounding: Rounding) -> bf16 {
    bf16::from_bits(round(x, BF16, rounding) as u16)
}

/// `.rn.bf16.f32`, the hot conversion.
#[inline(always)]
pub(crate) fn bf16_nearest(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = ((bits.wrapping_add(0x7fff + (bits >> 16 & 1))) >> 16) as u16;
    if x.is_nan() { 0x7fff } else { rounded }
}

/// `result` with its last bit set if the exact value lies `residual`'s sign away from it ("round to odd"): a
/// second rounding, to a format narrower by two bits or more, then gives what one rounding would.
fn odd(result: f64, residual: f64) -> f64 {
    if residual == 0.0 || residual.is_nan() || !result.is_finite() {
        return result;
    }
    if result == 0.0 {
        return f64::from_bits(1).copysign(residual);
    }
    let beyond = (residual > 0.0) == (result > 0.0);
    let truncated = result.to_bits() - u64::from(!beyond);
    f64::from_bits(truncated | 1)
}

/// What rounding to nearest left out of `a + b`.
fn sum_residual(a: f64, b: f64, sum: f64) -> f64 {
    let part = sum - a;
    (a - (sum - part)) + (b - part)
}

/// `a + b`, rounded to odd.
pub(crate) fn add(a: f64, b: f64) -> f64 {
    let sum = a + b;
    odd(sum, sum_residual(a, b, sum))
}

/// `a * b + c`, rounded to odd, for factors whose product is exact (f32 and narrower).
pub(crate) fn fma(a: f64, b: f64, c: f64) -> f64 {
    add(a * b, c)
}

/// `a / b`, rounded to odd.
pub(crate) fn div(a: f64, b: f64) -> f64 {
    let quotient = a / b;
    let residual = (-quotient).mul_add(b, a);
    odd(quotient, if b < 0.0 { -residual } else { residual })
}

/// The square root, rounded to odd.
pub(crate) fn sqrt(a: f64) -> f64 {
    let root = a.sqrt();
    odd(root, (-root).mul_add(root, a))
}

/// `nearest`, moved to the neighbour that `rounding` asks for; the exact value lies `residual`'s sign away.
fn directed(nearest: f64, residual: f64, rounding: Rounding) -> f64 {
    if residual == 0.0 || !nearest.is_finite() || residual.is_nan() {
        return nearest;
    }
    let down = match rounding {
        Rounding::Nearest | Rounding::Away => return nearest,
        Rounding::Down => true,
        Rounding::Up => false,
        Rounding::Zero => nearest > 0.0,
    };
    match (down, residual < 0.0) {
        (true, true) => nearest.next_down(),
        (false, false) => nearest.next_up(),
        _ => nearest,
    }
}

/// f64 operations in every rounding mode; exact but for overflow and for results near the smallest normal number.
pub(crate) mod f64s {
    use super::{Rounding, directed, sum_residual};

    pub(crate) fn add(a: f64, b: f64, rounding: Rounding) -> f64 {
        let sum = a + b;
        if sum == 0.0
            && rounding == Rounding::Down
            && (a != 0.0 || a.is_sign_negative() != b.is_sign_negative())
        {
            return -0.0;
        }
        directed(sum, sum_residual(a, b, sum), rounding)
    }

    pub(crate) fn mul(a: f64, b: f64, rounding: Rounding) -> f64 {
        let product = a * b;
        directed(product, a.mul_add(b, -product), rounding)
    }

    pub(crate) fn fma(a: f64, b: f64, c: f64, rounding: Rounding) -> f64 {
        let nearest = a.mul_add(b, c);
        if rounding == Rounding::Nearest {
            return nearest;
        }
        // Boldo and Muller, "Exact and approximated error of the FMA"
        let (high, low) = (a * b, a.mul_add(b, -(a * b)));
        let sum = c + low;
        let alpha = sum_residual(c, low, sum);
        let total = high + sum;
        let beta = sum_residual(high, sum, total);
        let gamma = (total - nearest) + beta;
        directed(nearest, gamma + alpha, rounding)
    }

    pub(crate) fn div(a: f64, b: f64, rounding: Rounding) -> f64 {
        let quotient = a / b;
        let residual = (-quotient).mul_add(b, a);
        directed(
            quotient,
            if b < 0.0 { -residual } else { residual },
            rounding,
        )
    }

    pub(crate) fn sqrt(a: f64, rounding: Rounding) -> f64 {
        let root = a.sqrt();
        directed(root, (-root).mul_add(root, a), rounding)
    }
}
