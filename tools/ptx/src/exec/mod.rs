//! Runs programs.

mod asynchronous;
mod atomic;
mod barrier;
mod block;
mod collective;
mod fragment;
mod launch;
mod matrix;
mod memory;
mod product;
pub(crate) mod registers;
mod rows;
mod shared;
mod warp;

pub use launch::{Arg, Asynchrony, Launch, Options, Report};
