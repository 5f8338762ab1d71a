//! Sliding-window attention of a mini-batch of 1024 queries over a window of 8192.

use kernels::Machine;
use kernels_cu::DType;
use kernels_cu::swa_attention::{
    Caches, Inputs, Sizes, backward, backward_workspace, double_backward,
    double_backward_workspace, forward,
};

use super::truth::orders;
use super::{Expected, KernelCase, Made, Size, input};

/// What is asked of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Forward,
    /// The inner gradient, whose cached keys are constants.
    Backward,
    /// The outer gradient.
    WholeBackward,
    /// Of the inner gradient: no cotangents of cached keys and values, for they have no gradient there.
    DoubleBackward,
}

const LEVELS: [Level; 4] = [
    Level::Forward,
    Level::Backward,
    Level::WholeBackward,
    Level::DoubleBackward,
];

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Forward => "forward",
            Level::Backward => "backward, cached keys constant",
            Level::WholeBackward => "backward",
            Level::DoubleBackward => "double backward, cached keys constant below",
        }
    }
}

/// Query heads, key/value heads, head size.
const HEADS: [[usize; 3]; 5] = [
    [32, 32, 64],
    [32, 32, 80],
    [32, 32, 96],
    [32, 32, 128],
    [32, 8, 128],
];

fn case(level: Level, heads: [usize; 3], dtype: DType) -> KernelCase {
    let [n, m, h] = heads;
    KernelCase {
        kernel: "swa_attention",
        variant: format!("{} {dtype:?}", level.name()),
        dtype,
        what: format!("1024 queries, window 8192, {n} heads on {m} of {h}"),
        make: Box::new(move |machine, size| make(machine, size, level, heads, dtype)),
    }
}

fn make(
    machine: &mut dyn Machine,
    size: Size,
    level: Level,
    [n, m, h]: [usize; 3],
    dtype: DType,
) -> kernels_cu::Result<Made> {
    let [t, c, window] = if size == Size::Real {
        [1024, 8191, 8192]
    } else {
        [37, 50, 45]
    };
    // a group of queries, and two keys
    let [n, m] = if size == Size::Real {
        [n, m]
    } else {
        [2 * n / m, 2]
    };
    let sizes = Sizes {
        dtype,
        t,
        c,
        n,
        m,
        h,
        used: h,
        window,
    };
    let [queries, cached, current] = [[t, n, h], [c, m, h], [t, m, h]];
    let count = |shape: [usize; 3]| shape.iter().product::<usize>();
    let shapes = [queries, cached, cached, current, current, queries];
    let mut arrays = vec![];
    // q, k and v of the cache, k, v, do; then cotangents of dq, dk, dv
    for (seed, shape) in shapes
        .into_iter()
        .chain([queries, current, current])
        .enumerate()
    {
        arrays.push(input(machine, size, count(shape), dtype, 1 + seed as u64)?);
    }
    let view = |i: usize| &arrays[i].0;
    let x = Inputs {
        q: view(0),
        cached: [view(1), view(2)],
        current: [view(3), view(4)],
    };
    let mut room = |n: usize, dtype: DType| machine.room(n * dtype.bytes());
    let (o, lse) = (room(count(queries), dtype)?, room(t * n, DType::F32)?);
    let mut results = vec![];
    for shape in shapes {
        results.push(room(count(shape), dtype)?);
    }
    let below = forward(&sizes, &x, &o, &lse)?;
    let caches = Caches { o: &o, lse: &lse };
    let wanted: &[usize] = match level {
        Level::Forward => &[],
        Level::Backward => &[0, 3, 4],
        Level::WholeBackward => &[0, 1, 2, 3, 4],
        Level::DoubleBackward => &[0, 1, 2, 3, 4, 5],
    };
    let result = |i: usize| wanted.contains(&i).then(|| &results[i]);
    let above = match level {
        Level::Forward => vec![],
        Level::Backward | Level::WholeBackward => {
            let workspace = machine.room(backward_workspace(&sizes))?;
            let d = [0, 1, 2, 3, 4].map(result);
            backward(&sizes, &x, view(5), &caches, d, &workspace)?
        }
        Level::DoubleBackward => {
            let workspace = machine.room(double_backward_workspace(&sizes))?;
            let ct = [Some(view(6)), None, None, Some(view(7)), Some(view(8))];
            let d = [0, 1, 2, 3, 4, 5].map(result);
            double_backward(&sizes, &x, view(5), &caches, ct, d, &workspace)?
        }
    };
    if size == Size::Real {
        let launches = if level == Level::Forward {
            vec![below]
        } else {
            above
        };
        return Ok(Made {
            launches,
            expected: vec![],
        });
    }
    let numbers = |i: usize| &arrays[i].1[..];
    let inputs: Vec<(&[usize], &[f64])> = (0..5).map(|i| (&shapes[i][..], numbers(i))).collect();
    let nothing: &[f64] = &[];
    let cotangents = [
        (&queries[..], numbers(6)),
        (&cached[..], nothing),
        (&cached[..], nothing),
        (&current[..], numbers(7)),
        (&current[..], numbers(8)),
    ];
    let [y, first, second] = orders(
        &|x| ops::swa_attention(&x[0], [&x[1], &x[2]], [&x[3], &x[4]], window),
        &inputs,
        &(&queries[..], numbers(5)),
        &cotangents,
    );
    let expected = match level {
        Level::Forward => vec![(o, y[0].clone())],
        Level::DoubleBackward => results.into_iter().zip(second).collect(),
        _ => wanted
            .iter()
            .map(|&i| (results[i].clone(), first[i].clone()))
            .collect(),
    };
    let expected = expected.into_iter();
    Ok(Made {
        launches: std::iter::once(below).chain(above).collect(),
        expected: expected
            .map(|(view, truth)| Expected { view, dtype, truth })
            .collect(),
    })
}

pub(super) fn cases() -> Vec<KernelCase> {
    let mut all = vec![];
    for dtype in [DType::BF16, DType::F32] {
        for heads in HEADS {
            all.extend(LEVELS.map(|level| case(level, heads, dtype)));
        }
    }
    all
}
