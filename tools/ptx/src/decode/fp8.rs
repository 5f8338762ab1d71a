//! The formats of eight bits, e4m3 and e5m2, and conversions to and from pairs of them.

use half::f16;

use super::line::Line;
use crate::error::Result;
use crate::program::Action;

/// e4m3 has no infinity: 448 is the largest number, and all other bits set is what is not a number.
pub(crate) fn from_e4m3(bits: u8) -> f32 {
    let (exponent, fraction) = (bits >> 3 & 15, bits & 7);
    let magnitude = match (exponent, fraction) {
        (15, 7) => f32::NAN,
        (0, fraction) => f32::from(fraction) * (1.0 / 512.0),
        _ => f32::from_bits((u32::from(exponent) + 120) << 23 | u32::from(fraction) << 20),
    };
    if bits & 0x80 != 0 {
        -magnitude
    } else {
        magnitude
    }
}

/// e5m2 is the upper byte of an f16.
pub(crate) fn from_e5m2(bits: u8) -> f32 {
    f16::from_bits(u16::from(bits) << 8).to_f32()
}

/// Rounds to the nearest number with `fraction` bits behind the point and exponents from `lowest`; what is larger
/// than `largest` becomes that.
fn to_fp8(x: f32, fraction: i32, lowest: i32, largest: f32, nan: u8) -> u8 {
    if x.is_nan() {
        return nan;
    }
    let sign = u8::from(x.is_sign_negative()) << 7;
    let magnitude = x.abs();
    if magnitude == 0.0 {
        return sign;
    }
    let exponent = ((magnitude.to_bits() >> 23) as i32 - 127).max(lowest);
    // one unit in the last place; subnormal f32 are far below
    let unit = 2f64.powi(exponent - fraction);
    let rounded = ((f64::from(magnitude) / unit).round_ties_even() * unit).min(f64::from(largest));
    if rounded == 0.0 {
        return sign;
    }
    let exponent = ((rounded as f32).to_bits() >> 23) as i32 - 127;
    let one = 1 << fraction;
    if exponent < lowest {
        return sign | (rounded / 2f64.powi(lowest - fraction)) as u8;
    }
    let digits = (rounded / 2f64.powi(exponent - fraction)) as i32 - one;
    sign | ((exponent - lowest + 1) << fraction | digits) as u8
}

pub(crate) fn to_e4m3(x: f32) -> u8 {
    to_fp8(x, 3, -6, 448.0, 0x7f)
}

pub(crate) fn to_e5m2(x: f32) -> u8 {
    to_fp8(x, 2, -14, 57344.0, 0x7f)
}

/// `cvt` with a pair of eight bits on one side; None if there is none.
pub(super) fn convert(line: &mut Line) -> Result<Option<Action>> {
    let e4m3 = line.has("e4m3x2");
    if !e4m3 && !line.has("e5m2x2") {
        return Ok(None);
    }
    let from = if e4m3 { from_e4m3 } else { from_e5m2 };
    let to = if e4m3 { to_e4m3 } else { to_e5m2 };
    let narrows = line.take("satfinite");
    let relu = line.take("relu");
    let other = line.take_one(&["f32", "f16x2"]);
    if !line.take("rn") || !(line.take("e4m3x2") || line.take("e5m2x2")) {
        return line.unknown();
    }
    let zeroed = move |x: f32| if relu && x < 0.0 { 0.0 } else { x };
    let half = |word: u32, at: u32| f16::from_bits((word >> (16 * at)) as u16).to_f32();
    Ok(Some(match (narrows, other) {
        (true, Some("f32")) => line
            .map2(move |a: f32, b: f32| u16::from(to(zeroed(a))) << 8 | u16::from(to(zeroed(b))))?,
        (true, Some(_)) => line.map1(move |a: u32| {
            u16::from(to(zeroed(half(a, 1)))) << 8 | u16::from(to(zeroed(half(a, 0))))
        })?,
        (false, Some("f16x2")) => line.map1(move |a: u16| {
            let wide = |byte: u8| u32::from(f16::from_f32(zeroed(from(byte))).to_bits());
            wide((a >> 8) as u8) << 16 | wide(a as u8)
        })?,
        _ => return line.unknown(),
    }))
}

#[cfg(test)]
mod tests {
    use super::{from_e4m3, from_e5m2, to_e4m3, to_e5m2};

    #[test]
    fn eight_bits_survive_the_way_there_and_back() {
        for bits in 0..=255u8 {
            let x = from_e4m3(bits);
            if !x.is_nan() {
                assert_eq!(to_e4m3(x), bits, "{x}");
            }
            let x = from_e5m2(bits);
            if x.is_finite() {
                assert_eq!(to_e5m2(x), bits, "{x}");
            }
        }
    }

    #[test]
    fn conversions_round_to_even_and_saturate() {
        assert_eq!(from_e4m3(to_e4m3(1e9)), 448.0);
        assert_eq!(from_e5m2(to_e5m2(f32::INFINITY)), 57344.0);
        // halfway between 1 and 1.125
        assert_eq!(from_e4m3(to_e4m3(1.0625)), 1.0);
        assert_eq!(from_e4m3(to_e4m3(1.1875)), 1.25);
        assert!(from_e4m3(to_e4m3(f32::NAN)).is_nan());
    }
}
