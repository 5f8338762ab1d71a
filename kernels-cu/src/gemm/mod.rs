#![doc = include_str!("README.md")]

mod few_rows;
mod tiles;
mod views;

use crate::error::Result;
use crate::launch::{Arg, Cost, Launch, View};
use crate::list::Entry;
use crate::program::{DType, Program};

pub use tiles::TileSize;
use tiles::{Plan, plan};
pub(crate) use tiles::{Tile, Work, plan_whole};
pub use views::Views;

const FILES: &[(&str, &str)] = &[
    ("tile/base.cuh", include_str!("../tile/base.cuh")),
    ("tile/reduce.cuh", include_str!("../tile/reduce.cuh")),
    ("tile/copy.cuh", include_str!("../tile/copy.cuh")),
    ("tile/mma.cuh", include_str!("../tile/mma.cuh")),
    ("tile/fours.cuh", include_str!("../tile/fours.cuh")),
    ("tile/product.cuh", include_str!("../tile/product.cuh")),
    ("finish.cuh", include_str!("finish.cuh")),
    ("gemm.cu", include_str!("gemm.cu")),
];

const SUM_FILES: &[(&str, &str)] = &[
    ("tile/base.cuh", include_str!("../tile/base.cuh")),
    ("tile/reduce.cuh", include_str!("../tile/reduce.cuh")),
    ("tile/fours.cuh", include_str!("../tile/fours.cuh")),
    ("finish.cuh", include_str!("finish.cuh")),
    ("sum_splits.cu", include_str!("sum_splits.cu")),
];

/// Threads of a block that sums parts; each has four elements.
const SUM_THREADS: u32 = 256;

/// Lines of A and B are multiples of 16 bytes.
pub(crate) const WIDE: u32 = 1;
/// Lines of results are multiples of four elements.
pub(crate) const FOURS: u32 = 2;
/// The result is f32.
const IS_FLOAT: u32 = 4;

/// Which factor is stored transposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transpose {
    /// C = A B: A [m, k], B [k, n].
    None,
    /// C = A B': A [m, k], B [n, k].
    B,
    /// C = A' B: A [k, m], B [k, n].
    A,
}

impl Transpose {
    /// All three.
    pub const ALL: [Transpose; 3] = [Transpose::None, Transpose::B, Transpose::A];
}

/// C = alpha op(A) op(B) + beta C for a batch of matrices, C [m, n], all row-major and side by side. Sums are f32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gemm {
    /// Which factor is stored transposed.
    pub transpose: Transpose,
    /// Matrices in the batch.
    pub batch: usize,
    /// Rows of C.
    pub m: usize,
    /// Columns of C.
    pub n: usize,
    /// Products in each of its sums.
    pub k: usize,
    /// Type of A and B.
    pub input: DType,
    /// Type of C: that of the factors, or f32.
    pub output: DType,
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of what is in C before; it is not read if this is 0.
    pub beta: f32,
    /// Factors of f32 are rounded to tf32: a third of the work, and only 11 significant bits.
    pub tf32: bool,
    /// The size of tiles; None for what should be the fastest. Other sizes give other bits.
    pub tile: Option<TileSize>,
}

impl Gemm {
    /// C = op(A) op(B), one matrix, for factors and a result of one type.
    pub fn new(transpose: Transpose, [m, n, k]: [usize; 3], dtype: DType) -> Self {
        Gemm {
            transpose,
            batch: 1,
            m,
            n,
            k,
            input: dtype,
            output: dtype,
            alpha: 1.0,
            beta: 0.0,
            tf32: false,
            tile: None,
        }
    }

    fn passes(&self) -> u32 {
        if self.tf32 { 1 } else { 3 }
    }

    fn plan(&self, products: usize) -> Plan {
        let work = Work {
            dtype: self.input,
            passes: self.passes(),
            batch: self.batch,
            shape: [self.m, self.n],
            k: self.k * products,
            tile: self.tile,
        };
        match few_rows::takes(self) {
            true => Plan {
                tile: plan_whole(&work),
                splits: 1,
            },
            false => plan(&work),
        }
    }

