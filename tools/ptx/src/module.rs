//! Modules and kernels.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::decode::decode;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::program::{Program, SHARED_WINDOW};
use crate::text::ast::{self, Threads};
use crate::text::parse;
use crate::types::Space;

/// A PTX module.
#[derive(Clone)]
pub struct Module(Arc<Loaded>);

pub(crate) struct Loaded {
    /// Tells modules apart on a device.
    id: u64,
    pub syntax: ast::Module,
}

/// A kernel, decoded and ready to be launched.
#[derive(Clone)]
pub struct Kernel {
    pub(crate) module: Arc<Loaded>,
    pub(crate) program: Arc<Program>,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kernel({})", self.program.name)
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Module{:?}", self.kernels())
    }
}

impl Module {
    /// Reads PTX text.
    ///
    /// # Errors
    /// The text is not PTX; the message names the line. Instructions are checked by [`Module::kernel`].
    pub fn parse(text: &str) -> Result<Module> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Ok(Module(Arc::new(Loaded {
            id: NEXT.fetch_add(1, Relaxed),
            syntax: parse(text)?,
        })))
    }

    pub(crate) fn syntax(&self) -> &ast::Module {
        &self.0.syntax
    }

    /// Names of the kernels.
    pub fn kernels(&self) -> Vec<&str> {
        let entries = self
            .0
            .syntax
            .functions
            .iter()
            .filter(|function| function.entry);
        entries.map(|function| function.name.as_str()).collect()
    }

    /// Names and sizes in bytes of the variables in global and constant memory.
    pub fn variables(&self) -> Vec<(&str, usize)> {
        let variables = self.0.syntax.variables.iter();
        variables
            .filter(|v| v.space == Space::Global)
            .map(|v| (v.name.as_str(), v.size as usize))
            .collect()
    }

    /// Decodes a kernel.
    ///
    /// # Errors
    /// There is no such kernel, or it uses an instruction that is not known; the message names both line and
    /// instruction.
    pub fn kernel(&self, name: &str) -> Result<Kernel> {
        Ok(Kernel {
            module: self.0.clone(),
            program: Arc::new(decode(&self.0.syntax, name)?),
        })
    }
}

impl Kernel {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.program.name
    }

    /// Sizes of its arguments in bytes, in order.
    pub fn argument_bytes(&self) -> Vec<usize> {
        self.program
            .params
            .iter()
            .map(|param| param.bytes)
            .collect()
    }

    /// Offsets of its arguments in a buffer that holds them all, in order.
    pub fn argument_offsets(&self) -> Vec<usize> {
        self.program
            .params
            .iter()
            .map(|param| param.offset)
            .collect()
    }

    /// Threads that a block may have: what `.reqntid` or `.maxntid` say, or 1024.
    pub fn max_threads(&self) -> u32 {
        match self.program.threads {
            Some(Threads::Exactly(threads)) => threads.iter().product(),
            Some(Threads::AtMost(threads)) => threads,
            None => 1024,
        }
    }

    /// Blocks per cluster, where `.reqnctapercluster` says.
    pub fn cluster(&self) -> Option<[u32; 3]> {
        self.program.cluster
    }

    /// Bytes of static shared memory.
    pub fn static_shared(&self) -> usize {
        (self.program.shared_end - crate::program::SHARED_START) as usize
    }

    /// Bytes of local memory per thread.
    pub fn local_bytes(&self) -> usize {
        self.program.local_bytes as usize
    }
}

impl Device {
    /// Address of a global or constant variable of a module.
    ///
    /// # Errors
    /// The module has no such variable.
    pub fn variable(&mut self, module: &Module, name: &str) -> Result<u64> {
        let addresses = self.load(&module.0);
        let mut named = module.0.syntax.variables.iter().zip(addresses);
        match named.find(|(v, _)| v.name == name && v.space == Space::Global) {
            Some((_, address)) => Ok(address),
            None => Err(Error::Missing {
                what: "variable",
                name: name.into(),
            }),
        }
    }

    /// Frees the variables of a module.
    pub fn unload(&mut self, module: &Module) {
        let addresses = self.variables.remove(&module.0.id).unwrap_or_default();
        for (variable, address) in module.0.syntax.variables.iter().zip(addresses) {
            if variable.space == Space::Global {
                // one that the caller freed already is free
                let _ = self.free(address);
            }
        }
    }

    /// Addresses of the variables of a module, which are made when it is first used.
    pub(crate) fn load(&mut self, module: &Loaded) -> Vec<u64> {
        if let Some(known) = self.variables.get(&module.id) {
            return known.clone();
        }
        let variables = &module.syntax.variables;
        let mut addresses = vec![];
        for variable in variables {
            // shared variables have an address per block, so none here
            addresses.push(match variable.space {
                Space::Global => self.allocate(variable.size as usize),
                _ => SHARED_WINDOW,
            });
        }
        for (variable, address) in variables.iter().zip(&addresses) {
            if variable.space != Space::Global {
                continue;
            }
            let mut bytes = variable.init.clone();
            bytes.resize(variable.size as usize, 0);
            for (at, name, offset) in &variable.addresses {
                let known = variables.iter().position(|v| v.name == *name);
                let target = match known {
                    Some(index) => addresses[index].wrapping_add(*offset as u64),
                    None => module.syntax.function_address(name).unwrap_or(0),
                };
                let at = *at as usize;
                if let Some(place) = bytes.get_mut(at..at + 8) {
                    place.copy_from_slice(&target.to_le_bytes());
                }
            }
            self.write(*address, &bytes)
                .expect("an allocation of this size");
        }
        self.variables.insert(module.id, addresses.clone());
        addresses
    }
}
