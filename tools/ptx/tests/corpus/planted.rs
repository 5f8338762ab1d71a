//! Bugs planted into real kernels are found; the kernels as they are have none.

use half::{bf16, f16};
use ptx::{Kind, Launch, Report};

use crate::common::kinds;
use crate::{Corpus, close, doubles, random, whole};

/// The text with the first `from` behind `place` replaced. It must be there.
fn replaced(text: &str, place: &str, from: &str, to: &str) -> String {
    let start = text.find(place).expect("the place");
    let at = start + text[start..].find(from).expect("what is replaced");
    format!("{}{to}{}", &text[..at], &text[at + from.len()..])
}

/// A product of 40 x 72 x k, by `product_swizzled` after an edit; with the matrix it ought to be.
fn product(k: usize, edit: impl Fn(&str) -> String) -> (Report, Vec<f64>, Vec<f64>) {
    let [m, n] = [40, 72];
    let (a, b) = (
        random(1, m * k, bf16::from_f32),
        random(2, n * k, bf16::from_f32),
    );
    let mut c = Corpus::edited("copies", edit);
    let (pa, pb, pc) = (c.put(&a), c.put(&b), c.room::<f32>(m * n));
    let mut args = [pa, pb, pc].map(|p| p.into()).to_vec();
    args.extend([m, n, k].map(|size| (size as i32).into()));
    let launch = Launch {
        grid: [n.div_ceil(32) as u32, m.div_ceil(32) as u32, 1],
        block: [64, 1, 1],
        dynamic_shared: 0,
        cluster: [1; 3],
    };
    let report = c.report("product_swizzled", launch, &args);
    let (a, b) = (doubles(&a), doubles(&b));
    let want = (0..m * n)
        .map(|at| (0..k).map(|q| a[at / n * k + q] * b[at % n * k + q]).sum())
        .collect();
    (report, c.get_f64::<f32>(pc, m * n), want)
}

const PRODUCT: &str = ".entry product_swizzled";

#[test]
fn the_product_has_none() {
    let (report, got, want) = product(104, str::to_string);
    assert_eq!(kinds(&report), []);
    close("c", &got, &want, |_| 1e-4);
}

#[test]
fn a_barrier_removed() {
    let (report, ..) = product(104, |text| {
        replaced(text, PRODUCT, "bar.sync", "// bar.sync")
    });
    assert!(
        kinds(&report).contains(&Kind::Race),
        "{:?}",
        report.findings
    );
    // it names the line of the source on both sides
    let race = report
        .findings
        .iter()
        .find(|f| f.kind == Kind::Race)
        .expect("a race");
    assert!(race.source.as_ref().is_some_and(|s| s.file == "copies.cu"));
    assert!(race.other.as_ref().is_some_and(|o| o.ptx_line.is_some()));
}

#[test]
fn a_wait_one_group_too_high() {
    let wait = "cp.async.wait_group 1;";
    let (report, ..) = product(104, |text| {
        replaced(text, PRODUCT, wait, "cp.async.wait_group 2;")
    });
    assert!(
        kinds(&report).contains(&Kind::InFlight),
        "{:?}",
        report.findings
    );
    // one too low is slow, not wrong
    let (report, ..) = product(104, |text| {
        replaced(text, PRODUCT, wait, "cp.async.wait_group 0;")
    });
    assert_eq!(kinds(&report), []);
}

