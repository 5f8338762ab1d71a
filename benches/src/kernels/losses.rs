//! The loss, of whole logits and of an output matrix.

use std::sync::Arc;

use kernels::Machine;
use kernels_cu::linear_cross_entropy::{Caches, Inputs};
use kernels_cu::{DType, cross_entropy, linear_cross_entropy};

use super::truth::orders;
use super::{Expected, KernelCase, Made, Size, input};

const LEVELS: [&str; 3] = ["forward", "backward", "double backward"];

/// Tokens, on a machine and here.
fn tokens(
    machine: &mut dyn Machine,
    t: usize,
    v: usize,
) -> kernels_cu::Result<(kernels_cu::View, Arc<[u32]>)> {
    let ids: Arc<[u32]> = (0..t).map(|i| (i * 7919 % v) as u32).collect();
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    Ok((machine.upload_bytes(&bytes)?, ids))
}

fn whole(order: usize, dtype: DType) -> KernelCase {
    KernelCase {
        kernel: "cross_entropy",
        variant: format!("{} {dtype:?}", LEVELS[order]),
        dtype,
        what: "1024 x 128256".into(),
        make: Box::new(move |machine, size| {
            let [t, v] = if size == Size::Real {
                [1024, 128_256]
            } else {
                [7, 300]
            };
            let f32 = DType::F32;
            let (z, z_) = input(machine, size, t * v, dtype, 1)?;
            let (a, a_) = input(machine, size, t * v, dtype, 2)?;
            let (dn, dn_) = input(machine, size, t, f32, 3)?;
            let (ids, ids_) = tokens(machine, t, v)?;
            let (nll, lse, ddn) = (
                machine.room(4 * t)?,
                machine.room(4 * t)?,
                machine.room(4 * t)?,
            );
            let dz = machine.room(t * v * dtype.bytes())?;
            let shape = cross_entropy::Shape { t, v, dtype };
            let forward = cross_entropy::forward(&shape, &z, &ids, &nll, &lse)?;
            let above = match order {
                0 => None,
                1 => Some(cross_entropy::backward(&shape, &z, &ids, [&dn, &lse], &dz)?),
                _ => Some(cross_entropy::double_backward(
                    &shape,
                    &z,
                    &ids,
                    [&dn, &lse],
                    &a,
                    [&dz, &ddn],
                )?),
            };
            if size == Size::Real {
                return Ok(Made {
                    launches: vec![above.unwrap_or(forward)],
                    expected: vec![],
                });
            }
            let [y, dx, d2] = orders(
                &|x| ops::cross_entropy(&x[0], &ids_),
                &[(&[t, v], &z_)],
                &(&[t], &dn_),
                &[(&[t, v], &a_)],
            );
            let (view, dtype, truth) = match order {
                0 => (nll, f32, y),
                1 => (dz, dtype, dx),
                _ => (dz, dtype, d2),
            };
            let truth = truth.into_iter().next().unwrap_or_default();
            Ok(Made {
                launches: [forward].into_iter().chain(above).collect(),
                expected: vec![Expected { view, dtype, truth }],
            })
        }),
    }
}

fn tiled(order: usize, dtype: DType) -> KernelCase {
    KernelCase {
        kernel: "linear_cross_entropy",
        variant: format!("{} {dtype:?}", LEVELS[order]),
        dtype,
        what: "1024 x 2560, vocabulary 128256".into(),
        make: Box::new(move |machine, size| make_tiled(machine, size, order, dtype)),
    }
}

fn make_tiled(
    machine: &mut dyn Machine,
    size: Size,
    order: usize,
    dtype: DType,
) -> kernels_cu::Result<Made> {
    let [t, d, v] = if size == Size::Real {
        [1024, 2560, 128_256]
    } else {
        [9, 32, 300]
    };
    let f32 = DType::F32;
    let (x, x_) = input(machine, size, t * d, dtype, 1)?;
    let (w, w_) = input(machine, size, v * d, dtype, 2)?;
    let (dn, dn_) = input(machine, size, t, f32, 3)?;
    let (b, b_) = input(machine, size, v * d, dtype, 4)?;
    let (ids, ids_) = tokens(machine, t, v)?;
    let shape = linear_cross_entropy::Shape { t, d, v, dtype };
    let of = Inputs {
        x: &x,
        w: &w,
        ids: &ids,
    };
    let (nll, lse, ddn) = (
        machine.room(4 * t)?,
        machine.room(4 * t)?,
        machine.room(4 * t)?,
    );
    let (r, dx) = (
        machine.room(t * d * dtype.bytes())?,
        machine.room(t * d * dtype.bytes())?,
    );
    let dw = machine.room(v * d * 4)?;
    let workspace = machine.room(shape.workspace())?;
    let forward = linear_cross_entropy::forward(&shape, &of, [&nll, &lse], Some(&r), &workspace)?;
    let caches = Caches { lse: &lse, r: &r };
    let above = match order {
        0 => vec![],
        1 => linear_cross_entropy::backward(
            &shape,
            &of,
            [Some(&dn), None],
            &caches,
            [Some(&dx), Some(&dw)],
            &workspace,
        )?,
        _ => linear_cross_entropy::double_backward(
            &shape,
            &of,
            [&dn, &lse],
            &b,
            [&dx, &dw, &ddn],
            &workspace,
        )?,
    };
    if size == Size::Real {
        let launches = if order == 0 { forward } else { above };
        return Ok(Made {
            launches,
            expected: vec![],
        });
    }
    let [y, first, second] = orders(
        &|x| ops::linear_cross_entropy(&x[0], &x[1], &ids_),
        &[(&[t, d], &x_), (&[v, d], &w_)],
        &(&[t], &dn_),
        &[(&[t, d], &[]), (&[v, d], &b_)],
    );
    let views = match order {
        0 => vec![(nll, f32)],
        1 => vec![(dx, dtype), (dw, f32)],
        _ => vec![(dx, dtype), (dw, f32), (ddn, f32)],
    };
    let truth = [y, first, second][order].clone();
    let expected = views.into_iter().zip(truth);
    Ok(Made {
        launches: [forward, above].concat(),
        expected: expected
            .map(|((view, dtype), truth)| Expected { view, dtype, truth })
            .collect(),
    })
}

pub(super) fn cases() -> Vec<KernelCase> {
    let of = |dtype| {
        [
            whole(0, dtype),
            whole(1, dtype),
            whole(2, dtype),
            tiled(0, dtype),
            tiled(1, dtype),
            tiled(2, dtype),
        ]
    };
    DType::ALL.into_iter().flat_map(of).collect()
}
