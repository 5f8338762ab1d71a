//! Element types: f32 and f64 compute, bf16 and f16 store; on CUDA devices f32 and bf16 compute.

use std::fmt;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

use half::{bf16, f16};

use crate::buffer::Pool;

/// Element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float: the type of training.
    F32,
    /// 64-bit float: the type of checks.
    F64,
    /// bfloat16: the type of activations on a CUDA device, elsewhere storage only.
    BF16,
    /// IEEE half, storage only.
    F16,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            DType::F64 => 8,
            DType::F32 => 4,
            DType::BF16 | DType::F16 => 2,
        }
    }
}

impl DType {
    /// The type of what goes with activations of this one and needs more digits (tables of angles, sums, losses): f32 for bf16, else
    /// the same.
    pub(crate) fn wide(self) -> DType {
        match self {
            DType::BF16 => DType::F32,
            other => other,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::BF16 => "bf16",
            DType::F16 => "f16",
        })
    }
}

impl FromStr for DType {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "f32" => Ok(DType::F32),
            "f64" => Ok(DType::F64),
            "bf16" => Ok(DType::BF16),
            "f16" => Ok(DType::F16),
            _ => Err(format!("unknown dtype '{s}': use f32, f64, bf16 or f16")),
        }
    }
}

/// What a buffer can hold.
pub trait Element: Copy + Default + Send + Sync + bytemuck::Pod + 'static {
    /// The dtype of this element.
    const DTYPE: DType;
    /// Not a number: what fresh buffers are filled with in debug builds.
    const NAN: Self;
    /// Nearest value of this type.
    fn from_f64(x: f64) -> Self;
    /// Exact.
    fn to_f64(self) -> f64;
    #[doc(hidden)]
    fn pool() -> &'static Pool<Self>;
    #[doc(hidden)]
    fn wrap(data: std::sync::Arc<crate::buffer::Buffer<Self>>) -> crate::tensor::Data;
    #[doc(hidden)]
    fn unwrap(data: &crate::tensor::Data) -> Option<&crate::buffer::Buffer<Self>>;
    #[doc(hidden)]
    fn unwrap_mut(data: &mut crate::tensor::Data) -> Option<&mut crate::buffer::Buffer<Self>>;
}

macro_rules! element {
    ($t:ty, $variant:ident, $from:expr, $to:expr, $nan:expr) => {
        impl Element for $t {
            const DTYPE: DType = DType::$variant;
            const NAN: Self = $nan;
            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                $from(x)
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                $to(self)
            }
            fn pool() -> &'static Pool<Self> {
                static POOL: Pool<$t> = Pool::new();
                &POOL
            }
            fn wrap(data: std::sync::Arc<crate::buffer::Buffer<Self>>) -> crate::tensor::Data {
                crate::tensor::Data::$variant(data)
            }
            fn unwrap(data: &crate::tensor::Data) -> Option<&crate::buffer::Buffer<Self>> {
                match data {
                    crate::tensor::Data::$variant(buffer) => Some(buffer),
                    _ => None,
                }
            }
            fn unwrap_mut(
                data: &mut crate::tensor::Data,
            ) -> Option<&mut crate::buffer::Buffer<Self>> {
                match data {
                    crate::tensor::Data::$variant(buffer) => std::sync::Arc::get_mut(buffer),
                    _ => None,
                }
            }
        }
    };
}
element!(f32, F32, |x| x as f32, |x| x as f64, f32::NAN);
element!(f64, F64, |x| x, |x| x, f64::NAN);
element!(bf16, BF16, bf16::from_f64, bf16::to_f64, bf16::NAN);
element!(f16, F16, f16::from_f64, f16::to_f64, f16::NAN);

/// An element type that operations compute in: f32 or f64.
pub trait Float:
    Element
    + faer::traits::ComplexField<Real = Self>
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + std::iter::Sum
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Below every number.
    const NEG_INFINITY: Self;
    /// e^x. The f32 version vectorises; its error is below 2 units in the last place.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// self a + b, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
}

impl Float for f64 {
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;
    const NEG_INFINITY: f64 = f64::NEG_INFINITY;
    #[inline(always)]
    fn exp(self) -> f64 {
        f64::exp(self)
    }
    #[inline(always)]
    fn ln(self) -> f64 {
        f64::ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> f64 {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn mul_add(self, a: f64, b: f64) -> f64 {
        f64::mul_add(self, a, b)
    }
}

impl Float for f32 {
    const ZERO: f32 = 0.0;
    const ONE: f32 = 1.0;
    const NEG_INFINITY: f32 = f32::NEG_INFINITY;
    /// x = n ln 2 + r with |r| <= ln 2 / 2; e^r by the degree-6 polynomial of the Cephes library; times 2^n.
    /// Below -87.33 the result is 0 (no subnormals), above 88.72283 it is infinite.
    #[inline(always)]
    fn exp(self) -> f32 {
        const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer
        const LEAST: f32 = -87.33;
        const MOST: f32 = 88.722_83; // the largest with a finite result
        let x = self.clamp(LEAST, MOST);
        let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
        let n = shifted - ROUND;
        let r = n.mul_add(-0.693_359_4, x);
        let r = n.mul_add(2.121_944_4e-4, r);
        let mut p = 1.987_569_1e-4;
        for c in [
            1.398_199_9e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            1.666_666_5e-1,
            0.5,
        ] {
            p = r.mul_add(p, c);
        }
        let e = (r * r).mul_add(p, r) + 1.0;
        // n stands in the low bits of `shifted` (a cast would be one scalar conversion per lane). It is added to the exponent of e,
        // which stays that of a normal number: where n is -126, e is above 1, and where n is 128, below
        let n = shifted.to_bits().wrapping_sub(ROUND.to_bits());
        let y = f32::from_bits(e.to_bits().wrapping_add(n << 23));
        if self < LEAST {
            0.0
        } else if self > MOST {
            f32::INFINITY
        } else if self.is_nan() {
            self
        } else {
            y
        }
    }
    #[inline(always)]
    fn ln(self) -> f32 {
        f32::ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> f32 {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn mul_add(self, a: f32, b: f32) -> f32 {
        f32::mul_add(self, a, b)
    }
}

/// Runs a body generic over the compute type `$t` for a dtype, or returns an error for storage types.
macro_rules! for_float {
    ($op:expr, $dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            crate::DType::F32 => {
                type $t = f32;
                $body
            }
            crate::DType::F64 => {
                type $t = f64;
                $body
            }
            other => return Err(crate::Error::dtype($op, other)),
        }
    };
}
pub(crate) use for_float;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_exp_is_within_two_ulp() {
        let mut worst = 0.0f64;
        // the range, and every number near its ends
        let range = (-870_000..=887_000).map(|i| i as f32 * 1e-4);
        let from = |start: f32, n: u32| (0..n).map(move |i| f32::from_bits(start.to_bits() - i));
        for x in range
            .chain(from(-87.33, 50_000))
            .chain(from(88.722_83, 50_000))
        {
            let exact = (x as f64).exp();
            let error = (Float::exp(x) as f64 - exact).abs() / exact;
            worst = worst.max(error);
        }
        assert!(
            worst < 2.0 * f32::EPSILON as f64,
            "worst relative error {worst:e}"
        );
        assert_eq!(Float::exp(0.0f32), 1.0);
        assert_eq!(Float::exp(-1000.0f32), 0.0);
        assert_eq!(Float::exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(Float::exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(Float::exp(88.722_83f32.next_up()), f32::INFINITY);
        assert!(Float::exp(f32::NAN).is_nan());
    }
}
