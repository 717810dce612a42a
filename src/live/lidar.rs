//! Lidars over UDP: packets become scans, whose sensor time is mapped to the host's.
//!
//! The source is the address that the lidar sends to, `udp://0.0.0.0:2368`; the rig's `model` says who made it, and its
//! `calibration` names the maker's file about this very device.

use catseye_calibration::rig::{Lidar, Rig, Udp};
use catseye_sensors::lidar::hesai::{HesaiCorrection, HesaiDecoder, HesaiModel};
use catseye_sensors::lidar::ouster::OusterMetadata;
use catseye_sensors::lidar::velodyne::{VelodyneCalibration, VelodyneDecoder, VelodyneModel};
use catseye_sensors::lidar::{Azimuth, LidarDecoder, LidarScan};
use catseye_sensors::packet::{ClockId, StampKind};
use foxglove::messages::PointCloud;

use super::ouster::OusterTurns;
use super::udp::listen;
use super::{Driver, LiveError, Measurement, Outlet, Stamped};
use crate::log::Channel;
use crate::log::packet::StampInfo;
use crate::pipeline::Files;

/// The driver of a rig's lidar.
///
/// # Errors
/// [`LiveError::Source`] for a model that is not known, [`LiveError::File`] for a maker's file that cannot be used.
pub fn driver(lidar: &Lidar, udp: &Udp, rig: &Rig, files: &Files) -> Result<Box<dyn Driver>, LiveError> {
    let (cut, clock) = (Azimuth::default(), ClockId::Sensor);
    let file = Calibration { lidar, rig, files };
    let velodyne = |model: VelodyneModel| -> Result<Box<dyn Driver>, LiveError> {
        let calibration = match file.text()? {
            None => VelodyneCalibration::nominal(model),
            Some(text) => VelodyneCalibration::from_yaml(model, &text).map_err(|error| file.wrong(&error))?,
        };
        Ok(boxed(udp, VelodyneDecoder::new(calibration, cut, clock)))
    };
    let hesai = |model: HesaiModel| -> Result<Box<dyn Driver>, LiveError> {
        let correction = match file.text()? {
            None => HesaiCorrection::nominal(model),
            Some(text) => HesaiCorrection::from_csv(model, &text).map_err(|error| file.wrong(&error))?,
        };
        Ok(boxed(udp, HesaiDecoder::new(correction, cut, clock)))
    };
    match lidar.model.to_ascii_lowercase().as_str() {
        "vlp-16" | "vlp16" => velodyne(VelodyneModel::Vlp16),
        "vlp-32c" | "vlp32c" => velodyne(VelodyneModel::Vlp32C),
        "xt32" | "pandarxt-32" => hesai(HesaiModel::PandarXt32),
        "pandar40p" => hesai(HesaiModel::Pandar40P),
        model if ["os0", "os1", "os2", "os-0", "os-1", "os-2"].iter().any(|line| model.starts_with(line)) => {
            let metadata = "the metadata of the Ouster, as it gives them itself (JSON),";
            let bytes = file.bytes()?.ok_or_else(|| file.wrong(&format!("expected {metadata} found nothing")))?;
            let metadata = OusterMetadata::from_json(&bytes).map_err(|error| file.wrong(&error))?;
            Ok(boxed(udp, OusterTurns::new(&metadata, clock)))
        }
        _ => Err(LiveError::Source {
            sensor: lidar.name.clone(),
            expected: "a lidar whose model is VLP-16, VLP-32C, XT32, Pandar40P, OS0, OS1 or OS2",
            found: lidar.model.clone(),
        }),
    }
}

fn boxed<D: LidarDecoder + Send + 'static>(udp: &Udp, decoder: D) -> Box<dyn Driver> {
    Box::new(LidarDriver { place: udp.clone(), decoder })
}

/// The maker's file about a lidar.
struct Calibration<'a> {
    lidar: &'a Lidar,
    rig: &'a Rig,
    files: &'a Files,
}

impl Calibration<'_> {
    fn bytes(&self) -> Result<Option<Vec<u8>>, LiveError> {
        let Some(path) = &self.lidar.calibration else { return Ok(None) };
        if let Some(bytes) = self.files.get(path) {
            return Ok(Some(bytes.clone()));
        }
        std::fs::read(self.rig.resolve(path)).map(Some).map_err(|error| self.wrong(&error))
    }

    fn text(&self) -> Result<Option<String>, LiveError> {
        Ok(self.bytes()?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn wrong(&self, error: &dyn std::fmt::Display) -> LiveError {
        let file = self.lidar.calibration.as_ref().map(|path| format!("{}: ", path.display())).unwrap_or_default();
        LiveError::File {
            sensor: self.lidar.name.clone(),
            key: "calibration".to_owned(),
            error: format!("{file}{error}"),
        }
    }
}

struct LidarDriver<D> {
    place: Udp,
    decoder: D,
}

impl<D: LidarDecoder + Send> Driver for LidarDriver<D> {
    fn channel(&self, topic: &str) -> Channel {
        let mut channel = Channel::of_foxglove::<PointCloud>(topic);
        StampInfo { clock: ClockId::Sensor, kind: StampKind::ExposureStart, uncertainty_ns: 0 }.describe(&mut channel);
        channel
    }

    fn run(&mut self, outlet: &mut Outlet, opened: &mut dyn FnMut(Result<(), String>)) {
        let mut scan = LidarScan::default();
        listen(&self.place, outlet, opened, &mut |outlet, packet, arrival_ns| match self
            .decoder
            .decode(packet, arrival_ns, &mut scan)
        {
            Ok(true) => take(&scan, outlet),
            Ok(false) => {}
            Err(_) => outlet.counts.refused += 1,
        });
    }
}

/// A scan's stamp is that of its first shot, and it is there after a turn.
fn take(scan: &LidarScan, outlet: &mut Outlet) {
    outlet.counts.missing += u64::from(scan.counts.missing_packets);
    if !scan.complete {
        outlet.counts.damaged += 1;
        return;
    }
    let Some(stamped) = outlet.map(scan.stamp_ns, scan.clock, StampKind::ExposureStart, scan.arrival_ns) else {
        return;
    };
    let stamped = Stamped { arrival_ns: outlet.clock().now_ns(), ..stamped };
    outlet.send(&Measurement::Scan(&scan.points), stamped);
}
