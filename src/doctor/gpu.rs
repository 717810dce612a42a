//! The GPU, its driver, CUDA, and whether this build of catseye can use them. Without the feature `cuda` all of it is told from files.
//!
//! Sources: `/proc/driver/nvidia/{version,gpus/*/information}` of the discrete driver (its README, "The /proc File System Interface"),
//! `nvidia-smi`, PCI ids under `/sys/bus/pci`, the device nodes of `nvgpu` and the folders of `libcuda` on Jetson Linux (35:
//! `.../tegra`, 36 and later: `.../nvidia`), `version.json` of the CUDA toolkit. Which driver has which CUDA: CUDA Toolkit Release
//! Notes, "CUDA Toolkit and Corresponding Driver Versions".

use super::facts::Probe;
use super::{Finding, Machine, Root};

/// Where libraries are, beside the folders that the loader's configuration and the environment add.
const LIBRARY_FOLDERS: [&str; 10] = [
    "/usr/lib/aarch64-linux-gnu/tegra",
    "/usr/lib/aarch64-linux-gnu/nvidia",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib64",
    "/usr/lib/wsl/lib",
    "/usr/lib",
    "/lib/aarch64-linux-gnu",
    "/lib/x86_64-linux-gnu",
    "/usr/local/lib",
];

/// The first driver of CUDA 11.4.
const OLDEST_DRIVER: u32 = 470;

/// A GPU, as far as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gpu {
    pub(super) name: String,
    pub(super) capability: Option<(u32, u32)>,
    /// Whether it is part of the board's chip: code for others of its family does not run on it (CUDA C++ Programming Guide,
    /// "Binary Compatibility").
    pub(super) is_integrated: bool,
}

impl Gpu {
    /// The first GPU of the machine.
    pub(super) fn of(machine: &Machine) -> Option<Gpu> {
        let chip = machine.board.chip;
        if let Some(Probe::Device { name, capability: [major, minor], .. }) = &machine.facts.gpu {
            return Some(Gpu { name: name.clone(), capability: Some((*major, *minor)), is_integrated: chip.is_some() });
        }
        if let Some(chip) = chip {
            return Some(Gpu { name: chip.name.to_owned(), capability: Some(chip.capability), is_integrated: true });
        }
        if let Some(card) = cards(machine).into_iter().next() {
            return Some(Gpu { name: card.name, capability: card.capability, is_integrated: false });
        }
        let gpus = machine.root.names("/proc/driver/nvidia/gpus").into_iter();
        let names = gpus.filter_map(|gpu| machine.root.text(&format!("/proc/driver/nvidia/gpus/{gpu}/information")));
        let name =
            names.filter_map(|text| Some(text.lines().find_map(|line| line.strip_prefix("Model:"))?.trim().to_owned()));
        name.map(|name| Gpu { name, capability: None, is_integrated: false }).next()
    }

    /// `sm_87`.
    pub(super) fn architecture(&self) -> String {
        self.capability
            .map_or_else(|| "an unknown architecture".to_owned(), |(major, minor)| format!("sm_{major}{minor}"))
    }
}

/// A line of `nvidia-smi`.
pub(super) struct Card {
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) capability: Option<(u32, u32)>,
    /// Bits of `nvmlClocksEventReasons`.
    pub(super) throttle_reasons: Option<u64>,
    pub(super) clock: String,
    pub(super) highest_clock: String,
}

/// All GPUs that `nvidia-smi` lists.
pub(super) fn cards(machine: &Machine) -> Vec<Card> {
    machine.facts.nvidia_smi.as_deref().unwrap_or_default().lines().filter_map(card).collect()
}

fn card(line: &str) -> Option<Card> {
    let mut fields = line.split(',').map(|field| field.trim().to_owned());
    let (name, driver) = (fields.next()?, fields.next()?);
    let capability = fields.next()?;
    let capability =
        capability.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let throttle_reasons = fields.next()?.strip_prefix("0x").and_then(|bits| u64::from_str_radix(bits, 16).ok());
    Some(Card { name, driver, capability, throttle_reasons, clock: fields.next()?, highest_clock: fields.next()? })
}

/// Folders in which libraries are looked for, in order.
pub(super) fn library_folders(machine: &Machine) -> Vec<String> {
    let configured = machine.root.names("/etc/ld.so.conf.d").into_iter().flat_map(|file| {
        let text = machine.root.text(&format!("/etc/ld.so.conf.d/{file}")).unwrap_or_default();
        text.lines().map(|line| line.trim().to_owned()).filter(|line| line.starts_with('/')).collect::<Vec<_>>()
    });
    let known = LIBRARY_FOLDERS.iter().map(|folder| (*folder).to_owned());
    let mut folders: Vec<String> = Vec::new();
    for folder in machine.facts.library_folders.iter().cloned().chain(known).chain(configured) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// A shared library: its folder, its most telling file name, and the version in that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Library {
    pub(super) folder: String,
    pub(super) file: String,
    /// `10.3.0`; only `10` where no file says more.
    pub(super) version: String,
}

