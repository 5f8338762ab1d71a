//! Attention over a sliding window: right, and the same for any number of threads and with checks off.

#[path = "../examples/speed/attention.rs"]
mod attention;

use attention::Attention;
use ptx::{Asynchrony, Class, Options};

#[test]
fn a_window_with_a_ragged_end() {
    let kernel = attention::kernel().unwrap_or_else(|e| panic!("{e}"));
    let off = Options {
        checks: false,
        counters: false,
        ..Options::default()
    };
    let early = Options {
        asynchrony: Asynchrony::Early,
        ..Options::default()
    };
    let mut runs = vec![];
    for (threads, options) in [
        (1, Options::default()),
        (3, Options::default()),
        (2, early),
        (2, off),
    ] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let mut attention = Attention::new(2, 200, 77).expect("buffers");
        let report = pool
            .expect("threads")
            .install(|| attention.run(&kernel, &options));
        let report = report.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(report.findings, []);
        let errors = attention.errors().expect("buffers");
        assert!(errors[0] < 1e-2 && errors[1] < 1e-4, "{errors:?}");
        runs.push((report, attention.results().expect("buffers")));
    }
    let (first, rest) = runs.split_first().expect("four runs");
    assert_eq!(rest[0], *first);
    assert_eq!(rest[1], *first);
    assert_eq!(rest[2].1, first.1);
    let (on, off) = (&first.0.counters, &rest[2].0.counters);
    assert_eq!(off.classes, on.classes);
    assert_eq!(on.total.matrix_flops, 4096 * on.class(Class::Matrix));
    // the pieces of a tile are laid out without conflicts
    let loads = on
        .lines
        .iter()
        .filter(|line| line.class == Class::LoadShared);
    assert!(loads.clone().count() > 0);
    for line in loads {
        assert_eq!(line.work.shared_wavefronts, 4 * line.work.instructions);
    }
}
