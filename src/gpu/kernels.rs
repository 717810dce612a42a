//! The kernels, embedded as cubins: which of them fit a device and its driver, and how one is found by name.
//!
//! A cubin loads into a driver whose major version is not older than its compiler's, and runs on the device it was made for or on
//! a newer minor one of the same major; devices of the Tegra family (Orin) take part in that last rule on neither side. PTX is not
//! embedded: the driver would compile it, and its bits would be the driver's.

use std::ffi::{CString, c_void};
use std::sync::Arc;

use cudarc::driver::sys;

use super::context::Context;
use super::driver::NOT_FOUND;
use super::error::{Failure, GpuError};

/// One kernel file, compiled.
struct Cubin {
    /// CUDA version of the compiler.
    compiler: (u32, u32),
    /// Compute capability it was made for.
    device: (u32, u32),
    /// The source in `cuda/`.
    file: &'static str,
    bytes: &'static [u8],
}

/// What the build made; newest compiler first.
const CUBINS: &[Cubin] = include!(concat!(env!("OUT_DIR"), "/cubins.rs"));

/// The compute capabilities of integrated devices.
const TEGRA: [(u32, u32); 5] = [(5, 3), (6, 2), (7, 2), (8, 7), (11, 0)];

/// A struct that a kernel takes by value as its only parameter.
///
/// # Safety
///
/// It has the layout of the C struct of the same name in `cuda/catseye.h`, and every kernel that takes that struct may be launched
/// with it.
pub unsafe trait KernelParams: Copy {}

/// All kernels, loaded for one device.
#[derive(Debug)]
pub struct Kernels {
    modules: Arc<Modules>,
    compiler: (u32, u32),
    device: (u32, u32),
}

impl Kernels {
    /// Loads the embedded cubins that fit the device and the driver.
    pub fn load(context: &Arc<Context>) -> Result<Self, GpuError> {
        let chosen = choose(CUBINS, context.driver_version(), context.capability())?;
        let mut modules = Modules { context: Arc::clone(context), raw: Vec::with_capacity(chosen.len()) };
        let (mut compiler, mut device) = ((0, 0), (0, 0));
        for cubin in chosen {
            let driver = context.current()?;
            let mut raw = std::ptr::null_mut();
            // SAFETY: the place can be written. The bytes are a whole cubin, as the compiler made it.
            let status = unsafe { (driver.cuModuleLoadData)(&raw mut raw, cubin.bytes.as_ptr().cast::<c_void>()) };
            context.answer("cuModuleLoadData", status).map_err(|error| not_loaded(cubin.file, error))?;
            modules.raw.push(raw);
            (compiler, device) = (cubin.compiler, cubin.device);
        }
        Ok(Self { modules: Arc::new(modules), compiler, device })
    }

    /// The CUDA version of the compiler that made them.
    #[must_use]
    pub fn compiler(&self) -> (u32, u32) {
        self.compiler
    }

    /// The compute capability they were made for.
    #[must_use]
    pub fn device(&self) -> (u32, u32) {
        self.device
    }

    /// The kernel with this name. Not for the steady state.
    pub fn get(&self, name: &str) -> Result<Kernel, GpuError> {
        let missing = || GpuError::NoKernel { name: name.to_owned() };
        let symbol = CString::new(name).map_err(|_| missing())?;
        let context = &self.modules.context;
        for &module in &self.modules.raw {
            let driver = context.current()?;
            let mut raw = std::ptr::null_mut();
            // SAFETY: the place can be written, the module is loaded and the name ends with a zero.
            match unsafe { (driver.cuModuleGetFunction)(&raw mut raw, module, symbol.as_ptr()) } {
                NOT_FOUND => continue,
                status => context.answer("cuModuleGetFunction", status)?,
            }
            // a driver that loads lazily loads it here, and not in the middle of a capture
            let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK;
            let mut threads = 0;
            // SAFETY: the place can be written and the function is the one just found.
            let status = unsafe { (driver.cuFuncGetAttribute)(&raw mut threads, attribute, raw) };
            context.answer("cuFuncGetAttribute", status)?;
            let max_threads = u32::try_from(threads).unwrap_or(0);
            return Ok(Kernel { raw, max_threads, _modules: Arc::clone(&self.modules) });
        }
        Err(missing())
    }
}

/// A function that runs on the device.
#[derive(Debug, Clone)]
pub struct Kernel {
    raw: sys::CUfunction,
    max_threads: u32,
    _modules: Arc<Modules>,
}

// SAFETY: a handle that is only read, bound to its context and to no thread.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

impl Kernel {
    /// How many threads a block of it has at most.
    #[must_use]
    pub fn max_threads(&self) -> u32 {
        self.max_threads
    }

    pub(super) fn raw(&self) -> sys::CUfunction {
        self.raw
    }
}

#[derive(Debug)]
struct Modules {
    context: Arc<Context>,
    raw: Vec<sys::CUmodule>,
}

