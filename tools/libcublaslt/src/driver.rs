//! The interpreted driver, found as programs find it.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_void};
use std::sync::OnceLock;

use crate::element::Element;
use crate::product::{Memory, Product};

type HostFunction = unsafe extern "C" fn(*mut c_void);

/// Functions of the driver that products need.
#[derive(Clone, Copy)]
pub struct Driver {
    check: unsafe extern "C" fn(u64, usize) -> i32,
    read: unsafe extern "C" fn(*mut c_void, u64, usize) -> i32,
    write: unsafe extern "C" fn(u64, *const c_void, usize) -> i32,
    launch: unsafe extern "C" fn(usize, HostFunction, *mut c_void) -> i32,
    is_capturing: unsafe extern "C" fn(usize, *mut i32) -> i32,
}

/// A function of a library.
///
/// # Safety
/// The library is loaded, and its function of that name has the type `F`, a pointer to a function.
unsafe fn function<F: Copy>(library: *mut c_void, name: &CStr) -> Option<F> {
    assert_eq!(size_of::<F>(), size_of::<*mut c_void>());
    // SAFETY: the library is loaded, and the name is a C string.
    let symbol = unsafe { libc::dlsym(library, name.as_ptr()) };
    // SAFETY: the caller promises that this is a pointer to such a function.
    (!symbol.is_null()).then(|| unsafe { std::mem::transmute_copy(&symbol) })
}

impl Driver {
    /// The driver, if it is there and the interpreted one.
    pub fn get() -> Option<Driver> {
        static DRIVER: OnceLock<Option<Driver>> = OnceLock::new();
        *DRIVER.get_or_init(Driver::load)
    }

    fn load() -> Option<Driver> {
        // SAFETY: the path is a C string; the library stays loaded, for its handle is never closed.
        let library = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            return None;
        }
        // SAFETY: functions of these names have these types: those of cuda.h by its text, the three of the interpreted
        // driver by `api/own.rs` of the crate libcuda-interpreted. The library is loaded.
        unsafe {
            Some(Driver {
                check: function(library, c"cuInterpretedCheck")?,
                read: function(library, c"cuInterpretedRead")?,
                write: function(library, c"cuInterpretedWrite")?,
                launch: function(library, c"cuLaunchHostFunc")?,
                is_capturing: function(library, c"cuStreamIsCapturing")?,
            })
        }
    }

    /// True if bytes lie in live memory; if not, the driver has said why.
    pub fn check(&self, address: u64, bytes: usize) -> bool {
        // SAFETY: a function of two numbers.
        unsafe { (self.check)(address, bytes) == 0 }
    }

    /// Has a stream run a product; false if the driver does not.
    pub fn launch(&self, stream: usize, product: Product) -> bool {
        let mut capturing = 0;
        // SAFETY: the place for the answer is there.
        if unsafe { (self.is_capturing)(stream, &mut capturing) } != 0 {
            return false;
        }
        let work = Box::into_raw(Box::new(Work {
            driver: *self,
            product,
            once: capturing == 0,
        }));
        // SAFETY: the function takes what it is given here. It frees it if it runs once; a graph may run it again and
        // again, and then it stays.
        unsafe { (self.launch)(stream, run, work.cast()) == 0 }
    }
}

struct Work {
    driver: Driver,
    product: Product,
    once: bool,
}

unsafe extern "C" fn run(data: *mut c_void) {
    // SAFETY: `launch` gave a pointer to `Work`, which lives at least until the stream has run this.
    let work = unsafe { &*data.cast::<Work>() };
    let product = std::panic::AssertUnwindSafe(|| work.product.run(&work.driver));
    // without memory the driver has said what is missing, and the context has failed
    let done = std::panic::catch_unwind(product);
    if done.is_err() {
        eprintln!("cublasLt (interpreted): a mistake of this library, not of the program");
    }
    if work.once {
        // SAFETY: it was made by `Box::into_raw`, and the stream runs it this once.
        drop(unsafe { Box::from_raw(data.cast::<Work>()) });
    }
}

impl Memory for Driver {
    fn read(&self, address: u64, element: Element, count: usize) -> Option<Vec<f32>> {
        let mut bytes = vec![0u8; count * element.bytes()];
        // SAFETY: the buffer has as many bytes as are asked for.
        let code = unsafe { (self.read)(bytes.as_mut_ptr().cast(), address, bytes.len()) };
        (code == 0).then(|| element.decode(&bytes))
    }

    fn write(&self, address: u64, element: Element, values: &[f32]) -> Option<()> {
        let bytes = element.encode(values);
        // SAFETY: the buffer has as many bytes as are said.
        let code = unsafe { (self.write)(address, bytes.as_ptr().cast(), bytes.len()) };
        (code == 0).then_some(())
    }
}
