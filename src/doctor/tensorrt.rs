//! TensorRT: which version, whether it has kernels for this GPU, and whether it can build engines here.
//!
//! A TensorRT without kernels for the GPU installs and loads, and fails only at the first build: "Target GPU SM 87 is not supported
//! by this TensorRT release" (10.13.3 on Orin: github.com/NVIDIA-ISAAC-ROS/isaac-ros-cli/issues/22). What tells it before is the list
//! of cubins in `libnvinfer.so` ([`super::fatbin`]), as `cuobjdump --list-elf` gives it there.
//!
//! The names of the builder's resources do not: 8.6 to about 10.8 have one `libnvinfer_builder_resource.so.VERSION` for all GPUs,
//! later ones a `libnvinfer_builder_resource_sm86.so.VERSION` for each architecture and one of PTX, and 10.16 builds engines on Orin
//! although there is no `sm87` among them (github.com/OE4T/meta-tegra/issues/2240, pull/2348). So they only tell whether engines can be
//! built at all: without them a library only runs engines.

use std::collections::BTreeSet;

use super::gpu::{Gpu, Library, find_library, version_numbers};
use super::{Finding, Machine, fatbin, list_text};

/// The library without which there is no TensorRT.
pub(super) const LIBRARY: &str = "libnvinfer.so";
/// From here on the builder's kernels are in a library of their own.
const RESOURCES_SINCE: [u32; 2] = [8, 6];

/// The majors whose headers this build had.
#[cfg(feature = "tensorrt")]
const COMPILED_IN: &[u32] = &[
    #[cfg(catseye_trt8)]
    8,
    #[cfg(catseye_trt10)]
    10,
    #[cfg(catseye_trt11)]
    11,
];
#[cfg(not(feature = "tensorrt"))]
const COMPILED_IN: &[u32] = &[];

pub fn check(machine: &Machine) -> Vec<Finding> {
    let gpu = Gpu::of(machine);
    match (find_library(machine, LIBRARY), gpu) {
        (None, None) => Vec::new(),
        (None, Some(gpu)) => vec![absent(&gpu)],
        (Some(library), gpu) => {
            let mut findings = vec![version(&library)];
            findings.extend(gpu.map(|gpu| kernels(machine, &library, &gpu)));
            findings.extend([builder(machine, &library), parser(machine, &library)]);
            findings
        }
    }
}

fn absent(gpu: &Gpu) -> Finding {
    let found = "no libnvinfer.so in any folder of libraries: networks run on the CPU";
    match gpu.is_integrated {
        true => Finding::red(
            "version",
            found,
            "`sudo apt install tensorrt`; in a container start it with `--runtime nvidia`, or use an image with TensorRT",
        ),
        false => Finding::yellow(
            "version",
            found,
            "`sudo apt install tensorrt`, or name the folder of libnvinfer.so with CATSEYE_TENSORRT_LIB",
        ),
    }
}

fn version(library: &Library) -> Finding {
    let Library { folder, file, version } = library;
    let found = format!("{version} ({folder}/{file})");
    let numbers = version_numbers(version).unwrap_or_default();
    let major = numbers.first().copied().unwrap_or(0);
    // a name that ends with the major says too little to call it too old
    let is_too_old = major < 8 || numbers.len() > 1 && numbers < vec![8, 5];
    if is_too_old || major == 9 {
        let found = format!("{found} is none that catseye knows");
        return Finding::red("version", found, "install TensorRT 8.5 or newer, 10 or 11");
    }
    if cfg!(feature = "tensorrt") && !COMPILED_IN.contains(&major) {
        let found = format!("{found}, and this catseye was built with the headers of {}", list_text(COMPILED_IN));
        let mend = "build it with CATSEYE_TENSORRT_INCLUDE naming the folder of this version's NvInfer.h (`sudo apt install libnvinfer-headers-dev`)";
        return Finding::red("version", found, mend);
    }
    Finding::green("version", found)
}