#[test]
fn tail_rows_not_loaded() {
    // copies are left out where they would only write zeros, and products meet what was there before
    let skip = |line: &str| {
        let (copy, bytes) = line
            .trim()
            .trim_end_matches(';')
            .rsplit_once(", ")
            .expect("operands");
        format!("{{ .reg .pred inside; setp.ne.u32 inside, {bytes}, 0; @inside {copy}; }}")
    };
    let edit = |text: &str| {
        let lines = text.lines();
        let lines = lines.map(|line| {
            if line.trim().starts_with("cp.async.cg") && line.contains(", 16, %r") {
                skip(line)
            } else {
                line.to_string()
            }
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let (report, got, _) = product(24, edit);
    assert!(
        kinds(&report).contains(&Kind::Uninitialised),
        "{:?}",
        report.findings
    );
    // it shows in all results: what is missing of the inner dimension, times zero, is not a number
    assert!(got.iter().all(|v| v.is_nan()));
    let (report, got, want) = product(24, str::to_string);
    assert_eq!(kinds(&report), []);
    close("c", &got, &want, |_| 1e-4);
}

#[test]
fn a_wrong_swizzle() {
    // rows are told apart by one bit less: right results, and conflicts of banks
    let edit = |text: &str| {
        let start = text.find(PRODUCT).expect("the kernel");
        let end = start + text[start..].find("\n}").expect("its end");
        let lines: Vec<&str> = text[start..end].lines().collect();
        let operand = |line: &str, at: usize| {
            let operands = line
                .trim()
                .trim_end_matches(';')
                .split_once(char::is_whitespace)?
                .1;
            Some(operands.split(',').nth(at)?.trim().to_string())
        };
        let swizzled = |register: &str| {
            let xors = lines
                .iter()
                .filter(|line| line.trim().starts_with("xor.b32"));
            xors.flat_map(|line| [operand(line, 1), operand(line, 2)])
                .flatten()
                .any(|r| r == register)
        };
        let edited = lines.iter().map(|line| {
            let masks = line.trim().starts_with("and.b32")
                && operand(line, 2).is_some_and(|mask| mask == "3");
            if masks && operand(line, 0).is_some_and(|r| swizzled(&r)) {
                line.replace(", 3;", ", 1;")
            } else {
                line.to_string()
            }
        });
        let body = edited.collect::<Vec<_>>().join("\n");
        format!("{}{body}{}", &text[..start], &text[end..])
    };
    let (report, got, want) = product(104, edit);
    assert_eq!(kinds(&report), []);
    close("c", &got, &want, |_| 1e-4);
    let work = report.counters.total;
    assert!(work.shared_wavefronts > work.shared_wavefronts_ideal * 5 / 4);
    // the lines that pay for it are named: ldmatrix
    let worst = report
        .counters
        .lines
        .iter()
        .max_by_key(|line| line.work.shared_wavefronts - line.work.shared_wavefronts_ideal);
    assert_eq!(worst.expect("a line").class, ptx::Class::LoadShared);
    let right = product(104, str::to_string).0.counters.total;
    assert_eq!(right.shared_wavefronts, right.shared_wavefronts_ideal);
}

#[test]
fn a_missing_bounds_test() {
    let run = |edit: &dyn Fn(&str) -> String| {
        let x: Vec<i32> = whole(1, 90, 100).iter().map(|v| *v as i32).collect();
        let mut c = Corpus::edited("calls", edit);
        let (input, out) = (c.put(&x), c.room::<i32>(90));
        let args = [input.into(), out.into(), 90i32.into()];
        kinds(&c.report("medians", Launch::linear(3, 32), &args))
    };
    assert_eq!(run(&str::to_string), []);
    // `if (i >= count) return;`
    let edit = |text: &str| {
        replaced(
            text,
            ".entry medians",
            "@%p1 bra",
            "@!%p1 bra $L_on; $L_on: // bra",
        )
    };
    let found = run(&edit);
    assert_eq!(found, [Kind::OutOfBounds]);
}

#[test]
fn a_race_between_blocks() {
    let run = |edit: &dyn Fn(&str) -> String| {
        let x: Vec<u8> = whole(5, 4000, 256).iter().map(|v| *v as u8).collect();
        let mut c = Corpus::edited("histogram", edit);
        let (input, counts) = (c.put(&x), c.put(&vec![0u32; 256]));
        let args = [input.into(), counts.into(), 1000i32.into()];
        kinds(&c.report("histogram", Launch::linear(4, 96), &args))
    };
    assert_eq!(run(&str::to_string), []);
    // `counts[bin] += mine[bin]` without an atomic
    let edit = |text: &str| {
        let line = text
            .lines()
            .find(|line| line.contains("atom.global.add.u32"))
            .expect("an atomic");
        let (_, operands) = line.split_once("atom.global.add.u32").expect("found above");
        let operands: Vec<&str> = operands.trim().trim_end_matches(';').split(", ").collect();
        let [old, address, value] = operands[..] else {
            panic!("{line}");
        };
        let plain = format!(
            "ld.global.u32 {old}, {address}; add.u32 {old}, {old}, {value}; st.global.u32 {address}, {old};"
        );
        text.replace(line, &plain)
    };
    let found = run(&edit);
    assert!(found.contains(&Kind::Race), "{found:?}");
}

#[test]
fn a_read_after_free() {
    let (length, heads, d) = (5, 3, 64);
    let mut c = Corpus::new("rope");
    let x = c.put(&random(1, length * heads * d, f16::from_f32));
    let cosine = c.put(&vec![1f32; length * d / 2]);
    let sine = c.put(&vec![0f32; length * d / 2]);
    let out = c.room::<f16>(length * heads * d);
    let mut args = [x, cosine, sine, out].map(|p| p.into()).to_vec();
    args.extend([(heads as i32).into(), 0u64.into(), 0u64.into()]);
    let launch = Launch {
        grid: [length as u32, heads as u32, 1],
        block: [32, 1, 1],
        dynamic_shared: c.dynamic_shared,
        cluster: [1; 3],
    };
    assert_eq!(kinds(&c.report("rope", launch, &args)), []);
    c.device.free(cosine).expect("an allocation");
    assert_eq!(
        kinds(&c.report("rope", launch, &args)),
        [Kind::UseAfterFree]
    );
}
