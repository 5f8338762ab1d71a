//! Bulk copies in all their forms, and clusters, against direct computation, with copies late and early.

mod common;

use common::{clean, download, module, upload};
use ptx::{Arg, Asynchrony, Device, Element, Launch, Options, Report, Swizzle, TensorMap, Tiling};

const BOTH: [Asynchrony; 2] = [Asynchrony::Late, Asynchrony::Early];

const DECLARE: &str = ".reg .pred %p<8>; .reg .b16 %h<4>; .reg .b32 %r<32>; .reg .f32 %f<8>; .reg .b64 %d<16>;
    .shared .align 1024 .b8 sm[16384]; .shared .align 8 .b64 bar;
    ld.param.u64 %d0, [in]; ld.param.u64 %d1, [out];
    mov.u32 %r0, %tid.x; mov.u32 %r1, sm; mov.u32 %r2, bar; setp.eq.u32 %p0, %r0, 0;
    @%p0 mbarrier.init.shared::cta.b64 [%r2], 1; fence.mbarrier_init.release.cluster; bar.sync 0;\n";

/// Waits for the first phase of the barrier.
const WAIT: &str = "W: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r2], 0; @!%p1 bra W;\n";

/// Copies shared memory to `out` of the block, word by word: %r10 bytes.
const DUMP: &str = "mov.u32 %r11, %ctaid.x; mul.lo.u32 %r11, %r11, %r10; cvt.u64.u32 %d10, %r11; add.u64 %d10, %d10, %d1;
    mov.u32 %r12, %ntid.x; shl.b32 %r12, %r12, 2; shl.b32 %r13, %r0, 2;
    L: setp.ge.u32 %p2, %r13, %r10; @%p2 bra E; add.u32 %r14, %r1, %r13; ld.shared.u32 %r15, [%r14];
    cvt.u64.u32 %d11, %r13; add.u64 %d11, %d11, %d10; st.global.u32 [%d11], %r15; add.u32 %r13, %r13, %r12; bra L; E:\n";

/// Fills shared memory from `in`: %r10 bytes.
const FILL: &str = "mov.u32 %r12, %ntid.x; shl.b32 %r12, %r12, 2; shl.b32 %r13, %r0, 2;
    F: setp.ge.u32 %p2, %r13, %r10; @%p2 bra G; add.u32 %r14, %r1, %r13; cvt.u64.u32 %d11, %r13; add.u64 %d11, %d11, %d0;
    ld.global.u32 %r15, [%d11]; st.shared.u32 [%r14], %r15; add.u32 %r13, %r13, %r12; bra F; G:
    fence.proxy.async; bar.sync 0;\n";

/// Runs a body on blocks of 64 threads, in clusters, with a tensor map as third parameter.
fn launch(
    device: &mut Device,
    body: &str,
    args: [Arg; 3],
    (blocks, cluster): (u32, u32),
    asynchrony: Asynchrony,
) -> Report {
    let text = format!(
        ".visible .entry k(.param .u64 in, .param .u64 out, .param .align 64 .b8 map[128]) {{\n{DECLARE}{body}\nret;\n}}"
    );
    let kernel = module(&text)
        .kernel("k")
        .unwrap_or_else(|e| panic!("{e}\n{text}"));
    let launch = Launch {
        cluster: [cluster, 1, 1],
        ..Launch::linear(blocks, 64)
    };
    let options = Options {
        asynchrony,
        ..Options::default()
    };
    let report = device.launch(&kernel, &launch, &args, &options);
    let report = report.unwrap_or_else(|e| panic!("{e}"));
    clean(&report);
    report
}

fn no_map() -> Arg {
    Arg::bytes([0; 128])
}

fn numbers(count: usize) -> Vec<u32> {
    (0..count as u32)
        .map(|i| i.wrapping_mul(2_654_435_761) >> 8)
        .collect()
}

