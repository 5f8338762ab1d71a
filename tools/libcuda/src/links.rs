//! A folder in which programs find this library as their CUDA driver.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Libraries of this project, by file name, and the names under which programs look for them.
const NAMES: [(&str, &[&str]); 2] = [
    ("libcuda_interpreted.so", &["libcuda.so", "libcuda.so.1"]),
    (
        "libcublaslt_interpreted.so",
        &["libcublasLt.so", "libcublasLt.so.12", "libcublasLt.so.13"],
    ),
];

/// Links that this process has made.
static LINKS: AtomicUsize = AtomicUsize::new(0);

/// Where cargo puts a library of this project, seen from a program that cargo built; None if it is not there.
pub fn built(program: &Path, library: &str) -> Option<PathBuf> {
    let folder = program.parent()?;
    // programs lie beside `deps`, tests in it; what is in `deps` is never older
    [folder.join("deps").join(library), folder.join(library)]
        .into_iter()
        .find(|path| path.is_file())
}

/// Fills a folder with links to the libraries that were built with a program: the driver, and cuBLASLt where there is one.
///
/// # Errors
/// The driver has not been built, or the folder cannot be written.
pub fn make(folder: &Path, program: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (library, names) in NAMES {
        let Some(path) = built(program, library) else {
            if library == NAMES[0].0 {
                let why = format!(
                    "{library} is not beside {}; build it with `cargo build -p libcuda-interpreted`",
                    program.display()
                );
                return Err(io::Error::new(io::ErrorKind::NotFound, why));
            }
            continue;
        };
        for name in names {
            // replaced at once: another program, or thread, may be starting
            let count = LINKS.fetch_add(1, Relaxed);
            let fresh = folder.join(format!("{name}.{}.{count}", std::process::id()));
            symlink(&path, &fresh)?;
            std::fs::rename(&fresh, folder.join(name))?;
        }
    }
    Ok(())
}

/// A value of `LD_LIBRARY_PATH` that looks into a folder first.
pub fn search_path(folder: &Path) -> std::ffi::OsString {
    let mut path = folder.as_os_str().to_owned();
    if let Some(rest) = std::env::var_os("LD_LIBRARY_PATH").filter(|rest| !rest.is_empty()) {
        path.push(":");
        path.push(rest);
    }
    path
}
