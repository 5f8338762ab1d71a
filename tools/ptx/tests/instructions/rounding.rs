//! Arithmetic of all floating-point types, in all rounding modes, against exact computations.

use half::{bf16, f16};
use proptest::prelude::*;

use crate::exact::{BF16, Exact, F16, F32, F64, Format, MODES, Mode};
use crate::threads;

/// A type of PTX: how its numbers get into registers and out of them.
#[derive(Clone, Copy)]
pub struct Ty {
    pub name: &'static str,
    pub bits: u32,
    pub format: Format,
    pub value: fn(u64) -> f64,
}

pub const TYPES: [Ty; 4] = [
    Ty {
        name: "f16",
        bits: 16,
        format: F16,
        value: |bits| f16::from_bits(bits as u16).to_f64(),
    },
    Ty {
        name: "bf16",
        bits: 16,
        format: BF16,
        value: |bits| bf16::from_bits(bits as u16).to_f64(),
    },
    Ty {
        name: "f32",
        bits: 32,
        format: F32,
        value: |bits| f32::from_bits(bits as u32).into(),
    },
    Ty {
        name: "f64",
        bits: 64,
        format: F64,
        value: f64::from_bits,
    },
];

impl Ty {
    pub fn register(self, index: usize) -> String {
        let letter = match self.bits {
            16 => 'h',
            32 => 'f',
            _ => 'g',
        };
        format!("%{letter}{index}")
    }

    pub fn load(self, index: usize) -> String {
        let to = self.register(index);
        match self.bits {
            16 => format!("cvt.u16.u64 {to}, %d{index};"),
            32 => format!("cvt.u32.u64 %r{index}, %d{index}; mov.b32 {to}, %r{index};"),
            _ => format!("mov.b64 {to}, %d{index};"),
        }
    }

    pub fn store(self) -> String {
        let from = self.register(3);
        match self.bits {
            16 => format!("cvt.u64.u16 %d3, {from};"),
            32 => format!("mov.b32 %r3, {from}; cvt.u64.u32 %d3, %r3;"),
            _ => format!("mov.b64 %d3, {from};"),
        }
    }

    /// Results of an instruction of this type.
    fn run(self, opcode: &str, operands: usize, inputs: &[[u64; 3]]) -> Vec<u64> {
        let loads: String = (0..operands).map(|i| self.load(i)).collect();
        let sources: Vec<String> = (0..operands).map(|i| self.register(i)).collect();
        let line = format!("{opcode} {}, {};", self.register(3), sources.join(", "));
        threads(&format!("{loads} {line} {}", self.store()), inputs)
    }