    /// Bytes of workspace: sums of parts of k. `products` is 2 if there is a second one, else 1.
    pub fn workspace(&self, products: usize) -> usize {
        match self.plan(products).splits {
            1 => 0,
            splits => splits * self.elements() * 4,
        }
    }

    /// How many sums of squares there will be.
    pub fn squares(&self, products: usize) -> usize {
        let plan = self.plan(products);
        match plan.splits {
            1 => {
                let [m, n] = plan.tile.grid([self.m, self.n]);
                self.batch * m * n
            }
            _ => self.elements().div_ceil(4 * SUM_THREADS as usize),
        }
    }

    fn elements(&self) -> usize {
        self.batch * self.m * self.n
    }

    /// The launches, in order: none for an empty C, two where k is split.
    ///
    /// # Errors
    /// Views of other sizes, a workspace that is too small, a bf16 result of f32, sizes beyond 2^31.
    pub fn launch(&self, views: &Views) -> Result<Vec<Launch>> {
        self.check(views)?;
        if self.elements() == 0 {
            return Ok(vec![]);
        }
        let plain = views.second.is_none() && views.shadow.is_none() && views.squares.is_none();
        if few_rows::takes(self) && plain {
            return Ok(vec![few_rows::launch(self, views)]);
        }
        let plan = self.plan(if views.second.is_some() { 2 } else { 1 });
        match (plan.splits, views.workspace) {
            (1, _) => {
                let end = End {
                    c: views.c,
                    shadow: views.shadow,
                    squares: views.squares,
                    output: self.output,
                    alpha: self.alpha,
                    beta: self.beta,
                };
                Ok(vec![self.product(views, plan, &end)])
            }
            (splits, Some(workspace)) => {
                let parts = workspace.part(0, splits * self.elements() * 4);
                let end = End {
                    c: &parts,
                    shadow: None,
                    squares: None,
                    output: DType::F32,
                    alpha: 1.0,
                    beta: 0.0,
                };
                let sum = self.sum_splits(views, splits, &parts);
                Ok(vec![self.product(views, plan, &end), sum])
            }
            (_, None) => unreachable!("the workspace was checked"),
        }
    }

    /// Flags of the kernels for lines of factors, and lines of `results`, in memory.
    fn flags(&self, views: &Views, n: usize, results: &[Option<&View>], output: DType) -> u32 {
        let lines = match self.transpose {
            Transpose::None => [self.k, self.n],
            Transpose::B => [self.k, self.k],
            Transpose::A => [self.m, self.n],
        };
        let factors = views.factors.iter().chain(views.second.iter().flatten());
        let wide = lines
            .iter()
            .all(|line| (line * self.input.bytes()).is_multiple_of(16))
            && factors
                .into_iter()
                .all(|view| view.address().is_multiple_of(16));
        let fours = n.is_multiple_of(4)
            && results
                .iter()
                .flatten()
                .all(|view| view.address().is_multiple_of(16));
        let is_float = output == DType::F32;
        [(wide, WIDE), (fours, FOURS), (is_float, IS_FLOAT)]
            .into_iter()
            .filter(|(set, _)| *set)
            .map(|(_, flag)| flag)
            .sum()
    }

    fn cost(&self, views: &Views) -> Cost {
        let products = 1 + views.second.map_or(0, |_| 1);
        let inputs = self.batch * (self.m * self.k + self.k * self.n) * self.input.bytes();
        let outputs = self.elements() * self.output.bytes();
        let again = if self.beta == 0.0 { 0 } else { outputs };
        let shadow = views.shadow.map_or(0, View::bytes);
        Cost {
            flops: 2 * (products * self.elements() * self.k) as u64,
            bytes: (products * inputs + outputs + again + shadow) as u64,
        }
    }

