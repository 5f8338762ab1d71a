//! Barriers: named ones, ones that reduce, ones in memory; and warps that wait for ever.

use ptx::{Asynchrony, Device, Kind, Launch, Options, Report};

use crate::common::{clean, download, kernel, kinds, upload};

const BEFORE: &str = ".reg .pred %p<8>; .reg .b32 %r<16>; .reg .b64 %d<8>; .shared .align 16 .b8 sm[1024];
    ld.param.u64 %d0, [in]; ld.param.u64 %d1, [out]; mov.u32 %r0, %tid.x; mad.wide.u32 %d2, %r0, 4, %d0; mad.wide.u32 %d3, %r0, 4, %d1;
    shl.b32 %r1, %r0, 2; mov.u32 %r2, sm; add.u32 %r3, %r2, %r1; shr.u32 %r4, %r0, 5; setp.eq.u32 %p0, %r4, 0;\n";

/// Runs a body on `threads` threads whose inputs are 100, 101, ...; returns the outputs, and the report.
fn launch(body: &str, threads: u32, options: &Options) -> (Vec<u32>, Report) {
    let kernel = kernel(&format!("{BEFORE}{body}"));
    let mut device = Device::new();
    let values: Vec<u32> = (100..100 + threads).collect();
    let input = upload(&mut device, &values, u32::to_le_bytes);
    let output = device.allocate(4 * threads as usize);
    device
        .fill(output, 0, 4 * threads as usize)
        .expect("an allocation");
    let args = [input.into(), output.into()];
    let report = device.launch(&kernel, &Launch::linear(1, threads), &args, options);
    let report = report.unwrap_or_else(|e| panic!("{e}"));
    (
        download(&device, output, threads as usize, u32::from_le_bytes),
        report,
    )
}

fn found(body: &str, threads: u32) -> Vec<Kind> {
    kinds(&launch(body, threads, &Options::default()).1)
}

#[test]
fn producer_and_consumer() {
    // warp 0 writes and arrives, warp 1 waits; a third warp takes no part
    let body = |arrive: &str| {
        format!(
            "setp.eq.u32 %p1, %r4, 1; ld.global.u32 %r5, [%d2];
            @!%p0 bra NEXT; st.shared.u32 [%r3], %r5; {arrive} bra DONE;
            NEXT: @!%p1 bra DONE; bar.sync 3, 64; ld.shared.u32 %r6, [%r3+-128]; st.global.u32 [%d3], %r6; DONE:"
        )
    };
    let (out, report) = launch(&body("bar.arrive 3, 64;"), 96, &Options::default());
    clean(&report);
    assert_eq!(out[32..64], (100..132).collect::<Vec<u32>>());
    // without the arrival the consumer waits for ever
    assert_eq!(found(&body(""), 96), [Kind::Deadlock]);
}

#[test]
fn barriers_that_reduce() {
    let body = "and.b32 %r5, %r0, 3; setp.eq.u32 %p1, %r5, 0; barrier.cta.red.popc.u32 %r6, 1, %p1; setp.lt.u32 %p2, %r0, 999;
        bar.red.and.pred %p3, 0, %p2; bar.red.or.pred %p4, 0, 64, !%p2; selp.u32 %r7, 1000, 0, %p3; selp.u32 %r8, 5000, 0, %p4;
        add.u32 %r6, %r6, %r7; add.u32 %r6, %r6, %r8; st.global.u32 [%d3], %r6;";
    let (out, report) = launch(body, 64, &Options::default());
    clean(&report);
    assert_eq!(out, [1016; 64]);
}

#[test]
fn copies_arrive_at_a_barrier_in_memory() {
    // 32 lanes of warp 0 copy; their arrivals follow the copies; warp 1 reads
    let body = |count: u32, wait: &str| {
        format!(
            "@!%p0 bra READY; setp.eq.u32 %p1, %r0, 0; @%p1 mbarrier.init.shared.b64 [sm+512], {count}; READY: bar.sync 0;
            @!%p0 bra READER; cp.async.ca.shared.global [%r3], [%d2], 4; cp.async.mbarrier.arrive.noinc.shared.b64 [sm+512]; bra DONE;
            READER: {wait} ld.shared.u32 %r6, [%r3+-128]; st.global.u32 [%d3], %r6; DONE:"
        )
    };
    let wait = "WAIT: mbarrier.test_wait.parity.shared.b64 %p2, [sm+512], 0; @!%p2 bra WAIT;";
    for asynchrony in [Asynchrony::Late, Asynchrony::Early] {
        let options = Options {
            asynchrony,
            ..Options::default()
        };
        let (out, report) = launch(&body(32, wait), 64, &options);
        clean(&report);
        assert_eq!(out[32..], (100..132).collect::<Vec<u32>>());
        // what nobody waits for is in flight, or was never ordered
        let (_, report) = launch(&body(32, ""), 64, &options);
        let kind = match asynchrony {
            Asynchrony::Late => Kind::InFlight,
            Asynchrony::Early => Kind::Race,
        };
        assert_eq!(kinds(&report), [kind]);
    }
    // a count too high: the phase never ends; too low by half: it ends twice, and its parity is what it was
    assert_eq!(found(&body(33, wait), 64), [Kind::Deadlock]);
    assert_eq!(found(&body(16, wait), 64), [Kind::Deadlock]);
}

#[test]
fn barriers_in_memory_that_were_not_made() {
    assert_eq!(
        found("mbarrier.arrive.shared.b64 %d4, [sm];", 32),
        [Kind::Mbarrier]
    );
    let body = "setp.eq.u32 %p1, %r0, 0; @%p1 mbarrier.init.shared.b64 [sm], 32; bar.sync 0; mbarrier.arrive.shared.b64 %d4, [sm];
        WAIT: mbarrier.test_wait.shared.b64 %p2, [sm], %d4; @!%p2 bra WAIT;";
    assert_eq!(found(body, 32), []);
}

#[test]
fn deadlock() {
    // each warp waits at a barrier of its own, for both
    assert_eq!(
        found("add.u32 %r5, %r4, 1; barrier.sync %r5, 64;", 64),
        [Kind::Deadlock]
    );
    // a warp spins on a flag of shared memory that nobody sets
    let spin = |store: &str| {
        format!(
            "setp.eq.u32 %p1, %r0, 0; @%p1 st.volatile.shared.u32 [sm], 0; bar.sync 0; @%p0 bra SPIN; {store} bra DONE;
            SPIN: ld.volatile.shared.u32 %r5, [sm]; setp.eq.u32 %p2, %r5, 0; @%p2 bra SPIN; DONE:"
        )
    };
    assert_eq!(found(&spin("st.volatile.shared.u32 [sm], 1;"), 64), []);
    let options = Options {
        instructions_per_warp: 1 << 16,
        ..Options::default()
    };
    let (_, report) = launch(&spin(""), 64, &options);
    assert_eq!(kinds(&report), [Kind::Runaway]);
}

#[test]
fn traps_and_runaways() {
    let (out, report) = launch(
        "@%p0 bra ON; trap; ON: st.global.u32 [%d3], 7;",
        64,
        &Options::default(),
    );
    assert_eq!(kinds(&report), [Kind::Trap]);
    // what ran before stays done
    assert_eq!(out[..32], [7; 32]);
    let options = Options {
        instructions_per_warp: 1 << 15,
        ..Options::default()
    };
    for body in ["add.u32 %r5, %r5, 1;", "bar.sync 0;"] {
        let (_, report) = launch(&format!("LOOP: {body} bra LOOP;"), 64, &options);
        assert_eq!(kinds(&report), [Kind::Runaway]);
    }
}
