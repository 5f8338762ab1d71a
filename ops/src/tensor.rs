//! Tensors: contiguous, row-major, shared, immutable once made.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use half::{bf16, f16};

use crate::buffer::Buffer;
use crate::cuda::{self, Array};
use crate::dtype::{DType, Element, for_float};
use crate::error::{Error, Result};
use crate::products::Products;
use crate::{Device, par};

/// The shared buffer behind a tensor.
#[derive(Clone)]
#[doc(hidden)]
pub enum Data {
    F32(Arc<Buffer<f32>>),
    F64(Arc<Buffer<f64>>),
    BF16(Arc<Buffer<bf16>>),
    F16(Arc<Buffer<f16>>),
    /// A sum of thin products that is multiplied out when it is first read.
    Products(Arc<Products>),
    /// On a device.
    Cuda(Arc<Array>),
}

/// A contiguous row-major array of any rank (rank 0 is a scalar). Cloning, reshaping and taking rows share the buffer.
///
/// ```
/// use ops::Tensor;
/// let x = Tensor::from_vec(&[2, 3], vec![1f32, 2., 3., 4., 5., 6.])?;
/// assert_eq!(x.rows(1, 2)?.to_f64s(), [4., 5., 6.]);
/// # Ok::<(), ops::Error>(())
/// ```
#[derive(Clone)]
pub struct Tensor {
    data: Data,
    start: usize,
    shape: Vec<usize>,
}

impl Tensor {
    /// From row-major elements. Errors if their number is not the product of `shape`.
    pub fn from_vec<T: Element>(shape: &[usize], data: Vec<T>) -> Result<Self> {
        let len: usize = shape.iter().product();
        if data.len() != len {
            let message = format!("{} elements do not fill shape {shape:?}", data.len());
            return Err(Error::shape("from_vec", message));
        }
        Ok(Self::from_buffer(shape, Buffer::from_vec(data)))
    }

    pub(crate) fn from_buffer<T: Element>(shape: &[usize], data: Buffer<T>) -> Self {
        debug_assert_eq!(data.len(), shape.iter().product::<usize>());
        Tensor {
            data: T::wrap(Arc::new(data)),
            start: 0,
            shape: shape.to_vec(),
        }
    }

    pub(crate) fn from_products(shape: &[usize], products: Products) -> Self {
        Tensor {
            data: Data::Products(Arc::new(products)),
            start: 0,
            shape: shape.to_vec(),
        }
    }

    pub(crate) fn from_array(shape: &[usize], array: Array) -> Self {
        Tensor {
            data: Data::Cuda(Arc::new(array)),
            start: 0,
            shape: shape.to_vec(),
        }
    }

    /// The products behind this tensor, if it is such a sum, whole and in its own shape.
    pub(crate) fn products(&self) -> Option<&Products> {
        match &self.data {
            Data::Products(products) if *self.shape == products.shape => Some(products),
            _ => None,
        }
    }

    /// The buffer; a sum of products is multiplied out.
    fn buffer(&self) -> &Data {
        match &self.data {
            Data::Products(products) => products.value(),
            data => data,
        }
    }

    /// Place of the first element in the buffer.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// The memory on a device, if the elements lie there.
    pub(crate) fn array(&self) -> Option<&Array> {
        match &self.data {
            Data::Cuda(array) => Some(array),
            _ => None,
        }
    }

    /// The memory on a device, if the elements lie there and no other tensor holds it.
    pub(crate) fn array_mut(&mut self) -> Option<&mut Array> {
        match &mut self.data {
            Data::Cuda(array) => Arc::get_mut(array),
            _ => None,
        }
    }

    pub(crate) fn into_data(self) -> Data {
        self.data
    }

    /// A new tensor whose elements `fill` writes, all of them: the buffer comes with unspecified contents.
    pub(crate) fn build<T: Element>(shape: &[usize], fill: impl FnOnce(&mut [T])) -> Self {
        let mut buffer = Buffer::scratch(shape.iter().product());
        fill(&mut buffer);
        Self::from_buffer(shape, buffer)
    }

