//! Matrix products that Triton compiled for sm_90, against direct computation, with copies late and early.

mod common;

use common::{Random, upload};
use half::{bf16, f16};
use ptx::{
    Arg, Asynchrony, Device, Element, Finding, Kind, Launch, Module, Options, Report, Swizzle,
    TensorMap, Tiling,
};

/// A number format: how numbers are written, and read back.
struct Format {
    bytes: usize,
    encode: fn(f32) -> u32,
    decode: fn(u32) -> f32,
    element: Element,
}

const BF16: Format = Format {
    bytes: 2,
    encode: |x| bf16::from_f32(x).to_bits().into(),
    decode: |b| bf16::from_bits(b as u16).to_f32(),
    element: Element::BF16,
};
const F16: Format = Format {
    bytes: 2,
    encode: |x| f16::from_f32(x).to_bits().into(),
    decode: |b| f16::from_bits(b as u16).to_f32(),
    element: Element::F16,
};
const F32: Format = Format {
    bytes: 4,
    encode: f32::to_bits,
    decode: f32::from_bits,
    element: Element::F32,
};
/// Numbers that tf32 holds exactly.
const TF32: Format = Format {
    bytes: 4,
    encode: |x| x.to_bits() & !0x1fff,
    decode: f32::from_bits,
    element: Element::F32,
};
/// One bit of sign, two of fraction and any exponent that both formats hold.
const E4M3: Format = Format {
    bytes: 1,
    encode: |x| eight(x, 7, 3),
    decode: |b| number(b, 7, 3),
    element: Element::U8,
};
const E5M2: Format = Format {
    bytes: 1,
    encode: |x| eight(x, 15, 2),
    decode: |b| number(b, 15, 2),
    element: Element::U8,
};

/// Eight bits with an exponent of a bias and some bits of fraction; small numbers become zero.
fn eight(x: f32, bias: i32, fraction: u32) -> u32 {
    let bits = x.to_bits();
    let exponent = (bits >> 23 & 0xff) as i32 - 127 + bias;
    let sign = bits >> 31 << 7;
    if exponent < 1 {
        return sign;
    }
    sign | (exponent as u32) << fraction | (bits & 0x7f_ffff) >> (23 - fraction)
}

fn number(bits: u32, bias: i32, fraction: u32) -> f32 {
    let exponent = (bits & 0x7f) >> fraction;
    if exponent == 0 {
        return 0.0;
    }
    let digits = (bits & ((1 << fraction) - 1)) << (23 - fraction);
    let exponent = (exponent as i32 - bias + 127) as u32;
    f32::from_bits(bits >> 7 << 31 | exponent << 23 | digits)
}

/// A matrix on the device, row after row.
struct Matrix {
    address: u64,
    rows: usize,
    columns: usize,
    values: Vec<f32>,
}

impl Matrix {
    fn random(
        device: &mut Device,
        format: &Format,
        rows: usize,
        columns: usize,
        seed: u64,
    ) -> Self {
        let mut random = Random(seed);
        let bits: Vec<u32> = (0..rows * columns)
            .map(|_| (format.encode)(random.unit()))
            .collect();
        let bytes: Vec<u8> = bits
            .iter()
            .flat_map(|b| b.to_le_bytes()[..format.bytes].to_vec())
            .collect();
        Matrix {
            address: upload(device, &bytes, |b| [b]),
            rows,
            columns,
            values: bits.iter().map(|b| (format.decode)(*b)).collect(),
        }
    }

    fn empty(device: &mut Device, format: &Format, rows: usize, columns: usize) -> Self {
        Matrix {
            address: device.allocate(rows * columns * format.bytes),
            rows,
            columns,
            values: vec![],
        }
    }

    /// The arguments a descriptor stands for: map, sizes, strides.
    fn described(&self, format: &Format, tile: [u32; 2]) -> Vec<Arg> {
        let (rows, columns) = (self.rows as u64, self.columns as u64);
        let inner = tile[0] as usize * format.bytes;
        let map = TensorMap::encode_tiled(&Tiling {
            element: format.element,
            address: self.address,
            dims: &[columns, rows],
            strides: &[columns * format.bytes as u64],
            tile: &tile,
            element_strides: &[1, 1],
            swizzle: match inner {
                128 => Swizzle::B128,
                64 => Swizzle::B64,
                32 => Swizzle::B32,
                _ => Swizzle::None,
            },
            nan_fill: false,
        })
        .expect("a valid map");
        vec![
            Arg::bytes(map.bytes()),
            (rows as i32).into(),
            (columns as i32).into(),
            columns.into(),
            1u64.into(),
        ]
    }

