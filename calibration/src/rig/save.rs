//! Writing a rig as a rig file: the same rig always gives the same text, and reading it gives the same rig.
//!
//! Every value is written out, defaults too, so that a file made here shows what can be set.

use std::collections::BTreeMap;
use std::path::Path;

use super::{
    Camera, Can, CanSignal, Deadlines, IspSettings, Lidar, Model, Mounting, MountingPose, OnGpuFault, Planner,
    Realtime, Rig, SCHEMA, Sensor, Source, ThreadClass, Tick, UltrasonicSignals, Vehicle,
};
use crate::camera::{CameraModel, FThetaPolynomial};

type Sources = BTreeMap<String, Source>;

pub(super) fn to_toml(rig: &Rig) -> String {
    let mut out = Writer::default();
    out.set("schema", SCHEMA.to_string());
    out.set("name", text(&rig.name));
    vehicle(&mut out, &rig.vehicle);
    tick(&mut out, &rig.tick);
    rig.cameras.iter().for_each(|camera| self::camera(&mut out, camera, &rig.sources));
    rig.lidars.iter().for_each(|lidar| self::lidar(&mut out, lidar, &rig.sources));
    for (kind, sensors) in
        [("radar", &rig.radars), ("ultrasonic", &rig.ultrasonics), ("imu", &rig.imus), ("gnss", &rig.gnss)]
    {
        sensors.iter().for_each(|sensor| self::sensor(&mut out, kind, sensor, &rig.sources));
    }
    rig.cans.iter().for_each(|can| self::can(&mut out, can, &rig.sources));
    rig.models.iter().for_each(|model| self::model(&mut out, model));
    planner(&mut out, &rig.planner);
    // a rig without the table is as old as those that were written before there was one: their digests stay
    if rig.on_gpu_fault != OnGpuFault::default() {
        out.table("[gpu]");
        out.set("on_fault", text(rig.on_gpu_fault.name()));
    }
    if rig.realtime != Realtime::default() {
        realtime(&mut out, &rig.realtime);
    }
    out.text
}

#[derive(Default)]
struct Writer {
    text: String,
}

impl Writer {
    /// Starts a table, after an empty line; `header` is with its brackets.
    fn table(&mut self, header: &str) {
        self.text.push('\n');
        self.text.push_str(header);
        self.text.push('\n');
    }

    fn set(&mut self, key: &str, value: String) {
        self.text.push_str(key);
        self.text.push_str(" = ");
        self.text.push_str(&value);
        self.text.push('\n');
    }

    fn set_some(&mut self, key: &str, value: Option<String>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }

    fn number(&mut self, key: &str, value: f64) {
        self.set(key, number(value));
    }
}

fn text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn source_text(source: &Source) -> String {
    text(&source.to_string())
}

fn path(path: &Path) -> String {
    text(&path.to_string_lossy())
}

/// The shortest digits that read back as the same number, always with a point or an exponent.
fn number(value: f64) -> String {
    format!("{value:?}")
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    format!("[{}]", items.join(", "))
}

fn numbers(values: &[f64]) -> String {
    list(values.iter().map(|value| number(*value)))
}

fn vehicle(out: &mut Writer, vehicle: &Vehicle) {
    out.table("[vehicle]");
    out.number("length_m", vehicle.length_m);
    out.number("width_m", vehicle.width_m);
    out.number("height_m", vehicle.height_m);
    out.number("wheelbase_m", vehicle.wheelbase_m);
    out.number("rear_overhang_m", vehicle.rear_overhang_m);
}

fn tick(out: &mut Writer, tick: &Tick) {
    out.table("[tick]");
    out.set_some("trigger", tick.trigger.as_deref().map(text));
    out.number("period_ms", tick.period_ms);
    out.number("tolerance_ms", tick.tolerance_ms);
    out.number("max_wait_ms", tick.max_wait_ms);
}

fn realtime(out: &mut Writer, realtime: &Realtime) {
    out.table("[realtime]");
    out.set("require", realtime.require.to_string());
    out.set("lock_memory", realtime.lock_memory.to_string());
    for (key, class) in [("sensors", &realtime.sensors), ("edge", &realtime.edge), ("workers", &realtime.workers)] {
        if !class.is_default() {
            out.set(key, thread_class(class));
        }
    }
    let Deadlines { tick_ms, stages_ms } = &realtime.deadlines;
    if tick_ms.is_some() || !stages_ms.is_empty() {
        out.table("[realtime.deadlines]");
        out.set_some("tick_ms", tick_ms.map(number));
    }
    if !stages_ms.is_empty() {
        out.table("[realtime.deadlines.stages_ms]");
        stages_ms.iter().for_each(|(stage, budget_ms)| out.number(stage, *budget_ms));
    }
}

