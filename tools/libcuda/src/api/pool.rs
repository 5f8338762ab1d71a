//! Memory pools.

use std::collections::BTreeMap;

use crate::boundary::{Bytes, Out};
use crate::code::{Code, Result, fail};
use crate::driver::{Driver, Handle, call};
use crate::memory::Pool;

use super::device::check;

/// Attributes (`CUmemPool_attribute`) that count bytes; the others are kept and have no effect.
const RESERVED: i32 = 5;
const RESERVED_MOST: i32 = 6;
const USED: i32 = 7;
const USED_MOST: i32 = 8;
/// Attributes of 4 bytes; the others have 8.
const SHORT: [i32; 3] = [1, 2, 3];

impl Driver {
    /// A pool that exists.
    pub fn pool(&mut self, handle: Handle) -> Result<&mut Pool> {
        match self.pools.get_mut(&handle) {
            Some(pool) => Ok(pool),
            None => fail(
                Code::INVALID_VALUE,
                format!("{handle:#x} is not a memory pool, or one that was destroyed"),
            ),
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetDefaultMemPool(pool: Out<Handle>, device: i32) -> i32 {
    call("cuDeviceGetDefaultMemPool", |driver| {
        check(device)?;
        pool.put(driver.default_pool)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetMemPool(pool: Out<Handle>, device: i32) -> i32 {
    call("cuDeviceGetMemPool", |driver| {
        check(device)?;
        pool.put(driver.pool)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceSetMemPool(device: i32, pool: Handle) -> i32 {
    call("cuDeviceSetMemPool", |driver| {
        check(device)?;
        driver.pool(pool)?;
        driver.pool = pool;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolCreate(pool: Out<Handle>, properties: Bytes) -> i32 {
    call("cuMemPoolCreate", |driver| {
        if properties.is_null() {
            return fail(Code::INVALID_VALUE, "the properties are null");
        }
        let handle = driver.new_handle();
        driver.pools.insert(handle, Pool::default());
        pool.put(handle)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolDestroy(pool: Handle) -> i32 {
    call("cuMemPoolDestroy", |driver| {
        driver.pool(pool)?;
        if pool == driver.default_pool {
            return fail(
                Code::INVALID_VALUE,
                "the pool of the device cannot be destroyed",
            );
        }
        driver.pools.remove(&pool);
        if driver.pool == pool {
            driver.pool = driver.default_pool;
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolTrimTo(pool: Handle, _bytes: usize) -> i32 {
    call("cuMemPoolTrimTo", |driver| {
        driver.pool(pool)?;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolGetAttribute(pool: Handle, attribute: i32, value: Bytes) -> i32 {
    call("cuMemPoolGetAttribute", |driver| {
        let used = driver.memory.used();
        let known: &BTreeMap<_, _> = &driver.pool(pool)?.attributes;
        let set = known.get(&attribute).copied();
        match attribute {
            RESERVED | RESERVED_MOST | USED | USED_MOST => value.of().put(used),
            short if SHORT.contains(&short) => value.of().put(set.unwrap_or(1) as i32),
            1..=14 => value.of().put(set.unwrap_or(0)),
            _ => fail(
                Code::INVALID_VALUE,
                format!("no pool attribute {attribute}"),
            ),
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolSetAttribute(pool: Handle, attribute: i32, value: Bytes) -> i32 {
    call("cuMemPoolSetAttribute", |driver| {
        let value = match SHORT.contains(&attribute) {
            true => value.of::<i32>().get()? as u64,
            false => value.of::<u64>().get()?,
        };
        driver.pool(pool)?.attributes.insert(attribute, value);
        Ok(())
    })
}
