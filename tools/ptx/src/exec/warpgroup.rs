//! `wgmma`: matrix products of four warps, of which each computes its 16 rows when it waits for them.

use super::block::{Env, Place, early};
use super::descriptor::{Layout, pieces};
use super::factors::{self, float};
use super::memory::{fault, note};
use super::registers::{ALL, LANES, Registers};
use super::shared::Site;
use super::warp::Warp;
use crate::finding::Kind;
use crate::hopper::{Product, Source};
use crate::program::{Accumulator, Action, Factor};
use crate::types::Space;

/// A product that has been asked for.
pub(super) struct Pending {
    site: Site,
    group: u32,
    a: Option<Layout>,
    b: Layout,
    add: bool,
    /// Done already; only its sources are still busy.
    done: bool,
}

fn element_bytes(factor: Factor) -> usize {
    match factor {
        Factor::F16 | Factor::BF16 => 2,
        Factor::TF32 => 4,
        _ => 1,
    }
}

/// Calls `touch(shared address)` for every piece that a warp reads.
fn touched(product: &Product, pending: &Pending, mut touch: impl FnMut(usize)) {
    let rows = pending.site.warp % 4 * 16;
    if let Some(a) = &pending.a {
        pieces(a, rows, 16, |_, _, address| touch(address));
    }
    pieces(&pending.b, 0, product.n, |_, _, address| touch(address));
}

/// Asks for a product.
pub(super) fn start(warp: &mut Warp, env: &mut Env, product: &Product, pc: usize, mask: u32) {
    if mask != ALL {
        let message = format!("wgmma needs all lanes, active are {mask:#010x}");
        env.report(Kind::MissingLanes, Place::new(pc, warp.index), &message);
        return;
    }
    env.work[pc].matrix_flops += 2 * 16 * (product.n * product.k) as u64;
    let descriptor =
        |slot: usize, transposed| Layout::new(warp.registers.doubles[slot][0], transposed);
    let (predicate, negated) = product.add;
    let mut pending = Pending {
        site: warp.site(pc, 0),
        group: warp.later.product_groups + 1,
        a: match &product.a {
            Source::Shared(slot) => Some(descriptor(*slot, product.transpose_a)),
            Source::Registers(_) => None,
        },
        b: descriptor(product.b, product.transpose_b),
        add: (warp.registers.predicates[predicate] & 1 == 1) != negated,
        done: false,
    };
    let site = pending.site;
    let mut outside = None;
    touched(product, &pending, |address| {
        if !env.shared.holds(address as u64, 16) {
            outside = Some(address as u64);
        }
    });
    if let Some(address) = outside {
        fault(env, site, Space::Shared, address, 16, Kind::OutOfBounds);
        return;
    }
    count(env, product, &pending);
    if env.setting.options.checks {
        touched(product, &pending, |address| {
            let hazard = env.shared.read_starts(site, address, 16);
            note(env, site, address as u64, hazard);
        });
    }
    if early(env) {
        multiply(&mut warp.registers, &env.shared.bytes, product, &pending);
        pending.done = true;
    }
    warp.later.products.push(pending);
}

/// Counts passes over shared memory, eight pieces at a time; the columns are read once for four warps.
fn count(env: &mut Env, product: &Product, pending: &Pending) {
    if !env.setting.options.counters {
        return;
    }
    let Site { warp, pc, .. } = pending.site;
    let work = &mut env.work[pc];
    let mut pass = |layout: &Layout, first: usize, lines: usize| {
        let step = 8;
        let mut all: Vec<(usize, usize, u64)> = vec![];
        pieces(layout, first, lines, |line, piece, address| {
            all.push((piece, line, address as u64));
        });
        // eight lines of one piece make a core matrix; transposed, pieces of one line lie side by side
        if !layout.transposed {
            all.sort_unstable();
        }
        for eight in all.chunks(step) {
            let mut addresses = [0; 8];
            for (to, (_, _, address)) in addresses.iter_mut().zip(eight) {
                *to = *address;
            }
            work.shared(&addresses[..eight.len()], 16);
        }
    };
    if let Some(a) = &pending.a {
        pass(a, warp % 4 * 16, 16);
    }
    if warp.is_multiple_of(4) {
        pass(&pending.b, 0, product.n);
    }
}

