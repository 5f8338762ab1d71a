//! Finding functions by name, with the version of CUDA that the program was written for.

use std::ffi::c_void;

use crate::boundary::{Out, Text, own_function};
use crate::code::{Code, Result, fail};
use crate::driver::plain;

/// Answers (`CUdriverProcAddressQueryResult`).
const FOUND: i32 = 0;
const NOT_FOUND: i32 = 1;
const TOO_NEW: i32 = 2;
/// A flag: the form whose default stream is the thread's own.
const PER_THREAD: u64 = 2;

/// Functions of which there are several: the versions of CUDA that began `_v2`, `_v3` and so on.
const VERSIONS: [(&str, &[i32]); 88] = [
    ("cuArray3DCreate", &[3020]),
    ("cuArray3DGetDescriptor", &[3020]),
    ("cuArrayCreate", &[3020]),
    ("cuArrayGetDescriptor", &[3020]),
    ("cuCtxCreate", &[3020, 11040, 12050]),
    ("cuCtxDestroy", &[4000]),
    ("cuCtxGetDevice", &[13000]),
    ("cuCtxPopCurrent", &[4000]),
    ("cuCtxPushCurrent", &[4000]),
    ("cuCtxSynchronize", &[13000]),
    ("cuDeviceGetUuid", &[11040]),
    ("cuDevicePrimaryCtxRelease", &[11000]),
    ("cuDevicePrimaryCtxReset", &[11000]),
    ("cuDevicePrimaryCtxSetFlags", &[11000]),
    ("cuDeviceTotalMem", &[3020]),
    ("cuEventDestroy", &[4000]),
    ("cuEventElapsedTime", &[12080]),
    ("cuGetProcAddress", &[12000]),
    ("cuGraphAddDependencies", &[12030]),
    ("cuGraphAddKernelNode", &[12000]),
    ("cuGraphAddNode", &[12030]),
    ("cuGraphExecKernelNodeSetParams", &[12000]),
    ("cuGraphExecUpdate", &[12000]),
    ("cuGraphGetEdges", &[12030]),
    ("cuGraphKernelNodeGetParams", &[12000]),
    ("cuGraphKernelNodeSetParams", &[12000]),
    ("cuGraphNodeGetDependencies", &[12030]),
    ("cuGraphNodeGetDependentNodes", &[12030]),
    ("cuGraphRemoveDependencies", &[12030]),
    ("cuGraphicsResourceGetMappedPointer", &[3020]),
    ("cuGraphicsResourceSetMapFlags", &[6050]),
    ("cuIpcOpenMemHandle", &[11000]),
    ("cuLaunchHostFunc", &[13010]),
    ("cuLinkAddData", &[6050]),
    ("cuLinkAddFile", &[6050]),
    ("cuLinkCreate", &[6050]),
    ("cuMemAdvise", &[12020]),
    ("cuMemAlloc", &[3020]),
    ("cuMemAllocHost", &[3020]),
    ("cuMemAllocPitch", &[3020]),
    ("cuMemFree", &[3020]),
    ("cuMemGetAddressRange", &[3020]),
    ("cuMemGetInfo", &[3020]),
    ("cuMemHostGetDevicePointer", &[3020]),
    ("cuMemHostRegister", &[6050]),
    ("cuMemPrefetchAsync", &[12020]),
    ("cuMemcpy2D", &[3020]),
    ("cuMemcpy2DAsync", &[3020]),
    ("cuMemcpy2DUnaligned", &[3020]),
    ("cuMemcpy3D", &[3020]),
    ("cuMemcpy3DAsync", &[3020]),
    ("cuMemcpy3DBatchAsync", &[13000]),
    ("cuMemcpyAtoA", &[3020]),
    ("cuMemcpyAtoD", &[3020]),
    ("cuMemcpyAtoH", &[3020]),
    ("cuMemcpyAtoHAsync", &[3020]),
    ("cuMemcpyBatchAsync", &[13000]),
    ("cuMemcpyDtoA", &[3020]),
    ("cuMemcpyDtoD", &[3020]),
    ("cuMemcpyDtoDAsync", &[3020]),
    ("cuMemcpyDtoH", &[3020]),
    ("cuMemcpyDtoHAsync", &[3020]),
    ("cuMemcpyHtoA", &[3020]),
    ("cuMemcpyHtoAAsync", &[3020]),
    ("cuMemcpyHtoD", &[3020]),
    ("cuMemcpyHtoDAsync", &[3020]),
    ("cuMemsetD16", &[3020]),
    ("cuMemsetD2D16", &[3020]),
    ("cuMemsetD2D32", &[3020]),
    ("cuMemsetD2D8", &[3020]),
    ("cuMemsetD32", &[3020]),
    ("cuMemsetD8", &[3020]),
    ("cuModuleGetGlobal", &[3020]),
    ("cuMulticastBindAddr", &[13010]),
    ("cuMulticastBindMem", &[13010]),
    ("cuStreamBatchMemOp", &[11070]),
    ("cuStreamBeginCapture", &[10010]),
    ("cuStreamDestroy", &[4000]),
    ("cuStreamGetCaptureInfo", &[11030, 12030]),
    ("cuStreamGetCtx", &[12050]),
    ("cuStreamUpdateCaptureDependencies", &[12030]),
    ("cuStreamWaitValue32", &[11070]),
    ("cuStreamWaitValue64", &[11070]),
    ("cuStreamWriteValue32", &[11070]),
    ("cuStreamWriteValue64", &[11070]),
    ("cuTexRefGetAddress", &[3020]),
    ("cuTexRefSetAddress", &[3020]),
    ("cuTexRefSetAddress2D", &[3020, 4010]),
];

