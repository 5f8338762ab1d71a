//! The driver API as C has it, with results as `Result` and what tests use of it in a few lines.
#![allow(unsafe_code)]

use std::ffi::{CString, c_void};

use cudarc::driver::sys::{self, CUresult};

pub type Result<T> = std::result::Result<T, CUresult>;

/// A result of the API as a `Result`.
pub fn check(code: CUresult) -> Result<()> {
    match code {
        CUresult::CUDA_SUCCESS => Ok(()),
        error => Err(error),
    }
}

/// Calls a function that writes its result to a place.
pub fn get<T>(function: impl FnOnce(*mut T) -> CUresult) -> Result<T> {
    let mut place = std::mem::MaybeUninit::zeroed();
    check(function(place.as_mut_ptr()))?;
    // SAFETY: the functions write what they succeed in finding; all of them are numbers and pointers, which may be zero.
    Ok(unsafe { place.assume_init() })
}

/// Makes a context current.
pub fn start() -> sys::CUcontext {
    // SAFETY: places for the answers.
    unsafe {
        check(sys::cuInit(0)).expect("a driver");
        get(|c| sys::cuCtxCreate_v2(c, 0, 0)).expect("a context")
    }
}

pub fn load(image: &str) -> Result<sys::CUmodule> {
    let image = CString::new(image).expect("no zero inside");
    // SAFETY: an image that ends with a zero.
    get(|m| unsafe { sys::cuModuleLoadData(m, image.as_ptr().cast()) })
}

pub fn function(module: sys::CUmodule, name: &str) -> Result<sys::CUfunction> {
    let name = CString::new(name).expect("no zero inside");
    // SAFETY: a name that ends with a zero.
    get(|f| unsafe { sys::cuModuleGetFunction(f, module, name.as_ptr()) })
}

/// A kernel of the tests.
pub fn kernel(name: &str) -> sys::CUfunction {
    let module = load(include_str!("../programs/kernels.ptx")).expect("a module");
    function(module, name).expect("a kernel")
}

pub fn stream() -> sys::CUstream {
    // SAFETY: a place for the answer.
    get(|s| unsafe { sys::cuStreamCreate(s, 1) }).expect("a stream")
}

pub fn allocate(bytes: usize) -> Result<u64> {
    // SAFETY: a place for the answer.
    get(|a| unsafe { sys::cuMemAlloc_v2(a, bytes) })
}

/// Device memory with these numbers.
pub fn upload(values: &[u32]) -> u64 {
    let address = allocate(4 * values.len()).expect("memory");
    // SAFETY: the numbers are as many bytes.
    let code = unsafe { sys::cuMemcpyHtoD_v2(address, values.as_ptr().cast(), 4 * values.len()) };
    check(code).expect("a copy");
    address
}

pub fn download(address: u64, count: usize) -> Result<Vec<u32>> {
    let mut values = vec![0; count];
    // SAFETY: there is room for as many bytes.
    check(unsafe { sys::cuMemcpyDtoH_v2(values.as_mut_ptr().cast(), address, 4 * count) })?;
    Ok(values)
}

/// Launches a kernel whose arguments are these numbers, each a `u64`, `f32` or `u32` by the length of its bytes.
pub fn launch(
    kernel: sys::CUfunction,
    (grid, block, shared): (u32, u32, u32),
    stream: sys::CUstream,
    arguments: &[&[u8]],
) -> Result<()> {
    let mut pointers: Vec<*mut c_void> = arguments
        .iter()
        .map(|bytes| bytes.as_ptr().cast_mut().cast())
        .collect();
    // SAFETY: one pointer for each argument of the kernel, to as many bytes as it has.
    check(unsafe {
        sys::cuLaunchKernel(
            kernel,
            grid,
            1,
            1,
            block,
            1,
            1,
            shared,
            stream,
            pointers.as_mut_ptr(),
            std::ptr::null_mut(),
        )
    })
}

/// Launches `rescale` on `n` numbers.
pub fn rescale(kernel: sys::CUfunction, stream: sys::CUstream, x: u64, n: u32) -> Result<()> {
    let shape = (n.div_ceil(128), 128, 0);
    launch(kernel, shape, stream, &[&x.to_le_bytes(), &n.to_le_bytes()])
}

pub fn synchronise(stream: sys::CUstream) -> Result<()> {
    // SAFETY: a stream, or null for the default one.
    check(unsafe { sys::cuStreamSynchronize(stream) })
}

/// Numbers as the bits of floats.
pub fn floats(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Ends what `start` began.
pub fn end(context: sys::CUcontext) {
    // SAFETY: a context that was made.
    check(unsafe { sys::cuCtxDestroy_v2(context) }).expect("destroyed");
}
