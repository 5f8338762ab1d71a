//! Every function that cudarc can ask for is there, and nothing here is called as a real driver is.
#![allow(unsafe_code)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{again, inside};
use cudarc::driver::sys;

/// The machine that programs are built for here, as cargo names it.
fn host() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let output = Command::new(rustc).arg("-vV").output().expect("rustc");
    let said = String::from_utf8(output.stdout).expect("text");
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("a host").to_string()
}

/// Where cargo keeps the source of cudarc.
fn cudarc_source() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    // what other machines need may never have been downloaded
    let output = cargo
        .args(["metadata", "--offline", "--locked", "--format-version", "1"])
        .args(["--filter-platform", &host()])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let found = packages.iter().find(|package| package["name"] == "cudarc");
    let manifest = found.expect("cudarc")["manifest_path"].as_str();
    let manifest = Path::new(manifest.expect("a path"));
    manifest.with_file_name("src/driver/sys/mod.rs")
}

#[test]
fn every_function_of_cudarc_is_there() {
    if !inside() {
        again("every_function_of_cudarc_is_there", &[]).succeeded();
        return;
    }
    let source = std::fs::read_to_string(cudarc_source()).expect("a source");
    let names: BTreeSet<&str> = source
        .split("load::<_F>(\"")
        .skip(1)
        .map(|rest| rest.split('"').next().expect("a name"))
        .collect();
    assert!(names.len() > 500, "only {} names", names.len());
    // SAFETY: the symbols are looked up and not called.
    let missing = |name: &&&str| unsafe {
        sys::culib()
            .get::<unsafe extern "C" fn()>(name.as_bytes())
            .is_err()
    };
    let missing: Vec<_> = names.iter().filter(missing).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_function_that_is_not_served_says_so_once() {
    if !inside() {
        let test = "a_function_that_is_not_served_says_so_once";
        let ran = again(test, &[]).succeeded();
        let said = ran
            .stderr
            .matches("cuArrayDestroy: not served by this driver");
        assert_eq!(said.count(), 1, "{}", ran.stderr);
        return;
    }
    for _ in 0..2 {
        // SAFETY: the function looks at no argument.
        let code = unsafe { sys::cuArrayDestroy(std::ptr::null_mut()) };
        assert_eq!(code, sys::CUresult::CUDA_ERROR_NOT_SUPPORTED);
    }
}

#[test]
fn functions_are_found_by_name_and_version() {
    if !inside() {
        let test = "functions_are_found_by_name_and_version";
        let ran = again(test, &[]).succeeded();
        assert!(!ran.stderr.contains("interpreted"), "{}", ran.stderr);
        return;
    }
    let find = |name: &std::ffi::CStr, version: i32| {
        let mut function = std::ptr::null_mut();
        let mut answer = sys::CUdriverProcAddressQueryResult::CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
        // SAFETY: a name and places for the answers.
        let code = unsafe {
            sys::cuGetProcAddress_v2(name.as_ptr(), &mut function, version, 0, &mut answer)
        };
        (code, function, answer as u32)
    };
    // SAFETY: the symbol is looked up and not called.
    let same = unsafe {
        *sys::culib()
            .get::<*mut std::ffi::c_void>(b"cuMemAlloc_v2")
            .expect("it")
    };
    let (code, function, answer) = find(c"cuMemAlloc", 12080);
    assert_eq!(
        (code, function, answer),
        (sys::CUresult::CUDA_SUCCESS, same, 0)
    );
    let (code, function, answer) = find(c"cuNothing", 12080);
    assert_eq!(code, sys::CUresult::CUDA_ERROR_NOT_FOUND);
    assert!(function.is_null() && answer == 1);
}

/// Cargo puts its folder of programs on the library path of what it runs: a real driver must be found behind it.
#[test]
fn no_file_in_the_folders_of_cargo_is_called_as_a_driver() {
    let program = std::env::current_exe().expect("a path");
    let deps = program.parent().expect("deps");
    let folders = [deps, deps.parent().expect("the folder of the profile")];
    for folder in folders {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let name = entry.expect("an entry").file_name();
            let name = name.to_string_lossy();
            for driver in ["libcuda.so", "libcublasLt.so", "libnvrtc.so"] {
                assert!(!name.starts_with(driver), "{name} in {}", folder.display());
            }
        }
    }
}
