//! Tensors on a CUDA device, and the ops that run there.
//!
//! An op's `eval` asks [`of`] where its inputs live, once it has checked their shapes, and gives the work to a function of this folder
//! if they live on a device. Those functions take and give what the op takes and gives. They only ask for work; none of them waits
//! for it.

mod attention;
mod elementwise;
mod layout;
mod loss;
mod matmul;
mod mlp;
mod reduce;
mod rows;
mod update;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use kernels_cu::{Gpu, Launch, View};

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::{Device, Tensor};

/// Numbers in the memory of a device.
pub struct Array {
    gpu: Arc<Gpu>,
    view: View,
    dtype: DType,
    /// The same numbers in bf16, once a computation in bf16 has asked for them.
    shadow: OnceLock<Tensor>,
}

impl Array {
    fn new(gpu: Arc<Gpu>, view: View, dtype: DType) -> Self {
        let shadow = OnceLock::new();
        Array {
            gpu,
            view,
            dtype,
            shadow,
        }
    }

    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    pub(crate) fn device(&self) -> Device {
        Device::Cuda(self.gpu.ordinal())
    }

    /// New memory with these bytes.
    pub(crate) fn upload(ordinal: usize, dtype: DType, bytes: &[u8]) -> Result<Self> {
        let gpu = open(ordinal)?;
        kernel_type("to", dtype)?;
        let view = gpu.upload(bytes)?;
        Ok(Array::new(gpu, view, dtype))
    }

    /// The bytes from `start` on, once all work before is done.
    pub(crate) fn read(&self, start: usize, bytes: &mut [u8]) -> Result<()> {
        let view = self.view.part(start, bytes.len());
        Ok(self.gpu.read(&view, bytes)?)
    }
}

/// The device with a number. It is closed when the last tensor on it is dropped.
pub(crate) fn open(ordinal: usize) -> Result<Arc<Gpu>> {
    static OPEN: Mutex<BTreeMap<usize, Weak<Gpu>>> = Mutex::new(BTreeMap::new());
    let mut all = OPEN.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(gpu) = all.get(&ordinal).and_then(Weak::upgrade) {
        return Ok(gpu);
    }
    let gpu = Arc::new(Gpu::open(ordinal)?);
    all.insert(ordinal, Arc::downgrade(&gpu));
    Ok(gpu)
}

/// What kernels call a dtype.
fn kernel_type(op: &'static str, dtype: DType) -> Result<kernels_cu::DType> {
    match dtype {
        DType::F32 => Ok(kernels_cu::DType::F32),
        DType::BF16 => Ok(kernels_cu::DType::BF16),
        DType::F64 | DType::F16 => Err(Error::DType {
            op,
            dtype,
            remedy: "a CUDA device computes in f32 and bf16; use --dtype f32 or bf16, or --device cpu",
        }),
    }
}

/// The device that all inputs of an op live on; `None` if that is the CPU.
///
/// # Errors
/// They live on several; a dtype that devices do not compute in.
pub(crate) fn of<'x>(
    op: &'static str,
    x: impl IntoIterator<Item = &'x Tensor>,
) -> Result<Option<Cuda>> {
    let mut x = x.into_iter();
    let Some(first) = x.next() else {
        return Ok(None);
    };
    let device = first.device();
    if let Some(other) = x.find(|x| x.device() != device) {
        return Err(Error::Devices {
            op,
            devices: [device, other.device()],
        });
    }
    let Some(array) = first.array() else {
        return Ok(None);
    };
    Ok(Some(Cuda {
        op,
        gpu: array.gpu.clone(),
        dtype: array.dtype,
        kernel_type: kernel_type(op, array.dtype)?,
    }))
}

/// Where an op runs: its device, and the dtype of its inputs.
pub(crate) struct Cuda {
    op: &'static str,
    gpu: Arc<Gpu>,
    dtype: DType,
    kernel_type: kernels_cu::DType,
}

impl Cuda {
    fn run(&self, launch: kernels_cu::Result<Launch>) -> Result<()> {
        Ok(self.gpu.launch(&launch?)?)
    }

    fn run_all(&self, launches: kernels_cu::Result<Vec<Launch>>) -> Result<()> {
        let mut launches = launches?.into_iter();
        launches.try_for_each(|launch| self.run(Ok(launch)))
    }

    /// New memory for elements of a tensor of this shape, in the dtype of the inputs.
    fn output(&self, shape: &[usize]) -> Result<Tensor> {
        self.output_of(shape, self.dtype)
    }

    fn output_of(&self, shape: &[usize], dtype: DType) -> Result<Tensor> {
        let bytes = shape.iter().product::<usize>() * dtype.size();
        let view = self.gpu.allocate(bytes)?;
        let gpu = self.gpu.clone();
        Ok(Tensor::from_array(shape, Array::new(gpu, view, dtype)))
    }

    /// New memory like each of these tensors that is wanted.
    fn outputs<const N: usize>(
        &self,
        like: [&Tensor; N],
        wanted: [bool; N],
    ) -> Result<[Option<Tensor>; N]> {
        let mut all = [const { None }; N];
        for (i, room) in all.iter_mut().enumerate() {
            if wanted[i] {
                *room = Some(self.output(like[i].shape())?);
            }
        }
        Ok(all)
    }

    /// Room for bytes that no tensor has.
    fn scratch(&self, bytes: usize) -> Result<View> {
        Ok(self.gpu.allocate(bytes)?)
    }

    /// Indices, or a mask, from the host.
    fn upload(&self, bytes: &[u8]) -> Result<View> {
        Ok(self.gpu.upload(bytes)?)
    }

    /// Where the elements lie of a tensor that [`of`] found on this device.
    fn view(&self, x: &Tensor) -> View {
        let array = x.array();
        let array =
            array.unwrap_or_else(|| unreachable!("{}: {x:?} was seen on a device", self.op));
        let size = x.dtype().size();
        array.view.part(x.start() * size, x.len() * size)
    }

    fn views(&self, x: &[Tensor]) -> Vec<View> {
        x.iter().map(|x| self.view(x)).collect()
    }

    /// `x` itself if nobody else holds its elements, else a copy of it: a tensor whose memory may be written.
    fn own(&self, x: &mut Tensor) -> Result<()> {
        if let Some(array) = x.array_mut() {
            array.shadow.take();
            return Ok(());
        }
        let copy = self.output_of(x.shape(), x.dtype())?;
        self.gpu.copy(&self.view(x), &self.view(&copy))?;
        *x = copy;
        Ok(())
    }
}
