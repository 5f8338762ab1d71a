//! Work that goes to the device as graphs.

use ::model::Model;
use ::model::session::Session;
use ::ops::{DType, Tensor, values};

use crate::model::{CUDA, config, tokens};
use crate::process::{Calls, mark, on_device, traced};

fn tensor(first: f64) -> Tensor {
    let x: Vec<f64> = (0..24).map(|i| first + f64::from(i)).collect();
    let x = Tensor::from_f64s(&[4, 6], DType::F32, &x).expect("as many numbers");
    x.to(CUDA).expect("a device")
}

/// Uploads, kernels, copies and fills, with buffers given back and taken again on the way.
fn chain(x: &Tensor, s: f64) -> Tensor {
    let mut rows = x.full_like(&[8, 6], 0.0).expect("zeros");
    for i in 0..2 {
        let y = values::linear(x, &tensor(s).rows(0, 2 + i).expect("rows")).expect("a product");
        let mut z = x.clone();
        z.scale_assign(s + i as f64).expect("a product");
        rows.put_rows(4 * i, &z).expect("rows");
        z.add_assign(&tensor(s)).expect("a sum");
        rows.move_rows(1..3, 5).expect("rows");
        assert_eq!(y.shape(), [4, 2 + i]);
    }
    rows
}

#[test]
fn graphs_do_what_their_work_does_alone() {
    if !on_device("graphs::graphs_do_what_their_work_does_alone") {
        return;
    }
    let x = tensor(-3.0);
    let numbers = [0.5, -1.25, 3.0, 0.0];
    let alone = numbers.map(|s| chain(&x, s).to_f64s());
    // alone, made, set, set; then two that differ, in one
    for (s, alone) in numbers.iter().zip(&alone) {
        let y = CUDA.graph(|| chain(&x, *s)).expect("a graph");
        assert_eq!(y.to_f64s(), *alone);
    }
    for _ in 0..3 {
        let both = || [chain(&x, numbers[1]), chain(&x, numbers[2])];
        // graphs within a graph are part of it
        let outer = || CUDA.graph(both).expect("a graph");
        let y = CUDA.graph(outer).expect("a graph");
        assert_eq!(
            y.map(|y| y.to_f64s()),
            [&alone[1..2], &alone[2..3]].map(|x| x[0].clone())
        );
        // a read does not wait for the end
        let read = || {
            let first = chain(&x, numbers[0]).to_f64s();
            (first, chain(&x, numbers[3]))
        };
        let (first, second) = CUDA.graph(read).expect("a graph");
        assert_eq!(
            [first, second.to_f64s()],
            [alone[0].clone(), alone[3].clone()]
        );
    }
    // what was asked for before a panic is not lost, nor does anything wait for ever after it
    let mut y = x.clone();
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let fails = || {
            y.scale_assign(2.0).expect("a product");
            panic!("planned");
        };
        CUDA.graph(fails).expect("a graph")
    }));
    panic.expect_err("planned");
    y.scale_assign(0.5).expect("a product");
    assert_eq!(y.to_f64s(), x.to_f64s());
}

/// Each text is read three times from the same state: first its work goes alone, then it makes graphs, then it sets what differs.
#[test]
fn sessions_give_the_same_bits_as_graphs() {
    if !on_device("graphs::sessions_give_the_same_bits_as_graphs") {
        return;
    }
    let model = Model::random(&config(), 3, DType::F32).expect("a model");
    let start = Session::new(&model.to(CUDA).expect("a device"), true).expect("a session");
    let run = || {
        let mut session = start.clone();
        let mut all = session.read(&tokens(1, 1)).expect("losses");
        for token in [3, 5, 8, 2, 9] {
            all.extend(session.logits().expect("logits"));
            all.extend(session.read(&[token]).expect("a loss"));
        }
        let fast = session.fast();
        all.extend(
            fast.iter()
                .flat_map(|f| f.each().map(Tensor::to_f64s))
                .flatten(),
        );
        all
    };
    let first = run();
    assert!(first.iter().all(|x| x.is_finite()));
    for _ in 0..3 {
        assert_eq!(run(), first);
    }
}

/// Tokens whose calls are counted: whole mini-batches of four.
const WRITTEN: usize = 8;
/// Tokens before them.
const WARM: usize = 100;

#[test]
fn a_token_is_one_graph() {
    let test = "graphs::a_token_is_one_graph";
    if traced() {
        let model = Model::random(&config(), 3, DType::F32).expect("a model");
        let model = model.to(CUDA).expect("a device");
        let mut session = Session::new(&model, true).expect("a session");
        session.read(&tokens(1, 1)).expect("losses");
        let mut write = |count| {
            for i in 0..count as u32 {
                session.logits().expect("logits");
                session.read(&[i % 23]).expect("a loss");
            }
        };
        // until caches have grown, and every kind of token has come twice
        write(WARM);
        mark();
        write(WRITTEN);
        mark();
        return;
    }
    let Some(calls) = Calls::of(test) else {
        return;
    };
    let count = |call| calls.count(call);
    // a graph for each token, and for each inner step; besides them, the loss of a token whose logits were asked for
    assert_eq!(count("cuGraphLaunch"), WRITTEN + WRITTEN / 4);
    assert_eq!(count("cuLaunchKernel"), WRITTEN);
    assert_eq!(count("cuMemcpyDtoD") + count("cuMemset"), 0);
    assert_eq!(count("cuGraphInstantiate"), 0);
    // arguments that move with the window; of some 90 pieces of work per token the others stay as they are
    let set = count("SetParams");
    assert!(set <= 12 * WRITTEN, "{set}");
}
