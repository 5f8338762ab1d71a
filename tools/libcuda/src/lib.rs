//! The CUDA driver API over the interpreter of PTX (the crate `ptx`): programs that use CUDA run without a GPU, and what
//! is wrong with their kernels and with their use of the driver is found. The README says what is served.
//!
//! The library that programs load is `libcuda_interpreted.so`. It is never called `libcuda.so`, so that it never stands
//! in the way of a real driver; [`links`] makes a folder in which it is, for those programs that are to find it.
//!
//! `unsafe` is in three places: `boundary` (pointers as C gives them), `host` (memory and functions of the program), and
//! the attribute that exports the functions of `api`.

mod api;
mod boundary;
mod capture;
mod chip;
mod code;
mod context;
mod driver;
mod event;
mod graph;
mod host;
mod image;
mod launch;
pub mod links;
mod memory;
mod module;
mod queue;
mod report;
mod settings;
mod stream;
mod work;