    fn keep(self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    pub fn same(self, got: u64, want: f64) -> bool {
        let got_value = (self.value)(got);
        if want.is_nan() {
            // f16, bf16 and f32 have one NaN
            let canonical = self.keep() >> 1;
            return if self.bits == 64 {
                got_value.is_nan()
            } else {
                got == canonical
            };
        }
        got_value == want
            && (want != 0.0 || got_value.is_sign_negative() == want.is_sign_negative())
    }
}

/// Words whose parts are edges often enough: exponents near the ends and near one another.
pub fn word() -> impl Strategy<Value = u64> {
    let edges = [
        0,
        1 << 63,
        1,
        u64::MAX,
        0x7ff0 << 48,
        0x3ff0 << 48,
        0x7fef_ffff_ffff_ffff,
    ];
    prop_oneof![
        6 => any::<u64>(),
        1 => proptest::sample::select(edges.to_vec()),
    ]
}

/// 32 triples of one type: of any bits, or of magnitudes that interact.
fn triples(ty: Ty) -> impl Strategy<Value = Vec<[u64; 3]>> {
    let near = (any::<u64>(), any::<u64>(), any::<u64>(), 0u64..4);
    let fraction = ty.format.precision as u32 - 1;
    let triple = prop_oneof![
        (word(), word(), word()).prop_map(move |(a, b, c)| [a, b, c].map(|v| v >> (64 - ty.bits))),
        near.prop_map(move |(a, b, c, spread)| {
            // exponents within a few of that of one
            let one = (1u64 << (ty.bits - 2 - fraction)) - 1;
            [a, b, c].map(|v| {
                let spread = (spread * 9).min(one - 1);
                let exponent = one - spread + v % (1 + 2 * spread);
                let sign = v >> 63 << (ty.bits - 1);
                sign | exponent << fraction | (v >> 3 & ((1 << fraction) - 1))
            })
        }),
    ];
    proptest::collection::vec(triple, 32)
}

/// What an operation gives that is not a finite sum of products: infinities, not a number, and zeros with their sign.
fn expected(ty: Ty, op: &str, mode: Mode, [a, b, c]: [f64; 3]) -> f64 {
    let special = match op {
        "add" => a + b,
        "sub" => a - b,
        "mul" => a * b,
        _ => {
            // an exact zero is no rounded one
            let product = if a == 0.0 || b == 0.0 || !a.is_finite() || !b.is_finite() {
                a * b
            } else {
                1f64.copysign(a) * 1f64.copysign(b)
            };
            if a * b + c == 0.0 && c == 0.0 {
                product * f64::MIN_POSITIVE + c
            } else {
                product + c
            }
        }
    };
    if [a, b, c].iter().any(|v| !v.is_finite()) {
        return special;
    }
    let exact = match op {
        "add" => Exact::from(a).plus(Exact::from(b)),
        "sub" => Exact::from(a).plus(Exact::from(-b)),
        "mul" => Exact::product(a, b),
        _ => Exact::product(a, b).plus(Exact::from(c)),
    };
    let negative_product = a.is_sign_negative() != b.is_sign_negative();
    let negative_zero = match (exact.sign(), op) {
        (0, "mul") => negative_product,
        (0, _) => {
            let second = match op {
                "add" => [a, b],
                "sub" => [a, -b],
                _ => [if negative_product { -0.0 } else { 0.0 }, c],
            };
            let signs = second.map(f64::is_sign_negative);
            // of zeros with one sign, that; otherwise only rounding down gives -0
            let zeros = second == [0.0, 0.0];
            if zeros && signs[0] == signs[1] {
                signs[0]
            } else {
                mode == Mode::Down
            }
        }
        (sign, _) => sign < 0,
    };
    let rounded = exact.round(ty.format, mode).abs();
    if negative_zero { -rounded } else { rounded }
}

fn check(ty: Ty, op: &str, mode: (&str, Mode), inputs: &[[u64; 3]]) {
    let operands = if op == "fma" { 3 } else { 2 };
    let opcode = format!("{op}.{}.{}", mode.0, ty.name);
    for (input, got) in inputs.iter().zip(ty.run(&opcode, operands, inputs)) {
        let values = input.map(ty.value);
        let values = if operands == 2 {
            [values[0], values[1], 0.0]
        } else {
            values
        };
        let want = expected(ty, op, mode.1, values);
        assert!(
            ty.same(got, want),
            "{opcode} of {values:?} ({input:x?}) gives {} ({got:#x}), not {want:e}",
            (ty.value)(got)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sums_and_products(
        f16 in triples(TYPES[0]), bf16 in triples(TYPES[1]), f32 in triples(TYPES[2]), f64 in triples(TYPES[3])
    ) {
        for op in ["add", "sub", "mul", "fma"] {
            for (ty, inputs) in TYPES.into_iter().zip([&f16, &bf16, &f32, &f64]) {
                // halves have one mode
                let modes = if ty.bits == 16 { &MODES[..1] } else { &MODES };
                for mode in modes {
                    check(ty, op, *mode, inputs);
                }
            }
        }
    }

    #[test]
    fn quotients_and_roots(f32 in triples(TYPES[2]), f64 in triples(TYPES[3])) {
        for (ty, inputs) in [(TYPES[2], &f32), (TYPES[3], &f64)] {
            for mode in MODES {
                for op in ["div", "rcp", "sqrt"] {
                    quotient(ty, op, mode, inputs);
                }
            }
        }
    }
}

/// A quotient or root is right if the numbers around it, multiplied out, lie around the operand.
fn quotient(ty: Ty, op: &str, mode: (&str, Mode), inputs: &[[u64; 3]]) {
    let opcode = format!("{op}.{}.{}", mode.0, ty.name);
    let results = ty.run(&opcode, if op == "div" { 2 } else { 1 }, inputs);
    for (input, bits) in inputs.iter().zip(results) {
        let (got, [x, y, _]) = ((ty.value)(bits), input.map(ty.value));
        let (a, b) = if op == "rcp" { (1.0, x) } else { (x, y) };
        let nearest = if op == "sqrt" { a.sqrt() } else { a / b };
        let context = format!("{opcode} of {a:e}, {b:e} gives {got:e}");
        // no rounding: infinite, zero, or not a number
        if !a.is_finite()
            || a == 0.0
            || nearest.is_nan()
            || op != "sqrt" && (!b.is_finite() || b == 0.0)
        {
            assert!(ty.same(bits, nearest), "{context}, not {nearest:e}");
            continue;
        }
        // the sign of v minus the exact result, which has the sign of a / b
        let sign = if op == "sqrt" || (a > 0.0) == (b > 0.0) {
            1
        } else {
            -1
        };
        let side = |v: f64| {
            let negative = |x: f64| Exact::from(-x);
            let (product, operand) = if op == "sqrt" {
                (Exact::product(v.abs(), v.abs()), negative(a))
            } else {
                (Exact::product(v.abs(), b.abs()), negative(a.abs()))
            };
            sign * product.plus(operand).sign()
        };
        // the neighbours in the format; what comes after the largest counts as infinite
        let step = |v: f64, up: bool| {
            if ty.bits == 32 {
                let v = v as f32;
                f64::from(if up { v.next_up() } else { v.next_down() })
            } else if up {
                v.next_up()
            } else {
                v.next_down()
            }
        };
        let at_or_above = |v: f64| v == f64::INFINITY || v.is_finite() && side(v) >= 0;
        let at_or_below = |v: f64| v == f64::NEG_INFINITY || v.is_finite() && side(v) <= 0;
        let down = at_or_below(got) && (side_is_zero(got, &side) || !at_or_below(step(got, true)));
        let up = at_or_above(got) && (side_is_zero(got, &side) || !at_or_above(step(got, false)));
        let right = match mode.1 {
            Mode::Down => down,
            Mode::Up => up,
            Mode::Zero if sign > 0 => down,
            Mode::Zero => up,
            // the operations of the machine round to nearest; f32 from f64 twice is once for these
            Mode::Nearest if ty.bits == 32 => got == f64::from(nearest_f32(op, a as f32, b as f32)),
            Mode::Nearest => got == nearest,
        };
        assert!(right, "{context}");
    }
}

fn side_is_zero(v: f64, side: &dyn Fn(f64) -> i32) -> bool {
    v.is_finite() && side(v) == 0
}

fn nearest_f32(op: &str, a: f32, b: f32) -> f32 {
    if op == "sqrt" { a.sqrt() } else { a / b }
}

#[test]
fn saturation_flushing_and_extremes() {
    let f32s = TYPES[2];
    let bits = |x: f32| u64::from(x.to_bits());
    let tiny = f32::from_bits(5);
    let values = [
        -1.0,
        -0.0,
        0.0,
        0.5,
        1.0,
        3.0,
        tiny,
        -tiny,
        f32::INFINITY,
        f32::NAN,
        f32::MIN_POSITIVE,
        1e-38,
    ];
    let pairs: Vec<[u64; 3]> = values
        .iter()
        .flat_map(|a| values.iter().map(|b| [bits(*a), bits(*b), 0]))
        .collect();
    let flush = |x: f32| {
        if x.abs() < f32::MIN_POSITIVE {
            0f32.copysign(x)
        } else {
            x
        }
    };
    let saturate = |x: f32| {
        if x.is_nan() {
            0.0
        } else {
            x.clamp(0.0, 1.0) + 0.0
        }
    };
    // PTX: the other operand if one is not a number, and -0 below +0
    let min = |a: f32, b: f32| match () {
        () if a.is_nan() => b,
        () if b.is_nan() => a,
        () if a == b => {
            if a.is_sign_negative() {
                a
            } else {
                b
            }
        }
        () => {
            if a < b {
                a
            } else {
                b
            }
        }
    };
    type Function<'f> = &'f dyn Fn(f32, f32) -> f32;
    let cases: [(&str, Function); 8] = [
        ("add.sat.f32", &|a, b| saturate(a + b)),
        ("mul.sat.f32", &|a, b| saturate(a * b)),
        ("add.ftz.f32", &|a, b| flush(flush(a) + flush(b))),
        ("mul.ftz.f32", &|a, b| flush(flush(a) * flush(b))),
        ("sub.ftz.sat.f32", &|a, b| {
            saturate(flush(flush(a) - flush(b)))
        }),
        ("min.f32", &min),
        ("max.f32", &|a, b| -min(-a, -b)),
        ("min.NaN.f32", &|a, b| {
            if a.is_nan() || b.is_nan() {
                f32::NAN
            } else {
                min(a, b)
            }
        }),
    ];
    for (opcode, f) in cases {
        for (input, got) in pairs.iter().zip(f32s.run(opcode, 2, &pairs)) {
            let [a, b] = [0, 1].map(|i| f32::from_bits(input[i] as u32));
            assert!(
                f32s.same(got, f(a, b).into()),
                "{opcode} of {a:e}, {b:e} gives {got:#x}"
            );
        }
    }
}
