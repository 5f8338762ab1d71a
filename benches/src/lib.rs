//! Microbenchmarks of the fused ops; see `benches/`. Records of what was measured are in `record/`.
