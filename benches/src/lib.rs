//! Microbenchmarks of the fused ops at orders 0 (forward), 1 (backward) and 2 (double backward): what they run, what it costs,
//! and what the machine could do. `benches/fused.rs` times them; records of what was measured are in `record/`.

pub mod case;
pub mod cases;
pub mod check;
pub mod kernels;
pub mod level;
pub mod machine;
pub mod table;
