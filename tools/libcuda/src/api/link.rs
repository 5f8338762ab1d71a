//! The linker, for programs that compile PTX with it: one PTX goes in, and comes out as the "cubin" to load.

use crate::boundary::{Bytes, In, Out, Text};
use crate::code::{Code, Result, fail, failure};
use crate::driver::{Driver, Handle, call};
use crate::image::Image;
use crate::module::Link;

/// Kind of an input (`CUjitInputType`).
const PTX: i32 = 1;

impl Driver {
    fn link(&mut self, handle: Handle) -> Result<&mut Link> {
        match self.links.get_mut(&handle) {
            Some(link) => Ok(link),
            None => fail(
                Code::INVALID_HANDLE,
                format!("{handle:#x} is not a linker, or one that was destroyed"),
            ),
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuLinkCreate_v2(
    _count: u32,
    _names: In<i32>,
    _values: Out<Bytes>,
    out: Out<Handle>,
) -> i32 {
    call("cuLinkCreate", |driver| {
        driver.healthy()?;
        let handle = driver.new_handle();
        driver.links.insert(handle, Link::default());
        out.put(handle)
    })
}

fn add(link: &mut Link, kind: i32, bytes: Vec<u8>) -> Result<()> {
    match Image::from_bytes(&bytes) {
        Image::Ptx(_) if kind == PTX => {
            link.inputs.push(bytes);
            Ok(())
        }
        _ => fail(
            Code::NOT_SUPPORTED,
            "only PTX can be linked; machine code cannot be interpreted",
        ),
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuLinkAddData_v2(
    link: Handle,
    kind: i32,
    data: Bytes,
    size: usize,
    _name: Text,
    _count: u32,
    _names: In<i32>,
    _values: Out<Bytes>,
) -> i32 {
    call("cuLinkAddData", |driver| {
        if data.is_null() {
            return fail(Code::INVALID_VALUE, "the data is null");
        }
        add(driver.link(link)?, kind, data.memory(size).read(0, size))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuLinkAddFile_v2(
    link: Handle,
    kind: i32,
    path: Text,
    _count: u32,
    _names: In<i32>,
    _values: Out<Bytes>,
) -> i32 {
    call("cuLinkAddFile", |driver| {
        let path = path.get()?;
        let read = std::fs::read(&path);
        let bytes =
            read.map_err(|error| failure(Code::FILE_NOT_FOUND, format!("{path}: {error}")))?;
        add(driver.link(link)?, kind, bytes)
    })
}

/// The image belongs to the linker.
#[unsafe(no_mangle)]
extern "C" fn cuLinkComplete(link: Handle, image: Out<usize>, bytes: Out<usize>) -> i32 {
    call("cuLinkComplete", |driver| {
        let link = driver.link(link)?;
        let [input] = &link.inputs[..] else {
            return fail(
                Code::NOT_SUPPORTED,
                format!("{} inputs; one can be linked", link.inputs.len()),
            );
        };
        let mut output = input.clone();
        output.push(0);
        let output = link.output.insert(output);
        bytes.put_if_asked(output.len());
        image.put(output.as_ptr() as usize)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuLinkDestroy(link: Handle) -> i32 {
    call("cuLinkDestroy", |driver| {
        driver.link(link)?;
        driver.links.remove(&link);
        Ok(())
    })
}
