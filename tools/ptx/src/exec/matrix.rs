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
    } else if matches!(mma.a_type, Factor::E4M3 | Factor::E5M2) {
        super::factors::multiply_eight(&mut warp.registers, mma);
    } else {
        let registers = &mut warp.registers;
        pulp::Arch::new().dispatch(MultiplyFloat { registers, mma });
    }
}

/// A closure would be too large to be inlined where the vector instructions are.
struct MultiplyFloat<'m> {
    registers: &'m mut Registers,
    mma: &'m Mma,
}

impl pulp::NullaryFnOnce for MultiplyFloat<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        multiply_float(self.registers, self.mma);
    }
}

fn per_word(factor: Factor) -> usize {
    match factor {
        Factor::TF32 => 1,
        Factor::F16 | Factor::BF16 => 2,
        _ => 4,
    }
}

/// Calls `put(row, k, word, element)` for all elements of `a`.
#[inline(always)]
fn each_a<T>(
    registers: &Registers,
    mma: &Mma,
    element: impl Fn(u32, usize) -> T,
    mut put: impl FnMut(usize, usize, T),
) {
    let per = per_word(mma.a_type);
    for (i, slot) in mma.a.iter().enumerate() {
        let words = &registers.words[*slot];
        for (lane, word) in words.iter().enumerate() {
            let (row, k) = (lane / 4 + 8 * (i % 2), lane % 4 * per + 4 * per * (i / 2));
            for e in 0..per {
                put(row, k + e, element(*word, e));
            }
        }
    }
}

/// Calls `put(k, column, element)` for all elements of `b`.
#[inline(always)]
fn each_b<T>(
    registers: &Registers,
    mma: &Mma,
    element: impl Fn(u32, usize) -> T,
    mut put: impl FnMut(usize, usize, T),
) {
    let per = per_word(mma.b_type);
    for (i, slot) in mma.b.iter().enumerate() {
        let words = &registers.words[*slot];
        for (lane, word) in words.iter().enumerate() {
            let k = lane % 4 * per + 4 * per * i;
            for e in 0..per {
                put(k + e, lane / 4, element(*word, e));
            }
        }
    }
}

/// Row and column of the first element that word `i` of an accumulator holds in a lane; halves hold two.
#[inline(always)]
fn place(lane: usize, i: usize, halves: bool) -> (usize, usize) {
    if halves {
        (lane / 4 + 8 * i, lane % 4 * 2)
    } else {
        (lane / 4 + 8 * (i / 2), lane % 4 * 2 + i % 2)
    }
}

#[inline(always)]
fn float(word: u32, e: usize, factor: Factor) -> f32 {
    match factor {
        Factor::F16 => f16::from_bits((word >> (16 * e)) as u16).to_f32(),
        Factor::BF16 => f32::from_bits(word >> (16 * e) << 16),
        // the hardware does not read the other bits
        _ => f32::from_bits(word & !0x1fff),
    }
}

#[inline(always)]
fn multiply_float(registers: &mut Registers, mma: &Mma) {
    let mut a = [[0f32; 16]; 16];
    let mut b = [[0f32; 8]; 16];
    each_a(
        registers,
        mma,
        |w, e| float(w, e, mma.a_type),
        |row, k, x| a[row][k] = x,
    );
    each_b(
        registers,
        mma,
        |w, e| float(w, e, mma.b_type),
        |k, column, x| b[k][column] = x,
    );
    let mut c = [[0f32; 8]; 16];
    let halves = mma.addend == Accumulator::F16;
    for (i, slot) in mma.c.iter().enumerate() {
        for (lane, word) in registers.words[*slot].iter().enumerate() {
            let (row, column) = place(lane, i, halves);
            if halves {
                c[row][column] = float(*word, 0, Factor::F16);
                c[row][column + 1] = float(*word, 1, Factor::F16);
            } else {
                c[row][column] = f32::from_bits(*word);
            }
        }
    }
    for (row, sums) in a.iter().zip(&mut c) {
        for (x, column) in row.iter().zip(&b).take(mma.k) {
            for (sum, y) in sums.iter_mut().zip(column) {
                *sum = x.mul_add(*y, *sum);
            }
        }
    }
    let halves = mma.result == Accumulator::F16;
    for (i, slot) in mma.d.iter().enumerate() {
        let words = &mut registers.words[*slot];
        for (lane, word) in words.iter_mut().enumerate() {
            let (row, column) = place(lane, i, halves);
            *word = if halves {
                let half = |x: f32| u32::from(f16::from_f32(x).to_bits());
                half(c[row][column]) | half(c[row][column + 1]) << 16
            } else if c[row][column].is_nan() {
                0x7fff_ffff
            } else {
                c[row][column].to_bits()
            };
        }
    }
}

fn multiply_whole(registers: &mut Registers, mma: &Mma) {
    let byte = |word: u32, e: usize, factor: Factor| {
        let byte = (word >> (8 * e)) as u8;
        if factor == Factor::S8 {
            i64::from(byte as i8)
        } else {
            i64::from(byte)
        }
    };
    let mut a = [[0i64; 32]; 16];
    let mut b = [[0i64; 8]; 32];
    each_a(
        registers,
        mma,
        |w, e| byte(w, e, mma.a_type),
        |row, k, x| a[row][k] = x,
    );
    each_b(
        registers,
        mma,
        |w, e| byte(w, e, mma.b_type),
        |k, column, x| b[k][column] = x,
    );
    for i in 0..4 {
        let c = registers.words[mma.c[i]];
        let d: Row<u32> = std::array::from_fn(|lane| {
            let (row, column) = place(lane, i, false);
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
