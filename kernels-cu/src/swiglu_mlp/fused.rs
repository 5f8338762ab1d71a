//! The products with elementwise functions behind them.

use super::{Backward, DoubleBackward, Forward, NAME, SwigluMlp};
use crate::gemm::{FOURS, Tile, WIDE, Work, plan_whole};
use crate::launch::{Arg, Cost, Launch, View};
use crate::list::Entry;
use crate::program::{DType, Program};

const FILES: &[(&str, &str)] = &[
    ("tile/base.cuh", include_str!("../tile/base.cuh")),
    ("tile/copy.cuh", include_str!("../tile/copy.cuh")),
    ("tile/mma.cuh", include_str!("../tile/mma.cuh")),
    ("tile/fours.cuh", include_str!("../tile/fours.cuh")),
    ("tile/product.cuh", include_str!("../tile/product.cuh")),
    ("tile/silu.cuh", include_str!("../tile/silu.cuh")),
    ("swiglu_mlp.cu", include_str!("swiglu_mlp.cu")),
];

/// Kernels and whether they make both of the gate's product and the up's.
const ENTRIES: [(&str, bool); 3] = [("forward", true), ("bwd", false), ("bwd_bwd", true)];

fn program(dtype: DType, tile: Tile, gate_up: bool) -> Program {
    let mut constants = tile.constants(dtype, 3);
    constants.push(("GATE_UP", u32::from(gate_up).to_string()));
    Program::new(NAME, FILES, constants)
}

pub(crate) fn list() -> Vec<Entry> {
    let of = |dtype: DType| {
        Tile::all(dtype).into_iter().flat_map(move |tile| {
            ENTRIES.map(|(entry, gate_up)| Entry {
                program: program(dtype, tile, gate_up),
                entry,
                variant: format!("{dtype:?}, {} tile", tile.size.name()),
                threads: tile.threads(),
                shared: tile.shared(),
                registers: tile.registers(),
            })
        })
    };
    DType::ALL.into_iter().flat_map(of).collect()
}

impl SwigluMlp {
    pub(super) fn fused_forward(&self, v: &Forward, h: &View) -> Vec<Launch> {
        let views = [Some(v.x), Some(v.gate), Some(v.up), v.g, v.u, Some(h)];
        self.fused("forward", &views, 2)
    }

    /// dh, dg, du, h, where there is dy.
    pub(super) fn fused_backward(&self, v: &Backward, [dg, du, h]: [&View; 3]) -> Vec<Launch> {
        let [_, _, _, down, g, u] = v.x;
        let Some(dy) = v.dy else { return vec![] };
        let to_x = v.dx.is_some();
        let views = [
            Some(dy),
            Some(down),
            Some(g),
            Some(u),
            v.eg,
            v.eu,
            v.dh,
            (to_x || v.dgate.is_some()).then_some(dg),
            (to_x || v.dup.is_some()).then_some(du),
            v.ddown.map(|_| h),
        ];
        self.fused("bwd", &views, 1)
    }

    /// dg2, du2, dg, du, ddh, h from the product h2 and those made here.
    pub(super) fn fused_double_backward(
        &self,
        v: &DoubleBackward,
        [dg, du, ddh, h, h2]: [&View; 5],
    ) -> Vec<Launch> {
        let [x, gate, up, _, g, u, _] = v.x;
        let first = v.ddx.map(|ddx| [Some(ddx), Some(gate), Some(up)]);
        let any = v.ddgate.is_some() || v.ddup.is_some();
        let second = any.then_some([Some(x), v.ddgate, v.ddup]);
        // the second alone comes first
        let (first, second) = match (first, second) {
            (None, second) => (second, None),
            both => both,
        };
        let products = first.iter().chain(&second).flatten().flatten().count() as u64;
        let products = products - u64::from(first.is_some()) - u64::from(second.is_some());
        let [a1, gate1, up1] = first.unwrap_or([None; 3]);
        let [a2, gate2, up2] = second.unwrap_or([None; 3]);
        let views = [
            a1,
            gate1,
            up1,
            a2,
            gate2,
            up2,
            Some(g),
            Some(u),
            Some(v.dh),
            v.dddown.map(|_| h2),
            v.dg2,
            v.du2,
            (v.dgate2.is_some() || v.dx2.is_some()).then_some(dg),
            (v.dup2.is_some() || v.dx2.is_some()).then_some(du),
            (v.ddy.is_some() || v.ddown2.is_some()).then_some(ddh),
            v.ddy.and(v.dddown).map(|_| h),
        ];
        self.fused("bwd_bwd", &views, products)
    }

    /// A launch with these arguments, of `products` products; none without rows.
    fn fused(&self, entry: &'static str, views: &[Option<&View>], products: u64) -> Vec<Launch> {
        let SwigluMlp {
            t, d, ff, dtype, ..
        } = *self;
        if t == 0 {
            return vec![];
        }
        let (_, gate_up) = ENTRIES
            .into_iter()
            .find(|e| e.0 == entry)
            .expect("an entry");
        let width = if gate_up { 2 * ff } else { ff };
        let tile = plan_whole(&Work {
            dtype,
            passes: 3,
            batch: 1,
            shape: [t, width],
            k: d,
            tile: self.tile,
        });
        let [rows, columns] = tile.grid([t, width]);
        let there = || views.iter().flatten();
        let aligned = there().all(|view| view.address().is_multiple_of(16));
        let multiple = |x: usize| (x * dtype.bytes()).is_multiple_of(16);
        let wide = aligned && multiple(d) && multiple(ff);
        let fours = aligned && ff.is_multiple_of(4);
        let flags = if wide { WIDE } else { 0 } + if fours { FOURS } else { 0 };
        let sizes = [t as u32, d as u32, ff as u32, flags].map(Arg::from);
        let args = views.iter().map(|view| Arg::from(*view)).chain(sizes);
        vec![Launch {
            program: program(dtype, tile, gate_up),
            entry,
            grid: [rows as u32, columns as u32, 1],
            block: [tile.threads(), 1, 1],
            shared: tile.shared(),
            args: args.collect(),
            cost: Cost {
                flops: products * 2 * (t * d * ff) as u64,
                bytes: there().map(|view| view.bytes() as u64).sum(),
            },
        }]
    }
}
