//! What an address is.

use crate::boundary::{Bytes, In, Out};
use crate::code::{Code, Result, fail};
use crate::driver::{Session, call};
use crate::memory::Kind;

/// Memory types (`CUmemorytype`).
const HOST: u32 = 1;
const DEVICE: u32 = 2;

/// Writes an attribute (`CUpointer_attribute`) of an address.
fn put(driver: &Session, attribute: i32, address: u64, out: Bytes) -> Result<()> {
    let shared = driver.memory.find_host(address as usize);
    let known = shared.or_else(|| driver.memory.find(address));
    let known = known.filter(|(base, block)| {
        !block.freed && (shared.is_some() || address - base < block.bytes as u64)
    });
    let Some((base, block)) = known else {
        return fail(
            Code::INVALID_VALUE,
            format!("{address:#x} is not an address that the driver knows"),
        );
    };
    let on_host = matches!(block.kind, Kind::Pinned | Kind::Registered);
    let offset = match block.host {
        Some(host) if shared.is_some() => address - host.address() as u64,
        _ => address - base,
    };
    match attribute {
        1 => out.of().put(block.context),
        2 => out.of().put(if on_host { HOST } else { DEVICE }),
        3 => out.of().put(base + offset),
        4 => match block.host {
            Some(host) => out.of().put(host.address() + offset as usize),
            None => fail(
                Code::INVALID_VALUE,
                format!("{address:#x} has no address on the host"),
            ),
        },
        6 => out.of().put(0u32),
        7 => out.of().put(block.number),
        8 => out.of().put(u32::from(block.kind == Kind::Managed)),
        9 => out.of().put(0i32),
        10 | 15 => out.of().put(0u32),
        11 => out.of().put(base),
        12 => out.of().put(block.bytes),
        13 => out.of().put(1u32),
        14 => out.of().put(0u64),
        16 => out.of().put(3u32), // read and write
        17 => out.of().put(0usize),
        other => fail(
            Code::NOT_SUPPORTED,
            format!("pointer attribute {other} is not served"),
        ),
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuPointerGetAttribute(out: Bytes, attribute: i32, address: u64) -> i32 {
    call("cuPointerGetAttribute", |driver| {
        driver.healthy()?;
        put(driver, attribute, address, out)
    })
}

/// What an address does not have is written as zero, as cuda.h asks.
#[unsafe(no_mangle)]
extern "C" fn cuPointerGetAttributes(
    count: u32,
    attributes: In<i32>,
    outs: In<Bytes>,
    address: u64,
) -> i32 {
    call("cuPointerGetAttributes", |driver| {
        driver.healthy()?;
        let attributes = attributes.list(count as usize)?;
        let outs = outs.list(count as usize)?;
        for (attribute, out) in attributes.into_iter().zip(outs) {
            if put(driver, attribute, address, out).is_err() {
                match attribute {
                    1 | 3 | 4 | 7 | 11 | 12 | 14 | 17 => out.of().put(0u64)?,
                    9 => out.of().put(-2i32)?,
                    _ => out.of().put(0u32)?,
                }
            }
        }
        Ok(())
    })
}

/// Only "complete copies before returning" can be set; it is kept nowhere, since copies are never seen half done.
#[unsafe(no_mangle)]
extern "C" fn cuPointerSetAttribute(value: In<u32>, attribute: i32, address: u64) -> i32 {
    call("cuPointerSetAttribute", |driver| {
        driver.healthy()?;
        value.get()?;
        driver.check(address, 1)?;
        match attribute {
            6 => Ok(()),
            other => fail(
                Code::INVALID_VALUE,
                format!("pointer attribute {other} cannot be set"),
            ),
        }
    })
}

/// The last place a range was prefetched to: it is on both sides, so the device.
#[unsafe(no_mangle)]
extern "C" fn cuMemRangeGetAttribute(
    out: Out<i32>,
    room: usize,
    attribute: i32,
    address: u64,
    bytes: usize,
) -> i32 {
    call("cuMemRangeGetAttribute", |driver| {
        driver.check(address, bytes)?;
        match (attribute, room) {
            (1, 4) => out.put(0),      // read mostly: no
            (2 | 4, 4) => out.put(-2), // preferred and last location: none
            _ => fail(
                Code::NOT_SUPPORTED,
                format!("attribute {attribute} in {room} bytes is not served"),
            ),
        }
    })
}
