//! Libraries: modules of no context. Their kernels are kernels of modules, and their handles serve as both.

use crate::boundary::{Bytes, In, Out, Text};
use crate::code::{Code, Result, fail};
use crate::driver::{Handle, call};
use crate::image::Image;

use super::module::{Options, file, image, load, put_functions};

fn load_library(
    name: &str,
    out: Out<Handle>,
    options: Options,
    image: impl FnOnce() -> Result<Image>,
) -> i32 {
    call(name, |driver| {
        out.put(load(driver, image()?, None, options)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuLibraryLoadData(
    out: Out<Handle>,
    given: Bytes,
    names: In<i32>,
    values: Out<Bytes>,
    count: u32,
    _library_names: In<i32>,
    _library_values: Bytes,
    _library_count: u32,
) -> i32 {
    let options = Options {
        count,
        names,
        values,
    };
    load_library("cuLibraryLoadData", out, options, || image(given))
}

#[unsafe(no_mangle)]
extern "C" fn cuLibraryLoadFromFile(
    out: Out<Handle>,
    path: Text,
    names: In<i32>,
    values: Out<Bytes>,
    count: u32,
    _library_names: In<i32>,
    _library_values: Bytes,
    _library_count: u32,
) -> i32 {
    let options = Options {
        count,
        names,
        values,
    };
    load_library("cuLibraryLoadFromFile", out, options, || file(path))
}

#[unsafe(no_mangle)]
extern "C" fn cuLibraryUnload(library: Handle) -> i32 {
    call("cuLibraryUnload", |driver| {
        driver.module(library)?;
        let contexts: Vec<_> = driver.contexts.keys().copied().collect();
        for context in contexts {
            driver.finish_context(context);
        }
        driver.unload(library);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuLibraryGetKernel(out: Out<Handle>, library: Handle, name: Text) -> i32 {
    call("cuLibraryGetKernel", |driver| {
        out.put(driver.function_named(library, &name.get()?)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuLibraryGetKernelCount(count: Out<u32>, library: Handle) -> i32 {
    call("cuLibraryGetKernelCount", |driver| {
        count.put(driver.module(library)?.functions.len() as u32)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuLibraryEnumerateKernels(out: Out<Handle>, room: u32, library: Handle) -> i32 {
    call("cuLibraryEnumerateKernels", |driver| {
        put_functions(driver, out, room, library)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuLibraryGetModule(out: Out<Handle>, library: Handle) -> i32 {
    call("cuLibraryGetModule", |driver| {
        driver.module(library)?;
        out.put(library)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuLibraryGetGlobal(
    address: Out<u64>,
    bytes: Out<usize>,
    library: Handle,
    name: Text,
) -> i32 {
    call("cuLibraryGetGlobal", |driver| {
        let (known, size) = driver.variable_named(library, &name.get()?)?;
        address.put_if_asked(known);
        bytes.put_if_asked(size);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuLibraryGetManaged(
    _address: Out<u64>,
    _bytes: Out<usize>,
    library: Handle,
    name: Text,
) -> i32 {
    call("cuLibraryGetManaged", |driver| {
        driver.module(library)?;
        fail(
            Code::NOT_FOUND,
            format!("no managed variable {}; PTX has none", name.get()?),
        )
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuKernelGetFunction(out: Out<Handle>, kernel: Handle) -> i32 {
    call("cuKernelGetFunction", |driver| {
        driver.healthy()?;
        driver.function(kernel)?;
        out.put(kernel)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuKernelGetLibrary(out: Out<Handle>, kernel: Handle) -> i32 {
    call("cuKernelGetLibrary", |driver| {
        out.put(driver.function(kernel)?.module)
    })
}
