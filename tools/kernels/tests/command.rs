//! The command as a person uses it.

use std::path::Path;
use std::process::{Command, Output};

fn kernels(args: &[&str]) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_kernels"));
    // target/PROFILE/kernels
    let target = program.ancestors().nth(2).expect("a target folder");
    Command::new(program)
        .arg("--fetch")
        .arg(target.join("nvrtc"))
        .args(args)
        .env("XDG_CACHE_HOME", target.join("tmp"))
        .output()
        .expect("the command starts")
}

#[test]
fn compiles_and_counts() {
    let output = kernels(&["--arch", "80,90a", "elementwise", "--json"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("NVRTC, the compiler of CUDA kernels, was not found") {
        eprintln!("skipped: {errors}");
        return;
    }
    assert!(output.status.success(), "{errors}");
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let rows = rows.as_array().expect("rows");
    assert!(rows.iter().any(|row| row["arch"] == "90a"));
    for row in rows {
        assert_eq!(row["kernel"], "elementwise");
        assert_eq!(row["spill_bytes"], 0);
        assert!(row["registers"].as_u64().is_some_and(|n| n > 0), "{row}");
    }
}

#[test]
fn a_name_that_is_not_there() {
    let output = kernels(&["attention_of_sorts"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    let expected = [
        "there is no kernel 'attention_of_sorts': there are",
        "was not found",
    ];
    assert!(
        expected.iter().any(|text| errors.contains(text)),
        "{errors}"
    );
}
