//! Where a live sensor's measurements come from: the key `source` of its section in a rig file.
//!
//! | sensor | `source` |
//! |---|---|
//! | camera | device file `/dev/video0`, or the place where it is plugged in, `bus:usb-0000:00:14.0-1`; a camera of NVIDIA's Argus by its number, `argus:0`; one of SIPL by its number or name, `sipl:0`, `sipl:FRONT`; any exporter library, `exporter:/opt/libmine.so?config=KEY=VALUE;KEY=VALUE` |
//! | lidar | address that it sends to, `udp://0.0.0.0:2368` |
//! | radar | the same, `udp://224.0.2.2:42102?interface=eth1&from=10.13.1.113&list=objects` |
//! | gnss | `serial:///dev/ttyACM0?baud=115200`, `tcp://192.168.0.5:2000`, `udp://0.0.0.0:5000` |
//! | imu | `can:BUS`, a bus of this rig, with the table `signals`; the address of a lidar's unit, `udp://0.0.0.0:7503`; or that of a u-blox receiver's, `serial:///dev/ttyACM0?baud=115200`, `tcp://192.168.0.5:2000` |
//! | ultrasonic | `can:BUS` with the table `signals` |
//! | can | network interface `can0` |
//!
//! An address may name the `interface` (its name or its own address) on which a multicast group is joined, and the address
//! that packets come `from`, where several sensors send to one group. A radar's `list` is `detections` (the default) or
//! `objects`. The baud rate is 115200 where none is given; a
//! port that keeps its name when it is plugged in elsewhere is one of `/dev/serial/by-id`. What stands behind `config=` goes to the
//! exporter library as it is.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::{CanSignal, SensorKind};

/// Where a live sensor's measurements come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A camera's device file.
    Device(PathBuf),
    /// The place where a camera is plugged in, as the kernel names it.
    Bus(String),
    /// A camera behind an exporter library.
    Exporter(Exporter),
    /// The network interface of a CAN bus.
    Can(String),
    /// Datagrams.
    Udp(Udp),
    /// Datagrams of a radar.
    Radar {
        /// Where they arrive.
        udp: Udp,
        /// Which of its lists is taken.
        list: RadarList,
    },
    /// A stream of bytes from another host, as `HOST:PORT`.
    Tcp(String),
    /// A serial port.
    Serial {
        /// Its device file.
        device: PathBuf,
        /// Bits per second.
        baud: u32,
    },
    /// An inertial unit's signals on a CAN bus.
    ImuSignals {
        /// The bus, by its name in this rig.
        bus: String,
        /// What is measured; never empty.
        signals: BTreeMap<ImuQuantity, CanSignal>,
    },
    /// An ultrasonic sensor's signals on a CAN bus.
    UltrasonicSignals {
        /// The bus, by its name in this rig.
        bus: String,
        /// What is measured.
        signals: UltrasonicSignals,
    },
}

/// A camera that a vendor's SDK opens, and the library that stands between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exporter {
    /// NVIDIA's Argus, on Jetson: the camera's number.
    Argus(u32),
    /// NVIDIA's SIPL, on DRIVE: the camera's number, or its name.
    Sipl(String),
    /// Any other library.
    Library {
        /// Its file, from the root.
        path: PathBuf,
        /// What it is told besides the rig's size, format and rate.
        config: String,
    },
}

/// Where datagrams arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Udp {
    /// The address and port that they are sent to; a multicast group is joined.
    pub address: SocketAddr,
    /// Name or own address of the interface on which the group is joined; without it the system chooses.
    pub interface: Option<String>,
    /// The only sender whose datagrams are taken.
    pub from: Option<IpAddr>,
}

/// Which of its lists is taken from a radar that sends several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RadarList {
    /// Reflections, as measured.
    #[default]
    Detections,
    /// Objects that the radar follows.
    Objects,
}

/// What an inertial unit measures along an axis of its own frame; the name in rig files holds the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ImuQuantity {
    AngularVelocityX,
    AngularVelocityY,
    AngularVelocityZ,
    AccelerationX,
    AccelerationY,
    AccelerationZ,
}

impl ImuQuantity {
    /// All of them: rates about x, y, z, then specific forces along x, y, z.
    pub const ALL: [Self; 6] = [
        Self::AngularVelocityX,
        Self::AngularVelocityY,
        Self::AngularVelocityZ,
        Self::AccelerationX,
        Self::AccelerationY,
        Self::AccelerationZ,
    ];

