#![doc = include_str!("README.md")]

mod room;

use crate::error::{Error, Result};
use crate::gemm::{Gemm, Transpose, Views};
use crate::launch::{Arg, Cost, Launch, View};
use crate::list::Entry;
use crate::program::{DType, Program};

use room::Room;

const FILES: &[(&str, &str)] = &[
    ("tile/base.cuh", include_str!("../tile/base.cuh")),
    ("tile/reduce.cuh", include_str!("../tile/reduce.cuh")),
    ("tiles.cu", include_str!("tiles.cu")),
];

const THREADS: u32 = 256;

/// Rows and columns of a block of the products that make logits.
const BLOCK: [usize; 2] = [128, 256];
/// Multiprocessors of an A100. A constant, so that results are the same bits on every device.
const MULTIPROCESSORS: usize = 108;
/// Most columns of a tile: 27 blocks, which with 4 or 8 blocks of rows fill the multiprocessors once or twice.
const COLUMNS: usize = 27 * BLOCK[1];
/// Logits of a tile, at most: 64 MiB.
const TILE: usize = 1 << 24;

/// What the arrays look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of x: tokens.
    pub t: usize,
    /// Width.
    pub d: usize,
    /// Rows of W: the vocabulary.
    pub v: usize,
    /// Type of x, W, r, their cotangents, and gradients by x. Gradients by W and vectors are f32.
    pub dtype: DType,
}

/// x [t, d], W [v, d], ids `[t]` (u32 below v).
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'v> {
    /// What the loss is of.
    pub x: &'v View,
    /// The output matrix.
    pub w: &'v View,
    /// The tokens that come next.
    pub ids: &'v View,
}

/// What the forward pass left: lse `[t]` and r [t, d], the gradient of nll_i by x_i.
#[derive(Debug, Clone, Copy)]
pub struct Caches<'v> {
    /// Logarithms of the sums of exponentials.
    pub lse: &'v View,
    /// r.
    pub r: &'v View,
}

impl Shape {
    /// Columns of a tile, but for the last: the most whose blocks of logits fill the multiprocessors a whole number of times, but for
    /// what rows leave over.
    fn columns(&self) -> usize {
        let [rows, t] = [self.t.div_ceil(BLOCK[0]), self.t].map(|n| n.max(1));
        let most = COLUMNS.min(TILE / t) / BLOCK[1];
        let whole = (1..).map(|times| times * MULTIPROCESSORS / rows);
        let whole = whole.take_while(|blocks| *blocks <= most).last();
        let blocks = whole.unwrap_or(most).max(1);
        (blocks * BLOCK[1]).min(self.v.max(1))
    }

    /// Columns of each tile: where they start, and their number.
    fn tiles(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (v, columns) = (self.v, self.columns());
        (0..v)
            .step_by(columns)
            .map(move |first| (first, columns.min(v - first)))
    }

    /// Bytes of workspace for each of the three levels.
    pub fn workspace(&self) -> usize {
        Room::bytes(self)
    }

    /// z of `a` [t, d] and rows of `b` [v, d]: a b'.
    fn logits(&self, c: usize) -> Gemm {
        Gemm {
            output: DType::F32,
            ..Gemm::new(Transpose::B, [self.t, c, self.d], self.dtype)
        }
    }

    /// [t, d] from a tile and rows of W, added to what the tiles before gave.
    fn by_x(&self, first: usize, c: usize) -> Gemm {
        Gemm {
            output: DType::F32,
            beta: if first == 0 { 0.0 } else { 1.0 },
            ..Gemm::new(Transpose::None, [self.t, self.d, c], self.dtype)
        }
    }

    /// Rows of the gradient by W from a tile and x.
    fn by_w(&self, c: usize) -> Gemm {
        Gemm {
            output: DType::F32,
            ..Gemm::new(Transpose::A, [c, self.d, self.t], self.dtype)
        }
    }

