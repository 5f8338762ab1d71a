//! Pointers as C programs give them. The types here can only come from a call of the API, whose caller promises what
//! cuda.h asks for; that promise is all that their methods rely on.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_void};

use crate::code::{Code, Result, fail};
use crate::host::{Callback, HostCall, HostMemory};

/// Where a call writes a `T`, or null.
#[repr(transparent)]
pub struct Out<T>(*mut T);

/// One or more `T` that a call reads, or null.
#[repr(transparent)]
pub struct In<T>(*const T);

/// A text that ends with a zero, or null.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Text(*const c_char);

/// Memory of unknown length: of the program, or an address of the device.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Bytes(*mut c_void);

/// `CUhostFn`
pub type HostFunction = Option<unsafe extern "C" fn(*mut c_void)>;
/// `CUstreamCallback`
pub type StreamFunction = Option<unsafe extern "C" fn(*mut c_void, i32, *mut c_void)>;
/// `CUoccupancyB2DSize`
pub type SizeFunction = Option<unsafe extern "C" fn(i32) -> usize>;

fn null<T>(what: &str) -> Result<T> {
    fail(Code::INVALID_VALUE, format!("the {what} is null"))
}

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Out<T> {}

impl<T> Clone for In<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for In<T> {}

impl<T> In<T> {
    pub const NULL: In<T> = In(std::ptr::null());

    /// A list of this library, for the program to read while it lives.
    pub fn of<U>(list: &[U]) -> In<T> {
        In(list.as_ptr().cast())
    }

    /// The place of the value number `index` of a list.
    pub fn at(self, index: usize) -> In<T> {
        In(self.0.wrapping_add(index))
    }
}

impl<T> Out<T> {
    pub const NULL: Out<T> = Out(std::ptr::null_mut());
}

impl<T: Copy> Out<T> {
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Writes a value.
    pub fn put(self, value: T) -> Result<()> {
        match self.0.is_null() {
            true => null("pointer for the result"),
            false => {
                self.put_if_asked(value);
                Ok(())
            }
        }
    }

    /// Writes a value unless the pointer is null.
    pub fn put_if_asked(self, value: T) {
        if !self.0.is_null() {
            // SAFETY: the caller of the API gives a place for a `T`.
            unsafe { self.0.write_unaligned(value) }
        }
    }

    /// Writes as many values as fit and says how many there are; with no place for them, only that.
    pub fn put_list(self, values: &[T], count: Out<usize>) -> Result<()> {
        let room = count.get()?;
        if self.0.is_null() {
            return count.put(values.len());
        }
        self.put_all(&values[..room.min(values.len())]);
        count.put(room.min(values.len()))
    }

    /// Writes values side by side; the caller of the API said that there is room for as many.
    pub fn put_all(self, values: &[T]) {
        for (i, value) in values.iter().enumerate() {
            // SAFETY: the caller of the API gives a place for this many.
            unsafe { self.0.add(i).write_unaligned(*value) }
        }
    }

    /// Reads what is there before it is replaced.
    pub fn get(self) -> Result<T> {
        In(self.0.cast_const()).get()
    }

    /// Reads `count` values before they are replaced.
    pub fn list(self, count: usize) -> Result<Vec<T>> {
        In(self.0.cast_const()).list(count)
    }

    /// The place of the value number `index` of a list.
    pub fn at(self, index: usize) -> Out<T> {
        Out(self.0.wrapping_add(index))
    }
}

impl<T: Copy> In<T> {
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    pub fn get(self) -> Result<T> {
        match self.0.is_null() {
            true => null("pointer to an argument"),
            // SAFETY: the caller of the API gives a pointer to a `T`.
            false => Ok(unsafe { self.0.read_unaligned() }),
        }
    }

    /// Reads `count` values side by side.
    pub fn list(self, count: usize) -> Result<Vec<T>> {
        if count > 0 && self.0.is_null() {
            return null("pointer to a list");
        }
        // SAFETY: the caller of the API gives a pointer to this many.
        let value = |i| unsafe { self.0.add(i).read_unaligned() };
        Ok((0..count).map(value).collect())
    }
}

impl Text {
    pub fn get(self) -> Result<String> {
        match self.0.is_null() {
            true => null("name"),
            false => {
                // SAFETY: the caller of the API gives a text that ends with a zero.
                let text = unsafe { CStr::from_ptr(self.0) };
                Ok(text.to_string_lossy().into_owned())
            }
        }
    }
}

impl Bytes {
    pub fn address(self) -> usize {
        self.0 as usize
    }

    /// `bytes` of it, for as long as the work of the call lasts.
    pub fn memory(self, bytes: usize) -> HostMemory {
        // SAFETY: the caller of the API promises that its own memory is that long and stays until the work is done.
        unsafe { HostMemory::new(self.0 as usize, bytes) }
    }

    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Bytes up to and without the first zero.
    pub fn until_zero(self) -> Result<Vec<u8>> {
        Ok(Text(self.0.cast_const().cast()).get()?.into_bytes())
    }

    /// The place of a `T`.
    pub fn of<T>(self) -> Out<T> {
        Out(self.0.cast())
    }

    /// The function of the program with this as its argument.
    pub fn call(self, callback: Callback) -> HostCall {
        // SAFETY: the caller of the API gives the function and its argument together.
        unsafe { HostCall::new(callback, self.0) }
    }
}

/// An address of the program as a place for bytes.
pub fn bytes_at(address: u64) -> Bytes {
    Bytes(address as *mut c_void)
}

/// Asks the program how much shared memory a block of a size takes.
pub fn shared_of(function: SizeFunction, fixed: usize, threads: i32) -> usize {
    match function {
        // SAFETY: the caller of the API gives a function that can be called with a number of threads.
        Some(function) => unsafe { function(threads) },
        None => fixed,
    }
}

/// Function `name` of this very library, if it has one.
pub fn own_function(name: &str) -> Option<*mut c_void> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: `dladdr` is given the address of a function and a place for its answer; the path it names is a C string
    // that lives as long as the library, which is loaded already and stays so.
    unsafe {
        let mut info = std::mem::zeroed::<libc::Dl_info>();
        if libc::dladdr(own_function as *const c_void, &mut info) == 0 {
            return None;
        }
        let library = libc::dlopen(info.dli_fname, libc::RTLD_NOW | libc::RTLD_NOLOAD);
        if library.is_null() {
            return None;
        }
        let function = libc::dlsym(library, name.as_ptr());
        libc::dlclose(library);
        (!function.is_null()).then_some(function)
    }
}

/// Has a function called when the program ends.
pub fn when_program_ends(function: extern "C" fn()) {
    // SAFETY: the function lives in this library; should that be unloaded, it is called then.
    unsafe {
        libc::atexit(function);
    }
}
