//! Bugs planted into kernels for sm_90, each beside a twin without.

mod common;

use common::{Random, download, kernel, kinds, upload};
use half::bf16;
use ptx::{Arg, Asynchrony, Device, Kind, Launch, Module, Options, Report};

const DECLARE: &str = ".reg .pred %p<4>; .reg .b32 %r<8>; .reg .b64 %d<8>; .shared .align 128 .b8 sm[512]; .shared .align 8 .b64 bar;
    ld.param.u64 %d0, [in]; ld.param.u64 %d1, [out]; mov.u32 %r0, %tid.x; mov.u32 %r1, sm; mov.u32 %r2, bar;
    setp.eq.u32 %p0, %r0, 0; shl.b32 %r3, %r0, 2; add.u32 %r4, %r1, %r3;\n";

/// Runs a body on 64 threads with 256 bytes of input and of output.
fn run(body: &str) -> Report {
    let kernel = kernel(&format!("{DECLARE}{body}"));
    let mut device = Device::new();
    let (input, output) = (device.allocate(256), device.allocate(256));
    device.fill(input, 1, 256).expect("an allocation");
    let args = [input.into(), output.into()];
    let report = device.launch(&kernel, &Launch::linear(1, 64), &args, &Options::default());
    report.unwrap_or_else(|e| panic!("{e}"))
}

fn found(body: &str) -> Vec<Kind> {
    kinds(&run(body))
}

#[test]
fn bulk_copies_of_what_threads_wrote() {
    let body = |fence: &str, wait: &str| {
        format!(
            "st.shared.u32 [%r4], %r0; {fence} bar.sync 0; @!%p0 ret;
            cp.async.bulk.global.shared::cta.bulk_group [%d1], [%r1], 256; cp.async.bulk.commit_group; {wait}"
        )
    };
    let (fence, wait) = (
        "fence.proxy.async.shared::cta;",
        "cp.async.bulk.wait_group.read 0;",
    );
    assert_eq!(found(&body(fence, wait)), []);
    assert_eq!(found(&body("", wait)), [Kind::MissingFence]);
    assert_eq!(
        found(&body("fence.proxy.async.global;", wait)),
        [Kind::MissingFence]
    );
    // the memory is gone when the copy reads it
    assert_eq!(found(&body(fence, "")), [Kind::InFlight]);
    let again = |groups: u32| {
        let wait = format!(
            "cp.async.bulk.wait_group.read {groups}; st.shared.u32 [%r4], 7; cp.async.bulk.wait_group.read 0;"
        );
        found(&body(fence, &wait))
    };
    assert_eq!(again(0), []);
    assert_eq!(again(1), [Kind::InFlight]);
}

#[test]
fn a_fence_helps_only_what_is_before_it() {
    let body = |first: &str, second: &str| {
        format!(
            "st.shared.u32 [%r4], %r0; {first} bar.sync 0; {second} @!%p0 ret;
            cp.async.bulk.global.shared::cta.bulk_group [%d1], [%r1], 256; cp.async.bulk.commit_group; cp.async.bulk.wait_group.read 0;"
        )
    };
    let fence = "fence.proxy.async;";
    // by the writer, or behind the barrier by who copies
    assert_eq!(found(&body(fence, "")), []);
    assert_eq!(found(&body("", fence)), []);
    let late = format!("{fence} st.shared.u32 [%r4], 3;");
    assert_eq!(found(&body(&late, "")), [Kind::MissingFence]);
}

const WAIT: &str = "W: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r2], 0; @!%p1 bra W;";

/// A copy of 256 bytes that a barrier counts, and what follows.
fn counted(arrivals: u32, bytes: u32, order: &str, then: &str) -> String {
    format!(
        "@%p0 mbarrier.init.shared::cta.b64 [%r2], {arrivals}; {order} @!%p0 bra NEXT;
        mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], {bytes};
        cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%d0], 256, [%r2];
        NEXT: {then} ld.shared.u32 %r5, [%r4]; cvt.u64.u32 %d2, %r3; add.u64 %d2, %d2, %d1; st.global.u32 [%d2], %r5;"
    )
}

