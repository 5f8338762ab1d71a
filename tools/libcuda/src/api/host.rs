//! Pinned and registered memory of the host.

use crate::boundary::{Bytes, Out};
use crate::code::{Code, fail};
use crate::driver::call;
use crate::memory::Kind;

fn allocate(name: &'static str, address: Out<usize>, bytes: usize, flags: u32) -> i32 {
    call(name, |driver| {
        let context = driver.healthy()?;
        driver.forbid_in_capture()?;
        let made = driver.allocate_shared(name, Kind::Pinned, bytes, context, flags)?;
        address.put(made as usize)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAllocHost_v2(address: Out<usize>, bytes: usize) -> i32 {
    allocate("cuMemAllocHost", address, bytes, 0)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostAlloc(address: Out<usize>, bytes: usize, flags: u32) -> i32 {
    allocate("cuMemHostAlloc", address, bytes, flags)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeHost(memory: Bytes) -> i32 {
    call("cuMemFreeHost", |driver| {
        let context = driver.healthy()?;
        driver.forbid_in_capture()?;
        driver.finish_context(context);
        driver.free(memory.address() as u64, &[Kind::Pinned])?;
        driver.check_context(context)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostRegister_v2(memory: Bytes, bytes: usize, flags: u32) -> i32 {
    call("cuMemHostRegister", |driver| {
        let context = driver.healthy()?;
        driver.forbid_in_capture()?;
        driver.register(memory.memory(bytes), context, flags)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostUnregister(memory: Bytes) -> i32 {
    call("cuMemHostUnregister", |driver| {
        let context = driver.healthy()?;
        driver.forbid_in_capture()?;
        let found = driver.memory.find_host(memory.address());
        let found = found.filter(|(_, block)| {
            let host = block.host.expect("memory of the host");
            block.kind == Kind::Registered && host.address() == memory.address()
        });
        let Some((base, _)) = found else {
            return fail(
                Code::HOST_MEMORY_NOT_REGISTERED,
                format!("no registered memory starts at {:#x}", memory.address()),
            );
        };
        driver.finish_context(context);
        driver.free(base, &[Kind::Registered])?;
        driver.check_context(context)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostGetDevicePointer_v2(device: Out<u64>, memory: Bytes, _flags: u32) -> i32 {
    call("cuMemHostGetDevicePointer", |driver| {
        driver.healthy()?;
        let Some((base, block)) = driver.memory.find_host(memory.address()) else {
            return fail(
                Code::INVALID_VALUE,
                format!(
                    "the memory at {:#x} is neither pinned nor registered",
                    memory.address()
                ),
            );
        };
        let host = block.host.expect("memory of the host");
        device.put(base + (memory.address() - host.address()) as u64)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostGetFlags(flags: Out<u32>, memory: Bytes) -> i32 {
    call("cuMemHostGetFlags", |driver| {
        driver.healthy()?;
        match driver.memory.find_host(memory.address()) {
            Some((_, block)) => flags.put(block.flags),
            None => fail(
                Code::INVALID_VALUE,
                format!("the memory at {:#x} is not pinned", memory.address()),
            ),
        }
    })
}
