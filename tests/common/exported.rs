//! Memory of the device that CUDA exports, as another program or Vulkan would: what an exporter of a camera lends is imported so.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use catseye::gpu::{Context, DeviceBuffer};
use catseye_sensors::memory::{ForeignHandle, HandleKind};
use cudarc::driver::sys;

/// Bytes on the device that a descriptor stands for, from an offset on.
pub struct Exported {
    fd: OwnedFd,
    bytes: u64,
    offset: u64,
}

impl Exported {
    /// Puts bytes behind an offset.
    pub fn new(context: &Arc<Context>, content: &[u8], offset: u64) -> Self {
        // makes the context current on this thread
        drop(DeviceBuffer::new(context, 1).unwrap());
        let place = sys::CUmemLocation_st { type_: sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE, id: 0 };
        let wanted = sys::CUmemAllocationProp_st {
            type_: sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED,
            requestedHandleTypes: sys::CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
            location: place,
            win32HandleMetaData: std::ptr::null_mut(),
            // SAFETY: numbers alone
            allocFlags: unsafe { std::mem::zeroed() },
        };
        let access = sys::CUmemAccessDesc_st {
            location: place,
            flags: sys::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
        };
        let (mut step, mut memory, mut address, mut fd) = (0, 0, 0, -1_i32);
        let minimum = sys::CUmemAllocationGranularity_flags::CU_MEM_ALLOC_GRANULARITY_MINIMUM;
        let fine = |result: sys::CUresult| assert_eq!(result, sys::CUresult::CUDA_SUCCESS);
        // SAFETY: the places can be written, sizes are those that were asked for, and each thing is used while it is there.
        unsafe {
            fine(sys::cuMemGetAllocationGranularity(&raw mut step, &raw const wanted, minimum));
            let bytes = (offset as usize + content.len()).next_multiple_of(step);
            fine(sys::cuMemCreate(&raw mut memory, bytes, &raw const wanted, 0));
            fine(sys::cuMemAddressReserve(&raw mut address, bytes, 0, 0, 0));
            fine(sys::cuMemMap(address, bytes, 0, memory, 0));
            fine(sys::cuMemSetAccess(address, bytes, &raw const access, 1));
            fine(sys::cuMemcpyHtoD_v2(address + offset, content.as_ptr().cast(), content.len()));
            let kind = wanted.requestedHandleTypes;
            fine(sys::cuMemExportToShareableHandle((&raw mut fd).cast(), memory, kind, 0));
            // the descriptor holds the memory from here on
            fine(sys::cuMemUnmap(address, bytes));
            fine(sys::cuMemAddressFree(address, bytes));
            fine(sys::cuMemRelease(memory));
            Exported { fd: OwnedFd::from_raw_fd(fd), bytes: bytes as u64, offset }
        }
    }

    /// What is imported.
    pub fn handle(&self) -> ForeignHandle {
        let kind = HandleKind::OpaqueFd(self.fd.as_raw_fd());
        ForeignHandle { kind, bytes: self.bytes, offset: self.offset }
    }
}
