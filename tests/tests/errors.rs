//! What does not fit is an error that names the op and what it was given, and never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ops::*;

fn var(shape: &[usize]) -> Var {
    of(shape, DType::F64)
}

fn of(shape: &[usize], dtype: DType) -> Var {
    Var::leaf(Tensor::zeros(shape, dtype))
}

fn ids(ids: &[u32]) -> Arc<[u32]> {
    ids.into()
}

/// Panics unless `f` gives an error whose message has all of these parts.
#[track_caller]
fn fails<T: std::fmt::Debug>(parts: &[&str], f: impl FnOnce() -> Result<T>) {
    match catch_unwind(AssertUnwindSafe(f)) {
        Err(_) => panic!("a panic where an error with {parts:?} was due"),
        Ok(Ok(y)) => panic!("{y:?} where an error with {parts:?} was due"),
        Ok(Err(e)) => {
            let message = e.to_string();
            for part in parts {
                assert!(message.contains(part), "no {part:?} in: {message}");
            }
        }
    }
}

#[test]
fn shapes_that_differ() {
    let (a, b) = (var(&[3, 4]), var(&[4, 3]));
    let both = ["[3, 4]", "[4, 3]"];
    let with = |op: &'static str| [&[op][..], &both].concat();
    fails(&with("add"), || add(&a, &b));
    fails(&with("mul"), || mul(&a, &b));
    fails(&with("add"), || sub(&a, &b));
    fails(&with("dot"), || dot(&a, &b));
    fails(&with("swiglu_mlp"), || swiglu_mlp(&a, &b, &b, &a));
    fails(&with("sgd_update"), || sgd_update(&a, &b, &var(&[])));
    fails(&with("select"), || select(&vec![true; 12].into(), &a, &b));
    fails(&with("concat"), || concat(&[&a, &b], 1));
}

#[test]
fn layout() {
    let x = var(&[3, 4]);
    fails(&["reshape", "[3, 4]", "[5, 2]"], || reshape(&x, &[5, 2]));
    fails(&["permute", "[3, 4]", "[0, 0]"], || permute(&x, &[0, 0]));
    fails(&["permute", "[3, 4]", "[1]"], || permute(&x, &[1]));
    fails(&["permute", "[3, 4]", "[0, 2]"], || permute(&x, &[0, 2]));
    fails(&["slice", "[3, 4]", "2..5", "axis 1"], || {
        slice(&x, 1, 2, 5)
    });
    fails(&["slice", "[3, 4]", "3..2"], || slice(&x, 1, 3, 2));
    fails(&["slice", "[3, 4]", "1..4", "axis 0"], || {
        slice(&x, 0, 1, 4)
    });
    fails(&["slice", "[3, 4]", "axis 2"], || slice(&x, 2, 0, 1));
    fails(&["pad", "[3, 4]", "axis 2"], || pad(&x, 2, 0, 1));
    fails(&["concat", "axis 2", "[3, 4]"], || concat(&[&x, &x], 2));
    fails(&["concat"], || concat(&[], 0));
    fails(&["broadcast", "[3, 4]", "[6, 4]"], || {
        broadcast(&x, &[6, 4])
    });
    fails(&["broadcast", "[3, 4]", "[1, 3, 4]"], || {
        broadcast(&x, &[1, 3, 4])
    });
    fails(&["sum", "[3, 4]", "[3, 2]"], || sum(&x, &[3, 2]));
    fails(&["sum", "[3, 4]", "[4]"], || sum(&x, &[4]));
    fails(&["select", "11 choices", "[3, 4]"], || {
        select(&vec![true; 11].into(), &x, &x)
    });
    fails(&["rows", "[3, 4]", "2..4"], || x.value().rows(2, 4));
    fails(&["item", "[3, 4]"], || x.value().item());
    fails(&["from_vec", "[2, 2]", "3"], || {
        Tensor::from_vec(&[2, 2], vec![0f32; 3])
    });
    fails(&["[3, 4]", "one element"], || {
        grad(&x, std::slice::from_ref(&x))
    });
}