    fn read(&self, device: &Device, format: &Format) -> Vec<f32> {
        let mut bytes = vec![0; self.rows * self.columns * format.bytes];
        device
            .read(self.address, &mut bytes)
            .expect("an allocation");
        bytes
            .chunks_exact(format.bytes)
            .map(|chunk| {
                let mut word = [0; 4];
                word[..format.bytes].copy_from_slice(chunk);
                (format.decode)(u32::from_le_bytes(word))
            })
            .collect()
    }
}

/// Errors, without notes of equal values stored twice.
fn errors(report: &Report) -> Vec<String> {
    let errors = report.findings.iter().filter(|f| f.kind != Kind::SameValue);
    errors.map(Finding::to_string).collect()
}

fn run(
    device: &mut Device,
    text: &str,
    launch: &Launch,
    args: &[Arg],
    asynchrony: Asynchrony,
) -> Report {
    let module = Module::parse(text).unwrap_or_else(|e| panic!("{e}"));
    let name = module.kernels()[0].to_string();
    let kernel = module.kernel(&name).unwrap_or_else(|e| panic!("{e}"));
    let options = Options {
        asynchrony,
        ..Options::default()
    };
    let report = device
        .launch(&kernel, launch, args, &options)
        .unwrap_or_else(|e| panic!("{e}"));
    let errors = errors(&report);
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    report
}

/// Compares C with A B, or A times B transposed, up to a relative step of rounding.
fn compare(a: &Matrix, b: &Matrix, transposed: bool, c: &[f32], step: f64) {
    let (m, k) = (a.rows, a.columns);
    let n = if transposed { b.rows } else { b.columns };
    for i in 0..m {
        for j in 0..n {
            let (mut want, mut size) = (0.0, 0.0);
            for q in 0..k {
                let y = b.values[if transposed { j * k + q } else { q * n + j }];
                let product = f64::from(a.values[i * k + q]) * f64::from(y);
                want += product;
                size += product.abs();
            }
            let got = f64::from(c[i * n + j]);
            assert!(
                (want - got).abs() <= step * (size + 1e-3),
                "c[{i}, {j}] = {got}, not {want}"
            );
        }
    }
}

const BOTH: [Asynchrony; 2] = [Asynchrony::Late, Asynchrony::Early];

fn launch(grid: [u32; 2], threads: u32, dynamic_shared: u32) -> Launch {
    Launch {
        grid: [grid[0], grid[1], 1],
        block: [threads, 1, 1],
        dynamic_shared,
        cluster: [1; 3],
    }
}

/// A product of pointers.
struct Pointers {
    text: &'static str,
    factor: Format,
    result: Format,
    transposed: bool,
    sizes: [usize; 3],
    tile: [usize; 2],
    threads: u32,
    shared: u32,
    step: f64,
}

fn pointers(case: &Pointers) {
    for asynchrony in BOTH {
        let mut device = Device::new();
        let [m, n, k] = case.sizes;
        let a = Matrix::random(&mut device, &case.factor, m, k, 7);
        let (rows, columns) = if case.transposed { (n, k) } else { (k, n) };
        let b = Matrix::random(&mut device, &case.factor, rows, columns, 11);
        let c = Matrix::empty(&mut device, &case.result, m, n);
        let args = [
            a.address.into(),
            b.address.into(),
            c.address.into(),
            (m as i32).into(),
            (n as i32).into(),
            (k as i32).into(),
            0u64.into(),
            0u64.into(),
        ];
        let grid = [m.div_ceil(case.tile[0]), n.div_ceil(case.tile[1])].map(|x| x as u32);
        let launch = launch(grid, case.threads, case.shared);
        let report = run(&mut device, case.text, &launch, &args, asynchrony);
        compare(
            &a,
            &b,
            case.transposed,
            &c.read(&device, &case.result),
            case.step,
        );
        assert!(report.counters.total.matrix_flops >= (2 * m * n * k) as u64);
    }
}