#[test]
fn barriers_that_nobody_ends() {
    assert_eq!(found(&counted(1, 256, "bar.sync 0;", WAIT)), []);
    let report = run(&counted(2, 256, "bar.sync 0;", WAIT));
    assert_eq!(kinds(&report), [Kind::Deadlock]);
    let message = &report.findings[0].message;
    assert!(
        message.contains("still expects 1 arrivals and 256 bytes"),
        "{message}"
    );
    let report = run(&counted(1, 512, "bar.sync 0;", WAIT));
    assert_eq!(kinds(&report), [Kind::Deadlock]);
    let message = &report.findings[0].message;
    assert!(
        message.contains("still expects 0 arrivals and 256 bytes"),
        "{message}"
    );
    // one parity too far
    let body = counted(1, 256, "bar.sync 0;", &WAIT.replace("], 0;", "], 1;"));
    assert_eq!(found(&body), [Kind::InFlight]);
    let next =
        format!("{WAIT} V: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r2], 1; @!%p1 bra V;");
    assert_eq!(
        found(&counted(1, 256, "bar.sync 0;", &next)),
        [Kind::Deadlock]
    );
}

#[test]
fn barriers_misused() {
    assert_eq!(
        found("mbarrier.arrive.shared.b64 _, [%r2];"),
        [Kind::Mbarrier]
    );
    // nothing orders the others behind the one that makes the barrier
    assert!(found(&counted(1, 256, "", WAIT)).contains(&Kind::Race));
    let body = "@%p0 mbarrier.init.shared.b64 [%r2], 63; bar.sync 0; mbarrier.arrive.shared.b64 _, [%r2], 2;";
    assert_eq!(found(body), [Kind::Mbarrier]);
}

#[test]
fn bytes_read_before_they_have_come() {
    assert_eq!(found(&counted(1, 256, "bar.sync 0;", "")), [Kind::InFlight]);
    // the warp of the copy waits, the other one does not
    let body = counted(
        1,
        256,
        "bar.sync 0;",
        &format!("setp.gt.u32 %p2, %r0, 31; @%p2 bra X; {WAIT} X:"),
    );
    assert!(matches!(found(&body)[..], [Kind::InFlight | Kind::Race]));
}

#[test]
fn cluster_barriers_and_memory_of_blocks_that_are_gone() {
    let text = |body: &str| {
        format!(
            "{DECLARE} mov.u32 %r5, %cluster_ctarank; setp.eq.u32 %p2, %r5, 0; mapa.shared::cluster.u32 %r6, %r4, 1; {body}"
        )
    };
    let found = |body: &str| {
        let kernel = kernel(&text(body));
        let launch = Launch {
            cluster: [2, 1, 1],
            ..Launch::linear(2, 64)
        };
        let mut device = Device::new();
        let args = [0u64.into(), 0u64.into()];
        let report = device.launch(&kernel, &launch, &args, &Options::default());
        kinds(&report.unwrap_or_else(|e| panic!("{e}")))
    };
    let meet = "barrier.cluster.arrive; barrier.cluster.wait;";
    assert_eq!(
        found(&format!(
            "{meet} @%p2 st.shared::cluster.u32 [%r6], 1; {meet}"
        )),
        []
    );
    assert_eq!(
        found(&format!(
            "{meet} @!%p2 ret; nanosleep.u32 1; bar.sync 0; bar.sync 0; st.shared::cluster.u32 [%r6], 1;"
        )),
        [Kind::UseAfterFree]
    );
    assert_eq!(found("barrier.cluster.wait;"), [Kind::BarrierDivergence]);
    assert_eq!(
        found("@%p2 barrier.cluster.arrive; @%p2 barrier.cluster.arrive;"),
        [Kind::BarrierDivergence]
    );
    assert_eq!(
        found("st.shared::cluster.u32 [%r6+4096], 1;"),
        [Kind::OutOfBounds]
    );
}

