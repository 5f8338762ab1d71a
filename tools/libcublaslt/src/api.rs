//! The functions that programs call, by the names of cublasLt.h and with its arguments.
#![allow(unsafe_code, non_snake_case)]

use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::driver::Driver;
use crate::objects::{Kind, Object, Objects};
use crate::product::{Asked, Matrix, Product};

/// Results (`cublasStatus_t`).
#[derive(Clone, Copy)]
enum Status {
    NotInitialised = 1,
    Invalid = 7,
    Failed = 13,
    Internal = 14,
    NotSupported = 15,
}

/// The version of cuBLAS that this stands for.
const VERSION: usize = 120900;

/// Why a call did not succeed.
type Failure = (Status, String);
type Result<T> = std::result::Result<T, Failure>;

/// Runs a call. A panic becomes an error, and an error one sentence.
fn call(name: &str, body: impl FnOnce() -> Result<()>) -> i32 {
    let caught = catch_unwind(AssertUnwindSafe(body));
    let result = caught.unwrap_or_else(|_| {
        let why = "a mistake of this library, not of the program";
        Err((Status::Internal, why.into()))
    });
    match result {
        Ok(()) => 0,
        Err((status, why)) => {
            eprintln!("cublasLt (interpreted): {name}: {why}");
            status as i32
        }
    }
}

fn invalid<T>(why: impl Into<String>) -> Result<T> {
    Err((Status::Invalid, why.into()))
}

/// Writes a result.
fn put<T>(out: *mut T, value: T) -> Result<()> {
    if out.is_null() {
        return invalid("the pointer for the result is null");
    }
    // SAFETY: the caller of the API gives a place for a `T`.
    unsafe { out.write_unaligned(value) };
    Ok(())
}

/// Reads an argument.
fn get<T: Copy>(place: *const T) -> Result<T> {
    if place.is_null() {
        return invalid("a pointer to an argument is null");
    }
    // SAFETY: the caller of the API gives a pointer to a `T`.
    Ok(unsafe { place.read_unaligned() })
}

fn object(kind: Kind, handle: usize) -> Result<Object> {
    match Objects::lock().get(handle, kind) {
        Some(object) => Ok(object.clone()),
        None => invalid(format!(
            "{handle:#x} is not a {kind:?}, or one that was destroyed"
        )),
    }
}

fn create(name: &str, out: *mut usize, object: Object) -> i32 {
    call(name, || put(out, Objects::lock().add(object)))
}

fn destroy(name: &str, kind: Kind, handle: usize) -> i32 {
    call(name, || match Objects::lock().remove(handle, kind) {
        true => Ok(()),
        false => invalid(format!(
            "{handle:#x} is not a {kind:?}, or one that was destroyed"
        )),
    })
}

fn set(
    name: &str,
    kind: Kind,
    handle: usize,
    attribute: i32,
    from: *const c_void,
    bytes: usize,
) -> i32 {
    call(name, || {
        if from.is_null() || bytes == 0 || bytes > 64 {
            return invalid(format!("{bytes} bytes for attribute {attribute}"));
        }
        // SAFETY: the caller of the API gives as many bytes as it says.
        let value = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), bytes) }.to_vec();
        match Objects::lock().get(handle, kind) {
            Some(object) => {
                object.set(attribute, value);
                Ok(())
            }
            None => invalid(format!(
                "{handle:#x} is not a {kind:?}, or one that was destroyed"
            )),
        }
    })
}

