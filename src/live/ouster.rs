//! An Ouster's frames as scans, so that a rig's lidars are all driven alike.
//!
//! A frame is one turn by the sensor's own count; its points are placed by the sensor's metadata. Promised: no allocation per
//! packet once the vectors have grown to a frame.

use catseye_sensors::lidar::ouster::{OusterDecoder, OusterFrame, OusterGeometry, OusterMetadata, OusterPacketError};
use catseye_sensors::lidar::{LidarCounts, LidarDecoder, LidarScan};
use catseye_sensors::packet::ClockId;

/// Turns of one Ouster.
pub struct OusterTurns {
    decoder: OusterDecoder,
    geometry: OusterGeometry,
    frame: OusterFrame,
    clock: ClockId,
    columns_per_packet: usize,
    /// When the first packet of the frame arrived that is being put together.
    began_ns: Option<i64>,
    /// Whether a frame has been seen from its beginning, as the first is not.
    is_first: bool,
}

impl OusterTurns {
    /// For the packets of one sensor, whose stamps are on that clock.
    pub fn new(metadata: &OusterMetadata, clock: ClockId) -> Self {
        OusterTurns {
            geometry: OusterGeometry::new(metadata),
            decoder: OusterDecoder::new(metadata.clone()),
            frame: OusterFrame::default(),
            clock,
            columns_per_packet: metadata.columns_per_packet().max(1),
            began_ns: None,
            is_first: true,
        }
    }

    fn give(&mut self, arrival_ns: i64, scan: &mut LidarScan) {
        let frame = &self.frame;
        let found = self.geometry.points(frame, &mut scan.points);
        // one that is cut at its beginning has not lost those columns; one that has hardly any is no scan
        let is_cut = std::mem::take(&mut self.is_first) && frame.missing_columns > 0;
        let missing = if is_cut { 0 } else { frame.missing_columns.div_ceil(self.columns_per_packet) };
        scan.complete = !is_cut && frame.missing_columns <= frame.columns.len() / 2;
        scan.stamp_ns = i64::try_from(frame.stamp_ns).unwrap_or(i64::MAX);
        scan.clock = self.clock;
        scan.arrival_ns = arrival_ns;
        let whole = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        scan.counts = LidarCounts {
            missing_packets: whole(missing),
            no_return: whole(found.without_return),
            ..LidarCounts::default()
        };
    }
}

impl LidarDecoder for OusterTurns {
    type Error = OusterPacketError;

    fn decode(&mut self, payload: &[u8], arrival_ns: i64, scan: &mut LidarScan) -> Result<bool, OusterPacketError> {
        let is_whole = self.decoder.decode(payload, &mut self.frame)?;
        let began_ns = *self.began_ns.get_or_insert(arrival_ns);
        if is_whole {
            // a frame that is not complete was ended by the first packet of the next
            self.began_ns = (self.frame.missing_columns > 0).then_some(arrival_ns);
            self.give(began_ns, scan);
        }
        Ok(is_whole)
    }

    fn finish(&mut self, scan: &mut LidarScan) -> bool {
        let has_some = self.decoder.finish(&mut self.frame);
        if let (true, Some(began_ns)) = (has_some, self.began_ns.take()) {
            self.give(began_ns, scan);
        }
        has_some
    }
}