#[test]
fn matrix_products() {
    let (a, b) = (var(&[3, 4]), var(&[5, 6]));
    for t in [Transpose::None, Transpose::A, Transpose::B] {
        fails(&["matmul", "[3, 4]", "[5, 6]", &format!("{t:?}")], || {
            matmul(&a, &b, t)
        });
    }
    fails(&["matmul", "[2, 3, 4]", "[3, 4, 5]"], || {
        matmul(&var(&[2, 3, 4]), &var(&[3, 4, 5]), Transpose::None)
    });
    fails(&["matmul", "[3, 4]", "[1, 4, 5]"], || {
        matmul(&a, &var(&[1, 4, 5]), Transpose::None)
    });
    fails(&["matmul", "[4]", "[4, 5]"], || {
        matmul(&var(&[4]), &var(&[4, 5]), Transpose::None)
    });
    fails(&["[3, 4]", "[5, 6]"], || linear(&a, &b));
}

#[test]
fn dtypes() {
    let (x, single) = (var(&[3, 4]), of(&[3, 4], DType::F32));
    for (op, f) in [
        ("add", add as fn(&Var, &Var) -> Result<Var>),
        ("mul", mul),
        ("dot", dot),
        ("matmul", |a, b| matmul(a, b, Transpose::B)),
        ("concat", |a, b| concat(&[a, b], 0)),
        ("select", |a, b| select(&vec![true; 12].into(), a, b)),
        ("sgd_update", |a, b| {
            sgd_update(a, b, &of(&[], a.value().dtype()))
        }),
    ] {
        fails(&[op, "f64", "f32", "[3, 4]"], || f(&x, &single));
        for storage in [DType::BF16, DType::F16] {
            let half = of(&[3, 4], storage);
            fails(&[op, &storage.to_string(), "cast"], || f(&half, &half));
        }
    }
    let square = var(&[4, 4]);
    fails(&["swiglu_mlp", "f64", "f32"], || {
        swiglu_mlp(&single, &square, &square, &square)
    });
    fails(&["rms_norm", "f64", "f32"], || {
        rms_norm(&x, &of(&[4], DType::F32), 1e-6)
    });
    fails(&["sgd_update", "f64", "f32"], || {
        sgd_update(&x, &x, &of(&[], DType::F32))
    });
    let half = of(&[4, 4], DType::BF16);
    for (op, f) in [
        ("neg", neg as fn(&Var) -> Result<Var>),
        ("exp", exp),
        ("scale", |x| scale(x, 2.0)),
        ("sum", sum_all),
        ("permute", |x| permute(x, &[1, 0])),
        ("slice", |x| slice(x, 1, 0, 1)),
        ("pad", |x| pad(x, 1, 0, 1)),
        ("broadcast", |x| broadcast(&reshape(x, &[1, 16])?, &[2, 16])),
        ("gather", |x| gather(x, &ids(&[0]))),
        ("scatter_add", |x| scatter_add(x, &ids(&[0, 1, 2, 3]), 4)),
        ("rms_norm", |x| rms_norm(x, &of(&[4], DType::BF16), 1e-6)),
        ("swiglu_mlp", |x| swiglu_mlp(x, x, x, x)),
        ("cross_entropy", |x| cross_entropy(x, &ids(&[0; 4]))),
        ("rope", |x| {
            let table = Tensor::zeros(&[4, 2], DType::F32);
            rope(&reshape(x, &[4, 1, 4])?, &table, &table)
        }),
        ("swa_attention", |x| {
            let x = reshape(x, &[4, 1, 4])?;
            swa_attention(&x, [&x, &x], [&x, &x], 2)
        }),
    ] {
        fails(&[op, "bf16", "cast"], || f(&half));
    }
}

