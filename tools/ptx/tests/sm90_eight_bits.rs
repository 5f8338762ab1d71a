//! Formats of eight bits in conversions and `mma.sync`, and the small instructions of sm_90.

mod common;

use common::{clean, download, kernel, run, upload};
use half::f16;
use ptx::{Device, Launch, Options};

/// The numbers of e4m3 and e5m2 by their definition: sign, exponent, fraction.
fn value(bits: u32, fraction: i32, bias: i32) -> f64 {
    let (exponent, digits) = ((bits & 0x7f) >> fraction, bits & ((1 << fraction) - 1));
    let one = f64::from(1 << fraction);
    let magnitude = match exponent {
        0 => f64::from(digits) / one * 2f64.powi(1 - bias),
        _ => (1.0 + f64::from(digits) / one) * 2f64.powi(exponent as i32 - bias),
    };
    if bits >> 7 & 1 == 1 {
        -magnitude
    } else {
        magnitude
    }
}

fn e4m3(bits: u32) -> f64 {
    if bits & 0x7f == 0x7f {
        f64::NAN
    } else {
        value(bits, 3, 7)
    }
}

fn e5m2(bits: u32) -> f64 {
    match bits & 0x7f {
        0x7c => f64::INFINITY.copysign(if bits & 0x80 == 0 { 1.0 } else { -1.0 }),
        0x7d.. => f64::NAN,
        _ => value(bits, 2, 15),
    }
}

const DECLARE: &str =
    ".reg .pred %p<4>; .reg .b16 %h<4>; .reg .b32 %r<32>; .reg .f32 %f<8>; .reg .b64 %d<8>;
    ld.param.u64 %d0, [in]; ld.param.u64 %d1, [out]; mov.u32 %r0, %tid.x;\n";

#[test]
fn all_numbers_of_eight_bits_widen() {
    for (name, decode) in [("e4m3", e4m3 as fn(u32) -> f64), ("e5m2", e5m2)] {
        let body = format!(
            "{DECLARE} cvt.u16.u32 %h0, %r0; shl.b16 %h1, %h0, 8; or.b16 %h0, %h0, %h1; cvt.rn.f16x2.{name}x2 %r1, %h0;
            mul.wide.u32 %d2, %r0, 4; add.u64 %d2, %d2, %d1; st.global.u32 [%d2], %r1;"
        );
        let mut device = Device::new();
        let output = device.allocate(1024);
        run(
            &mut device,
            &kernel(&body),
            &Launch::linear(1, 256),
            &[0u64.into(), output.into()],
        );
        for (bits, pair) in download(&device, output, 256, u32::from_le_bytes)
            .iter()
            .enumerate()
        {
            let want = decode(bits as u32);
            for half in [*pair as u16, (pair >> 16) as u16] {
                let got = f64::from(f16::from_bits(half).to_f32());
                assert!(
                    got == want || got.is_nan() && want.is_nan(),
                    "{name} {bits:#x}: {got}, not {want}"
                );
            }
        }
    }
}

#[test]
fn numbers_are_rounded_to_the_nearest_of_eight_bits() {
    let values: Vec<f32> = (0..2048)
        .map(|i| (i as f32 - 1024.0) * 2f32.powi(i % 37 - 18))
        .chain([
            f32::INFINITY,
            -0.0,
            448.0,
            464.0,
            480.0,
            1e-9,
            61440.0,
            65536.0,
        ])
        .collect();
    for (name, decode) in [("e4m3", e4m3 as fn(u32) -> f64), ("e5m2", e5m2)] {
        let largest = if name == "e4m3" { 448.0 } else { 57344.0 };
        let body = format!(
            "{DECLARE} mov.u32 %r2, %ctaid.x; shl.b32 %r2, %r2, 8; add.u32 %r0, %r0, %r2; mul.wide.u32 %d2, %r0, 4; add.u64 %d3, %d2, %d0;
            setp.ge.u32 %p0, %r0, {}; @%p0 ret; ld.global.f32 %f0, [%d3]; mov.f32 %f1, 0f3F800000;
            cvt.rn.satfinite.{name}x2.f32 %h0, %f1, %f0; cvt.rn.satfinite.relu.{name}x2.f32 %h1, %f0, %f1;
            mov.b32 %r1, {{%h0, %h1}}; add.u64 %d2, %d2, %d1; st.global.u32 [%d2], %r1;",
            values.len()
        );
        let mut device = Device::new();
        let input = upload(&mut device, &values, f32::to_le_bytes);
        let output = device.allocate(4 * values.len());
        let launch = Launch::linear(values.len().div_ceil(256) as u32, 256);
        run(
            &mut device,
            &kernel(&body),
            &launch,
            &[input.into(), output.into()],
        );
        let got = download(&device, output, values.len(), u32::from_le_bytes);
        for (x, word) in values.iter().zip(got) {
            let finite = (0..256).filter(|bits| decode(*bits).is_finite());
            let clamped = f64::from(*x).clamp(-largest, largest);
            let nearest = finite
                .map(|bits| (decode(bits) - clamped).abs())
                .fold(f64::MAX, f64::min);
            let found = decode(word & 0xff);
            assert!((found - clamped).abs() == nearest, "{name} of {x}: {found}");
            // between two numbers, the one with an even last bit
            let tie = (0..256).filter(|bits| {
                (decode(*bits) - clamped).abs() == nearest && decode(*bits).is_finite()
            });
            if nearest > 0.0 && tie.count() == 2 {
                assert_eq!(word & 1, 0, "{name} of {x}");
            }
            assert_eq!(decode(word >> 8 & 0xff), 1.0);
            let positive = if *x < 0.0 { 0.0 } else { found };
            assert_eq!(decode(word >> 24), positive);
        }
    }
}

