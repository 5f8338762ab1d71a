//! Instructions against direct computations.

mod common;

use common::{Random, download, kernel, run, upload};
use ptx::{Device, Launch};

/// Runs `body` on pairs of words: %r1 and %r2 (or %f1 and %f2 after `mov`) in, %r3 out.
fn words(body: &str, pairs: &[(u32, u32)]) -> Vec<u32> {
    let text = format!(
        ".reg .pred %p<4>; .reg .b32 %r<9>; .reg .b64 %d<8>; .reg .f32 %f<4>; .reg .b16 %h<4>;
        ld.param.u64 %d0, [in]; ld.param.u64 %d1, [out]; mov.u32 %r0, %tid.x; mul.wide.u32 %d2, %r0, 8; add.u64 %d3, %d0, %d2;
        ld.global.v2.u32 {{%r1, %r2}}, [%d3]; {body} mul.wide.u32 %d2, %r0, 4; add.u64 %d4, %d1, %d2; st.global.u32 [%d4], %r3;"
    );
    let kernel = kernel(&text);
    let mut device = Device::new();
    let flat: Vec<u32> = pairs.iter().flat_map(|(a, b)| [*a, *b]).collect();
    let input = upload(&mut device, &flat, u32::to_le_bytes);
    let output = device.allocate(4 * pairs.len());
    let launch = Launch::linear(1, pairs.len() as u32);
    run(
        &mut device,
        &kernel,
        &launch,
        &[input.into(), output.into()],
    );
    download(&device, output, pairs.len(), u32::from_le_bytes)
}

fn check(body: &str, f: impl Fn(u32, u32) -> u32) {
    let mut random = Random(3);
    let mut pairs: Vec<(u32, u32)> = (0..90)
        .map(|_| (random.bits() as u32, random.bits() as u32))
        .collect();
    let edges = [0, 1, 31, 32, 0x7fff_ffff, 0x8000_0000, u32::MAX];
    pairs.extend(
        edges
            .iter()
            .flat_map(|a| edges.iter().map(move |b| (*a, *b))),
    );
    // whole warps
    pairs.resize(160, (0, 0));
    for ((a, b), got) in pairs.iter().zip(words(body, &pairs)) {
        assert_eq!(got, f(*a, *b), "{body} of {a:#x}, {b:#x}");
    }
}

#[test]
fn whole_numbers() {
    check("add.u32 %r3, %r1, %r2;", u32::wrapping_add);
    check("add.sat.s32 %r3, %r1, %r2;", |a, b| {
        (a as i32).saturating_add(b as i32) as u32
    });
    check("mul.hi.u32 %r3, %r1, %r2;", |a, b| {
        ((u64::from(a) * u64::from(b)) >> 32) as u32
    });
    check("mul.hi.s32 %r3, %r1, %r2;", |a, b| {
        ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32
    });
    check("max.s32 %r3, %r1, %r2;", |a, b| {
        (a as i32).max(b as i32) as u32
    });
    check("shl.b32 %r3, %r1, %r2;", |a, b| {
        a.checked_shl(b).unwrap_or(0)
    });
    check("shr.s32 %r3, %r1, %r2;", |a, b| {
        ((a as i32) >> b.min(31)) as u32
    });
    check("lop3.b32 %r3, %r1, %r2, 0, 0x3c;", |a, b| a ^ b);
    check("prmt.b32 %r3, %r1, %r2, 0x5410;", |a, b| {
        (a & 0xffff) | b << 16
    });
    check("popc.b32 %r3, %r1;", |a, _| a.count_ones());
    check("add.cc.u32 %r4, %r1, %r2; addc.u32 %r3, 0, 0;", |a, b| {
        u32::from(a.checked_add(b).is_none())
    });
    check("shf.l.wrap.b32 %r3, %r1, %r2, 8;", |a, b| b << 8 | a >> 24);
}

#[test]
fn floats() {
    let nan = |x: f32| if x.is_nan() { 0x7fff_ffff } else { x.to_bits() };
    let f = f32::from_bits;
    let moves = "mov.b32 %f1, %r1; mov.b32 %f2, %r2;";
    let done = "mov.b32 %r3, %f3;";
    let op = |text: &str| format!("{moves} {text} {done}");
    check(&op("add.f32 %f3, %f1, %f2;"), |a, b| nan(f(a) + f(b)));
    check(&op("mul.rn.f32 %f3, %f1, %f2;"), |a, b| nan(f(a) * f(b)));
    check(&op("fma.rn.f32 %f3, %f1, %f2, %f1;"), |a, b| {
        nan(f(a).mul_add(f(b), f(a)))
    });
    check(&op("div.rn.f32 %f3, %f1, %f2;"), |a, b| nan(f(a) / f(b)));
    check(&op("sqrt.rn.f32 %f3, %f1;"), |a, _| nan(f(a).sqrt()));
    check(&format!("{moves} cvt.rzi.s32.f32 %r3, %f1;"), |a, _| {
        f(a) as i32 as u32
    });
    check("cvt.rn.f32.s32 %f3, %r1; mov.b32 %r3, %f3;", |a, _| {
        (a as i32 as f32).to_bits()
    });
    check(
        &format!("{moves} cvt.rn.f16.f32 %h0, %f1; cvt.u32.u16 %r3, %h0;"),
        |a, _| {
            if f(a).is_nan() {
                0x7fff
            } else {
                u32::from(half::f16::from_f32(f(a)).to_bits())
            }
        },
    );
}

#[test]
fn lanes_that_part_meet_again() {
    let body = "mov.u32 %r3, 0; and.b32 %r4, %r1, 15; LOOP: setp.eq.u32 %p0, %r4, 0; @%p0 bra DONE; and.b32 %r5, %r4, 1;
        setp.eq.u32 %p1, %r5, 1; @!%p1 bra EVEN; add.u32 %r3, %r3, 100; bra NEXT; EVEN: add.u32 %r3, %r3, 1; NEXT: sub.u32 %r4, %r4, 1; bra LOOP; DONE:";
    check(body, |a, _| {
        let n = a & 15;
        n.div_ceil(2) * 100 + n / 2
    });
}

#[test]
fn votes_and_shuffles() {
    check(
        "vote.sync.ballot.b32 %r3, 1, 0xffffffff; shfl.sync.bfly.b32 %r4, %r1, 1, 31, 0xffffffff; shfl.sync.bfly.b32 %r3, %r4, 1, 31, 0xffffffff;",
        |a, _| a,
    );
}
