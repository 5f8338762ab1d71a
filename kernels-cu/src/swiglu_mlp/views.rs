//! What the MLP reads and writes, and that it all has the sizes it must have.

use super::{NAME, SwigluMlp};
use crate::error::{Error, Result};
use crate::launch::View;

/// Memory of the forward pass.
#[derive(Debug, Clone, Copy)]
pub struct Forward<'v> {
    /// x [t, d].
    pub x: &'v View,
    /// G [ff, d].
    pub gate: &'v View,
    /// U [ff, d].
    pub up: &'v View,
    /// D [d, ff].
    pub down: &'v View,
    /// Room for y [t, d].
    pub y: &'v View,
    /// Room for g [t, ff], if the backward pass is to have it.
    pub g: Option<&'v View>,
    /// Room for u [t, ff], likewise.
    pub u: Option<&'v View>,
    /// At least [`SwigluMlp::workspace`] bytes.
    pub workspace: &'v View,
}

/// Memory of the backward pass: for cotangents that are there, gradients that there is room for.
#[derive(Debug, Clone, Copy)]
pub struct Backward<'v> {
    /// x, G, U, D, g, u.
    pub x: [&'v View; 6],
    /// Cotangent of y [t, d].
    pub dy: Option<&'v View>,
    /// Cotangent of g [t, ff].
    pub eg: Option<&'v View>,
    /// Cotangent of u [t, ff].
    pub eu: Option<&'v View>,
    /// Room for dx [t, d].
    pub dx: Option<&'v View>,
    /// Room for dG [ff, d].
    pub dgate: Option<&'v View>,
    /// Room for dU [ff, d].
    pub dup: Option<&'v View>,
    /// Room for dD [d, ff].
    pub ddown: Option<&'v View>,
    /// Room for dh [t, ff], which the double backward needs.
    pub dh: Option<&'v View>,
    /// At least [`SwigluMlp::workspace`] bytes.
    pub workspace: &'v View,
}

/// Memory of the double backward pass, for a backward pass without eg and eu.
#[derive(Debug, Clone, Copy)]
pub struct DoubleBackward<'v> {
    /// x, G, U, D, g, u, dy.
    pub x: [&'v View; 7],
    /// dh [t, ff], as the backward pass gave it.
    pub dh: &'v View,
    /// Cotangent of dx [t, d].
    pub ddx: Option<&'v View>,
    /// Cotangent of dG [ff, d], in the type of x.
    pub ddgate: Option<&'v View>,
    /// Cotangent of dU [ff, d], likewise.
    pub ddup: Option<&'v View>,
    /// Cotangent of dD [d, ff], likewise.
    pub dddown: Option<&'v View>,
    /// Room for the cotangent of x [t, d].
    pub dx2: Option<&'v View>,
    /// Room for that of G [ff, d].
    pub dgate2: Option<&'v View>,
    /// Room for that of U [ff, d].
    pub dup2: Option<&'v View>,
    /// Room for that of D [d, ff].
    pub ddown2: Option<&'v View>,
    /// Room for that of g [t, ff].
    pub dg2: Option<&'v View>,
    /// Room for that of u [t, ff].
    pub du2: Option<&'v View>,
    /// Room for that of dy [t, d].
    pub ddy: Option<&'v View>,
    /// At least [`SwigluMlp::workspace`] bytes.
    pub workspace: &'v View,
}

/// Views with the names and bytes that they must have.
type Sized<'v> = (&'static str, Option<&'v View>, usize);

/// Fails for the first view of another size.
fn check(mlp: &SwigluMlp, workspace: &View, views: &[Sized]) -> Result<()> {
    let SwigluMlp { t, d, ff, .. } = *mlp;
    let most = 1 << 31;
    if d == 0 || ff == 0 || [t, d, ff].iter().any(|x| *x >= most) {
        return Err(Error::shape(
            NAME,
            format!("{mlp:?}: widths are from 1 to 2^31 - 1, and there are fewer than 2^31 rows"),
        ));
    }
    for (name, view, bytes) in views {
        if let Some(view) = view
            && view.bytes() != *bytes
        {
            let found = view.bytes();
            let message = format!("{name} has {found} bytes, not {bytes}, for {mlp:?}");
            return Err(Error::shape(NAME, message));
        }
    }
    let bytes = mlp.workspace();
    match workspace.bytes() < bytes {
        true => {
            let message = format!("the workspace has less than {bytes} bytes for {mlp:?}");
            Err(Error::shape(NAME, message))
        }
        false => Ok(()),
    }
}