// SAFETY: handles that are only read, bound to their context and to no thread.
unsafe impl Send for Modules {}
// SAFETY: as above.
unsafe impl Sync for Modules {}

impl Drop for Modules {
    fn drop(&mut self) {
        let driver = self.context.current_for_drop();
        for &module in &self.raw {
            // SAFETY: loaded once, unloaded once; every kernel of it held an `Arc` of `self`.
            unsafe { (driver.cuModuleUnload)(module) };
        }
    }
}

fn not_loaded(file: &'static str, error: GpuError) -> GpuError {
    match error {
        GpuError::Call { call, name, code } => GpuError::NotLoaded { file, cause: Failure { call, name, code } },
        other => other,
    }
}

/// The files of the newest compiler that fit, for the device that is nearest to this one.
fn choose(cubins: &'static [Cubin], driver: u32, device: (u32, u32)) -> Result<Vec<&'static Cubin>, GpuError> {
    let fits = |cubin: &&Cubin| cubin.compiler.0 <= driver / 1000 && runs_on(cubin.device, device);
    let best = cubins.iter().filter(fits).map(|cubin| (cubin.compiler, cubin.device)).max();
    let Some(best) = best else {
        return Err(GpuError::NoCubin { device, driver, built: list(cubins) });
    };
    Ok(cubins.iter().filter(|cubin| (cubin.compiler, cubin.device) == best).collect())
}

fn runs_on(made_for: (u32, u32), device: (u32, u32)) -> bool {
    made_for == device
        || made_for.0 == device.0 && made_for.1 <= device.1 && !TEGRA.contains(&made_for) && !TEGRA.contains(&device)
}

fn list(cubins: &[Cubin]) -> String {
    let mut sets: Vec<_> = cubins.iter().map(|cubin| (cubin.compiler, cubin.device)).collect();
    sets.dedup();
    let names: Vec<String> = sets
        .iter()
        .map(|((major, minor), device)| format!("{}.{} (by CUDA {major}.{minor})", device.0, device.1))
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn cubin(compiler: (u32, u32), device: (u32, u32), file: &'static str) -> Cubin {
        Cubin { compiler, device, file, bytes: &[] }
    }

    static BUILT: [Cubin; 7] = [
        cubin((13, 5), (8, 7), "a.cu"),
        cubin((13, 5), (8, 7), "b.cu"),
        cubin((13, 5), (9, 0), "a.cu"),
        cubin((13, 5), (9, 0), "b.cu"),
        cubin((12, 6), (8, 7), "a.cu"),
        cubin((11, 8), (8, 7), "a.cu"),
        cubin((11, 8), (8, 0), "a.cu"),
    ];

    fn chosen(driver: u32, device: (u32, u32)) -> Vec<((u32, u32), &'static str)> {
        choose(&BUILT, driver, device).unwrap().into_iter().map(|cubin| (cubin.compiler, cubin.file)).collect()
    }

    #[test]
    fn the_newest_compiler_is_taken_that_the_driver_understands() {
        assert_eq!(chosen(13_000, (8, 7)), [((13, 5), "a.cu"), ((13, 5), "b.cu")]);
        assert_eq!(chosen(12_020, (8, 7)), [((12, 6), "a.cu")]);
        assert_eq!(chosen(11_040, (8, 7)), [((11, 8), "a.cu")]);
        assert_eq!(chosen(13_000, (9, 0)), [((13, 5), "a.cu"), ((13, 5), "b.cu")]);
        assert_eq!(chosen(13_000, (8, 9)), [((11, 8), "a.cu")]);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_there_is() {
        let error = choose(&BUILT, 12_080, (9, 0)).map(|_| ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no kernels for a device of compute capability 9.0 under a driver of CUDA 12.8: built are 8.7 (by CUDA 13.5), \
             9.0 (by CUDA 13.5), 8.7 (by CUDA 12.6), 8.7 (by CUDA 11.8), 8.0 (by CUDA 11.8)"
        );
    }

    #[test]
    fn orin_runs_its_own_cubins_alone() {
        assert!(runs_on((8, 7), (8, 7)));
        assert!(!runs_on((8, 7), (8, 9)));
        assert!(!runs_on((8, 0), (8, 7)));
        assert!(runs_on((8, 0), (8, 6)));
        assert!(!runs_on((9, 0), (8, 7)));
    }

    #[test]
    fn every_compiler_made_every_file_for_its_devices() {
        let files = |set: &Cubin| {
            let same = CUBINS.iter().filter(|cubin| (cubin.compiler, cubin.device) == (set.compiler, set.device));
            same.map(|cubin| cubin.file).collect::<Vec<_>>()
        };
        assert!(CUBINS.iter().all(|set| files(set) == files(&CUBINS[0])));
        assert!(CUBINS.iter().all(|cubin| !cubin.bytes.is_empty()));
    }
}
