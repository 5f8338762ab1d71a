//! Code compiled for the vector instructions of several machines, of which the present one's is run.

/// Runs `f` compiled for this machine. It must be `#[inline(always)]`, and what it calls is compiled so only as far as
/// it is inlined.
#[inline(always)]
pub(crate) fn wide<T>(f: impl FnMut() -> T) -> T {
    pulp::Arch::new().dispatch(Wide(f))
}

/// A large closure is not inlined when it is handed over by itself.
struct Wide<F>(F);

impl<T, F: FnMut() -> T> pulp::NullaryFnOnce for Wide<F> {
    type Output = T;

    #[inline(always)]
    fn call(mut self) -> T {
        (self.0)()
    }
}
