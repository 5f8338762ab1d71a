//! Results of the driver API: numbers, names and texts, and errors with a reason.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::sync::LazyLock;

/// A result of the driver API (`CUresult`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code(pub i32);

impl Code {
    pub const SUCCESS: Code = Code(0);
    pub const INVALID_VALUE: Code = Code(1);
    pub const OUT_OF_MEMORY: Code = Code(2);
    pub const NOT_INITIALIZED: Code = Code(3);
    pub const INVALID_DEVICE: Code = Code(101);
    pub const INVALID_IMAGE: Code = Code(200);
    pub const INVALID_CONTEXT: Code = Code(201);
    pub const NO_BINARY_FOR_GPU: Code = Code(209);
    pub const UNSUPPORTED_LIMIT: Code = Code(215);
    pub const INVALID_PTX: Code = Code(218);
    pub const UNSUPPORTED_PTX_VERSION: Code = Code(222);
    pub const FILE_NOT_FOUND: Code = Code(301);
    pub const INVALID_HANDLE: Code = Code(400);
    pub const ILLEGAL_STATE: Code = Code(401);
    pub const NOT_FOUND: Code = Code(500);
    pub const NOT_READY: Code = Code(600);
    pub const ILLEGAL_ADDRESS: Code = Code(700);
    pub const LAUNCH_TIMEOUT: Code = Code(702);
    pub const CONTEXT_IS_DESTROYED: Code = Code(709);
    pub const HOST_MEMORY_ALREADY_REGISTERED: Code = Code(712);
    pub const HOST_MEMORY_NOT_REGISTERED: Code = Code(713);
    pub const MISALIGNED_ADDRESS: Code = Code(716);
    pub const LAUNCH_FAILED: Code = Code(719);
    pub const COOPERATIVE_LAUNCH_TOO_LARGE: Code = Code(720);
    pub const NOT_PERMITTED: Code = Code(800);
    pub const NOT_SUPPORTED: Code = Code(801);
    pub const STREAM_CAPTURE_UNSUPPORTED: Code = Code(900);
    pub const STREAM_CAPTURE_INVALIDATED: Code = Code(901);
    pub const STREAM_CAPTURE_MERGE: Code = Code(902);
    pub const STREAM_CAPTURE_UNMATCHED: Code = Code(903);
    pub const STREAM_CAPTURE_UNJOINED: Code = Code(904);
    pub const STREAM_CAPTURE_ISOLATION: Code = Code(905);
    pub const STREAM_CAPTURE_IMPLICIT: Code = Code(906);
    pub const CAPTURED_EVENT: Code = Code(907);
    pub const STREAM_CAPTURE_WRONG_THREAD: Code = Code(908);
    pub const GRAPH_EXEC_UPDATE_FAILURE: Code = Code(910);
    pub const INVALID_CLUSTER_SIZE: Code = Code(912);
    pub const UNKNOWN: Code = Code(999);
}

