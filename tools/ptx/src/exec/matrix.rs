//! Matrix instructions. Fragments are laid out as in the PTX manual, "Matrix Fragments for mma".

use half::f16;

use super::block::{Env, Place};
use super::memory::{addresses, count, note, shared_row};
use super::registers::{ALL, LANES, Lane, Registers, Row};
use super::shared::Write;
use super::warp::Warp;
use crate::finding::Kind;
use crate::program::{Accumulator, Address, Factor, Mma};
use crate::types::Space;

/// Matrix instructions need all lanes; true if they are there.
fn whole_warp(warp: &Warp, env: &mut Env, pc: usize, mask: u32) -> bool {
    if mask != ALL {
        let message = format!("a matrix instruction needs all lanes, active are {mask:#010x}");
        env.report(Kind::MissingLanes, Place::new(pc, warp.index), &message);
    }
    mask == ALL
}

/// `d = a b + c`, with a [16, k], b [k, 8], c and d [16, 8].
pub(super) fn multiply(warp: &mut Warp, env: &mut Env, mma: &Mma, pc: usize, mask: u32) {
    if !whole_warp(warp, env, pc, mask) {
        return;
    }
    env.work[pc].matrix_flops += 2 * 16 * 8 * mma.k as u64;
    if mma.result == Accumulator::S32 {
        multiply_whole(&mut warp.registers, mma);
    } else {
        multiply_wide(&mut warp.registers, mma);
    }
}

/// Compiled for the vector instructions of the machine.
fn multiply_wide(registers: &mut Registers, mma: &Mma) {
    match pulp::Arch::new() {
        #[cfg(target_arch = "x86_64")]
        pulp::Arch::V4(v4) => {
            use pulp::Simd;
            let turn = |words: &Row<u32>| turn_v4(v4, words);
            v4.vectorize(MultiplyFloat {
                registers,
                mma,
                turn,
            });
        }
        arch => arch.dispatch(MultiplyFloat {
            registers,
            mma,
            turn,
        }),
    }
}

/// A closure would be too large to be inlined where the vector instructions are.
struct MultiplyFloat<'m, F> {
    registers: &'m mut Registers,
    mma: &'m Mma,
    turn: F,
}

impl<F: Fn(&Row<u32>) -> [[u32; 8]; 4]> pulp::NullaryFnOnce for MultiplyFloat<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let MultiplyFloat {
            registers,
            mma,
            turn,
        } = self;
        match mma.a_type {
            Factor::F16 => multiply_float::<2>(registers, mma, half, turn),
            Factor::BF16 => multiply_float::<2>(
                registers,
                mma,
                |word, e| {
                    f32::from_bits(if e == 0 {
                        word << 16
                    } else {
                        word & 0xffff_0000
                    })
                },
                turn,
            ),
            // the hardware does not read the other bits
            _ => multiply_float::<1>(
                registers,
                mma,
                |word, _| f32::from_bits(word & !0x1fff),
                turn,
            ),
        }
    }
}

/// One of the two f16 of a word.
#[inline(always)]
fn half(word: u32, e: usize) -> f32 {
    let bits = word >> (16 * e);
    // the exponent is too small by 112; what has the largest one is infinite or no number
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((112 + 127) << 23);
    let special = if bits & 0x7c00 == 0x7c00 {
        0x7f80_0000
    } else {
        0
    };
    f32::from_bits(magnitude.to_bits() | special | (bits & 0x8000) << 16)
}

/// Columns of a row of sums: an accumulator holds the even ones in one word, the odd ones in the next.
const COLUMNS: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

/// Row q has word `4 c + q` for each of the columns c.
fn turn(words: &Row<u32>) -> [[u32; 8]; 4] {
    std::array::from_fn(|q| COLUMNS.map(|column| words[4 * column + q]))
}

/// [`turn`] in four instructions, which the compiler does not find.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn turn_v4(v4: pulp::x86::V4, words: &Row<u32>) -> [[u32; 8]; 4] {
    const fn order(first: usize) -> [u32; 16] {
        let mut order = [0; 16];
        let mut i = 0;
        while i < 16 {
            order[i] = (4 * COLUMNS[i % 8] + first + i / 8) as u32;
            i += 1;
        }
        order
    }
    const ORDER: [[u32; 16]; 2] = [order(0), order(2)];
    let [low, high]: [[u32; 16]; 2] = pulp::cast(*words);
    let (low, high) = (pulp::cast(low), pulp::cast(high));
    let rows = ORDER.map(|order| {
        v4.avx512f
            ._mm512_permutex2var_epi32(low, pulp::cast(order), high)
    });
    pulp::cast(rows)
}

