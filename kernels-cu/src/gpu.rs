//! A device: runs launches, one after the other.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Arc, Mutex, MutexGuard};

use cudarc::driver::sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
use cudarc::driver::{CudaContext, CudaStream, DriverError, result, sys};

use crate::compile::Compiler;
use crate::error::{Error, Result};
use crate::launch::{Arg, Launch, View};
use crate::memory::{Buffer, Pool};
use crate::program::Program;
use crate::queue::Queue;
use crate::work::Work;

/// Shared memory that every kernel may use without asking.
const PLAIN_SHARED: u32 = 48 << 10;

/// A device, with its memory and its programs. Clones are the same device. Work is done in the order it was asked for.
#[derive(Clone)]
pub struct Gpu(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) context: Arc<CudaContext>,
    pub(crate) stream: Arc<CudaStream>,
    pool: Mutex<Pool>,
    queue: Mutex<Queue>,
    compiler: Compiler,
    programs: Mutex<HashMap<Program, Loaded>>,
    name: String,
    ordinal: usize,
    capability: (i32, i32),
}

/// A program on the device, and its kernels by name.
struct Loaded {
    module: sys::CUmodule,
    kernels: HashMap<&'static str, Kernel>,
}

#[derive(Clone, Copy)]
struct Kernel {
    function: sys::CUfunction,
    /// Bytes of dynamic shared memory that it may use.
    shared: u32,
}

// SAFETY: handles of the driver may be used by any thread; those that use them lock the map
unsafe impl Send for Loaded {}

/// Names the call that failed.
pub(crate) fn driver<T>(
    call: &'static str,
    result: std::result::Result<T, DriverError>,
) -> Result<T> {
    result.map_err(|error| Error::Driver {
        call,
        message: error
            .error_string()
            .map_or(format!("{:?}", error.0), |text| {
                text.to_string_lossy().into_owned()
            }),
    })
}

impl Gpu {
    /// The device with a number.
    ///
    /// # Errors
    /// There is no driver, no such device, or no compiler; the device is older than the kernels.
    pub fn open(ordinal: usize) -> Result<Self> {
        Self::with_compiler(ordinal, Compiler::find)
    }

    /// The same, with a compiler of the caller's.
    ///
    /// # Errors
    /// Those of [`open`](Self::open) and of `compiler`.
    pub fn with_compiler(
        ordinal: usize,
        compiler: impl FnOnce() -> Result<Compiler>,
    ) -> Result<Self> {
        // SAFETY: looks for the library and loads it
        if !unsafe { sys::is_culib_present() } {
            return Err(Error::NoDriver);
        }
        driver("cuInit", result::init())?;
        let count = driver("cuDeviceGetCount", CudaContext::device_count())?;
        let count = usize::try_from(count).unwrap_or(0);
        if ordinal >= count {
            return Err(Error::NoDevice { ordinal, count });
        }
        let context = driver("cuDevicePrimaryCtxRetain", CudaContext::new(ordinal))?;
        let name = driver("cuDeviceGetName", context.name())?;
        let capability = driver("cuDeviceGetAttribute", context.compute_capability())?;
        let (major, minor) = capability;
        if major < 8 {
            return Err(Error::OldDevice { name, major, minor });
        }
        let stream = driver("cuStreamCreate", context.new_stream())?;
        Ok(Gpu(Arc::new(Inner {
            context,
            stream,
            pool: Mutex::default(),
            queue: Mutex::default(),
            compiler: compiler()?,
            programs: Mutex::default(),
            name,
            ordinal,
            capability,
        })))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its number.
    pub fn ordinal(&self) -> usize {
        self.0.ordinal
    }

    /// Its compute capability.
    pub fn capability(&self) -> (i32, i32) {
        self.0.capability
    }

    /// Asks for a launch; returns before it has run.
    ///
    /// # Errors
    /// Its program does not compile; the driver refuses it. What goes wrong while it runs shows in a later call.
    pub fn launch(&self, launch: &Launch) -> Result<()> {
        for arg in &launch.args {
            if let Arg::View(view) = arg {
                self.own(view)?;
            }
        }
        let kernel = self.kernel(launch)?;
        // a launch is made by a kernel's own function, which checked its views' lengths and gives it the arguments it has
        self.0.submit(Work::Kernel {
            function: kernel.function,
            grid: launch.grid,
            block: launch.block,
            shared: launch.shared,
            words: launch.args.iter().map(word).collect(),
        })
    }

    /// An error unless a view is memory of this device.
    fn own(&self, view: &View) -> Result<()> {
        match &view.owner {
            Some(owner) if owner.of(self) => Ok(()),
            _ => Err(Error::Driver {
                call: "cuLaunchKernel",
                message: format!("{view:?} is not memory of {}", self.name()),
            }),
        }
    }

    fn kernel(&self, launch: &Launch) -> Result<Kernel> {
        self.0.bind()?;
        let mut programs = self.0.programs.lock().unwrap_or_else(|e| e.into_inner());
        if !programs.contains_key(&launch.program) {
            let module = self.load(&launch.program)?;
            let kernels = HashMap::new();
            programs.insert(launch.program.clone(), Loaded { module, kernels });
        }
        let loaded = programs.get_mut(&launch.program).expect("put there above");
        let mut kernel = match loaded.kernels.get(launch.entry) {
            Some(kernel) => *kernel,
            None => {
                let name = CString::new(launch.entry).expect("names in this crate have no NUL");
                // SAFETY: the module was loaded and is never unloaded
                let function = unsafe { result::module::get_function(loaded.module, name) };
                Kernel {
                    function: driver("cuModuleGetFunction", function)?,
                    shared: PLAIN_SHARED,
                }
            }
        };
        if launch.shared > kernel.shared {
            let attribute = CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let (function, shared) = (kernel.function, launch.shared as i32);
            // SAFETY: the function is one of that module
            let set =
                unsafe { result::function::set_function_attribute(function, attribute, shared) };
            driver("cuFuncSetAttribute", set)?;
            kernel.shared = launch.shared;
        }
        loaded.kernels.insert(launch.entry, kernel);
        Ok(kernel)
    }

    fn load(&self, program: &Program) -> Result<sys::CUmodule> {
        // PTX for the oldest device runs on every newer one
        let ptx = self.0.compiler.ptx(program, "80")?;
        let text = CString::new(ptx).expect("PTX has no NUL");
        // SAFETY: a NUL-terminated text of PTX
        match unsafe { result::module::load_data(text.as_ptr().cast()) } {
            Err(error) if error.0 == sys::cudaError_enum::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
                let (major, minor) = self.0.compiler.version();
                let nvrtc = format!("NVRTC {major}.{minor}");
                Err(Error::OldDriver { nvrtc })
            }
            other => driver("cuModuleLoadData", other),
        }
    }

