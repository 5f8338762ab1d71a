#![doc = include_str!("README.md")]

use crate::error::{Error, Result};
use crate::launch::{Cost, Launch, View};
use crate::list::Entry;
use crate::program::{DType, Program};

const FILES: &[(&str, &str)] = &[
    ("tile/base.cuh", include_str!("../tile/base.cuh")),
    ("tile/reduce.cuh", include_str!("../tile/reduce.cuh")),
    ("rms_norm.cu", include_str!("rms_norm.cu")),
];

/// Longest row.
const LONGEST: usize = 16384;
/// Blocks of a launch, at most: eight for each multiprocessor of an A100. Each takes many rows, so w is read seldom.
const BLOCKS: usize = 864;

/// Threads of the blocks that add what others left: many, because each waits for memory most of the time.
const SUM_THREADS: u32 = 1024;

/// What the arrays look like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Rows of x.
    pub rows: usize,
    /// d: elements of a row.
    pub d: usize,
    /// Type of x, its cotangents and its gradients.
    pub dtype: DType,
    /// Type of w, its cotangent and its gradients.
    pub weight: DType,
    /// Added to the mean of squares.
    pub eps: f32,
}

/// How a row of d elements is cut among threads.
struct Cut {
    threads: u32,
    team: u32,
    vector: usize,
}

impl Cut {
    fn of(d: usize, dtype: DType, weight: DType) -> Cut {
        let (threads, team) = match d {
            ..=1024 => (128, 32),
            1025..=4096 => (256, 256),
            _ => (512, 512),
        };
        // as many as fill 16 bytes in both types, if every lane still has some
        let bytes = dtype.bytes().max(weight.bytes());
        let widths = [8, 4, 2].into_iter();
        let fits = |v: &usize| v * bytes <= 16 && d.is_multiple_of(*v) && d >= 32 * v;
        let vector = widths.into_iter().find(fits).unwrap_or(1);
        Cut {
            threads,
            team,
            vector,
        }
    }
}

impl Shape {
    fn cut(&self) -> Cut {
        Cut::of(self.d, self.dtype, self.weight)
    }

    fn blocks(&self) -> usize {
        let cut = self.cut();
        let teams = (cut.threads / cut.team) as usize;
        self.rows.div_ceil(teams).clamp(1, BLOCKS)
    }

    /// Bytes of the workspace of [`backward`] with dw, and of [`double_backward`].
    pub fn workspace(&self) -> usize {
        self.blocks() * self.d * 4
    }

    fn program(&self) -> Program {
        let cut = self.cut();
        let constants = [
            ("D", self.d.to_string()),
            ("ELEMENT", self.dtype.device_name().to_string()),
            ("WEIGHT", self.weight.device_name().to_string()),
            ("THREADS", cut.threads.to_string()),
            ("TEAM", cut.team.to_string()),
            ("VECTOR", cut.vector.to_string()),
        ];
        Program::new("rms_norm", FILES, constants)
    }

    fn launch(&self, entry: &'static str, arrays: usize, args: Vec<crate::Arg>) -> Launch {
        Launch {
            program: self.program(),
            entry,
            grid: [self.blocks() as u32, 1, 1],
            block: [self.cut().threads, 1, 1],
            shared: 0,
            args,
            cost: Cost {
                flops: 0,
                bytes: (arrays * self.rows * self.d * self.dtype.bytes()) as u64,
            },
        }
    }

    fn check(
        &self,
        kernel: &'static str,
        of_rows: &[&View],
        of_weights: &[&View],
        partial: Option<&View>,
    ) -> Result<()> {
        let wrong = |message| Err(Error::shape(kernel, message));
        if self.d == 0 || self.d > LONGEST {
            return wrong(format!(
                "rows of {} elements; there are kernels for 1 to {LONGEST}",
                self.d
            ));
        }
        let bytes = self.rows * self.d * self.dtype.bytes();
        if let Some(view) = of_rows.iter().find(|view| view.bytes() != bytes) {
            return wrong(format!(
                "{view:?} is not {} rows of {} {:?}",
                self.rows, self.d, self.dtype
            ));
        }
        let bytes = self.d * self.weight.bytes();
        if let Some(view) = of_weights.iter().find(|view| view.bytes() != bytes) {
            return wrong(format!("{view:?} is not {} {:?}", self.d, self.weight));
        }
        match partial {
            Some(view) if view.bytes() < self.workspace() => wrong(format!(
                "a workspace of {} bytes; it needs {}",
                view.bytes(),
                self.workspace()
            )),
            _ => Ok(()),
        }
    }

