//! Columns of sums in vectors of the sixteen rows, in the order 0, 4, 8, 12, 1, 5, 9, 13, ... in which lanes hold them.

use std::arch::x86_64::{__m512, __m512i, _CMP_UNORD_Q};

use pulp::cast;
use pulp::x86::V4;

use super::pair;
use crate::exec::registers::Registers;
use crate::program::{Accumulator, Factor, Mma};

pub(super) struct Multiply<'m>(pub V4, pub &'m mut Registers, pub &'m Mma);

impl pulp::NullaryFnOnce for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Multiply(v4, registers, mma) = self;
        match mma.a_type {
            Factor::F16 => multiply::<2>(v4, registers, mma, half),
            Factor::BF16 => multiply::<2>(v4, registers, mma, brain),
            _ => multiply::<1>(v4, registers, mma, tensor),
        }
    }
}

#[inline(always)]
fn only(v4: V4, words: __m512i, mask: u32) -> __m512i {
    let mask = v4.avx512f._mm512_set1_epi32(mask as i32);
    v4.avx512f._mm512_and_si512(words, mask)
}

#[inline(always)]
fn half(v4: V4, words: __m512i, e: usize) -> __m512 {
    let bits = if e == 0 {
        words
    } else {
        v4.avx512f._mm512_srli_epi32::<16>(words)
    };
    // the exponent is too small by 112; what has the largest one is infinite or no number
    let small = v4.avx512f._mm512_slli_epi32::<13>(only(v4, bits, 0x7fff));
    let scale = v4.avx512f._mm512_set1_ps(2f32.powi(112));
    let magnitude = v4.avx512f._mm512_mul_ps(cast(small), scale);
    let top = v4.avx512f._mm512_set1_epi32(0x7c00);
    let special = v4
        .avx512f
        ._mm512_cmpeq_epi32_mask(only(v4, bits, 0x7c00), top);
    let infinite = v4.avx512f._mm512_maskz_set1_epi32(special, 0x7f80_0000);
    let sign = v4.avx512f._mm512_slli_epi32::<16>(only(v4, bits, 0x8000));
    let extra = v4.avx512f._mm512_or_si512(infinite, sign);
    cast(v4.avx512f._mm512_or_si512(cast(magnitude), extra))
}

#[inline(always)]
fn brain(v4: V4, words: __m512i, e: usize) -> __m512 {
    cast(if e == 0 {
        v4.avx512f._mm512_slli_epi32::<16>(words)
    } else {
        only(v4, words, 0xffff_0000)
    })
}

#[inline(always)]
fn tensor(v4: V4, words: __m512i, _: usize) -> __m512 {
    cast(only(v4, words, !0x1fff))
}

/// From the lanes `4 r + q` of two words for rows r and `r + 8`, for every q the sixteen rows; and back.
#[inline(always)]
fn turn(v4: V4, [[a, b], [c, d]]: [[__m512i; 2]; 2]) -> [__m512i; 4] {
    let low = |x, y| v4.avx512f._mm512_unpacklo_epi32(x, y);
    let high = |x, y| v4.avx512f._mm512_unpackhi_epi32(x, y);
    let (ab, cd) = ([low(a, b), high(a, b)], [low(c, d), high(c, d)]);
    [
        v4.avx512f._mm512_unpacklo_epi64(ab[0], cd[0]),
        v4.avx512f._mm512_unpackhi_epi64(ab[0], cd[0]),
        v4.avx512f._mm512_unpacklo_epi64(ab[1], cd[1]),
        v4.avx512f._mm512_unpackhi_epi64(ab[1], cd[1]),
    ]
}

#[inline(always)]
fn canonical(v4: V4, x: __m512) -> __m512i {
    let nan = v4.avx512f._mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
    let one = v4.avx512f._mm512_set1_epi32(0x7fff_ffff);
    v4.avx512f._mm512_mask_blend_epi32(nan, cast(x), one)
}

#[inline(always)]
fn multiply<const PER: usize>(
    v4: V4,
    registers: &mut Registers,
    mma: &Mma,
    float: impl Fn(V4, __m512i, usize) -> __m512,
) {
    let word = |slot: usize| -> [__m512i; 2] { cast(registers.words[slot]) };
    // of column `2 q + e`
    let mut sums = [[v4.avx512f._mm512_setzero_ps(); 2]; 4];
    if mma.addend == Accumulator::F16 {
        let words = turn(v4, [word(mma.c[0]), word(mma.c[1])]);
        for (sums, words) in sums.iter_mut().zip(words) {
            *sums = [half(v4, words, 0), half(v4, words, 1)];
        }
    } else {
        for e in 0..2 {
            let words = turn(v4, [word(mma.c[e]), word(mma.c[2 + e])]);
            for (sums, words) in sums.iter_mut().zip(words) {
                sums[e] = cast(words);
            }
        }
    }
    for group in 0..mma.k / (4 * PER) {
        let a = turn(v4, [word(mma.a[2 * group]), word(mma.a[2 * group + 1])]);
        let words = word(mma.b[group]);
        let mut b = [[0f32; 32]; PER];
        for (e, b) in b.iter_mut().enumerate() {
            *b = cast([float(v4, words[0], e), float(v4, words[1], e)]);
        }
        // in memory, from where a product takes what it multiplies with for nothing
        let b = std::hint::black_box(&b);
        for q in 0..4 {
            for e in 0..PER {
                let a = float(v4, a[q], e);
                for column in 0..8 {
                    let b = v4.avx512f._mm512_set1_ps(b[e][4 * column + q]);
                    let sum = &mut sums[column / 2][column % 2];
                    *sum = v4.avx512f._mm512_fmadd_ps(a, b, *sum);
                }
            }
        }
    }
    let mut words = [[v4.avx512f._mm512_setzero_si512(); 4]; 2];
    for (e, words) in words.iter_mut().enumerate() {
        let mut columns = [v4.avx512f._mm512_setzero_si512(); 4];
        for (column, sums) in columns.iter_mut().zip(sums) {
            *column = if mma.result == Accumulator::F16 {
                cast(sums[e])
            } else {
                canonical(v4, sums[e])
            };
        }
        let [a, b, c, d] = columns;
        *words = turn(v4, [[a, b], [c, d]]);
    }
    let [[a, b, c, d], [e, f, g, h]] = words;
    let rows = [[[a, b], [e, f]], [[c, d], [g, h]]];
    if mma.result == Accumulator::F16 {
        for (h, [even, odd]) in rows.into_iter().enumerate() {
            let (even, odd): ([f32; 32], [f32; 32]) = (cast(even), cast(odd));
            let words = std::array::from_fn(|lane| pair(even[lane], odd[lane]));
            registers.words[mma.d[h]] = words;
        }
    } else {
        let [[first, second], [third, fourth]] = rows;
        registers.words[mma.d[0]] = cast(first);
        registers.words[mma.d[1]] = cast(second);
        registers.words[mma.d[2]] = cast(third);
        registers.words[mma.d[3]] = cast(fourth);
    }
}