    /// All zeros.
    pub fn zeros(shape: &[usize], dtype: DType) -> Self {
        let len = shape.iter().product();
        match dtype {
            DType::F32 => Self::from_buffer(shape, Buffer::<f32>::zeros(len)),
            DType::F64 => Self::from_buffer(shape, Buffer::<f64>::zeros(len)),
            DType::BF16 => Self::from_buffer(shape, Buffer::<bf16>::zeros(len)),
            DType::F16 => Self::from_buffer(shape, Buffer::<f16>::zeros(len)),
        }
    }

    /// A tensor of this shape, every element `x`, with the dtype and on the device of `self`.
    pub fn full_like(&self, shape: &[usize], x: f64) -> Result<Self> {
        match cuda::of("full_like", [self])? {
            None => Self::from_f64s(shape, self.dtype(), &vec![x; shape.iter().product()]),
            Some(cuda) => cuda.full(shape, x),
        }
    }

    /// Zeros with the shape and dtype and on the device of `self`.
    pub fn zeros_like(&self) -> Result<Self> {
        match cuda::of("zeros_like", [self])? {
            None => Ok(Self::zeros(&self.shape, self.dtype())),
            Some(cuda) => cuda.zeros(&self.shape),
        }
    }

    /// From f64 numbers, rounded to `dtype`.
    pub fn from_f64s(shape: &[usize], dtype: DType, x: &[f64]) -> Result<Self> {
        fn narrow<T: Element>(x: &[f64]) -> Vec<T> {
            x.iter().map(|&x| T::from_f64(x)).collect()
        }
        match dtype {
            DType::F32 => Self::from_vec(shape, narrow::<f32>(x)),
            DType::F64 => Self::from_vec(shape, x.to_vec()),
            DType::BF16 => Self::from_vec(shape, narrow::<bf16>(x)),
            DType::F16 => Self::from_vec(shape, narrow::<f16>(x)),
        }
    }

    /// A scalar.
    pub fn scalar(dtype: DType, x: f64) -> Self {
        Self::from_f64s(&[], dtype, &[x]).expect("one element fills a scalar")
    }

