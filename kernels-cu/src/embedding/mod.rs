#![doc = include_str!("README.md")]

use crate::error::{Error, Result};
use crate::launch::{Arg, Cost, Launch, View};
use crate::list::Entry;
use crate::program::{DType, Program};

const FILES: &[(&str, &str)] = &[
    ("tile/base.cuh", include_str!("../tile/base.cuh")),
    ("embedding.cu", include_str!("embedding.cu")),
];

const THREADS: u32 = 256;

/// Bytes that a thread moves at once.
const WHOLE: usize = 16;

/// What the arrays look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of the table.
    pub rows: usize,
    /// Ids.
    pub count: usize,
    /// Elements of a row.
    pub d: usize,
    /// Type of the table and of what is read from it.
    pub dtype: DType,
}

/// The places of each row in a list of ids: those of row r are `order[starts[r] .. starts[r + 1]]`, in rising order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Where the places of each row begin, and the end of the last: rows + 1 numbers.
    pub starts: Vec<u32>,
    /// All places.
    pub order: Vec<u32>,
}

impl Places {
    /// Of ids below `rows`. Panics where one is not.
    pub fn of(ids: &[u32], rows: usize) -> Self {
        let mut starts = vec![0; rows + 1];
        for &id in ids {
            starts[id as usize + 1] += 1;
        }
        for r in 0..rows {
            starts[r + 1] += starts[r];
        }
        let mut next = starts.clone();
        let mut order = vec![0; ids.len()];
        for (place, &id) in (0..).zip(ids) {
            let at = &mut next[id as usize];
            order[*at as usize] = place;
            *at += 1;
        }
        Places { starts, order }
    }
}

impl Shape {
    fn row(&self) -> usize {
        self.d * self.dtype.bytes()
    }

    /// Elements of a thread: as many as rows at these addresses allow.
    fn vector(&self, arrays: [&View; 2]) -> usize {
        let aligned = arrays
            .iter()
            .all(|view| view.address().is_multiple_of(WHOLE as u64));
        match aligned && self.row().is_multiple_of(WHOLE) {
            true => WHOLE / self.dtype.bytes(),
            false => 1,
        }
    }

    /// A thread for each piece of `rows` rows. `arrays` are x and y, `numbers` what lies between them; all with their bytes.
    fn launch(
        &self,
        entry: &'static str,
        rows: usize,
        arrays: [(&View, usize); 2],
        numbers: &[(&View, usize)],
    ) -> Result<Launch> {
        let all = || arrays.iter().chain(numbers);
        if let Some((view, bytes)) = all().find(|(view, bytes)| view.bytes() != *bytes) {
            let message = format!("{view:?} is not {bytes} bytes, for {self:?}");
            return Err(Error::shape(entry, message));
        }
        let [x, y] = arrays.map(|(view, _)| view);
        let vector = self.vector([x, y]);
        let threads = rows * (self.d / vector);
        let most = 1 << 31;
        if threads >= most || self.count >= most || self.rows >= most {
            let message = format!("{self:?} is too large: there are less than 2^31 pieces of rows");
            return Err(Error::shape(entry, message));
        }
        let views = [x].into_iter().chain(numbers.iter().map(|(view, _)| *view));
        let mut args: Vec<Arg> = views.chain([y]).map(Arg::from).collect();
        args.extend([rows, self.d / vector].map(|n| Arg::U32(n as u32)));
        let read = self.count * self.row();
        let bytes = read + arrays[1].1 + numbers.iter().map(|(_, bytes)| bytes).sum::<usize>();
        Ok(Launch {
            program: program(self.dtype, vector),
            entry,
            grid: [threads.div_ceil(THREADS as usize).max(1) as u32, 1, 1],
            block: [THREADS, 1, 1],
            shared: 0,
            args,
            cost: Cost {
                flops: 0,
                bytes: bytes as u64,
            },
        })
    }
}

/// y [count, d] = rows `ids` of x [rows, d].
///
/// # Errors
/// Arrays of other sizes, 2^31 pieces or more. The ids (u32, below `rows`) are the caller's to check.
pub fn gather(shape: &Shape, x: &View, ids: &View, y: &View) -> Result<Launch> {
    let Shape { rows, count, .. } = *shape;
    let arrays = [(x, rows * shape.row()), (y, count * shape.row())];
    shape.launch("gather", count, arrays, &[(ids, 4 * count)])
}

/// y [rows, d] = for each row the sum of the rows of x [count, d] at its places, zero where there are none. `starts` and `order` are
/// those of a [`Places`].
///
/// # Errors
/// Arrays of other sizes, 2^31 pieces or more. That `starts` and `order` are those of a [`Places`] is the caller's to see to.
pub fn scatter_add(
    shape: &Shape,
    x: &View,
    [starts, order]: [&View; 2],
    y: &View,
) -> Result<Launch> {
    let Shape { rows, count, .. } = *shape;
    let arrays = [(x, count * shape.row()), (y, rows * shape.row())];
    let numbers = [(starts, 4 * (rows + 1)), (order, 4 * count)];
    shape.launch("scatter_add", rows, arrays, &numbers)
}

fn program(dtype: DType, vector: usize) -> Program {
    let constants = [
        ("ELEMENT", dtype.device_name().to_string()),
        ("VECTOR", vector.to_string()),
    ];
    Program::new("embedding", FILES, constants)
}

pub(crate) fn list() -> Vec<Entry> {
    let of = |dtype: DType| {
        [1, WHOLE / dtype.bytes()]
            .into_iter()
            .flat_map(move |vector| {
                ["gather", "scatter_add"].map(|entry| Entry {
                    program: program(dtype, vector),
                    entry,
                    variant: format!("{dtype:?}, {vector} elements a thread"),
                    threads: THREADS,
                    shared: 0,
                    registers: 40,
                })
            })
    };
    DType::ALL.into_iter().flat_map(of).collect()
}
