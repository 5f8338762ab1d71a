//! The command `ptx`, as it is used by hand.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// `y[i] = a x[i] + y[i]` for i below n.
const AXPY: &str = ".version 8.0
.target sm_80
.address_size 64
.visible .entry axpy(.param .u64 x, .param .u64 y, .param .f32 a, .param .u32 n) {
    .reg .pred %p; .reg .b32 %r<5>; .reg .b64 %d<5>; .reg .f32 %f<4>;
    ld.param.u64 %d0, [x]; ld.param.u64 %d1, [y]; ld.param.f32 %f0, [a]; ld.param.u32 %r0, [n];
    mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x; mad.lo.u32 %r1, %r1, %r2, %r3;
    setp.ge.u32 %p, %r1, %r0;
    @%p bra DONE;
    mad.wide.u32 %d2, %r1, 4, %d0;
    mad.wide.u32 %d3, %r1, 4, %d1;
    ld.global.f32 %f1, [%d2];
    ld.global.f32 %f2, [%d3];
    fma.rn.f32 %f3, %f0, %f1, %f2;
    st.global.f32 [%d3], %f3;
DONE: ret;
}
";

fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("command");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Writes a file and returns its path.
fn file(name: &str, text: &str) -> String {
    let path = folder().join(name);
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}

fn ptx(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ptx"));
    command.args(args).output().expect("the program")
}

/// The output of a run that ends with `status`.
fn says(status: i32, args: &[&str]) -> String {
    let output = ptx(args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let all = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{all}");
    all
}

#[test]
fn a_kernel_runs_on_buffers_and_numbers() {
    let axpy = file("run.ptx", AXPY);
    let y = folder().join("y.npy").display().to_string();
    let save = format!("1={y}");
    let run = [
        "run",
        &axpy,
        "--grid",
        "2",
        "--block",
        "64,1",
        "--arg",
        "f32[100]=range",
        "--arg",
        "f32[100]=1",
    ];
    let numbers = ["--arg", "f32:0.5", "--arg", "u32:100"];
    let more = [
        "--show",
        "1",
        "--save",
        &save,
        "--lines",
        "--estimate",
        "a100",
        "--registers",
        "16",
    ];
    let all = says(0, &[&run[..], &numbers, &more].concat());
    for part in [
        "axpy: grid 2 x 1 x 1, block 64 x 1 x 1, 0 bytes",
        "nothing is wrong",
        "argument 1: f32[100] 1, 1.5, 2, 2.5,",
        "warp instructions",
        "fma.rn.f32 %f3",
        "estimate for A100",
        "108 multiprocessors at 1.41 GHz",
        "16 registers per thread",
    ] {
        assert!(all.contains(part), "{part} is not in\n{all}");
    }
    // the file is taken again, and 0.5 x is added once more
    let again = [
        "run",
        &axpy,
        "--grid",
        "2",
        "--block",
        "64",
        "--arg",
        "f32[100]=range",
        "--arg",
        &y,
    ];
    let all = says(
        0,
        &[&again[..], &numbers, &["--show", "1", "--json"]].concat(),
    );
    let json: Value = serde_json::from_str(&all).expect("JSON");
    assert_eq!(json["values"]["1"][3], 4.0);
    assert_eq!(json["report"]["findings"], Value::Array(vec![]));
    assert!(json["report"]["counters"]["total"]["instructions"].as_u64() > Some(0));
    assert_eq!(json["estimate"], Value::Null);
}

#[test]
fn buffers_of_safetensors() {
    let axpy = file("tensors.ptx", AXPY);
    let path = folder().join("y.safetensors").display().to_string();
    let save = format!("1={path}");
    let args = [
        "--arg", "f32:2", "--arg", "u32:8", "--show", "1", "--save", &save,
    ];
    let run = [
        "run",
        &axpy,
        "--arg",
        "f32[8]=random:3",
        "--arg",
        "f32[8]=random:3",
    ];
    let first = says(0, &[&run[..], &args].concat());
    let saved = format!("{path}:out");
    let same = [
        "run", &axpy, "--arg", "f32[8]=0", "--arg", &saved, "--arg", "f32:2", "--arg", "u32:8",
        "--show", "1",
    ];
    let second = says(0, &same);
    let shown = |text: &str| {
        text.lines()
            .find(|line| line.starts_with("argument 1"))
            .map(str::to_string)
    };
    assert!(shown(&first).is_some());
    assert_eq!(shown(&first), shown(&second));
    let missing = format!("{path}:weights");
    let all = says(2, &["run", &axpy, "--arg", &missing]);
    assert!(all.contains("it has no tensor weights, only out"), "{all}");
}

#[test]
fn what_is_wrong_is_said_and_is_the_exit_status() {
    let axpy = file("wrong.ptx", AXPY);
    let run = [
        "run",
        &axpy,
        "--block",
        "64",
        "--arg",
        "f32[60]=1",
        "--arg",
        "f32[64]=1",
        "--arg",
        "f32:2",
        "--arg",
        "u32:64",
    ];
    let all = says(1, &run);
    assert!(
        all.contains("error: OutOfBounds in axpy, PTX line 12"),
        "{all}"
    );
    let run = [
        "run",
        &axpy,
        "--arg",
        "f32[32]=empty",
        "--arg",
        "f32[32]=1",
        "--arg",
        "f32:2",
        "--arg",
        "u32:32",
    ];
    assert!(says(1, &run).contains("error: Uninitialised"));
    assert!(says(0, &[&run[..], &["--no-checks"]].concat()).contains("nothing is wrong"));
}

#[test]
fn bad_input_is_one_clear_sentence() {
    let axpy = file("bad.ptx", AXPY);
    let two = file(
        "two.ptx",
        &format!(
            "{AXPY}{}",
            AXPY.split_once(".visible")
                .map_or("", |(_, rest)| rest)
                .replace("axpy", "other")
                .replacen("", ".visible", 1)
        ),
    );
    let cases: [(&[&str], &str); 12] = [
        (&["run", "nowhere.ptx"], "nowhere.ptx: No such file"),
        (
            &["run", &axpy, "--kernel", "saxpy"],
            "has no kernel saxpy, only axpy",
        ),
        (&["run", &two], "say which kernel with --kernel"),
        (
            &["run", &axpy],
            "0 arguments; the kernel has 4, of 8, 8, 4, 4 bytes",
        ),
        (
            &["run", &axpy, "--arg", "5"],
            "5 is no argument; write a number as i32:5",
        ),
        (
            &["run", &axpy, "--arg", "i32:1.5"],
            "1.5 is not a number of i32",
        ),
        (
            &["run", &axpy, "--arg", "f8:1"],
            "the type f8 is not known; there are u8,",
        ),
        (
            &["run", &axpy, "--arg", "f32[4,x]=0"],
            "the shape is not a list of numbers",
        ),
        (
            &["run", &axpy, "--arg", "f32[99999999999]=0"],
            "more than 2^30 elements",
        ),
        (
            &["run", &axpy, "--grid", "1,2,3,4"],
            "write one to three numbers",
        ),
        (&["run", &axpy, "--show", "0"], "argument 0 is not a buffer"),
        (
            &["run", &axpy, "--estimate", "b200"],
            "there are a100 and h100",
        ),
    ];
    for (args, part) in cases {
        let all = says(2, args);
        assert!(all.contains(part), "{part} is not in\n{all}");
        assert!(
            all.starts_with("error: ") && !all.contains("panicked"),
            "{all}"
        );
    }
    let broken = file("broken.ptx", ".version 8.0 .visible .entry k() { mov.u32");
    assert!(says(2, &["run", &broken]).contains("broken.ptx: PTX line 1: expected"));
}

#[test]
fn opcodes_are_listed() {
    let axpy = file("opcodes.ptx", AXPY);
    let unknown = file(
        "unknown.ptx",
        &AXPY.replace("fma.rn.f32 %f3", "tex.1d.v4.f32.s32 %f3"),
    );
    let all = says(0, &["opcodes", &axpy]);
    assert!(
        all.contains("12 opcodes, 0 not known") && all.contains("       2  ld.global.f32"),
        "{all}"
    );
    let all = says(1, &["opcodes", &axpy, &unknown, "--unknown"]);
    assert!(all.contains("12 opcodes, 1 not known"), "{all}");
    assert!(
        all.contains("tex.1d.v4.f32.s32   not known: PTX line 14: `tex.1d.v4.f32.s32`"),
        "{all}"
    );
    assert!(!all.contains("ld.global.f32"), "{all}");
    let json: Value =
        serde_json::from_str(&says(1, &["opcodes", &unknown, "--json"])).expect("JSON");
    assert_eq!(json[&unknown].as_array().map(Vec::len), Some(12));
    // the whole corpus is known
    let files = ["ptx", "sm90"].map(|folder| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("kernels")
            .join(folder);
        let files = std::fs::read_dir(path)
            .expect("a folder")
            .map(|f| f.expect("a file").path());
        files.filter(|path| path.extension().is_some_and(|e| e == "ptx"))
    });
    let files: Vec<String> = files
        .into_iter()
        .flatten()
        .map(|path| path.display().to_string())
        .collect();
    assert!(files.len() > 50);
    let mut args = vec!["opcodes", "--unknown"];
    args.extend(files.iter().map(String::as_str));
    says(0, &args);
}

