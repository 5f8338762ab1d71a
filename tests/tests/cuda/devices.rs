//! Devices, and tensors that move between them.

use ::ops::{DType, Device, Tensor, Var, add, values};

use crate::process::on_device;

const CUDA: Device = Device::Cuda(0);

fn tensor(shape: &[usize]) -> Tensor {
    let x: Vec<f64> = (0..shape.iter().product())
        .map(|i| i as f64 - 2.5)
        .collect();
    Tensor::from_f64s(shape, DType::F32, &x).expect("as many numbers")
}

#[test]
fn without_a_driver_there_is_one_sentence() {
    if std::env::var_os("LD_LIBRARY_PATH")
        .is_some_and(|path| path.to_string_lossy().contains("interpreted"))
    {
        return;
    }
    if let Err(error) = CUDA.check() {
        let error = error.to_string();
        assert!(
            error.contains("--device cpu") || error.contains("pip install"),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn tensors_move_and_share() {
    if !on_device("devices::tensors_move_and_share") {
        return;
    }
    for dtype in [DType::F32, DType::BF16] {
        let x = tensor(&[3, 2]).cast(dtype);
        let there = x.to(CUDA).expect("a device");
        assert_eq!((there.device(), there.dtype()), (CUDA, dtype));
        assert!(there.as_slice::<f32>().is_none());
        let rows = there
            .rows(1, 3)
            .expect("rows")
            .to(Device::Cpu)
            .expect("a copy");
        assert_eq!(rows.to_f64s(), x.rows(1, 3).expect("rows").to_f64s());
        assert_eq!(there.reshape(&[6]).expect("6").to_f64s(), x.to_f64s());
    }
    let x = tensor(&[4]).to(CUDA).expect("a device");
    // a write copies what is shared
    let mut y = x.clone();
    y.add_assign(&x).expect("a sum");
    y.scale_assign(0.5).expect("a product");
    assert_eq!(y.to_f64s(), x.to_f64s());
    y.scale_assign(2.0).expect("a product");
    assert_eq!(x.to_f64s(), [-2.5, -1.5, -0.5, 0.5]);
    // rows move within a tensor, over one another
    let mut z = tensor(&[5]).to(CUDA).expect("a device");
    z.move_rows(1..5, 0).expect("rows");
    z.put_rows(4, &x.rows(0, 1).expect("a row")).expect("a row");
    assert_eq!(z.to_f64s(), [-1.5, -0.5, 0.5, 1.5, -2.5]);
    assert_eq!(x.zeros_like().expect("zeros").to_f64s(), [0.0; 4]);
    let scalars = [x.rows(0, 1).expect("one"), z.rows(1, 2).expect("one")];
    let read = values::items(&scalars.each_ref()).expect("two numbers");
    assert_eq!(read, [-2.5, -0.5]);
}

#[test]
fn mistakes_are_sentences() {
    if !on_device("devices::mistakes_are_sentences") {
        return;
    }
    let x = tensor(&[2]);
    let there = x.to(CUDA).expect("a device");
    let [a, b] = [&x, &there].map(|x| Var::constant(x.clone()));
    let error = add(&a, &b).expect_err("two devices").to_string();
    assert_eq!(
        error,
        "add: its inputs live on cpu and cuda:0; move them to one device first"
    );
    let wide = Tensor::from_f64s(&[1], DType::F64, &[1.0]).expect("one");
    let error = wide.to(CUDA).expect_err("f64").to_string();
    assert!(
        error.contains("f64") && error.contains("--dtype f32"),
        "{error}"
    );
    let error = x.to(Device::Cuda(7)).expect_err("one device").to_string();
    assert!(error.contains("none with number 7"), "{error}");
}
