//! A rig on this machine: whether it is right, its live sources are there, and its models and their engines too.

use std::net::UdpSocket;
use std::path::Path;

use catseye_calibration::rig::{Exporter, Model as RigModel, Rig, Source, Udp};

use super::engines::Shelf;
use super::gpu::Gpu;
use super::{Finding, Machine, cameras, can, list_text};
use crate::live::exporter::Library;
use crate::pipeline::Files;
use crate::stages::infer::Model;

pub fn check(machine: &Machine) -> Vec<Finding> {
    let Some(path) = &machine.rig else { return Vec::new() };
    let rig = match Rig::load(path) {
        Ok(rig) => rig,
        Err(error) => {
            let mend = "mend the line; `catseye rig check FILE` names it too";
            if error.problems.is_empty() {
                return vec![Finding::red("rig", error.to_string(), mend)];
            }
            return error.problems.iter().map(|problem| Finding::red("rig", problem.to_string(), mend)).collect();
        }
    };
    let mut findings = vec![whole(&rig, path)];
    findings.extend(rig.sources.iter().map(|(sensor, source)| live(machine, &rig, sensor, source)));
    let shelf = Shelf::of(machine);
    findings.extend(rig.models.iter().map(|model| of_model(machine, &rig, model, shelf.as_ref())));
    findings
}

fn whole(rig: &Rig, path: &Path) -> Finding {
    let (sensors, models) = (rig.sensors().count(), rig.models.len());
    let found = format!("{}: {sensors} sensors, {} of them live, {models} models", path.display(), rig.sources.len());
    Finding::green("rig", found)
}

/// A sensor's live source, judged by the driver that would take it and by what is there.
fn live(machine: &Machine, rig: &Rig, sensor: &str, source: &Source) -> Finding {
    let mend = "see \"Live sensors\" in the README for sources and formats";
    let driver = rig.sensor(sensor).map(|found| crate::live::driver(&found, source, rig, &Files::new()));
    match driver {
        Some(Err(error)) => return Finding::red(sensor, error.to_string(), mend),
        None | Some(Ok(None)) => {
            return Finding::red(sensor, format!("{source}: no such sensor can be live from it"), mend);
        }
        Some(Ok(Some(_))) => {}
    }
    match source {
        Source::Device(path) => of_camera(machine, sensor, source, Some(path)),
        Source::Bus(bus) => {
            let found = machine.facts.cameras.iter().find(|camera| camera.bus == *bus);
            of_camera(machine, sensor, source, found.map(|camera| Path::new(&camera.path)))
        }
        Source::Exporter(exporter) => of_exporter(machine, sensor, exporter),
        Source::Can(interface) => match can::is_there(machine, interface) {
            Ok(()) => Finding::green(sensor, format!("{interface} is there")),
            Err(cause) => Finding::red(
                sensor,
                cause,
                format!("`sudo ip link set {interface} up type can bitrate 500000`, or mend its `source`"),
            ),
        },
        Source::Udp(udp) | Source::Radar { udp, .. } => of_udp(machine, sensor, udp),
        Source::Serial { device, .. } if machine.root.exists(&device.to_string_lossy()) => {
            Finding::green(sensor, format!("{} is there", device.display()))
        }
        Source::Serial { device, .. } => {
            Finding::red(sensor, format!("{} is not there", device.display()), "plug it in, or mend its `source`")
        }
        Source::Tcp(host) => Finding::green(sensor, format!("{host} is asked when it runs")),
        Source::ImuSignals { bus, .. } | Source::UltrasonicSignals { bus, .. } => {
            Finding::green(sensor, format!("comes with the bus {bus}"))
        }
    }
}

fn of_camera(machine: &Machine, sensor: &str, source: &Source, path: Option<&Path>) -> Finding {
    let path = path.map(|path| path.to_string_lossy().into_owned()).filter(|path| machine.root.exists(path));
    let Some(path) = path else {
        let there =
            list_text(machine.facts.cameras.iter().map(|camera| format!("{} (bus:{})", camera.path, camera.bus)));
        let mend = "plug it in, or mend its `source`";
        return Finding::red(sensor, format!("{source} is not there; cameras are: {there}"), mend);
    };
    let holders = cameras::holders(machine, &path);
    if !holders.is_empty() {
        return Finding::red(
            sensor,
            format!("{source} is in use by {}", list_text(holders)),
            "end that program before `catseye run`",
        );
    }
    Finding::green(sensor, format!("{source} is there"))
}

/// A library is not opened to be looked at: that runs code of whoever made it.
fn of_exporter(machine: &Machine, sensor: &str, exporter: &Exporter) -> Finding {
    let Library { path, made_by } = Library::of(exporter);
    if !path.is_absolute() {
        return Finding::yellow(
            sensor,
            format!("{} is looked for when it runs, where the loader finds libraries", path.display()),
            made_by.unwrap_or("name its file from the root"),
        );
    }
    if machine.root.exists(&path.to_string_lossy()) {
        return Finding::green(sensor, format!("{} is there, and is asked when it runs", path.display()));
    }
    Finding::red(
        sensor,
        format!("{} is not there", path.display()),
        made_by.unwrap_or("put it there, or mend its `source`"),
    )
}

fn of_udp(machine: &Machine, sensor: &str, udp: &Udp) -> Finding {
    let address = udp.address;
    // whether a port is free is asked of the machine that this is; the socket is closed at once
    if machine.root.is_here()
        && let Err(error) = UdpSocket::bind(address)
    {
        let mend = format!("`sudo ss -ulpn 'sport = :{}'` names who has it", address.port());
        return Finding::red(sensor, format!("{address} cannot be listened to: {error}"), mend);
    }
    Finding::green(sensor, format!("{address} is free"))
}

fn of_model(machine: &Machine, rig: &Rig, model: &RigModel, shelf: Option<&Shelf>) -> Finding {
    let subject = format!("model {}", model.name);
    let Some(path) = &model.path else {
        return Finding::yellow(
            subject,
            "no file is named",
            "name it with `path = \"FILE.onnx\"`, or with `--model` at every call",
        );
    };
    let file = rig.resolve(path);
    let loaded = match Model::load(&file) {
        Ok(loaded) => loaded,
        Err(error) => return Finding::red(subject, error.to_string(), "put the ONNX file there, or mend its `path`"),
    };
    let shown = file.display();
    let (Some(gpu), Some(shelf)) = (Gpu::of(machine), shelf) else {
        return Finding::green(subject, format!("{shown} is there, and runs on the CPU"));
    };
    let (precision, batch) = (model.precision.unwrap_or_default().name(), model.cameras.len() as u64);
    let sha256 = loaded.sha256_hex();
    if shelf
        .of_model(&sha256, model.dla_core)
        .any(|engine| engine.key.precision == precision && engine.batch() == Some(batch))
    {
        return Finding::green(
            subject,
            format!("{shown} is there, and its engine of {precision} with a batch of {batch} too"),
        );
    }
    let size = model.input_width_px.zip(model.input_height_px);
    let size = size.map_or_else(String::new, |(width, height)| format!(" --input-size {width}x{height}"));
    let dla = model.dla_core.map_or_else(String::new, |core| format!(" --dla {core}"));
    Finding::yellow(
        subject,
        format!(
            "{shown} is there, but no engine of {precision} with a batch of {batch} on {}: it runs on the CPU",
            gpu.name
        ),
        format!("`catseye engine build {shown} --precision {precision} --batch {batch}{size}{dla}`"),
    )
}