    /// The key in rig files, with its unit, for example `angular_velocity_z_radps`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AngularVelocityX => "angular_velocity_x_radps",
            Self::AngularVelocityY => "angular_velocity_y_radps",
            Self::AngularVelocityZ => "angular_velocity_z_radps",
            Self::AccelerationX => "acceleration_x_mps2",
            Self::AccelerationY => "acceleration_y_mps2",
            Self::AccelerationZ => "acceleration_z_mps2",
        }
    }
}

/// The signals of an ultrasonic sensor.
#[derive(Clone, Debug, PartialEq)]
pub struct UltrasonicSignals {
    /// Distance, key `range_m`.
    pub range_m: CanSignal,
    /// Strength of the echo, 0 to 1, key `confidence`; without it every echo has 1.
    pub confidence: Option<CanSignal>,
    /// A distance of at least so much says that there was no echo, key `no_echo_from_m`.
    pub no_echo_from_m: Option<f64>,
}

/// A source as its text says it; what signals a bus carries is said elsewhere.
pub(super) enum Text {
    Whole(Source),
    OnBus(String),
}

impl Text {
    /// `None` for what a sensor of that kind cannot have; [`expected`] tells what it can.
    pub(super) fn parse(kind: SensorKind, text: &str) -> Option<Self> {
        match kind {
            SensorKind::Camera => camera(text),
            SensorKind::Can => is_interface(text).then(|| Source::Can(text.to_owned())),
            SensorKind::Lidar => Parts::of(text)?.udp().map(Source::Udp),
            SensorKind::Radar => radar(text),
            SensorKind::Gnss => stream(text),
            SensorKind::Ultrasonic | SensorKind::Imu => {
                if let Some(bus) = text.strip_prefix("can:") {
                    return (!bus.is_empty()).then(|| Self::OnBus(bus.to_owned()));
                }
                (kind == SensorKind::Imu).then(|| stream(text)).flatten()
            }
        }
        .map(Self::Whole)
    }
}

/// What the source of such a sensor can be.
pub(super) fn expected(kind: SensorKind) -> &'static str {
    match kind {
        SensorKind::Camera => {
            "a device file as \"/dev/video0\", a place as \"bus:usb-0000:00:14.0-1\", or a camera of a vendor's SDK as \"argus:0\", \"sipl:0\" or \"exporter:/opt/libmine.so?config=...\""
        }
        SensorKind::Can => "a network interface as \"can0\"",
        SensorKind::Lidar => "an address as \"udp://0.0.0.0:2368\"",
        SensorKind::Radar => "an address as \"udp://224.0.2.2:42102\", or with \"?interface=eth1&list=objects\"",
        SensorKind::Gnss => {
            "a serial port as \"serial:///dev/ttyACM0?baud=115200\", or an address as \"tcp://192.168.0.5:2000\" or \"udp://0.0.0.0:5000\""
        }
        SensorKind::Imu => {
            "a CAN bus of this rig as \"can:NAME\", a lidar's unit as \"udp://0.0.0.0:7503\", or a u-blox receiver's as \"serial:///dev/ttyACM0?baud=115200\" or \"tcp://192.168.0.5:2000\""
        }
        SensorKind::Ultrasonic => "a CAN bus of this rig as \"can:NAME\"",
    }
}

fn camera(text: &str) -> Option<Source> {
    if text.starts_with('/') {
        return Some(Source::Device(PathBuf::from(text)));
    }
    match text.split_once(':')? {
        (_, "") => None,
        ("bus", place) => Some(Source::Bus(place.to_owned())),
        ("argus", number) => argus(number).map(Source::Exporter),
        // a semicolon or an equals sign would be another key to the library
        ("sipl", name) => {
            let is_sound = !name.contains(|letter: char| letter.is_whitespace() || letter == ';' || letter == '=');
            is_sound.then(|| Source::Exporter(Exporter::Sipl(name.to_owned())))
        }
        ("exporter", place) => exporter(place).map(Source::Exporter),
        _ => None,
    }
}

fn argus(number: &str) -> Option<Exporter> {
    let is_plain = number.bytes().all(|digit| digit.is_ascii_digit());
    is_plain.then(|| number.parse().ok()).flatten().map(Exporter::Argus)
}

fn exporter(place: &str) -> Option<Exporter> {
    let (path, config) = match place.split_once('?') {
        None => (place, ""),
        Some((path, option)) => (path, option.strip_prefix("config=").filter(|config| !config.is_empty())?),
    };
    let is_sound = path.starts_with('/') && !path.ends_with('/') && !config.contains('\0');
    is_sound.then(|| Exporter::Library { path: PathBuf::from(path), config: config.to_owned() })
}

