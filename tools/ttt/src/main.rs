//! The program `ttt`.
fn main() {}
