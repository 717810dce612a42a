//! Raw network packets of lidars and radars as drivers record them: `nebula_msgs/msg/NebulaPackets`,
//! `velodyne_msgs/msg/VelodyneScan` and `pandar_msgs/msg/PandarScan`. The packets' bytes stay in the payload; what
//! they mean is the business of the sensor's decoder.

use super::cdr::{CdrError, CdrReader};
use super::{Header, read_time_ns};

const STAMP_BYTES: usize = 8;
const VELODYNE_BYTES: usize = 1206;
const PANDAR_BYTES: usize = 1500;

/// The packets of one scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LidarPackets<'a> {
    /// When the scan began and in which sensor's frame.
    pub header: Header<'a>,
    /// The packets in the order in which they came.
    pub packets: Vec<LidarPacket<'a>>,
}

/// One packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LidarPacket<'a> {
    /// When it came, in nanoseconds of the driver's clock.
    pub stamp_ns: i64,
    /// The packet's bytes, without network headers.
    pub data: &'a [u8],
}

impl<'a> LidarPackets<'a> {
    pub(crate) fn read_nebula(reader: &mut CdrReader<'a>) -> Result<Self, CdrError> {
        Self::read_with(reader, STAMP_BYTES + size_of::<u32>(), CdrReader::bytes)
    }

    pub(crate) fn read_velodyne(reader: &mut CdrReader<'a>) -> Result<Self, CdrError> {
        Self::read_with(reader, STAMP_BYTES + VELODYNE_BYTES, |reader| reader.take(VELODYNE_BYTES))
    }

    pub(crate) fn read_pandar(reader: &mut CdrReader<'a>) -> Result<Self, CdrError> {
        Self::read_with(reader, STAMP_BYTES + PANDAR_BYTES, |reader| {
            let buffer = reader.take(PANDAR_BYTES)?;
            let expected = reader.u32()? as usize;
            let used = buffer.get(..expected);
            used.ok_or(CdrError::Truncated { position: reader.position(), expected, found: PANDAR_BYTES })
        })
    }

    fn read_with(
        reader: &mut CdrReader<'a>,
        min_packet_bytes: usize,
        read_data: impl Fn(&mut CdrReader<'a>) -> Result<&'a [u8], CdrError>,
    ) -> Result<Self, CdrError> {
        let header = Header::read(reader)?;
        let count = reader.sequence_len(min_packet_bytes)?;
        let mut packets = Vec::with_capacity(count);
        for _ in 0..count {
            packets.push(LidarPacket { stamp_ns: read_time_ns(reader)?, data: read_data(reader)? });
        }
        Ok(Self { header, packets })
    }
}

#[cfg(test)]
mod tests {
    use super::super::cdr::writer::CdrWriter;
    use super::*;

    #[test]
    fn packets_of_free_length() {
        let mut writer = CdrWriter::new(false);
        writer.header(9, 0, "radar").u32(2);
        writer.i32(9).u32(1).byte_sequence(&[1, 2, 3]);
        writer.i32(9).u32(2).byte_sequence(&[]);
        let scan = LidarPackets::read_nebula(&mut CdrReader::new(&writer.bytes).unwrap()).unwrap();
        assert_eq!(scan.header.frame_id, "radar");
        let expected = [
            LidarPacket { stamp_ns: 9_000_000_001, data: &[1, 2, 3] },
            LidarPacket { stamp_ns: 9_000_000_002, data: &[] },
        ];
        assert_eq!(scan.packets, expected);
    }

    #[test]
    fn packets_of_fixed_length_are_aligned() {
        let mut writer = CdrWriter::new(false);
        writer.header(9, 0, "velodyne").u32(2);
        writer.i32(1).u32(0).raw(&[7; VELODYNE_BYTES]);
        writer.i32(2).u32(0).raw(&[8; VELODYNE_BYTES]);
        let scan = LidarPackets::read_velodyne(&mut CdrReader::new(&writer.bytes).unwrap()).unwrap();
        assert_eq!(scan.packets[1], LidarPacket { stamp_ns: 2_000_000_000, data: &[8; VELODYNE_BYTES] });
    }

    #[test]
    fn pandar_packets_are_cut_to_their_size() {
        let read = |size: u32| {
            let mut writer = CdrWriter::new(false);
            writer.header(9, 0, "hesai").u32(1).i32(1).u32(0).raw(&[7; PANDAR_BYTES]).u32(size);
            LidarPackets::read_pandar(&mut CdrReader::new(&writer.bytes).unwrap())
                .map(|scan| scan.packets[0].data.len())
        };
        assert_eq!(read(1080), Ok(1080));
        assert!(matches!(read(1501), Err(CdrError::Truncated { expected: 1501, found: 1500, .. })));
    }
}
