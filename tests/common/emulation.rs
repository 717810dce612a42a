//! The same tests on an emulated processor, on less of a drive.
//!
//! Under qemu a network takes five to ten seconds for a picture, 100 times as long as on the machine beneath and more. `cross/test`
//! says by `CATSEYE_EMULATED` that this is so, and tests that run a network over whole drives take less of them there, or a network
//! that is small. What they hold it to stays, and so does the code that runs; elsewhere nothing changes.

/// Whether the processor that runs the tests is emulated.
pub fn is_emulated() -> bool {
    std::env::var_os("CATSEYE_EMULATED").is_some()
}

/// How much of something is taken: `emulated` where the processor is, else `native`.
pub fn amount<T>(native: T, emulated: T) -> T {
    if is_emulated() { emulated } else { native }
}
