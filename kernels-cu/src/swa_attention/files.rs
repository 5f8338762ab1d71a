//! Device code that all kernels here begin with.

pub(super) type File = (&'static str, &'static str);

pub(super) const BASE: File = ("tile/base.cuh", include_str!("../tile/base.cuh"));
pub(super) const COPY: File = ("tile/copy.cuh", include_str!("../tile/copy.cuh"));
pub(super) const MMA: File = ("tile/mma.cuh", include_str!("../tile/mma.cuh"));
pub(super) const ROWS: File = ("tile/rows.cuh", include_str!("../tile/rows.cuh"));
pub(super) const WINDOW: File = ("window.cuh", include_str!("window.cuh"));
pub(super) const NUMBERS: File = ("numbers.cuh", include_str!("numbers.cuh"));
