//! What a launch must satisfy: its shape and its arguments.

use super::launch::{Arg, Launch};
use crate::error::{Error, Result};
use crate::program::{Program, SHARED_START};
use crate::text::ast::Threads;

/// Shared memory of a block: what Hopper has, the kilobyte below the first variable left out.
const SHARED_LIMIT: u64 = 227 << 10;

/// Whether a kernel can be launched so.
pub(super) fn check(program: &Program, launch: &Launch) -> Result<()> {
    let error = |message: String| {
        Err(Error::Launch {
            kernel: program.name.clone(),
            message,
        })
    };
    let Launch {
        grid,
        block,
        dynamic_shared,
        cluster,
    } = launch;
    let size = cluster
        .iter()
        .fold(1u64, |all, n| all.saturating_mul(u64::from(*n)));
    if !(1..=16).contains(&size) || (0..3).any(|axis| !grid[axis].is_multiple_of(cluster[axis])) {
        return error(format!(
            "clusters of {cluster:?} blocks in a grid of {grid:?}; each must divide the grid, and a cluster has 1 to 16"
        ));
    }
    if program.cluster.is_some_and(|wanted| wanted != *cluster) {
        return error(format!(
            "clusters of {cluster:?} blocks; the kernel is compiled for {:?}",
            program.cluster.unwrap_or_default()
        ));
    }
    let threads = block
        .iter()
        .fold(1u64, |all, n| all.saturating_mul(u64::from(*n)));
    if grid.contains(&0) || grid[0] > i32::MAX as u32 || grid[1] > 65535 || grid[2] > 65535 {
        return error(format!(
            "a grid of {grid:?} blocks; each must be at least 1, y and z at most 65535"
        ));
    }
    if !(1..=1024).contains(&threads) {
        return error(format!(
            "a block of {block:?} threads; there must be 1 to 1024"
        ));
    }
    match program.threads {
        Some(Threads::Exactly(wanted)) if wanted != *block => {
            return error(format!(
                "a block of {block:?} threads; the kernel is compiled for {wanted:?}"
            ));
        }
        Some(Threads::AtMost(most)) if threads > u64::from(most) => {
            return error(format!(
                "{threads} threads per block; the kernel is compiled for {most} at most"
            ));
        }
        _ => {}
    }
    let shared = program.shared_end - SHARED_START + u64::from(*dynamic_shared);
    if shared > SHARED_LIMIT {
        return error(format!(
            "{shared} bytes of shared memory; a block has {SHARED_LIMIT}"
        ));
    }
    if program.local_bytes > 512 << 10 {
        return error(format!(
            "{} bytes of local memory; a thread has 524288",
            program.local_bytes
        ));
    }
    Ok(())
}

/// The bytes of the arguments, if they are those of the kernel.
pub(super) fn params(program: &Program, args: &[Arg]) -> Result<Vec<u8>> {
    let error = |message: String| {
        Err(Error::Launch {
            kernel: program.name.clone(),
            message,
        })
    };
    if args.len() != program.params.len() {
        return error(format!(
            "{} arguments; the kernel has {}",
            args.len(),
            program.params.len()
        ));
    }
    let mut bytes = vec![0; program.param_bytes];
    for (arg, param) in args.iter().zip(&program.params) {
        if arg.0.len() != param.bytes {
            return error(format!(
                "{} has {} bytes, not {}",
                param.name,
                param.bytes,
                arg.0.len()
            ));
        }
        bytes[param.offset..param.offset + param.bytes].copy_from_slice(&arg.0);
    }
    Ok(bytes)
}
