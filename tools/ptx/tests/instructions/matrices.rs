//! `mma` in all its shapes and types, and the instructions that move matrices between registers and shared memory.

use half::{bf16, f16};
use ptx::{Device, Launch};

use crate::common::{Random, download, kernel, run, upload};

/// An `mma` instruction: shape, types, and how many words its fragments have in a lane.
struct Shape {
    k: usize,
    /// Elements of A and B in a word.
    per: usize,
    types: &'static str,
    /// Accumulators are pairs of f16.
    halves: bool,
}

/// Runs one `mma` on fragments, a lane's words side by side: A, B, C in, D out.
fn multiply(shape: &Shape, fragments: &[u32]) -> Vec<u32> {
    let (a, b) = (16 * shape.k / 32 / shape.per, 8 * shape.k / 32 / shape.per);
    let c = if shape.halves { 2 } else { 4 };
    let list = |first: usize, count: usize| {
        let names: Vec<String> = (first..first + count).map(|i| format!("%r{i}")).collect();
        format!("{{{}}}", names.join(", "))
    };
    let (at_b, at_c, at_d) = (a, a + b, a + b + c);
    let bytes = 4 * (a + b + c);
    let mut body = format!(
        ".reg .b32 %r<32>; .reg .b64 %d<4>; ld.param.u64 %d0, [in]; ld.param.u64 %d1, [out]; mov.u32 %r31, %laneid;
        mad.wide.u32 %d2, %r31, {bytes}, %d0; mad.wide.u32 %d3, %r31, {}, %d1;\n",
        4 * c
    );
    for i in 0..a + b + c {
        body += &format!("ld.global.u32 %r{i}, [%d2+{}];", 4 * i);
    }
    let k = shape.k;
    let types = shape.types;
    body += &format!(
        "mma.sync.aligned.m16n8k{k}.row.col.{types} {}, {}, {}, {};",
        list(at_d, c),
        list(0, a),
        list(at_b, b),
        list(at_c, c)
    );
    for i in 0..c {
        body += &format!("st.global.u32 [%d3+{}], %r{};", 4 * i, at_d + i);
    }
    let kernel = kernel(&body);
    let mut device = Device::new();
    let input = upload(&mut device, fragments, u32::to_le_bytes);
    let output = device.allocate(4 * 32 * c);
    let report = run(
        &mut device,
        &kernel,
        &Launch::linear(1, 32),
        &[input.into(), output.into()],
    );
    assert_eq!(report.counters.total.matrix_flops, 2 * 16 * 8 * k as u64);
    download(&device, output, 32 * c, u32::from_le_bytes)
}

/// Row and column of element `e` of word `i` of a lane's part of A [16, k], as in the manual: groups of four lanes hold a row,
/// and words alternate between rows r and r + 8.
fn place_a(shape: &Shape, lane: usize, i: usize, e: usize) -> (usize, usize) {
    let words = 16 * shape.k / 32 / shape.per;
    // a fragment of one row block has its words one after another in k
    let (row, step) = if words == 1 { (0, 0) } else { (i % 2, i / 2) };
    (
        lane / 4 + 8 * row,
        lane % 4 * shape.per + e + 4 * shape.per * step,
    )
}

fn place_c(halves: bool, lane: usize, i: usize, e: usize) -> (usize, usize) {
    if halves {
        (lane / 4 + 8 * i, lane % 4 * 2 + e)
    } else {
        (lane / 4 + 8 * (i / 2), lane % 4 * 2 + i % 2)
    }
}

