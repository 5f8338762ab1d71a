//! The floating-point products of `mma`: factors of f16, bf16 or tf32, sums in f32 in the order of k.
//!
//! Fragments are laid out as in the PTX manual, "Matrix Fragments for mma": lane `4 r + q` of a word of `a` has row r
//! and k from `per q` on, where `per` is the number of factors in a word; lane `4 c + q` of a word of `b` has column c
//! and the same k. Lane `4 r + q` of an accumulator has columns `2 q` and `2 q + 1` of row r.

use half::f16;

use super::registers::Registers;
use crate::program::{Accumulator, Factor, Mma};

/// `d = a b + c`.
pub(super) fn multiply(registers: &mut Registers, mma: &Mma) {
    match pulp::Arch::new() {
        #[cfg(target_arch = "x86_64")]
        pulp::Arch::V4(v4) => pulp::Simd::vectorize(v4, x86::Multiply(*v4, registers, mma)),
        #[cfg(target_arch = "x86_64")]
        pulp::Arch::V3(v3) => pulp::Simd::vectorize(v3, x86::Multiply(v3, registers, mma)),
        _ => plain(registers, mma),
    }
}

fn per_word(factor: Factor) -> usize {
    if factor == Factor::TF32 { 1 } else { 2 }
}

fn float(word: u32, e: usize, factor: Factor) -> f32 {
    match factor {
        Factor::F16 => f16::from_bits((word >> (16 * e)) as u16).to_f32(),
        Factor::BF16 => f32::from_bits(word >> (16 * e) << 16),
        // the hardware does not read the other bits
        _ => f32::from_bits(word & !0x1fff),
    }
}

/// Two f16 in a word.
fn pair(low: f32, high: f32) -> u32 {
    let half = |x: f32| u32::from(f16::from_f32(x).to_bits());
    half(low) | half(high) << 16
}

/// Element by element: what the others compute too.
fn plain(registers: &mut Registers, mma: &Mma) {
    let per = per_word(mma.a_type);
    let mut out = registers.clone();
    for lane in 0..32 {
        for h in 0..2 {
            let row = 4 * (lane / 4);
            let sum = |column: usize, mut sum: f32| {
                for k in 0..mma.k {
                    let (group, q, e) = (k / (4 * per), k / per % 4, k % per);
                    let a = registers.words[mma.a[2 * group + h]][row + q];
                    let b = registers.words[mma.b[group]][4 * column + q];
                    sum = float(a, e, mma.a_type).mul_add(float(b, e, mma.b_type), sum);
                }
                sum
            };
            let c = |e: usize| {
                if mma.addend == Accumulator::F16 {
                    float(registers.words[mma.c[h]][lane], e, Factor::F16)
                } else {
                    f32::from_bits(registers.words[mma.c[2 * h + e]][lane])
                }
            };
            let column = lane % 4 * 2;
            let sums = [sum(column, c(0)), sum(column + 1, c(1))];
            if mma.result == Accumulator::F16 {
                out.words[mma.d[h]][lane] = pair(sums[0], sums[1]);
            } else {
                for (e, x) in sums.iter().enumerate() {
                    let bits = if x.is_nan() { 0x7fff_ffff } else { x.to_bits() };
                    out.words[mma.d[2 * h + e]][lane] = bits;
                }
            }
        }
    }
    *registers = out;
}

/// Rows of sums in vectors of eight, first the even columns and then the odd ones.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256, __m256i, _CMP_UNORD_Q};

    use pulp::cast;
    use pulp::x86::V3;

    use super::{Accumulator, Factor, Mma, Registers, pair};

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
}

#[cfg(test)]
mod tests {
    use super::{Accumulator, Factor, Mma, Registers, multiply, plain};

    #[test]
    fn vectors_give_the_bits_of_the_plain_product() {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 32) as u32
        };
        let factors = [Factor::F16, Factor::BF16, Factor::TF32];
        for (case, factor) in (0..60).zip(factors.into_iter().cycle()) {
            // every sixteenth word as it comes, with its infinities; the others moderate, with some subnormals
            let mut word = || match next() {
                bits if bits % 16 == 0 => bits,
                bits if bits % 16 == 1 => bits & 0x8003_8003,
                bits if factor == Factor::F16 => bits & 0xbfff_bfff,
                bits => (bits & 0x83ff_83ff) | 0x3c00_3c00,
            };
            let words = (0..14).map(|_| std::array::from_fn(|_| word())).collect();
            let per = super::per_word(factor);
            let groups = 1 + case / 3 % 2;
            let halves = |at: usize| factor == Factor::F16 && case / at % 2 == 1;
            let form = |half: bool| {
                if half {
                    Accumulator::F16
                } else {
                    Accumulator::F32
                }
            };
            let mma = Mma {
                k: 4 * per * groups,
                a_type: factor,
                b_type: factor,
                result: form(halves(6)),
                addend: form(halves(12)),
                saturate: false,
                d: vec![0, 4, 2, 11],
                a: vec![4, 5, 6, 7],
                b: vec![8, 9],
                c: vec![10, 11, 12, 13],
            };
            let mut registers = Registers {
                words,
                ..Registers::default()
            };
            let mut wanted = registers.clone();
            plain(&mut wanted, &mma);
            multiply(&mut registers, &mma);
            assert_eq!(registers.words, wanted.words, "case {case}, {factor:?}");
        }
    }
}