    fn product(&self, views: &Views, plan: Plan, end: &End) -> Launch {
        let [rows, columns] = plan.tile.grid([self.m, self.n]);
        let [m, n, k] = [self.m, self.n, self.k];
        let second = views.second.map_or([None; 2], |x| x.map(Some));
        let results = [Some(end.c), end.shadow];
        let args: Vec<Arg> = vec![
            views.factors[0].into(),
            views.factors[1].into(),
            second[0].into(),
            second[1].into(),
            end.c.into(),
            end.shadow.into(),
            end.squares.into(),
            (m as u32).into(),
            (n as u32).into(),
            (k as u32).into(),
            ((m * k) as u64).into(),
            ((k * n) as u64).into(),
            (plan.splits as u32).into(),
            end.alpha.into(),
            end.beta.into(),
            self.flags(views, n, &results, end.output).into(),
        ];
        Launch {
            program: program(self.input, self.passes(), self.transpose, plan.tile),
            entry: "gemm",
            grid: [rows, columns, self.batch * plan.splits].map(|x| x as u32),
            block: [plan.tile.threads(), 1, 1],
            shared: plan.tile.shared(),
            args,
            cost: self.cost(views),
        }
    }

    fn sum_splits(&self, views: &Views, splits: usize, parts: &View) -> Launch {
        let length = self.elements();
        let results = [Some(views.c), views.shadow, Some(parts)];
        let args: Vec<Arg> = vec![
            parts.into(),
            views.c.into(),
            views.shadow.into(),
            views.squares.into(),
            (length as u64).into(),
            (splits as u32).into(),
            self.alpha.into(),
            self.beta.into(),
            self.flags(views, length, &results, self.output).into(),
        ];
        Launch {
            program: sum_program(),
            entry: "sum_splits",
            grid: [length.div_ceil(4 * SUM_THREADS as usize) as u32, 1, 1],
            block: [SUM_THREADS, 1, 1],
            shared: 0,
            args,
            cost: Cost {
                flops: 0,
                bytes: (parts.bytes() + views.c.bytes()) as u64,
            },
        }
    }
}

/// Where sums go.
struct End<'v> {
    c: &'v View,
    shadow: Option<&'v View>,
    squares: Option<&'v View>,
    output: DType,
    alpha: f32,
    beta: f32,
}

fn program(dtype: DType, passes: u32, transpose: Transpose, tile: Tile) -> Program {
    let mut constants = tile.constants(dtype, passes);
    let k_last = match transpose {
        Transpose::None => ["true", "false"],
        Transpose::B => ["true", "true"],
        Transpose::A => ["false", "false"],
    };
    constants.push(("K_LAST_A", k_last[0].into()));
    constants.push(("K_LAST_B", k_last[1].into()));
    Program::new("gemm", FILES, constants)
}

fn sum_program() -> Program {
    Program::new("gemm", SUM_FILES, [("THREADS", SUM_THREADS.to_string())])
}

pub(crate) fn list() -> Vec<Entry> {
    let mut entries = few_rows::list();
    entries.push(Entry {
        program: sum_program(),
        entry: "sum_splits",
        variant: "sums what parts of k gave".into(),
        threads: SUM_THREADS,
        shared: 0,
        registers: 40,
    });
    for (dtype, passes) in [(DType::BF16, 3), (DType::F32, 3), (DType::F32, 1)] {
        for tile in Tile::all(dtype) {
            for transpose in Transpose::ALL {
                let rounded = if passes == 1 {
                    ", factors rounded to tf32"
                } else {
                    ""
                };
                entries.push(Entry {
                    program: program(dtype, passes, transpose, tile),
                    entry: "gemm",
                    variant: format!(
                        "{dtype:?}{rounded}, transpose {transpose:?}, {} tile",
                        tile.size.name()
                    ),
                    threads: tile.threads(),
                    shared: tile.shared(),
                    registers: tile.registers(),
                });
            }
        }
    }
    entries
}
