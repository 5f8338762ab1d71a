//! The floating-point products of `mma`: factors of f16, bf16 or tf32, sums in f32 in the order of k.
//!
//! Fragments are laid out as in the PTX manual, "Matrix Fragments for mma": lane `4 r + q` of a word of `a` has row r
//! and k from `per q` on, where `per` is the number of factors in a word; lane `4 c + q` of a word of `b` has column c
//! and the same k. Lane `4 r + q` of an accumulator has columns `2 q` and `2 q + 1` of row r.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use half::f16;

use super::registers::Registers;
use crate::program::{Accumulator, Factor, Mma};

/// `d = a b + c`.
pub(super) fn multiply(registers: &mut Registers, mma: &Mma) {
    match pulp::Arch::new() {
        #[cfg(target_arch = "x86_64")]
        pulp::Arch::V4(v4) => pulp::Simd::vectorize(v4, avx512::Multiply(v4, registers, mma)),
        #[cfg(target_arch = "x86_64")]
        pulp::Arch::V3(v3) => pulp::Simd::vectorize(v3, avx2::Multiply(v3, registers, mma)),
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

#[cfg(test)]
mod tests {
    use super::{Accumulator, Factor, Mma, Registers, multiply, plain};

    /// The product in every way this machine can compute it.
    fn products(registers: &Registers, mma: &Mma) -> Vec<Registers> {
        let mut ways = vec![registers.clone(); 2];
        plain(&mut ways[0], mma);
        multiply(&mut ways[1], mma);
        #[cfg(target_arch = "x86_64")]
        if let Some(v3) = pulp::x86::V3::try_new() {
            let mut way = registers.clone();
            pulp::Simd::vectorize(v3, super::avx2::Multiply(v3, &mut way, mma));
            ways.push(way);
        }
        ways
    }

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
            let registers = Registers {
                words,
                ..Registers::default()
            };
            let ways = products(&registers, &mma);
            for way in &ways[1..] {
                assert_eq!(way.words, ways[0].words, "case {case}, {factor:?}");
            }
        }
    }
}
