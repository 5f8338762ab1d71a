//! The arithmetic of estimates.

mod common;

use common::{kernel, run};
use ptx::{Chip, Device, Estimate, Launch, Options};

/// 128 threads load 16 words each, 32 bytes apart, and multiply matrices.
fn estimate(blocks: u32, matrix: &str, chip: &Chip) -> (Estimate, u64) {
    let loads: String = (0..16)
        .map(|i| format!("ld.global.u32 %r1, [%d1+{}];", 4096 * i))
        .collect();
    let kernel = kernel(&format!(
        ".reg .b32 %r<12>; .reg .b64 %d<4>; ld.param.u64 %d0, [in]; mov.u32 %r0, %tid.x; mad.wide.u32 %d1, %r0, 32, %d0; {loads}
        mov.u32 %r1, 0; mov.u32 %r2, 0; mov.u32 %r3, 0; mov.u32 %r4, 0; mov.u32 %r5, 0; mov.u32 %r6, 0; mov.u32 %r7, 0; mov.u32 %r8, 0;\n{matrix}"
    ));
    let mut device = Device::new();
    let input = device.allocate(1 << 17);
    device.fill(input, 0, 1 << 17).expect("an allocation");
    let launch = Launch::linear(blocks, 128);
    let report = run(&mut device, &kernel, &launch, &[input.into(), 0u64.into()]);
    let instructions = report.counters.total.instructions;
    (
        Estimate::new(&kernel, &launch, &report, chip, None),
        instructions,
    )
}

const PRODUCT: &str = "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r5, %r6, %r7, %r8}, {%r1, %r2, %r3, %r4}, {%r1, %r2}, {%r5, %r6, %r7, %r8};";

fn close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-12 * b.abs(), "{a}, not {b}");
}

fn part(estimate: &Estimate, name: &str) -> f64 {
    let found = estimate.parts.iter().find(|part| part.name == name);
    found.expect("a part").seconds
}

#[test]
fn one_block_on_each_multiprocessor() {
    let chip = Chip::A100;
    let (one, instructions) = estimate(108, PRODUCT, &chip);
    // four warps: a quarter of the instructions of a block per scheduler
    close(
        part(&one, "issue slots"),
        instructions as f64 / 108.0 / 4.0 / chip.clock,
    );
    // 4 warps of 16 loads of 32 lanes, a sector each
    close(
        part(&one, "global memory"),
        108.0 * 4.0 * 16.0 * 32.0 * 32.0 / 2.039e12,
    );
    close(
        part(&one, "matrix pipe"),
        4.0 * 4096.0 / 2048.0 / chip.clock,
    );
    close(part(&one, "shared memory"), 0.0);
    assert_eq!(one.bound, "global memory");
    close(one.seconds, part(&one, "global memory"));
    assert_eq!(
        (
            one.occupancy.blocks,
            one.occupancy.warps,
            one.occupancy.limit
        ),
        (16, 64, "warps")
    );
    assert!(one.assumptions.iter().any(|a| a.contains("312 TFLOPS")));
}

#[test]
fn a_block_too_many_takes_as_long_as_twice_as_many() {
    let chip = Chip::A100;
    let slots = |blocks| part(&estimate(blocks, PRODUCT, &chip).0, "issue slots");
    close(slots(109), slots(216));
    assert!(slots(109) > slots(108));
}

#[test]
fn types_of_matrices_have_their_own_rates() {
    let chip = Chip::H100;
    let matrix = |opcode: &str| {
        // m16n8k8 of tf32 has a quarter of the words of B, and as many of A
        let text = format!(
            "mma.sync.aligned.{opcode} {{%r5, %r6, %r7, %r8}}, {{%r1, %r2, %r3, %r4}}, {{%r1, %r2}}, {{%r5, %r6, %r7, %r8}};"
        );
        part(&estimate(132, &text, &chip).0, "matrix pipe")
    };
    let bf16 = matrix("m16n8k16.row.col.f32.bf16.bf16.f32");
    close(bf16, 4.0 * 4096.0 / 4096.0 / chip.clock);
    // half the operations at half the rate; twice the operations at twice the rate
    close(matrix("m16n8k8.row.col.f32.tf32.tf32.f32"), bf16);
    close(matrix("m16n8k32.row.col.s32.s8.s8.s32"), bf16);
}

#[test]
fn a_sample_of_equal_blocks_stands_for_all() {
    let kernel = kernel(".reg .b32 %r<3>; mov.u32 %r0, %tid.x; add.u32 %r1, %r0, %r0;");
    let mut device = Device::new();
    let launch = Launch::linear(1000, 64);
    let mut of = |sample| {
        let options = Options {
            sample,
            ..Options::default()
        };
        let args = [0u64.into(), 0u64.into()];
        let report = device.launch(&kernel, &launch, &args, &options);
        let report = report.expect("a launch");
        let estimate = Estimate::new(&kernel, &launch, &report, &Chip::A100, None);
        (report.blocks, estimate.seconds)
    };
    let (all, whole) = of(1);
    let (some, estimated) = of(300);
    assert_eq!((all, some), (1000, 4));
    close(estimated, whole);
}
