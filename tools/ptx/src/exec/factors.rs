//! How the lanes of a warp hold factors and sums of a matrix product: as in the PTX manual, "Matrix Fragments".

use half::f16;

use super::registers::Registers;
use crate::decode::fp8;
use crate::program::{Accumulator, Factor, Mma};

/// Calls `put(row, k, element)` for all elements of a fragment of 16 rows; `element` takes them out of words.
#[inline(always)]
pub(super) fn each<T>(
    registers: &Registers,
    slots: &[usize],
    factor: Factor,
    element: impl Fn(u32, usize) -> T,
    mut put: impl FnMut(usize, usize, T),
) {
    let per = match factor {
        Factor::TF32 => 1,
        Factor::F16 | Factor::BF16 => 2,
        _ => 4,
    };
    for (i, slot) in slots.iter().enumerate() {
        for (lane, word) in registers.words[*slot].iter().enumerate() {
            let (row, k) = (lane / 4 + 8 * (i % 2), lane % 4 * per + 4 * per * (i / 2));
            for e in 0..per {
                put(row, k + e, element(*word, e));
            }
        }
    }
}

/// The same as `f16::to_f32`, in a form that compilers make vectors of.
#[inline(always)]
pub(super) fn from_f16(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff) << 13;
    // the exponent is too small by 112; the largest one means infinite or no number
    let small = f32::from_bits(magnitude) * 2f32.powi(112);
    let top = if bits & 0x7c00 == 0x7c00 {
        0x7f80_0000
    } else {
        0
    };
    f32::from_bits(small.to_bits() | top | u32::from(bits & 0x8000) << 16)
}

/// Element `e` of a word.
#[inline(always)]
pub(super) fn float(word: u32, e: usize, factor: Factor) -> f32 {
    match factor {
        Factor::F16 => from_f16((word >> (16 * e)) as u16),
        Factor::BF16 => f32::from_bits(word >> (16 * e) << 16),
        Factor::E4M3 => fp8::from_e4m3((word >> (8 * e)) as u8),
        Factor::E5M2 => fp8::from_e5m2((word >> (8 * e)) as u8),
        // the hardware does not read the other bits
        _ => f32::from_bits(word & !0x1fff),
    }
}

/// Row and column of the first element that word `i` of an accumulator holds in a lane; halves hold two.
#[inline(always)]
pub(super) fn place(lane: usize, i: usize, halves: bool) -> (usize, usize) {
    if halves {
        (lane / 4 + 8 * (i % 2), lane % 4 * 2 + 8 * (i / 2))
    } else {
        (
            lane / 4 + 8 * (i / 2 % 2),
            lane % 4 * 2 + i % 2 + 8 * (i / 4),
        )
    }
}

/// Calls `put(row, column, sum)` for all sums of 16 rows.
#[inline(always)]
pub(super) fn sums(
    registers: &Registers,
    slots: &[usize],
    halves: bool,
    mut put: impl FnMut(usize, usize, f32),
) {
    for (i, slot) in slots.iter().enumerate() {
        for (lane, word) in registers.words[*slot].iter().enumerate() {
            let (row, column) = place(lane, i, halves);
            if halves {
                put(row, column, float(*word, 0, Factor::F16));
                put(row, column + 1, float(*word, 1, Factor::F16));
            } else {
                put(row, column, f32::from_bits(*word));
            }
        }
    }
}

/// Puts sums of 16 rows into registers.
#[inline(always)]
pub(super) fn set_sums(
    registers: &mut Registers,
    slots: &[usize],
    halves: bool,
    sum: impl Fn(usize, usize) -> f32,
) {
    for (i, slot) in slots.iter().enumerate() {
        for (lane, word) in registers.words[*slot].iter_mut().enumerate() {
            let (row, column) = place(lane, i, halves);
            let x = sum(row, column);
            *word = if halves {
                let half = |x: f32| u32::from(f16::from_f32(x).to_bits());
                half(x) | half(sum(row, column + 1)) << 16
            } else if x.is_nan() {
                0x7fff_ffff
            } else {
                x.to_bits()
            };
        }
    }
}

/// `mma.sync` of factors of eight bits: a [16, k], b [k, 8].
pub(super) fn multiply_eight(registers: &mut Registers, mma: &Mma) {
    let mut a = [[0f32; 32]; 16];
    let mut b = [[0f32; 32]; 8];
    let of = |factor: Factor| move |word, e| float(word, e, factor);
    each(
        registers,
        &mma.a,
        mma.a_type,
        of(mma.a_type),
        |row, k, x| {
            a[row][k] = x;
        },
    );
    // columns lie in lanes as rows do, eight of them
    for (i, slot) in mma.b.iter().enumerate() {
        for (lane, word) in registers.words[*slot].iter().enumerate() {
            for e in 0..4 {
                b[lane / 4][lane % 4 * 4 + 16 * i + e] = float(*word, e, mma.b_type);
            }
        }
    }
    let mut c = [[0f32; 8]; 16];
    let halves = mma.addend == Accumulator::F16;
    sums(registers, &mma.c, halves, |row, column, x| {
        c[row][column] = x
    });
    let halves = mma.result == Accumulator::F16;
    set_sums(registers, &mma.d, halves, |row, column| {
        let factors = a[row].iter().zip(&b[column]).take(mma.k);
        factors.fold(c[row][column], |sum, (x, y)| x.mul_add(*y, sum))
    });
}

#[cfg(test)]
mod tests {
    use super::{f16, from_f16};

    #[test]
    fn halves_widen_as_they_should() {
        for bits in 0..=u16::MAX {
            let (got, want) = (from_f16(bits), f16::from_bits(bits).to_f32());
            assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan());
        }
    }
}