#[test]
fn runs_of_bytes_there_and_back() {
    let body = format!(
        "@!%p0 bra W; mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], 512;
        cp.async.bulk.prefetch.L2.global [%d0], 512;
        cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%d0], 512, [%r2];
        {WAIT} shl.b32 %r3, %r0, 3; add.u32 %r3, %r3, %r1; ld.shared.u64 %d2, [%r3]; add.u64 %d2, %d2, 1; st.shared.u64 [%r3], %d2;
        fence.proxy.async.shared::cta; bar.sync 0; @!%p0 ret;
        cp.async.bulk.global.shared::cta.bulk_group [%d1], [%r1], 512; cp.async.bulk.commit_group; cp.async.bulk.wait_group.read 0;"
    );
    for asynchrony in BOTH {
        let mut device = Device::new();
        let values: Vec<u64> = (0..64).map(|i| i * i).collect();
        let input = upload(&mut device, &values, u64::to_le_bytes);
        let output = device.allocate(512);
        let args = [input.into(), output.into(), no_map()];
        launch(&mut device, &body, args, (1, 1), asynchrony);
        let want: Vec<u64> = values.iter().map(|v| v + 1).collect();
        assert_eq!(download(&device, output, 64, u64::from_le_bytes), want);
    }
}

#[test]
fn reductions_add_up_over_blocks() {
    let body = format!(
        "mov.u32 %r10, 256; {FILL} @!%p0 ret;
        cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%d1], [%r1], 256;
        cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;"
    );
    for asynchrony in BOTH {
        let mut device = Device::new();
        let values: Vec<f32> = (0..64).map(|i| i as f32 * 0.5).collect();
        let input = upload(&mut device, &values, f32::to_le_bytes);
        let output = upload(&mut device, &[1f32; 64], f32::to_le_bytes);
        let args = [input.into(), output.into(), no_map()];
        launch(&mut device, &body, args, (3, 1), asynchrony);
        let want: Vec<f32> = values.iter().map(|v| 1.0 + 3.0 * v).collect();
        assert_eq!(download(&device, output, 64, f32::from_le_bytes), want);
    }
}

/// A tensor of u32 of 1 to 5 dimensions, its tiles, and a corner of a tile that reaches over its edges.
struct Case {
    dims: Vec<u64>,
    tile: Vec<u32>,
    corner: Vec<i32>,
    steps: Vec<u32>,
    swizzle: Swizzle,
}

fn cases() -> Vec<Case> {
    let case = |dims: &[u64], tile: &[u32], corner: &[i32], swizzle| Case {
        dims: dims.to_vec(),
        tile: tile.to_vec(),
        corner: corner.to_vec(),
        steps: vec![1; dims.len()],
        swizzle,
    };
    vec![
        case(&[100], &[64], &[60], Swizzle::None),
        case(&[40, 20], &[32, 16], &[-4, 10], Swizzle::B128),
        case(&[40, 20], &[16, 32], &[28, -3], Swizzle::B64),
        case(&[40, 20], &[8, 24], &[4, 2], Swizzle::B32),
        case(&[20, 6, 5], &[16, 4, 3], &[8, 4, -1], Swizzle::None),
        case(&[36, 5, 4, 3], &[32, 2, 3, 2], &[8, 4, 2, 1], Swizzle::B128),
        case(
            &[12, 3, 4, 3, 3],
            &[8, 2, 2, 2, 2],
            &[8, 1, -1, 2, 1],
            Swizzle::None,
        ),
        Case {
            steps: vec![1, 3],
            ..case(&[32, 40], &[32, 20], &[0, 5], Swizzle::B128)
        },
    ]
}

impl Case {
    /// Elements from one index to the next; rows are longer than they need to be.
    fn strides(&self) -> Vec<u64> {
        let mut strides = vec![1, self.dims[0].next_multiple_of(4) + 4];
        for axis in 1..self.dims.len() {
            strides.push(strides[axis] * self.dims[axis]);
        }
        strides.truncate(self.dims.len());
        strides
    }