    /// Rows of a matrix [v, d].
    fn rows(&self, w: &View, first: usize, c: usize, dtype: DType) -> View {
        let row = self.d * dtype.bytes();
        w.part(first * row, c * row)
    }

    fn program(&self) -> Program {
        let constants = [
            ("ELEMENT", self.dtype.device_name().to_string()),
            ("COLUMNS", COLUMNS.to_string()),
        ];
        Program::new("linear_cross_entropy", FILES, constants)
    }

    /// A block a row.
    fn launch(&self, entry: &'static str, args: Vec<Arg>) -> Launch {
        Launch {
            program: self.program(),
            entry,
            grid: [self.t as u32, 1, 1],
            block: [THREADS, 1, 1],
            shared: 0,
            args,
            cost: Cost::default(),
        }
    }

    /// Sums of f32 as a result of this type; nothing if they are that result.
    fn rounded(&self, sums: &View, result: &View) -> Option<Launch> {
        let n = self.t * self.d;
        (self.dtype != DType::F32).then(|| Launch {
            grid: [n.div_ceil(THREADS as usize) as u32, 1, 1],
            ..self.launch(
                "round_sums",
                vec![sums.into(), result.into(), (n as u64).into()],
            )
        })
    }

    fn check(
        &self,
        what: &'static str,
        views: &[(&str, Option<&View>, usize)],
        workspace: &View,
    ) -> Result<()> {
        let wrong = |message| Err(Error::shape(what, message));
        let Shape { t, d, v, .. } = *self;
        let most = i32::MAX as usize;
        if [t, d, v].iter().any(|n| *n == 0 || *n > most) || t * d > most * 64 {
            return wrong(format!(
                "t = {t}, d = {d}, v = {v} are not between 1 and {most}"
            ));
        }
        for (name, view, bytes) in views {
            if let Some(view) = view
                && view.bytes() != *bytes
            {
                return wrong(format!(
                    "{name} has {} bytes, not {bytes}, for {self:?}",
                    view.bytes()
                ));
            }
        }
        match workspace.bytes() < self.workspace() {
            true => wrong(format!(
                "the workspace has less than {} bytes for {self:?}",
                self.workspace()
            )),
            false => Ok(()),
        }
    }

    fn of_x(&self) -> usize {
        self.t * self.d * self.dtype.bytes()
    }

    fn of_w(&self, dtype: DType) -> usize {
        self.v * self.d * dtype.bytes()
    }
}

/// nll and lse `[t]`, and r if it is wanted: 2 products, or 1 without.
///
/// # Errors
/// Views of other sizes. The ids are the caller's to check.
pub fn forward(
    shape: &Shape,
    of: &Inputs,
    [nll, lse]: [&View; 2],
    r: Option<&View>,
    workspace: &View,
) -> Result<Vec<Launch>> {
    let s = shape;
    s.check(
        "linear_cross_entropy",
        &[
            ("x", Some(of.x), s.of_x()),
            ("W", Some(of.w), s.of_w(s.dtype)),
            ("ids", Some(of.ids), s.t * 4),
            ("nll", Some(nll), s.t * 4),
            ("lse", Some(lse), s.t * 4),
            ("r", r, s.of_x()),
        ],
        workspace,
    )?;
    let room = Room::new(s, workspace);
    // r itself holds the sums if it can
    let sums = r.map(|r| if s.dtype == DType::F32 { r } else { &room.sums });
    let mut all = vec![];
    for (first, c) in s.tiles() {
        let w = s.rows(of.w, first, c, s.dtype);
        let (z, p) = (room.wide[0].part(0, s.t * c * 4), room.factor(0, s.t * c));
        all.extend(s.logits(c).launch(&room.views(of.x, &w, &z))?);
        let args = [
            Arg::from(&z),
            of.ids.into(),
            (&p).into(),
            (&room.rows[0]).into(),
            (&room.rows[1]).into(),
            nll.into(),
            sums.into(),
        ];
        all.push(s.launch("forward", with(args, &[first, c, s.d])));
        if let Some(sums) = sums {
            all.extend(s.by_x(first, c).launch(&room.views(&p, &w, sums))?);
        }
    }
    let args = [
        of.w.into(),
        of.ids.into(),
        (&room.rows[0]).into(),
        (&room.rows[1]).into(),
        nll.into(),
        lse.into(),
        sums.into(),
        r.into(),
    ];
    all.push(s.launch("forward_end", with(args, &[s.d])));
    Ok(all)
}

