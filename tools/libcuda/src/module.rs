//! Modules, libraries and their kernels: PTX that was loaded.

use std::collections::BTreeMap;
use std::ffi::CString;

use crate::chip;
use crate::code::{Code, Result, fail, failure};
use crate::driver::{Driver, Handle};
use crate::image::{self, Image};

/// A module, or a library.
pub struct Loaded {
    pub module: ptx::Module,
    /// Its context; a library has none.
    pub context: Option<Handle>,
    /// Its kernels by name, in the order of the text.
    pub functions: Vec<(String, Handle)>,
}

/// A kernel. The same handle serves as `CUfunction` and as `CUkernel`.
pub struct Function {
    pub module: Handle,
    pub name: CString,
    pub kernel: ptx::Kernel,
    /// The version of its PTX, as 10 times major plus minor.
    pub version: i32,
    /// Bytes of dynamic shared memory that a launch may ask for.
    pub dynamic_shared: i32,
    /// Clusters of up to 16 blocks are allowed.
    pub large_clusters: bool,
    /// Attributes that are kept and have no effect.
    pub hints: BTreeMap<i32, i32>,
}

/// A linker: what it was given, and what it made of it.
#[derive(Default)]
pub struct Link {
    pub inputs: Vec<Vec<u8>>,
    pub output: Option<Vec<u8>>,
}

/// Newest PTX, as 10 times major plus minor.
const NEWEST: i32 = 95;

impl Driver {
    /// Loads PTX into a context, or into all where there is none.
    pub fn load(&mut self, image: Image, context: Option<Handle>) -> Result<Handle> {
        let text = match image {
            Image::Ptx(text) => text,
            Image::Code => {
                return fail(
                    Code::NO_BINARY_FOR_GPU,
                    "the image is machine code, which cannot be interpreted; load PTX instead",
                );
            }
            Image::Unknown(why) => return fail(Code::INVALID_IMAGE, why),
        };
        let heading = image::heading(&text);
        let chip = self.settings.chip;
        if heading.version > NEWEST {
            return fail(
                Code::UNSUPPORTED_PTX_VERSION,
                format!(
                    "PTX {}.{}; the newest known is 9.5",
                    heading.version / 10,
                    heading.version % 10
                ),
            );
        }
        let capability = chip.capability.0 * 10 + chip.capability.1;
        if heading.target > capability || heading.exact && heading.target != capability {
            return fail(
                Code::NO_BINARY_FOR_GPU,
                format!(
                    "PTX for {}, which {} cannot run; compile for sm_{capability} or set TTT_INTERPRETED_DEVICE",
                    heading.name, chip.name
                ),
            );
        }
        let invalid = |error: ptx::Error| failure(Code::INVALID_PTX, error.to_string());
        let module = ptx::Module::parse(&text).map_err(invalid)?;
        let names: Vec<String> = module.kernels().into_iter().map(String::from).collect();
        let kernels: ptx::Result<Vec<_>> = names.iter().map(|name| module.kernel(name)).collect();
        let kernels = kernels.map_err(invalid)?;
        let handle = self.new_handle();
        for (name, bytes) in module.variables() {
            let base = self.device.variable(&module, name).map_err(invalid)?;
            self.know_variable(base, bytes, context.unwrap_or(0));
        }
        let mut functions = vec![];
        for (name, kernel) in names.into_iter().zip(kernels) {
            let function = self.new_handle();
            let left = chip::SHARED_DEFAULT - kernel.static_shared() as i32;
            let known = Function {
                module: handle,
                name: CString::new(name.as_str()).expect("names are plain letters"),
                kernel,
                version: heading.version,
                dynamic_shared: left.max(0),
                large_clusters: false,
                hints: BTreeMap::new(),
            };
            self.functions.insert(function, known);
            functions.push((name, function));
        }
        let loaded = Loaded {
            module,
            context,
            functions,
        };
        self.modules.insert(handle, loaded);
        Ok(handle)
    }

    /// A module or library that exists.
    pub fn module(&self, handle: Handle) -> Result<&Loaded> {
        match self.modules.get(&handle) {
            Some(module) => Ok(module),
            None => fail(
                Code::INVALID_HANDLE,
                format!("{handle:#x} is not a module, or one that was unloaded"),
            ),
        }
    }

    /// A kernel whose module is loaded.
    pub fn function(&self, handle: Handle) -> Result<&Function> {
        match self.functions.get(&handle) {
            Some(function) => Ok(function),
            None => fail(
                Code::INVALID_HANDLE,
                format!("{handle:#x} is not a kernel, or one whose module was unloaded"),
            ),
        }
    }

    /// A kernel of a module.
    pub fn function_named(&self, module: Handle, name: &str) -> Result<Handle> {
        let functions = &self.module(module)?.functions;
        match functions.iter().find(|(known, _)| known == name) {
            Some((_, function)) => Ok(*function),
            None => {
                let names: Vec<_> = functions.iter().map(|(name, _)| name.as_str()).collect();
                fail(
                    Code::NOT_FOUND,
                    format!("no kernel {name}; there are: {}", names.join(", ")),
                )
            }
        }
    }

    /// Address and size of a variable of a module.
    pub fn variable_named(&mut self, module: Handle, name: &str) -> Result<(u64, usize)> {
        let module = self.module(module)?.module.clone();
        let variables = module.variables();
        let Some((_, bytes)) = variables.iter().find(|(known, _)| *known == name) else {
            let names: Vec<_> = variables.iter().map(|(name, _)| *name).collect();
            return fail(
                Code::NOT_FOUND,
                format!("no variable {name}; there are: {}", names.join(", ")),
            );
        };
        let found = self.device.variable(&module, name);
        let address = found.map_err(|error| failure(Code::NOT_FOUND, error.to_string()))?;
        Ok((address, *bytes))
    }

    /// Unloads a module: its kernels are gone, its variables are freed.
    pub fn unload(&mut self, handle: Handle) {
        let Some(loaded) = self.modules.remove(&handle) else {
            return;
        };
        for (_, function) in &loaded.functions {
            self.functions.remove(function);
        }
        for (name, _) in loaded.module.variables() {
            if let Ok(address) = self.device.variable(&loaded.module, name) {
                // known since it was loaded
                let _ = self.free(address, &[crate::memory::Kind::Variable]);
            }
        }
        self.device.unload(&loaded.module);
    }
}