/// Names of interfaces have at most 15 bytes (`IFNAMSIZ`).
fn is_interface(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && !text.contains(|letter: char| letter == '/' || letter == ':' || letter.is_whitespace())
}

fn radar(text: &str) -> Option<Source> {
    let mut parts = Parts::of(text)?;
    let list = match parts.options.remove("list") {
        None => RadarList::default(),
        Some(name) => RadarList::from_name(name)?,
    };
    Some(Source::Radar { udp: parts.udp()?, list })
}

fn stream(text: &str) -> Option<Source> {
    let mut parts = Parts::of(text)?;
    match parts.scheme {
        "udp" => parts.udp().map(Source::Udp),
        "tcp" => {
            let (host, port) = parts.place.rsplit_once(':')?;
            let is_sound =
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) && parts.options.is_empty();
            is_sound.then(|| Source::Tcp(parts.place.to_owned()))
        }
        "serial" => {
            let baud = parts.options.remove("baud").map_or(Some(DEFAULT_BAUD), |baud| baud.parse().ok())?;
            let is_sound = baud > 0 && parts.place.starts_with('/') && parts.options.is_empty();
            is_sound.then(|| Source::Serial { device: PathBuf::from(parts.place), baud })
        }
        _ => None,
    }
}

const DEFAULT_BAUD: u32 = 115_200;

/// `SCHEME://PLACE?KEY=VALUE&KEY=VALUE`.
struct Parts<'t> {
    scheme: &'t str,
    place: &'t str,
    options: BTreeMap<&'t str, &'t str>,
}

impl<'t> Parts<'t> {
    fn of(text: &'t str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut options = BTreeMap::new();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=')?;
            if value.is_empty() || options.insert(key, value).is_some() {
                return None;
            }
        }
        Some(Parts { scheme, place, options })
    }

    fn udp(mut self) -> Option<Udp> {
        let address: SocketAddr = self.place.parse().ok()?;
        let interface = self.options.remove("interface").map(str::to_owned);
        let from = match self.options.remove("from") {
            None => None,
            Some(from) => Some(from.parse().ok()?),
        };
        let is_sound = self.scheme == "udp" && address.port() > 0 && self.options.is_empty();
        is_sound.then_some(Udp { address, interface, from })
    }
}

impl RadarList {
    /// The name in rig files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Detections => "detections",
            Self::Objects => "objects",
        }
    }

    /// The list of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Detections, Self::Objects].into_iter().find(|list| list.name() == name)
    }
}

/// As in a rig file.
impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(device) => write!(out, "{}", device.display()),
            Self::Bus(place) => write!(out, "bus:{place}"),
            Self::Exporter(Exporter::Argus(number)) => write!(out, "argus:{number}"),
            Self::Exporter(Exporter::Sipl(name)) => write!(out, "sipl:{name}"),
            Self::Exporter(Exporter::Library { path, config }) if config.is_empty() => {
                write!(out, "exporter:{}", path.display())
            }
            Self::Exporter(Exporter::Library { path, config }) => {
                write!(out, "exporter:{}?config={config}", path.display())
            }
            Self::Can(interface) => out.write_str(interface),
            Self::Udp(udp) => udp.write(out, &[]),
            Self::Radar { udp, list: RadarList::Detections } => udp.write(out, &[]),
            Self::Radar { udp, list } => udp.write(out, &[("list", list.name().to_owned())]),
            Self::Tcp(place) => write!(out, "tcp://{place}"),
            Self::Serial { device, baud } => write!(out, "serial://{}?baud={baud}", device.display()),
            Self::ImuSignals { bus, .. } | Self::UltrasonicSignals { bus, .. } => write!(out, "can:{bus}"),
        }
    }
}