fn thread_class(class: &ThreadClass) -> String {
    let priority = class.fifo_priority.map(|priority| format!("fifo_priority = {priority}"));
    let of_processors = |all: &[u16]| format!("processors = {}", list(all.iter().map(u16::to_string)));
    let processors = (!class.processors.is_empty()).then(|| of_processors(&class.processors));
    let keys: Vec<String> = priority.into_iter().chain(processors).collect();
    format!("{{ {} }}", keys.join(", "))
}

fn camera(out: &mut Writer, camera: &Camera, sources: &Sources) {
    out.table("[[camera]]");
    out.set("name", text(&camera.name));
    out.set("topic", text(&camera.topic));
    out.set_some("source", sources.get(&camera.name).map(source_text));
    out.set("width_px", camera.width_px.to_string());
    out.set("height_px", camera.height_px.to_string());
    out.set("format", text(camera.format.name()));
    out.set_some("full_range", camera.full_range.then(|| "true".to_owned()));
    out.number("rate_hz", camera.rate_hz);
    out.set_some("rolling_shutter_ms", camera.rolling_shutter_ms.map(number));
    if let Some(IspSettings { black_level, white_balance, colour_matrix }) = &camera.isp {
        out.table("[camera.isp]");
        out.number("black_level", *black_level);
        out.set("white_balance", numbers(white_balance));
        out.set("colour_matrix", numbers(colour_matrix));
    }
    out.table("[camera.intrinsics]");
    intrinsics(out, &camera.intrinsics);
    mounting(out, "camera", &camera.mounting);
}

fn intrinsics(out: &mut Writer, model: &CameraModel) {
    out.set("model", text(model.name()));
    let [cx, cy] = model.principal_point_px();
    let [fx, fy] = model.focal_px();
    if !matches!(model, CameraModel::FTheta(_)) {
        out.number("fx", fx);
        out.number("fy", fy);
    }
    out.number("cx", cx);
    out.number("cy", cy);
    match model {
        CameraModel::BrownConrady(lens) => {
            out.number("k1", lens.k1);
            out.number("k2", lens.k2);
            out.number("p1", lens.p1);
            out.number("p2", lens.p2);
            out.number("k3", lens.k3);
        }
        CameraModel::KannalaBrandt(lens) => {
            out.number("k1", lens.k1);
            out.number("k2", lens.k2);
            out.number("k3", lens.k3);
            out.number("k4", lens.k4);
            out.number("max_angle_rad", lens.max_angle_rad);
        }
        CameraModel::FTheta(lens) => {
            let key = match lens.polynomial() {
                FThetaPolynomial::AngleToPixel(_) => "angle_to_pixel",
                FThetaPolynomial::PixelToAngle(_) => "pixel_to_angle",
            };
            out.set(key, numbers(lens.polynomial().coefficients()));
            out.set("linear_cde", numbers(&lens.linear_cde()));
            out.number("max_angle_rad", lens.max_angle_rad());
        }
    }
}

fn mounting(out: &mut Writer, sensor: &str, mounting: &Mounting) {
    out.table(&format!("[{sensor}.mounting]"));
    out.set("nominal", mounting_pose(&mounting.nominal));
    out.set_some("corrected", mounting.corrected.as_ref().map(mounting_pose));
}

fn mounting_pose(pose: &MountingPose) -> String {
    format!("{{ xyz_m = {}, rpy_deg = {} }}", numbers(&pose.xyz_m), numbers(&pose.rpy_deg))
}

fn lidar(out: &mut Writer, lidar: &Lidar, sources: &Sources) {
    out.table("[[lidar]]");
    out.set("name", text(&lidar.name));
    out.set("topic", text(&lidar.topic));
    out.set_some("source", sources.get(&lidar.name).map(source_text));
    // An empty model stands for none and cannot be written as a text.
    out.set_some("model", (!lidar.model.is_empty()).then(|| text(&lidar.model)));
    out.set_some("calibration", lidar.calibration.as_deref().map(path));
    out.number("rate_hz", lidar.rate_hz);
    mounting(out, "lidar", &lidar.mounting);
}

