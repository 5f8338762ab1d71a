//! The SwiGLU MLP.

use kernels_cu::swiglu_mlp::{Backward, DoubleBackward, Forward, SwigluMlp};

use super::Cuda;
use crate::Tensor;
use crate::error::Result;

impl Cuda {
    fn mlp(&self, x: &[&Tensor]) -> SwigluMlp {
        let [t, d, ff] = [x[0].shape()[0], x[0].shape()[1], x[1].shape()[0]];
        SwigluMlp::new([t, d, ff], self.kernel_type)
    }

    /// y, g and u of [x, G, U, D].
    pub(crate) fn swiglu_mlp(&self, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let mlp = self.mlp(x);
        let shapes = [[mlp.t, mlp.d], [mlp.t, mlp.ff], [mlp.t, mlp.ff]];
        let results = shapes.map(|shape| self.output(&shape));
        let results: Vec<Tensor> = results.into_iter().collect::<Result<_>>()?;
        let workspace = self.scratch(mlp.workspace())?;
        let x: Vec<_> = x.iter().map(|x| self.view(x)).collect();
        let [y, g, u] = [0, 1, 2].map(|i| self.view(&results[i]));
        let views = Forward {
            x: &x[0],
            gate: &x[1],
            up: &x[2],
            down: &x[3],
            y: &y,
            g: Some(&g),
            u: Some(&u),
            workspace: &workspace,
        };
        self.run_all(mlp.forward(&views))?;
        Ok(results)
    }

    /// Those of dx, dG, dU, dD that are wanted, then dh if dy is there, for [x, G, U, D, g, u] and cotangents [dy, eg, eu].
    pub(crate) fn swiglu_mlp_bwd(
        &self,
        x: &[&Tensor],
        ct: [Option<&Tensor>; 3],
        wanted: [bool; 4],
    ) -> Result<Vec<Tensor>> {
        let mlp = self.mlp(x);
        let wanted = [wanted[0], wanted[1], wanted[2], wanted[3], ct[0].is_some()];
        let results = self.outputs([x[0], x[1], x[2], x[3], x[4]], wanted)?;
        let workspace = self.scratch(mlp.workspace())?;
        let x = [0, 1, 2, 3, 4, 5].map(|i| self.view(x[i]));
        let ct = ct.map(|ct| ct.map(|x| self.view(x)));
        let d = results.each_ref().map(|d| d.as_ref().map(|x| self.view(x)));
        let [dy, eg, eu] = ct.each_ref().map(Option::as_ref);
        let [dx, dgate, dup, ddown, dh] = d.each_ref().map(Option::as_ref);
        let views = Backward {
            x: x.each_ref(),
            dy,
            eg,
            eu,
            dx,
            dgate,
            dup,
            ddown,
            dh,
            workspace: &workspace,
        };
        self.run_all(mlp.backward(&views))?;
        Ok(results.into_iter().flatten().collect())
    }

    /// Those of dx2, dG2, dU2, dD2, dg2, du2, ddy that are wanted, for [x, G, U, D, g, u, dy], cotangents of [dx, dG, dU, dD], and the
    /// cache dh.
    pub(crate) fn swiglu_mlp_bwd_bwd(
        &self,
        x: &[&Tensor],
        ct: [Option<&Tensor>; 4],
        dh: &Tensor,
        wanted: [bool; 7],
    ) -> Result<Vec<Tensor>> {
        let mlp = self.mlp(x);
        let results = self.outputs([0, 1, 2, 3, 4, 5, 6].map(|i| x[i]), wanted)?;
        let workspace = self.scratch(mlp.workspace())?;
        let x = [0, 1, 2, 3, 4, 5, 6].map(|i| self.view(x[i]));
        let ct = ct.map(|ct| ct.map(|x| self.view(x)));
        let d = results.each_ref().map(|d| d.as_ref().map(|x| self.view(x)));
        let [ddx, ddgate, ddup, dddown] = ct.each_ref().map(Option::as_ref);
        let [dx2, dgate2, dup2, ddown2, dg2, du2, ddy] = d.each_ref().map(Option::as_ref);
        let views = DoubleBackward {
            x: x.each_ref(),
            dh: &self.view(dh),
            ddx,
            ddgate,
            ddup,
            dddown,
            dx2,
            dgate2,
            dup2,
            ddown2,
            dg2,
            du2,
            ddy,
            workspace: &workspace,
        };
        self.run_all(mlp.double_backward(&views))?;
        Ok(results.into_iter().flatten().collect())
    }
}
