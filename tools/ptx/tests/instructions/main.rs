//! Instructions against direct computations, class by class.

#[path = "../common/mod.rs"]
mod common;

mod atomics;
mod barriers;
mod calls;
mod collectives;
mod conversions;
mod determinism;
mod exact;
mod matrices;
mod memory;
mod narrow;
mod rounding;

use common::{download, kernel, run, upload};
use ptx::{Device, Launch};

/// Registers of all kinds, and the three words of a thread in %d0, %d1, %d2.
const BEFORE: &str = ".reg .pred %p<8>; .reg .b16 %h<8>; .reg .b32 %r<32>; .reg .f32 %f<16>; .reg .f64 %g<8>; .reg .b64 %d<16>;
    .local .align 16 .b8 stack[64]; .shared .align 16 .b8 sm[2048];
    ld.param.u64 %d10, [in]; ld.param.u64 %d11, [out]; mov.u32 %r30, %tid.x; mad.wide.u32 %d12, %r30, 24, %d10;
    mad.wide.u32 %d13, %r30, 8, %d11; ld.global.u64 %d0, [%d12]; ld.global.u64 %d1, [%d12+8]; ld.global.u64 %d2, [%d12+16];";

/// Runs `body` for every three words, one thread each, and returns what it leaves in %d3. Nothing may be found.
fn threads(body: &str, inputs: &[[u64; 3]]) -> Vec<u64> {
    let kernel = kernel(&format!("{BEFORE}\n{body}\nst.global.u64 [%d13], %d3;"));
    let mut device = Device::new();
    let input = upload(&mut device, &inputs.concat(), u64::to_le_bytes);
    let output = device.allocate(8 * inputs.len());
    let launch = Launch::linear(1, inputs.len() as u32);
    run(
        &mut device,
        &kernel,
        &launch,
        &[input.into(), output.into()],
    );
    download(&device, output, inputs.len(), u64::from_le_bytes)
}

/// Words of a warp that are all different.
fn warp(seed: u64) -> Vec<[u64; 3]> {
    let mut random = common::Random(seed);
    (0..32)
        .map(|_| [0; 3].map(|_: u64| random.bits()))
        .collect()
}