/// Fails if there is room for something that nothing reaches.
fn reached(results: &[(&'static str, Option<&View>, bool)]) -> Result<()> {
    match results
        .iter()
        .find(|(_, view, reached)| view.is_some() && !reached)
    {
        Some((name, ..)) => {
            let message = format!("{name} is zero, because no cotangent reaches it: leave it out");
            Err(Error::shape(NAME, message))
        }
        None => Ok(()),
    }
}

impl SwigluMlp {
    /// Bytes of [t, d], [t, ff], a weight, a weight's gradient.
    fn bytes(&self) -> [usize; 4] {
        let weight = self.d * self.ff;
        [
            self.rows(self.d),
            self.rows(self.ff),
            weight * self.dtype.bytes(),
            weight * self.gradients.bytes(),
        ]
    }
}

impl Forward<'_> {
    pub(super) fn check(&self, mlp: &SwigluMlp) -> Result<()> {
        let [narrow, wide, weight, _] = mlp.bytes();
        let views = [
            ("x", Some(self.x), narrow),
            ("gate", Some(self.gate), weight),
            ("up", Some(self.up), weight),
            ("down", Some(self.down), weight),
            ("y", Some(self.y), narrow),
            ("g", self.g, wide),
            ("u", self.u, wide),
        ];
        check(mlp, self.workspace, &views)
    }
}

/// Names of the inputs of the backward pass.
const INPUTS: [&str; 7] = ["x", "gate", "up", "down", "g", "u", "dy"];

impl Backward<'_> {
    pub(super) fn check(&self, mlp: &SwigluMlp) -> Result<()> {
        let [narrow, wide, weight, gradient] = mlp.bytes();
        let sizes = [narrow, weight, weight, weight, wide, wide];
        let inputs = INPUTS.iter().zip(self.x).zip(sizes);
        let mut views: Vec<Sized> = inputs.map(|((n, v), size)| (*n, Some(v), size)).collect();
        views.extend([
            ("dy", self.dy, narrow),
            ("eg", self.eg, wide),
            ("eu", self.eu, wide),
            ("dx", self.dx, narrow),
            ("dgate", self.dgate, gradient),
            ("dup", self.dup, gradient),
            ("ddown", self.ddown, gradient),
            ("dh", self.dh, wide),
        ]);
        check(mlp, self.workspace, &views)?;
        let [dy, eg, eu] = [self.dy, self.eg, self.eu].map(|v| v.is_some());
        reached(&[
            ("dx", self.dx, dy || eg || eu),
            ("dgate", self.dgate, dy || eg),
            ("dup", self.dup, dy || eu),
            ("ddown", self.ddown, dy),
            ("dh", self.dh, dy),
        ])
    }
}

impl DoubleBackward<'_> {
    pub(super) fn check(&self, mlp: &SwigluMlp) -> Result<()> {
        let [narrow, wide, weight, gradient] = mlp.bytes();
        let sizes = [narrow, weight, weight, weight, wide, wide, narrow];
        let inputs = INPUTS.iter().zip(self.x).zip(sizes);
        let mut views: Vec<Sized> = inputs.map(|((n, v), size)| (*n, Some(v), size)).collect();
        views.extend([
            ("dh", Some(self.dh), wide),
            ("ddx", self.ddx, narrow),
            ("ddgate", self.ddgate, weight),
            ("ddup", self.ddup, weight),
            ("dddown", self.dddown, weight),
            ("dx2", self.dx2, narrow),
            ("dgate2", self.dgate2, gradient),
            ("dup2", self.dup2, gradient),
            ("ddown2", self.ddown2, gradient),
            ("dg2", self.dg2, wide),
            ("du2", self.du2, wide),
            ("ddy", self.ddy, narrow),
        ]);
        check(mlp, self.workspace, &views)?;
        let [ddx, ddgate, ddup, dddown] =
            [self.ddx, self.ddgate, self.ddup, self.dddown].map(|v| v.is_some());
        let inner = ddx || ddgate || ddup;
        reached(&[
            ("dx2", self.dx2, ddgate || ddup),
            ("dgate2", self.dgate2, ddx),
            ("dup2", self.dup2, ddx),
            ("ddown2", self.ddown2, inner),
            ("dg2", self.dg2, inner || dddown),
            ("du2", self.du2, inner || dddown),
            ("ddy", self.ddy, inner || dddown),
        ])
    }
}