/// Checks an instruction on matrices of small whole numbers, for which every type is exact.
fn check(shape: Shape, code: fn(i64) -> u32, signed: bool) {
    let mut random = Random(shape.k as u64 + shape.per as u64);
    let mut number = |most: u64| {
        let value = (random.bits() % (2 * most + 1)) as i64 - most as i64;
        if signed { value } else { value.abs() }
    };
    let k = shape.k;
    let most = if shape.per == 4 { 100 } else { 4 };
    let a: Vec<i64> = (0..16 * k).map(|_| number(most)).collect();
    let b: Vec<i64> = (0..8 * k).map(|_| number(most)).collect();
    let c: Vec<i64> = (0..16 * 8).map(|_| number(50)).collect();
    let bits = 32 / shape.per;
    let (words_a, words_b) = (16 * k / 32 / shape.per, 8 * k / 32 / shape.per);
    let words_c = if shape.halves { 2 } else { 4 };
    let sum = |v: i64| match shape.types.rsplit('.').next() {
        Some("f16") => u32::from(f16::from_f64(v as f64).to_bits()),
        Some("f32") => (v as f32).to_bits(),
        _ => v as i32 as u32,
    };
    let per_sum = if shape.halves { 2 } else { 1 };
    let mut fragments = vec![];
    for lane in 0..32 {
        let pack = |count: usize, bits: usize, element: &dyn Fn(usize) -> u32| {
            (0..count).fold(0u32, |word, e| word | element(e) << (bits * e))
        };
        for i in 0..words_a {
            fragments.push(pack(shape.per, bits, &|e| {
                let (row, column) = place_a(&shape, lane, i, e);
                code(a[row * k + column])
            }));
        }
        for i in 0..words_b {
            fragments.push(pack(shape.per, bits, &|e| {
                let row = lane % 4 * shape.per + e + 4 * shape.per * i;
                code(b[row * 8 + lane / 4])
            }));
        }
        for i in 0..words_c {
            fragments.push(pack(per_sum, 16, &|e| {
                let (row, column) = place_c(shape.halves, lane, i, e);
                sum(c[row * 8 + column])
            }));
        }
    }
    let got = multiply(&shape, &fragments);
    for lane in 0..32 {
        for i in 0..words_c {
            for e in 0..per_sum {
                let (row, column) = place_c(shape.halves, lane, i, e);
                let products = (0..k).map(|q| a[row * k + q] * b[q * 8 + column]);
                let want = sum(c[row * 8 + column] + products.sum::<i64>());
                let word = got[lane * words_c + i];
                let got = if shape.halves {
                    word >> (16 * e) & 0xffff
                } else {
                    word
                };
                assert_eq!(got, want, "m16n8k{k} {} [{row}, {column}]", shape.types);
            }
        }
    }
}

#[test]
fn shapes_and_types() {
    let f16s = |v: i64| u32::from(f16::from_f64(v as f64).to_bits());
    let bf16s = |v: i64| u32::from(bf16::from_f64(v as f64).to_bits());
    // the lowest bits of tf32 are not read
    let tf32s = |v: i64| (v as f32).to_bits() | 0xfff;
    let bytes = |v: i64| u32::from(v as i8 as u8);
    let shape = |k, per, types, halves| Shape {
        k,
        per,
        types,
        halves,
    };
    for k in [8, 16] {
        check(shape(k, 2, "f32.f16.f16.f32", false), f16s, true);
        check(shape(k, 2, "f16.f16.f16.f16", true), f16s, true);
        check(shape(k, 2, "f32.bf16.bf16.f32", false), bf16s, true);
    }
    for k in [4, 8] {
        check(shape(k, 1, "f32.tf32.tf32.f32", false), tf32s, true);
    }
    for k in [16, 32] {
        check(shape(k, 4, "s32.s8.s8.s32", false), bytes, true);
        check(shape(k, 4, "s32.u8.u8.s32", false), bytes, false);
        check(shape(k, 4, "s32.u8.s8.s32", false), bytes, false);
    }
}

#[test]
fn sums_of_bytes_saturate_on_request() {
    let sums = |types: &'static str| {
        let shape = Shape {
            k: 32,
            per: 4,
            types,
            halves: false,
        };
        // 4 words of A and 2 of B, all 100; C just below the largest
        let lane = [vec![0x6464_6464; 6], vec![i32::MAX as u32 - 5; 4]].concat();
        multiply(&shape, &lane.repeat(32))
    };
    assert!(
        sums("satfinite.s32.s8.s8.s32")
            .iter()
            .all(|sum| *sum == i32::MAX as u32)
    );
    let wrapped = (i32::MAX - 5).wrapping_add(32 * 100 * 100) as u32;
    assert!(sums("s32.s8.s8.s32").iter().all(|sum| *sum == wrapped));
}

