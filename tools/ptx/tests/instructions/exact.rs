//! Sums and products without any rounding, and one rounding at the end: what arithmetic is judged by.

/// 64-bit limbs, the lowest first; bit i weighs 2^(i - POINT). Holds all products of two f64.
const LIMBS: usize = 68;
const POINT: i32 = 2200;

/// A binary fraction as a wide integer in two's complement.
#[derive(Clone, Copy)]
pub struct Exact([u64; LIMBS]);

impl Exact {
    /// `mantissa * 2^exponent`, negated if asked for.
    fn new(mantissa: u128, exponent: i32, negative: bool) -> Self {
        let mut limbs = [0; LIMBS];
        let at = (exponent + POINT) as usize;
        for bit in (0..128).filter(|bit| mantissa >> bit & 1 == 1) {
            limbs[(at + bit) / 64] |= 1 << ((at + bit) % 64);
        }
        let value = Exact(limbs);
        if negative { value.negated() } else { value }
    }

    /// A finite f64.
    pub fn from(x: f64) -> Self {
        let (mantissa, exponent) = parts(x);
        Exact::new(mantissa.into(), exponent, x.is_sign_negative())
    }

    pub fn whole(x: i128) -> Self {
        Exact::new(x.unsigned_abs(), 0, x < 0)
    }

    /// The product of two finite f64.
    pub fn product(a: f64, b: f64) -> Self {
        let ((m, e), (n, f)) = (parts(a), parts(b));
        let negative = a.is_sign_negative() != b.is_sign_negative();
        Exact::new(u128::from(m) * u128::from(n), e + f, negative)
    }

    pub fn plus(self, other: Exact) -> Self {
        let mut carry = 0;
        Exact(std::array::from_fn(|i| {
            let sum = u128::from(self.0[i]) + u128::from(other.0[i]) + carry;
            carry = sum >> 64;
            sum as u64
        }))
    }

    fn negated(self) -> Self {
        let one = Exact(std::array::from_fn(|i| u64::from(i == 0)));
        Exact(self.0.map(|limb| !limb)).plus(one)
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        if self.0[LIMBS - 1] >> 63 == 1 {
            -1
        } else {
            i32::from(self.0 != [0; LIMBS])
        }
    }

    fn bit(&self, at: i32) -> bool {
        at >= 0 && self.0[at as usize / 64] >> (at % 64) & 1 == 1
    }

    /// Rounded to a format; zero has no sign here.
    pub fn round(&self, format: Format, mode: Mode) -> f64 {
        let negative = self.sign() < 0;
        let magnitude = if negative { self.negated() } else { *self };
        let bits = 64 * LIMBS as i32;
        let Some(top) = (0..bits).rev().find(|at| magnitude.bit(*at)) else {
            return 0.0;
        };
        // weight of the last bit that is kept
        let last = (top - format.precision + 1).max(format.least + POINT);
        let kept = (last..=top)
            .rev()
            .fold(0u64, |all, at| all << 1 | u64::from(magnitude.bit(at)));
        let half = magnitude.bit(last - 1);
        let rest = (0..last - 1).any(|at| magnitude.bit(at));
        let up = match mode {
            Mode::Nearest => half && (rest || kept & 1 == 1),
            Mode::Zero => false,
            Mode::Down => negative && (half || rest),
            Mode::Up => !negative && (half || rest),
        };
        let rounded = (kept + u64::from(up)) as f64 * two_to(last - POINT);
        let rounded = if rounded > format.largest {
            let stays = match mode {
                Mode::Nearest => false,
                Mode::Zero => true,
                Mode::Down => !negative,
                Mode::Up => negative,
            };
            if stays { format.largest } else { f64::INFINITY }
        } else {
            rounded
        };
        if negative { -rounded } else { rounded }
    }
}

/// Mantissa and exponent of a finite f64.
fn parts(x: f64) -> (u64, i32) {
    let (fraction, exponent) = (
        x.to_bits() & ((1 << 52) - 1),
        (x.to_bits() >> 52 & 0x7ff) as i32,
    );
    if exponent == 0 {
        (fraction, -1074)
    } else {
        (fraction | 1 << 52, exponent - 1075)
    }
}

/// 2 to a power that may be as small as that of the least f64; larger than all f64 is infinite.
fn two_to(exponent: i32) -> f64 {
    let half = exponent / 2;
    2f64.powi(half) * 2f64.powi(exponent - half)
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Nearest,
    Zero,
    Down,
    Up,
}

pub const MODES: [(&str, Mode); 4] = [
    ("rn", Mode::Nearest),
    ("rz", Mode::Zero),
    ("rm", Mode::Down),
    ("rp", Mode::Up),
];

/// A binary format.
#[derive(Clone, Copy)]
pub struct Format {
    /// Bits of the significand.
    pub precision: i32,
    /// Exponent of the smallest number above zero.
    pub least: i32,
    pub largest: f64,
}

pub const F64: Format = Format {
    precision: 53,
    least: -1074,
    largest: f64::MAX,
};
pub const F32: Format = Format {
    precision: 24,
    least: -149,
    largest: f32::MAX as f64,
};
pub const F16: Format = Format {
    precision: 11,
    least: -24,
    largest: 65504.0,
};
pub const BF16: Format = Format {
    precision: 8,
    least: -133,
    largest: 3.3895313892515355e38,
};

#[test]
fn judges_itself() {
    for x in [1.0, -0.1, 5e-324, f64::MAX, 1e-310] {
        assert_eq!(Exact::from(x).round(F64, Mode::Nearest), x);
        assert_eq!(
            Exact::from(x).round(F32, Mode::Nearest),
            f64::from(x as f32)
        );
    }
    assert_eq!(
        Exact::product(0.1, 0.1).round(F64, Mode::Nearest),
        0.1 * 0.1
    );
    let sum = Exact::from(1.0).plus(Exact::from(-1e-30));
    assert_eq!(
        sum.round(F32, Mode::Zero),
        1.0 - f64::from(f32::EPSILON) / 2.0
    );
}
