//! Runs programs.

mod asynchronous;
mod atomic;
mod barrier;
mod block;
mod bulk;
mod bytes;
mod cluster;
mod collective;
mod hopper;
mod launch;
mod matrix;
mod mbarrier;
mod memory;
mod products;
mod proxy;
pub(crate) mod registers;
mod shared;
mod warp;

pub use launch::{Arg, Asynchrony, Launch, Options, Report};
