//! Which machine it is: the board, its chip, and the system on it.
//!
//! Sources: the device tree's `model` and `compatible` (Devicetree Specification, 2.3.1 and 2.3.2; zero-terminated); Jetson Linux says
//! its release in `/etc/nv_tegra_release` (`# R35 (release), REVISION: 4.1, GCID: ...`, Jetson Linux Developer Guide), DRIVE OS Linux
//! in `/etc/nvidia/version-ubuntu-rootfs.txt` (`6.0.6.0-...`).

use super::{Finding, Machine, Root};

/// A chip of NVIDIA's with a GPU on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chip {
    /// What people call it.
    pub name: &'static str,
    /// Compute capability of its GPU.
    pub capability: (u32, u32),
}

/// The system on a board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum System {
    /// Jetson Linux, with its release and revision.
    Jetson {
        /// 35 of `R35`.
        release: u32,
        /// `4.1`.
        revision: String,
    },
    /// DRIVE OS, with its version.
    Drive {
        /// `6.0.6.0`.
        version: String,
    },
    /// Any other.
    Other,
}

/// A machine's board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    /// Its name, where it has one.
    pub model: Option<String>,
    /// Its chip, where that is one of NVIDIA's.
    pub chip: Option<Chip>,
    /// Its system.
    pub system: System,
}

/// `compatible` of the chips whose GPU runs CUDA 11.4 or newer. CUDA 13 calls Thor's 11.0, CUDA 12.8 called it 10.1.
const CHIPS: [(&str, Chip); 3] = [
    ("nvidia,tegra194", Chip { name: "Xavier", capability: (7, 2) }),
    ("nvidia,tegra234", Chip { name: "Orin", capability: (8, 7) }),
    ("nvidia,tegra264", Chip { name: "Thor", capability: (11, 0) }),
];

impl Chip {
    /// The chip that a device tree is compatible with.
    pub fn of<'a>(mut compatible: impl Iterator<Item = &'a str>) -> Option<Chip> {
        compatible.find_map(|one| CHIPS.iter().find(|(name, _)| *name == one)).map(|(_, chip)| *chip)
    }
}

impl Board {
    /// The board of these files.
    pub fn of(root: &Root) -> Board {
        let model = root.text("/proc/device-tree/model").filter(|model| !model.is_empty());
        let compatible = root.text("/proc/device-tree/compatible").unwrap_or_default();
        let chip = Chip::of(compatible.split('\0'));
        let jetson = root.text("/etc/nv_tegra_release").and_then(|text| jetson_release(&text));
        let drive = || root.text("/etc/nvidia/version-ubuntu-rootfs.txt").and_then(|text| drive_version(&text));
        let system = match jetson {
            Some((release, revision)) => System::Jetson { release, revision },
            None => drive().map_or(System::Other, |version| System::Drive { version }),
        };
        Board { model, chip, system }
    }
}

/// `# R35 (release), REVISION: 4.1, ...`
pub fn jetson_release(text: &str) -> Option<(u32, String)> {
    let release = text.trim_start_matches('#').trim_start().strip_prefix('R')?.split_once(' ')?.0.parse().ok()?;
    let revision = text.split_once("REVISION:")?.1.trim_start();
    let end = revision.find(|symbol: char| !symbol.is_ascii_digit() && symbol != '.').unwrap_or(revision.len());
    Some((release, revision.get(..end)?.to_owned()))
}

/// `6.0.6.0-30956629`, from wherever a version begins.
fn drive_version(text: &str) -> Option<String> {
    let is_version =
        |word: &&str| word.split('.').count() >= 3 && word.starts_with(|first: char| first.is_ascii_digit());
    let word = text.split(|symbol: char| symbol != '.' && !symbol.is_ascii_digit()).find(is_version)?;
    Some(word.to_owned())
}

pub(super) fn check(machine: &Machine) -> Vec<Finding> {
    vec![model(machine), system(machine)]
}

fn model(machine: &Machine) -> Finding {
    let Board { model, chip, .. } = &machine.board;
    let gpu = |chip: &Chip| format!("{} with a GPU of sm_{}{}", chip.name, chip.capability.0, chip.capability.1);
    match (model, chip) {
        (Some(model), Some(chip)) => Finding::green("machine", format!("{model}, {}", gpu(chip))),
        (None, Some(chip)) => Finding::green("machine", gpu(chip)),
        (Some(model), None) => {
            Finding::green("machine", format!("{model}, without a chip of NVIDIA's that is known here"))
        }
        (None, None) => {
            let product = machine.root.text("/sys/class/dmi/id/product_name").filter(|name| !name.is_empty());
            let named = product.map_or_else(String::new, |name| format!(" ({name})"));
            Finding::green("machine", format!("no board with a Tegra{named}: judged as a machine for replay"))
        }
    }
}

fn system(machine: &Machine) -> Finding {
    match &machine.board.system {
        System::Jetson { release, revision } => jetson(*release, revision),
        System::Drive { version } => drive(version),
        System::Other if machine.board.chip.is_some() => Finding::yellow(
            "system",
            "neither Jetson Linux (/etc/nv_tegra_release) nor DRIVE OS (/etc/nvidia/version-ubuntu-rootfs.txt): its release is unknown",
            "in a container, mount the host's file with `-v /etc/nv_tegra_release:/etc/nv_tegra_release:ro`; else ask `apt list --installed nvidia-l4t-core`",
        ),
        System::Other => other(machine),
    }
}

fn other(machine: &Machine) -> Finding {
    let text = machine.root.text("/etc/os-release").unwrap_or_default();
    let pretty = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    match pretty {
        Some(name) => Finding::green("system", name.trim_matches('"')),
        None => Finding::yellow(
            "system",
            "no /etc/os-release: the system is unknown",
            "nothing, if the checks below are as expected; with --root, name the folder of a whole system",
        ),
    }
}

fn jetson(release: u32, revision: &str) -> Finding {
    let jetpack = match release {
        ..=32 => " (JetPack 4 or older)",
        34 | 35 => " (JetPack 5)",
        36 => " (JetPack 6)",
        38 | 39 => " (JetPack 7)",
        _ => "",
    };
    let found = format!("Jetson Linux {release}.{revision}{jetpack}");
    if release < 35 {
        let found = format!("{found}: its CUDA is older than 11.4");
        return Finding::red("system", found, "flash JetPack 5.1 or newer with SDK Manager");
    }
    Finding::green("system", found)
}

fn drive(version: &str) -> Finding {
    let found = format!("DRIVE OS {version}");
    let major: Option<u32> = version.split('.').next().and_then(|major| major.parse().ok());
    if major.is_some_and(|major| major < 6) {
        return Finding::red("system", format!("{found}: its CUDA is older than 11.4"), "flash DRIVE OS 6.0 or newer");
    }
    Finding::green("system", found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_as_they_are_written() {
        let text = "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, DATE: Tue Aug  1 19:57:35 UTC 2023";
        assert_eq!(jetson_release(text), Some((35, "4.1".to_owned())));
        assert_eq!(jetson_release("# R36 (release), REVISION: 3.0"), Some((36, "3.0".to_owned())));
        for wrong in ["", "R", "# R (release)", "# R36", "REVISION: 1", "# R36 (release)"] {
            assert_eq!(jetson_release(wrong), None, "{wrong:?}");
        }
        assert_eq!(drive_version("6.0.6.0-31732390").as_deref(), Some("6.0.6.0"));
        assert_eq!(drive_version("DRIVE OS 7.0.3.0").as_deref(), Some("7.0.3.0"));
        assert_eq!(drive_version("none"), None);
    }
}