/// The library `stem` (as `libcuda.so`) of the first folder that has it.
pub(super) fn find_library(machine: &Machine, stem: &str) -> Option<Library> {
    library_folders(machine).into_iter().find_map(|folder| in_folder(&machine.root, folder, stem))
}

/// Of several in a folder, the newest; of several names of one, the one that says most.
fn in_folder(root: &Root, folder: String, stem: &str) -> Option<Library> {
    let prefix = format!("{stem}.");
    let mut best: Option<(Vec<u32>, String)> = None;
    for file in root.names(&folder) {
        let Some(numbers) = file.strip_prefix(&prefix).and_then(version_numbers) else { continue };
        if best.as_ref().is_none_or(|(newest, _)| numbers > *newest) {
            best = Some((numbers, file));
        }
    }
    let (_, file) = best?;
    // as it is written: drivers are named 580.159.04
    let version = file.strip_prefix(&prefix)?.to_owned();
    Some(Library { folder, file, version })
}

/// `10.3.0` as numbers.
pub(super) fn version_numbers(text: &str) -> Option<Vec<u32>> {
    text.split('.').map(|number| number.parse().ok()).collect()
}

pub fn check(machine: &Machine) -> Vec<Finding> {
    let Some(gpu) = Gpu::of(machine) else { return vec![no_gpu(machine), build(None)] };
    let mut findings = vec![device(machine, &gpu)];
    findings.extend([driver(machine, &gpu), cuda(machine)]);
    if let Some(Probe::Failed(cause)) = &machine.facts.gpu {
        let mend = if gpu.is_integrated {
            "`sudo dmesg | grep -i nvgpu`"
        } else {
            "`nvidia-smi` and `sudo dmesg | grep -i nvrm`"
        };
        findings.push(Finding::red("use", format!("the GPU cannot be used: {cause}"), format!("ask {mend} why")));
    }
    findings.push(build(Some(&gpu)));
    findings
}

fn no_gpu(machine: &Machine) -> Finding {
    if has_card_without_driver(&machine.root) {
        return Finding::red(
            "device",
            "a GPU of NVIDIA's is plugged in, and no driver has taken it",
            "install the driver (`sudo ubuntu-drivers install`), or load it (`sudo modprobe nvidia`)",
        );
    }
    Finding::yellow(
        "device",
        "no GPU of NVIDIA's: networks run on the CPU",
        "nothing, if the CPU shall do it; in a container start it with `--gpus all`, or `--runtime nvidia` on a Jetson",
    )
}

/// NVIDIA's vendor number and PCI's class of display controllers.
fn has_card_without_driver(root: &Root) -> bool {
    let of =
        |device: &String, file: &str| root.text(&format!("/sys/bus/pci/devices/{device}/{file}")).unwrap_or_default();
    root.names("/sys/bus/pci/devices")
        .iter()
        .any(|device| of(device, "vendor") == "0x10de" && of(device, "class").starts_with("0x03"))
}

/// Device nodes of which one is enough: `nvgpu`'s, old and new, and the discrete driver's, which JetPack 7 uses too.
const NODES: [&str; 4] = ["/dev/nvgpu/igpu0/ctrl", "/dev/nvhost-ctrl-gpu", "/dev/nvhost-gpu", "/dev/nvidia0"];

fn device(machine: &Machine, gpu: &Gpu) -> Finding {
    let place = if gpu.is_integrated { ", which shares the CPU's memory" } else { "" };
    let what = format!("{} ({}){place}", gpu.name, gpu.architecture());
    if NODES.iter().any(|node| machine.root.exists(node)) {
        return Finding::green("device", what);
    }
    let mend = match gpu.is_integrated {
        true => "load its driver (`sudo modprobe nvgpu`); in a container start it with `--runtime nvidia`",
        false => "load its driver (`sudo modprobe nvidia`); in a container start it with `--gpus all`",
    };
    Finding::red("device", format!("{what} has no device file: none of {} is there", NODES.join(", ")), mend)
}

fn driver(machine: &Machine, gpu: &Gpu) -> Finding {
    let library = find_library(machine, "libcuda.so");
    let module = kernel_module(&machine.root).or_else(|| cards(machine).into_iter().next().map(|card| card.driver));
    let Some(library) = library else {
        let mend = match gpu.is_integrated {
            true => "`sudo apt install nvidia-l4t-cuda`; in a container start it with `--runtime nvidia`",
            false => "install the driver's libraries (`libnvidia-compute-...`) of the version of its kernel module",
        };
        return Finding::red("driver", "no libcuda.so in any folder of libraries: no program can reach the GPU", mend);
    };
    let place = format!("{}/{}", library.folder, library.file);
    let Some(module) = module else { return Finding::green("driver", place) };
    // on a Tegra the name of the library says another version
    let is_versioned = library.version.contains('.') && !gpu.is_integrated;
    if is_versioned && library.version != module {
        let found = format!("the kernel's module is {module}, and {place} is of another version: CUDA refuses both");
        return Finding::red(
            "driver",
            found,
            "reboot, if the driver was just updated; else install one version of both",
        );
    }
    let major: Option<u32> = module.split('.').next().and_then(|major| major.parse().ok());
    if major.is_some_and(|major| major < OLDEST_DRIVER) && !gpu.is_integrated {
        let found = format!("{module} is older than CUDA 11.4, which catseye needs");
        return Finding::red("driver", found, format!("install a driver of version {OLDEST_DRIVER} or newer"));
    }
    Finding::green("driver", format!("{module}, {place}"))
}