    /// Copies bytes to new memory.
    ///
    /// # Errors
    /// There is none left.
    pub fn upload(&self, bytes: &[u8]) -> Result<Buffer> {
        // goes before work that waits to become a graph, which does not know this memory yet
        let buffer = self.allocate_for(bytes.len(), true)?;
        self.write_at_once(&buffer, bytes)?;
        Ok(buffer)
    }

    /// Copies bytes to the start of a buffer.
    ///
    /// # Errors
    /// The buffer is shorter, or not of this device.
    pub fn write(&self, to: &View, bytes: &[u8]) -> Result<()> {
        self.own(to)?;
        check("write", to.bytes, bytes.len())?;
        self.0.flush()?;
        self.write_at_once(to, bytes)
    }

    fn write_at_once(&self, to: &View, bytes: &[u8]) -> Result<()> {
        self.0.bind()?;
        // SAFETY: as many bytes as the view has; pageable memory has been read when the call returns
        let copy =
            unsafe { result::memcpy_htod_async(to.address, bytes, self.0.stream.cu_stream()) };
        driver("cuMemcpyHtoDAsync", copy)
    }

    /// Copies bytes to the host, once all work before is done.
    ///
    /// # Errors
    /// The view is shorter, or not of this device; work before it failed.
    pub fn read(&self, from: &View, bytes: &mut [u8]) -> Result<()> {
        self.own(from)?;
        check("read", from.bytes, bytes.len())?;
        self.0.flush()?;
        // SAFETY: as many bytes as the view has; the stream is waited for below, before the borrow ends
        let copy =
            unsafe { result::memcpy_dtoh_async(bytes, from.address, self.0.stream.cu_stream()) };
        driver("cuMemcpyDtoHAsync", copy)?;
        self.synchronize()
    }

    /// Copies a view to another of the same size.
    ///
    /// # Errors
    /// Sizes differ; either is not of this device.
    pub fn copy(&self, from: &View, to: &View) -> Result<()> {
        self.own(from)?;
        self.own(to)?;
        check("copy", to.bytes, from.bytes)?;
        self.0.submit(Work::Copy {
            from: from.address,
            to: to.address,
            bytes: from.bytes,
        })
    }

    /// Sets every byte.
    ///
    /// # Errors
    /// The view is not of this device.
    pub fn fill(&self, to: &View, byte: u8) -> Result<()> {
        self.own(to)?;
        let (to, bytes) = (to.address, to.bytes);
        self.0.submit(Work::Fill { to, byte, bytes })
    }

    /// Seconds that the work which `f` asks for takes, by the device's clock.
    ///
    /// # Errors
    /// Those of `f`; work failed.
    pub fn timed(&self, f: impl FnOnce() -> Result<()>) -> Result<f64> {
        let flags = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
        let record = || {
            self.0.flush()?;
            driver("cuEventRecord", self.0.stream.record_event(flags))
        };
        let start = record()?;
        f()?;
        let milliseconds = start.elapsed_ms(&record()?);
        Ok(f64::from(driver("cuEventElapsedTime", milliseconds)?) / 1e3)
    }

    /// Waits for all work.
    ///
    /// # Errors
    /// Some of it failed.
    pub fn synchronize(&self) -> Result<()> {
        self.0.flush()?;
        driver("cuStreamSynchronize", self.0.stream.synchronize())
    }
}

fn check(op: &'static str, room: usize, bytes: usize) -> Result<()> {
    match bytes <= room {
        true => Ok(()),
        false => Err(Error::shape(
            op,
            format!("{bytes} bytes do not fit into {room}"),
        )),
    }
}

/// An argument in the low bytes of a word.
fn word(arg: &Arg) -> u64 {
    match arg {
        Arg::View(view) => view.address,
        Arg::Null => 0,
        Arg::U32(x) => u64::from(*x),
        Arg::U64(x) => *x,
        Arg::F32(x) => u64::from(x.to_bits()),
    }
}

impl Inner {
    pub(crate) fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Makes the device that of this thread.
    pub(crate) fn bind(&self) -> Result<()> {
        driver("cuCtxSetCurrent", self.context.bind_to_thread())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.stream.synchronize();
        *self.queue() = Queue::default();
        let context = self.context.clone();
        self.pool().clear(&context);
        let programs =
            std::mem::take(&mut *self.programs.lock().unwrap_or_else(|e| e.into_inner()));
        for loaded in programs.into_values() {
            // SAFETY: nothing runs any more, and its kernels are gone with the map
            let _ = unsafe { result::module::unload(loaded.module) };
        }
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cuda:{} ({})", self.0.ordinal, self.0.name)
    }
}
