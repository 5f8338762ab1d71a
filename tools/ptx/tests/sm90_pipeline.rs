//! A pipelined product in CUDA C++: tensor maps, multicast in clusters, warps that only copy. And bugs planted into it.

mod common;

use common::{Random, download, upload};
use half::bf16;
use ptx::{
    Arg, Asynchrony, Device, Element, Kind, Launch, Module, Options, Report, Swizzle, TensorMap,
    Tiling,
};

const TEXT: &str = include_str!("../kernels/sm90/pipeline.ptx");

fn map(element: Element, address: u64, [rows, columns]: [usize; 2], tile: [u32; 2]) -> Arg {
    let plain = element == Element::F32;
    let bytes = if plain { 4 } else { 2 };
    let map = TensorMap::encode_tiled(&Tiling {
        element,
        address,
        dims: &[columns as u64, rows as u64],
        strides: &[columns as u64 * bytes],
        tile: &tile,
        element_strides: &[1, 1],
        swizzle: if plain { Swizzle::None } else { Swizzle::B128 },
        nan_fill: false,
    });
    Arg::bytes(map.expect("a valid map").bytes())
}

/// Runs the product of two matrices, and gives what is found and the greatest error.
fn product(text: &str, [m, n, k]: [usize; 3], asynchrony: Asynchrony) -> (Report, f32) {
    let kernel = Module::parse(text).and_then(|module| module.kernel("pipeline"));
    let kernel = kernel.unwrap_or_else(|e| panic!("{e}"));
    let mut device = Device::new();
    let mut random = Random(7);
    let mut matrix =
        |count: usize| -> Vec<bf16> { (0..count).map(|_| bf16::from_f32(random.unit())).collect() };
    let (a, b) = (matrix(m * k), matrix(n * k));
    let pa = upload(&mut device, &a, bf16::to_le_bytes);
    let pb = upload(&mut device, &b, bf16::to_le_bytes);
    let pc = device.allocate(4 * m * n);
    let args = [
        map(Element::BF16, pa, [m, k], [64, 64]),
        map(Element::BF16, pb, [n, k], [64, 32]),
        map(Element::F32, pc, [m, n], [64, 64]),
        (k as i32).into(),
    ];
    let launch = Launch {
        grid: [n.div_ceil(64) as u32, m.div_ceil(64) as u32, 1],
        block: [160, 1, 1],
        dynamic_shared: 49152,
        cluster: [1, 2, 1],
    };
    let options = Options {
        asynchrony,
        ..Options::default()
    };
    let report = device.launch(&kernel, &launch, &args, &options);
    let report = report.unwrap_or_else(|e| panic!("{e}"));
    let c = download(&device, pc, m * n, f32::from_le_bytes);
    let mut error = 0f32;
    for i in 0..m {
        for j in 0..n {
            let products = (0..k).map(|q| a[i * k + q].to_f32() * b[j * k + q].to_f32());
            let difference = (products.sum::<f32>() - c[i * n + j]).abs();
            error = error.max(if difference.is_nan() {
                f32::MAX
            } else {
                difference
            });
        }
    }
    (report, error)
}

fn kinds(report: &Report) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = report.errors().map(|finding| finding.kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

#[test]
fn blocks_of_a_cluster_share_their_tiles() {
    for asynchrony in [Asynchrony::Late, Asynchrony::Early] {
        for sizes in [[128, 128, 512], [128, 72, 64], [256, 64, 200]] {
            let (report, error) = product(TEXT, sizes, asynchrony);
            let found: Vec<String> = report.findings.iter().map(|f| f.to_string()).collect();
            assert!(found.is_empty(), "{}", found.join("\n"));
            // a tail of k that is no whole tile is left out by the kernel
            if sizes[2] % 64 == 0 {
                assert!(error < 1e-4, "{error}");
            }
        }
    }
}

/// The text with the instructions that hold `what` changed.
fn changed(what: &str, change: impl Fn(&str) -> String) -> String {
    let mut seen = false;
    let lines = TEXT.lines().map(|line| {
        if line.contains(what) {
            seen = true;
            change(line)
        } else {
            line.to_string()
        }
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    assert!(seen, "{what}");
    text
}

#[test]
fn planted_bugs_are_found() {
    let run = |text: &str| product(text, [128, 64, 512], Asynchrony::Late).0;
    let without = |what: &str| kinds(&run(&changed(what, |_| String::new())));
    assert_eq!(without("fence.proxy.async"), [Kind::MissingFence]);
    assert_eq!(without("wgmma.fence"), [Kind::MissingFence]);
    assert!(without("wgmma.wait_group").contains(&Kind::InFlight));
    assert_eq!(without("cp.async.bulk.wait_group.read"), [Kind::InFlight]);
    // nobody says that a stage is free
    assert_eq!(without("mbarrier.arrive.release.cluster"), [Kind::Deadlock]);
    // a byte too many is expected
    let expects = changed("mbarrier.arrive.expect_tx", |line| {
        let (barrier, _) = line.rsplit_once(", ").expect("operands");
        format!("{barrier}, 16385;")
    });
    assert_eq!(kinds(&run(&expects)), [Kind::Deadlock]);
}
