//! PTX of another compiler runs to the right answer.

mod common;

use common::{Random, download, upload};
use half::bf16;
use ptx::{Arg, Class, Device, Kind, Launch, Module, Options};

#[test]
fn a_matrix_product_of_triton() {
    let module =
        Module::parse(include_str!("fixtures/mm64_sm80.ptx")).unwrap_or_else(|e| panic!("{e}"));
    let kernel = module.kernel("mm").unwrap_or_else(|e| panic!("{e}"));
    let (m, n, k) = (128, 192, 128);
    let mut random = Random(7);
    let mut matrix = |count: usize| {
        (0..count)
            .map(|_| bf16::from_f32(random.unit()))
            .collect::<Vec<_>>()
    };
    let (a, b) = (matrix(m * k), matrix(n * k));
    let mut device = Device::new();
    let pa = upload(&mut device, &a, bf16::to_le_bytes);
    let pb = upload(&mut device, &b, bf16::to_le_bytes);
    let (pc, scratch) = (device.allocate(4 * m * n), device.allocate(256));
    let args: [Arg; 8] = [
        pa.into(),
        pb.into(),
        pc.into(),
        (m as i32).into(),
        (n as i32).into(),
        (k as i32).into(),
        scratch.into(),
        0u64.into(),
    ];
    let launch = Launch {
        grid: [m as u32 / 64, n as u32 / 64, 1],
        block: [128, 1, 1],
        dynamic_shared: 16384,
        cluster: [1; 3],
    };
    let report = device
        .launch(&kernel, &launch, &args, &Options::default())
        .unwrap_or_else(|e| panic!("{e}"));
    // warps of the epilogue may store the same value twice
    let bad: Vec<String> = report
        .findings
        .iter()
        .filter(|f| f.kind != Kind::SameValue)
        .map(|f| f.to_string())
        .collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    let c = download(&device, pc, m * n, f32::from_le_bytes);
    for i in 0..m {
        for j in 0..n {
            let products =
                (0..k).map(|q| f64::from(a[i * k + q].to_f32()) * f64::from(b[j * k + q].to_f32()));
            let want: f64 = products.sum();
            let error = (want - f64::from(c[i * n + j])).abs();
            assert!(
                error < 1e-6 * (k as f64).sqrt(),
                "c[{i}, {j}] = {}, not {want}",
                c[i * n + j]
            );
        }
    }
    assert_eq!(report.counters.total.matrix_flops, (2 * m * n * k) as u64);
    assert!(report.counters.class(Class::Matrix) > 0);
}