    fn elements(&self) -> usize {
        let last = self.dims.len() - 1;
        (self.strides()[last] * self.dims[last]).max(self.dims[0] + 28) as usize
    }

    fn map(&self, element: Element, address: u64) -> Arg {
        let strides: Vec<u64> = self.strides()[1..].iter().map(|s| 4 * s).collect();
        let map = TensorMap::encode_tiled(&Tiling {
            element,
            address,
            dims: &self.dims,
            strides: &strides,
            tile: &self.tile,
            element_strides: &self.steps,
            swizzle: self.swizzle,
            nan_fill: false,
        });
        Arg::bytes(map.expect("a valid map").bytes())
    }

    /// For each element of the tile: its word in shared memory, and its place in the tensor if it lies there.
    fn places(&self) -> Vec<(usize, Option<usize>)> {
        let strides = self.strides();
        let extent: Vec<usize> = self
            .tile
            .iter()
            .zip(&self.steps)
            .map(|(t, s)| t.div_ceil(*s) as usize)
            .collect();
        let count: usize = extent.iter().product();
        (0..count)
            .map(|index| {
                let (mut left, mut place) = (index, Some(0));
                for axis in 0..self.dims.len() {
                    let at = i64::from(self.corner[axis])
                        + (left % extent[axis]) as i64 * i64::from(self.steps[axis]);
                    left /= extent[axis];
                    place = place.filter(|_| at >= 0 && at < self.dims[axis] as i64);
                    place = place.map(|place| place + at as usize * strides[axis] as usize);
                }
                // the piece of 16 bytes in its row of 128 bytes is flipped with the number of that row
                let (row, piece, rest) = (index / 32, index / 4 % 8, index % 4);
                let flip = match self.swizzle {
                    Swizzle::None => 0,
                    Swizzle::B32 => row % 2,
                    Swizzle::B64 => row % 4,
                    Swizzle::B128 => row % 8,
                };
                (row * 32 + (piece ^ flip) * 4 + rest, place)
            })
            .collect()
    }

    fn coordinates(&self) -> (String, String) {
        let moves: Vec<String> = self
            .corner
            .iter()
            .enumerate()
            .map(|(i, c)| format!("mov.s32 %r{}, {c};", 20 + i))
            .collect();
        let names: Vec<String> = (0..self.corner.len())
            .map(|i| format!("%r{}", 20 + i))
            .collect();
        (moves.concat(), format!("{{{}}}", names.join(", ")))
    }
}

#[test]
fn tiles_of_all_ranks_and_swizzles_are_loaded() {
    for (case, asynchrony) in cases().iter().flat_map(|case| BOTH.map(|a| (case, a))) {
        let mut device = Device::new();
        let values = numbers(case.elements());
        let input = upload(&mut device, &values, u32::to_le_bytes);
        let places = case.places();
        let bytes = 4 * places.len();
        let output = device.allocate(bytes);
        let (moves, list) = case.coordinates();
        let rank = case.dims.len();
        let body = format!(
            "{moves} mov.b64 %d3, map; cvta.param.u64 %d3, %d3; @!%p0 bra W; mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], {bytes};
            cp.async.bulk.prefetch.tensor.{rank}d.L2.global.tile [%d3, {list}];
            cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], [%d3, {list}], [%r2];
            {WAIT} mov.u32 %r10, {bytes}; {DUMP}"
        );
        let args = [input.into(), output.into(), case.map(Element::U32, input)];
        launch(&mut device, &body, args, (1, 1), asynchrony);
        let got = download(&device, output, places.len(), u32::from_le_bytes);
        for (word, place) in places {
            assert_eq!(
                got[word],
                place.map_or(0, |place| values[place]),
                "{word} of {:?}",
                case.dims
            );
        }
    }
}

