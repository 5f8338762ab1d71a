//! Local, generic and narrow accesses, and accesses of vectors.

use ptx::{Device, Kind, Launch, Options};

use crate::common::{kernel, kinds, upload};
use crate::{BEFORE, threads, warp};

#[test]
fn local_memory_belongs_to_a_thread() {
    // an array in which each thread reverses bytes, by local and by generic addresses
    let body = "mov.u64 %d4, stack; cvta.local.u64 %d5, %d4; st.local.u64 [stack+8], %d0; mov.u64 %d3, 0; mov.u32 %r0, 0;
        LOOP: cvt.u64.u32 %d6, %r0; add.u64 %d7, %d5, %d6; ld.u8 %d8, [%d7+8]; shl.b64 %d3, %d3, 8; or.b64 %d3, %d3, %d8;
        add.u32 %r0, %r0, 1; setp.lt.u32 %p0, %r0, 8; @%p0 bra LOOP;";
    let inputs = warp(1);
    let want: Vec<u64> = inputs.iter().map(|[x, ..]| x.swap_bytes()).collect();
    assert_eq!(threads(body, &inputs), want);
}

#[test]
fn narrow_loads_extend_and_narrow_stores_keep_their_neighbours() {
    let body = "st.local.u64 [stack], %d0; ld.local.s8 %r0, [stack+3]; ld.local.u16 %r1, [stack+4]; ld.local.s16 %d4, [stack+6];
        st.local.u8 [stack+1], %r1; st.local.u64 [stack+8], %d4; ld.local.u64 %d5, [stack]; cvt.s64.s32 %d6, %r0; add.u64 %d5, %d5, %d6;
        xor.b64 %d3, %d5, %d4;";
    let inputs = warp(2);
    let want = inputs.iter().map(|[x, ..]| {
        let bytes = x.to_le_bytes();
        let mut changed = bytes;
        changed[1] = bytes[4];
        let top = i64::from(i16::from_le_bytes([bytes[6], bytes[7]]));
        u64::from_le_bytes(changed).wrapping_add(i64::from(bytes[3] as i8) as u64) ^ top as u64
    });
    assert_eq!(threads(body, &inputs), want.collect::<Vec<_>>());
}

#[test]
fn vectors() {
    let body = "mov.b64 {%r0, %r1}, %d0; mov.b64 {%r2, %r3}, %d1; shl.b32 %r4, %r30, 4; mov.u32 %r5, sm; add.u32 %r5, %r5, %r4;
        st.shared.v4.u32 [%r5], {%r0, %r1, %r2, %r3}; ld.shared.v2.u64 {%d4, %d5}, [%r5]; ld.shared.v4.u8 {%r6, %r7, %r8, %r9}, [%r5+4];
        add.u64 %d3, %d4, %d5; cvt.u64.u32 %d6, %r9; add.u64 %d3, %d3, %d6;";
    let inputs = warp(3);
    let want = inputs
        .iter()
        .map(|[x, y, _]| x.wrapping_add(*y).wrapping_add(x >> 56));
    assert_eq!(threads(body, &inputs), want.collect::<Vec<_>>());
}

#[test]
fn spaces_of_generic_addresses() {
    let body = "mov.u64 %d4, stack; cvta.local.u64 %d4, %d4; mov.u64 %d5, sm; cvta.shared.u64 %d5, %d5; isspacep.local %p0, %d4;
        isspacep.shared %p1, %d5; isspacep.global %p2, %d11; isspacep.shared %p3, %d4; selp.u64 %d3, 1, 0, %p0; selp.u64 %d6, 2, 0, %p1;
        or.b64 %d3, %d3, %d6; selp.u64 %d6, 4, 0, %p2; or.b64 %d3, %d3, %d6; selp.u64 %d6, 8, 0, %p3; or.b64 %d3, %d3, %d6;
        st.u64 [%d5], %d3; cvta.to.shared.u64 %d7, %d5; ld.shared.u64 %d3, [%d7];";
    assert_eq!(threads(body, &[[0; 3]]), [7]);
}

#[test]
fn what_local_memory_finds() {
    let found = |body: &str| {
        let kernel = kernel(&format!("{BEFORE}{body}"));
        let mut device = Device::new();
        let input = upload(&mut device, &[0u64; 96], u64::to_le_bytes);
        let output = device.allocate(256);
        let args = [input.into(), output.into()];
        let report = device.launch(&kernel, &Launch::linear(1, 32), &args, &Options::default());
        kinds(&report.expect("a launch"))
    };
    assert_eq!(found("st.local.u32 [stack+64], 0;"), [Kind::OutOfBounds]);
    assert_eq!(found("st.local.u32 [stack+62], 0;"), [Kind::Misaligned]);
    assert_eq!(found("ld.local.u32 %r0, [stack+4];"), [Kind::Uninitialised]);
    assert_eq!(
        found("st.local.u32 [stack+4], 0; ld.local.u32 %r0, [stack+4];"),
        []
    );
}
