//! One device in use: its primary context, which libraries like TensorRT share, and whether it still works.

use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cudarc::driver::sys;

use super::DeviceInfo;
use super::driver::{Driver, is_final};
use super::error::{Failure, GpuError};

/// An open device. Everything that lives on it keeps it open.
///
/// A failure after which the device's results cannot be trusted (an illegal address, a failed launch, broken memory) *poisons*
/// the context: the call that found it names it, and every later call answers [`GpuError::Poisoned`] with the same cause.
pub struct Context {
    driver: &'static Driver,
    device: sys::CUdevice,
    raw: sys::CUcontext,
    info: DeviceInfo,
    poison: OnceLock<Failure>,
}

// SAFETY: a context may be used by any thread that has made it current, which every call here does first.
unsafe impl Send for Context {}
// SAFETY: as above; the driver locks inside, and `poison` is a `OnceLock`.
unsafe impl Sync for Context {}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("info", &self.info).field("poison", &self.poison.get()).finish_non_exhaustive()
    }
}

impl Context {
    /// Opens the device with this number, counted from 0.
    pub fn open(ordinal: usize) -> Result<Arc<Self>, GpuError> {
        let driver = Driver::get()?;
        let mut count = 0;
        // SAFETY: the place can be written.
        driver.answer("cuDeviceGetCount", unsafe { (driver.cuDeviceGetCount)(&raw mut count) })?;
        let found = usize::try_from(count).unwrap_or(0);
        if found == 0 {
            return Err(GpuError::NoDevice);
        }
        let number = c_int::try_from(ordinal).ok().filter(|&number| number < count);
        let number = number.ok_or(GpuError::NoSuchDevice { ordinal, found })?;
        let mut device = 0;
        // SAFETY: the place can be written.
        driver.answer("cuDeviceGet", unsafe { (driver.cuDeviceGet)(&raw mut device, number) })?;
        let info = describe(driver, device)?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: the place can be written and the device was just asked for; `drop` releases what is retained here.
        let status = unsafe { (driver.cuDevicePrimaryCtxRetain)(&raw mut raw, device) };
        driver.answer("cuDevicePrimaryCtxRetain", status)?;
        let context = Arc::new(Self { driver, device, raw, info, poison: OnceLock::new() });
        context.current()?;
        Ok(context)
    }

    /// All that is known about the device.
    #[must_use]
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Compute capability, (8, 7) for Orin.
    #[must_use]
    pub fn capability(&self) -> (u32, u32) {
        self.info.capability
    }

    /// The newest CUDA version that the driver knows: 11040 for 11.4.
    #[must_use]
    pub fn driver_version(&self) -> u32 {
        self.info.driver_version
    }

    /// Whether the device shares its memory with the CPU.
    #[must_use]
    pub fn is_integrated(&self) -> bool {
        self.info.integrated
    }

    /// What tells the device from others of its kind.
    #[must_use]
    pub fn uuid(&self) -> [u8; 16] {
        self.info.uuid
    }

    /// Whether the device can still be used, as far as calls have told.
    pub fn check(&self) -> Result<(), GpuError> {
        match self.poison.get() {
            None => Ok(()),
            Some(&cause) => Err(GpuError::Poisoned { cause }),
        }
    }

    /// The device's memory that nobody has, in bytes.
    pub fn free_bytes(&self) -> Result<usize, GpuError> {
        let driver = self.current()?;
        let (mut free, mut all) = (0, 0);
        // SAFETY: both places can be written.
        self.answer("cuMemGetInfo_v2", unsafe { (driver.cuMemGetInfo_v2)(&raw mut free, &raw mut all) })?;
        Ok(free)
    }

    /// Waits for all work on the device.
    pub fn synchronize(&self) -> Result<(), GpuError> {
        let driver = self.current()?;
        let _no_capture = no_capture();
        // SAFETY: the context is current.
        self.answer("cuCtxSynchronize", unsafe { (driver.cuCtxSynchronize)() })
    }

