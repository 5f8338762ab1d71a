//! `cvt` among all types, in all rounding modes, against exact computations.

use proptest::prelude::*;

use crate::exact::{Exact, MODES};
use crate::rounding::{TYPES, Ty, word};
use crate::threads;

/// A function and the name PTX has for it.
type Named<A, B> = (&'static str, fn(A) -> B);

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conversions(words in proptest::collection::vec(word(), 32)) {
        let inputs: Vec<[u64; 3]> = words.iter().map(|w| [*w, 0, 0]).collect();
        for from in TYPES {
            let inputs: Vec<[u64; 3]> = inputs.iter().map(|[w, ..]| [w >> (64 - from.bits), 0, 0]).collect();
            to_narrower(from, &inputs);
            to_whole(from, &inputs);
        }
        from_whole(&inputs);
    }
}

/// `cvt` to the types that have fewer bits.
fn to_narrower(from: Ty, inputs: &[[u64; 3]]) {
    for to in TYPES.into_iter().filter(|to| to.bits < from.bits) {
        // bf16 from f64 is not an instruction
        if from.bits == 64 && to.name == "bf16" {
            continue;
        }
        let modes = if to.bits == 16 && from.bits == 32 {
            &MODES[..2]
        } else {
            &MODES
        };
        for (name, mode) in modes {
            let opcode = format!("cvt.{name}.{}.{}", to.name, from.name);
            let line = format!(
                "{} {opcode} {}, {}; {}",
                from.load(0),
                to.register(3),
                from.register(0),
                to.store()
            );
            for (input, got) in inputs.iter().zip(threads(&line, inputs)) {
                let x = (from.value)(input[0]);
                let want = if x.is_finite() && x != 0.0 {
                    Exact::from(x).round(to.format, *mode).copysign(x)
                } else {
                    x
                };
                assert!(
                    to.same(got, want),
                    "{opcode} of {x:e} gives {got:#x}, not {want:e}"
                );
            }
        }
    }
}

/// `cvt` of floats to whole numbers saturates.
fn to_whole(from: Ty, inputs: &[[u64; 3]]) {
    if from.name == "bf16" {
        return;
    }
    let modes: [Named<f64, f64>; 4] = [
        ("rni", f64::round_ties_even),
        ("rzi", f64::trunc),
        ("rmi", f64::floor),
        ("rpi", f64::ceil),
    ];
    for (name, round) in modes {
        let wholes: [Named<f64, u64>; 4] = [
            ("s32", |v| v as i32 as u32 as u64),
            ("u32", |v| v as u32 as u64),
            ("s64", |v| v as i64 as u64),
            ("u64", |v| v as u64),
        ];
        for (ty, convert) in wholes {
            let opcode = format!("cvt.{name}.{ty}.{}", from.name);
            let line = if ty.ends_with("32") {
                format!("{opcode} %r3, {}; cvt.u64.u32 %d3, %r3;", from.register(0))
            } else {
                format!("{opcode} %d3, {};", from.register(0))
            };
            for (input, got) in inputs
                .iter()
                .zip(threads(&format!("{} {line}", from.load(0)), inputs))
            {
                let x = (from.value)(input[0]);
                // the smallest number of its type stands for what is not a number in 64 bits, zero in 32
                let want = match (x.is_nan(), from.bits == 64 || ty.ends_with("64")) {
                    (true, true) if ty.ends_with("64") => 1 << 63,
                    (true, true) => 1 << 31,
                    _ => convert(round(x)),
                };
                assert_eq!(got, want, "{opcode} of {x:e}");
            }
        }
    }
}

fn from_whole(inputs: &[[u64; 3]]) {
    for to in TYPES.into_iter().filter(|ty| ty.name != "bf16") {
        for (name, mode) in MODES {
            let wholes: [Named<u64, i128>; 4] = [
                ("s32", |v| (v as i32).into()),
                ("u32", |v| (v as u32).into()),
                ("s64", |v| (v as i64).into()),
                ("u64", |v| v.into()),
            ];
            for (ty, value) in wholes {
                let opcode = format!("cvt.{name}.{}.{ty}", to.name);
                let source = if ty.ends_with("32") { "%r0" } else { "%d0" };
                let line = format!(
                    "cvt.u32.u64 %r0, %d0; {opcode} {}, {source}; {}",
                    to.register(3),
                    to.store()
                );
                for (input, got) in inputs.iter().zip(threads(&line, inputs)) {
                    let x = value(input[0]);
                    let want = Exact::whole(x).round(to.format, mode);
                    assert!(
                        to.same(got, want),
                        "{opcode} of {x} gives {got:#x}, not {want:e}"
                    );
                }
            }
        }
    }
}
