//! Matrix instructions. Fragments are laid out as in the PTX manual, "Matrix Fragments for mma".

use super::block::{Env, Place};
use super::count::count;
use super::fragment::{fragment, gather};
use super::memory::{note, shared_row};
use super::registers::{ALL, LANES, Lane, Registers, Row};
use super::rows::{addresses, shared_places};
use super::shared::Write;
use super::warp::Warp;
use crate::finding::Kind;
use crate::program::{Accumulator, Address, Factor, Mma};
use crate::types::Space;
use crate::wide::wide;

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
        super::product::multiply(&mut warp.registers, mma);
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
    let clean = wide(
        #[inline(always)]
        || load_clean(warp, env, &addresses, dest, transpose, pc),
    );
    if clean {
        return;
    }
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

/// `ldmatrix` if nothing is wrong with it.
#[inline(always)]
fn load_clean(
    warp: &mut Warp,
    env: &mut Env,
    addresses: &Row<u64>,
    dest: &[usize],
    transpose: bool,
    pc: usize,
) -> bool {
    let rows = ALL >> (32 - 8 * dest.len() as u32);
    let Some(places) = shared_places(env, addresses, rows, 16) else {
        return false;
    };
    let site = warp.site(pc, 0);
    if !env.shared.reads_are_clean(site, &places, rows, 16) {
        return false;
    }
    for (slot, places) in dest.iter().zip(places.chunks_exact(8)) {
        let mut rows = [[0; 16]; 8];
        for (row, at) in rows.iter_mut().zip(places) {
            row.copy_from_slice(&env.shared.bytes[*at as usize..][..16]);
        }
        warp.registers.words[*slot] = super::fragment::of_bytes(&rows, transpose);
    }
    true
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
