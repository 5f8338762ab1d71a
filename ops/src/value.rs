//! Tensors as values of the tape.

use autograd::{Probe, Value};

use crate::{Error, Result, Tensor};

/// A tensor with its history.
pub type Var = autograd::Var<Tensor>;

impl Value for Tensor {
    type Error = Error;

    fn add(a: &Var, b: &Var) -> Result<Var> {
        crate::add(a, b)
    }

    fn one_like(&self) -> Option<Self> {
        let one = Tensor::from_f64s(self.shape(), self.dtype(), &[1.0]);
        one.ok()
    }

    fn same_space(&self, other: &Self) -> bool {
        self.shape() == other.shape() && self.dtype() == other.dtype()
    }

    fn describe(&self) -> String {
        format!("{} {:?}", self.dtype(), self.shape())
    }
}

impl Probe for Tensor {
    fn to_f64s(&self) -> Vec<f64> {
        Tensor::to_f64s(self)
    }

    fn from_f64s(&self, x: &[f64]) -> Self {
        Tensor::from_f64s(self.shape(), self.dtype(), x).expect("as many numbers as elements")
    }
}
