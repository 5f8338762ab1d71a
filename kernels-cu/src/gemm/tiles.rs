//! How a product is cut into tiles, and its k into parts.

use crate::program::DType;

/// How large the tiles of blocks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TileSize {
    /// 128 x 256 for bf16, 128 x 128 for f32: fewest reads.
    Large,
    /// 64 x 64: more blocks where C is small.
    Small,
}

impl TileSize {
    /// Both.
    pub const ALL: [TileSize; 2] = [TileSize::Large, TileSize::Small];

    pub(crate) fn name(self) -> &'static str {
        match self {
            TileSize::Large => "large",
            TileSize::Small => "small",
        }
    }
}

/// The tile of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tile {
    pub(crate) size: TileSize,
    pub(crate) rows: u32,
    pub(crate) columns: u32,
    /// Warps along rows and columns.
    pub(crate) warps: [u32; 2],
    /// Slices of k in shared memory at once.
    pub(crate) stages: u32,
    /// Blocks that a multiprocessor is to hold.
    pub(crate) resident: u32,
}

const SMALL: Tile = Tile {
    size: TileSize::Small,
    rows: 64,
    columns: 64,
    warps: [2, 2],
    stages: 4,
    resident: 2,
};

const LARGE_BF16: Tile = Tile {
    size: TileSize::Large,
    rows: 128,
    columns: 256,
    warps: [2, 4],
    stages: 3,
    resident: 1,
};

const LARGE_F32: Tile = Tile {
    columns: 128,
    stages: 4,
    ..LARGE_BF16
};

/// Bytes of a slice of k, of one row.
const SLICE: usize = 128;

impl Tile {
    /// The large tile and the small one.
    pub(crate) fn all(dtype: DType) -> [Tile; 2] {
        match dtype {
            DType::F32 => [LARGE_F32, SMALL],
            DType::BF16 => [LARGE_BF16, SMALL],
        }
    }

    pub(crate) fn threads(&self) -> u32 {
        32 * self.warps[0] * self.warps[1]
    }

    /// Bytes of shared memory.
    pub(crate) fn shared(&self) -> u32 {
        self.stages * (self.rows + self.columns) * SLICE as u32
    }

    /// Registers of a thread that still let so many blocks be resident.
    pub(crate) fn registers(&self) -> u32 {
        (65536 / (self.threads() * self.resident)).min(255)
    }

    /// The constants of tile/product.cuh.
    pub(crate) fn constants(&self, dtype: DType, passes: u32) -> Vec<(&'static str, String)> {
        let numbers = [
            ("TILE_M", self.rows),
            ("TILE_N", self.columns),
            ("WARPS_M", self.warps[0]),
            ("WARPS_N", self.warps[1]),
            ("STAGES", self.stages),
            ("RESIDENT", self.resident),
            ("PASSES", passes),
        ];
        let numbers = numbers.map(|(name, x)| (name, x.to_string()));
        let element = ("ELEMENT", dtype.device_name().to_string());
        numbers.into_iter().chain([element]).collect()
    }

    /// Tiles of a matrix [m, n].
    pub(crate) fn grid(&self, [m, n]: [usize; 2]) -> [usize; 2] {
        let [rows, columns] = [self.rows, self.columns].map(|x| x as usize);
        [m.div_ceil(rows), n.div_ceil(columns)]
    }
}

/// A tile and the number of parts of k.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) tile: Tile,
    pub(crate) splits: usize,
}

/// Multiprocessors that the work is cut for: an A100's. A constant, so that results are the same bits on every device.
const MULTIPROCESSORS: usize = 108;

/// What a plan is made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) dtype: DType,
    /// Passes that the matrix pipe takes for f32.
    pub(crate) passes: u32,
    pub(crate) batch: usize,
    /// Rows and columns of each matrix.
    pub(crate) shape: [usize; 2],
    pub(crate) k: usize,
    /// The only size of tiles that may be taken, if there is one.
    pub(crate) tile: Option<TileSize>,
}

/// The plan that should take an A100 the least time.
pub(crate) fn plan(work: &Work) -> Plan {
    best(work, &[1, 2, 3, 4, 6, 8, 12, 16, 24, 32])
}

/// The tile that should take the least time if k is not split.
pub(crate) fn plan_whole(work: &Work) -> Tile {
    best(work, &[1]).tile
}

fn best(work: &Work, splits: &[usize]) -> Plan {
    let Work {
        dtype,
        passes,
        batch,
        shape,
        k,
        tile,
    } = *work;
    let slices = k.div_ceil(SLICE / dtype.bytes());
    // cycles of the busiest multiprocessor, and of writing and reading the parts' sums at an A100's bytes per cycle
    let cycles = |plan: Plan| {
        let [m, n] = plan.tile.grid(shape);
        let blocks = batch * m * n * plan.splits;
        let area = f64::from(plan.tile.rows * plan.tile.columns);
        let flops = area * 2.0 * (slices.div_ceil(plan.splits) * SLICE / dtype.bytes()) as f64;
        let rate = match dtype {
            DType::F32 => 1024.0 / f64::from(passes),
            DType::BF16 => 2048.0,
        };
        // a small tile reads more per product than caches and shared memory keep up with
        let rate = if plan.tile == SMALL { rate * 0.6 } else { rate };
        let parts = match plan.splits {
            1 => 0.0,
            splits => (batch * shape[0] * shape[1] * 8 * splits) as f64 / 1446.0,
        };
        blocks.div_ceil(MULTIPROCESSORS) as f64 * flops / rate + parts
    };
    let few = |splits: &usize| *splits == 1 || slices >= 4 * splits;
    let allowed = |t: &Tile| tile.is_none_or(|size| t.size == size);
    let tiles = Tile::all(dtype).into_iter().filter(allowed);
    let plans = tiles.flat_map(|tile| {
        let splits = splits.iter().copied().filter(few);
        splits.map(move |splits| Plan { tile, splits })
    });
    let best = plans.min_by(|a, b| cycles(*a).total_cmp(&cycles(*b)));
    best.expect("a plan without splits for each size")
}
