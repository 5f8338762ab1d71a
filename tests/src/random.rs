//! Numbers from a seed.

use ops::list::Case;
use ops::{DType, Tensor};

/// The generator splitmix64.
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in (0, 1).
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let (radius, turn) = (-2.0 * self.unit().ln(), self.unit());
        radius.sqrt() * (std::f64::consts::TAU * turn).cos()
    }

    /// A tensor of standard normal numbers that f32 can hold, so that f32 and f64 runs get the same numbers.
    pub fn tensor(&mut self, shape: &[usize], dtype: DType) -> Tensor {
        self.fill(shape, dtype, Self::normal)
    }

    fn fill(
        &mut self,
        shape: &[usize],
        dtype: DType,
        mut one: impl FnMut(&mut Self) -> f64,
    ) -> Tensor {
        let len = shape.iter().product();
        let x: Vec<f64> = (0..len).map(|_| one(self) as f32 as f64).collect();
        Tensor::from_f64s(shape, dtype, &x).expect("as many numbers as elements")
    }

    /// One normal tensor per shape.
    pub fn tensors(&mut self, shapes: &[Vec<usize>], dtype: DType) -> Vec<Tensor> {
        shapes.iter().map(|s| self.tensor(s, dtype)).collect()
    }

    /// A normal tensor for each of these, of its shape and dtype and on its device.
    pub fn like(&mut self, x: &[Tensor]) -> Vec<Tensor> {
        x.iter()
            .map(|x| self.tensor(x.shape(), x.dtype()).to(x.device()))
            .collect::<Result<_, _>>()
            .expect("room for them")
    }

    /// The inputs of a case: normal numbers, or numbers from 1/2 to 2 if they must be positive.
    pub fn inputs(&mut self, case: &Case, dtype: DType) -> Vec<Tensor> {
        match case.positive {
            false => self.tensors(&case.shapes, dtype),
            true => (case.shapes.iter())
                .map(|s| self.fill(s, dtype, |r| 0.5 + 1.5 * r.unit()))
                .collect(),
        }
    }
}
