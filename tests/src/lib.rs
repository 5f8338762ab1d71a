//! What the gradient-correctness suite shares: seeded inputs, functions raised to their derivatives, and comparisons that
//! say where two results differ. The tests iterate over [`ops::list::cases`], so a new line there is a tested op.

mod compare;
pub mod interpreted;
mod levels;
mod random;
mod tower;

pub use compare::{Failures, Place, Worst, dot, largest, longest_sum, worst};
pub use levels::{Closest, compare_f32, compare_f64};
pub use random::Random;
pub use tower::{Fun, orders, raise, values};
