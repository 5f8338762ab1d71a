//! Matrix products, and the MLP made of them.

use kernels::Machine;
use kernels_cu::DType;
use kernels_cu::gemm::{Gemm, Transpose, Views};
use kernels_cu::swiglu_mlp::{Backward, DoubleBackward, Forward, SwigluMlp};

use super::truth::orders;
use super::{Expected, KernelCase, Made, Size, input};

/// A mini-batch of the 3B model.
const T: usize = 1024;
const D: usize = 2560;
const FF: usize = 5632;

fn gemm(transpose: Transpose, dtype: DType) -> KernelCase {
    KernelCase {
        kernel: "gemm",
        variant: format!("{transpose:?} {dtype:?}"),
        dtype,
        what: match transpose {
            Transpose::B => format!("x w', {T} x {FF} over {D}"),
            Transpose::None => format!("dy w, {T} x {D} over {FF}"),
            Transpose::A => format!("dy' x, {FF} x {D} over {T}"),
        },
        make: Box::new(move |machine, size| {
            let [m, n, k] = match (size, transpose) {
                (Size::Check, _) => [70, 45, 33],
                (_, Transpose::B) => [T, FF, D],
                (_, Transpose::None) => [T, D, FF],
                (_, Transpose::A) => [FF, D, T],
            };
            let (a, x) = input(machine, size, m * k, dtype, 1)?;
            let (b, y) = input(machine, size, k * n, dtype, 2)?;
            let gemm = Gemm::new(transpose, [m, n, k], dtype);
            let c = machine.room(m * n * dtype.bytes())?;
            let workspace = machine.room(gemm.workspace(1))?;
            let views = Views {
                workspace: Some(&workspace),
                ..Views::new(&a, &b, &c)
            };
            let launches = gemm.launch(&views)?;
            let at = |i: usize, j: usize, l: usize| match transpose {
                Transpose::None => x[i * k + l] * y[l * n + j],
                Transpose::B => x[i * k + l] * y[j * k + l],
                Transpose::A => x[l * m + i] * y[l * n + j],
            };
            let of = |e: usize| (0..k).map(|l| at(e / n, e % n, l)).sum();
            let truth = match size {
                Size::Check => (0..m * n).map(of).collect(),
                Size::Real => vec![],
            };
            Ok(Made {
                launches,
                expected: vec![Expected {
                    view: c,
                    dtype,
                    truth,
                }],
            })
        }),
    }
}

fn mlp(order: usize, dtype: DType) -> KernelCase {
    KernelCase {
        kernel: "swiglu_mlp",
        variant: format!(
            "{} {dtype:?}",
            ["forward", "backward", "double backward"][order]
        ),
        dtype,
        what: format!("{T} x {D}, {FF} between"),
        make: Box::new(move |machine, size| make_mlp(machine, size, order, dtype)),
    }
}

