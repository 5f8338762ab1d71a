//! Devices.

use std::ffi::c_char;

use crate::boundary::{Out, Text};
use crate::chip;
use crate::code::{Code, Result, fail};
use crate::driver::call;

/// `CUdevprop`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Properties {
    max_threads_per_block: i32,
    max_threads: [i32; 3],
    max_grid: [i32; 3],
    shared_per_block: i32,
    constant: i32,
    warp: i32,
    pitch: i32,
    registers: i32,
    clock: i32,
    texture_alignment: i32,
}

/// Where the device claims to sit.
const BUS: &str = "0000:00:00.0";

/// Fails unless a device is the one there is.
pub fn check(device: i32) -> Result<()> {
    match device {
        0 => Ok(()),
        _ => fail(
            Code::INVALID_DEVICE,
            format!("no device {device}; there is one, number 0"),
        ),
    }
}

/// Writes a text with its zero, cut off where the place ends.
fn put_text(out: Out<c_char>, room: i32, text: &str) -> Result<()> {
    if out.is_null() || room < 1 {
        return fail(Code::INVALID_VALUE, "no room for a text");
    }
    let kept = text.bytes().take(room as usize - 1).chain([0]);
    out.put_all(&kept.map(|byte| byte as c_char).collect::<Vec<_>>());
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetCount(count: Out<i32>) -> i32 {
    call("cuDeviceGetCount", |_| count.put(1))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGet(device: Out<i32>, ordinal: i32) -> i32 {
    call("cuDeviceGet", |_| {
        check(ordinal)?;
        device.put(ordinal)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetName(name: Out<c_char>, room: i32, device: i32) -> i32 {
    call("cuDeviceGetName", |driver| {
        check(device)?;
        put_text(name, room, driver.settings.chip.name)
    })
}

fn total_memory(name: &str, bytes: Out<usize>, device: i32) -> i32 {
    call(name, |driver| {
        check(device)?;
        bytes.put(driver.settings.memory as usize)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: i32) -> i32 {
    total_memory("cuDeviceTotalMem", bytes, device)
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetAttribute(value: Out<i32>, attribute: i32, device: i32) -> i32 {
    call("cuDeviceGetAttribute", |driver| {
        check(device)?;
        match driver.settings.chip.attribute(attribute) {
            Some(known) => value.put(known),
            None => fail(
                Code::INVALID_VALUE,
                format!("no device attribute {attribute}"),
            ),
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceComputeCapability(major: Out<i32>, minor: Out<i32>, device: i32) -> i32 {
    call("cuDeviceComputeCapability", |driver| {
        check(device)?;
        let capability = driver.settings.chip.capability;
        major.put(capability.0)?;
        minor.put(capability.1)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetProperties(properties: Out<Properties>, device: i32) -> i32 {
    call("cuDeviceGetProperties", |driver| {
        check(device)?;
        properties.put(Properties {
            max_threads_per_block: 1024,
            max_threads: [1024, 1024, 64],
            max_grid: [i32::MAX, 65535, 65535],
            shared_per_block: chip::SHARED_DEFAULT,
            constant: 65536,
            warp: 32,
            pitch: i32::MAX,
            registers: driver.settings.chip.registers(),
            clock: driver.settings.chip.clock,
            texture_alignment: 512,
        })
    })
}

fn uuid(name: &str, uuid: Out<[u8; 16]>, device: i32) -> i32 {
    call(name, |driver| {
        check(device)?;
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&driver.settings.chip.name.as_bytes()[..4]);
        uuid.put(bytes)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetUuid(out: Out<[u8; 16]>, device: i32) -> i32 {
    uuid("cuDeviceGetUuid", out, device)
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetUuid_v2(out: Out<[u8; 16]>, device: i32) -> i32 {
    uuid("cuDeviceGetUuid", out, device)
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetPCIBusId(out: Out<c_char>, room: i32, device: i32) -> i32 {
    call("cuDeviceGetPCIBusId", |_| {
        check(device)?;
        put_text(out, room, BUS)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetByPCIBusId(device: Out<i32>, bus: Text) -> i32 {
    call("cuDeviceGetByPCIBusId", |_| match bus.get()?.as_str() {
        BUS => device.put(0),
        other => fail(
            Code::INVALID_DEVICE,
            format!("no device at {other}; there is one, at {BUS}"),
        ),
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceCanAccessPeer(can: Out<i32>, device: i32, peer: i32) -> i32 {
    call("cuDeviceCanAccessPeer", |_| {
        check(device)?;
        check(peer)?;
        can.put(0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetExecAffinitySupport(can: Out<i32>, _kind: i32, device: i32) -> i32 {
    call("cuDeviceGetExecAffinitySupport", |_| {
        check(device)?;
        can.put(0)
    })
}
