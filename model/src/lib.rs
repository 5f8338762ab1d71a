//! model

pub mod data;