/// A product whose words hold `PER` factors. Rows of the product are rows of 8 lanes; the order of k is kept.
#[inline(always)]
fn multiply_float<const PER: usize>(
    registers: &mut Registers,
    mma: &Mma,
    float: impl Fn(u32, usize) -> f32,
    turn: impl Fn(&Row<u32>) -> [[u32; 8]; 4],
) {
    let words = |slot: usize| &registers.words[slot];
    // rows of sums as they lie in the words, four lanes of two words
    let mut sums = [[0u32; 8]; 16];
    for (row, sums) in sums.iter_mut().enumerate() {
        let (h, at) = (row / 8, row % 8 * 4);
        if mma.addend == Accumulator::F16 {
            for j in 0..4 {
                let word = words(mma.c[h])[at + j];
                (sums[j], sums[j + 4]) = (half(word, 0).to_bits(), half(word, 1).to_bits());
            }
        } else {
            sums[..4].copy_from_slice(&words(mma.c[2 * h])[at..at + 4]);
            sums[4..].copy_from_slice(&words(mma.c[2 * h + 1])[at..at + 4]);
        }
    }
    let mut sums = sums.map(|row| row.map(f32::from_bits));
    // a word of `a` or `b` holds k from PER * (lane % 4), the next word goes on at 4 * PER
    for group in 0..mma.k / (4 * PER) {
        let mut a = [[[0f32; LANES]; PER]; 2];
        for (h, a) in a.iter_mut().enumerate() {
            let words = words(mma.a[2 * group + h]);
            for (e, a) in a.iter_mut().enumerate() {
                for lane in 0..LANES {
                    a[lane] = float(words[lane], e);
                }
            }
        }
        let rows = turn(words(mma.b[group]));
        let b: [[[f32; 8]; PER]; 4] =
            rows.map(|row| std::array::from_fn(|e| row.map(|word| float(word, e))));
        for (row, sums) in sums.iter_mut().enumerate() {
            let (a, at) = (&a[row / 8], row % 8 * 4);
            for q in 0..4 {
                for e in 0..PER {
                    for j in 0..8 {
                        sums[j] = a[e][at + q].mul_add(b[q][e][j], sums[j]);
                    }
                }
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        let (h, at) = (row / 8, row % 8 * 4);
        if mma.result == Accumulator::F16 {
            let half = |x: f32| u32::from(f16::from_f32(x).to_bits());
            for j in 0..4 {
                let word = half(sums[j]) | half(sums[j + 4]) << 16;
                registers.words[mma.d[h]][at + j] = word;
            }
        } else {
            let bits = sums.map(|x| if x.is_nan() { 0x7fff_ffff } else { x.to_bits() });
            registers.words[mma.d[2 * h]][at..at + 4].copy_from_slice(&bits[..4]);
            registers.words[mma.d[2 * h + 1]][at..at + 4].copy_from_slice(&bits[4..]);
        }
    }
}

/// Calls `put(row, k, element)` for all bytes of `a`.
fn each_a(registers: &Registers, mma: &Mma, mut put: impl FnMut(usize, usize, i64)) {
    for (i, slot) in mma.a.iter().enumerate() {
        for (lane, word) in registers.words[*slot].iter().enumerate() {
            let (row, k) = (lane / 4 + 8 * (i % 2), lane % 4 * 4 + 16 * (i / 2));
            for e in 0..4 {
                put(row, k + e, byte(*word, e, mma.a_type));
            }
        }
    }
}

/// Calls `put(k, column, element)` for all bytes of `b`.
fn each_b(registers: &Registers, mma: &Mma, mut put: impl FnMut(usize, usize, i64)) {
    for (i, slot) in mma.b.iter().enumerate() {
        for (lane, word) in registers.words[*slot].iter().enumerate() {
            let k = lane % 4 * 4 + 16 * i;
            for e in 0..4 {
                put(k + e, lane / 4, byte(*word, e, mma.b_type));
            }
        }
    }
}

fn byte(word: u32, e: usize, factor: Factor) -> i64 {
    let byte = (word >> (8 * e)) as u8;
    if factor == Factor::S8 {
        i64::from(byte as i8)
    } else {
        i64::from(byte)
    }
}

fn multiply_whole(registers: &mut Registers, mma: &Mma) {
    let mut a = [[0i64; 32]; 16];
    let mut b = [[0i64; 8]; 32];
    each_a(registers, mma, |row, k, x| a[row][k] = x);
    each_b(registers, mma, |k, column, x| b[k][column] = x);
    for i in 0..4 {
        let c = registers.words[mma.c[i]];
        let d: Row<u32> = std::array::from_fn(|lane| {
            let (row, column) = (lane / 4 + 8 * (i / 2), lane % 4 * 2 + i % 2);
            let products = (0..mma.k).map(|k| a[row][k] * b[k][column]);
            let sum = i64::from(c[lane] as i32) + products.sum::<i64>();
            if mma.saturate {
                sum.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as u32
            } else {
                sum as u32
            }
        });
        registers.words[mma.d[i]] = d;
    }
}

/// `ldmatrix`: lane `8 q + r` gives the address of row r of matrix q.
pub(super) fn load(
    warp: &mut Warp,
    env: &mut Env,
    address: &Address,
    dest: &[usize],
    transpose: bool,
    pc: usize,
    mask: u32,
) {
    if !whole_warp(warp, env, pc, mask) {
        return;
    }
    let addresses = addresses(&warp.registers, address);
    let rows = ALL >> (32 - 8 * dest.len() as u32);
    count(env, Space::Shared, &addresses, rows, 16, pc);
    for (q, slot) in dest.iter().enumerate() {
        let mut matrix = [[u16::MAX; 8]; 8];
        for (r, row) in matrix.iter_mut().enumerate() {
            let lane = 8 * q + r;
            let site = warp.site(pc, lane);
            let Some(at) = shared_row(env, site, addresses[lane], 16) else {
                continue;
            };
            for (c, element) in row.iter_mut().enumerate() {
                *element = env.shared.load(at + 2 * c, 2) as u16;
            }
            let hazard = env.shared.read(site, at, 16, false);
            note(env, site, addresses[lane], hazard);
        }
        warp.registers.words[*slot] = fragment(&matrix, transpose);
    }
}

/// What each lane holds of an 8x8 matrix of halves.
fn fragment(matrix: &[[u16; 8]; 8], transpose: bool) -> Row<u32> {
    std::array::from_fn(|lane| {
        let (i, j) = (lane / 4, lane % 4 * 2);
        let (low, high) = if transpose {
            (matrix[j][i], matrix[j + 1][i])
        } else {
            (matrix[i][j], matrix[i][j + 1])
        };
        u32::from(low) | u32::from(high) << 16
    })
}

/// The matrix that lanes hold.
fn gather(words: &Row<u32>, transpose: bool) -> [[u16; 8]; 8] {
    let mut matrix = [[0; 8]; 8];
    for (lane, word) in words.iter().enumerate() {
        let (i, j) = (lane / 4, lane % 4 * 2);
        for e in 0..2 {
            let element = (word >> (16 * e)) as u16;
            if transpose {
                matrix[j + e][i] = element;
            } else {
                matrix[i][j + e] = element;
            }
        }
    }
    matrix
}

/// `stmatrix`, the other way round.
pub(super) fn store(
    warp: &mut Warp,
    env: &mut Env,
    address: &Address,
    source: &[usize],
    transpose: bool,
    pc: usize,
    mask: u32,
) {
    if !whole_warp(warp, env, pc, mask) {
        return;
    }
    let addresses = addresses(&warp.registers, address);
    let rows = ALL >> (32 - 8 * source.len() as u32);
    count(env, Space::Shared, &addresses, rows, 16, pc);
    for (q, slot) in source.iter().enumerate() {
        let matrix = gather(&warp.registers.words[*slot], transpose);
        for (r, row) in matrix.iter().enumerate() {
            let lane = 8 * q + r;
            let site = warp.site(pc, lane);
            let Some(at) = shared_row(env, site, addresses[lane], 16) else {
                continue;
            };
            let elements = || row.iter().enumerate();
            let same = elements().all(|(c, e)| env.shared.load(at + 2 * c, 2) == u64::from(*e));
            let hazard = env.shared.write(site, at, 16, Write::Plain { same });
            note(env, site, addresses[lane], hazard);
            for (c, element) in elements() {
                env.shared.store(at + 2 * c, 2, u64::from(*element));
            }
        }
    }
}

/// `movmatrix`: transposes an 8x8 matrix of halves.
pub(super) fn transpose(
    warp: &mut Warp,
    env: &mut Env,
    dest: usize,
    source: usize,
    pc: usize,
    mask: u32,
) {
    if whole_warp(warp, env, pc, mask) {
        let matrix = gather(&warp.registers.words[source], false);
        let row: [u32; LANES] = fragment(&matrix, true);
        u32::set(&mut warp.registers, dest, row, mask);
    }
}
