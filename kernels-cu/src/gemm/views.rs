//! What a product reads and writes, and that it all has the sizes it must have.

use super::Gemm;
use crate::error::{Error, Result};
use crate::launch::View;
use crate::program::DType;

/// Memory of a [`Gemm`].
#[derive(Debug, Clone, Copy)]
pub struct Views<'v> {
    /// A, then B.
    pub factors: [&'v View; 2],
    /// Factors of a second product of the same shapes, which is added to the first before `alpha` counts.
    pub second: Option<[&'v View; 2]>,
    /// C.
    pub c: &'v View,
    /// Room for C once more, in bf16.
    pub shadow: Option<&'v View>,
    /// Room for [`Gemm::squares`] f32: partial sums of the squares of C.
    pub squares: Option<&'v View>,
    /// At least [`Gemm::workspace`] bytes.
    pub workspace: Option<&'v View>,
}

impl<'v> Views<'v> {
    /// Two factors and the result.
    pub fn new(a: &'v View, b: &'v View, c: &'v View) -> Self {
        Views {
            factors: [a, b],
            second: None,
            c,
            shadow: None,
            squares: None,
            workspace: None,
        }
    }
}

impl Gemm {
    /// Fails for views of other sizes, and for sizes that no launch has.
    pub(super) fn check(&self, views: &Views) -> Result<()> {
        let Gemm {
            batch,
            m,
            n,
            k,
            input,
            output,
            ..
        } = *self;
        let fail = |message: String| Err(Error::shape("gemm", message));
        if output == DType::BF16 && input == DType::F32 {
            return fail("factors of f32 have a result of f32, not bf16".into());
        }
        let most = 1 << 31;
        let blocks = n.div_ceil(64).max(batch * 32);
        if [m, n, k].iter().any(|x| *x >= most) || blocks > 65535 {
            return fail(format!(
                "{batch} products of [{m}, {n}] over {k} are too large: sizes are below 2^31, batches below 2047, n below 4 million"
            ));
        }
        let products = 1 + usize::from(views.second.is_some());
        let elements = self.elements();
        let c = elements * output.bytes();
        let [a, b] = [batch * m * k, batch * k * n].map(|x| x * input.bytes());
        let exact = [
            ("A", Some(views.factors[0]), a),
            ("B", Some(views.factors[1]), b),
        ];
        let second = views.second.map_or([None; 2], |x| x.map(Some));
        let rest = [
            ("A2", second[0], a),
            ("B2", second[1], b),
            ("C", Some(views.c), c),
            ("its shadow", views.shadow, elements * 2),
            ("sums of squares", views.squares, self.squares(products) * 4),
        ];
        for (name, view, bytes) in exact.into_iter().chain(rest) {
            if let Some(view) = view
                && view.bytes() != bytes
            {
                return fail(format!(
                    "{name} has {} bytes, not {bytes}, for {self:?}",
                    view.bytes()
                ));
            }
        }
        let workspace = self.workspace(products);
        match views.workspace.map_or(0, View::bytes) < workspace {
            true => fail(format!(
                "the workspace has less than {workspace} bytes for {self:?}"
            )),
            false => Ok(()),
        }
    }
}