#[test]
fn the_fixture() {
    pointers(&Pointers {
        text: include_str!("fixtures/mm64_sm90.ptx"),
        factor: BF16,
        result: F32,
        transposed: true,
        sizes: [128, 192, 128],
        tile: [64, 64],
        threads: 128,
        shared: 16384,
        step: 1e-6,
    });
}

#[test]
fn bf16_with_a_ragged_edge() {
    pointers(&Pointers {
        text: include_str!("../kernels/sm90/product_bf16.ptx"),
        factor: BF16,
        result: F32,
        transposed: false,
        sizes: [80, 112, 144],
        tile: [64, 64],
        threads: 128,
        shared: 49152,
        step: 1e-6,
    });
}

#[test]
fn f16_with_eight_warps() {
    pointers(&Pointers {
        text: include_str!("../kernels/sm90/product_f16.ptx"),
        factor: F16,
        result: F16,
        transposed: true,
        sizes: [128, 256, 128],
        tile: [128, 128],
        threads: 256,
        shared: 98304,
        step: 1e-3,
    });
}

#[test]
fn tf32() {
    pointers(&Pointers {
        text: include_str!("../kernels/sm90/product_tf32.ptx"),
        factor: TF32,
        result: F32,
        transposed: true,
        sizes: [64, 128, 64],
        tile: [64, 64],
        threads: 128,
        shared: 49152,
        step: 1e-6,
    });
}

#[test]
fn both_formats_of_eight_bits() {
    let case = |text, factor| Pointers {
        text,
        factor,
        result: F32,
        transposed: true,
        sizes: [64, 128, 192],
        tile: [64, 64],
        threads: 128,
        shared: 24576,
        step: 1e-6,
    };
    pointers(&case(
        include_str!("../kernels/sm90/product_e4m3.ptx"),
        E4M3,
    ));
    pointers(&case(
        include_str!("../kernels/sm90/product_e5m2.ptx"),
        E5M2,
    ));
}

/// A product of tensor descriptors made by the host: tiles in elements, the fastest dimension first.
struct Described {
    text: &'static str,
    factor: Format,
    result: Format,
    sizes: [usize; 3],
    tile: [usize; 2],
    boxes: [[u32; 2]; 3],
    grid: Option<[u32; 2]>,
    /// The kernel takes M, N and K, not only K.
    all_sizes: bool,
    threads: u32,
    shared: u32,
    step: f64,
}

fn described(case: &Described) {
    for asynchrony in BOTH {
        let mut device = Device::new();
        let [m, n, k] = case.sizes;
        let a = Matrix::random(&mut device, &case.factor, m, k, 7);
        let b = Matrix::random(&mut device, &case.factor, n, k, 11);
        let c = Matrix::empty(&mut device, &case.result, m, n);
        let mut args = a.described(&case.factor, case.boxes[0]);
        args.extend(b.described(&case.factor, case.boxes[1]));
        args.extend(c.described(&case.result, case.boxes[2]));
        if case.all_sizes {
            args.extend([(m as i32).into(), (n as i32).into()]);
        }
        args.extend([(k as i32).into(), 0u64.into(), 0u64.into()]);
        let tiles = [m.div_ceil(case.tile[0]), n.div_ceil(case.tile[1])].map(|x| x as u32);
        let launch = launch(case.grid.unwrap_or(tiles), case.threads, case.shared);
        run(&mut device, case.text, &launch, &args, asynchrony);
        compare(&a, &b, true, &c.read(&device, &case.result), case.step);
    }
}

#[test]
fn described_bf16_with_a_ragged_edge() {
    described(&Described {
        text: include_str!("../kernels/sm90/described_bf16.ptx"),
        factor: BF16,
        result: F32,
        sizes: [144, 160, 208],
        tile: [128, 128],
        boxes: [[64, 128], [64, 128], [32, 128]],
        grid: None,
        all_sizes: false,
        threads: 256,
        shared: 98328,
        step: 1e-6,
    });
}

