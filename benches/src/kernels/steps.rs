//! What a training step does around the model: rows of the embedding and their adjoint, the norm of gradients, AdamW.

use kernels::{Machine, from_bytes, to_bytes};
use kernels_cu::adamw::{AdamW, Views, adamw};
use kernels_cu::embedding::{Places, Shape, gather, scatter_add};
use kernels_cu::gradient_norm::{clip, parts, squares};
use kernels_cu::{DType, Result, View};
use ops::Tensor;

use super::{Expected, KernelCase, Made, Size, input};

/// Elements of one matrix of an MLP of the 3B model.
const MATRIX: usize = 5632 * 2560;

fn upload_u32(machine: &mut dyn Machine, x: &[u32]) -> Result<View> {
    let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
    machine.upload_bytes(&bytes)
}

fn rows(adjoint: bool, dtype: DType) -> KernelCase {
    KernelCase {
        kernel: "embedding",
        variant: format!(
            "{} {dtype:?}",
            if adjoint { "scatter_add" } else { "gather" }
        ),
        dtype,
        what: "8192 of 128256 rows of 2560".into(),
        make: Box::new(move |machine, size| {
            let [rows, count, d] = match size {
                Size::Real => [128_256, 8192, 2560],
                Size::Check => [30, 50, 24],
            };
            let shape = Shape {
                rows,
                count,
                d,
                dtype,
            };
            let ids: Vec<u32> = (0..count).map(|i| (i * 7919 % rows) as u32).collect();
            let (from, to) = if adjoint {
                (count, rows)
            } else {
                (rows, count)
            };
            let (x, x_) = input(machine, size, from * d, dtype, 1)?;
            let y = machine.room(to * d * dtype.bytes())?;
            let launch = if adjoint {
                let places = Places::of(&ids, rows);
                let starts = upload_u32(machine, &places.starts)?;
                let order = upload_u32(machine, &places.order)?;
                scatter_add(&shape, &x, [&starts, &order], &y)?
            } else {
                let ids = upload_u32(machine, &ids)?;
                gather(&shape, &x, &ids, &y)?
            };
            let mut truth = vec![];
            if size == Size::Check {
                truth = vec![0.0; to * d];
                for (i, id) in ids.iter().map(|id| *id as usize).enumerate() {
                    let (from, to) = if adjoint { (i, id) } else { (id, i) };
                    let pairs = truth[to * d..][..d].iter_mut().zip(&x_[from * d..][..d]);
                    pairs.for_each(|(y, x)| *y += x);
                }
            }
            Ok(Made {
                launches: vec![launch],
                expected: vec![Expected {
                    view: y,
                    dtype,
                    truth,
                }],
            })
        }),
    }
}

fn norm(dtype: DType) -> KernelCase {
    KernelCase {
        kernel: "gradient_norm",
        variant: format!("{dtype:?}"),
        dtype,
        what: "5632 x 2560".into(),
        make: Box::new(move |machine, size| {
            let n = if size == Size::Real { MATRIX } else { 20_003 };
            let (x, x_) = input(machine, size, n, dtype, 1)?;
            let room = machine.room(8 * parts(n))?;
            let result = machine.room(8)?;
            let truth = x_.iter().map(|x| x * x).sum::<f64>().sqrt();
            Ok(Made {
                launches: vec![squares(dtype, n, &x, &room)?, clip(&room, &result, 1.0)?],
                expected: vec![Expected {
                    view: result,
                    dtype: DType::F32,
                    truth: vec![1.0 / truth, truth],
                }],
            })
        }),
    }
}

/// Numbers that are not negative.
fn positive(machine: &mut dyn Machine, size: Size, n: usize) -> Result<(View, Vec<f64>)> {
    let (view, x) = input(machine, size, n, DType::F32, 4)?;
    if size == Size::Real {
        return Ok((view, x));
    }
    let bytes = to_bytes(&x.iter().map(|x| x * x).collect::<Vec<_>>(), DType::F32);
    Ok((
        machine.upload_bytes(&bytes)?,
        from_bytes(&bytes, DType::F32),
    ))
}

fn outer() -> KernelCase {
    KernelCase {
        kernel: "adamw",
        variant: "with a shadow F32".into(),
        dtype: DType::F32,
        what: "5632 x 2560".into(),
        make: Box::new(|machine, size| {
            let n = if size == Size::Real { MATRIX } else { 5003 };
            let f32 = DType::F32;
            let (w, w_) = input(machine, size, n, f32, 1)?;
            let (m, m_) = input(machine, size, n, f32, 2)?;
            let (g, g_) = input(machine, size, n, f32, 3)?;
            let (v, v_) = positive(machine, size, n)?;
            let shadow = machine.room(2 * n)?;
            let of = AdamW {
                learning_rate: 3e-3,
                beta1: 0.9,
                beta2: 0.95,
                eps: 1e-8,
                weight_decay: 0.1,
                step: 3,
            };
            let views = Views {
                w: &w,
                m: &m,
                v: &v,
                shadow: Some(&shadow),
            };
            let launches = vec![adamw(&of, n, &views, &g, None)?];
            let mut expected = vec![];
            if size == Size::Check {
                let [mut a, mut b, mut c, g] = [&w_, &m_, &v_, &g_].map(|x| {
                    Tensor::from_f64s(&[n], ops::DType::F64, x).expect("as many as the shape has")
                });
                let op = ops::AdamW {
                    learning_rate: of.learning_rate,
                    beta1: of.beta1,
                    beta2: of.beta2,
                    eps: of.eps,
                    weight_decay: of.weight_decay,
                    step: of.step,
                };
                op.update(&mut a, &mut b, &mut c, &g, 1.0)
                    .expect("shapes that fit");
                let truths = [a, b, c].map(|x| x.to_f64s());
                let views = [w, m, v].into_iter().zip(truths);
                expected = views
                    .map(|(view, truth)| Expected {
                        view,
                        dtype: f32,
                        truth,
                    })
                    .collect();
            }
            Ok(Made { launches, expected })
        }),
    }
}

pub(super) fn cases() -> Vec<KernelCase> {
    let of = |dtype| [rows(false, dtype), rows(true, dtype), norm(dtype)];
    let all = DType::ALL.into_iter().flat_map(of);
    all.chain([outer()]).collect()
}