fn sensor(out: &mut Writer, kind: &str, sensor: &Sensor, sources: &Sources) {
    out.table(&format!("[[{kind}]]"));
    out.set("name", text(&sensor.name));
    out.set("topic", text(&sensor.topic));
    let source = sources.get(&sensor.name);
    out.set_some("source", source.map(source_text));
    out.number("rate_hz", sensor.rate_hz);
    mounting(out, kind, &sensor.mounting);
    match source {
        Some(Source::ImuSignals { signals, .. }) => {
            out.table(&format!("[{kind}.signals]"));
            signals.iter().for_each(|(quantity, signal)| out.set(quantity.name(), self::signal(signal)));
        }
        Some(Source::UltrasonicSignals {
            signals: UltrasonicSignals { range_m, confidence, no_echo_from_m }, ..
        }) => {
            out.table(&format!("[{kind}.signals]"));
            out.set("range_m", signal(range_m));
            out.set_some("confidence", confidence.as_ref().map(signal));
            out.set_some("no_echo_from_m", no_echo_from_m.map(number));
        }
        _ => {}
    }
}

fn can(out: &mut Writer, can: &Can, sources: &Sources) {
    out.table("[[can]]");
    out.set("name", text(&can.name));
    out.set("topic", text(&can.topic));
    out.set_some("source", sources.get(&can.name).map(source_text));
    out.set("dbc", list(can.dbc.iter().map(|file| path(file))));
    out.set_some("bitrate", can.bitrate.map(|bitrate| bitrate.to_string()));
    if can.signals.is_empty() {
        return;
    }
    out.table("[can.signals]");
    for (quantity, signals) in &can.signals {
        let value = match signals.as_slice() {
            [single] => signal(single),
            several => list(several.iter().map(signal)),
        };
        out.set(quantity.name(), value);
    }
}

fn signal(signal: &CanSignal) -> String {
    let CanSignal { signal, scale, offset } = signal;
    format!("{{ signal = {}, scale = {}, offset = {} }}", text(signal), number(*scale), number(*offset))
}

fn model(out: &mut Writer, model: &Model) {
    out.table("[[model]]");
    out.set("name", text(&model.name));
    out.set_some("path", model.path.as_deref().map(path));
    out.set("cameras", list(model.cameras.iter().map(|name| text(name))));
    out.set_some("head", model.head.as_deref().map(text));
    out.set_some("labels", model.labels.as_deref().map(path));
    out.set_some("input_width_px", model.input_width_px.map(|width| width.to_string()));
    out.set_some("input_height_px", model.input_height_px.map(|height| height.to_string()));
    out.number("score_threshold", model.score_threshold);
    out.number("nms_iou", model.nms_iou);
    out.set("undistort", model.undistort.to_string());
    out.set_some("precision", model.precision.map(|precision| text(precision.name())));
    out.set_some("dla_core", model.dla_core.map(|core| core.to_string()));
}

