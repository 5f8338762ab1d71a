//! The functions that programs call, by the names of cuda.h and with its arguments. They read arguments, ask the driver
//! and write results; what they mean is said in NVIDIA's documentation of the CUDA driver API.
#![allow(unsafe_code, non_snake_case)]

mod capture;
mod context;
mod copy;
mod device;
mod event;
mod fill;
mod graph;
mod host;
mod init;
mod kernel;
mod launch;
mod library;
mod link;
mod memory;
mod module;
mod node;
mod occupancy;
mod own;
mod pointer;
mod pool;
mod proc_address;
mod stream;
mod tensor_map;
mod unserved;
