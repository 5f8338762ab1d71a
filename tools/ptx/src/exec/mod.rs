//! Runs programs.

mod asynchronous;
mod atomic;
mod barrier;
mod block;
mod bulk;
mod bytes;
mod check;
mod cluster;
mod collective;
mod count;
mod departing;
mod descriptor;
mod factors;
mod fragment;
mod hopper;
mod launch;
mod matrix;
mod mbarrier;
mod memory;
mod print;
mod product;
mod proxy;
pub(crate) mod registers;
mod rows;
mod shared;
mod tile;
mod warp;
mod warpgroup;

pub use launch::{Arg, Asynchrony, Launch, Options, Report};