    /// Sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True if some axis has size 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        match &self.data {
            Data::F32(_) => DType::F32,
            Data::F64(_) => DType::F64,
            Data::BF16(_) => DType::BF16,
            Data::F16(_) => DType::F16,
            Data::Products(products) => products.dtype,
            Data::Cuda(array) => array.dtype(),
        }
    }

    /// Where the elements are.
    pub fn device(&self) -> Device {
        self.array().map_or(Device::Cpu, Array::device)
    }

    /// The same tensor on a device; shares the buffer if it is there already. From a CUDA device it waits for all work asked for
    /// before, and fails if some of that failed.
    ///
    /// Errors: no such device, no room on it, f64 or f16 to a CUDA device.
    pub fn to(&self, device: Device) -> Result<Self> {
        fn upload<T: Element>(x: &Tensor, ordinal: usize) -> Result<Array> {
            Array::upload(ordinal, T::DTYPE, bytemuck::cast_slice(x.data::<T>()))
        }
        fn read<T: Element>(x: &Tensor, array: &Array) -> Result<Tensor> {
            let mut out = Buffer::<T>::scratch(x.len());
            array.read(x.start * size_of::<T>(), bytemuck::cast_slice_mut(&mut out))?;
            Ok(Tensor::from_buffer(&x.shape, out))
        }
        if self.device() == device {
            return Ok(self.clone());
        }
        match (self.array(), device) {
            (Some(array), Device::Cpu) => match array.dtype() {
                DType::F32 => read::<f32>(self, array),
                DType::F64 => read::<f64>(self, array),
                DType::BF16 => read::<bf16>(self, array),
                DType::F16 => read::<f16>(self, array),
            },
            (None, Device::Cuda(ordinal)) => {
                let array = match self.dtype() {
                    DType::F32 => upload::<f32>(self, ordinal),
                    DType::F64 => upload::<f64>(self, ordinal),
                    DType::BF16 => upload::<bf16>(self, ordinal),
                    DType::F16 => upload::<f16>(self, ordinal),
                };
                Ok(Self::from_array(&self.shape, array?))
            }
            _ => self.to(Device::Cpu)?.to(device),
        }
    }

    /// A copy on the CPU, for functions that cannot fail but where the device has.
    fn on_host(&self) -> Self {
        let host = self.to(Device::Cpu);
        host.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The elements in row-major order, or `None` if the tensor holds another type or lives on another device than the CPU.
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        T::unwrap(self.buffer()).map(|buffer| &buffer[self.start..self.start + self.len()])
    }

    /// The elements of a tensor whose dtype the caller has just dispatched on.
    pub(crate) fn data<T: Element>(&self) -> &[T] {
        self.as_slice().expect("dispatched on this tensor's dtype")
    }

    /// The elements, for writing; copies them first if the buffer is shared. `None` if the tensor holds another type or lives on
    /// another device than the CPU.
    pub fn make_mut<T: Element>(&mut self) -> Option<&mut [T]> {
        if T::DTYPE != self.dtype() || self.device() != Device::Cpu {
            return None;
        }
        if T::unwrap_mut(&mut self.data).is_none() {
            let copy = Self::build(&self.shape, |out: &mut [T]| {
                out.copy_from_slice(self.data())
            });
            *self = copy;
        }
        let range = self.start..self.start + self.len();
        T::unwrap_mut(&mut self.data).map(|buffer| &mut buffer[range])
    }

    /// Every element as f64, exactly. From a device it waits as [`to`](Self::to) does, and panics where that fails.
    pub fn to_f64s(&self) -> Vec<f64> {
        fn widen<T: Element>(x: &[T]) -> Vec<f64> {
            x.iter().map(|x| x.to_f64()).collect()
        }
        if self.device() != Device::Cpu {
            return self.on_host().to_f64s();
        }
        match self.dtype() {
            DType::F32 => widen(self.data::<f32>()),
            DType::F64 => self.data().to_vec(),
            DType::BF16 => widen(self.data::<bf16>()),
            DType::F16 => widen(self.data::<f16>()),
        }
    }

    /// The value of a tensor with one element; waits for a device as [`to`](Self::to) does.
    pub fn item(&self) -> Result<f64> {
        match self.len() {
            1 => Ok(self.to(Device::Cpu)?.to_f64s()[0]),
            _ => Err(Error::shape(
                "item",
                format!("{self:?} has not one element"),
            )),
        }
    }

    /// The same elements under another shape. Free.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        if shape.iter().product::<usize>() != self.len() {
            return Err(Error::shape(
                "reshape",
                format!("{:?} to {shape:?}", self.shape),
            ));
        }
        Ok(Tensor {
            data: self.data.clone(),
            start: self.start,
            shape: shape.to_vec(),
        })
    }

    /// Rows `start..end` of the first axis. Free.
    pub fn rows(&self, start: usize, end: usize) -> Result<Self> {
        match self.shape.first() {
            Some(&n) if start <= end && end <= n => {}
            _ => {
                let message = format!("{start}..{end} of {:?}", self.shape);
                return Err(Error::shape("rows", message));
            }
        }
        let stride: usize = self.shape[1..].iter().product();
        let mut shape = self.shape.clone();
        shape[0] = end - start;
        Ok(Tensor {
            data: self.data.clone(),
            start: self.start + start * stride,
            shape,
        })
    }

    /// The same numbers in another dtype, rounded to nearest, on the CPU; waits for a device as [`to_f64s`](Self::to_f64s) does. The
    /// op [`cast`](crate::cast) casts on any device.
    pub fn cast(&self, dtype: DType) -> Self {
        fn convert<A: Element, B: Element>(x: &Tensor) -> Tensor {
            let a = x.data::<A>();
            Tensor::build(x.shape(), |out: &mut [B]| {
                for (o, a) in out.iter_mut().zip(a) {
                    *o = B::from_f64(a.to_f64());
                }
            })
        }
        fn from<A: Element>(x: &Tensor, dtype: DType) -> Tensor {
            match dtype {
                DType::F32 => convert::<A, f32>(x),
                DType::F64 => convert::<A, f64>(x),
                DType::BF16 => convert::<A, bf16>(x),
                DType::F16 => convert::<A, f16>(x),
            }
        }
        if self.device() != Device::Cpu {
            return self.on_host().cast(dtype);
        }
        match self.dtype() {
            same if same == dtype => self.clone(),
            DType::F32 => from::<f32>(self, dtype),
            DType::F64 => from::<f64>(self, dtype),
            DType::BF16 => from::<bf16>(self, dtype),
            DType::F16 => from::<f16>(self, dtype),
        }
    }

    /// Position of the first element that is NaN or infinite; waits for a device as [`to_f64s`](Self::to_f64s) does.
    pub fn first_non_finite(&self) -> Option<usize> {
        if self.device() != Device::Cpu {
            return self.on_host().first_non_finite();
        }
        match self.dtype() {
            DType::F32 => self.data::<f32>().iter().position(|x| !x.is_finite()),
            DType::F64 => self.data::<f64>().iter().position(|x| !x.is_finite()),
            DType::BF16 => self.data::<bf16>().iter().position(|x| !x.is_finite()),
            DType::F16 => self.data::<f16>().iter().position(|x| !x.is_finite()),
        }
    }

    /// `self *= c`, in place when the buffer is not shared.
    pub fn scale_assign(&mut self, c: f64) -> Result<()> {
        if let Some(cuda) = cuda::of("scale_assign", [&*self])? {
            return cuda.scale_assign(self, c);
        }
        for_float!("scale_assign", self.dtype(), T => {
            let c = T::from_f64(c);
            let mine = self.make_mut::<T>().expect("dispatched on this dtype");
            par::pieces(mine, 1, 1, |_, x| x.iter_mut().for_each(|x| *x *= c));
        });
        Ok(())
    }

    /// `self += other`, in place when the buffer is not shared. Shapes and dtypes must agree.
    pub fn add_assign(&mut self, other: &Tensor) -> Result<()> {
        if self.shape != other.shape || self.dtype() != other.dtype() {
            return Err(Error::shape("add_assign", format!("{self:?} += {other:?}")));
        }
        if let Some(cuda) = cuda::of("add_assign", [&*self, other])? {
            return cuda.add_assign(self, other);
        }
        for_float!("add_assign", self.dtype(), T => {
            let mine = self.make_mut::<T>().expect("dispatched on this dtype");
            par::update(mine, other.data::<T>(), |a, b| *a += b);
        });
        Ok(())
    }

    /// Rows of `x` [t, ..] take the place of rows `at..at + t`, in place when the buffer is not shared. All but the first axis
    /// and the dtypes must agree.
    pub fn put_rows(&mut self, at: usize, x: &Tensor) -> Result<()> {
        let fits = match (self.shape.split_first(), x.shape.split_first()) {
            (Some((&n, row)), Some((&t, rows))) => row == rows && at <= n && t <= n - at,
            _ => false,
        };
        if !fits || self.dtype() != x.dtype() {
            let message = format!("{x:?} from row {at} on of {self:?}");
            return Err(Error::shape("put_rows", message));
        }
        let start = at * self.shape[1..].iter().product::<usize>();
        if let Some(cuda) = cuda::of("put_rows", [&*self, x])? {
            return cuda.put(self, start, x);
        }
        for_float!("put_rows", self.dtype(), T => {
            let mine = self.make_mut::<T>().expect("dispatched on this dtype");
            mine[start..start + x.len()].copy_from_slice(x.data());
        });
        Ok(())
    }

    /// Rows `from` move to rows `to..`, in place when the buffer is not shared; the ranges may overlap.
    pub fn move_rows(&mut self, from: Range<usize>, to: usize) -> Result<()> {
        match self.shape.first() {
            Some(&n) if from.start <= from.end && from.end <= n && to <= n - from.len() => {}
            _ => {
                let message = format!("rows {from:?} to row {to} of {self:?}");
                return Err(Error::shape("move_rows", message));
            }
        }
        let row: usize = self.shape[1..].iter().product();
        if let Some(cuda) = cuda::of("move_rows", [&*self])? {
            let moved = self.rows(from.start, from.end)?;
            return cuda.put(self, to * row, &moved);
        }
        for_float!("move_rows", self.dtype(), T => {
            let mine = self.make_mut::<T>().expect("dispatched on this dtype");
            mine.copy_within(from.start * row..from.end * row, to * row);
        });
        Ok(())
    }
}

/// The dtype and the shape; a tensor of a few elements on the CPU shows them too, one elsewhere its device.
impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.dtype(), self.shape)?;
        match (self.device(), self.len()) {
            (Device::Cpu, 0..=8) => write!(f, " {:?}", self.to_f64s()),
            (Device::Cpu, _) => Ok(()),
            (device, _) => write!(f, " on {device}"),
        }
    }
}
