//! At which clocks processors and GPU run, and what else of the system decides latencies. Only looked at: who may set a governor is
//! the system's administrator.
//!
//! Formats: sysfs of cpufreq (Documentation/admin-guide/pm/cpufreq.rst), devfreq (Documentation/ABI/testing/sysfs-class-devfreq; the
//! GPU of a Jetson is one of them), `/sys/kernel/realtime` of PREEMPT_RT, `/sys/devices/system/cpu/isolated`. A GPU on a PCI bus tells
//! its clocks to its driver alone.

use std::fmt;
use std::path::{Path, PathBuf};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hardware {
    /// Processors that share a clock, in the order of their numbers; none where the system does not tell, as in most virtual machines.
    pub processors: Vec<Clock>,
    /// GPUs that share the processors' memory.
    pub gpus: Vec<Clock>,
    /// Processors that the scheduler leaves alone, as a list of ranges.
    pub isolated: String,
    /// Whether the kernel is PREEMPT_RT.
    pub is_preempt_rt: bool,
}

/// A clock that the system may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Whose it is: numbers of processors, or a device's name.
    pub of: String,
    /// What decides it, as `performance`, `schedutil`, `nvhost_podgov`.
    pub governor: String,
    /// Now, in kHz.
    pub now_khz: u64,
    /// At most, in kHz.
    pub max_khz: u64,
}

impl Clock {
    /// Whether it stays where it is under any load.
    pub fn is_steady(&self) -> bool {
        self.governor == "performance"
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, governor, now_khz, max_khz } = self;
        let ghz = |khz: &u64| *khz as f64 * 1e-6;
        write!(formatter, "{of}: {governor}, {:.2} of {:.2} GHz", ghz(now_khz), ghz(max_khz))?;
        if self.is_steady() { Ok(()) } else { formatter.write_str(", changes with the load") }
    }
}

impl Hardware {
    /// Looks into a sysfs, mounted at `sys`.
    pub fn read(sys: &Path) -> Self {
        let cpu = sys.join("devices/system/cpu");
        let processors = folders(&cpu.join("cpufreq")).into_iter().filter_map(|policy| {
            let of = format!("processors {}", text(&policy.join("affected_cpus"))?);
            let governor = text(&policy.join("scaling_governor"))?;
            let (now_khz, max_khz) =
                (number(&policy.join("scaling_cur_freq"))?, number(&policy.join("cpuinfo_max_freq"))?);
            Some(Clock { of, governor, now_khz, max_khz })
        });
        let gpus = folders(&sys.join("class/devfreq")).into_iter().filter_map(|device| {
            let name = device.file_name()?.to_str()?.to_owned();
            if !is_gpu(&name) {
                return None;
            }
            let governor = text(&device.join("governor"))?;
            let (now_hz, max_hz) = (number(&device.join("cur_freq"))?, number(&device.join("max_freq"))?);
            Some(Clock { of: format!("GPU {name}"), governor, now_khz: now_hz / 1000, max_khz: max_hz / 1000 })
        });
        Hardware {
            processors: processors.collect(),
            gpus: gpus.collect(),
            isolated: text(&cpu.join("isolated")).unwrap_or_default(),
            is_preempt_rt: number(&sys.join("kernel/realtime")) == Some(1),
        }
    }
}

impl fmt::Display for Hardware {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processors, gpus, isolated, is_preempt_rt } = self;
        if processors.is_empty() {
            formatter.write_str("processors: the system does not tell their clocks")?;
        }
        for (at, clock) in processors.iter().chain(gpus).enumerate() {
            write!(formatter, "{}{clock}", if at == 0 { "" } else { "; " })?;
        }
        if !isolated.is_empty() {
            write!(formatter, "; isolated: {isolated}")?;
        }
        formatter.write_str(if *is_preempt_rt { "; kernel with PREEMPT_RT" } else { "; kernel without PREEMPT_RT" })
    }
}

/// Whether that is the GPU among `devfreq`'s devices, by Jetson's names: `17000000.ga10b` (Orin with JetPack 5), `17000000.gpu`
/// (JetPack 6), `17000000.gv11b` (Xavier), `gpu-gpc-0` (Thor).
#[must_use]
pub fn is_gpu(device: &str) -> bool {
    let name = device.rsplit('.').next().unwrap_or_default();
    ["gpu", "ga10b", "gv11b"].contains(&name) || device.starts_with("gpu-gpc")
}

/// In the order of their names, numbers by their value.
fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    paths
}

fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sysfs as an Orin has it, in part.
    fn sysfs(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{text}\n")).unwrap();
        }
        folder
    }

    #[test]
    fn clocks_of_processors_and_gpu_are_told() {
        let (cpu, gpu) = ("devices/system/cpu", "class/devfreq/17000000.gpu");
        let other = "class/devfreq/13e00000.host1x";
        let mut files = vec![
            (format!("{cpu}/isolated"), "8-11"),
            ("kernel/realtime".to_owned(), "1"),
            (format!("{gpu}/governor"), "nvhost_podgov"),
            (format!("{gpu}/cur_freq"), "306000000"),
            (format!("{gpu}/max_freq"), "1300500000"),
            (format!("{other}/governor"), "userspace"),
            (format!("{other}/cur_freq"), "1"),
            (format!("{other}/max_freq"), "1"),
        ];
        for (policy, processors, governor, now) in
            [("policy10", "10 11", "performance", "2201600"), ("policy4", "4 5 6 7", "schedutil", "729600")]
        {
            let path = |name: &str| format!("{cpu}/cpufreq/{policy}/{name}");
            files.extend([
                (path("affected_cpus"), processors),
                (path("scaling_governor"), governor),
                (path("scaling_cur_freq"), now),
                (path("cpuinfo_max_freq"), "2201600"),
            ]);
        }
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        let hardware = Hardware::read(sysfs(&files).path());
        assert_eq!(
            hardware.to_string(),
            "processors 4 5 6 7: schedutil, 0.73 of 2.20 GHz, changes with the load; processors 10 11: performance, 2.20 of 2.20 \
             GHz; GPU 17000000.gpu: nvhost_podgov, 0.31 of 1.30 GHz, changes with the load; isolated: 8-11; kernel with PREEMPT_RT"
        );
    }

    #[test]
    fn what_is_not_told_or_is_no_number_is_left_out() {
        let policy = "devices/system/cpu/cpufreq/policy0";
        let files = [format!("{policy}/affected_cpus"), format!("{policy}/scaling_governor")];
        let none = "processors: the system does not tell their clocks; kernel without PREEMPT_RT";
        assert_eq!(Hardware::read(Path::new("/nowhere")).to_string(), none);
        let cut = sysfs(&[(&files[0], "0"), (&files[1], "performance")]);
        assert_eq!(Hardware::read(cut.path()).to_string(), none);
        let frequencies = [format!("{policy}/scaling_cur_freq"), format!("{policy}/cpuinfo_max_freq")];
        let unknown = sysfs(&[
            (&files[0], "0"),
            (&files[1], "performance"),
            (&frequencies[0], "<unknown>"),
            (&frequencies[1], "2201600"),
        ]);
        assert_eq!(Hardware::read(unknown.path()).to_string(), none);
    }
}