/// Those of dx [t, d] and dW [v, d] (f32) that are wanted, for cotangents dn of nll and R of r, either of which may be zero: 5 products.
///
/// # Errors
/// Views of other sizes.
pub fn backward(
    shape: &Shape,
    of: &Inputs,
    [dn, big_r]: [Option<&View>; 2],
    caches: &Caches,
    [dx, dw]: [Option<&View>; 2],
    workspace: &View,
) -> Result<Vec<Launch>> {
    let s = shape;
    s.check(
        "linear_cross_entropy backward",
        &[
            ("x", Some(of.x), s.of_x()),
            ("W", Some(of.w), s.of_w(s.dtype)),
            ("ids", Some(of.ids), s.t * 4),
            ("lse", Some(caches.lse), s.t * 4),
            ("r", Some(caches.r), s.of_x()),
            ("dn", dn, s.t * 4),
            ("R", big_r, s.of_x()),
            ("dx", dx, s.of_x()),
            ("dW", dw, s.of_w(DType::F32)),
        ],
        workspace,
    )?;
    let room = Room::new(s, workspace);
    let sums = dx.map(|dx| {
        if s.dtype == DType::F32 {
            dx
        } else {
            &room.sums
        }
    });
    let alpha = big_r.map(|_| &room.rows[0]);
    let mut all = vec![];
    if let Some(big_r) = big_r {
        let args = [
            big_r.into(),
            caches.r.into(),
            of.w.into(),
            of.ids.into(),
            alpha.into(),
        ];
        all.push(s.launch("row_dots", with(args, &[s.d])));
    }
    for (first, c) in s.tiles() {
        let w = s.rows(of.w, first, c, s.dtype);
        let [z, big_z] = [0, 1].map(|i| room.wide[i].part(0, s.t * c * 4));
        let [dz, q] = [0, 1].map(|i| room.factor(i, s.t * c));
        all.extend(s.logits(c).launch(&room.views(of.x, &w, &z))?);
        if let Some(big_r) = big_r {
            all.extend(s.logits(c).launch(&room.views(big_r, &w, &big_z))?);
        }
        // q is a factor of dW alone
        let q = (big_r.is_some() && dw.is_some()).then_some(&q);
        let args = [
            Arg::from(&z),
            big_r.map(|_| &big_z).into(),
            of.ids.into(),
            caches.lse.into(),
            dn.into(),
            alpha.into(),
            (&dz).into(),
            q.into(),
        ];
        all.push(s.launch("backward", with(args, &[first, c])));
        if let Some(sums) = sums {
            all.extend(s.by_x(first, c).launch(&room.views(&dz, &w, sums))?);
        }
        if let Some(dw) = dw {
            let rows = s.rows(dw, first, c, DType::F32);
            let second = q.zip(big_r).map(|(q, big_r)| [q, big_r]);
            let views = Views {
                second,
                ..room.views(&dz, of.x, &rows)
            };
            all.extend(s.by_w(c).launch(&views)?);
        }
    }
    all.extend(dx.zip(sums).and_then(|(dx, sums)| s.rounded(sums, dx)));
    Ok(all)
}

