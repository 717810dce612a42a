//! The driver's functions, taken by name from `libcuda` when the program first asks for a GPU.
//!
//! `cudarc` finds the library and declares its types. Its functions are not called: they panic where a symbol is missing, and answer
//! with a Rust enum of CUDA 11.4's codes, for which a code that a newer driver added would be undefined behaviour. Here a
//! status is a number. All symbols are of CUDA 11.4, and a driver keeps what it once had.

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::sync::OnceLock;

use cudarc::driver::sys;

use super::error::{Failure, GpuError};

/// The oldest driver that has all functions: CUDA 11.4, as on JetPack 5 and DRIVE OS 6.
const OLDEST: u32 = 11_040;

const STUB_LIBRARY: u32 = 34;
const NO_DEVICE: u32 = 100;
pub(super) const OUT_OF_MEMORY: u32 = 2;
pub(super) const NOT_FOUND: u32 = 500;
pub(super) const NOT_READY: u32 = 600;

macro_rules! functions {
    ($($name:ident($($argument:ty),*);)*) => {
        /// The functions under the driver's own names. Each answers with a status: 0, or why not.
        #[allow(non_snake_case)] // the driver's own names
        pub(super) struct Driver {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) -> u32,)*
        }

        impl Driver {
            fn of_library() -> Result<Self, GpuError> {
                Ok(Self { $($name: symbol(stringify!($name))?,)* })
            }
        }
    };
}

functions! {
    cuInit(c_uint);
    cuDriverGetVersion(*mut c_int);
    cuGetErrorName(u32, *mut *const c_char);
    cuDeviceGetCount(*mut c_int);
    cuDeviceGet(*mut sys::CUdevice, c_int);
    cuDeviceGetName(*mut c_char, c_int, sys::CUdevice);
    cuDeviceGetAttribute(*mut c_int, sys::CUdevice_attribute, sys::CUdevice);
    cuDeviceGetUuid_v2(*mut sys::CUuuid, sys::CUdevice);
    cuDeviceTotalMem_v2(*mut usize, sys::CUdevice);
    cuDevicePrimaryCtxRetain(*mut sys::CUcontext, sys::CUdevice);
    cuDevicePrimaryCtxRelease_v2(sys::CUdevice);
    cuCtxSetCurrent(sys::CUcontext);
    cuCtxSynchronize();
    cuCtxGetStreamPriorityRange(*mut c_int, *mut c_int);
    cuMemGetInfo_v2(*mut usize, *mut usize);
    cuMemAlloc_v2(*mut sys::CUdeviceptr, usize);
    cuMemFree_v2(sys::CUdeviceptr);
    cuMemHostAlloc(*mut *mut c_void, usize, c_uint);
    cuMemHostGetDevicePointer_v2(*mut sys::CUdeviceptr, *mut c_void, c_uint);
    cuMemFreeHost(*mut c_void);
    cuMemHostRegister_v2(*mut c_void, usize, c_uint);
    cuMemHostUnregister(*mut c_void);
    cuImportExternalMemory(*mut sys::CUexternalMemory, *const ExternalMemory);
    cuExternalMemoryGetMappedBuffer(*mut sys::CUdeviceptr, sys::CUexternalMemory, *const sys::CUDA_EXTERNAL_MEMORY_BUFFER_DESC);
    cuDestroyExternalMemory(sys::CUexternalMemory);
    cuMemcpyHtoD_v2(sys::CUdeviceptr, *const c_void, usize);
    cuMemcpyDtoH_v2(*mut c_void, sys::CUdeviceptr, usize);
    cuMemcpyHtoDAsync_v2(sys::CUdeviceptr, *const c_void, usize, sys::CUstream);
    cuMemcpyDtoDAsync_v2(sys::CUdeviceptr, sys::CUdeviceptr, usize, sys::CUstream);
    cuMemcpyDtoHAsync_v2(*mut c_void, sys::CUdeviceptr, usize, sys::CUstream);
    cuMemsetD8Async(sys::CUdeviceptr, u8, usize, sys::CUstream);
    cuStreamCreateWithPriority(*mut sys::CUstream, c_uint, c_int);
    cuStreamDestroy_v2(sys::CUstream);
    cuStreamSynchronize(sys::CUstream);
    cuStreamWaitEvent(sys::CUstream, sys::CUevent, c_uint);
    cuStreamBeginCapture_v2(sys::CUstream, sys::CUstreamCaptureMode);
    cuStreamEndCapture(sys::CUstream, *mut sys::CUgraph);
    cuEventCreate(*mut sys::CUevent, c_uint);
    cuEventDestroy_v2(sys::CUevent);
    cuEventRecord(sys::CUevent, sys::CUstream);
    cuEventRecordWithFlags(sys::CUevent, sys::CUstream, c_uint);
    cuEventQuery(sys::CUevent);
    cuEventSynchronize(sys::CUevent);
    cuEventElapsedTime(*mut f32, sys::CUevent, sys::CUevent);
    cuModuleLoadData(*mut sys::CUmodule, *const c_void);
    cuModuleUnload(sys::CUmodule);
    cuModuleGetFunction(*mut sys::CUfunction, sys::CUmodule, *const c_char);
    cuFuncGetAttribute(*mut c_int, sys::CUfunction_attribute, sys::CUfunction);
    cuLaunchKernel(
        sys::CUfunction, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, sys::CUstream,
        *mut *mut c_void, *mut *mut c_void
    );
    cuGraphGetNodes(sys::CUgraph, *mut sys::CUgraphNode, *mut usize);
    cuGraphDestroy(sys::CUgraph);
    cuGraphInstantiateWithFlags(*mut sys::CUgraphExec, sys::CUgraph, c_ulonglong);
    cuGraphUpload(sys::CUgraphExec, sys::CUstream);
    cuGraphLaunch(sys::CUgraphExec, sys::CUstream);
    cuGraphExecDestroy(sys::CUgraphExec);
}