#[test]
fn versions_are_compared() {
    let old = file("old.ptx", AXPY);
    // a product and a sum, rounded twice, and one instruction more
    let new = file(
        "new.ptx",
        &AXPY.replace(
            "fma.rn.f32 %f3, %f0, %f1, %f2;",
            "mul.rn.f32 %f3, %f0, %f1; add.rn.f32 %f3, %f3, %f2;",
        ),
    );
    let args = [
        "--block",
        "64",
        "--arg",
        "f32[64]=random",
        "--arg",
        "f32[64]=random:2",
        "--arg",
        "f32:0.1",
        "--arg",
        "u32:64",
    ];
    let all = says(0, &[&["compare", &old, &new][..], &args].concat());
    assert!(all.contains("argument 0: the same bits"), "{all}");
    assert!(
        all.contains("argument 1: ") && all.contains("elements differ, by "),
        "{all}"
    );
    let row = all
        .lines()
        .find(|line| line.ends_with("  warp instructions"))
        .expect("a row");
    let numbers: Vec<f64> = row
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    assert_eq!(numbers[1] - numbers[0], 2.0, "{row}");
    let all = says(0, &[&["compare", &old, &old, "--json"][..], &args].concat());
    let json: Value = serde_json::from_str(&all).expect("JSON");
    assert_eq!(json["differences"][1]["elements"], 0);
    assert_eq!(json["versions"].as_array().map(Vec::len), Some(2));
}

#[test]
fn help_teaches() {
    let all = says(0, &["--help"]);
    for part in [
        "Examples:",
        "ptx run kernel.ptx",
        "exit status",
        "opcodes",
        "compare",
    ] {
        assert!(all.contains(part), "{part}");
    }
    assert!(says(0, &["run", "--help"]).contains("f32[64,32]=random"));
}
