//! How many blocks fit a multiprocessor. Registers are unknown to an interpreter and do not count.

use crate::boundary::{In, Out, SizeFunction, shared_of};
use crate::code::{Code, Result, fail};
use crate::driver::{Handle, call};

use super::launch::Config;

fn threads(block: i32) -> Result<u64> {
    match block {
        1.. => Ok(block as u64),
        _ => fail(Code::INVALID_VALUE, format!("a block of {block} threads")),
    }
}

fn blocks(name: &str, out: Out<i32>, function: Handle, block: i32, dynamic_shared: usize) -> i32 {
    call(name, |driver| {
        out.put(driver.occupancy(function, threads(block)?, dynamic_shared as u64)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    out: Out<i32>,
    function: Handle,
    block: i32,
    dynamic_shared: usize,
) -> i32 {
    let name = "cuOccupancyMaxActiveBlocksPerMultiprocessor";
    blocks(name, out, function, block, dynamic_shared)
}

#[unsafe(no_mangle)]
extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    out: Out<i32>,
    function: Handle,
    block: i32,
    dynamic_shared: usize,
    _flags: u32,
) -> i32 {
    let name = "cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags";
    blocks(name, out, function, block, dynamic_shared)
}

fn best(
    name: &str,
    grid: Out<i32>,
    block: Out<i32>,
    function: Handle,
    shared: (SizeFunction, usize),
    limit: i32,
) -> i32 {
    call(name, |driver| {
        let (threads, blocks) =
            driver.best_block(function, limit, |n| shared_of(shared.0, shared.1, n))?;
        grid.put(blocks)?;
        block.put(threads)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuOccupancyMaxPotentialBlockSize(
    grid: Out<i32>,
    block: Out<i32>,
    function: Handle,
    shared_of_block: SizeFunction,
    dynamic_shared: usize,
    limit: i32,
) -> i32 {
    let name = "cuOccupancyMaxPotentialBlockSize";
    let shared = (shared_of_block, dynamic_shared);
    best(name, grid, block, function, shared, limit)
}

#[unsafe(no_mangle)]
extern "C" fn cuOccupancyMaxPotentialBlockSizeWithFlags(
    grid: Out<i32>,
    block: Out<i32>,
    function: Handle,
    shared_of_block: SizeFunction,
    dynamic_shared: usize,
    limit: i32,
    _flags: u32,
) -> i32 {
    let name = "cuOccupancyMaxPotentialBlockSizeWithFlags";
    let shared = (shared_of_block, dynamic_shared);
    best(name, grid, block, function, shared, limit)
}

#[unsafe(no_mangle)]
extern "C" fn cuOccupancyAvailableDynamicSMemPerBlock(
    bytes: Out<usize>,
    function: Handle,
    blocks: i32,
    block: i32,
) -> i32 {
    call("cuOccupancyAvailableDynamicSMemPerBlock", |driver| {
        threads(block)?;
        bytes.put(driver.shared_left(function, blocks)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuOccupancyMaxPotentialClusterSize(
    size: Out<i32>,
    function: Handle,
    config: In<Config>,
) -> i32 {
    call("cuOccupancyMaxPotentialClusterSize", |driver| {
        config.get()?;
        let large = driver.function(function)?.large_clusters;
        size.put(match (driver.settings.chip.capability.0, large) {
            (..9, _) => 1,
            (_, false) => 8,
            (_, true) => 16,
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuOccupancyMaxActiveClusters(
    count: Out<i32>,
    function: Handle,
    config: In<Config>,
) -> i32 {
    call("cuOccupancyMaxActiveClusters", |driver| {
        let shape = config.get()?.shape()?;
        let threads = shape.block.iter().map(|n| u64::from(*n)).product();
        let blocks = driver.occupancy(function, threads, u64::from(shape.dynamic_shared))?;
        let compiled = driver.function(function)?.kernel.cluster();
        let cluster = shape.cluster.or(compiled).unwrap_or([1; 3]);
        let size: u32 = cluster.iter().product();
        count.put(blocks * driver.settings.chip.multiprocessors() / size.max(1) as i32)
    })
}