/// What is imported (`CUDA_EXTERNAL_MEMORY_HANDLE_DESC`), with its kind as a number: DMA-BUFs are younger than CUDA 11.4.
#[repr(C)]
pub(super) struct ExternalMemory {
    pub(super) kind: u32,
    /// A descriptor in the low half, or an address.
    pub(super) handle: [u64; 2],
    pub(super) bytes: u64,
    pub(super) flags: u32,
    pub(super) reserved: [u32; 16],
}

const _: () = assert!(size_of::<ExternalMemory>() == size_of::<sys::CUDA_EXTERNAL_MEMORY_HANDLE_DESC>());

impl ExternalMemory {
    pub(super) const OPAQUE_FD: u32 = 1;
    pub(super) const NVSCIBUF: u32 = 8;
    /// From CUDA 13 on, on Tegra from Thor on.
    pub(super) const DMA_BUF: u32 = 9;
}

impl Driver {
    /// The driver, started, or why it cannot be had. The answer is the same for the life of the process.
    pub(super) fn get() -> Result<&'static Self, GpuError> {
        static DRIVER: OnceLock<Result<Driver, GpuError>> = OnceLock::new();
        DRIVER.get_or_init(Self::start).as_ref().map_err(Clone::clone)
    }

    fn start() -> Result<Self, GpuError> {
        // SAFETY: loading libcuda has no conditions of its own.
        if !unsafe { sys::is_culib_present() } {
            return Err(GpuError::NoDriver { reason: "there is no libcuda.so.1".to_owned() });
        }
        let driver = Self::of_library()?;
        // SAFETY: the only flags there are.
        match unsafe { (driver.cuInit)(0) } {
            0 => {}
            NO_DEVICE => return Err(GpuError::NoDevice),
            STUB_LIBRARY => {
                let reason = "the library that was found is the toolkit's stub, which only serves to link".to_owned();
                return Err(GpuError::NoDriver { reason });
            }
            code => return Err(GpuError::NoDriver { reason: driver.failure("cuInit", code).to_string() }),
        }
        let found = driver.version()?;
        if found < OLDEST { Err(GpuError::DriverTooOld { expected: OLDEST, found }) } else { Ok(driver) }
    }

    /// The newest CUDA version the driver knows, 11040 for 11.4.
    pub(super) fn version(&self) -> Result<u32, GpuError> {
        let mut version = 0;
        // SAFETY: the place can be written.
        self.answer("cuDriverGetVersion", unsafe { (self.cuDriverGetVersion)(&raw mut version) })?;
        Ok(u32::try_from(version).unwrap_or(0))
    }

    /// A status as a result, for calls that need no context.
    pub(super) fn answer(&self, call: &'static str, code: u32) -> Result<(), GpuError> {
        if code == 0 { Ok(()) } else { Err(self.failure(call, code).into()) }
    }

    /// A status that is not 0, with its name.
    pub(super) fn failure(&self, call: &'static str, code: u32) -> Failure {
        let mut name = std::ptr::null();
        // SAFETY: the place can be written.
        let status = unsafe { (self.cuGetErrorName)(code, &raw mut name) };
        let name = if status == 0 && !name.is_null() {
            // SAFETY: a constant of the library, which is never unloaded.
            unsafe { CStr::from_ptr(name) }.to_str().unwrap_or("an unreadable name")
        } else {
            "an unknown status"
        };
        Failure { call, name, code }
    }
}

/// A function of the library. `F` must be its type: that is what the list above promises.
fn symbol<F: Copy>(name: &'static str) -> Result<F, GpuError> {
    // SAFETY: the library is there, since `start` asked; the types are those of CUDA 11.4's cuda.h with the status as a number.
    let found = unsafe { sys::culib().get::<F>(name.as_bytes()) };
    found.map(|function| *function).map_err(|_| GpuError::MissingSymbol { symbol: name })
}

/// Whether a status ends the context: every later call would fail too, and results of earlier ones cannot be trusted.
pub(super) fn is_final(code: u32) -> bool {
    const DEINITIALIZED: u32 = 4;
    const ECC_UNCORRECTABLE: u32 = 214;
    const NVLINK_UNCORRECTABLE: u32 = 220;
    const CONTAINED: u32 = 226;
    const ILLEGAL_ADDRESS: u32 = 700;
    const LAUNCH_TIMEOUT: u32 = 702;
    const CONTEXT_IS_DESTROYED: u32 = 709;
    const ASSERT: u32 = 710;
    const HARDWARE_STACK_ERROR: u32 = 714; // to 719: illegal instruction, misaligned address, address space, PC, launch failed
    const LAUNCH_FAILED: u32 = 719;
    const TENSOR_MEMORY_LEAK: u32 = 721;
    const EXTERNAL_DEVICE: u32 = 911;
    const UNKNOWN: u32 = 999;
    matches!(
        code,
        DEINITIALIZED
            | ECC_UNCORRECTABLE
            | NVLINK_UNCORRECTABLE
            | CONTAINED
            | ILLEGAL_ADDRESS
            | LAUNCH_TIMEOUT
            | CONTEXT_IS_DESTROYED
            | ASSERT
            | HARDWARE_STACK_ERROR..=LAUNCH_FAILED | TENSOR_MEMORY_LEAK | EXTERNAL_DEVICE | UNKNOWN
    )
}