#[test]
fn tiles_are_stored_and_added() {
    for (case, asynchrony) in cases().iter().flat_map(|case| BOTH.map(|a| (case, a))) {
        for reduce in [None, Some("add"), Some("max")] {
            let mut device = Device::new();
            let places = case.places();
            let values = numbers(places.len());
            let input = upload(&mut device, &values, u32::to_le_bytes);
            let before = numbers(case.elements() + 5)[5..].to_vec();
            let output = upload(&mut device, &before, u32::to_le_bytes);
            let (moves, list) = case.coordinates();
            let rank = case.dims.len();
            let opcode = match reduce {
                None => format!("cp.async.bulk.tensor.{rank}d.global.shared::cta.tile.bulk_group"),
                Some(op) => format!(
                    "cp.reduce.async.bulk.tensor.{rank}d.global.shared::cta.{op}.tile.bulk_group"
                ),
            };
            let body = format!(
                "{moves} mov.u32 %r10, {}; {FILL} @!%p0 ret; mov.b64 %d3, map; cvta.param.u64 %d3, %d3;
                {opcode} [%d3, {list}], [%r1]; cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;",
                4 * places.len()
            );
            let args = [input.into(), output.into(), case.map(Element::U32, output)];
            launch(&mut device, &body, args, (1, 1), asynchrony);
            let mut want = before.clone();
            for (word, place) in &places {
                if let Some(place) = place {
                    want[*place] = match reduce {
                        None => values[*word],
                        Some("add") => want[*place].wrapping_add(values[*word]),
                        Some(_) => want[*place].max(values[*word]),
                    };
                }
            }
            assert_eq!(
                download(&device, output, want.len(), u32::from_le_bytes),
                want,
                "{:?}",
                case.dims
            );
        }
    }
}

#[test]
fn one_copy_reaches_all_blocks_of_a_cluster() {
    let body = format!(
        "@%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], 256;
        barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;
        mov.u32 %r3, %cluster_ctarank; setp.eq.and.u32 %p3, %r3, 1, %p0; mov.b16 %h0, 5;
        @%p3 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%r1], [%d0], 256, [%r2], %h0;
        @%p3 mapa.shared::cluster.u32 %r4, %r1, 1; @%p3 mapa.shared::cluster.u32 %r5, %r2, 1;
        @%p3 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r4], [%d0], 256, [%r5];
        {WAIT} mov.u32 %r10, 256; {DUMP} barrier.cluster.arrive; barrier.cluster.wait;"
    );
    for asynchrony in BOTH {
        let mut device = Device::new();
        let values = numbers(64);
        let input = upload(&mut device, &values, u32::to_le_bytes);
        let output = device.allocate(6 * 256);
        let args = [input.into(), output.into(), no_map()];
        launch(&mut device, &body, args, (6, 3), asynchrony);
        assert_eq!(
            download(&device, output, 6 * 64, u32::from_le_bytes),
            values.repeat(6)
        );
    }
}