#[test]
fn indices() {
    let x = var(&[4, 3]);
    fails(&["gather", "4", "position 1", "0..4"], || {
        gather(&x, &ids(&[0, 4]))
    });
    fails(&["gather", "scalar"], || gather(&var(&[]), &ids(&[0])));
    fails(&["scatter_add", "9", "position 2", "0..5"], || {
        scatter_add(&x, &ids(&[0, 1, 9, 2]), 5)
    });
    fails(&["scatter_add", "3 rows", "[4, 3]"], || {
        scatter_add(&x, &ids(&[0, 1, 2]), 5)
    });
    fails(&["cross_entropy", "3", "position 3", "0..3"], || {
        cross_entropy(&x, &ids(&[0, 1, 2, 3]))
    });
    let w = var(&[6, 3]);
    fails(&["linear_cross_entropy", "6", "position 1", "0..6"], || {
        linear_cross_entropy(&x, &w, &ids(&[0, 6, 2, 3]))
    });
    fails(
        &["linear_cross_entropy", "[4, 3]", "[6, 3]", "5 tokens"],
        || linear_cross_entropy(&x, &w, &ids(&[0; 5])),
    );
    fails(&["cross_entropy", "[4, 3]", "5 tokens"], || {
        cross_entropy(&x, &ids(&[0; 5]))
    });
    fails(&["cross_entropy", "[12]"], || {
        cross_entropy(&var(&[12]), &ids(&[0]))
    });
    fails(&["cross_entropy", "[4, 0]"], || {
        cross_entropy(&var(&[4, 0]), &ids(&[0; 4]))
    });
}

#[test]
fn rms_norm_and_rope() {
    fails(&["rms_norm", "[3, 4]", "[3]"], || {
        rms_norm(&var(&[3, 4]), &var(&[3]), 1e-6)
    });
    fails(&["rms_norm", "[3, 4]", "[1, 4]"], || {
        rms_norm(&var(&[3, 4]), &var(&[1, 4]), 1e-6)
    });
    fails(&["rms_norm", "[]"], || rms_norm(&var(&[]), &var(&[]), 1e-6));
    fails(&["rms_norm", "[3, 0]"], || {
        rms_norm(&var(&[3, 0]), &var(&[0]), 1e-6)
    });
    let table = |shape: &[usize]| Tensor::zeros(shape, DType::F64);
    let x = var(&[5, 2, 6]);
    fails(&["rope", "[5, 2, 6]", "[4, 3]"], || {
        rope(&x, &table(&[4, 3]), &table(&[4, 3]))
    });
    fails(&["rope", "[5, 2, 6]", "[5, 6]"], || {
        rope(&x, &table(&[5, 3]), &table(&[5, 6]))
    });
    fails(&["rope", "[5, 2, 7]"], || {
        rope(&var(&[5, 2, 7]), &table(&[5, 3]), &table(&[5, 3]))
    });
    fails(&["rope", "[5, 6]"], || {
        rope(&var(&[5, 6]), &table(&[5, 3]), &table(&[5, 3]))
    });
    fails(&["rope", "f32"], || {
        rope(&x, &table(&[5, 3]), &Tensor::zeros(&[5, 3], DType::F32))
    });
}