    /// Makes the context the calling thread's, for the call that follows, unless it is poisoned.
    pub(super) fn current(&self) -> Result<&'static Driver, GpuError> {
        self.check()?;
        // SAFETY: the context is retained as long as `self` lives.
        self.answer("cuCtxSetCurrent", unsafe { (self.driver.cuCtxSetCurrent)(self.raw) })?;
        Ok(self.driver)
    }

    /// As [`current`](Self::current), for giving things back: also on a poisoned context, whose driver must still be told.
    pub(super) fn current_for_drop(&self) -> &'static Driver {
        // SAFETY: the context is retained as long as `self` lives. A failure shows again in the call that follows.
        unsafe { (self.driver.cuCtxSetCurrent)(self.raw) };
        self.driver
    }

    /// The status of a call as a result. One that ends the context is remembered.
    pub(super) fn answer(&self, call: &'static str, code: u32) -> Result<(), GpuError> {
        if code == 0 {
            return Ok(());
        }
        let failure = self.driver.failure(call, code);
        if is_final(code) {
            self.poison.get_or_init(|| failure);
        }
        Err(failure.into())
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once in `open`; everything made in it holds an `Arc` of `self`, so it is gone.
        unsafe { (self.driver.cuDevicePrimaryCtxRelease_v2)(self.device) };
    }
}

/// Held while a capture is open. Waiting for a whole device would break a capture on any of its streams, and all contexts
/// of a device are one to the driver.
static CAPTURE: Mutex<()> = Mutex::new(());

thread_local! {
    static CAPTURES_HERE: Cell<bool> = const { Cell::new(false) };
}

/// As long as it lives, this thread captures and no other waits for a device.
pub(super) struct Capturing(Option<MutexGuard<'static, ()>>);

impl Capturing {
    pub(super) fn begin() -> Self {
        let guard = no_capture();
        CAPTURES_HERE.set(true);
        Self(guard)
    }
}

impl Drop for Capturing {
    fn drop(&mut self) {
        // a capture inside a capture leaves the end to the outer one
        if self.0.is_some() {
            CAPTURES_HERE.set(false);
        }
    }
}

/// Keeps captures from beginning. Inside one it is `None`: there the driver itself says that waiting is an error.
pub(super) fn no_capture() -> Option<MutexGuard<'static, ()>> {
    if CAPTURES_HERE.get() { None } else { Some(CAPTURE.lock().unwrap_or_else(PoisonError::into_inner)) }
}

fn describe(driver: &Driver, device: sys::CUdevice) -> Result<DeviceInfo, GpuError> {
    use sys::CUdevice_attribute_enum as Attribute;
    let attribute = |attribute| {
        let mut value = 0;
        // SAFETY: the place can be written.
        let status = unsafe { (driver.cuDeviceGetAttribute)(&raw mut value, attribute, device) };
        driver.answer("cuDeviceGetAttribute", status).map(|()| u32::try_from(value).unwrap_or(0))
    };
    let mut name = [0; 256];
    // SAFETY: there is room for 256 characters, the last of which stays 0.
    driver.answer("cuDeviceGetName", unsafe { (driver.cuDeviceGetName)(name.as_mut_ptr(), 255, device) })?;
    // SAFETY: the last character is 0.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
    let mut uuid = sys::CUuuid { bytes: [0; 16] };
    // SAFETY: the place can be written.
    driver.answer("cuDeviceGetUuid_v2", unsafe { (driver.cuDeviceGetUuid_v2)(&raw mut uuid, device) })?;
    let mut memory_bytes = 0;
    // SAFETY: the place can be written.
    let status = unsafe { (driver.cuDeviceTotalMem_v2)(&raw mut memory_bytes, device) };
    driver.answer("cuDeviceTotalMem_v2", status)?;
    Ok(DeviceInfo {
        name,
        capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        driver_version: driver.version()?,
        integrated: attribute(Attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED)? != 0,
        uuid: uuid.bytes.map(|byte| byte as u8),
        memory_bytes,
    })
}