#[test]
fn blocks_reach_the_memory_of_their_neighbours() {
    // each thread writes to the next block of its cluster, adds to one counter, and asks who and where it is
    let body = format!(
        "mov.u32 %r3, %cluster_ctarank; mov.u32 %r4, %cluster_nctarank; add.u32 %r5, %r3, 1; rem.u32 %r5, %r5, %r4;
        shl.b32 %r6, %r0, 2; add.u32 %r6, %r6, %r1; mapa.shared::cluster.u32 %r7, %r6, %r5;
        @%p0 st.shared.u32 [%r1+1024], 0;
        barrier.cluster.arrive.release; barrier.cluster.wait.acquire;
        mov.u32 %r8, %ctaid.x; mad.lo.u32 %r8, %r8, 1000, %r0; st.shared::cluster.u32 [%r7], %r8;
        mapa.shared::cluster.u32 %r9, %r1, 0; atom.shared::cluster.add.u32 %r16, [%r9+1024], 1;
        getctarank.shared::cluster.u32 %r17, %r7; setp.ne.u32 %p4, %r17, %r5; @%p4 trap;
        cvta.shared.u64 %d4, %r6; mapa.u64 %d5, %d4, %r5; ld.u32 %r18, [%d5]; setp.ne.u32 %p4, %r18, %r8; @%p4 trap;
        barrier.cluster.arrive; barrier.cluster.wait;
        ld.shared::cluster.u32 %r19, [%r9+1024]; st.shared.u32 [%r6+256], %r19;
        barrier.cluster.arrive; barrier.cluster.wait; mov.u32 %r10, 512; {DUMP}"
    )
    .replace("cvta.shared.u64 %d4, %r6", "cvt.u64.u32 %d4, %r6; cvta.shared.u64 %d4, %d4");
    let mut device = Device::new();
    let output = device.allocate(4 * 512);
    let args = [0u64.into(), output.into(), no_map()];
    launch(&mut device, &body, args, (4, 2), Asynchrony::Late);
    let got = download(&device, output, 4 * 128, u32::from_le_bytes);
    for block in 0..4 {
        for thread in 0..64 {
            let at = block * 128 + thread;
            assert_eq!(got[at] as usize, (block ^ 1) * 1000 + thread);
            assert_eq!(got[at + 64], 128);
        }
    }
}

#[test]
fn bytes_and_arrivals_at_the_barrier_of_another_block() {
    // block 0 waits for: an arrival of block 1, 64 values it stores, sums it adds, and 256 bytes it copies
    let body = format!(
        "mov.u32 %r3, %cluster_ctarank; setp.eq.u32 %p3, %r3, 0; setp.eq.and.u32 %p4, %r3, 0, %p0; mov.u32 %r10, 256;
        shl.b32 %r6, %r0, 2; add.u32 %r7, %r6, %r1; st.shared.u32 [%r7], %r0; st.shared.u32 [%r7+512], 1;
        @%p4 mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r2], 768; fence.proxy.async;
        barrier.cluster.arrive; barrier.cluster.wait; @%p3 bra W;
        mapa.shared::cluster.u32 %r8, %r7, 0; mapa.shared::cluster.u32 %r9, %r2, 0; mapa.shared::cluster.u32 %r16, %r1, 0;
        mul.lo.u32 %r17, %r0, 3;
        st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r8], %r17, [%r9];
        red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%r8+512], %r0, [%r9];
        @%p0 cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r16+256], [%r1], 256, [%r9];
        @%p0 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r9];
        bra OUT; {WAIT} mov.u32 %r10, 768; {DUMP} OUT: barrier.cluster.arrive; barrier.cluster.wait;"
    );
    for asynchrony in BOTH {
        let mut device = Device::new();
        let output = device.allocate(2 * 768);
        let args = [0u64.into(), output.into(), no_map()];
        launch(&mut device, &body, args, (2, 2), asynchrony);
        let got = download(&device, output, 192, u32::from_le_bytes);
        for thread in 0..64u32 {
            let at = thread as usize;
            assert_eq!(
                (got[at], got[at + 64], got[at + 128]),
                (3 * thread, thread, 1 + thread)
            );
        }
    }
}

