//! Results, findings and counters are the same bits for any number of threads.

use ptx::{Device, Launch, Module, Options, Report};

use crate::common::{download, upload};

/// Every block reads before its memory starts, and shared memory that nobody wrote.
const WRONG: &str = ".version 8.0 .target sm_80 .address_size 64 .visible .entry wrong(.param .u64 in) {
    .reg .b32 %r<4>; .reg .b64 %d<4>; .shared .b8 sm[256]; ld.param.u64 %d0, [in]; mov.u32 %r0, %ctaid.x;
    mad.wide.u32 %d1, %r0, 4, %d0; ld.global.u32 %r1, [%d1+-64]; ld.shared.u32 %r2, [sm+12]; ret; }";

fn corpus(file: &str) -> String {
    let path = format!("{}/kernels/ptx/{file}.ptx", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).expect("a kernel")
}

/// Runs a kernel on so many threads of the machine.
fn run(text: &str, kernel: &str, launch: &Launch, threads: usize) -> (Vec<u8>, Report) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let work = || {
        let module = Module::parse(text).expect("a module");
        let kernel = module.kernel(kernel).expect("a kernel");
        let mut device = Device::new();
        let values: Vec<f32> = (0..1 << 14).map(|i| (i as f32).sin()).collect();
        let mut pointers = vec![];
        let args: Vec<ptx::Arg> = kernel
            .argument_bytes()
            .into_iter()
            .map(|bytes| {
                if bytes == 4 {
                    return 70i32.into();
                }
                pointers.push(upload(&mut device, &values, f32::to_le_bytes));
                pointers[pointers.len() - 1].into()
            })
            .collect();
        let report = device.launch(&kernel, launch, &args, &Options::default());
        let mut bytes = vec![];
        for at in pointers {
            bytes.extend(download(&device, at, 1 << 16, |[byte]: [u8; 1]| byte));
        }
        (bytes, report.expect("a launch"))
    };
    pool.expect("threads").install(work)
}

#[test]
fn threads_change_nothing() {
    let triton = |grid, dynamic_shared| Launch {
        grid,
        block: [64, 1, 1],
        dynamic_shared,
        cluster: [1; 3],
    };
    let cases = [
        (
            corpus("product_bf16"),
            "product",
            triton([3, 3, 1], 1 << 15),
        ),
        (corpus("copies"), "product_swizzled", triton([3, 3, 1], 0)),
        (
            corpus("rope"),
            "rope",
            Launch {
                block: [32, 1, 1],
                ..triton([7, 5, 1], 0)
            },
        ),
        (corpus("reduce"), "reduce", Launch::linear(5, 256)),
        (WRONG.into(), "wrong", Launch::linear(500, 64)),
    ];
    for (text, kernel, launch) in cases {
        let one = run(&text, kernel, &launch, 1);
        if kernel == "wrong" {
            assert_eq!(one.1.findings.len(), 2);
        }
        for threads in [2, 3] {
            let more = run(&text, kernel, &launch, threads);
            assert!(more == one, "{kernel} on {threads} threads");
        }
    }
}
