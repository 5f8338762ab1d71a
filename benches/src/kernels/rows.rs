//! Kernels that go through rows: norms, rotary embedding.

use kernels::Machine;
use kernels_cu::DType;
use kernels_cu::rms_norm::{Shape, backward, double_backward, forward};
use kernels_cu::rope::rope;

use super::truth::orders;
use super::{Expected, KernelCase, Made, Size, input};

const EPS: f64 = 1e-6;

fn norm(order: usize, rows: usize, d: usize, dtype: DType) -> KernelCase {
    KernelCase {
        kernel: "rms_norm",
        variant: format!(
            "{} {dtype:?}",
            ["forward", "backward", "double backward"][order]
        ),
        dtype,
        what: format!("{rows} x {d}"),
        make: Box::new(move |machine, size| {
            let rows = if size == Size::Real { rows } else { 19 };
            make_norm(machine, size, order, [rows, d], dtype)
        }),
    }
}

fn make_norm(
    machine: &mut dyn Machine,
    size: Size,
    order: usize,
    [rows, d]: [usize; 2],
    dtype: DType,
) -> kernels_cu::Result<Made> {
    let f32 = DType::F32;
    let shape = Shape {
        rows,
        d,
        dtype,
        weight: f32,
        eps: EPS as f32,
    };
    let n = rows * d;
    let (x, x_) = input(machine, size, n, dtype, 1)?;
    let (w, w_) = input(machine, size, d, f32, 2)?;
    let (dy, dy_) = input(machine, size, n, dtype, 3)?;
    let (a, a_) = input(machine, size, n, dtype, 4)?;
    let (b, b_) = input(machine, size, d, f32, 5)?;
    let mut room = || machine.room(n * dtype.bytes());
    let (out, ddy) = (room()?, room()?);
    let dw = machine.room(d * 4)?;
    let workspace = machine.room(shape.workspace())?;
    let launches = match order {
        0 => vec![forward(&shape, &x, &w, &out)?],
        1 => backward(&shape, [&x, &w, &dy], &out, Some((&dw, &workspace)))?,
        _ => double_backward(
            &shape,
            [&x, &w, &dy],
            [Some(&a), Some(&b)],
            [&out, &dw, &ddy],
            &workspace,
        )?,
    };
    let mut expected = vec![];
    if size == Size::Check {
        let all = [rows, d];
        let truth = orders(
            &|x| ops::rms_norm(&x[0], &x[1], EPS),
            &[(&all, &x_), (&[d], &w_)],
            &(&all, &dy_),
            &[(&all, &a_), (&[d], &b_)],
        );
        let views = [(out, dtype), (dw, f32), (ddy, dtype)];
        let results = views.into_iter().zip(truth[order].clone());
        expected = results
            .map(|((view, dtype), truth)| Expected { view, dtype, truth })
            .collect();
    }
    Ok(Made { launches, expected })
}

fn turn(dtype: DType) -> KernelCase {
    KernelCase {
        kernel: "rope",
        variant: format!("{dtype:?}"),
        dtype,
        what: "8192 x 32 heads of 80".into(),
        make: Box::new(move |machine, size| {
            let [t, n, h] = if size == Size::Real {
                [8192, 32, 80]
            } else {
                [9, 2, 16]
            };
            let (x, x_) = input(machine, size, t * n * h, dtype, 1)?;
            let (cos, cos_) = input(machine, size, t * h / 2, DType::F32, 2)?;
            let (sin, sin_) = input(machine, size, t * h / 2, DType::F32, 3)?;
            let y = machine.room(t * n * h * dtype.bytes())?;
            let launches = vec![rope([t, n, h], dtype, &x, [&cos, &sin], false, &y)?];
            let of = |i: usize| {
                let (p, j, half) = (i / (n * h), i % h, h / 2);
                let (c, s) = (cos_[p * half + j % half], sin_[p * half + j % half]);
                match j < half {
                    true => x_[i] * c - x_[i + half] * s,
                    false => x_[i] * c + x_[i - half] * s,
                }
            };
            let truth = if size == Size::Check {
                (0..t * n * h).map(of).collect()
            } else {
                vec![]
            };
            Ok(Made {
                launches,
                expected: vec![Expected {
                    view: y,
                    dtype,
                    truth,
                }],
            })
        }),
    }
}

pub(super) fn cases() -> Vec<KernelCase> {
    let norms = [(8192, 2560), (8192 * 32, 80)]
        .into_iter()
        .flat_map(|(rows, d)| {
            let of = move |dtype| [0, 1, 2].map(|order| norm(order, rows, d, dtype));
            DType::ALL.into_iter().flat_map(of)
        });
    norms.chain(DType::ALL.map(turn)).collect()
}