/// [dx2, dW2 (f32), ddn] for the cotangent B [v, d] of dW, where dn was there and R was zero: 7 products, two of them a second time.
///
/// # Errors
/// Views of other sizes.
pub fn double_backward(
    shape: &Shape,
    of: &Inputs,
    [dn, lse]: [&View; 2],
    b: &View,
    [dx2, dw2, ddn]: [&View; 3],
    workspace: &View,
) -> Result<Vec<Launch>> {
    let s = shape;
    s.check(
        "linear_cross_entropy double backward",
        &[
            ("x", Some(of.x), s.of_x()),
            ("W", Some(of.w), s.of_w(s.dtype)),
            ("ids", Some(of.ids), s.t * 4),
            ("lse", Some(lse), s.t * 4),
            ("dn", Some(dn), s.t * 4),
            ("B", Some(b), s.of_w(s.dtype)),
            ("dx2", Some(dx2), s.of_x()),
            ("dW2", Some(dw2), s.of_w(DType::F32)),
            ("ddn", Some(ddn), s.t * 4),
        ],
        workspace,
    )?;
    let room = Room::new(s, workspace);
    let sums = if s.dtype == DType::F32 {
        dx2
    } else {
        &room.sums
    };
    let alpha = &room.rows[0];
    let mut all = vec![];
    let tile = |all: &mut Vec<Launch>, first: usize, c: usize| -> Result<[View; 4]> {
        let [w, b] = [of.w, b].map(|w| s.rows(w, first, c, s.dtype));
        let [z, big_z] = [0, 1].map(|i| room.wide[i].part(0, s.t * c * 4));
        all.extend(s.logits(c).launch(&room.views(of.x, &w, &z))?);
        all.extend(s.logits(c).launch(&room.views(of.x, &b, &big_z))?);
        Ok([w, b, z, big_z])
    };
    for (first, c) in s.tiles() {
        let [_, _, z, big_z] = tile(&mut all, first, c)?;
        let args = [
            (&z).into(),
            (&big_z).into(),
            of.ids.into(),
            lse.into(),
            alpha.into(),
            ddn.into(),
        ];
        all.push(s.launch("row_alpha", with(args, &[first, c])));
    }
    for (first, c) in s.tiles() {
        let [w, b, z, big_z] = tile(&mut all, first, c)?;
        let [dz2, dnq] = [0, 1].map(|i| room.factor(i, s.t * c));
        let args = [
            Arg::from(&z),
            (&big_z).into(),
            of.ids.into(),
            lse.into(),
            dn.into(),
            alpha.into(),
            (&dz2).into(),
            (&dnq).into(),
            ddn.into(),
        ];
        all.push(s.launch("double_backward", with(args, &[first, c])));
        let views = Views {
            second: Some([&dnq, &b]),
            ..room.views(&dz2, &w, sums)
        };
        all.extend(s.by_x(first, c).launch(&views)?);
        let rows = s.rows(dw2, first, c, DType::F32);
        all.extend(s.by_w(c).launch(&room.views(&dz2, of.x, &rows))?);
    }
    all.extend(s.rounded(sums, dx2));
    Ok(all)
}

/// Arguments, and numbers behind them.
fn with(args: impl IntoIterator<Item = Arg>, numbers: &[usize]) -> Vec<Arg> {
    let numbers = numbers.iter().map(|n| Arg::U32(*n as u32));
    args.into_iter().chain(numbers).collect()
}

pub(crate) fn list() -> Vec<Entry> {
    let of = |dtype: DType| {
        let shape = Shape {
            t: 1,
            d: 1,
            v: 1,
            dtype,
        };
        let entries = [
            "forward",
            "forward_end",
            "row_dots",
            "backward",
            "row_alpha",
            "double_backward",
            "round_sums",
        ];
        entries.map(|entry| Entry {
            program: shape.program(),
            entry,
            variant: format!("{dtype:?}"),
            threads: THREADS,
            shared: 0,
            registers: 40,
        })
    };
    DType::ALL.into_iter().flat_map(of).collect()
}