impl Udp {
    fn write(&self, out: &mut fmt::Formatter<'_>, more: &[(&str, String)]) -> fmt::Result {
        write!(out, "udp://{}", self.address)?;
        let interface = self.interface.iter().map(|interface| ("interface", interface.clone()));
        let from = self.from.iter().map(|from| ("from", from.to_string()));
        for (number, (key, value)) in interface.chain(from).chain(more.iter().cloned()).enumerate() {
            write!(out, "{}{key}={value}", if number == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: SensorKind, text: &str) -> Option<Source> {
        match Text::parse(kind, text)? {
            Text::Whole(source) => Some(source),
            Text::OnBus(_) => None,
        }
    }

    #[test]
    fn what_each_sensor_can_have_comes_back_as_text() {
        let sources = [
            (SensorKind::Camera, "/dev/video0"),
            (SensorKind::Camera, "bus:usb-0000:00:14.0-1"),
            (SensorKind::Camera, "argus:0"),
            (SensorKind::Camera, "argus:11"),
            (SensorKind::Camera, "sipl:3"),
            (SensorKind::Camera, "sipl:CAMERA_FRONT"),
            (SensorKind::Camera, "exporter:/opt/libmine.so"),
            (SensorKind::Camera, "exporter:/opt/libmine.so?config=camera=3;gain=2?"),
            (SensorKind::Can, "can0"),
            (SensorKind::Lidar, "udp://0.0.0.0:2368"),
            (SensorKind::Lidar, "udp://[::]:2368?from=fe80::1"),
            (SensorKind::Radar, "udp://224.0.2.2:42102"),
            (SensorKind::Radar, "udp://224.0.2.2:42102?interface=eth1&from=10.13.1.113&list=objects"),
            (SensorKind::Gnss, "serial:///dev/ttyACM0?baud=9600"),
            (SensorKind::Gnss, "tcp://receiver.local:2000"),
            (SensorKind::Gnss, "udp://0.0.0.0:5000"),
            (SensorKind::Imu, "udp://0.0.0.0:7503"),
            (SensorKind::Imu, "serial:///dev/ttyACM1?baud=921600"),
            (SensorKind::Imu, "tcp://receiver.local:2000"),
        ];
        for (kind, text) in sources {
            let source = read(kind, text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(source.to_string(), text);
        }
        let default = read(SensorKind::Gnss, "serial:///dev/ttyACM0").map(|source| source.to_string());
        assert_eq!(default.as_deref(), Some("serial:///dev/ttyACM0?baud=115200"));
        assert!(matches!(Text::parse(SensorKind::Imu, "can:chassis"), Some(Text::OnBus(bus)) if bus == "chassis"));
    }

    #[test]
    fn what_no_sensor_can_have_is_refused() {
        let wrong = [
            (SensorKind::Camera, "video0"),
            (SensorKind::Camera, "bus:"),
            (SensorKind::Camera, "argus:"),
            (SensorKind::Camera, "argus:front"),
            (SensorKind::Camera, "argus:+1"),
            (SensorKind::Camera, "argus:4294967296"),
            (SensorKind::Camera, "sipl:"),
            (SensorKind::Camera, "sipl:two words"),
            (SensorKind::Camera, "sipl:0;gain=2"),
            (SensorKind::Camera, "exporter:libmine.so"),
            (SensorKind::Camera, "exporter:/opt/"),
            (SensorKind::Camera, "exporter:/opt/libmine.so?camera=3"),
            (SensorKind::Camera, "exporter:/opt/libmine.so?config="),
            (SensorKind::Camera, "gmsl:0"),
            (SensorKind::Lidar, "argus:0"),
            (SensorKind::Can, "/dev/can0"),
            (SensorKind::Can, "an-interface-of-a-long-name"),
            (SensorKind::Lidar, "tcp://1.2.3.4:5"),
            (SensorKind::Lidar, "udp://1.2.3.4"),
            (SensorKind::Lidar, "udp://1.2.3.4:0"),
            (SensorKind::Lidar, "udp://0.0.0.0:2368?list=objects"),
            (SensorKind::Radar, "udp://224.0.2.2:42102?list=tracks"),
            (SensorKind::Radar, "udp://224.0.2.2:42102?from=front"),
            (SensorKind::Gnss, "serial://ttyACM0"),
            (SensorKind::Gnss, "serial:///dev/ttyACM0?baud=0"),
            (SensorKind::Gnss, "serial:///dev/ttyACM0?baud=9600&baud=9600"),
            (SensorKind::Gnss, "tcp://1.2.3.4"),
            (SensorKind::Gnss, "/dev/ttyACM0"),
            (SensorKind::Imu, "can:"),
            (SensorKind::Imu, "serial://ttyACM0"),
            (SensorKind::Ultrasonic, "udp://0.0.0.0:7503"),
            (SensorKind::Ultrasonic, "serial:///dev/ttyACM0"),
        ];
        for (kind, text) in wrong {
            assert!(Text::parse(kind, text).is_none(), "{text}");
        }
    }
}
