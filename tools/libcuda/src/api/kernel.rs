//! What kernels are and may do.

use std::ffi::c_char;

use crate::boundary::Out;
use crate::code::{Code, Result, fail};
use crate::driver::{Handle, Session, call};

use super::device::check;

/// Attributes (`CUfunction_attribute`).
const MAX_THREADS: i32 = 0;
const STATIC_SHARED: i32 = 1;
const CONSTANT: i32 = 2;
const LOCAL: i32 = 3;
const REGISTERS: i32 = 4;
const PTX_VERSION: i32 = 5;
const BINARY_VERSION: i32 = 6;
const CACHE_MODE: i32 = 7;
const DYNAMIC_SHARED: i32 = 8;
const CLUSTERS_ONLY: i32 = 10;
const CLUSTER_X: i32 = 11;
const CLUSTER_Z: i32 = 13;
const LARGE_CLUSTERS: i32 = 14;
/// The largest number of one; those that are not named above are kept and have no effect.
const LAST: i32 = 15;

fn get(driver: &Session, function: Handle, attribute: i32) -> Result<i32> {
    let chip = driver.settings.chip;
    let known = driver.function(function)?;
    Ok(match attribute {
        MAX_THREADS => known.kernel.max_threads() as i32,
        STATIC_SHARED => known.kernel.static_shared() as i32,
        LOCAL => known.kernel.local_bytes() as i32,
        // what only ptxas knows
        CONSTANT | REGISTERS | CACHE_MODE => 0,
        PTX_VERSION => known.version,
        BINARY_VERSION => chip.capability.0 * 10 + chip.capability.1,
        DYNAMIC_SHARED => known.dynamic_shared,
        CLUSTERS_ONLY => i32::from(known.kernel.cluster().is_some()),
        CLUSTER_X..=CLUSTER_Z => match known.kernel.cluster() {
            Some(cluster) => cluster[(attribute - CLUSTER_X) as usize] as i32,
            None => 0,
        },
        LARGE_CLUSTERS => i32::from(known.large_clusters),
        9..=LAST => known.hints.get(&attribute).copied().unwrap_or(0),
        _ => {
            return fail(
                Code::INVALID_VALUE,
                format!("no function attribute {attribute}"),
            );
        }
    })
}

fn set(driver: &mut Session, function: Handle, attribute: i32, value: i32) -> Result<()> {
    let most = driver.settings.chip.shared_of_block();
    let fixed = driver.function(function)?.kernel.static_shared() as i32;
    let known = driver.functions.get_mut(&function).expect("it was found");
    match attribute {
        DYNAMIC_SHARED if value < 0 || value > most - fixed => {
            return fail(
                Code::INVALID_VALUE,
                format!(
                    "{value} bytes of dynamic shared memory; at most {} fit beside the {fixed} static ones",
                    most - fixed
                ),
            );
        }
        DYNAMIC_SHARED => known.dynamic_shared = value,
        LARGE_CLUSTERS => known.large_clusters = value != 0,
        CLUSTERS_ONLY..=CLUSTER_Z => {
            return fail(
                Code::NOT_SUPPORTED,
                "clusters are asked for when the kernel is compiled or launched",
            );
        }
        9..=LAST => {
            known.hints.insert(attribute, value);
        }
        _ => {
            return fail(
                Code::INVALID_VALUE,
                format!("function attribute {attribute} cannot be set"),
            );
        }
    }
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncGetAttribute(out: Out<i32>, attribute: i32, function: Handle) -> i32 {
    call("cuFuncGetAttribute", |driver| {
        out.put(get(driver, function, attribute)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncSetAttribute(function: Handle, attribute: i32, value: i32) -> i32 {
    call("cuFuncSetAttribute", |driver| {
        set(driver, function, attribute, value)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuKernelGetAttribute(
    out: Out<i32>,
    attribute: i32,
    kernel: Handle,
    device: i32,
) -> i32 {
    call("cuKernelGetAttribute", |driver| {
        check(device)?;
        out.put(get(driver, kernel, attribute)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuKernelSetAttribute(attribute: i32, value: i32, kernel: Handle, device: i32) -> i32 {
    call("cuKernelSetAttribute", |driver| {
        check(device)?;
        set(driver, kernel, attribute, value)
    })
}

/// A hint without effect.
fn hint(name: &str, function: Handle) -> i32 {
    call(name, |driver| {
        driver.function(function)?;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncSetCacheConfig(function: Handle, _config: i32) -> i32 {
    hint("cuFuncSetCacheConfig", function)
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncSetSharedMemConfig(function: Handle, _config: i32) -> i32 {
    hint("cuFuncSetSharedMemConfig", function)
}

#[unsafe(no_mangle)]
extern "C" fn cuKernelSetCacheConfig(kernel: Handle, _config: i32, _device: i32) -> i32 {
    hint("cuKernelSetCacheConfig", kernel)
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncLoad(function: Handle) -> i32 {
    hint("cuFuncLoad", function)
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncIsLoaded(state: Out<i32>, function: Handle) -> i32 {
    call("cuFuncIsLoaded", |driver| {
        driver.function(function)?;
        state.put(1)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncGetModule(out: Out<Handle>, function: Handle) -> i32 {
    call("cuFuncGetModule", |driver| {
        out.put(driver.function(function)?.module)
    })
}

/// The text lives as long as the kernel.
fn name(call_name: &str, out: Out<*const c_char>, function: Handle) -> i32 {
    call(call_name, |driver| {
        out.put(driver.function(function)?.name.as_ptr())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncGetName(out: Out<*const c_char>, function: Handle) -> i32 {
    name("cuFuncGetName", out, function)
}

#[unsafe(no_mangle)]
extern "C" fn cuKernelGetName(out: Out<*const c_char>, kernel: Handle) -> i32 {
    name("cuKernelGetName", out, kernel)
}

fn parameter(
    name: &str,
    function: Handle,
    index: usize,
    offset: Out<usize>,
    bytes: Out<usize>,
) -> i32 {
    call(name, |driver| {
        let kernel = &driver.function(function)?.kernel;
        let (offsets, sizes) = (kernel.argument_offsets(), kernel.argument_bytes());
        let Some(at) = offsets.get(index) else {
            return fail(
                Code::INVALID_VALUE,
                format!(
                    "{} has {} parameters, none of number {index}",
                    kernel.name(),
                    offsets.len()
                ),
            );
        };
        offset.put(*at)?;
        bytes.put_if_asked(sizes[index]);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncGetParamInfo(
    function: Handle,
    index: usize,
    offset: Out<usize>,
    bytes: Out<usize>,
) -> i32 {
    parameter("cuFuncGetParamInfo", function, index, offset, bytes)
}

#[unsafe(no_mangle)]
extern "C" fn cuKernelGetParamInfo(
    kernel: Handle,
    index: usize,
    offset: Out<usize>,
    bytes: Out<usize>,
) -> i32 {
    parameter("cuKernelGetParamInfo", kernel, index, offset, bytes)
}
