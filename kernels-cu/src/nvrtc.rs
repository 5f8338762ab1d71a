//! NVRTC, the compiler of CUDA C++, opened by its path.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;

use libloading::Library;

use crate::error::{Error, Result};

/// The package that has the compiler, in the version the kernels are checked with: its PTX is understood by drivers from 2025 on.
pub(crate) const WHEEL: &str = "nvidia-cuda-nvrtc-cu12==12.9.86";

type Program = *mut c_void;

/// A compiler, loaded.
#[derive(Debug)]
pub struct Nvrtc {
    library: Library,
    version: (u32, u32),
}

/// What a compilation gave.
pub(crate) struct Output {
    /// PTX for a virtual architecture, machine code for a real one.
    pub code: Vec<u8>,
    /// What the compiler said.
    pub log: String,
}

impl Nvrtc {
    /// The compiler in a folder, or in a folder inside it as Python's wheels have it.
    ///
    /// # Errors
    /// There is none.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        let inside = [
            "",
            "lib",
            "lib64",
            "nvidia/cuda_nvrtc/lib",
            "cuda_nvrtc/lib",
            "cu13/lib",
        ];
        let files = inside
            .iter()
            .filter_map(|inside| std::fs::read_dir(folder.join(inside)).ok())
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()));
        let mut files: Vec<PathBuf> = files
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("libnvrtc.so") && !name.contains("alt")
            })
            .collect();
        // 12 before 13: drivers refuse PTX that is newer than they are
        files.sort();
        let mut opened = files.iter().filter_map(|path| Self::open(path.as_os_str()));
        opened.next().ok_or(Error::NoNvrtc { wheel: WHEEL })
    }

    /// The compiler that the loader finds, that of a toolkit, or that of Python's packages.
    ///
    /// # Errors
    /// There is none.
    pub fn find() -> Result<Self> {
        let names = ["libnvrtc.so.12", "libnvrtc.so.13", "libnvrtc.so"];
        if let Some(found) = names.iter().find_map(|name| Self::open(OsStr::new(name))) {
            return Ok(found);
        }
        let script = "import nvidia; print('\\n'.join(nvidia.__path__))";
        let output = Command::new("python3").args(["-c", script]).output();
        let packages = output.map_or(String::new(), |o| String::from_utf8_lossy(&o.stdout).into());
        let folders = ["/usr/local/cuda"].into_iter().chain(packages.lines());
        let mut found = folders.filter_map(|folder| Self::in_folder(Path::new(folder)).ok());
        found.next().ok_or(Error::NoNvrtc { wheel: WHEEL })
    }

    /// The compiler in a folder, fetched into it with Python's package manager if it is not there.
    ///
    /// # Errors
    /// It is not there and cannot be fetched.
    pub fn fetch(folder: &Path) -> Result<Self> {
        if let Ok(found) = Self::in_folder(folder) {
            return Ok(found);
        }
        // into a folder of its own first: another process may be fetching too
        let fresh = folder.with_extension(std::process::id().to_string());
        let fetched = Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"])
            .arg(&fresh)
            .arg(WHEEL)
            .output()
            .is_ok_and(|output| output.status.success());
        if fetched && std::fs::rename(&fresh, folder).is_err() {
            // somebody else was first
            let _ = std::fs::remove_dir_all(&fresh);
        }
        Self::in_folder(folder)
    }

    fn open(path: &OsStr) -> Option<Self> {
        // SAFETY: NVRTC's initialisers do nothing but set up its own state
        let library = unsafe { Library::new(path) }.ok()?;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: nvrtcVersion(int*, int*)
        let status = unsafe {
            let version = library
                .get::<unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int>(b"nvrtcVersion\0");
            version.ok()?(&mut major, &mut minor)
        };
        let version = (u32::try_from(major).ok()?, u32::try_from(minor).ok()?);
        (status == 0).then_some(Nvrtc { library, version })
    }

    /// Its version.
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// Compiles. `Err` has the compiler's log.
    pub(crate) fn compile(
        &self,
        name: &str,
        source: &str,
        options: &[String],
        machine_code: bool,
    ) -> std::result::Result<Output, String> {
        let text = |s: &str| CString::new(s).map_err(|_| format!("a NUL in {name}"));
        let (source, name) = (text(source)?, text(name)?);
        let options: Vec<CString> = options
            .iter()
            .map(|o| text(o))
            .collect::<std::result::Result<_, _>>()?;
        let options: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
        let mut program: Program = std::ptr::null_mut();
        type Create = unsafe extern "C" fn(
            *mut Program,
            *const c_char,
            *const c_char,
            c_int,
            *const *const c_char,
            *const *const c_char,
        ) -> c_int;
        let null = std::ptr::null();
        // SAFETY: the signature is that of NVRTC's header; both texts live until the program is destroyed
        let status = unsafe {
            let create = self.function::<Create>(b"nvrtcCreateProgram\0")?;
            create(&mut program, source.as_ptr(), name.as_ptr(), 0, null, null)
        };
        if status != 0 {
            return Err(format!("nvrtcCreateProgram gave {status}"));
        }
        type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
        // SAFETY: the program was made above; as many options as said
        let status = unsafe {
            let compile = self.function::<Compile>(b"nvrtcCompileProgram\0")?;
            compile(program, options.len() as c_int, options.as_ptr())
        };
        let log = self.bytes(
            program,
            b"nvrtcGetProgramLogSize\0",
            b"nvrtcGetProgramLog\0",
        );
        let log = log.map(|log| from_nul_terminated(&log));
        let code = match machine_code {
            true => self.bytes(program, b"nvrtcGetCUBINSize\0", b"nvrtcGetCUBIN\0"),
            false => self.bytes(program, b"nvrtcGetPTXSize\0", b"nvrtcGetPTX\0"),
        };
        type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;
        // SAFETY: the program was made above and is not used again
        unsafe { self.function::<Destroy>(b"nvrtcDestroyProgram\0")?(&mut program) };
        match status {
            0 => Ok(Output {
                code: code?,
                log: log?,
            }),
            _ => Err(log?),
        }
    }

    /// SAFETY of the caller: `F` is the function's type in NVRTC's header.
    unsafe fn function<F: Copy>(&self, name: &[u8]) -> std::result::Result<F, String> {
        // SAFETY: promised by the caller
        let function = unsafe { self.library.get::<F>(name) };
        function.map(|f| *f).map_err(|error| error.to_string())
    }

    /// What one of the pairs of functions for a size and its bytes gives.
    fn bytes(
        &self,
        program: Program,
        size: &[u8],
        get: &[u8],
    ) -> std::result::Result<Vec<u8>, String> {
        type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
        type Get = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
        let mut bytes = 0;
        // SAFETY: all such functions have these types; the buffer has the size that NVRTC asks for
        unsafe {
            self.function::<Size>(size)?(program, &mut bytes);
            let mut buffer = vec![0u8; bytes];
            self.function::<Get>(get)?(program, buffer.as_mut_ptr().cast());
            Ok(buffer)
        }
    }
}

fn from_nul_terminated(bytes: &[u8]) -> String {
    let text = CStr::from_bytes_until_nul(bytes);
    text.map_or(String::new(), |text| text.to_string_lossy().into_owned())
}
