//! Each finding has a kernel that triggers it and a twin that does not.

mod common;

use common::{kernel, kinds, run};
use ptx::{Device, Kind, Launch, Options};

const DECLARE: &str = ".reg .pred %p<4>; .reg .b32 %r<8>; .reg .b64 %d<8>; .shared .align 16 .b8 sm[512];
    ld.param.u64 %d0, [in]; ld.param.u64 %d1, [out]; mov.u32 %r0, %tid.x; shl.b32 %r1, %r0, 2; mov.u32 %r2, sm;
    add.u32 %r3, %r2, %r1; cvt.u64.u32 %d2, %r1; add.u64 %d3, %d0, %d2; add.u64 %d4, %d1, %d2;\n";

/// Kinds found by a body run on `blocks` blocks of 64 threads, with 256 bytes of input and of output.
fn found(body: &str, blocks: u32) -> Vec<Kind> {
    let kernel = kernel(&format!("{DECLARE}{body}"));
    let mut device = Device::new();
    let (input, output) = (device.allocate(256), device.allocate(256));
    device.fill(input, 1, 256).expect("an allocation");
    let launch = Launch::linear(blocks, 64);
    let report = device
        .launch(
            &kernel,
            &launch,
            &[input.into(), output.into()],
            &Options::default(),
        )
        .unwrap_or_else(|e| panic!("{e}"));
    kinds(&report)
}

#[test]
fn races_between_barriers() {
    let body = |barrier: &str| {
        format!(
            "st.shared.u32 [%r3], %r0; {barrier} xor.b32 %r4, %r1, 128; add.u32 %r4, %r4, %r2; ld.shared.u32 %r5, [%r4]; st.global.u32 [%d4], %r5;"
        )
    };
    assert!(found(&body(""), 1).contains(&Kind::Race));
    assert_eq!(found(&body("bar.sync 0;"), 1), []);
}

#[test]
fn races_between_blocks() {
    let body = "mov.u32 %r4, %ctaid.x; st.global.u32 [%d4], %r4;";
    assert_eq!(found(body, 2), [Kind::Race]);
    assert_eq!(found(body, 1), []);
}

#[test]
fn bounds_alignment_and_initialisation() {
    assert_eq!(found("ld.global.u32 %r4, [%d3+4];", 1), [Kind::OutOfBounds]);
    assert_eq!(found("ld.global.u32 %r4, [%d3+2];", 1), [Kind::Misaligned]);
    assert_eq!(found("ld.global.u32 %r4, [%d4];", 1), [Kind::Uninitialised]);
    assert_eq!(found("ld.shared.u32 %r4, [%r3];", 1), [Kind::Uninitialised]);
    assert_eq!(
        found(
            "ld.global.u32 %r4, [%d3]; st.shared.u32 [%r3], %r4; ld.shared.u32 %r4, [%r3];",
            1
        ),
        []
    );
}

#[test]
fn copies_in_flight() {
    let body = |wait: &str| {
        format!(
            "cp.async.ca.shared.global [%r3], [%d3], 4; cp.async.commit_group; {wait} ld.shared.u32 %r4, [%r3]; st.global.u32 [%d4], %r4; cp.async.wait_all;"
        )
    };
    assert_eq!(found(&body("cp.async.wait_group 1;"), 1), [Kind::InFlight]);
    assert_eq!(found(&body("cp.async.wait_group 0;"), 1), []);
}

#[test]
fn divergent_barriers() {
    let body = |limit: u32| {
        format!("setp.lt.u32 %p0, %r0, {limit}; @%p0 bra IN; bra OUT; IN: bar.sync 0; OUT:")
    };
    assert_eq!(found(&body(16), 1), [Kind::BarrierDivergence]);
    assert_eq!(found(&body(64), 1), []);
}

#[test]
fn use_after_free() {
    let kernel = kernel(&format!("{DECLARE} ld.global.u32 %r4, [%d3];"));
    let mut device = Device::new();
    let (input, output) = (device.allocate(256), device.allocate(256));
    device.fill(input, 1, 256).expect("an allocation");
    let args = [input.into(), output.into()];
    run(&mut device, &kernel, &Launch::linear(1, 64), &args);
    device.free(input).expect("an allocation");
    let report = device.launch(&kernel, &Launch::linear(1, 64), &args, &Options::default());
    assert_eq!(kinds(&report.expect("a launch")), [Kind::UseAfterFree]);
}
