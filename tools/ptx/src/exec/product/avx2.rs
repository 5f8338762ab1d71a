//! Rows of sums in vectors of eight, first the even columns and then the odd ones.

use std::arch::x86_64::{__m256, __m256i, _CMP_UNORD_Q};

use pulp::cast;
use pulp::x86::V3;

use super::pair;
use crate::exec::registers::Registers;
use crate::program::{Accumulator, Factor, Mma};

pub(super) struct Multiply<'m>(pub V3, pub &'m mut Registers, pub &'m Mma);

impl pulp::NullaryFnOnce for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Multiply(v3, registers, mma) = self;
        match mma.a_type {
            Factor::F16 => multiply::<2>(v3, registers, mma, half),
            Factor::BF16 => multiply::<2>(v3, registers, mma, brain),
            _ => multiply::<1>(v3, registers, mma, tensor),
        }
    }
}

#[inline(always)]
fn half(v3: V3, words: __m256i, e: usize) -> __m256 {
    let bits = if e == 0 {
        words
    } else {
        v3.avx2._mm256_srli_epi32::<16>(words)
    };
    let only = |mask: i32| {
        v3.avx2
            ._mm256_and_si256(bits, v3.avx._mm256_set1_epi32(mask))
    };
    // the exponent is too small by 112; what has the largest one is infinite or no number
    let small = v3.avx2._mm256_slli_epi32::<13>(only(0x7fff));
    let scale = v3.avx._mm256_set1_ps(2f32.powi(112));
    let magnitude = v3.avx._mm256_mul_ps(cast(small), scale);
    let top = v3.avx._mm256_set1_epi32(0x7c00);
    let special = v3.avx2._mm256_cmpeq_epi32(only(0x7c00), top);
    let infinite = v3.avx._mm256_set1_epi32(0x7f80_0000);
    let special = v3.avx2._mm256_and_si256(special, infinite);
    let sign = v3.avx2._mm256_slli_epi32::<16>(only(0x8000));
    let extra = v3.avx2._mm256_or_si256(special, sign);
    v3.avx._mm256_or_ps(magnitude, cast(extra))
}

#[inline(always)]
fn brain(v3: V3, words: __m256i, e: usize) -> __m256 {
    cast(if e == 0 {
        v3.avx2._mm256_slli_epi32::<16>(words)
    } else {
        let high = v3.avx._mm256_set1_epi32(0xffff_0000u32 as i32);
        v3.avx2._mm256_and_si256(words, high)
    })
}

#[inline(always)]
fn tensor(v3: V3, words: __m256i, _: usize) -> __m256 {
    let read = v3.avx._mm256_set1_epi32(!0x1fff);
    cast(v3.avx2._mm256_and_si256(words, read))
}

#[inline(always)]
fn row(registers: &Registers, slot: usize) -> [__m256i; 4] {
    cast(registers.words[slot])
}

/// From lanes `4 c + q`, for every q the columns 0, 2, 4, 6, 1, 3, 5, 7.
#[inline(always)]
fn turn(v3: V3, [a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    let low = |x, y| v3.avx2._mm256_unpacklo_epi32(x, y);
    let high = |x, y| v3.avx2._mm256_unpackhi_epi32(x, y);
    let (ab, cd) = ([low(a, b), high(a, b)], [low(c, d), high(c, d)]);
    [
        v3.avx2._mm256_unpacklo_epi64(ab[0], cd[0]),
        v3.avx2._mm256_unpackhi_epi64(ab[0], cd[0]),
        v3.avx2._mm256_unpacklo_epi64(ab[1], cd[1]),
        v3.avx2._mm256_unpackhi_epi64(ab[1], cd[1]),
    ]
}

/// Eight lanes of the even columns and of the odd ones to two rows of sums, and back.
#[inline(always)]
fn exchange(v3: V3, even: __m256, odd: __m256) -> (__m256, __m256) {
    (
        v3.avx._mm256_permute2f128_ps::<0x20>(even, odd),
        v3.avx._mm256_permute2f128_ps::<0x31>(even, odd),
    )
}

#[inline(always)]
fn canonical(v3: V3, x: __m256) -> __m256 {
    let nan = v3.avx._mm256_cmp_ps::<_CMP_UNORD_Q>(x, x);
    let one = v3.avx._mm256_set1_epi32(0x7fff_ffff);
    v3.avx._mm256_blendv_ps(x, cast(one), nan)
}

#[inline(always)]
fn multiply<const PER: usize>(
    v3: V3,
    registers: &mut Registers,
    mma: &Mma,
    float: impl Fn(V3, __m256i, usize) -> __m256,
) {
    let mut sums = [v3.avx._mm256_setzero_ps(); 16];
    for h in 0..2 {
        let (even, odd) = if mma.addend == Accumulator::F16 {
            let words = row(registers, mma.c[h]);
            let (mut even, mut odd) = ([sums[0]; 4], [sums[0]; 4]);
            for i in 0..4 {
                even[i] = half(v3, words[i], 0);
                odd[i] = half(v3, words[i], 1);
            }
            (even, odd)
        } else {
            (
                cast(row(registers, mma.c[2 * h])),
                cast(row(registers, mma.c[2 * h + 1])),
            )
        };
        for i in 0..4 {
            let at = 8 * h + 2 * i;
            (sums[at], sums[at + 1]) = exchange(v3, even[i], odd[i]);
        }
    }
    for group in 0..mma.k / (4 * PER) {
        let mut a = [[[v3.avx._mm256_setzero_ps(); 4]; PER]; 2];
        let mut b = [[v3.avx._mm256_setzero_ps(); PER]; 4];
        for e in 0..PER {
            for (h, a) in a.iter_mut().enumerate() {
                let words = row(registers, mma.a[2 * group + h]);
                for i in 0..4 {
                    a[e][i] = float(v3, words[i], e);
                }
            }
            let words = turn(v3, row(registers, mma.b[group]));
            for q in 0..4 {
                b[q][e] = float(v3, words[q], e);
            }
        }
        for at in 0..16 {
            let a = &a[at / 8];
            for q in 0..4 {
                for e in 0..PER {
                    let lanes: &[f32; 8] = pulp::bytemuck::cast_ref(&a[e][at % 8 / 2]);
                    let x = v3.avx._mm256_set1_ps(lanes[4 * (at % 2) + q]);
                    sums[at] = v3.fma._mm256_fmadd_ps(x, b[q][e], sums[at]);
                }
            }
        }
    }
    for h in 0..2 {
        let (mut even, mut odd) = ([sums[0]; 4], [sums[0]; 4]);
        for i in 0..4 {
            let at = 8 * h + 2 * i;
            (even[i], odd[i]) = exchange(v3, sums[at], sums[at + 1]);
        }
        if mma.result == Accumulator::F16 {
            let (even, odd): ([f32; 32], [f32; 32]) = (cast(even), cast(odd));
            let words = std::array::from_fn(|lane| pair(even[lane], odd[lane]));
            registers.words[mma.d[h]] = words;
        } else {
            for i in 0..4 {
                even[i] = canonical(v3, even[i]);
                odd[i] = canonical(v3, odd[i]);
            }
            registers.words[mma.d[2 * h]] = cast(even);
            registers.words[mma.d[2 * h + 1]] = cast(odd);
        }
    }
}