#[test]
fn described_tf32() {
    described(&Described {
        text: include_str!("../kernels/sm90/described_tf32.ptx"),
        factor: TF32,
        result: F32,
        sizes: [64, 64, 96],
        tile: [64, 32],
        boxes: [[32, 64], [32, 32], [32, 64]],
        grid: None,
        all_sizes: false,
        threads: 128,
        shared: 36888,
        step: 1e-6,
    });
}

#[test]
fn described_e4m3() {
    described(&Described {
        text: include_str!("../kernels/sm90/described_e4m3.ptx"),
        factor: E4M3,
        result: BF16,
        sizes: [64, 128, 256],
        tile: [64, 64],
        boxes: [[128, 64], [128, 64], [64, 64]],
        grid: None,
        all_sizes: false,
        threads: 128,
        shared: 49176,
        step: 8e-3,
    });
}

#[test]
fn persistent_blocks() {
    described(&Described {
        text: include_str!("../kernels/sm90/persistent.ptx"),
        factor: BF16,
        result: BF16,
        sizes: [192, 256, 128],
        tile: [64, 128],
        boxes: [[64, 64], [64, 128], [64, 64]],
        grid: Some([2, 1]),
        all_sizes: true,
        threads: 128,
        shared: 90136,
        step: 8e-3,
    });
}

#[test]
fn descriptors_made_on_the_device() {
    for asynchrony in BOTH {
        let mut device = Device::new();
        let [m, n, k] = [128, 64, 128];
        let a = Matrix::random(&mut device, &F16, m, k, 7);
        let b = Matrix::random(&mut device, &F16, k, n, 11);
        let c = Matrix::empty(&mut device, &F16, m, n);
        let scratch = device.allocate(384 * 4);
        let args = [
            a.address.into(),
            b.address.into(),
            c.address.into(),
            (m as i32).into(),
            (n as i32).into(),
            (k as i32).into(),
            scratch.into(),
            0u64.into(),
        ];
        let text = include_str!("../kernels/sm90/describes_f16.ptx");
        run(
            &mut device,
            text,
            &launch([2, 2], 128, 36888),
            &args,
            asynchrony,
        );
        compare(&a, &b, false, &c.read(&device, &F16), 1e-3);
    }
}

/// Accumulators of halves are unpacked before the wait, here by Triton: only a compiler that waits earlier than it is
/// told to makes that right.
#[test]
fn accumulators_touched_before_the_wait() {
    let text = include_str!("../kernels/sm90/product_halves.ptx");
    let kernel = Module::parse(text).and_then(|module| module.kernel("halves"));
    let kernel = kernel.unwrap_or_else(|e| panic!("{e}"));
    let mut device = Device::new();
    let [m, n, k] = [64, 64, 128];
    let a = Matrix::random(&mut device, &F16, m, k, 7);
    let b = Matrix::random(&mut device, &F16, k, n, 11);
    let c = Matrix::empty(&mut device, &F16, m, n);
    let addresses = [a.address, b.address, c.address].map(Arg::from);
    let sizes = [m, n, k].map(|size| Arg::from(size as i32));
    let args = [&addresses[..], &sizes, &[0u64.into(), 0u64.into()]].concat();
    let options = Options {
        asynchrony: Asynchrony::Early,
        ..Options::default()
    };
    let report = device.launch(&kernel, &launch([1, 1], 128, 49152), &args, &options);
    let report = report.unwrap_or_else(|e| panic!("{e}"));
    assert!(
        report
            .errors()
            .all(|finding| finding.kind == Kind::InFlight)
    );
    assert!(report.errors().count() > 0);
    compare(&a, &b, false, &c.read(&device, &F16), 2e-3);
}

#[test]
fn warps_that_only_copy() {
    described(&Described {
        text: include_str!("../kernels/sm90/specialized.ptx"),
        factor: BF16,
        result: BF16,
        sizes: [128, 192, 256],
        tile: [64, 64],
        boxes: [[64, 64], [64, 64], [64, 64]],
        grid: Some([2, 1]),
        all_sizes: true,
        threads: 384,
        shared: 65696,
        step: 8e-3,
    });
}