/// `NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug ...`
fn kernel_module(root: &Root) -> Option<String> {
    if let Some(version) = root.text("/sys/module/nvidia/version") {
        return Some(version);
    }
    let text = root.text("/proc/driver/nvidia/version")?;
    let is_version = |word: &&str| word.contains('.') && version_numbers(word).is_some();
    text.lines().next()?.split_whitespace().find(is_version).map(str::to_owned)
}

fn cuda(machine: &Machine) -> Finding {
    let toolkit = toolkit_version(&machine.root);
    let beside = match &toolkit {
        Some(version) => format!("toolkit {version}"),
        None if machine.root.exists("/usr/local/cuda/bin") => "a toolkit that does not say its version".to_owned(),
        None => "no toolkit".to_owned(),
    };
    if let Some(Probe::Device { cuda, .. }) = machine.facts.gpu {
        return Finding::green("CUDA", format!("the driver knows CUDA {}.{}; {beside}", cuda / 1000, cuda % 1000 / 10));
    }
    match toolkit {
        Some(version) if version_numbers(&version).is_some_and(|numbers| numbers < vec![11, 4]) => Finding::yellow(
            "CUDA",
            format!("toolkit {version} is older than 11.4"),
            "a build with `--features cuda` needs nvcc of 11.4 or newer: name one with CATSEYE_NVCC",
        ),
        // a program that was built needs no toolkit
        _ => Finding::green("CUDA", format!("{beside} in /usr/local/cuda")),
    }
}

fn toolkit_version(root: &Root) -> Option<String> {
    if let Some(text) = root.text("/usr/local/cuda/version.json") {
        let value: serde_json::Value = serde_json::from_str(&text).ok()?;
        return Some(value.pointer("/cuda/version")?.as_str()?.to_owned());
    }
    // before 11.1: "CUDA Version 10.2.300"
    root.text("/usr/local/cuda/version.txt")?.split_whitespace().last().map(str::to_owned)
}

/// Whether this build can use a GPU.
fn build(gpu: Option<&Gpu>) -> Finding {
    let found = if cfg!(feature = "tensorrt") {
        return Finding::green("this catseye", "built with CUDA and TensorRT");
    } else if cfg!(feature = "cuda") {
        "built with CUDA but without TensorRT"
    } else {
        "built without CUDA and TensorRT"
    };
    match gpu {
        None => Finding::green("this catseye", format!("{found}, which nothing here could use")),
        Some(_) => Finding::yellow(
            "this catseye",
            format!("{found}: networks run on the CPU"),
            "`cargo build --release --features tensorrt`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Facts;
    use super::*;

    #[test]
    fn a_line_of_nvidia_smi_is_read() {
        let card = card("NVIDIA H200, 570.86.15, 9.0, 0x0000000000000004, 1980 MHz, 1980 MHz").unwrap();
        assert_eq!(
            (card.name.as_str(), card.capability, card.throttle_reasons),
            ("NVIDIA H200", Some((9, 0)), Some(4))
        );
        let old = super::card("Tesla, 470.1, [N/A], [Not Supported], 1 MHz, 2 MHz").unwrap();
        assert!(old.capability.is_none() && old.throttle_reasons.is_none());
        assert!(super::card("No devices were found").is_none());
    }

    #[test]
    fn of_several_libraries_the_newest_and_most_telling_name_counts() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let libraries = "/usr/lib/x86_64-linux-gnu";
        std::fs::create_dir_all(root.join(libraries)).unwrap();
        for name in [
            "libnvinfer.so",
            "libnvinfer.so.8",
            "libnvinfer.so.8.6.1",
            "libnvinfer.so.10",
            "libnvinfer.so.10.3.0",
            "libnvinfer.so.bak",
        ] {
            std::fs::write(root.join(&format!("{libraries}/{name}")), "").unwrap();
        }
        let machine = Machine::new(root, Facts::default(), None);
        let found = find_library(&machine, "libnvinfer.so").unwrap();
        assert_eq!((found.file.as_str(), found.version.as_str()), ("libnvinfer.so.10.3.0", "10.3.0"));
        assert!(find_library(&machine, "libcuda.so").is_none());
    }

    #[test]
    fn the_version_of_the_kernels_module_is_found_in_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        std::fs::create_dir_all(root.join("/proc/driver/nvidia")).unwrap();
        let words = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version:  gcc 12.3.0\n";
        std::fs::write(root.join("/proc/driver/nvidia/version"), words).unwrap();
        assert_eq!(kernel_module(&root).as_deref(), Some("535.104.05"));
    }
}
