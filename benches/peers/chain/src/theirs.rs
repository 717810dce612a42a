//! The chain on the Copper runtime: once with its unified log (`copperconfig.ron`), once without task logging
//! (`copperconfig_off.ron`).
//!
//! Copper writes a log file of lifecycle records in either case; without task logging no message goes into it. It takes
//! the time of every task in both cases, since its monitoring cannot be taken out.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use cu29::prelude::*;

/// Size of the memory-mapped log, more than a run fills.
const LOG_BYTES: Option<usize> = Some(256 << 20);

/// Where the sink leaves its sum.
static SUM: AtomicU64 = AtomicU64::new(0);

#[derive(Reflect)]
struct Source {
    next: u64,
}

impl Freezable for Source {}

impl CuSrcTask for Source {
    type Resources<'r> = ();
    type Output<'m> = output_msg!(u64);

    fn new(_config: Option<&ComponentConfig>, _resources: Self::Resources<'_>) -> CuResult<Self> {
        Ok(Self { next: 0 })
    }

    fn process(&mut self, _ctx: &CuContext, output: &mut Self::Output<'_>) -> CuResult<()> {
        output.set_payload(self.next);
        self.next += 1;
        Ok(())
    }
}

#[derive(Reflect)]
struct Add;

impl Freezable for Add {}

impl CuTask for Add {
    type Resources<'r> = ();
    type Input<'m> = input_msg!(u64);
    type Output<'m> = output_msg!(u64);

    fn new(_config: Option<&ComponentConfig>, _resources: Self::Resources<'_>) -> CuResult<Self> {
        Ok(Self)
    }

    fn process(&mut self, _ctx: &CuContext, input: &Self::Input<'_>, output: &mut Self::Output<'_>) -> CuResult<()> {
        output.set_payload(input.payload().copied().unwrap_or_default() + 1);
        Ok(())
    }
}

#[derive(Reflect)]
struct Sink {
    sum: u64,
}

impl Freezable for Sink {}

impl CuSinkTask for Sink {
    type Resources<'r> = ();
    type Input<'m> = input_msg!(u64);

    fn new(_config: Option<&ComponentConfig>, _resources: Self::Resources<'_>) -> CuResult<Self> {
        Ok(Self { sum: 0 })
    }

    fn process(&mut self, _ctx: &CuContext, input: &Self::Input<'_>) -> CuResult<()> {
        self.sum += input.payload().copied().unwrap_or_default();
        SUM.store(self.sum, Ordering::Relaxed);
        Ok(())
    }
}

/// Runs an application for the warm-up and `ticks` ticks; gives the CPU time of the latter. The two applications are
/// types of their own, made by a macro, without a trait in common that could be used here.
macro_rules! run_application {
    ($application:ident, $log:expr, $ticks:expr) => {{
        let application = $application::builder().with_log_path($log, super::LOG_BYTES)?.build()?;
        let mut running = application.start()?;
        for _ in 0..crate::WARM_UP_TICKS {
            running.run_one_iteration()?;
        }
        let start_ns = crate::cpu_ns();
        for _ in 0..$ticks {
            running.run_one_iteration()?;
        }
        drop(running.stop()?);
        Ok(crate::cpu_ns() - start_ns)
    }};
}

mod logged {
    use std::path::Path;

    use super::{Add, Sink, Source};
    use cu29::prelude::*;

    #[copper_runtime(config = "copperconfig.ron")]
    struct Logged {}

    pub(super) fn run(log: &Path, ticks: u64) -> CuResult<i64> {
        run_application!(Logged, log, ticks)
    }
}

mod silent {
    use std::path::Path;

    use super::{Add, Sink, Source};
    use cu29::prelude::*;

    #[copper_runtime(config = "copperconfig_off.ron")]
    struct Silent {}

    pub(super) fn run(log: &Path, ticks: u64) -> CuResult<i64> {
        run_application!(Silent, log, ticks)
    }
}

/// Runs the chain without task logging; gives the CPU time of `ticks` ticks in nanoseconds, and the sink's sum.
pub fn measure(log: &Path, ticks: u64) -> Result<(i64, u64), Box<dyn Error>> {
    let cpu_ns = silent::run(log, ticks).map_err(|error| error.to_string())?;
    Ok((cpu_ns, SUM.load(Ordering::Relaxed)))
}

/// The same with every message in the log.
pub fn measure_logged(log: &Path, ticks: u64) -> Result<(i64, u64), Box<dyn Error>> {
    let cpu_ns = logged::run(log, ticks).map_err(|error| error.to_string())?;
    Ok((cpu_ns, SUM.load(Ordering::Relaxed)))
}
