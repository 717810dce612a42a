//! Where frames stand to each other: `geometry_msgs/msg/TransformStamped`, alone or in a `tf2_msgs/msg/TFMessage`.
//! Names and numbers are handed on as they were sent: the quaternion need not be of unit length.

use super::Header;
use super::cdr::{CdrError, CdrReader};

/// The fewest bytes that a transform takes: a time, two strings' lengths, seven numbers.
const MIN_TRANSFORM_BYTES: usize = 4 + 4 + 4 + 4 + 7 * 8;

/// `geometry_msgs/msg/TransformStamped`: the pose `parent_from_child`, where the parent is the header's frame.
#[derive(Clone, Debug, PartialEq)]
pub struct TransformStamped<'a> {
    /// When it holds, and the parent frame's name.
    pub header: Header<'a>,
    /// The child frame's name.
    pub child_frame_id: &'a str,
    /// The child's origin in the parent frame, in metres.
    pub translation_m: [f64; 3],
    /// The child's rotation in the parent frame, as a quaternion x, y, z, w.
    pub rotation_xyzw: [f64; 4],
}

impl<'a> TransformStamped<'a> {
    pub(crate) fn read(reader: &mut CdrReader<'a>) -> Result<Self, CdrError> {
        Ok(Self {
            header: Header::read(reader)?,
            child_frame_id: reader.string()?,
            translation_m: reader.f64s()?,
            rotation_xyzw: reader.f64s()?,
        })
    }

    pub(crate) fn read_sequence(reader: &mut CdrReader<'a>) -> Result<Vec<Self>, CdrError> {
        let count = reader.sequence_len(MIN_TRANSFORM_BYTES)?;
        let mut transforms = Vec::with_capacity(count);
        for _ in 0..count {
            transforms.push(Self::read(reader)?);
        }
        Ok(transforms)
    }
}

#[cfg(test)]
mod tests {
    use super::super::cdr::writer::CdrWriter;
    use super::*;

    #[test]
    fn transforms_follow_each_other() {
        let mut writer = CdrWriter::new(false);
        writer.u32(2);
        writer.header(1, 0, "map").string("odom").f64s(&[1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 1.0]);
        writer.header(2, 0, "odom").string("base_link").f64s(&[4.0, 5.0, 6.0, 0.5, 0.5, 0.5, 0.5]);
        let transforms = TransformStamped::read_sequence(&mut CdrReader::new(&writer.bytes).unwrap()).unwrap();
        let [first, second] = transforms.as_slice() else { panic!("expected two transforms") };
        assert_eq!((first.header.frame_id, first.child_frame_id), ("map", "odom"));
        assert_eq!(first.translation_m, [1.0, 2.0, 3.0]);
        assert_eq!((second.header.stamp_ns, second.child_frame_id), (2_000_000_000, "base_link"));
        assert_eq!(second.rotation_xyzw, [0.5; 4]);
    }

    #[test]
    fn a_transform_takes_at_least_the_assumed_bytes() {
        let mut writer = CdrWriter::new(false);
        writer.u32(1).i32(1).u32(0).u32(0).u32(0).f64s(&[0.0; 7]);
        let transforms = TransformStamped::read_sequence(&mut CdrReader::new(&writer.bytes).unwrap()).unwrap();
        assert_eq!(transforms.len(), 1);
    }
}