fn read(
    name: &str,
    (kind, handle): (Kind, usize),
    attribute: i32,
    to: *mut c_void,
    room: usize,
    written: *mut usize,
) -> i32 {
    call(name, || {
        let object = object(kind, handle)?;
        let Some(value) = object.get(attribute) else {
            return invalid(format!("attribute {attribute} was not set"));
        };
        if !written.is_null() {
            put(written, value.len())?;
        }
        if room == 0 {
            return Ok(());
        }
        if to.is_null() || room < value.len() {
            return invalid(format!("{room} bytes of room for {}", value.len()));
        }
        // SAFETY: the caller of the API gives a place for as many bytes as it says.
        unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), to.cast(), value.len()) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtCreate(out: *mut usize) -> i32 {
    call("cublasLtCreate", || match Driver::get() {
        Some(_) => put(out, Objects::lock().add(Object::new(Kind::Handle))),
        None => Err((
            Status::NotInitialised,
            "the interpreted driver is not there as libcuda.so.1".into(),
        )),
    })
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtDestroy(handle: usize) -> i32 {
    destroy("cublasLtDestroy", Kind::Handle, handle)
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatrixLayoutCreate(
    out: *mut usize,
    element: i32,
    rows: u64,
    cols: u64,
    ld: i64,
) -> i32 {
    create(
        "cublasLtMatrixLayoutCreate",
        out,
        Matrix::object(element, rows, cols, ld),
    )
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatrixLayoutDestroy(layout: usize) -> i32 {
    destroy("cublasLtMatrixLayoutDestroy", Kind::Layout, layout)
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatrixLayoutSetAttribute(
    layout: usize,
    attribute: i32,
    from: *const c_void,
    bytes: usize,
) -> i32 {
    set(
        "cublasLtMatrixLayoutSetAttribute",
        Kind::Layout,
        layout,
        attribute,
        from,
        bytes,
    )
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatrixLayoutGetAttribute(
    layout: usize,
    attribute: i32,
    to: *mut c_void,
    room: usize,
    written: *mut usize,
) -> i32 {
    read(
        "cublasLtMatrixLayoutGetAttribute",
        (Kind::Layout, layout),
        attribute,
        to,
        room,
        written,
    )
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulDescCreate(out: *mut usize, compute: i32, scale: i32) -> i32 {
    create(
        "cublasLtMatmulDescCreate",
        out,
        Product::object(compute, scale),
    )
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulDescDestroy(desc: usize) -> i32 {
    destroy("cublasLtMatmulDescDestroy", Kind::Product, desc)
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulDescSetAttribute(
    desc: usize,
    attribute: i32,
    from: *const c_void,
    bytes: usize,
) -> i32 {
    set(
        "cublasLtMatmulDescSetAttribute",
        Kind::Product,
        desc,
        attribute,
        from,
        bytes,
    )
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulDescGetAttribute(
    desc: usize,
    attribute: i32,
    to: *mut c_void,
    room: usize,
    written: *mut usize,
) -> i32 {
    read(
        "cublasLtMatmulDescGetAttribute",
        (Kind::Product, desc),
        attribute,
        to,
        room,
        written,
    )
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulPreferenceCreate(out: *mut usize) -> i32 {
    create(
        "cublasLtMatmulPreferenceCreate",
        out,
        Object::new(Kind::Preference),
    )
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulPreferenceDestroy(preference: usize) -> i32 {
    destroy(
        "cublasLtMatmulPreferenceDestroy",
        Kind::Preference,
        preference,
    )
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulPreferenceSetAttribute(
    preference: usize,
    attribute: i32,
    from: *const c_void,
    bytes: usize,
) -> i32 {
    set(
        "cublasLtMatmulPreferenceSetAttribute",
        Kind::Preference,
        preference,
        attribute,
        from,
        bytes,
    )
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulPreferenceGetAttribute(
    preference: usize,
    attribute: i32,
    to: *mut c_void,
    room: usize,
    written: *mut usize,
) -> i32 {
    let of = (Kind::Preference, preference);
    read(
        "cublasLtMatmulPreferenceGetAttribute",
        of,
        attribute,
        to,
        room,
        written,
    )
}

/// `cublasLtMatmulHeuristicResult_t`
#[repr(C)]
#[derive(Clone, Copy)]
struct Heuristic {
    algorithm: [u64; 8],
    workspace: usize,
    state: i32,
    waves: f32,
    reserved: [i32; 4],
}

/// Checks a product whose layouts are given by handles.
fn product(
    handle: usize,
    desc: usize,
    layouts: [usize; 4],
    addresses: [u64; 4],
    (alpha, beta): (f32, f32),
) -> Result<Product> {
    object(Kind::Handle, handle)?;
    let desc = object(Kind::Product, desc)?;
    let [a, b, c, d] = layouts;
    let layout = |handle| object(Kind::Layout, handle);
    let (a, b, c, d) = (layout(a)?, layout(b)?, layout(c)?, layout(d)?);
    let asked = Asked {
        desc: &desc,
        layouts: [&a, &b, &c, &d],
        addresses,
        alpha,
        beta,
    };
    Product::new(&asked).map_err(|why| (Status::NotSupported, why))
}

/// There is one algorithm, which needs no workspace.
#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmulAlgoGetHeuristic(
    handle: usize,
    desc: usize,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    _preference: usize,
    room: i32,
    results: *mut Heuristic,
    count: *mut i32,
) -> i32 {
    call("cublasLtMatmulAlgoGetHeuristic", || {
        put(count, 0)?;
        if room < 1 {
            return invalid("no room for a result");
        }
        product(handle, desc, [a, b, c, d], [0; 4], (1.0, 1.0))?;
        let result = Heuristic {
            algorithm: [1, 0, 0, 0, 0, 0, 0, 0],
            workspace: 0,
            state: 0,
            waves: 1.0,
            reserved: [0; 4],
        };
        put(results, result)?;
        put(count, 1)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtMatmul(
    handle: usize,
    desc: usize,
    alpha: *const f32,
    a: u64,
    a_layout: usize,
    b: u64,
    b_layout: usize,
    beta: *const f32,
    c: u64,
    c_layout: usize,
    d: u64,
    d_layout: usize,
    _algorithm: *const c_void,
    _workspace: u64,
    _workspace_bytes: usize,
    stream: usize,
) -> i32 {
    call("cublasLtMatmul", || {
        let layouts = [a_layout, b_layout, c_layout, d_layout];
        let product = |scalars| product(handle, desc, layouts, [a, b, c, d], scalars);
        // only what is served has its scalars in memory of the host
        product((1.0, 1.0))?;
        let product = product((get(alpha)?, get(beta)?))?;
        let driver = Driver::get().expect("there is a handle");
        for (address, bytes) in product.spans().into_iter().filter(|(_, bytes)| *bytes > 0) {
            if !driver.check(address, bytes) {
                return invalid("a matrix is not where the product reads or writes");
            }
        }
        match driver.launch(stream, product) {
            true => Ok(()),
            false => Err((Status::Failed, "the driver does not run it".into())),
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtGetVersion() -> usize {
    VERSION
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtGetCudartVersion() -> usize {
    12090
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtGetStatusName(status: i32) -> *const c_char {
    name(status).as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtGetStatusString(status: i32) -> *const c_char {
    name(status).as_ptr()
}

fn name(status: i32) -> &'static CStr {
    match status {
        0 => c"CUBLAS_STATUS_SUCCESS",
        1 => c"CUBLAS_STATUS_NOT_INITIALIZED",
        3 => c"CUBLAS_STATUS_ALLOC_FAILED",
        7 => c"CUBLAS_STATUS_INVALID_VALUE",
        8 => c"CUBLAS_STATUS_ARCH_MISMATCH",
        11 => c"CUBLAS_STATUS_MAPPING_ERROR",
        13 => c"CUBLAS_STATUS_EXECUTION_FAILED",
        14 => c"CUBLAS_STATUS_INTERNAL_ERROR",
        15 => c"CUBLAS_STATUS_NOT_SUPPORTED",
        16 => c"CUBLAS_STATUS_LICENSE_ERROR",
        _ => c"CUBLAS_STATUS_UNKNOWN",
    }
}

/// Logging goes to standard error in any case.
#[unsafe(no_mangle)]
extern "C" fn cublasLtLoggerSetLevel(_level: i32) -> i32 {
    0
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtLoggerSetMask(_mask: i32) -> i32 {
    0
}

#[unsafe(no_mangle)]
extern "C" fn cublasLtLoggerForceDisable() -> i32 {
    0
}

/// Functions that look at none of their arguments, which C allows: the caller removes them.
macro_rules! unserved {
    ($($name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $name() -> i32 {
                call(stringify!($name), || {
                    Err((Status::NotSupported, "not served by this library".into()))
                })
            }
        )*
    };
}

unserved! {
    cublasLtEmulationDescCreate cublasLtEmulationDescDestroy cublasLtEmulationDescGetAttribute
    cublasLtEmulationDescSetAttribute cublasLtGetProperty cublasLtGroupedMatrixLayoutCreate
    cublasLtHeuristicsCacheGetCapacity cublasLtHeuristicsCacheSetCapacity cublasLtLoggerOpenFile
    cublasLtLoggerSetCallback cublasLtLoggerSetFile cublasLtMatmulAlgoCapGetAttribute cublasLtMatmulAlgoCheck
    cublasLtMatmulAlgoCheckForStream cublasLtMatmulAlgoConfigGetAttribute cublasLtMatmulAlgoConfigSetAttribute
    cublasLtMatmulAlgoGetHeuristicForStream cublasLtMatmulAlgoGetIds cublasLtMatmulAlgoInit cublasLtMatrixTransform
    cublasLtMatrixTransformDescCreate cublasLtMatrixTransformDescDestroy cublasLtMatrixTransformDescGetAttribute
    cublasLtMatrixTransformDescSetAttribute
}