/// `wgmma.wait_group`: products of all but the latest groups are done.
pub(super) fn wait(warp: &mut Warp, env: &mut Env, groups: u32) {
    let last = (warp.later.product_groups).saturating_sub(groups);
    let due = |pending: &mut Pending| pending.group <= last;
    let all: Vec<Pending> = warp.later.products.extract_if(.., due).collect();
    let setting = env.setting;
    for pending in &all {
        let Action::Hopper(hopper) = &setting.program.code[pending.site.pc].action else {
            continue;
        };
        let crate::hopper::Hopper::Product(product) = &**hopper else {
            continue;
        };
        if !pending.done {
            multiply(&mut warp.registers, &env.shared.bytes, product, pending);
        }
        if setting.options.checks {
            touched(product, pending, |address| {
                env.shared.read_ends(warp.index, address, 16);
            });
        }
    }
}

/// Reports instructions that ran and touch registers they should not.
pub(super) fn misused_registers(env: &mut Env) {
    for misuse in &env.setting.program.misuses {
        if env.work[misuse.at].lanes == 0 {
            continue;
        }
        let place = Place::new(misuse.at, 0);
        match misuse.product {
            Some(product) => {
                let line = env.setting.program.code[product].line;
                let message = format!(
                    "this touches registers of the matrix product in PTX line {line}, which has not been waited for"
                );
                env.report(Kind::InFlight, place, &message);
            }
            None => {
                let message =
                    "no wgmma.fence lies between other accesses to these registers and the product";
                env.report(Kind::MissingFence, place, message);
            }
        }
    }
}

const MOST_N: usize = 256;
const MOST_K: usize = 32;

fn multiply(registers: &mut Registers, shared: &[u8], product: &Product, pending: &Pending) {
    pulp::Arch::new().dispatch(Multiply {
        registers,
        shared,
        product,
        pending,
    });
}

struct Multiply<'m> {
    registers: &'m mut Registers,
    shared: &'m [u8],
    product: &'m Product,
    pending: &'m Pending,
}

impl pulp::NullaryFnOnce for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Multiply {
            registers,
            shared,
            product,
            pending,
        } = self;
        if product.result == Accumulator::S32 {
            whole(registers, shared, product, pending);
        } else {
            floats(registers, shared, product, pending);
        }
    }
}

/// Calls `put(line, k, element)` for all elements of a factor in shared memory.
#[inline(always)]
fn elements<T: Copy>(
    layout: &Layout,
    shared: &[u8],
    factor: Factor,
    (first, lines): (usize, usize),
    decode: impl Fn(&[u8; 16]) -> [T; 16],
    mut put: impl FnMut(usize, usize, T),
) {
    let per_piece = 16 / element_bytes(factor);
    pieces(layout, first, lines, |line, piece, address| {
        let Some(bytes) = shared[address..].first_chunk() else {
            return;
        };
        for (i, x) in decode(bytes)[..per_piece].iter().enumerate() {
            if layout.transposed {
                put(piece * 8 + i - first, line, *x);
            } else {
                put(line - first, piece * per_piece + i, *x);
            }
        }
    });
}

/// The elements of a piece, as many as there are.
#[inline(always)]
fn floats_of(piece: &[u8; 16], factor: Factor) -> [f32; 16] {
    let mut out = [0.0; 16];
    let half = |i: usize| u16::from_le_bytes([piece[2 * i], piece[2 * i + 1]]);
    match factor {
        Factor::F16 => {
            for (i, x) in out[..8].iter_mut().enumerate() {
                *x = factors::from_f16(half(i));
            }
        }
        Factor::BF16 => {
            for (i, x) in out[..8].iter_mut().enumerate() {
                *x = f32::from_bits(u32::from(half(i)) << 16);
            }
        }
        Factor::TF32 => {
            for (word, x) in piece.chunks_exact(4).zip(&mut out) {
                let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
                *x = float(word, 0, factor);
            }
        }
        _ => {
            for (byte, x) in piece.iter().zip(&mut out) {
                *x = float(u32::from(*byte), 0, factor);
            }
        }
    }
    out
}

