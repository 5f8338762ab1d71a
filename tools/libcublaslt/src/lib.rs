//! The plain products of cuBLASLt over the interpreted driver (the crate `libcuda-interpreted`), so that programs that
//! use them for their matrix products run without a GPU. The README says what is served.
//!
//! `unsafe` is in `api` (pointers as C gives them) and `driver` (functions of the driver).

mod api;
mod driver;
mod element;
mod objects;
mod product;