#[test]
fn attention() {
    fn refused(names: [&'static str; 2], [q, cached, current]: [&[usize]; 3], window: usize) {
        let (q, cached, current) = (var(q), var(cached), var(current));
        fails(&[&["swa_attention", "window"][..], &names].concat(), || {
            swa_attention(&q, [&cached; 2], [&current; 2], window)
        });
    }
    let (q, cached, current): (&[usize], &[usize], &[usize]) = (&[5, 2, 4], &[7, 1, 4], &[5, 1, 4]);
    refused(["[5, 2, 4]", "window 0"], [q, cached, current], 0);
    refused(["[5, 2, 4]", "[4, 1, 4]"], [q, cached, &[4, 1, 4]], 3);
    refused(
        ["[5, 3, 4]", "[5, 2, 4]"],
        [&[5, 3, 4], &[7, 2, 4], &[5, 2, 4]],
        3,
    );
    refused(["[5, 2, 4]", "[5, 3, 4]"], [q, &[7, 3, 4], &[5, 3, 4]], 3);
    refused(["[5, 2, 4]", "[5, 1, 6]"], [q, &[7, 1, 6], &[5, 1, 6]], 3);
    refused(["[5, 2, 4]", "[5, 0, 4]"], [q, &[7, 0, 4], &[5, 0, 4]], 3);
    refused(["[5, 0, 4]", "[5, 1, 4]"], [&[5, 0, 4], cached, current], 3);
    refused(
        ["[5, 2, 0]", "[5, 1, 0]"],
        [&[5, 2, 0], &[7, 1, 0], &[5, 1, 0]],
        3,
    );
    refused(["[5, 8]", "[5, 1, 4]"], [&[5, 8], cached, current], 3);
    refused(["[7, 2, 4]", "[5, 1, 4]"], [q, &[7, 2, 4], current], 3);
    refused(["[7, 1, 6]", "[5, 1, 4]"], [q, &[7, 1, 6], current], 3);
    let [q, long, short, k] = [q, cached, &[6, 1, 4], current].map(var);
    fails(&["swa_attention", "[7, 1, 4]", "[6, 1, 4]"], || {
        swa_attention(&q, [&long, &short], [&k, &k], 3)
    });
    fails(&["swa_attention", "f64", "f32"], || {
        let single = of(&[5, 1, 4], DType::F32);
        swa_attention(&q, [&long, &long], [&single, &single], 3)
    });
}

/// The third derivative of attention is that of whole score matrices: above its budget it refuses.
#[test]
fn a_third_derivative_beyond_the_budget() {
    let x = [2048; 5].map(|t| var(&[t, 4, 4]));
    fails(
        &["swa_attention_bwd_bwd", "[2048, 4, 4]", "MiB", "shorter"],
        || {
            let mut y = swa_attention(&x[0], [&x[1], &x[2]], [&x[3], &x[4]], 8)?;
            for _ in 0..3 {
                y = grad(&sum_all(&mul(&y, &y)?)?, &x)?
                    .remove(0)
                    .expect("a gradient");
            }
            Ok(y)
        },
    );
}

#[test]
fn scalars() {
    let w = var(&[3, 4]);
    fails(&["sgd_update", "[2]"], || sgd_update(&w, &w, &var(&[2])));
    fails(&["sgd_update", "[1]"], || sgd_update(&w, &w, &var(&[1])));
    fails(&["clip_factor"], || clip_factor(&[], 1.0));
}

/// Nothing to do is not an error.
#[test]
fn empty_tensors() {
    let run = |y: Result<Var>, shape: &[usize]| {
        let y = y.expect("an empty result");
        assert_eq!(y.value().shape(), shape);
    };
    let x = var(&[0, 4]);
    run(add(&x, &x), &[0, 4]);
    run(exp(&x), &[0, 4]);
    run(sum(&x, &[1, 4]), &[1, 4]);
    run(sum_all(&x), &[]);
    run(permute(&x, &[1, 0]), &[4, 0]);
    run(matmul(&x, &var(&[4, 5]), Transpose::None), &[0, 5]);
    run(
        matmul(&var(&[3, 0]), &var(&[0, 5]), Transpose::None),
        &[3, 5],
    );
    run(gather(&var(&[4, 3]), &ids(&[])), &[0, 3]);
    run(rms_norm(&x, &var(&[4]), 1e-6), &[0, 4]);
    let (wide, narrow) = (var(&[6, 4]), var(&[4, 6]));
    run(swiglu_mlp(&x, &wide, &wide, &narrow), &[0, 4]);
    run(cross_entropy(&x, &ids(&[])), &[0]);
    run(
        swa_attention(
            &var(&[0, 2, 4]),
            [&var(&[5, 1, 4]); 2],
            [&var(&[0, 1, 4]); 2],
            3,
        ),
        &[0, 2, 4],
    );
}