/// Runs a body with lane number in %r0, its word of the input in %r1 .. %r4, and 1 KiB of shared memory that holds the
/// input; writes %r5 .. %r8.
fn lanes(body: &str, input: &[u32; 128]) -> Vec<u32> {
    let kernel = kernel(&format!(
        ".reg .b32 %r<16>; .reg .b64 %d<8>; .shared .align 16 .b8 sm[1024]; ld.param.u64 %d0, [in]; ld.param.u64 %d1, [out];
        mov.u32 %r0, %laneid; mad.wide.u32 %d2, %r0, 16, %d0; mad.wide.u32 %d3, %r0, 16, %d1; ld.global.v4.u32 {{%r1, %r2, %r3, %r4}}, [%d2];
        mov.u32 %r9, sm; shl.b32 %r10, %r0, 4; add.u32 %r10, %r9, %r10; st.shared.v4.u32 [%r10], {{%r1, %r2, %r3, %r4}}; bar.sync 0;
        mov.u32 %r5, 0; mov.u32 %r6, 0; mov.u32 %r7, 0; mov.u32 %r8, 0; {body} st.global.v4.u32 [%d3], {{%r5, %r6, %r7, %r8}};"
    ));
    let mut device = Device::new();
    let input = upload(&mut device, input, u32::to_le_bytes);
    let output = device.allocate(512);
    run(
        &mut device,
        &kernel,
        &Launch::linear(1, 32),
        &[input.into(), output.into()],
    );
    download(&device, output, 128, u32::from_le_bytes)
}

/// Element (row, column) of matrix q of 8 x 8 halves, when lane l gives the address of 16 bytes at 16 l.
fn half(input: &[u32; 128], q: usize, row: usize, column: usize) -> u32 {
    let at = (8 * q + row) * 8 + column;
    input[at / 2] >> (16 * (at % 2)) & 0xffff
}

fn input() -> [u32; 128] {
    let mut random = Random(77);
    std::array::from_fn(|_| random.bits() as u32)
}

#[test]
fn matrices_are_loaded() {
    let x = input();
    for (count, list) in [(1, "%r5"), (2, "%r5, %r6"), (4, "%r5, %r6, %r7, %r8")] {
        for transpose in [false, true] {
            let suffix = if transpose { ".trans" } else { "" };
            let got = lanes(
                &format!(
                    "ldmatrix.sync.aligned.m8n8.x{count}{suffix}.shared.b16 {{{list}}}, [%r10];"
                ),
                &x,
            );
            for lane in 0..32 {
                for q in 0..count {
                    let (i, j) = (lane / 4, lane % 4 * 2);
                    let element = |e| {
                        if transpose {
                            half(&x, q, j + e, i)
                        } else {
                            half(&x, q, i, j + e)
                        }
                    };
                    assert_eq!(
                        got[4 * lane + q],
                        element(0) | element(1) << 16,
                        "x{count}{suffix}"
                    );
                }
            }
        }
    }
}

#[test]
fn matrices_are_stored_and_turned() {
    let x = input();
    for suffix in ["", ".trans"] {
        // stored as they were loaded, they are where they were; elsewhere, so that nothing else is there
        let body = format!(
            "ldmatrix.sync.aligned.m8n8.x4{suffix}.shared.b16 {{%r1, %r2, %r3, %r4}}, [%r10]; add.u32 %r11, %r10, 512;
            stmatrix.sync.aligned.m8n8.x4{suffix}.shared.b16 [%r11], {{%r1, %r2, %r3, %r4}}; bar.warp.sync 0xffffffff;
            ld.shared.v4.u32 {{%r5, %r6, %r7, %r8}}, [%r11];"
        );
        assert_eq!(lanes(&body, &x), x);
    }
    let body = "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r1}, [%r10]; movmatrix.sync.aligned.m8n8.trans.b16 %r5, %r1;
        ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%r6}, [%r10]; xor.b32 %r5, %r5, %r6; mov.u32 %r6, 0;";
    assert_eq!(lanes(body, &x), [0; 128]);
}