#[test]
fn products_of_two_formats() {
    let body = format!(
        "{DECLARE} mul.wide.u32 %d2, %r0, 24; add.u64 %d2, %d2, %d0; ld.global.v2.u32 {{%r1, %r2}}, [%d2]; ld.global.v2.u32 {{%r3, %r4}}, [%d2+8];
        ld.global.v2.u32 {{%r5, %r6}}, [%d2+16]; mov.f32 %f4, 0f3F800000;
        mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e5m2.f32 {{%f0, %f1, %f2, %f3}}, {{%r1, %r2, %r3, %r4}}, {{%r5, %r6}}, {{%f4, %f4, %f4, %f4}};
        mul.wide.u32 %d3, %r0, 16; add.u64 %d3, %d3, %d1; st.global.v4.f32 [%d3], {{%f0, %f1, %f2, %f3}};"
    );
    let mut random = common::Random(3);
    // moderate exponents
    let byte = |bits: u64, fraction: u32, bias: u32| -> u8 {
        let exponent = bias - 2 + (bits as u32 >> 8) % 4;
        ((bits as u32 & 0x80) | exponent << fraction | (bits as u32 & ((1 << fraction) - 1))) as u8
    };
    let a: Vec<u8> = (0..16 * 32).map(|_| byte(random.bits(), 3, 7)).collect();
    let b: Vec<u8> = (0..32 * 8).map(|_| byte(random.bits(), 2, 15)).collect();
    // a [16, 32] by rows, b [8, 32] by columns, as lanes hold them
    let mut words = vec![0u8; 32 * 24];
    for lane in 0..32 {
        for i in 0..4 {
            let (row, k) = (lane / 4 + 8 * (i % 2), lane % 4 * 4 + 16 * (i / 2));
            words[lane * 24 + 4 * i..][..4].copy_from_slice(&a[row * 32 + k..][..4]);
        }
        for i in 0..2 {
            let k = lane % 4 * 4 + 16 * i;
            words[lane * 24 + 16 + 4 * i..][..4].copy_from_slice(&b[lane / 4 * 32 + k..][..4]);
        }
    }
    let mut device = Device::new();
    let input = upload(&mut device, &words, |b| [b]);
    let output = device.allocate(512);
    let report = run(
        &mut device,
        &kernel(&body),
        &Launch::linear(1, 32),
        &[input.into(), output.into()],
    );
    assert_eq!(report.counters.total.matrix_flops, 2 * 16 * 8 * 32);
    let got = download(&device, output, 128, f32::from_le_bytes);
    for lane in 0..32 {
        for e in 0..4 {
            let (row, column) = (lane / 4 + 8 * (e / 2), lane % 4 * 2 + e % 2);
            let products =
                (0..32).map(|k| e4m3(a[row * 32 + k].into()) * e5m2(b[column * 32 + k].into()));
            let want = 1.0 + products.sum::<f64>();
            let got = f64::from(got[lane * 4 + e]);
            assert!((got - want).abs() < 1e-5, "{got}, not {want}");
        }
    }
}

#[test]
fn hints_and_elections() {
    let body = format!(
        "{DECLARE} setmaxnreg.inc.sync.aligned.u32 160; griddepcontrol.wait; griddepcontrol.launch_dependents;
        elect.sync %r1|%p0, 0xffffffff; selp.u32 %r2, 100, 0, %p0; add.u32 %r2, %r2, %r1;
        setmaxnreg.dec.sync.aligned.u32 40; mul.wide.u32 %d2, %r0, 4; add.u64 %d2, %d2, %d1; st.global.u32 [%d2], %r2;"
    );
    let mut device = Device::new();
    let output = device.allocate(256);
    let args = [0u64.into(), output.into()];
    let report = device.launch(
        &kernel(&body),
        &Launch::linear(1, 64),
        &args,
        &Options::default(),
    );
    clean(&report.expect("a launch"));
    let got = download(&device, output, 64, u32::from_le_bytes);
    let want: Vec<u32> = (0..64).map(|i| if i % 32 == 0 { 100 } else { 0 }).collect();
    assert_eq!(got, want);
}

#[test]
fn what_is_not_known_is_an_error_with_its_line() {
    for instruction in [
        "tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%r0], 32;",
        "wgmma.mma_async.sync.aligned.m64n12k16.f32.bf16.bf16 {%f0, %f1, %f2, %f3}, %d0, %d1, 1, 1, 1, 0, 0;",
        "cp.async.bulk.tensor.2d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%r0], [%d0, {%r1, %r2}], [%r1];",
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r0];",
        "multimem.ld_reduce.global.add.f32 %f0, [%d0];",
    ] {
        let text = format!(
            ".visible .entry k(.param .u64 in, .param .u64 out) {{\n{DECLARE}{instruction}\nret;\n}}"
        );
        let error = common::module(&text)
            .kernel("k")
            .expect_err(instruction)
            .to_string();
        let opcode = instruction.split(' ').next().unwrap_or_default();
        assert!(
            error.contains(opcode) && error.contains("line 7"),
            "{error}"
        );
    }
}
