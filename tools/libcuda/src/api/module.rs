//! Modules: PTX of one context, with its kernels and variables.

use crate::boundary::{Bytes, In, Out, Text};
use crate::code::{Code, Result, failure};
use crate::driver::{Handle, Session, call};
use crate::image::{ELF, FAT, FAT_HEADER, FAT_WRAPPER, Image};

/// Options of the just-in-time compiler that concern its log; the others have no effect.
const INFO_LOG: i32 = 3;
const INFO_LOG_BYTES: i32 = 4;
const ERROR_LOG: i32 = 5;
const ERROR_LOG_BYTES: i32 = 6;

/// Options of the just-in-time compiler: numbers, and values in the form of pointers.
#[derive(Clone, Copy)]
pub struct Options {
    pub count: u32,
    pub names: In<i32>,
    pub values: Out<Bytes>,
}

impl Options {
    /// No options.
    pub const NONE: Options = Options {
        count: 0,
        names: In::NULL,
        values: Out::NULL,
    };
}

/// An image of unknown length.
pub fn image(given: Bytes) -> Result<Image> {
    let first = given.of::<[u8; 4]>().get()?;
    if first == FAT_WRAPPER {
        // magic and version, then a pointer
        let inner = given.memory(16).read(8, 8);
        let address = u64::from_le_bytes(inner.try_into().expect("8 bytes"));
        return image(crate::boundary::bytes_at(address));
    }
    Ok(match first {
        ELF => Image::Code,
        FAT => {
            let head = given.memory(FAT_HEADER).read(8, 8);
            let body = u64::from_le_bytes(head.try_into().expect("8 bytes")) as usize;
            let all = FAT_HEADER.saturating_add(body);
            Image::from_bytes(&given.memory(all).read(0, all))
        }
        _ => Image::from_text(&given.until_zero()?),
    })
}

/// The image of a file.
pub fn file(path: Text) -> Result<Image> {
    let path = path.get()?;
    let bytes = std::fs::read(&path)
        .map_err(|error| failure(Code::FILE_NOT_FOUND, format!("{path}: {error}")))?;
    Ok(Image::from_bytes(&bytes))
}

/// Writes a message to the log that the options give, as far as it fits, and says how long it is.
fn log(options: Options, message: &str) -> Result<()> {
    let names = options.names.list(options.count as usize)?;
    let values = options.values.list(options.count as usize)?;
    let find = |wanted| names.iter().position(|name| *name == wanted);
    for (buffer, bytes, text) in [
        (INFO_LOG, INFO_LOG_BYTES, ""),
        (ERROR_LOG, ERROR_LOG_BYTES, message),
    ] {
        let (Some(buffer), Some(bytes)) = (find(buffer), find(bytes)) else {
            continue;
        };
        let room = values[bytes].address() as u32 as usize;
        if room == 0 || values[buffer].is_null() {
            continue;
        }
        let kept = &text.as_bytes()[..text.len().min(room - 1)];
        let with_zero = [kept, &[0]].concat();
        values[buffer].of::<u8>().put_all(&with_zero);
        // the value of the length becomes the length that was written
        options
            .values
            .at(bytes)
            .put(crate::boundary::bytes_at(kept.len() as u64))?;
    }
    Ok(())
}

/// Loads an image and tells the log what is wrong with it.
pub fn load(
    driver: &mut Session,
    image: Image,
    context: Option<Handle>,
    options: Options,
) -> Result<Handle> {
    let loaded = driver.load(image, context);
    let message = match &loaded {
        Ok(_) => "",
        Err(failure) => failure.why.as_deref().unwrap_or(""),
    };
    if options.count > 0 {
        log(options, message)?;
    }
    loaded
}

fn load_module(
    name: &str,
    out: Out<Handle>,
    options: Options,
    image: impl FnOnce() -> Result<Image>,
) -> i32 {
    call(name, |driver| {
        let context = driver.healthy()?;
        out.put(load(driver, image()?, Some(context), options)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleLoad(out: Out<Handle>, path: Text) -> i32 {
    load_module("cuModuleLoad", out, Options::NONE, || file(path))
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleLoadData(out: Out<Handle>, given: Bytes) -> i32 {
    load_module("cuModuleLoadData", out, Options::NONE, || image(given))
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleLoadDataEx(
    out: Out<Handle>,
    given: Bytes,
    count: u32,
    names: In<i32>,
    values: Out<Bytes>,
) -> i32 {
    let options = Options {
        count,
        names,
        values,
    };
    load_module("cuModuleLoadDataEx", out, options, || image(given))
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleLoadFatBinary(out: Out<Handle>, given: Bytes) -> i32 {
    load_module("cuModuleLoadFatBinary", out, Options::NONE, || image(given))
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleUnload(module: Handle) -> i32 {
    call("cuModuleUnload", |driver| {
        driver.module(module)?;
        let context = driver.current()?;
        driver.finish_context(context);
        driver.unload(module);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleGetFunction(out: Out<Handle>, module: Handle, name: Text) -> i32 {
    call("cuModuleGetFunction", |driver| {
        driver.healthy()?;
        out.put(driver.function_named(module, &name.get()?)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleGetFunctionCount(count: Out<u32>, module: Handle) -> i32 {
    call("cuModuleGetFunctionCount", |driver| {
        count.put(driver.module(module)?.functions.len() as u32)
    })
}

/// Writes handles of the kernels of a module, as many as there is room for.
pub fn put_functions(driver: &Session, out: Out<Handle>, room: u32, module: Handle) -> Result<()> {
    let functions = driver.module(module)?.functions.iter();
    let handles: Vec<_> = functions.map(|(_, f)| *f).take(room as usize).collect();
    out.put_all(&handles);
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleEnumerateFunctions(out: Out<Handle>, room: u32, module: Handle) -> i32 {
    call("cuModuleEnumerateFunctions", |driver| {
        put_functions(driver, out, room, module)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleGetGlobal_v2(
    address: Out<u64>,
    bytes: Out<usize>,
    module: Handle,
    name: Text,
) -> i32 {
    call("cuModuleGetGlobal", |driver| {
        driver.healthy()?;
        let (known, size) = driver.variable_named(module, &name.get()?)?;
        address.put_if_asked(known);
        bytes.put_if_asked(size);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleGetLoadingMode(mode: Out<i32>) -> i32 {
    call("cuModuleGetLoadingMode", |_| mode.put(1)) // eager
}