    /// dw from what the blocks left.
    fn sum(&self, partial: &View, dw: &View) -> Launch {
        let vectors = self.d / self.cut().vector;
        let blocks = self.blocks() as u64;
        Launch {
            program: self.program(),
            entry: "sum_blocks",
            grid: [vectors.div_ceil(32) as u32, 1, 1],
            block: [SUM_THREADS, 1, 1],
            shared: 0,
            args: vec![partial.into(), dw.into(), blocks.into()],
            cost: Cost::default(),
        }
    }
}

/// y = x / sqrt(mean(x^2) + eps) w.
///
/// # Errors
/// Arrays of other sizes, rows longer than 16384.
pub fn forward(shape: &Shape, x: &View, w: &View, y: &View) -> Result<Launch> {
    shape.check("rms_norm", &[x, y], &[w], None)?;
    let args = vec![
        x.into(),
        w.into(),
        y.into(),
        (shape.rows as u64).into(),
        shape.eps.into(),
    ];
    Ok(shape.launch("forward", 2, args))
}

/// dx, and dw if it is wanted: with a workspace of [`Shape::workspace`] bytes.
///
/// # Errors
/// Those of [`forward`]; a workspace that is too small.
pub fn backward(
    shape: &Shape,
    [x, w, dy]: [&View; 3],
    dx: &View,
    dw: Option<(&View, &View)>,
) -> Result<Vec<Launch>> {
    let (weights, partial) = match dw {
        Some((dw, workspace)) => (vec![w, dw], Some(workspace)),
        None => (vec![w], None),
    };
    shape.check("rms_norm backward", &[x, dy, dx], &weights, partial)?;
    let [x, w, dy] = [x, w, dy].map(crate::Arg::from);
    let args = vec![
        x,
        w,
        dy,
        dx.into(),
        partial.into(),
        (shape.rows as u64).into(),
        shape.eps.into(),
    ];
    let mut all = vec![shape.launch("backward", 3, args)];
    all.extend(dw.map(|(dw, workspace)| shape.sum(workspace, dw)));
    Ok(all)
}

/// [dx2, dw2, ddy] for cotangents A of dx and B of dw, either of which may be zero.
///
/// # Errors
/// Those of [`forward`]; a workspace that is too small.
pub fn double_backward(
    shape: &Shape,
    [x, w, dy]: [&View; 3],
    [a, b]: [Option<&View>; 2],
    [dx2, dw2, ddy]: [&View; 3],
    workspace: &View,
) -> Result<Vec<Launch>> {
    let rows: Vec<&View> = [x, dy, dx2, ddy].into_iter().chain(a).collect();
    let weights: Vec<&View> = [w, dw2].into_iter().chain(b).collect();
    shape.check("rms_norm double backward", &rows, &weights, Some(workspace))?;
    let args = vec![
        x.into(),
        w.into(),
        dy.into(),
        a.into(),
        b.into(),
        dx2.into(),
        workspace.into(),
        ddy.into(),
        (shape.rows as u64).into(),
        shape.eps.into(),
    ];
    Ok(vec![
        shape.launch("double_backward", rows.len(), args),
        shape.sum(workspace, dw2),
    ])
}

/// Rows of a head and of a model, and one that fits nothing.
pub(crate) fn list() -> Vec<Entry> {
    let of = |(d, dtype): (usize, DType)| {
        let shape = Shape {
            rows: 1,
            d,
            dtype,
            weight: DType::F32,
            eps: 0.0,
        };
        let entry = move |entry, threads, registers| Entry {
            program: shape.program(),
            entry,
            variant: format!("d {d} {dtype:?}"),
            threads,
            shared: 0,
            registers,
        };
        let threads = shape.cut().threads;
        [
            entry("forward", threads, 64),
            entry("backward", threads, 128),
            entry("double_backward", threads, 168),
            entry("sum_blocks", SUM_THREADS, 64),
        ]
    };
    let all = [
        (64, DType::F32),
        (80, DType::BF16),
        (2560, DType::BF16),
        (2560, DType::F32),
        (5001, DType::F32),
    ];
    all.into_iter().flat_map(of).collect()
}
