//! What the tests share: numbers to the device and back, and kernels in a few lines.
#![allow(dead_code)]

use ptx::{Arg, Device, Finding, Kernel, Kind, Launch, Module, Options, Report};

/// A module with one kernel `k` and two pointers as parameters, `in` and `out`.
pub fn kernel(body: &str) -> Kernel {
    module(&format!(
        ".visible .entry k(.param .u64 in, .param .u64 out) {{\n{body}\nret;\n}}"
    ))
    .kernel("k")
    .unwrap_or_else(|e| panic!("{e}\n{body}"))
}

pub fn module(text: &str) -> Module {
    let head = ".version 8.0\n.target sm_80\n.address_size 64\n";
    Module::parse(&format!("{head}{text}")).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

pub fn upload<T: Copy, const N: usize>(
    device: &mut Device,
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
) -> u64 {
    let bytes: Vec<u8> = values.iter().flat_map(|value| bytes(*value)).collect();
    let address = device.allocate(bytes.len());
    device.write(address, &bytes).expect("an allocation");
    address
}

pub fn download<T, const N: usize>(
    device: &Device,
    address: u64,
    count: usize,
    value: impl Fn([u8; N]) -> T,
) -> Vec<T> {
    let mut bytes = vec![0; count * N];
    device.read(address, &mut bytes).expect("an allocation");
    bytes
        .chunks_exact(N)
        .map(|chunk| value(chunk.try_into().expect("N bytes")))
        .collect()
}

/// Runs a kernel and panics if anything is found.
pub fn run(device: &mut Device, kernel: &Kernel, launch: &Launch, args: &[Arg]) -> Report {
    let report = device
        .launch(kernel, launch, args, &Options::default())
        .unwrap_or_else(|e| panic!("{e}"));
    clean(&report);
    report
}

pub fn clean(report: &Report) {
    let found: Vec<String> = report.findings.iter().map(Finding::to_string).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

pub fn kinds(report: &Report) -> Vec<Kind> {
    report.findings.iter().map(|finding| finding.kind).collect()
}

/// Numbers that look random, the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Between -1 and 1.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}
