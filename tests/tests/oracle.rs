//! The meta-gradient against an independent implementation: losses of every token, the gradient of every parameter and the
//! fast weights after the last mini-batch, for the models in `oracle/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::files::{Stored, read_input_ids, read_tensors};
use model::gradients::sequence_gradient;
use model::memory::Bytes;
use model::weights::fast_names;
use model::{Model, Reading};
use ops::derived::relative_error;
use ops::{DType, Tensor};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle");
    let entries = std::fs::read_dir(folder).expect("the folder of cases");
    let mut cases: Vec<_> = entries
        .map(|e| e.expect("a readable entry").path())
        .filter(|p| p.join("config.json").exists())
        .collect();
    cases.sort();
    assert!(cases.len() >= 6, "{cases:?}");
    cases
}

fn expected(path: &Path) -> BTreeMap<String, Tensor> {
    let tensors = read_tensors(path).expect("expected results");
    let float = |(name, t): (String, Stored)| match t {
        Stored::Float(t) => (name, t),
        Stored::Integer(..) => panic!("{name} holds integers"),
    };
    tensors.into_iter().map(float).collect()
}

/// Everything `ttt grad` writes.
fn computed(case: &Path, dtype: DType, reading: &Reading) -> BTreeMap<String, Tensor> {
    let model = Model::load(case, dtype).expect("a model");
    let ids = read_input_ids(&case.join("tokens.safetensors"), model.config.vocab_size);
    let result = sequence_gradient(&model, &ids.expect("token ids"), reading).expect("a gradient");
    let mut all = BTreeMap::new();
    all.insert(
        "loss".to_string(),
        result.loss.reshape(&[1]).expect("a scalar"),
    );
    all.insert("token_nll".to_string(), result.nll);
    for (name, g) in result.gradient.named() {
        all.insert(format!("grad.{name}"), g.clone());
    }
    for (j, fast) in result.fast.iter().enumerate() {
        for (name, w) in fast_names(model.config.first_fast() + j)
            .iter()
            .zip(fast.each())
        {
            all.insert(format!("fast_after.{name}"), w.clone());
        }
    }
    all
}

/// The largest relative error over all tensors, and the tensor that has it.
fn worst(got: &BTreeMap<String, Tensor>, expected: &BTreeMap<String, Tensor>) -> (f64, String) {
    let names = |m: &BTreeMap<String, Tensor>| m.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(got), names(expected));
    let errors = got
        .iter()
        .map(|(name, t)| (relative_error(t, &expected[name]), name.clone()));
    errors
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .expect("some tensors")
}

/// 1e-9: about 2^22 roundings of 2^-52 in a chain; seen here are 1e-14.
#[test]
fn agrees_in_f64() {
    for case in cases() {
        let expected = expected(&case.join("expected.safetensors"));
        for memory in [None, Some(Bytes(0))] {
            let reading = Reading {
                memory,
                ..Reading::default()
            };
            let (error, name) = worst(&computed(&case, DType::F64, &reading), &expected);
            assert!(
                error < 1e-9,
                "{}: {name} is off by {error:e}",
                case.display()
            );
        }
    }
}

/// The other way to the meta-gradient: as right as the first.
#[test]
fn one_tangent_and_one_reverse_sweep_agree_in_f64() {
    for case in cases() {
        let expected = expected(&case.join("expected.safetensors"));
        let reading = Reading {
            tangent: true,
            ..Reading::default()
        };
        let (error, name) = worst(&computed(&case, DType::F64, &reading), &expected);
        assert!(
            error < 1e-9,
            "{}: {name} is off by {error:e}",
            case.display()
        );
    }
}

#[test]
fn recomputing_changes_no_bit() {
    for case in cases() {
        let kept = computed(&case, DType::F32, &Reading::default());
        let least = Reading {
            memory: Some(Bytes(0)),
            ..Reading::default()
        };
        for (name, t) in computed(&case, DType::F32, &least) {
            let bits = |t: &Tensor| t.to_f64s().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            // sums over mini-batches may be grouped differently, so gradients agree to rounding only
            match name.starts_with("grad.") {
                true => assert!(relative_error(&t, &kept[&name]) < 1e-5, "{name}"),
                false => assert_eq!(bits(&t), bits(&kept[&name]), "{name}"),
            }
        }
    }
}

/// In f32 the worst error of a case is at most twice that of a plain f32 evaluation (the same independent implementation in
/// f32). The worst over all tensors, because the worst of one small tensor is a matter of luck.
#[test]
fn f32_is_as_good_as_a_plain_evaluation() {
    for case in cases() {
        let expected = expected(&case.join("expected.safetensors"));
        let plain = self::expected(&case.join("plain_f32.safetensors"));
        let (allowed, _) = worst(&plain, &expected);
        let (error, name) = worst(&computed(&case, DType::F32, &Reading::default()), &expected);
        assert!(
            error <= 2.0 * allowed,
            "{}: {name} is off by {error:e}, plain f32 by {allowed:e}",
            case.display()
        );
    }
}

/// The comparison itself must be able to fail: first-order gradients are not the meta-gradient.
#[test]
fn first_order_is_told_apart() {
    for case in cases() {
        let expected = expected(&case.join("expected.safetensors"));
        let first_order = Reading {
            first_order: true,
            ..Reading::default()
        };
        let got = computed(&case, DType::F64, &first_order);
        assert!(worst(&got, &expected).0 > 1e-3, "{}", case.display());
        assert!(
            relative_error(&got["token_nll"], &expected["token_nll"]) < 1e-9,
            "losses do not depend on it"
        );
    }
}