fn make_mlp(
    machine: &mut dyn Machine,
    size: Size,
    order: usize,
    dtype: DType,
) -> kernels_cu::Result<Made> {
    let [t, d, ff] = if size == Size::Real {
        [T, D, FF]
    } else {
        [33, 24, 40]
    };
    let mlp = SwigluMlp {
        gradients: DType::F32,
        ..SwigluMlp::new([t, d, ff], dtype)
    };
    let (x, x_) = input(machine, size, t * d, dtype, 1)?;
    let (gate, gate_) = input(machine, size, ff * d, dtype, 2)?;
    let (up, up_) = input(machine, size, ff * d, dtype, 3)?;
    let (down, down_) = input(machine, size, d * ff, dtype, 4)?;
    let (dy, dy_) = input(machine, size, t * d, dtype, 5)?;
    let (ddx, ddx_) = input(machine, size, t * d, dtype, 6)?;
    let (ddgate, ddgate_) = input(machine, size, ff * d, dtype, 7)?;
    let (ddup, ddup_) = input(machine, size, ff * d, dtype, 8)?;
    let (dddown, dddown_) = input(machine, size, d * ff, dtype, 9)?;
    let mut narrow = || machine.room(t * d * dtype.bytes());
    let (y, dx, dx2, ddy) = (narrow()?, narrow()?, narrow()?, narrow()?);
    let mut wide = || machine.room(t * ff * dtype.bytes());
    let (g, u, dh, dg2, du2) = (wide()?, wide()?, wide()?, wide()?, wide()?);
    let mut weight = || machine.room(ff * d * 4);
    let first = [weight()?, weight()?, weight()?];
    let second = [weight()?, weight()?, weight()?];
    let workspace = machine.room(mlp.workspace())?;
    let forward = mlp.forward(&Forward {
        x: &x,
        gate: &gate,
        up: &up,
        down: &down,
        y: &y,
        g: Some(&g),
        u: Some(&u),
        workspace: &workspace,
    })?;
    let backward = mlp.backward(&Backward {
        x: [&x, &gate, &up, &down, &g, &u],
        dy: Some(&dy),
        eg: None,
        eu: None,
        dx: Some(&dx),
        dgate: Some(&first[0]),
        dup: Some(&first[1]),
        ddown: Some(&first[2]),
        dh: Some(&dh),
        workspace: &workspace,
    })?;
    let double = mlp.double_backward(&DoubleBackward {
        x: [&x, &gate, &up, &down, &g, &u, &dy],
        dh: &dh,
        ddx: Some(&ddx),
        ddgate: Some(&ddgate),
        ddup: Some(&ddup),
        dddown: Some(&dddown),
        dx2: Some(&dx2),
        dgate2: Some(&second[0]),
        dup2: Some(&second[1]),
        ddown2: Some(&second[2]),
        dg2: Some(&dg2),
        du2: Some(&du2),
        ddy: Some(&ddy),
        workspace: &workspace,
    })?;
    let mut levels = [forward, backward, double];
    if size == Size::Real {
        return Ok(Made {
            launches: levels[order].clone(),
            expected: vec![],
        });
    }
    let (narrow, wide, tall) = ([t, d], [ff, d], [d, ff]);
    let [y_, dx_, d2_] = orders(
        &|x| ops::swiglu_mlp(&x[0], &x[1], &x[2], &x[3]),
        &[
            (&narrow, &x_),
            (&wide, &gate_),
            (&wide, &up_),
            (&tall, &down_),
        ],
        &(&narrow, &dy_),
        &[
            (&narrow, &ddx_),
            (&wide, &ddgate_),
            (&wide, &ddup_),
            (&tall, &dddown_),
        ],
    );
    let f32 = DType::F32;
    let [w1, w2, w3] = first;
    // of order 2 what comes from below is left out: the cotangents of g and u go on into the forward op
    let results = match order {
        0 => vec![(y, dtype, y_[0].clone())],
        1 => vec![
            (dx, dtype, dx_[0].clone()),
            (w1, f32, dx_[1].clone()),
            (w2, f32, dx_[2].clone()),
            (w3, f32, dx_[3].clone()),
        ],
        _ => vec![(ddy, dtype, d2_[4].clone())],
    };
    let expected = results
        .into_iter()
        .map(|(view, dtype, truth)| Expected { view, dtype, truth });
    let launches = levels[..=order]
        .iter_mut()
        .flat_map(std::mem::take)
        .collect();
    Ok(Made {
        launches,
        expected: expected.collect(),
    })
}

pub(super) fn cases() -> Vec<KernelCase> {
    let gemms = DType::ALL
        .into_iter()
        .flat_map(|dtype| Transpose::ALL.map(|transpose| gemm(transpose, dtype)));
    let mlps = DType::ALL
        .into_iter()
        .flat_map(|dtype| [0, 1, 2].map(|order| mlp(order, dtype)));
    gemms.chain(mlps).collect()
}