#[test]
fn maps_are_rewritten_on_the_device() {
    // a map of zeros becomes that of 40 by 20 elements, field after field, first in shared and then in global memory
    let case = &cases()[1];
    let (moves, list) = case.coordinates();
    let replace = |name: &str, value: &str| {
        format!("tensormap.replace.tile.{name}.shared::cta.b1024.{value};\n")
    };
    let fields = [
        replace("global_address", "b64 [%d4], %d0"),
        replace("rank", "b32 [%d4], 1"),
        replace("box_dim", "b32 [%d4], 0, 32"),
        replace("box_dim", "b32 [%d4], 1, 16"),
        replace("global_dim", "b32 [%d4], 0, 40"),
        replace("global_dim", "b32 [%d4], 1, 20"),
        replace("global_stride", "b64 [%d4], 0, 176"),
        replace("element_stride", "b32 [%d4], 0, 1"),
        replace("element_stride", "b32 [%d4], 1, 1"),
        replace("elemtype", "b32 [%d4], 2"),
        replace("interleave_layout", "b32 [%d4], 0"),
        replace("swizzle_mode", "b32 [%d4], 3"),
    ];
    let body = format!(
        "{moves} cvt.u64.u32 %d4, %r1; add.u64 %d4, %d4, 8192; setp.gt.u32 %p5, %r0, 31; shl.b32 %r6, %r0, 2; add.u32 %r6, %r6, %r1;
        @%p5 bra W; st.shared.u32 [%r6+8192], 0; bar.warp.sync -1; @!%p0 bra C; {} C: bar.warp.sync -1;
        tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%d1+2048], [%d4], 128;
        add.u64 %d3, %d1, 2048; fence.proxy.tensormap::generic.acquire.gpu [%d3], 128;
        @%p0 tensormap.replace.tile.fill_mode.global.b1024.b32 [%d3], 1;
        @!%p0 bra W; mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], 2048;
        cp.async.bulk.tensor.2d.shared::cta.global.tile.mbarrier::complete_tx::bytes [%r1], [%d3, {list}], [%r2];
        {WAIT} mov.u32 %r10, 2048; {DUMP}",
        fields.concat()
    );
    for asynchrony in BOTH {
        let mut device = Device::new();
        let values = numbers(44 * 20);
        let input = upload(&mut device, &values, u32::to_le_bytes);
        let output = device.allocate(2048 + 128);
        let args = [input.into(), output.into(), no_map()];
        launch(&mut device, &body, args, (1, 1), asynchrony);
        let got = download(&device, output, 512, u32::from_le_bytes);
        for (word, place) in case.places() {
            // outside is NaN
            assert_eq!(got[word], place.map_or(u32::MAX, |place| values[place]));
        }
    }
}

#[test]
fn states_counts_and_drops_of_barriers() {
    // 64 threads: one round with states, one in which the last 32 have left
    let body = format!(
        "add.u32 %r3, %r1, 64; @%p0 mbarrier.init.shared.b64 [%r3], 64; bar.sync 0;
        shl.b32 %r6, %r0, 2; add.u32 %r7, %r6, %r1; st.shared.u32 [%r7+256], %r0;
        mbarrier.arrive.shared.b64 %d4, [%r3]; A: mbarrier.test_wait.shared.b64 %p1, [%r3], %d4; @!%p1 bra A;
        xor.b32 %r8, %r6, 128; add.u32 %r8, %r8, %r1; ld.shared.u32 %r9, [%r8+256]; st.shared.u32 [%r7+512], %r9;
        setp.ge.u32 %p3, %r0, 32; @%p3 mbarrier.arrive_drop.shared.b64 %d5, [%r3]; @%p3 bra D;
        mbarrier.arrive.noComplete.shared.b64 %d5, [%r3], 0;
        mbarrier.arrive.shared.b64 %d5, [%r3], 1; B: mbarrier.try_wait.shared.b64 %p1, [%r3], %d5, 1000; @!%p1 bra B;
        mbarrier.arrive.shared.b64 _, [%r3]; Q: mbarrier.try_wait.parity.shared.b64 %p1, [%r3], 0; @!%p1 bra Q;
        D: mbarrier.pending_count.b64 %r16, %d4; setp.gt.u32 %p4, %r16, 64; @%p4 trap;
        bar.sync 0; add.u32 %r1, %r1, 512; mov.u32 %r10, 256; {DUMP}"
    );
    let mut device = Device::new();
    let output = device.allocate(256);
    let args = [0u64.into(), output.into(), no_map()];
    launch(&mut device, &body, args, (1, 1), Asynchrony::Late);
    let want: Vec<u32> = (0..64).map(|i| i ^ 32).collect();
    assert_eq!(download(&device, output, 64, u32::from_le_bytes), want);
}