/// Heads of attention: rows per head, size, rows of a tile of queries.
fn attention(
    text: &str,
    format: &Format,
    [rows, size, tile]: [usize; 3],
    causal: bool,
    shared: u32,
) {
    let heads = 2;
    let scale = 1.25 / (size as f32).sqrt();
    for asynchrony in BOTH {
        let mut device = Device::new();
        let mut matrix = |seed| Matrix::random(&mut device, format, heads * rows, size, seed);
        let (q, k, v) = (matrix(3), matrix(5), matrix(9));
        let o = Matrix::empty(&mut device, format, heads * rows, size);
        let (queries, keys) = ([64, tile as u32], [64, 64]);
        let mut args = q.described(format, queries);
        args.extend(k.described(format, keys));
        args.extend(v.described(format, keys));
        args.extend(o.described(format, queries));
        args.extend([scale.into(), (rows as i32).into(), 0u64.into(), 0u64.into()]);
        let launch = launch(
            [(rows / tile) as u32, heads as u32],
            2 * tile as u32,
            shared,
        );
        run(&mut device, text, &launch, &args, asynchrony);
        let got = o.read(&device, format);
        for head in 0..heads {
            for i in 0..rows {
                let row = |m: &Matrix, i: usize| {
                    let at = (head * rows + i) * size;
                    m.values[at..at + size].to_vec()
                };
                let query = row(&q, i);
                let seen = if causal { i + 1 } else { rows };
                let weights: Vec<f64> = (0..seen)
                    .map(|j| {
                        let products = query.iter().zip(row(&k, j)).map(|(x, y)| x * y);
                        f64::from(scale * products.sum::<f32>()).exp2()
                    })
                    .collect();
                let total: f64 = weights.iter().sum();
                for d in 0..size {
                    let values = weights.iter().enumerate();
                    let sum: f64 = values.map(|(j, w)| w * f64::from(row(&v, j)[d])).sum();
                    let (want, got) = (sum / total, f64::from(got[(head * rows + i) * size + d]));
                    assert!(
                        (want - got).abs() < 8e-3,
                        "o[{head}, {i}, {d}] = {got}, not {want}"
                    );
                }
            }
        }
    }
}

#[test]
fn attention_forward() {
    let text = include_str!("../kernels/sm90/attention.ptx");
    attention(text, &BF16, [128, 64, 64], false, 57400);
}

#[test]
fn causal_attention_forward() {
    let text = include_str!("../kernels/sm90/attention_causal.ptx");
    attention(text, &F16, [128, 128, 128], true, 98336);
}

/// Whole numbers from -100 to 100.
const S8: Format = Format {
    bytes: 1,
    encode: |x| u32::from((x * 100.0) as i8 as u8),
    decode: |b| f32::from(b as u8 as i8),
    element: Element::U8,
};
const S32: Format = Format {
    bytes: 4,
    encode: |x| x as i32 as u32,
    decode: |b| b as i32 as f32,
    element: Element::S32,
};

#[test]
fn whole_numbers_of_eight_bits() {
    pointers(&Pointers {
        text: include_str!("../kernels/sm90/product_s8.ptx"),
        factor: S8,
        result: S32,
        transposed: true,
        sizes: [64, 128, 192],
        tile: [64, 64],
        threads: 128,
        shared: 24576,
        step: 0.0,
    });
}

#[test]
fn eight_bits_converted_to_sixteen() {
    pointers(&Pointers {
        text: include_str!("../kernels/sm90/product_small_e5m2.ptx"),
        factor: E5M2,
        result: F32,
        transposed: true,
        sizes: [64, 32, 192],
        tile: [32, 32],
        threads: 128,
        shared: 12288,
        step: 1e-6,
    });
}

