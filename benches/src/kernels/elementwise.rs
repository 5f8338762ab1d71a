//! Sums and products element by element.

use kernels_cu::DType;
use kernels_cu::elementwise::{Binary, binary};

use super::{Expected, KernelCase, Made, Size, input};

pub(super) fn cases() -> Vec<KernelCase> {
    let of = |dtype: DType| {
        Binary::ALL.map(|f| KernelCase {
            kernel: "elementwise",
            variant: format!("{f:?} {dtype:?}"),
            dtype,
            what: "8192 x 2560".into(),
            make: Box::new(move |machine, size| {
                let n = if size == Size::Real {
                    8192 * 2560
                } else {
                    5003
                };
                let (x, a) = input(machine, size, n, dtype, 1)?;
                let (y, b) = input(machine, size, n, dtype, 2)?;
                let z = machine.room(n * dtype.bytes())?;
                let pairs = a.iter().zip(&b);
                let truth = pairs.map(|(a, b)| match f {
                    Binary::Add => a + b,
                    Binary::Mul => a * b,
                });
                let truth = truth.collect();
                Ok(Made {
                    launches: vec![binary(f, dtype, n, &x, &y, &z)?],
                    expected: vec![Expected {
                        view: z,
                        dtype,
                        truth,
                    }],
                })
            }),
        })
    };
    DType::ALL.into_iter().flat_map(of).collect()
}