/// The name under which a program of some version gets a function.
fn symbol(name: &str, version: i32) -> String {
    if name == "cuGraphInstantiate" && version >= 12000 {
        return "cuGraphInstantiateWithFlags".into();
    }
    if name == "cuGraphInstantiate" && version >= 11000 {
        return "cuGraphInstantiate_v2".into();
    }
    let begun = VERSIONS.iter().find(|(known, _)| *known == name);
    let begun = begun.map_or(0, |(_, begun)| {
        begun.iter().filter(|v| **v <= version).count()
    });
    match begun {
        0 => name.into(),
        n => format!("{name}_v{}", n + 1),
    }
}

fn find(
    name: Text,
    out: Out<*const c_void>,
    version: i32,
    flags: u64,
    answer: Out<i32>,
) -> Result<()> {
    let name = name.get()?;
    out.put(std::ptr::null())?;
    answer.put_if_asked(NOT_FOUND);
    if flags & PER_THREAD != 0 {
        return fail(
            Code::NOT_SUPPORTED,
            format!("{name}: default streams per thread are not served; use CU_STREAM_PER_THREAD"),
        );
    }
    match own_function(&symbol(&name, version)) {
        Some(function) if name.starts_with("cu") => {
            answer.put_if_asked(FOUND);
            out.put(function)
        }
        // programs ask for more than they need: what is not there is no mistake, and the answer says why
        _ => {
            if own_function(&symbol(&name, i32::MAX)).is_some() {
                answer.put_if_asked(TOO_NEW);
            }
            Err(Code::NOT_FOUND.into())
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuGetProcAddress(
    name: Text,
    out: Out<*const c_void>,
    version: i32,
    flags: u64,
) -> i32 {
    plain("cuGetProcAddress", || {
        find(name, out, version, flags, Out::NULL)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGetProcAddress_v2(
    name: Text,
    out: Out<*const c_void>,
    version: i32,
    flags: u64,
    answer: Out<i32>,
) -> i32 {
    plain("cuGetProcAddress", || {
        find(name, out, version, flags, answer)
    })
}

#[cfg(test)]
mod tests {
    use super::symbol;

    #[test]
    fn a_version_has_its_function() {
        assert_eq!(symbol("cuMemAlloc", 2000), "cuMemAlloc");
        assert_eq!(symbol("cuMemAlloc", 12080), "cuMemAlloc_v2");
        assert_eq!(symbol("cuCtxCreate", 11080), "cuCtxCreate_v3");
        assert_eq!(symbol("cuCtxCreate", 13000), "cuCtxCreate_v4");
        assert_eq!(
            symbol("cuGraphInstantiate", 12000),
            "cuGraphInstantiateWithFlags"
        );
        assert_eq!(symbol("cuInit", 12000), "cuInit");
    }
}
