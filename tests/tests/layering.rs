//! The crates depend on one another as the design's table says and in no other way, and `unsafe` stays where it is allowed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which folders a folder's crates may use. `tests`, `benches` and `tools` may use everything; nothing uses `tests` or
/// `benches`, and only they and `tools` itself may use `tools`.
fn may_use(folder: &str) -> Option<&'static [&'static str]> {
    Some(match folder {
        "autograd" | "kernels-cu" => &[],
        "ops" => &["autograd", "kernels-cu"],
        "model" => &["ops"],
        "tests" | "benches" | "tools" => &["autograd", "kernels-cu", "ops", "model", "tools"],
        _ => return None,
    })
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("a workspace").to_path_buf()
}

/// The folder below the root in which a path lies.
fn folder(path: &Path) -> String {
    let inside = path.strip_prefix(root()).expect("a path in the workspace");
    let first = inside.components().next().expect("a folder");
    first.as_os_str().to_string_lossy().into_owned()
}

fn packages() -> Vec<Value> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "metadata",
        "--no-deps",
        "--offline",
        "--format-version",
        "1",
    ]);
    let output = cargo.current_dir(root()).output().expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata: {errors}");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    metadata["packages"].as_array().expect("packages").clone()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("no {key} in {value}"))
}

#[test]
fn crates_use_only_what_the_design_lets_them() {
    let packages = packages();
    let home = |package: &Value| folder(Path::new(text(package, "manifest_path")));
    let homes: BTreeMap<&str, String> = packages
        .iter()
        .map(|p| (text(p, "name"), home(p)))
        .collect();
    let mut wrong = vec![];
    for package in &packages {
        let (name, from) = (text(package, "name"), home(package));
        let Some(allowed) = may_use(&from) else {
            wrong.push(format!(
                "{name} is in {from}, which the design does not have"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let used = text(dependency, "name");
            match homes.get(used) {
                Some(to) if !allowed.contains(&to.as_str()) => {
                    wrong.push(format!("{name} (in {from}) uses {used} (in {to})"));
                }
                // the tape stands on the standard library alone; what its tests use is their own affair
                None if from == "autograd" && dependency["kind"].is_null() => {
                    wrong.push(format!("{name} uses {used}"));
                }
                _ => {}
            }
        }
    }
    assert!(packages.len() >= 7, "only {} packages", packages.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Rust code with comments, strings and characters left out.
fn code(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(skip) = raw_string(rest).filter(|_| !code.ends_with(is_word)) {
            skip
        } else if c == '"' {
            quoted(rest, '"')
        } else if c == '\'' && is_character(rest) {
            quoted(rest, '\'')
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[skip..];
    }
    code
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Length of a comment that may hold others.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if here.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += 1;
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Length of a raw string, if one starts here.
fn raw_string(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let inside = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inside.find(&end)? + end.len();
    Some(rest.len() - inside.len() + length)
}

/// Length of a string or character with escapes.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (i, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return i + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// True for 'x' and '\n', false for a lifetime.
fn is_character(rest: &str) -> bool {
    let mut next = rest.chars().skip(1);
    match next.next() {
        Some('\\') => true,
        _ => next.next() == Some('\''),
    }
}

fn uses_unsafe(source: &str) -> bool {
    code(source)
        .split(|c| !is_word(c))
        .any(|word| word == "unsafe")
}

#[test]
fn the_scan_reads_rust() {
    for yes in [
        "unsafe { f() }",
        "let x = '\"'; unsafe {}",
        "fn f<'a>(x: &'a u8) {} unsafe fn g() {}",
        "/* a /* b */ c */unsafe{}",
    ] {
        assert!(uses_unsafe(yes), "{yes}");
    }
    for no in [
        "// unsafe",
        "/* a /* b */ unsafe */",
        "\"unsafe\"",
        "r#\"an \" unsafe\"#",
        "#![deny(unsafe_code)]",
        "let c = '\\''; // unsafe",
        "\"a \\\" unsafe\"",
    ] {
        assert!(!uses_unsafe(no), "{no}");
    }
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            rust_files(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

#[test]
fn unsafe_code_only_where_it_is_allowed() {
    let mut files = vec![];
    for package in packages() {
        let manifest = PathBuf::from(text(&package, "manifest_path"));
        rust_files(manifest.parent().expect("a folder"), &mut files);
    }
    assert!(files.len() > 30, "only {} files", files.len());
    let mut wrong = vec![];
    for path in files {
        let source = std::fs::read_to_string(&path).expect("a source file");
        if !uses_unsafe(&source) {
            continue;
        }
        let allowed = match folder(&path).as_str() {
            "kernels-cu" | "tools" => true,
            "ops" => code(&source).contains("#![allow(unsafe_code)]"),
            _ => false,
        };
        if !allowed {
            wrong.push(path.display().to_string());
        }
    }
    assert!(
        wrong.is_empty(),
        "`unsafe` outside of kernels-cu, tools and files of ops that say #![allow(unsafe_code)]: {wrong:?}"
    );
}
