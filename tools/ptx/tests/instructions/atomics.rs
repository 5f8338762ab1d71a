//! Atomics of all types, in global and shared memory, with and without a result.

use half::{bf16, f16};
use ptx::{Device, Launch};

use crate::common::{download, kernel, run, upload};

/// Two warps of threads apply `atom.SPACE.SCOPE.OP.TYPE` to one place, one lane after another. Returns what the place
/// holds then, and what each thread got.
fn apply(
    space: &str,
    op: &str,
    ty: &str,
    bits: u32,
    start: u64,
    values: &[u64; 64],
) -> (u64, Vec<u64>) {
    let register = match bits {
        16 => "%h",
        32 => "%r",
        _ => "%d",
    };
    let (narrow, widen) = match bits {
        16 => ("cvt.u16.u64 %h1, %d1;", "cvt.u64.u16 %d3, %h3;"),
        32 => ("cvt.u32.u64 %r1, %d1;", "cvt.u64.u32 %d3, %r3;"),
        _ => ("", ""),
    };
    let swap = if op == "cas" {
        format!("add.u{bits} {register}2, {register}1, 1;")
    } else {
        String::new()
    };
    let operands = if op == "cas" {
        format!("{register}1, {register}2")
    } else {
        format!("{register}1")
    };
    // the place is the first word of the output; in shared memory thread 0 brings it there and back
    let (address, before, after) = match space {
        "shared" => (
            "sm",
            "@%p0 ld.global.u64 %d6, [%d11]; @%p0 st.shared.u64 [sm], %d6; bar.sync 0;",
            "bar.sync 0; @%p0 ld.shared.u64 %d6, [sm]; @%p0 st.global.u64 [%d11], %d6;",
        ),
        _ => ("%d11", "", ""),
    };
    let body = format!(
        ".reg .pred %p<4>; .reg .b16 %h<8>; .reg .b32 %r<32>; .reg .b64 %d<16>; .shared .align 8 .b8 sm[8];
        ld.param.u64 %d10, [in]; ld.param.u64 %d11, [out]; mov.u32 %r30, %tid.x; mad.wide.u32 %d12, %r30, 8, %d10;
        mad.wide.u32 %d13, %r30, 8, %d11; ld.global.u64 %d1, [%d12]; setp.eq.u32 %p0, %r30, 0; {narrow} {swap} {before}
        atom.{space}.{op}.{ty} {register}3, [{address}], {operands}; {widen} st.global.u64 [%d13+8], %d3; {after}"
    );
    let kernel = kernel(&body);
    let mut device = Device::new();
    let input = upload(&mut device, values, u64::to_le_bytes);
    let output = device.allocate(8 * 65);
    device
        .write(output, &start.to_le_bytes())
        .expect("an allocation");
    run(
        &mut device,
        &kernel,
        &Launch::linear(1, 64),
        &[input.into(), output.into()],
    );
    let mut all = download(&device, output, 65, u64::from_le_bytes);
    let last = all.remove(0);
    (last, all)
}

/// The function of an operation on old value and operand.
type Function = fn(u64, u64) -> u64;

fn check(op: &str, ty: &str, bits: u32, start: u64, f: Function) {
    let mut random = crate::common::Random(5);
    let keep = u64::MAX >> (64 - bits);
    let values: [u64; 64] = std::array::from_fn(|_| match ty {
        "f32" => f32::to_bits((random.bits() % 100) as f32 - 50.0).into(),
        "f64" => f64::to_bits((random.bits() % 100) as f64 - 50.0),
        "f16" => f16::from_f32((random.bits() % 9) as f32 - 4.0)
            .to_bits()
            .into(),
        "bf16" => bf16::from_f32((random.bits() % 9) as f32 - 4.0)
            .to_bits()
            .into(),
        "f16x2" | "bf16x2" => 0x4000_3c00 ^ (random.bits() & 0x8000_8000),
        _ => random.bits() & keep,
    });
    // an operation with a few operands, so that compare-and-swap succeeds sometimes
    let values = if op == "cas" {
        values.map(|v| start.wrapping_add(v % 3) & keep)
    } else {
        values
    };
    for space in [
        "global",
        "shared",
        "global.gpu",
        "global.relaxed.sys",
        "global.acq_rel.cta",
    ] {
        if space.contains('.') && op == "cas" && bits == 16 {
            continue;
        }
        let (mut now, mut want) = (start, vec![]);
        for value in values {
            want.push(now & keep);
            now = (now & !keep) | (f(now & keep, value) & keep);
        }
        let place = space.split('.').next().unwrap_or(space);
        let qualifiers = space
            .split_once('.')
            .map_or(String::new(), |(_, rest)| format!("{rest}."));
        // scope and order come before the space
        let opcode_space = format!("{qualifiers}{place}");
        let (last, got) = if place == "shared" {
            apply("shared", op, ty, bits, start, &values)
        } else {
            apply(&opcode_space, op, ty, bits, start, &values)
        };
        assert_eq!(got, want, "{opcode_space}.{op}.{ty}");
        assert_eq!(last, now, "{opcode_space}.{op}.{ty}");
    }
}

