//! Tensors as values of the tape.

use autograd::{Probe, Value};

use crate::{Device, Error, Result, Tensor};

/// A tensor with its history.
pub type Var = autograd::Var<Tensor>;

impl Value for Tensor {
    type Error = Error;

    fn add(a: &Var, b: &Var) -> Result<Var> {
        crate::add(a, b)
    }

    fn one_like(&self) -> Option<Self> {
        match self.len() {
            1 => self.full_like(self.shape(), 1.0).ok(),
            _ => None,
        }
    }

    fn same_space(&self, other: &Self) -> bool {
        self.shape() == other.shape()
            && self.dtype() == other.dtype()
            && self.device() == other.device()
    }

    fn describe(&self) -> String {
        match self.device() {
            Device::Cpu => format!("{} {:?}", self.dtype(), self.shape()),
            device => format!("{} {:?} on {device}", self.dtype(), self.shape()),
        }
    }
}

impl Probe for Tensor {
    fn to_f64s(&self) -> Vec<f64> {
        Tensor::to_f64s(self)
    }

    fn from_f64s(&self, x: &[f64]) -> Self {
        let host = Tensor::from_f64s(self.shape(), self.dtype(), x);
        let moved = host.and_then(|host| host.to(self.device()));
        moved.expect("as many numbers as elements, and room for them")
    }
}