/// Runs the product of the fixture, and tells what is found and the greatest error.
fn product(text: &str, asynchrony: Asynchrony) -> (Report, f32) {
    let module = Module::parse(text).unwrap_or_else(|e| panic!("{e}"));
    let kernel = module.kernel("mm").unwrap_or_else(|e| panic!("{e}"));
    let size = 64;
    let mut random = Random(5);
    let mut matrix = || -> Vec<bf16> {
        (0..size * size)
            .map(|_| bf16::from_f32(random.unit()))
            .collect()
    };
    let (a, b) = (matrix(), matrix());
    let mut device = Device::new();
    let pa = upload(&mut device, &a, bf16::to_le_bytes);
    let pb = upload(&mut device, &b, bf16::to_le_bytes);
    let pc = device.allocate(4 * size * size);
    let sizes = [size as i32; 3].map(Arg::from);
    let args = [
        &[pa.into(), pb.into(), pc.into()],
        &sizes[..],
        &[0u64.into(), 0u64.into()],
    ]
    .concat();
    let launch = Launch {
        dynamic_shared: 16384,
        ..Launch::linear(1, 128)
    };
    let options = Options {
        asynchrony,
        ..Options::default()
    };
    let report = device.launch(&kernel, &launch, &args, &options);
    let report = report.unwrap_or_else(|e| panic!("{e}"));
    let c = download(&device, pc, size * size, f32::from_le_bytes);
    let mut error = 0f32;
    for i in 0..size {
        for j in 0..size {
            let products = (0..size).map(|k| a[i * size + k].to_f32() * b[j * size + k].to_f32());
            // what is not a number counts as an error too
            let difference = (products.sum::<f32>() - c[i * size + j]).abs();
            error = error.max(if difference.is_nan() {
                f32::MAX
            } else {
                difference
            });
        }
    }
    (report, error)
}

const FIXTURE: &str = include_str!("fixtures/mm64_sm90.ptx");

fn without(instruction: &str) -> String {
    assert!(FIXTURE.contains(instruction));
    FIXTURE.replace(instruction, "")
}

fn errors(report: &Report) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = report.errors().map(|finding| finding.kind).collect();
    kinds.dedup();
    kinds
}

#[test]
fn products_without_a_fence_or_a_wait() {
    let (report, error) = product(FIXTURE, Asynchrony::Late);
    assert_eq!(errors(&report), []);
    assert!(error < 1e-4);
    let (report, _) = product(&without("fence.proxy.async.shared::cta;"), Asynchrony::Late);
    assert_eq!(errors(&report), [Kind::MissingFence]);
    let (report, _) = product(&without("wgmma.fence.sync.aligned;"), Asynchrony::Late);
    assert_eq!(errors(&report), [Kind::MissingFence]);
    let wait = "wgmma.wait_group.sync.aligned 0;";
    let (report, error) = product(&without(wait), Asynchrony::Late);
    assert!(errors(&report).contains(&Kind::InFlight));
    assert!(error > 0.1);
    // a device that happens to be fast hides it from the result, not from the findings
    let (report, error) = product(&without(wait), Asynchrony::Early);
    assert!(errors(&report).contains(&Kind::InFlight));
    assert!(error < 1e-4);
}

#[test]
fn a_wrong_swizzle_in_a_descriptor() {
    // 128 bytes become 64, or none
    let descriptor = 0x4000_0040_0000_0000u64;
    assert!(
        FIXTURE.contains(&descriptor.to_string()),
        "the descriptor {descriptor}"
    );
    for bits in [2u64 << 62, 0] {
        let wrong = (descriptor & !(3 << 62) | bits) as i64;
        let text = FIXTURE.replace(&descriptor.to_string(), &wrong.to_string());
        assert!(product(&text, Asynchrony::Late).1 > 0.1);
    }
}

#[test]
fn a_tile_without_swizzle_shows_in_the_counters() {
    // lanes read 16 bytes of rows 128 bytes apart
    let body = |address: &str| {
        format!(
            ".shared .align 1024 .b8 tile[4096]; mov.u32 %r5, tile; setp.gt.u32 %p2, %r0, 31; @%p2 ret;
            shl.b32 %r6, %r0, 7; {address} add.u32 %r6, %r6, %r5; st.shared.v4.u32 [%r6], {{%r0, %r0, %r0, %r0}};"
        )
    };
    let plain = run(&body("")).counters.total;
    let swizzled = run(&body(
        "and.b32 %r7, %r0, 7; shl.b32 %r7, %r7, 4; xor.b32 %r6, %r6, %r7;",
    ))
    .counters
    .total;
    assert_eq!(
        (plain.shared_wavefronts, plain.shared_wavefronts_ideal),
        (32, 4)
    );
    assert_eq!(
        (swizzled.shared_wavefronts, swizzled.shared_wavefronts_ideal),
        (4, 4)
    );
}
