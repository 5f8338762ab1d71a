//! Device and managed memory: allocation, sizes, advice.

use crate::boundary::Out;
use crate::code::{Code, Result, fail};
use crate::driver::{Handle, Session, call};
use crate::memory::{Kind, Place};
use crate::work::Op;

/// Rows of pitched memory start at multiples of this.
const PITCH: usize = 512;

#[unsafe(no_mangle)]
extern "C" fn cuMemAlloc_v2(address: Out<u64>, bytes: usize) -> i32 {
    call("cuMemAlloc", |driver| {
        let context = driver.healthy()?;
        driver.forbid_in_capture()?;
        address.put(driver.allocate("cuMemAlloc", Kind::Device, bytes, context)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAllocPitch_v2(
    address: Out<u64>,
    pitch: Out<usize>,
    width: usize,
    height: usize,
    element: u32,
) -> i32 {
    call("cuMemAllocPitch", |driver| {
        let context = driver.healthy()?;
        driver.forbid_in_capture()?;
        if ![4, 8, 16].contains(&element) {
            return fail(
                Code::INVALID_VALUE,
                format!("elements of {element} bytes; 4, 8 and 16 are possible"),
            );
        }
        let row = width.checked_next_multiple_of(PITCH).unwrap_or(usize::MAX);
        let Some(bytes) = row.checked_mul(height) else {
            return fail(
                Code::OUT_OF_MEMORY,
                format!("{height} rows of {width} bytes do not fit"),
            );
        };
        address.put(driver.allocate("cuMemAllocPitch", Kind::Device, bytes, context)?)?;
        pitch.put(row)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAllocManaged(address: Out<u64>, bytes: usize, flags: u32) -> i32 {
    call("cuMemAllocManaged", |driver| {
        let context = driver.healthy()?;
        driver.forbid_in_capture()?;
        let made =
            driver.allocate_shared("cuMemAllocManaged", Kind::Managed, bytes, context, flags)?;
        address.put(made)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFree_v2(address: u64) -> i32 {
    call("cuMemFree", |driver| {
        let context = driver.healthy()?;
        driver.forbid_in_capture()?;
        if address == 0 {
            return Ok(());
        }
        // as a device does: what may still use it comes first
        driver.finish_context(context);
        driver.free(address, &[Kind::Device, Kind::Managed])?;
        driver.check_context(context)
    })
}

fn allocate_async(
    driver: &mut Session,
    call: &'static str,
    address: Out<u64>,
    bytes: usize,
    stream: Handle,
) -> Result<()> {
    let stream = driver.stream(stream)?;
    let context = driver.streams[&stream].context;
    let Some(part) = driver.streams[&stream].capturing.clone() else {
        return address.put(driver.allocate(call, Kind::Device, bytes, context)?);
    };
    let made = driver.allocate(call, Kind::Graph, bytes, context)?;
    let graph = driver.captures[&part.capture].graph;
    driver.graph(graph)?.owned.push(made);
    address.put(made)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAllocAsync(address: Out<u64>, bytes: usize, stream: Handle) -> i32 {
    call("cuMemAllocAsync", |driver| {
        allocate_async(driver, "cuMemAllocAsync", address, bytes, stream)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAllocFromPoolAsync(
    address: Out<u64>,
    bytes: usize,
    pool: Handle,
    stream: Handle,
) -> i32 {
    call("cuMemAllocFromPoolAsync", |driver| {
        driver.pool(pool)?;
        allocate_async(driver, "cuMemAllocFromPoolAsync", address, bytes, stream)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeAsync(address: u64, stream: Handle) -> i32 {
    call("cuMemFreeAsync", |driver| {
        let stream = driver.stream(stream)?;
        if address == 0 {
            return Ok(());
        }
        driver.check(address, 1)?;
        let (base, block) = driver.memory.find(address).expect("it was checked");
        let captured = block.kind == Kind::Graph;
        if base != address || !captured && block.kind != Kind::Device {
            return fail(
                Code::INVALID_VALUE,
                format!("no memory that this call frees starts at {address:#x}"),
            );
        }
        if captured {
            // it lives as long as its graphs
            return driver.submit(stream, Op::Nothing);
        }
        if driver.streams[&stream].capturing.is_some() {
            return fail(
                Code::INVALID_VALUE,
                "a capture can free only what was allocated in it",
            );
        }
        driver.submit(stream, Op::Free(address))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) -> i32 {
    call("cuMemGetInfo", |driver| {
        driver.healthy()?;
        let all = driver.settings.memory;
        free.put((all - driver.memory.used()) as usize)?;
        total.put(all as usize)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemGetAddressRange_v2(base: Out<u64>, bytes: Out<usize>, address: u64) -> i32 {
    call("cuMemGetAddressRange", |driver| {
        driver.healthy()?;
        if let Err(failure) = driver.check(address, 1) {
            return fail(Code::NOT_FOUND, failure.why.unwrap_or_default());
        }
        let (start, block) = driver.memory.find(address).expect("it was checked");
        base.put_if_asked(start);
        bytes.put_if_asked(block.bytes);
        Ok(())
    })
}

/// Advice and prefetches concern managed memory, which is always on both sides.
fn managed(driver: &Session, address: u64, bytes: usize) -> Result<()> {
    match driver.device_place(address, bytes)? {
        Place::Host(_) => Ok(()),
        _ => fail(
            Code::INVALID_VALUE,
            format!("the memory at {address:#x} is not managed"),
        ),
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAdvise(address: u64, bytes: usize, _advice: i32, _device: i32) -> i32 {
    call("cuMemAdvise", |driver| managed(driver, address, bytes))
}

/// The location is a structure of two numbers.
#[unsafe(no_mangle)]
extern "C" fn cuMemAdvise_v2(address: u64, bytes: usize, _advice: i32, _location: u64) -> i32 {
    call("cuMemAdvise", |driver| managed(driver, address, bytes))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPrefetchAsync(address: u64, bytes: usize, _device: i32, stream: Handle) -> i32 {
    call("cuMemPrefetchAsync", |driver| {
        managed(driver, address, bytes)?;
        let stream = driver.stream(stream)?;
        driver.submit(stream, Op::Nothing)
    })
}

/// The location is a structure of two numbers.
#[unsafe(no_mangle)]
extern "C" fn cuMemPrefetchAsync_v2(
    address: u64,
    bytes: usize,
    _location: u64,
    _flags: u32,
    stream: Handle,
) -> i32 {
    call("cuMemPrefetchAsync", |driver| {
        managed(driver, address, bytes)?;
        let stream = driver.stream(stream)?;
        driver.submit(stream, Op::Nothing)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamAttachMemAsync(
    stream: Handle,
    address: u64,
    _bytes: usize,
    _flags: u32,
) -> i32 {
    call("cuStreamAttachMemAsync", |driver| {
        managed(driver, address, 1)?;
        let stream = driver.stream(stream)?;
        driver.submit(stream, Op::Nothing)
    })
}