#[test]
fn whole_numbers() {
    let start = 0x8000_0000_1234_5678;
    check("add", "u32", 32, start, |old, v| old + v);
    check("add", "s32", 32, start, |old, v| old + v);
    check("add", "u64", 64, start, u64::wrapping_add);
    check("min", "u32", 32, start, u64::min);
    check("max", "u64", 64, start, u64::max);
    check("min", "s32", 32, start, |old, v| {
        (old as i32).min(v as i32) as u32 as u64
    });
    check("max", "s64", 64, start, |old, v| {
        (old as i64).max(v as i64) as u64
    });
    check(
        "inc",
        "u32",
        32,
        5,
        |old, v| if old >= v { 0 } else { old + 1 },
    );
    check("dec", "u32", 32, 5, |old, v| {
        if old == 0 || old > v { v } else { old - 1 }
    });
}

#[test]
fn bits_and_exchanges() {
    let start = 0x8000_0000_1234_5678;
    check("and", "b32", 32, start, |old, v| old & v);
    check("or", "b64", 64, start, |old, v| old | v);
    check("xor", "b32", 32, start, |old, v| old ^ v);
    check("exch", "b32", 32, start, |_, v| v);
    check("exch", "b64", 64, start, |_, v| v);
    check(
        "cas",
        "b32",
        32,
        7,
        |old, v| if old == v { v + 1 } else { old },
    );
    check(
        "cas",
        "b64",
        64,
        7,
        |old, v| if old == v { v + 1 } else { old },
    );
    check(
        "cas",
        "b16",
        16,
        7,
        |old, v| if old == v { v + 1 } else { old },
    );
}

#[test]
fn floats() {
    let f32s: Function = |old, v| {
        (f32::from_bits(old as u32) + f32::from_bits(v as u32))
            .to_bits()
            .into()
    };
    check("add", "f32", 32, 0, f32s);
    check("add", "f64", 64, 0, |old, v| {
        (f64::from_bits(old) + f64::from_bits(v)).to_bits()
    });
    let f16s: Function = |old, v| {
        (f16::from_bits(old as u16) + f16::from_bits(v as u16))
            .to_bits()
            .into()
    };
    let bf16s: Function = |old, v| {
        (bf16::from_bits(old as u16) + bf16::from_bits(v as u16))
            .to_bits()
            .into()
    };
    check("add.noftz", "f16", 16, 0, f16s);
    check("add.noftz", "bf16", 16, 0, bf16s);
    check("add.noftz", "f16x2", 32, 0, |old, v| {
        let half = |at: u32| {
            let [a, b] = [old, v].map(|w| f16::from_bits((w >> at) as u16));
            u64::from((a + b).to_bits()) << at
        };
        half(0) | half(16)
    });
}

#[test]
fn reductions_give_nothing_back() {
    let body = ".reg .b32 %r<8>; .reg .b64 %d<4>; ld.param.u64 %d1, [out]; mov.u32 %r0, %tid.x;
        red.global.add.u32 [%d1], %r0; red.release.gpu.global.max.s32 [%d1+4], %r0;";
    let kernel = kernel(body);
    let mut device = Device::new();
    let output = upload(&mut device, &[0u32, 0], u32::to_le_bytes);
    run(
        &mut device,
        &kernel,
        &Launch::linear(3, 64),
        &[0u64.into(), output.into()],
    );
    assert_eq!(
        download(&device, output, 2, u32::from_le_bytes),
        [3 * 63 * 32, 63]
    );
}

#[test]
fn vectors() {
    // sm_90: two or four sums in one instruction, side by side
    let body = ".reg .b32 %r<8>; .reg .f32 %f<8>; .reg .b64 %d<4>; ld.param.u64 %d1, [out]; mov.u32 %r0, %tid.x; cvt.rn.f32.u32 %f0, %r0;
        add.f32 %f1, %f0, 0f3F800000; red.global.add.v2.f32 [%d1], {%f0, %f1};
        atom.global.v4.f32.add {%f4, %f5, %f6, %f7}, [%d1+16], {%f0, %f1, %f0, %f1};";
    let kernel = kernel(body);
    let mut device = Device::new();
    let output = upload(&mut device, &[0f32; 8], f32::to_le_bytes);
    run(
        &mut device,
        &kernel,
        &Launch::linear(1, 32),
        &[0u64.into(), output.into()],
    );
    let (a, b) = ((31 * 16) as f32, (32 * 33 / 2) as f32);
    assert_eq!(
        download(&device, output, 8, f32::from_le_bytes),
        [a, b, 0.0, 0.0, a, b, a, b]
    );
}