/// Every result by number, without the prefix `CUDA_ERROR_`.
const NAMES: [(i32, &str); 101] = [
    (1, "INVALID_VALUE"),
    (2, "OUT_OF_MEMORY"),
    (3, "NOT_INITIALIZED"),
    (4, "DEINITIALIZED"),
    (5, "PROFILER_DISABLED"),
    (6, "PROFILER_NOT_INITIALIZED"),
    (7, "PROFILER_ALREADY_STARTED"),
    (8, "PROFILER_ALREADY_STOPPED"),
    (34, "STUB_LIBRARY"),
    (36, "CALL_REQUIRES_NEWER_DRIVER"),
    (46, "DEVICE_UNAVAILABLE"),
    (100, "NO_DEVICE"),
    (101, "INVALID_DEVICE"),
    (102, "DEVICE_NOT_LICENSED"),
    (200, "INVALID_IMAGE"),
    (201, "INVALID_CONTEXT"),
    (202, "CONTEXT_ALREADY_CURRENT"),
    (205, "MAP_FAILED"),
    (206, "UNMAP_FAILED"),
    (207, "ARRAY_IS_MAPPED"),
    (208, "ALREADY_MAPPED"),
    (209, "NO_BINARY_FOR_GPU"),
    (210, "ALREADY_ACQUIRED"),
    (211, "NOT_MAPPED"),
    (212, "NOT_MAPPED_AS_ARRAY"),
    (213, "NOT_MAPPED_AS_POINTER"),
    (214, "ECC_UNCORRECTABLE"),
    (215, "UNSUPPORTED_LIMIT"),
    (216, "CONTEXT_ALREADY_IN_USE"),
    (217, "PEER_ACCESS_UNSUPPORTED"),
    (218, "INVALID_PTX"),
    (219, "INVALID_GRAPHICS_CONTEXT"),
    (220, "NVLINK_UNCORRECTABLE"),
    (221, "JIT_COMPILER_NOT_FOUND"),
    (222, "UNSUPPORTED_PTX_VERSION"),
    (223, "JIT_COMPILATION_DISABLED"),
    (224, "UNSUPPORTED_EXEC_AFFINITY"),
    (225, "UNSUPPORTED_DEVSIDE_SYNC"),
    (226, "CONTAINED"),
    (300, "INVALID_SOURCE"),
    (301, "FILE_NOT_FOUND"),
    (302, "SHARED_OBJECT_SYMBOL_NOT_FOUND"),
    (303, "SHARED_OBJECT_INIT_FAILED"),
    (304, "OPERATING_SYSTEM"),
    (400, "INVALID_HANDLE"),
    (401, "ILLEGAL_STATE"),
    (402, "LOSSY_QUERY"),
    (500, "NOT_FOUND"),
    (600, "NOT_READY"),
    (700, "ILLEGAL_ADDRESS"),
    (701, "LAUNCH_OUT_OF_RESOURCES"),
    (702, "LAUNCH_TIMEOUT"),
    (703, "LAUNCH_INCOMPATIBLE_TEXTURING"),
    (704, "PEER_ACCESS_ALREADY_ENABLED"),
    (705, "PEER_ACCESS_NOT_ENABLED"),
    (708, "PRIMARY_CONTEXT_ACTIVE"),
    (709, "CONTEXT_IS_DESTROYED"),
    (710, "ASSERT"),
    (711, "TOO_MANY_PEERS"),
    (712, "HOST_MEMORY_ALREADY_REGISTERED"),
    (713, "HOST_MEMORY_NOT_REGISTERED"),
    (714, "HARDWARE_STACK_ERROR"),
    (715, "ILLEGAL_INSTRUCTION"),
    (716, "MISALIGNED_ADDRESS"),
    (717, "INVALID_ADDRESS_SPACE"),
    (718, "INVALID_PC"),
    (719, "LAUNCH_FAILED"),
    (720, "COOPERATIVE_LAUNCH_TOO_LARGE"),
    (721, "TENSOR_MEMORY_LEAK"),
    (800, "NOT_PERMITTED"),
    (801, "NOT_SUPPORTED"),
    (802, "SYSTEM_NOT_READY"),
    (803, "SYSTEM_DRIVER_MISMATCH"),
    (804, "COMPAT_NOT_SUPPORTED_ON_DEVICE"),
    (805, "MPS_CONNECTION_FAILED"),
    (806, "MPS_RPC_FAILURE"),
    (807, "MPS_SERVER_NOT_READY"),
    (808, "MPS_MAX_CLIENTS_REACHED"),
    (809, "MPS_MAX_CONNECTIONS_REACHED"),
    (810, "MPS_CLIENT_TERMINATED"),
    (811, "CDP_NOT_SUPPORTED"),
    (812, "CDP_VERSION_MISMATCH"),
    (900, "STREAM_CAPTURE_UNSUPPORTED"),
    (901, "STREAM_CAPTURE_INVALIDATED"),
    (902, "STREAM_CAPTURE_MERGE"),
    (903, "STREAM_CAPTURE_UNMATCHED"),
    (904, "STREAM_CAPTURE_UNJOINED"),
    (905, "STREAM_CAPTURE_ISOLATION"),
    (906, "STREAM_CAPTURE_IMPLICIT"),
    (907, "CAPTURED_EVENT"),
    (908, "STREAM_CAPTURE_WRONG_THREAD"),
    (909, "TIMEOUT"),
    (910, "GRAPH_EXEC_UPDATE_FAILURE"),
    (911, "EXTERNAL_DEVICE"),
    (912, "INVALID_CLUSTER_SIZE"),
    (913, "FUNCTION_NOT_LOADED"),
    (914, "INVALID_RESOURCE_TYPE"),
    (915, "INVALID_RESOURCE_CONFIGURATION"),
    (916, "KEY_ROTATION"),
    (917, "STREAM_DETACHED"),
    (999, "UNKNOWN"),
];

/// Name and text of every result.
static TEXTS: LazyLock<BTreeMap<i32, (CString, CString)>> = LazyLock::new(|| {
    let owned = |text: String| CString::new(text).expect("no zero inside");
    let rows = NAMES.iter().map(|(number, name)| {
        let text = name.to_lowercase().replace('_', " ");
        (*number, (owned(format!("CUDA_ERROR_{name}")), owned(text)))
    });
    let success = (0, (owned("CUDA_SUCCESS".into()), owned("no error".into())));
    rows.chain([success]).collect()
});

impl Code {
    /// Name and text, if there is such a result.
    pub fn texts(self) -> Option<(&'static CStr, &'static CStr)> {
        let (name, text) = TEXTS.get(&self.0)?;
        Some((name, text))
    }
}

/// Why a call did not succeed. Without a reason it is an answer, such as "not ready", or follows from an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: Code,
    pub why: Option<String>,
}

/// What calls return inside the library.
pub type Result<T> = std::result::Result<T, Failure>;

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Failure { code, why: None }
    }
}

/// A failure with its reason: one sentence, without the name of the call.
pub fn failure(code: Code, why: impl Into<String>) -> Failure {
    Failure {
        code,
        why: Some(why.into()),
    }
}

/// The same as a result.
pub fn fail<T>(code: Code, why: impl Into<String>) -> Result<T> {
    Err(failure(code, why))
}
