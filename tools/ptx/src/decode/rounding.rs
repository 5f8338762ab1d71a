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

/// `.rn.tf32.f32` and `.rna.tf32.f32`, in which ties go away from zero.
#[inline(always)]
pub(crate) fn tf32_nearest(x: f32, away: bool) -> u32 {
    let bits = x.to_bits();
    let up = if away {
        0x1000
    } else {
        0xfff + (bits >> 13 & 1)
    };
    let rounded = bits.wrapping_add(up) & !0x1fff;
    if x.is_nan() { 0x7fff_e000 } else { rounded }
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

/// `a * b + c`, rounded to odd, for factors whose product is exact (f32 and narrower); its zero is that of `rounding`.
pub(crate) fn fma(a: f64, b: f64, c: f64, rounding: Rounding) -> f64 {
    let product = a * b;
    let sum = add(product, c);
    if sum == 0.0 {
        let signs = (product.is_sign_negative(), c.is_sign_negative());
        return zero(signs.0, signs.1, c == 0.0, rounding);
    }
    sum
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

/// The sum of zeros, or what cancels to zero, in one rounding mode: only rounding down gives -0.
pub(crate) fn zero(a_negative: bool, b_negative: bool, zeros: bool, rounding: Rounding) -> f64 {
    let negative = if zeros && a_negative == b_negative {
        a_negative
    } else {
        rounding == Rounding::Down
    };
    if negative { -0.0 } else { 0.0 }
}

/// f64 operations in every rounding mode.
pub(crate) mod f64s {
    use super::{Rounding, sum_residual, zero};

    /// `nearest`, moved to the neighbour that `rounding` asks for; the exact value is finite and lies `residual`'s
    /// sign away.
    fn directed(nearest: f64, residual: f64, rounding: Rounding) -> f64 {
        let down = match rounding {
            Rounding::Nearest | Rounding::Away => return nearest,
            Rounding::Down => true,
            Rounding::Up => false,
            Rounding::Zero => nearest > 0.0 || (nearest == 0.0 && residual > 0.0),
        };
        if nearest.is_infinite() {
            return match (nearest > 0.0, down) {
                (true, true) => f64::MAX,
                (false, false) => f64::MIN,
                _ => nearest,
            };
        }
        match (down, residual < 0.0, residual > 0.0) {
            (true, true, _) => nearest.next_down(),
            (false, _, true) => nearest.next_up(),
            _ => nearest,
        }
    }

    /// Mantissa from 1 to 2 (or 0), and exponent, of a finite number.
    fn parts(x: f64) -> (f64, i32) {
        if x == 0.0 {
            return (x, -3000);
        }
        let (x, less) = if x.is_subnormal() {
            (x * 2f64.powi(64), 64)
        } else {
            (x, 0)
        };
        let exponent = (x.to_bits() >> 52 & 0x7ff) as i32 - 1023;
        let mantissa = f64::from_bits((x.to_bits() & !(0x7ff << 52)) | 1023 << 52);
        (mantissa, exponent - less)
    }

    /// `x * 2^power` for a mantissa; far below 1 only its sign is kept.
    fn scaled(x: f64, power: i32) -> f64 {
        x * 2f64.powi(power.max(-400))
    }

    /// The sign of `a * b + c - d`, for finite numbers of any size, where `d` is that rounded, or zero. (Boldo and Muller,
    /// "Exact and approximated error of the FMA", on numbers brought near 1.)
    fn residual(a: f64, b: f64, c: f64, d: f64) -> f64 {
        let ((a, ea), (b, eb)) = (parts(a), parts(b));
        let ((c, ec), (d, ed)) = (parts(c), parts(d));
        let top = (ea + eb).max(ec);
        let (a, c) = (scaled(a, ea + eb - top), scaled(c, ec - top));
        // what is rounded to a number far too large was too small to be one
        let d = scaled(d, (ed - top).min(900));
        let (high, low) = (a * b, a.mul_add(b, -(a * b)));
        let sum = c + low;
        let alpha = sum_residual(c, low, sum);
        let total = high + sum;
        let beta = sum_residual(high, sum, total);
        ((total - d) + beta) + alpha
    }

    pub(crate) fn add(a: f64, b: f64, rounding: Rounding) -> f64 {
        fma(a, 1.0, b, rounding)
    }

    pub(crate) fn mul(a: f64, b: f64, rounding: Rounding) -> f64 {
        let product = a * b;
        if rounding == Rounding::Nearest || !a.is_finite() || !b.is_finite() || a == 0.0 || b == 0.0
        {
            return product;
        }
        let moved = directed(product, residual(a, b, 0.0, product), rounding);
        moved.copysign(product)
    }

    pub(crate) fn fma(a: f64, b: f64, c: f64, rounding: Rounding) -> f64 {
        let nearest = a.mul_add(b, c);
        if rounding == Rounding::Nearest || ![a, b, c].iter().all(|x| x.is_finite()) {
            return nearest;
        }
        let residual = residual(a, b, c, nearest);
        let negative = a.is_sign_negative() != b.is_sign_negative();
        if nearest == 0.0 && residual == 0.0 {
            let zeros = c == 0.0;
            return zero(negative, c.is_sign_negative(), zeros, rounding);
        }
        let exact = if nearest == 0.0 { residual } else { nearest };
        directed(nearest, residual, rounding).copysign(exact)
    }

    pub(crate) fn div(a: f64, b: f64, rounding: Rounding) -> f64 {
        let quotient = a / b;
        if rounding == Rounding::Nearest || !a.is_finite() || !b.is_finite() || a == 0.0 || b == 0.0
        {
            return quotient;
        }
        let residual = if quotient.is_finite() {
            let residual = residual(-quotient, b, a, 0.0);
            if b < 0.0 { -residual } else { residual }
        } else {
            0.0
        };
        directed(quotient, residual, rounding).copysign(quotient)
    }

    pub(crate) fn sqrt(a: f64, rounding: Rounding) -> f64 {
        let root = a.sqrt();
        if rounding == Rounding::Nearest || !root.is_finite() || a == 0.0 {
            return root;
        }
        directed(root, residual(-root, root, a, 0.0), rounding)
    }
}

#[cfg(test)]
mod tests {
    use super::{Rounding, TF32, round, tf32_nearest};

    #[test]
    fn the_fast_rounding_to_tf32_is_the_exact_one() {
        let mut bits = 0u32;
        for step in 0..200_000u32 {
            bits = bits.wrapping_mul(1664525).wrapping_add(1013904223 + step);
            // as it comes, just below, at and just above the middle between two, and at the ends
            for low in [bits & 0x1fff, 0, 0xfff, 0x1000, 0x1001, 0x1fff] {
                let x = f32::from_bits(bits & !0x1fff | low);
                for (away, rounding) in [(false, Rounding::Nearest), (true, Rounding::Away)] {
                    let wanted = round(f64::from(x), TF32, rounding) << 13;
                    assert_eq!(tf32_nearest(x, away), wanted, "{x:e}, {rounding:?}");
                }
            }
        }
    }
}