#[inline(always)]
fn floats(registers: &mut Registers, shared: &[u8], product: &Product, pending: &Pending) {
    let n = product.n;
    let sign = |negate: bool| if negate { -1.0 } else { 1.0 };
    let mut b = vec![0f32; product.k * n];
    let negate = sign(product.negate_b);
    elements(
        &pending.b,
        shared,
        product.b_type,
        (0, n),
        |piece| floats_of(piece, product.b_type),
        |column, k, x| b[k * n + column] = negate * x,
    );
    let mut a = [[0f32; MOST_K]; 16];
    let negate = sign(product.negate_a);
    match (&product.a, &pending.a) {
        (Source::Registers(slots), _) => factors::each(
            registers,
            slots,
            product.a_type,
            |word, e| float(word, e, product.a_type),
            |row, k, x| a[row][k] = negate * x,
        ),
        (_, Some(layout)) => elements(
            layout,
            shared,
            product.a_type,
            (pending.site.warp % 4 * 16, 16),
            |piece| floats_of(piece, product.a_type),
            |row, k, x| a[row][k] = negate * x,
        ),
        _ => {}
    }
    let halves = product.result == Accumulator::F16;
    let mut d = vec![[0f32; MOST_N]; 16];
    if pending.add {
        factors::sums(registers, &product.d, halves, |row, column, x| {
            d[row][column] = x;
        });
    }
    for (row, sums) in a.iter().zip(&mut d) {
        for (x, columns) in row.iter().zip(b.chunks_exact(n)) {
            for (sum, y) in sums[..n].iter_mut().zip(columns) {
                *sum = x.mul_add(*y, *sum);
            }
        }
    }
    factors::set_sums(registers, &product.d, halves, |row, column| d[row][column]);
}

fn whole(registers: &mut Registers, shared: &[u8], product: &Product, pending: &Pending) {
    let byte = |word: u32, factor: Factor| {
        if factor == Factor::S8 {
            i64::from(word as u8 as i8)
        } else {
            i64::from(word as u8)
        }
    };
    let bytes = |piece: &[u8; 16], factor| piece.map(|word| byte(word.into(), factor));
    let n = product.n;
    let mut b = vec![0i64; product.k * n];
    elements(
        &pending.b,
        shared,
        product.b_type,
        (0, n),
        |piece| bytes(piece, product.b_type),
        |column, k, x| {
            b[k * n + column] = x;
        },
    );
    let mut a = [[0i64; MOST_K]; 16];
    match (&product.a, &pending.a) {
        (Source::Registers(slots), _) => factors::each(
            registers,
            slots,
            product.a_type,
            |word, e| byte(word >> (8 * e), product.a_type),
            |row, k, x| a[row][k] = x,
        ),
        (_, Some(layout)) => {
            let first = pending.site.warp % 4 * 16;
            elements(
                layout,
                shared,
                product.a_type,
                (first, 16),
                |piece| bytes(piece, product.a_type),
                |row, k, x| {
                    a[row][k] = x;
                },
            );
        }
        _ => {}
    }
    for (i, slot) in product.d.iter().enumerate() {
        let words = registers.words[*slot];
        let out: [u32; LANES] = std::array::from_fn(|lane| {
            let (row, column) = factors::place(lane, i, false);
            let products = (0..product.k).map(|k| a[row][k] * b[k * n + column]);
            let old = if pending.add {
                i64::from(words[lane] as i32)
            } else {
                0
            };
            let sum = old + products.sum::<i64>();
            if product.saturate {
                sum.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as u32
            } else {
                sum as u32
            }
        });
        registers.words[*slot] = out;
    }
}
