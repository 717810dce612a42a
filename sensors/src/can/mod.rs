//! CAN frames as they come off the bus, and ([`dbc`]) the tables that turn them into named physical values. Frames
//! come from recordings or live sockets; values go to the vehicle-state and radar decoders. Promised: a [`CanFrame`]
//! is a plain fixed-size value, and everything read from it is bounds-checked.

pub mod dbc;
#[cfg(target_os = "linux")]
pub mod socket;

use thiserror::Error;

/// The longest payload of a CAN FD frame, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 64;

const MAX_STANDARD_ID: u32 = 0x7FF;
const MAX_EXTENDED_ID: u32 = 0x1FFF_FFFF;

/// Why bytes are not a CAN frame.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CanFrameError {
    /// The identifier needs more bits than its kind has.
    #[error("CAN identifier: expected at most {max:#x}, found {found:#x}")]
    IdTooLarge {
        /// The largest identifier of that kind.
        max: u32,
        /// The identifier given.
        found: u32,
    },
    /// The payload has a length that the frame's kind cannot carry.
    #[error("CAN payload: expected {expected} bytes, found {found}")]
    PayloadLength {
        /// The lengths that the frame's kind can carry, in words.
        expected: &'static str,
        /// The payload's length in bytes.
        found: usize,
    },
}

/// One CAN or CAN FD data frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CanFrame {
    /// Identifier, 11 bits or, where `extended`, 29 bits.
    pub id: u32,
    /// Whether the identifier has 29 bits.
    pub extended: bool,
    /// Whether this is a CAN FD frame.
    pub fd: bool,
    /// The bus it was seen on, numbered by the recorder.
    pub bus: u8,
    /// How many bytes of `data` are the payload, 0 to 64.
    pub len: u8,
    /// The payload, followed by zeros.
    pub data: [u8; MAX_PAYLOAD_BYTES],
}

impl CanFrame {
    /// A frame with that payload.
    ///
    /// # Errors
    /// If the identifier has too many bits, or if the payload has a length that such a frame cannot carry: 0 to 8
    /// bytes, and for CAN FD also 12, 16, 20, 24, 32, 48 and 64 (ISO 11898-1).
    pub fn new(id: u32, extended: bool, fd: bool, bus: u8, payload: &[u8]) -> Result<Self, CanFrameError> {
        let max = if extended { MAX_EXTENDED_ID } else { MAX_STANDARD_ID };
        if id > max {
            return Err(CanFrameError::IdTooLarge { max, found: id });
        }
        let found = payload.len();
        if !fd && found > 8 {
            return Err(CanFrameError::PayloadLength { expected: "0 to 8", found });
        }
        if !matches!(found, 0..=8 | 12 | 16 | 20 | 24 | 32 | 48 | 64) {
            return Err(CanFrameError::PayloadLength { expected: "0 to 8, 12, 16, 20, 24, 32, 48 or 64", found });
        }
        let mut data = [0; MAX_PAYLOAD_BYTES];
        for (to, from) in data.iter_mut().zip(payload) {
            *to = *from;
        }
        Ok(Self { id, extended, fd, bus, len: found as u8, data })
    }

    /// The payload's bytes.
    pub fn payload(&self) -> &[u8] {
        self.data.get(..usize::from(self.len)).unwrap_or(&self.data)
    }
}

/// The CAN part of the comma2k19 segment in the shared data, for the tests of this crate.
#[cfg(test)]
pub(crate) mod comma2k19 {
    use super::CanFrame;
    use std::path::{Path, PathBuf};

    const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");

    /// The folder `can` of the shared data, or `None` with a word about it.
    pub(crate) fn can_folder() -> Option<PathBuf> {
        let folder = Path::new(SHARED).join("can");
        if !folder.is_dir() {
            eprintln!("skipped: ../shared is absent");
            return None;
        }
        Some(folder)
    }

    /// The bytes of a DBC file.
    pub(crate) fn dbc_bytes(folder: &Path, name: &str) -> Vec<u8> {
        std::fs::read(folder.join("opendbc").join(name)).unwrap()
    }

    /// The values of a `.npy` file of 8-byte little-endian elements, each as its bytes.
    fn elements(folder: &Path, name: &str) -> Vec<[u8; 8]> {
        let path = folder.join("comma2k19/segment/processed_log/CAN").join(name);
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(bytes[..8], *b"\x93NUMPY\x01\x00");
        let body = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        bytes[body..].chunks_exact(8).map(|element| element.try_into().unwrap()).collect()
    }

    /// An array of f64 in C order.
    pub(crate) fn floats(folder: &Path, name: &str) -> Vec<f64> {
        elements(folder, name).into_iter().map(f64::from_le_bytes).collect()
    }

    /// All frames of the recording with their times in seconds. Payloads are padded to 8 bytes, since the recording
    /// strips trailing zeros.
    pub(crate) fn frames(folder: &Path) -> Vec<(f64, CanFrame)> {
        let address = elements(folder, "raw_can/address");
        let bus = elements(folder, "raw_can/src");
        let data = elements(folder, "raw_can/data");
        let time_s = floats(folder, "raw_can/t");
        (0..data.len())
            .map(|row| {
                let id = u32::try_from(u64::from_le_bytes(address[row])).unwrap();
                let bus = u8::try_from(u64::from_le_bytes(bus[row])).unwrap();
                (time_s[row], CanFrame::new(id, false, false, bus, &data[row]).unwrap())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_keeps_its_payload() {
        let frame = CanFrame::new(0x25, false, false, 1, &[1, 2, 3]).unwrap();
        assert_eq!(frame.payload(), [1, 2, 3]);
        assert_eq!((frame.id, frame.bus, frame.len), (0x25, 1, 3));
    }

    #[test]
    fn impossible_frames_are_refused() {
        let id = CanFrame::new(0x800, false, false, 0, &[]);
        assert_eq!(id, Err(CanFrameError::IdTooLarge { max: 0x7FF, found: 0x800 }));
        assert!(CanFrame::new(0x800, true, false, 0, &[]).is_ok());
        assert!(CanFrame::new(0x2000_0000, true, false, 0, &[]).is_err());
        assert!(CanFrame::new(1, false, false, 0, &[0; 9]).is_err());
        assert!(CanFrame::new(1, false, true, 0, &[0; 9]).is_err());
        assert!(CanFrame::new(1, false, true, 0, &[0; 12]).is_ok());
        assert!(CanFrame::new(1, false, true, 0, &[0; 65]).is_err());
    }

    #[test]
    fn a_length_beyond_the_data_is_cut() {
        let mut frame = CanFrame::new(1, false, true, 0, &[7; 64]).unwrap();
        frame.len = 255;
        assert_eq!(frame.payload(), [7; 64]);
    }
}
