//! Pairs of f16 and bf16, and what halves do with values that are not numbers.

use half::{bf16, f16};

use crate::{threads, warp};

/// Runs an instruction on the low 32 bits of the words of a warp.
fn pairs(opcode: &str, operands: usize) -> Vec<([u32; 3], u32)> {
    let sources = ["%r0", "%r1", "%r2"][..operands].join(", ");
    let loads: String = (0..3)
        .map(|i| format!("cvt.u32.u64 %r{i}, %d{i};"))
        .collect();
    let body = format!("{loads} {opcode} %r3, {sources}; cvt.u64.u32 %d3, %r3;");
    let inputs = warp(9);
    let results = threads(&body, &inputs);
    let words = inputs.iter().map(|w| w.map(|w| w as u32));
    words.zip(results.iter().map(|r| *r as u32)).collect()
}

fn halves(word: u32) -> [u16; 2] {
    [word as u16, (word >> 16) as u16]
}

/// Compares both halves with a function of f64 that is rounded once.
fn check(opcode: &str, operands: usize, f: impl Fn([f64; 3]) -> f64) {
    let short = opcode.contains("bf16");
    let value = |bits| {
        if short {
            bf16::from_bits(bits).to_f64()
        } else {
            f16::from_bits(bits).to_f64()
        }
    };
    let rounded = |x: f64| {
        if x.is_nan() {
            0x7fff
        } else if short {
            bf16::from_f64(x).to_bits()
        } else {
            f16::from_f64(x).to_bits()
        }
    };
    for (input, got) in pairs(opcode, operands) {
        for half in 0..2 {
            let values = input.map(|word| value(halves(word)[half]));
            assert_eq!(
                halves(got)[half],
                rounded(f(values)),
                "{opcode} of {values:?}"
            );
        }
    }
}

#[test]
fn pairs_are_two_halves() {
    // sums of two f64 that are halves are exact enough to be rounded once: exponents differ by less than 53 bits in f16
    check("add.rn.f16x2", 2, |[a, b, _]| a + b);
    check("sub.rn.f16x2", 2, |[a, b, _]| a - b);
    check("mul.rn.f16x2", 2, |[a, b, _]| a * b);
    check("mul.rn.bf16x2", 2, |[a, b, _]| a * b);
    check("fma.rn.f16x2", 3, |[a, b, c]| a * b + c);
    check("fma.rn.relu.f16x2", 3, |[a, b, c]| {
        let sum = a * b + c;
        if sum < 0.0 { 0.0 } else { sum }
    });
    check("add.rn.sat.f16x2", 2, |[a, b, _]| {
        let sum = a + b;
        if sum > 0.0 { sum.min(1.0) } else { 0.0 }
    });
    let extreme = |a: f64, b: f64, larger: bool| match () {
        () if a.is_nan() => b,
        () if b.is_nan() => a,
        () if (a > b) == larger => a,
        () => b,
    };
    check("max.f16x2", 2, |[a, b, _]| extreme(a, b, true));
    check("min.bf16x2", 2, |[a, b, _]| extreme(a, b, false));
    check("max.NaN.bf16x2", 2, |[a, b, _]| {
        if a.is_nan() || b.is_nan() {
            f64::NAN
        } else {
            extreme(a, b, true)
        }
    });
}

#[test]
fn signs_are_bits() {
    for (opcode, f) in [
        ("neg.f16x2", (|v| v ^ 0x8000_8000) as fn(u32) -> u32),
        ("abs.bf16x2", |v| v & 0x7fff_7fff),
    ] {
        for (input, got) in pairs(opcode, 1) {
            assert_eq!(got, f(input[0]), "{opcode}");
        }
    }
}

#[test]
fn comparisons_of_pairs() {
    let value = |word: u32, half: usize| f16::from_bits(halves(word)[half]);
    for (input, got) in pairs("set.lt.f16x2.f16x2", 2) {
        for half in 0..2 {
            let holds = value(input[0], half) < value(input[1], half);
            assert_eq!(halves(got)[half], if holds { 0x3c00 } else { 0 });
        }
    }
    for (input, got) in pairs("set.geu.u32.f16x2", 2) {
        for half in 0..2 {
            let (a, b) = (value(input[0], half), value(input[1], half));
            let holds = a >= b || a.is_nan() || b.is_nan();
            assert_eq!(halves(got)[half], if holds { 0xffff } else { 0 });
        }
    }
    let body = "cvt.u32.u64 %r0, %d0; cvt.u32.u64 %r1, %d1; setp.ne.f16x2 %p0|%p1, %r0, %r1;
        selp.u64 %d3, 1, 0, %p0; selp.u64 %d4, 2, 0, %p1; or.b64 %d3, %d3, %d4;";
    let inputs = [[0x3c00_3c00, 0x3c00_4000, 0], [0x7fff_0000, 0x7fff_8000, 0]];
    assert_eq!(threads(body, &inputs), [1, 0]);
}
