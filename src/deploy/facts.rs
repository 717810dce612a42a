//! What the target is, as `probe.sh` says it.

use super::DeployError;
use super::ssh::Reply;
use crate::doctor::board::Chip;

/// What the target is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// `uname -m`
    pub machine: String,
    /// Name and version of the kernel.
    pub kernel: String,
    /// Version of the C library, where it is glibc.
    pub glibc: Option<(u32, u32)>,
    /// Programs that steps need and that are not there.
    pub missing: Vec<String>,
    /// Name of the distribution.
    pub system: Option<String>,
    /// First line of Jetson Linux's release file.
    pub l4t: Option<String>,
    /// First line of DRIVE OS's release file.
    pub drive: Option<String>,
    /// `compatible` of the device tree.
    pub compatible: String,
    /// Name and compute capability of a GPU that `nvidia-smi` knows.
    pub gpu: Option<String>,
    /// Where the driver's library is.
    pub libcuda: Option<String>,
    /// Where TensorRT's library is.
    pub nvinfer: Option<String>,
    /// Room on the disk of the prefix, in bytes.
    pub free_bytes: u64,
    /// What the target's clock has above ours, in seconds.
    pub clock_offset_s: f64,
    /// The user.
    pub user: String,
    /// The user's number.
    pub uid: u32,
    /// Whether the user can write into the prefix.
    pub is_writable: bool,
    /// Whether the user can do everything as root without a password.
    pub has_sudo: bool,
    /// Whether systemd runs.
    pub has_systemd: bool,
    /// The release in use.
    pub current: Option<String>,
    /// The release in use before.
    pub previous: Option<String>,
    /// All releases, with what lost connections left.
    pub releases: Vec<String>,
    /// The unit of the release in use.
    pub unit: Option<String>,
}

impl Facts {
    /// Reads an answer that has just come.
    pub fn parse(reply: &Reply) -> Result<Facts, DeployError> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Facts::parse_at(reply, now.as_secs_f64())
    }

    fn parse_at(reply: &Reply, now_s: f64) -> Result<Facts, DeployError> {
        let some = |key: &str| reply.first(key).filter(|value| !value.is_empty()).map(str::to_owned);
        // without fractions, as BusyBox prints it, the clock has the letter in their place
        let clock = reply.needs("clock")?.trim_end_matches(|letter: char| !letter.is_ascii_digit());
        let free_kib: u64 = reply.needs("free_kib")?.parse().unwrap_or(0);
        Ok(Facts {
            machine: reply.needs("machine")?.to_owned(),
            kernel: some("kernel").unwrap_or_default(),
            glibc: some("glibc").and_then(|text| version(&text)),
            missing: reply.all("missing").map(str::to_owned).collect(),
            system: some("system"),
            l4t: some("l4t"),
            drive: some("drive"),
            compatible: some("compatible").unwrap_or_default(),
            gpu: some("gpu"),
            libcuda: some("libcuda"),
            nvinfer: some("nvinfer"),
            free_bytes: free_kib << 10,
            clock_offset_s: clock.parse().map_or(0.0, |clock: f64| clock - now_s),
            user: some("user").unwrap_or_default(),
            uid: reply.needs("uid")?.parse().unwrap_or(u32::MAX),
            is_writable: reply.first("writable").is_some(),
            has_sudo: reply.first("sudo").is_some(),
            has_systemd: reply.first("systemd").is_some(),
            current: some("current"),
            previous: some("previous"),
            releases: reply.all("release").map(str::to_owned).collect(),
            unit: some("unit"),
        })
    }

    /// Whether steps run as root anyway.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// The GPU in words, where there is one that is known: of a Tegra by its device tree, else as `nvidia-smi` names it.
    #[must_use]
    pub fn gpu_words(&self) -> Option<String> {
        let tegra = Chip::of(self.compatible.split(' '));
        let words = |Chip { name, capability: (major, minor) }| format!("{name}, sm_{major}{minor}");
        tegra.map(words).or_else(|| self.gpu.clone())
    }
}

/// `2.31`, or the like with more behind.
fn version(text: &str) -> Option<(u32, u32)> {
    let number = |part: &str| part.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok();
    let mut parts = text.split('.').map(number);
    Some((parts.next()??, parts.next()??))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An Orin with Jetson Linux, where nothing was deployed yet.
    pub fn orin() -> Vec<String> {
        let lines = [
            "machine aarch64",
            "kernel Linux 5.15.148-tegra",
            "glibc 2.35",
            "system Ubuntu 22.04.5 LTS",
            "l4t # R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic",
            "compatible nvidia,p3737-0000+p3701-0005 nvidia,tegra234 ",
            "libcuda /usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1.1",
            "nvinfer /usr/lib/aarch64-linux-gnu/libnvinfer.so.10.3.0",
            "free_kib 1048576",
            "clock 1000.250000000",
            "user nvidia",
            "uid 1000",
            "sudo yes",
            "systemd yes",
            "current ",
            "previous ",
        ];
        lines.map(str::to_owned).to_vec()
    }

    #[test]
    fn an_answer_becomes_facts() {
        let facts = Facts::parse_at(&Reply::of(orin()), 1000.0).unwrap();
        assert_eq!((facts.glibc, facts.free_bytes, facts.uid), (Some((2, 35)), 1 << 30, 1000));
        assert!((facts.clock_offset_s - 0.25).abs() < 1e-6);
        assert_eq!(facts.gpu_words().unwrap(), "Orin, sm_87");
        assert!(
            facts.current.is_none() && facts.has_systemd && facts.has_sudo && !facts.is_writable && !facts.is_root()
        );
    }

    #[test]
    fn a_busybox_clock_has_no_fractions_and_other_answers_are_none() {
        let lines =
            |clock: &str| ["machine x", "free_kib 1", "uid 0"].map(str::to_owned).into_iter().chain([clock.to_owned()]);
        let facts = Facts::parse_at(&Reply::of(lines("clock 1001.%N")), 1000.0).unwrap();
        assert!((facts.clock_offset_s - 1.0).abs() < 1e-6);
        assert!(Facts::parse(&Reply::of(["This account is not available".to_owned()])).is_err());
    }

    #[test]
    fn versions_have_two_numbers() {
        assert_eq!(version("2.31"), Some((2, 31)));
        assert_eq!(version("2.35-0ubuntu3.8"), Some((2, 35)));
        assert_eq!((version("musl"), version("")), (None, None));
    }
}
