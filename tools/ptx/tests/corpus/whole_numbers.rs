//! Division, bit tricks, a switch, and narrow and wide integers.

use half::f16;
use ptx::Launch;

use crate::{Corpus, EPSILON, EPSILON_F16, Random, close, doubles, random, whole};

/// Numbers of all lengths, and edges.
fn numbers(seed: u64, count: usize) -> Vec<u64> {
    let mut random = Random(seed);
    let edges = [
        1,
        2,
        u64::MAX,
        1 << 63,
        (1 << 63) - 1,
        u32::MAX.into(),
        1 << 32,
        10,
    ];
    let any = (edges.len()..count).map(|_| random.bits() >> (random.bits() % 63));
    any.map(|v| v.max(1)).chain(edges).collect()
}

#[test]
fn bit_tricks_and_division() {
    let count = 200;
    let (x, mut y) = (numbers(1, count), numbers(2, count));
    y.reverse();
    let mut c = Corpus::new("integers");
    let (px, py, out) = (c.put(&x), c.put(&y), c.room::<u64>(10 * count));
    let args = [px.into(), py.into(), out.into(), (count as i32).into()];
    c.launch("numbers", Launch::linear(4, 64), &args);
    let low = |v: u64| v as u32;
    let bytes = |v: u64| low(v).to_le_bytes();
    let rows: [&dyn Fn(u64, u64) -> u64; 10] = [
        &|a, b| a / b,
        &|a, b| a % b,
        &|a, b| (a as i64).wrapping_div(b as i64) as u64,
        &|a, b| (a as i64).wrapping_rem(b as i64) as u64,
        &|a, b| ((u128::from(a) * u128::from(b)) >> 64) as u64,
        &|a, b| ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64,
        &|a, b| u64::from(a.leading_zeros() << 16 | b.count_ones() << 8 | (a.trailing_zeros() + 1)),
        &|a, b| {
            let odd = low(b) | 1;
            let signed = (low(a) as i32).wrapping_rem(odd as i32);
            a.reverse_bits() ^ u64::from(low(a) / odd) ^ i64::from(signed) as u64
        },
        &|a, b| {
            let all = [bytes(a), bytes(b)].concat();
            let picked = [5, 1, 7, 3].map(|at| all[at]);
            let shifted = ((b << 32 | u64::from(low(a))) >> (low(b) & 31)) as u32;
            u64::from(u32::from_le_bytes(picked)) << 32 | u64::from(shifted)
        },
        &|a, b| {
            let dot = bytes(a)
                .into_iter()
                .zip(bytes(b))
                .map(|(x, y)| i32::from(x as i8) * i32::from(y as i8));
            let difference = low(a).abs_diff(low(b)).wrapping_add(3);
            u64::from((dot.sum::<i32>() + 7) as u32) | u64::from(difference) << 32
        },
    ];
    for (row, f) in rows.iter().enumerate() {
        let got = c.get::<u64>(out + (8 * count * row) as u64, count);
        for i in 0..count {
            let (a, b) = (x[i], y[i]);
            assert_eq!(got[i], f(a, b), "row {row} of {a:#x}, {b:#x}");
        }
    }
}

#[test]
fn a_switch() {
    let (length, threads) = (40, 64);
    let program: Vec<u8> = whole(1, length * threads, 10)
        .iter()
        .map(|v| *v as u8)
        .collect();
    let x: Vec<i32> = whole(2, threads, 1 << 32)
        .iter()
        .map(|v| *v as u32 as i32)
        .collect();
    let mut c = Corpus::new("machine");
    let (pp, px, out) = (c.put(&program), c.put(&x), c.room::<i32>(threads));
    let args = [pp.into(), px.into(), out.into(), (length as i32).into()];
    c.launch("machine", Launch::linear(1, threads as u32), &args);
    let want: Vec<i32> = (0..threads)
        .map(|i| {
            (0..length).fold(x[i], |v, step| match program[step * threads + i] {
                0 => v.wrapping_add(step as i32),
                1 => v.wrapping_neg(),
                2 => v.wrapping_mul(3).wrapping_add(1),
                3 => v ^ v >> 3,
                4 => v.count_ones() as i32,
                5 => v / 7,
                6 => v.reverse_bits(),
                7 => v << (step & 3),
                _ => v.wrapping_sub(1000),
            })
        })
        .collect();
    assert_eq!(c.get::<i32>(out, threads), want);
}

#[test]
fn products_of_128_bits() {
    let p = 0xffff_ffff_0000_0001u64;
    let (x, y) = (numbers(1, 64), numbers(2, 64));
    let mut c = Corpus::new("series");
    let (px, py, out) = (c.put(&x), c.put(&y), c.room::<u64>(64));
    c.launch(
        "modular",
        Launch::linear(2, 32),
        &[px.into(), py.into(), out.into(), p.into()],
    );
    let product = |i: usize| (u128::from(x[i]) * u128::from(y[i]) % u128::from(p)) as u64;
    assert_eq!(
        c.get::<u64>(out, 64),
        (0..64).map(product).collect::<Vec<_>>()
    );
}

#[test]
fn vectors_of_clang() {
    let x = random(1, 4 * 40, |x| 3.0 * x);
    let mut c = Corpus::new("series");
    let (input, out, narrow) = (c.put(&x), c.room::<f32>(x.len()), c.room::<f16>(x.len()));
    let args = [input.into(), out.into(), narrow.into(), 40i32.into()];
    c.launch("lorentz", Launch::linear(2, 32), &args);
    let want: Vec<f64> = doubles(&x).iter().map(|v| 1.0 / (1.0 + v * v)).collect();
    let got = c.get_f64::<f32>(out, x.len());
    // a fused or separate product and sum, and a quotient
    close("out", &got, &want, |i| 4.0 * EPSILON * want[i]);
    close("narrow", &c.get_f64::<f16>(narrow, x.len()), &got, |i| {
        EPSILON_F16 * got[i]
    });
}

#[test]
fn narrow_types_of_clang() {
    let x: Vec<i16> = whole(1, 96, 1 << 16)
        .iter()
        .map(|v| *v as u16 as i16)
        .collect();
    let mut c = Corpus::new("series");
    let input = c.put(&x);
    let (chars, shorts, longs) = (c.room::<i8>(96), c.room::<i16>(96), c.room::<i64>(96));
    let args = [input, chars, shorts, longs].map(|p| p.into());
    c.launch("narrow", Launch::linear(3, 32), &args);
    let collatz = |v: &i16| {
        let (mut n, mut steps) = (i64::from(*v).max(1), 0);
        while n != 1 {
            n = if n % 2 == 0 { n / 2 } else { 3 * n + 1 };
            steps += 1;
        }
        steps
    };
    let char = |v: &i16| (i32::from(*v) * 3) as i8 / 5;
    let short = |v: &i16| v.wrapping_mul(*v) >> 3;
    assert_eq!(
        c.get::<i8>(chars, 96),
        x.iter().map(char).collect::<Vec<_>>()
    );
    assert_eq!(
        c.get::<i16>(shorts, 96),
        x.iter().map(short).collect::<Vec<_>>()
    );
    assert_eq!(
        c.get::<i64>(longs, 96),
        x.iter().map(collatz).collect::<Vec<_>>()
    );
}
