//! What the gradient-correctness suite shares: seeded inputs, functions raised to their derivatives, and comparisons that
//! say where two results differ. The tests iterate over [`ops::list::cases`], so a new line there is a tested op.

mod compare;
mod random;
mod tower;

pub use compare::{Failures, Place, Worst, largest, longest_sum, worst};
pub use random::Random;
pub use tower::{Fun, raise, shapes, values};
