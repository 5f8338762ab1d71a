//! Contexts.

use crate::boundary::{Bytes, Out};
use crate::code::{Code, Result, fail};
use crate::context::{set_top, top};
use crate::driver::{CONTEXTS, Handle, Session, call};

use super::device::check;
use super::init::VERSION;

/// Values of `CUlimit` that can be set, and what they are before.
const LIMITS: [(i32, usize); 8] = [
    (0, 1024),    // stack
    (1, 1 << 20), // printf
    (2, 8 << 20), // heap
    (3, 2),       // depth
    (4, 2048),    // pending launches
    (5, 128),     // fetch granularity
    (6, 0),       // persisting cache
    (7, 0),       // shared memory
];

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRetain(context: Out<Handle>, device: i32) -> i32 {
    call("cuDevicePrimaryCtxRetain", |driver| {
        check(device)?;
        let (handle, flags) = (driver.primary.handle, driver.primary.flags);
        context.put(handle)?;
        if driver.primary.retained == 0 {
            driver.create_context(handle, flags);
        }
        driver.primary.retained += 1;
        Ok(())
    })
}

fn release_primary(name: &str, device: i32) -> i32 {
    call(name, |driver| {
        check(device)?;
        match driver.primary.retained {
            0 => fail(Code::INVALID_CONTEXT, "the primary context is not retained"),
            1 => {
                driver.primary.retained = 0;
                let handle = driver.primary.handle;
                driver.destroy_context(name, handle);
                Ok(())
            }
            _ => {
                driver.primary.retained -= 1;
                Ok(())
            }
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRelease(device: i32) -> i32 {
    release_primary("cuDevicePrimaryCtxRelease", device)
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRelease_v2(device: i32) -> i32 {
    release_primary("cuDevicePrimaryCtxRelease", device)
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxReset_v2(device: i32) -> i32 {
    call("cuDevicePrimaryCtxReset", |driver| {
        check(device)?;
        if driver.primary.retained > 0 {
            let (handle, flags) = (driver.primary.handle, driver.primary.flags);
            driver.destroy_context("cuDevicePrimaryCtxReset", handle);
            driver.create_context(handle, flags);
        }
        Ok(())
    })
}

fn set_primary_flags(device: i32, flags: u32) -> i32 {
    call("cuDevicePrimaryCtxSetFlags", |driver| {
        check(device)?;
        driver.primary.flags = flags;
        let handle = driver.primary.handle;
        if let Some(context) = driver.contexts.get_mut(&handle) {
            context.flags = flags;
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxSetFlags(device: i32, flags: u32) -> i32 {
    set_primary_flags(device, flags)
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxSetFlags_v2(device: i32, flags: u32) -> i32 {
    set_primary_flags(device, flags)
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxGetState(device: i32, flags: Out<u32>, active: Out<i32>) -> i32 {
    call("cuDevicePrimaryCtxGetState", |driver| {
        check(device)?;
        flags.put(driver.primary.flags)?;
        active.put(i32::from(driver.primary.retained > 0))
    })
}

fn create(context: Out<Handle>, flags: u32, device: i32) -> i32 {
    call("cuCtxCreate", |driver| {
        check(device)?;
        let handle = driver.new_handle();
        context.put(handle)?;
        driver.create_context(handle, flags);
        CONTEXTS.with_borrow_mut(|stack| stack.push(handle));
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxCreate_v2(context: Out<Handle>, flags: u32, device: i32) -> i32 {
    create(context, flags, device)
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxCreate_v3(
    context: Out<Handle>,
    _affinity: Bytes,
    affinities: i32,
    flags: u32,
    device: i32,
) -> i32 {
    if affinities != 0 {
        return call("cuCtxCreate", |_| {
            fail(Code::NOT_SUPPORTED, "execution affinity is not served")
        });
    }
    create(context, flags, device)
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxCreate_v4(
    context: Out<Handle>,
    parameters: Bytes,
    flags: u32,
    device: i32,
) -> i32 {
    if !parameters.is_null() {
        return call("cuCtxCreate", |_| {
            fail(
                Code::NOT_SUPPORTED,
                "execution affinity and graphics are not served; pass null",
            )
        });
    }
    create(context, flags, device)
}

fn destroy(context: Handle) -> i32 {
    call("cuCtxDestroy", |driver| {
        driver.known_context(context)?;
        if context == driver.primary.handle {
            return fail(
                Code::INVALID_CONTEXT,
                "the primary context is released, not destroyed",
            );
        }
        driver.destroy_context("cuCtxDestroy", context);
        if top() == context {
            CONTEXTS.with_borrow_mut(|stack| stack.pop());
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxDestroy(context: Handle) -> i32 {
    destroy(context)
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxDestroy_v2(context: Handle) -> i32 {
    destroy(context)
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCurrent(context: Handle) -> i32 {
    call("cuCtxSetCurrent", |driver| {
        if context != 0 {
            driver.known_context(context)?;
        }
        set_top(context);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetCurrent(context: Out<Handle>) -> i32 {
    call("cuCtxGetCurrent", |_| context.put(top()))
}

fn push(context: Handle) -> i32 {
    call("cuCtxPushCurrent", |driver| {
        driver.known_context(context)?;
        CONTEXTS.with_borrow_mut(|stack| stack.push(context));
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxPushCurrent(context: Handle) -> i32 {
    push(context)
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxPushCurrent_v2(context: Handle) -> i32 {
    push(context)
}

fn pop(context: Out<Handle>) -> i32 {
    call("cuCtxPopCurrent", |driver| {
        let current = driver.current()?;
        CONTEXTS.with_borrow_mut(|stack| stack.pop());
        context.put_if_asked(current);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxPopCurrent(context: Out<Handle>) -> i32 {
    pop(context)
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxPopCurrent_v2(context: Out<Handle>) -> i32 {
    pop(context)
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetDevice(device: Out<i32>) -> i32 {
    call("cuCtxGetDevice", |driver| {
        driver.current()?;
        device.put(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetDevice_v2(device: Out<i32>, context: Handle) -> i32 {
    call("cuCtxGetDevice", |driver| {
        given(driver, context)?;
        device.put(0)
    })
}

/// A context, the current one for null.
fn given(driver: &Session, context: Handle) -> Result<Handle> {
    match context {
        0 => driver.current(),
        _ => driver.known_context(context),
    }
}

fn synchronise(driver: &mut Session, context: Handle) -> Result<()> {
    driver.check_context(context)?;
    driver.forbid_in_capture()?;
    driver.finish_context(context);
    driver.check_context(context)
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSynchronize() -> i32 {
    call("cuCtxSynchronize", |driver| {
        let context = driver.current()?;
        synchronise(driver, context)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSynchronize_v2(context: Handle) -> i32 {
    call("cuCtxSynchronize", |driver| {
        let context = given(driver, context)?;
        synchronise(driver, context)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetFlags(flags: Out<u32>) -> i32 {
    call("cuCtxGetFlags", |driver| {
        let context = driver.current()?;
        flags.put(driver.contexts[&context].flags)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetFlags(flags: u32) -> i32 {
    call("cuCtxSetFlags", |driver| {
        let context = driver.current()?;
        let context = driver.contexts.get_mut(&context);
        context.expect("it is current").flags = flags;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetId(context: Handle, id: Out<u64>) -> i32 {
    call("cuCtxGetId", |driver| {
        id.put(given(driver, context)? as u64)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetApiVersion(context: Handle, version: Out<u32>) -> i32 {
    call("cuCtxGetApiVersion", |driver| {
        given(driver, context)?;
        version.put(VERSION as u32)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetLimit(value: Out<usize>, limit: i32) -> i32 {
    call("cuCtxGetLimit", |driver| {
        let context = driver.healthy()?;
        let Some((_, usual)) = LIMITS.iter().find(|(known, _)| *known == limit) else {
            return fail(Code::UNSUPPORTED_LIMIT, format!("no limit {limit}"));
        };
        let set = driver.contexts[&context].limits.get(&limit);
        value.put(set.copied().unwrap_or(*usual))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetLimit(limit: i32, value: usize) -> i32 {
    call("cuCtxSetLimit", |driver| {
        let context = driver.healthy()?;
        if !LIMITS.iter().any(|(known, _)| *known == limit) {
            return fail(Code::UNSUPPORTED_LIMIT, format!("no limit {limit}"));
        }
        let context = driver.contexts.get_mut(&context).expect("it is current");
        context.limits.insert(limit, value);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetCacheConfig(config: Out<i32>) -> i32 {
    call("cuCtxGetCacheConfig", |driver| {
        let context = driver.healthy()?;
        config.put(driver.contexts[&context].cache)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCacheConfig(config: i32) -> i32 {
    call("cuCtxSetCacheConfig", |driver| {
        let context = driver.healthy()?;
        let context = driver.contexts.get_mut(&context).expect("it is current");
        context.cache = config;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetSharedMemConfig(config: Out<i32>) -> i32 {
    call("cuCtxGetSharedMemConfig", |driver| {
        driver.healthy()?;
        config.put(1) // banks of 4 bytes
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetSharedMemConfig(_config: i32) -> i32 {
    call("cuCtxSetSharedMemConfig", |driver| {
        driver.healthy()?;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxResetPersistingL2Cache() -> i32 {
    call("cuCtxResetPersistingL2Cache", |driver| {
        driver.healthy()?;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>) -> i32 {
    call("cuCtxGetStreamPriorityRange", |driver| {
        driver.healthy()?;
        least.put_if_asked(0);
        greatest.put_if_asked(super::stream::GREATEST_PRIORITY);
        Ok(())
    })
}
