//! What the cost model says of full sizes: estimates, not measurements.

use kernels_cu::swa_attention::{
    Caches, Inputs, Sizes, backward, backward_workspace, double_backward,
    double_backward_workspace, forward,
};
use kernels_cu::{DType, Launch};
use ptx::{Asynchrony, Chip};
use tests::interpreted::Interpreted;

/// A mini-batch of the paper behind its window, 32 heads.
fn sizes(h: usize) -> Sizes {
    Sizes {
        dtype: DType::BF16,
        t: 1024,
        c: 8192,
        n: 32,
        m: 32,
        h,
        used: h,
        window: 8192,
    }
}

/// Share of a chip's bf16 peak that launches reach, counting the operations of the leanest algorithm alone.
fn share(device: &mut Interpreted, what: &str, launches: &[Launch], chip: &Chip) -> f64 {
    let mut seconds = 0.0;
    for launch in launches {
        let estimate = device.estimate(launch, chip, 37);
        let parts = estimate
            .parts
            .iter()
            .map(|part| format!("{} {:.0} us", part.name, part.seconds * 1e6));
        println!(
            "  {} {}: {}; {} blocks",
            chip.name,
            launch.entry(),
            parts.collect::<Vec<_>>().join(", "),
            estimate.occupancy.blocks
        );
        seconds += estimate.seconds;
    }
    let flops: u64 = launches.iter().map(|launch| launch.cost().flops).sum();
    let peak = chip.matrix_flops * chip.clock * chip.multiprocessors as f64;
    let share = flops as f64 / seconds / peak;
    println!(
        "{} {what}: {:.0} us, {:.1} % of the peak (estimate)",
        chip.name,
        seconds * 1e6,
        share * 100.0
    );
    share
}

#[test]
fn full_sizes_reach_their_share_of_the_peak() {
    let Some(mut device) = Interpreted::new(Asynchrony::Late) else {
        return;
    };
    let device = &mut device;
    for h in [64, 80] {
        let sizes = sizes(h);
        let Sizes {
            dtype, t, c, n, m, ..
        } = sizes;
        let mut queries = || device.output(t * n * h, dtype);
        let [q, do_, o, a, dq, dq2, ddo] = std::array::from_fn(|_| queries());
        let mut cached = || device.output(c * m * h, dtype);
        let [k0, v0, dk0, dv0] = std::array::from_fn(|_| cached());
        let mut current = || device.output(t * m * h, dtype);
        let [k, v, b, c, dk, dv] = std::array::from_fn(|_| current());
        let lse = device.output(t * n, DType::F32);
        let x = Inputs {
            q: &q,
            cached: [&k0, &v0],
            current: [&k, &v],
        };
        let caches = Caches { o: &o, lse: &lse };
        let forward = forward(&sizes, &x, &o, &lse).expect("a launch");
        let workspace = device.output(backward_workspace(&sizes) / 4, DType::F32);
        let backward = |d| backward(&sizes, &x, &do_, &caches, d, &workspace).expect("launches");
        let inner = backward([Some(&dq), None, None, Some(&dk), Some(&dv)]);
        let outer = backward([&dq, &dk0, &dv0, &dk, &dv].map(Some));
        let room = device.output(double_backward_workspace(&sizes) / 4, DType::F32);
        let ct = [Some(&a), None, None, Some(&b), Some(&c)];
        let d = [&dq2, &dk0, &dv0, &dk, &dv, &ddo].map(Some);
        let double = double_backward(&sizes, &x, &do_, &caches, ct, d, &room).expect("launches");
        for (what, launches, least) in [
            ("forward", vec![forward], 0.6),
            ("inner backward", inner, 0.5),
            ("full backward", outer, 0.5),
            ("double backward", double, 0.45),
        ] {
            let what = format!("{what}, head {h}");
            let share = share(device, &what, &launches, &Chip::A100);
            assert!(share >= least, "{what}: {share}");
        }
    }
}
