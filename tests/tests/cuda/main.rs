//! Everything on a device: the same code, in processes that find the interpreted driver. What is wrong with a kernel, or with how the
//! driver is used, memory that is left over included, is a finding, and a finding fails the test.

mod devices;
mod graphs;
mod model;
mod ops;
mod process;