/// Whether it has kernels for the GPU.
fn kernels(machine: &Machine, library: &Library, gpu: &Gpu) -> Finding {
    const SUBJECT: &str = "kernels";
    let path = machine.root.join(&format!("{}/{}", library.folder, library.file));
    let architectures = match fatbin::architectures_of(&path) {
        Ok(found) => found,
        Err(error) => {
            let found = format!("{} does not tell its architectures: {error}", library.file);
            return Finding::yellow(
                SUBJECT,
                found,
                "install TensorRT anew if an engine does not build: the file may be damaged",
            );
        }
    };
    let Some(capability) = gpu.capability else {
        return Finding::green(SUBJECT, format!("for {}", names(&architectures)));
    };
    let wanted = 10 * capability.0 + capability.1;
    if architectures.is_empty() {
        let found = format!(
            "{} has no list of architectures: whether it runs on {} is not known",
            library.file,
            gpu.architecture()
        );
        return Finding::yellow(SUBJECT, found, "`catseye engine build MODEL.onnx` tells it");
    }
    if architectures.contains(&wanted) {
        return Finding::green(SUBJECT, format!("for sm_{wanted}, this {}", gpu.name));
    }
    let found =
        format!("TensorRT {} has no kernels for sm_{wanted}, only for {}", library.version, names(&architectures));
    // on a card, kernels of an older GPU of the same family run too; code for cards does not run on a Tegra, nor the reverse
    let is_of_family = |other: &u32| other / 10 == capability.0 && *other < wanted;
    if !gpu.is_integrated && architectures.iter().any(is_of_family) {
        return Finding::yellow(
            SUBJECT,
            format!("{found}: it may refuse to build"),
            "install a TensorRT whose support matrix lists this GPU",
        );
    }
    let mend = match gpu.is_integrated {
        true => {
            "install the TensorRT of the board's own release (`sudo apt install nvidia-jetpack`, or the DRIVE OS SDK's), and remove pins of other versions from /etc/apt/preferences.d"
        }
        false => "install a TensorRT whose support matrix lists this GPU",
    };
    Finding::red(SUBJECT, format!("{found}: no engine can be built or run"), mend)
}

fn names(architectures: &BTreeSet<u32>) -> String {
    list_text(architectures.iter().map(|architecture| format!("sm_{architecture}")))
}

/// Whether engines can be built.
fn builder(machine: &Machine, library: &Library) -> Finding {
    const SUBJECT: &str = "builder";
    let numbers = version_numbers(&library.version).unwrap_or_default();
    if numbers.len() > 1 && numbers < RESOURCES_SINCE.to_vec() {
        return Finding::green(SUBJECT, "part of libnvinfer.so");
    }
    let prefix = "libnvinfer_builder_resource";
    // a name must end with the library's version, or say less than it
    let is_of = |name: &String| {
        let rest = name.strip_prefix(prefix).and_then(|rest| rest.split_once(".so."));
        rest.is_some_and(|(_, version)| library.version.starts_with(version) || version.starts_with(&library.version))
    };
    let found: Vec<String> = machine.root.names(&library.folder).into_iter().filter(is_of).collect();
    match found.as_slice() {
        [] if numbers.len() < 2 => {
            Finding::green(SUBJECT, format!("whether {} needs builder resources is not told by its name", library.file))
        }
        [] => Finding::yellow(
            SUBJECT,
            format!("no {prefix}*.so.{} beside it: engines can be run here, not built", library.version),
            "`sudo apt install libnvinfer-dev` of the same version, or build engines on a machine of the same kind",
        ),
        [one] => Finding::green(SUBJECT, one.clone()),
        several => Finding::green(SUBJECT, format!("{} libraries {prefix}_*.so", several.len())),
    }
}

fn parser(machine: &Machine, library: &Library) -> Finding {
    match find_library(machine, "libnvonnxparser.so") {
        None => Finding::yellow(
            "parser",
            "no libnvonnxparser.so: engines can be run here, not built from ONNX files",
            "`sudo apt install libnvonnxparsers-dev`",
        ),
        Some(parser) if parser.version.split('.').next() != library.version.split('.').next() => Finding::red(
            "parser",
            format!("{} is of another major version than TensorRT {}", parser.file, library.version),
            "install both of one version (`sudo apt install tensorrt`)",
        ),
        Some(parser) => Finding::green("parser", parser.file),
    }
}