/// A is [K, M]; `scale` is what the kernel multiplies it with.
fn columns(text: &str, shared: u32, scale: f32) {
    for asynchrony in BOTH {
        let mut device = Device::new();
        let [m, n, k] = [128, 64, 128];
        let stored = Matrix::random(&mut device, &BF16, k, m, 7);
        let b = Matrix::random(&mut device, &BF16, k, n, 11);
        let c = Matrix::empty(&mut device, &F32, m, n);
        let a = Matrix {
            address: stored.address,
            rows: m,
            columns: k,
            values: (0..m * k)
                .map(|i| scale * stored.values[i % k * m + i / k])
                .collect(),
        };
        let addresses = [a.address, b.address, c.address].map(Arg::from);
        let sizes = [m, n, k].map(|size| Arg::from(size as i32));
        let args = [&addresses[..], &sizes, &[0u64.into(), 0u64.into()]].concat();
        run(
            &mut device,
            text,
            &launch([2, 1], 128, shared),
            &args,
            asynchrony,
        );
        compare(&a, &b, false, &c.read(&device, &F32), 1e-6);
    }
}

#[test]
fn left_factors_by_columns_and_in_registers() {
    columns(
        include_str!("../kernels/sm90/product_columns.ptx"),
        49152,
        1.0,
    );
    columns(
        include_str!("../kernels/sm90/product_registers.ptx"),
        40960,
        0.5,
    );
}

#[test]
fn a_cluster_shares_a_tile() {
    let text = include_str!("../kernels/sm90/product_cluster.ptx");
    for asynchrony in BOTH {
        let mut device = Device::new();
        let [m, n, k] = [256, 128, 128];
        let a = Matrix::random(&mut device, &BF16, m, k, 7);
        let b = Matrix::random(&mut device, &BF16, k, n, 11);
        let c = Matrix::empty(&mut device, &F32, m, n);
        let addresses = [a.address, b.address, c.address].map(Arg::from);
        let sizes = [m, n, k].map(|size| Arg::from(size as i32));
        let args = [&addresses[..], &sizes, &[0u64.into(), 0u64.into()]].concat();
        // two tiles of 128 rows, each for two blocks
        let launch = Launch {
            cluster: [2, 1, 1],
            ..launch([4, 2], 128, 49152)
        };
        run(&mut device, text, &launch, &args, asynchrony);
        compare(&a, &b, false, &c.read(&device, &F32), 1e-6);
    }
}

#[test]
fn batches_are_added_by_copies() {
    let text = include_str!("../kernels/sm90/batched.ptx");
    for asynchrony in BOTH {
        let mut device = Device::new();
        let (count, size) = (3, 64);
        let mut matrix = |seed| Matrix::random(&mut device, &BF16, count * size, size, seed);
        let (a, b) = (matrix(7), matrix(11));
        let zeros = vec![0f32; count * size * size];
        let c = Matrix {
            address: upload(&mut device, &zeros, f32::to_le_bytes),
            rows: count * size,
            columns: size,
            values: vec![],
        };
        let described = |matrix: &Matrix, format: &Format, inner: u32| -> Vec<Arg> {
            let (size, bytes) = (size as u64, format.bytes as u64);
            let map = TensorMap::encode_tiled(&Tiling {
                element: format.element,
                address: matrix.address,
                dims: &[size, size, count as u64],
                strides: &[size * bytes, size * size * bytes],
                tile: &[inner, 64, 1],
                element_strides: &[1; 3],
                swizzle: Swizzle::B128,
                nan_fill: false,
            });
            let mut args = vec![Arg::bytes(map.expect("a valid map").bytes())];
            args.extend([count as i32, size as i32, size as i32].map(Arg::from));
            args.extend([size * size, size, 1].map(Arg::from));
            args
        };
        let mut args = described(&a, &BF16, 64);
        args.extend(described(&b, &BF16, 64));
        args.extend(described(&c, &F32, 32));
        args.extend([(size as i32).into(), 0u64.into(), 0u64.into()]);
        let launch = Launch {
            grid: [1, 1, count as u32],
            ..launch([1, 1], 128, 49176)
        };
        // what is added twice is there twice
        for _ in 0..2 {
            run(&mut device, text, &launch, &args, asynchrony);
        }
        let got = c.read(&device, &F32);
        for z in 0..count {
            let part = |matrix: &Matrix, scale: f32| Matrix {
                address: 0,
                rows: size,
                columns: size,
                values: matrix.values[z * size * size..][..size * size]
                    .iter()
                    .map(|x| scale * x)
                    .collect(),
            };
            let c = &got[z * size * size..][..size * size];
            compare(&part(&a, 2.0), &part(&b, 1.0), false, c, 1e-6);
        }
    }
}
