//! Lidars over UDP: packets become scans, whose sensor time is mapped to the host's.
//!
//! The source is the address that the lidar sends to, `udp://0.0.0.0:2368`; the rig's `model` says who made it.

use std::io::ErrorKind;
use std::net::UdpSocket;

use catseye_calibration::rig::Lidar;
use catseye_sensors::clock::{ClockMapper, ClockSettings};
use catseye_sensors::lidar::hesai::{HesaiCorrection, HesaiDecoder, HesaiModel};
use catseye_sensors::lidar::velodyne::{VelodyneCalibration, VelodyneDecoder, VelodyneModel};
use catseye_sensors::lidar::{Azimuth, LidarDecoder, LidarScan};
use catseye_sensors::packet::{ClockId, StampKind};
use foxglove::messages::PointCloud;
use rustix::net::sockopt;

use super::{Driver, LiveError, Measurement, Outlet, PATIENCE, Stamped};
use crate::log::Channel;
use crate::log::packet::StampInfo;

/// No lidar sends more in one datagram.
const LARGEST_PACKET: usize = 65_536;
/// Bytes that may wait in the kernel: about a second of a lidar.
const RECEIVE_BUFFER: usize = 4 << 20;
/// A scan's stamp is that of its first shot, and it is there after a turn: at 5 turns a second after 200 ms.
const FAR_NS: i64 = 1_000_000_000;

/// The driver of a rig's lidar.
///
/// # Errors
/// [`LiveError::Source`] for an address that is none, or a model that is not known.
pub fn driver(lidar: &Lidar, source: &str) -> Result<Box<dyn Driver>, LiveError> {
    let wrong = |expected: &'static str, found: &str| LiveError::Source {
        sensor: lidar.name.clone(),
        expected,
        found: found.to_owned(),
    };
    let address = source.strip_prefix("udp://");
    let address = address.ok_or_else(|| wrong("an address as \"udp://0.0.0.0:2368\"", source))?.to_owned();
    let (cut, clock) = (Azimuth::default(), ClockId::Sensor);
    Ok(match lidar.model.to_ascii_lowercase().as_str() {
        "vlp-16" | "vlp16" => {
            let calibration = VelodyneCalibration::nominal(VelodyneModel::Vlp16);
            Box::new(LidarDriver { address, decoder: VelodyneDecoder::new(calibration, cut, clock) })
        }
        "vlp-32c" | "vlp32c" => {
            let calibration = VelodyneCalibration::nominal(VelodyneModel::Vlp32C);
            Box::new(LidarDriver { address, decoder: VelodyneDecoder::new(calibration, cut, clock) })
        }
        "xt32" | "pandarxt-32" => {
            let correction = HesaiCorrection::nominal(HesaiModel::PandarXt32);
            Box::new(LidarDriver { address, decoder: HesaiDecoder::new(correction, cut, clock) })
        }
        "pandar40p" => {
            let correction = HesaiCorrection::nominal(HesaiModel::Pandar40P);
            Box::new(LidarDriver { address, decoder: HesaiDecoder::new(correction, cut, clock) })
        }
        _ => return Err(wrong("a lidar whose model is VLP-16, VLP-32C, XT32 or Pandar40P", &lidar.model)),
    })
}

struct LidarDriver<D> {
    address: String,
    decoder: D,
}

impl<D> LidarDriver<D> {
    fn open(&self) -> std::io::Result<UdpSocket> {
        let socket = UdpSocket::bind(&self.address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        // the system's own room is a tenth of a second of a lidar; without the right to more it stays as it is
        if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
            let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
        }
        Ok(socket)
    }
}

impl<D: LidarDecoder + Send> Driver for LidarDriver<D> {
    fn channel(&self, topic: &str) -> Channel {
        let mut channel = Channel::of_foxglove::<PointCloud>(topic);
        StampInfo { clock: ClockId::Sensor, kind: StampKind::ExposureStart, uncertainty_ns: 0 }.describe(&mut channel);
        channel
    }

    fn run(&mut self, outlet: &mut Outlet, opened: &mut dyn FnMut(Result<(), String>)) {
        let socket = match self.open() {
            Ok(socket) => socket,
            Err(error) => return opened(Err(format!("{}: {error}", self.address))),
        };
        opened(Ok(()));
        let mut mapper = ClockMapper::new(ClockSettings { far_ns: FAR_NS, ..ClockSettings::default() });
        let (mut packet, mut scan) = (vec![0; LARGEST_PACKET], LidarScan::default());
        while !outlet.is_over() {
            let bytes = match socket.recv(&mut packet) {
                Ok(bytes) => packet.get(..bytes).unwrap_or_default(),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(error) => {
                    outlet.tell(&error.to_string());
                    continue;
                }
            };
            match self.decoder.decode(bytes, outlet.clock().now_ns(), &mut scan) {
                Ok(true) => take(&scan, &mut mapper, outlet),
                Ok(false) => {}
                Err(_) => outlet.counts.refused += 1,
            }
        }
    }
}

fn take(scan: &LidarScan, mapper: &mut ClockMapper, outlet: &mut Outlet) {
    outlet.counts.missing += u64::from(scan.counts.missing_packets);
    if !scan.complete {
        outlet.counts.damaged += 1;
        return;
    }
    match mapper.observe(scan.stamp_ns, scan.arrival_ns) {
        Err(_) => outlet.counts.bad_stamp += 1,
        Ok(mapped) => {
            if let Some(step_ns) = mapped.step_ns {
                outlet.tell(&format!("its clock stepped by {:.3} s", step_ns as f64 * 1e-9));
            }
            let stamped = Stamped {
                raw_ns: scan.stamp_ns,
                clock: scan.clock,
                kind: StampKind::ExposureStart,
                arrival_ns: outlet.clock().now_ns(),
                mapped_ns: mapped.mapped_ns,
                uncertainty_ns: mapped.uncertainty_ns,
            };
            outlet.send(&Measurement::Scan(&scan.points), stamped);
        }
    }
}