fn planner(out: &mut Writer, planner: &Planner) {
    out.table("[planner]");
    out.number("cruise_speed_mps", planner.cruise_speed_mps);
    out.number("time_gap_s", planner.time_gap_s);
    out.number("min_gap_m", planner.min_gap_m);
    out.number("max_accel_mps2", planner.max_accel_mps2);
    out.number("comfort_decel_mps2", planner.comfort_decel_mps2);
    out.number("max_decel_mps2", planner.max_decel_mps2);
    out.number("ttc_brake_s", planner.ttc_brake_s);
    out.number("lane_width_m", planner.lane_width_m);
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::super::{CanQuantity, ImuQuantity, PictureFormat, Precision, RadarList, Udp};
    use super::*;
    use crate::camera::{FTheta, KannalaBrandt};

    /// A rig in which everything that is optional is there.
    fn full_rig() -> Rig {
        let mut rig = Rig::default_camera(640, 480);
        rig.name = "a \"quoted\" name\nwith a second line \\ and ünïcödé".to_owned();
        let front = rig.cameras[0].clone();
        let pose = MountingPose { xyz_m: [0.1, -0.0, 1e-7], rpy_deg: [1e16, 0.1 + 0.2, -180.0] };
        let mounting = Mounting { nominal: pose, corrected: Some(MountingPose::default()) };
        rig.cameras.push(Camera {
            name: "fisheye".to_owned(),
            topic: "/camera/fisheye/image".to_owned(),
            format: PictureFormat::from_name("bayer-rggb12").unwrap(),
            rolling_shutter_ms: Some(33.3),
            isp: Some(IspSettings { black_level: 0.05, white_balance: [1.9, 1.0, 1.6], ..IspSettings::default() }),
            intrinsics: CameraModel::KannalaBrandt(KannalaBrandt::new([300.0; 2], [320.0; 2], [-0.01, 0.0, 0.0, 0.0])),
            mounting,
            ..front.clone()
        });
        let polynomial = FThetaPolynomial::PixelToAngle([0.0, 0.002, 0.0, 1e-12, 0.0, 0.0]);
        rig.cameras.push(Camera {
            name: "ftheta".to_owned(),
            topic: "/camera/ftheta/image".to_owned(),
            format: PictureFormat::Nv12,
            full_range: true,
            intrinsics: CameraModel::FTheta(FTheta::new([319.5; 2], polynomial, [1.0, 0.1, 0.0], 1.5).unwrap()),
            ..front
        });
        rig.lidars.push(Lidar {
            name: "roof".to_owned(),
            topic: "/velodyne".to_owned(),
            model: "OS1-128".to_owned(),
            calibration: Some(PathBuf::from("os1.json")),
            rate_hz: 10.0,
            mounting,
        });
        rig.radars.push(Sensor { name: "radar".to_owned(), topic: "/r".to_owned(), rate_hz: 13.0, mounting });
        let signal = |signal: &str| CanSignal { signal: signal.to_owned(), scale: 1.0 / 3.6, offset: -0.5 };
        rig.cans.push(Can {
            name: "can".to_owned(),
            topic: "/can".to_owned(),
            dbc: vec![PathBuf::from("a.dbc"), PathBuf::from("sub/b.dbc")],
            bitrate: Some(500_000),
            signals: [
                (CanQuantity::Speed, vec![signal("A.B")]),
                (CanQuantity::Gear, vec![signal("A.C"), signal("A.D")]),
            ]
            .into(),
        });
        rig.models.push(Model {
            name: "boxes".to_owned(),
            path: Some(PathBuf::from("yolox.onnx")),
            cameras: vec!["front".to_owned(), "fisheye".to_owned()],
            head: Some("yolox".to_owned()),
            labels: Some(PathBuf::from("coco.names")),
            input_width_px: Some(832),
            input_height_px: Some(256),
            score_threshold: 0.25,
            nms_iou: 0.5,
            undistort: true,
            precision: Some(Precision::Int8),
            dla_core: Some(1),
        });
        rig.on_gpu_fault = OnGpuFault::Cpu;
        rig.realtime = Realtime {
            require: true,
            lock_memory: true,
            sensors: ThreadClass { fifo_priority: Some(60), processors: vec![0, 3] },
            edge: ThreadClass { fifo_priority: Some(50), processors: Vec::new() },
            workers: ThreadClass { fifo_priority: None, processors: vec![2] },
            deadlines: Deadlines { tick_ms: Some(100.0), stages_ms: [("infer".to_owned(), 40.25)].into() },
        };
        rig.imus.push(Sensor { name: "imu".to_owned(), topic: "/i".to_owned(), rate_hz: 100.0, mounting });
        rig.ultrasonics.push(Sensor { name: "sonar".to_owned(), topic: "/s".to_owned(), rate_hz: 10.0, mounting });
        rig.gnss.push(Sensor { name: "gnss".to_owned(), topic: "/g".to_owned(), rate_hz: 5.0, mounting });
        let udp = Udp { address: ([224, 0, 2, 2], 42102).into(), interface: Some("eth1".to_owned()), from: None };
        let echo =
            UltrasonicSignals { range_m: signal("S.D"), confidence: Some(signal("S.C")), no_echo_from_m: Some(5.1) };
        let yaw = (ImuQuantity::AngularVelocityZ, signal("Y.RATE"));
        let sources = [
            ("fisheye", Source::Device(PathBuf::from("/dev/video1"))),
            ("roof", Source::Udp(Udp { interface: None, from: Some([10, 0, 0, 7].into()), ..udp.clone() })),
            ("can", Source::Can("can0".to_owned())),
            ("radar", Source::Radar { udp, list: RadarList::Objects }),
            ("imu", Source::ImuSignals { bus: "can".to_owned(), signals: [yaw].into() }),
            ("sonar", Source::UltrasonicSignals { bus: "can".to_owned(), signals: echo }),
            ("gnss", Source::Serial { device: PathBuf::from("/dev/ttyACM0"), baud: 9600 }),
        ];
        rig.sources = sources.map(|(name, source)| (name.to_owned(), source)).into();
        rig
    }

    #[test]
    fn everything_round_trips() {
        let rig = full_rig();
        let text = rig.to_toml();
        let again = Rig::parse(&text, "rig.toml").unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(again, rig);
        assert_eq!(again.to_toml(), text);
    }

    proptest! {
        #[test]
        fn any_number_and_name_round_trips(
            x in proptest::num::f64::NORMAL, scale in proptest::num::f64::NORMAL, name in "\\PC{1,20}",
        ) {
            let mut rig = full_rig();
            rig.cameras[0].mounting.nominal.xyz_m[0] = x;
            let brake = CanSignal { signal: "A.E".to_owned(), scale, offset: x };
            rig.cans[0].signals.insert(CanQuantity::Brake, vec![brake]);
            rig.name = name;
            prop_assert_eq!(Rig::parse(&rig.to_toml(), "rig.toml"), Ok(rig));
        }
    }
}
