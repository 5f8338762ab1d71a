//! Tensor maps.

use crate::boundary::{Bytes, In};
use crate::code::{Code, fail};
use crate::driver::call;

/// Bulk tensor copies are not interpreted, so there is nothing to encode for.
#[unsafe(no_mangle)]
extern "C" fn cuTensorMapEncodeTiled(
    _map: Bytes,
    _element: i32,
    _rank: u32,
    _address: u64,
    _sizes: In<u64>,
    _strides: In<u64>,
    _box: In<u32>,
    _steps: In<u32>,
    _interleave: i32,
    _swizzle: i32,
    _promotion: i32,
    _fill: i32,
) -> i32 {
    call("cuTensorMapEncodeTiled", |_| {
        fail(
            Code::NOT_SUPPORTED,
            "bulk tensor copies are not interpreted",
        )
    })
}
