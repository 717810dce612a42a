//! The JSON that an Ouster sensor gives about itself.

use super::packet::OusterProfile;
use serde_json::Value;
use thiserror::Error;

/// The most beams and columns of any sensor, with room to spare.
pub(super) const MAX_ROWS: usize = 256;
const MAX_COLUMNS: usize = 8192;
const DEFAULT_COLUMNS_PER_PACKET: usize = 16;

/// What must be known of a sensor to read its packets.
#[derive(Clone, Debug, PartialEq)]
pub struct OusterMetadata {
    pub(super) product_line: String,
    pub(super) serial_number: u64,
    pub(super) lidar_port: Option<u16>,
    pub(super) imu_port: Option<u16>,
    pub(super) profile: OusterProfile,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) columns_per_packet: usize,
    /// First and last measurement that the sensor sends; the window may pass the frame's seam.
    pub(super) column_window: [usize; 2],
    pub(super) pixel_shift_by_row: Vec<i64>,
    pub(super) beam_altitude_deg: Vec<f64>,
    pub(super) beam_azimuth_deg: Vec<f64>,
    pub(super) beam_to_lidar_mm: [f64; 16],
    pub(super) lidar_to_sensor_mm: [f64; 16],
    pub(super) imu_to_sensor_mm: [f64; 16],
}

/// Why JSON does not describe a sensor whose packets can be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OusterMetadataError {
    /// It is not JSON.
    #[error("expected the metadata of an Ouster sensor in JSON, found {found}")]
    Json {
        /// What the JSON reader says.
        found: String,
    },
    /// A value that must be there is missing.
    #[error("expected `{key}` in the Ouster metadata, found no such value")]
    Missing {
        /// The name of the value.
        key: &'static str,
    },
    /// A value is not what it must be.
    #[error("expected {expected} for `{key}` in the Ouster metadata, found {found}")]
    Value {
        /// The name of the value.
        key: &'static str,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
}

impl OusterMetadata {
    /// Reads the metadata, in the flat or the nested layout.
    ///
    /// # Errors
    /// If it is not JSON, or a value is missing, contradicts another, or stands for a format that is not read.
    pub fn from_json(bytes: &[u8]) -> Result<Self, OusterMetadataError> {
        let root = serde_json::from_slice(bytes);
        let root = root.map_err(|error: serde_json::Error| OusterMetadataError::Json { found: error.to_string() })?;
        Sections(&root).read()
    }

    /// The name of the product, such as `OS-1-128`; empty if it is not given.
    pub fn product_line(&self) -> &str {
        &self.product_line
    }

    /// The sensor's serial number, 0 if it is not given.
    pub fn serial_number(&self) -> u64 {
        self.serial_number
    }

    /// The UDP port to which the sensor sends lidar packets.
    pub fn lidar_port(&self) -> Option<u16> {
        self.lidar_port
    }

    /// The UDP port to which the sensor sends IMU packets.
    pub fn imu_port(&self) -> Option<u16> {
        self.imu_port
    }

    /// How lidar packets are laid out.
    pub fn profile(&self) -> OusterProfile {
        self.profile
    }

    /// Beams of the sensor: the height of a frame.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Measurements in a turn: the width of a frame.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Measurements in a lidar packet.
    pub fn columns_per_packet(&self) -> usize {
        self.columns_per_packet
    }

    /// The pose of the IMU in the sensor's frame: a 4x4 matrix, row by row, translation in millimetres.
    pub fn imu_to_sensor_mm(&self) -> [f64; 16] {
        self.imu_to_sensor_mm
    }

    /// Shifts the rows of a field image so that its columns point the same way. `upright` is emptied first, and stays
    /// empty if the image is not of this sensor's size.
    pub fn destagger<T: Copy>(&self, staggered: &[T], upright: &mut Vec<T>) {
        upright.clear();
        if staggered.len() != self.rows * self.columns {
            return;
        }
        for (row, &shift) in staggered.chunks_exact(self.columns).zip(&self.pixel_shift_by_row) {
            // A turn to the right by the shift begins with the row's last pixels.
            let shift = shift.rem_euclid(self.columns as i64) as usize;
            let (start, end) = row.split_at(self.columns - shift);
            upright.extend_from_slice(end);
            upright.extend_from_slice(start);
        }
    }

    /// Whether the sensor sends that measurement.
    pub(super) fn window_has(&self, measurement: usize) -> bool {
        let [first, last] = self.column_window;
        if first <= last { (first..=last).contains(&measurement) } else { measurement >= first || measurement <= last }
    }
}

/// The values by name, whether they lie in sections or side by side.
struct Sections<'a>(&'a Value);

impl<'a> Sections<'a> {
    fn read(&self) -> Result<OusterMetadata, OusterMetadataError> {
        let beam_altitude_deg = self.numbers("beam_altitude_angles")?;
        let beam_azimuth_deg = self.numbers("beam_azimuth_angles")?;
        let rows = self.count("pixels_per_column", MAX_ROWS)?.unwrap_or(beam_altitude_deg.len());
        for (key, angles) in [("beam_altitude_angles", &beam_altitude_deg), ("beam_azimuth_angles", &beam_azimuth_deg)]
        {
            if angles.len() != rows || rows == 0 || rows > MAX_ROWS {
                return Err(wrong(key, format!("{rows} angles, from 1 to {MAX_ROWS}"), angles.len()));
            }
        }
        let columns = match self.count("columns_per_frame", MAX_COLUMNS)? {
            Some(columns) => columns,
            None => self.columns_of_mode()?,
        };
        let columns_per_packet = self.count("columns_per_packet", MAX_COLUMNS)?.unwrap_or(DEFAULT_COLUMNS_PER_PACKET);
        if !columns.is_multiple_of(columns_per_packet) {
            return Err(wrong("columns_per_packet", format!("a divisor of {columns}"), columns_per_packet));
        }
        Ok(OusterMetadata {
            product_line: self.find("prod_line").and_then(Value::as_str).unwrap_or_default().to_owned(),
            serial_number: self.serial_number()?,
            lidar_port: self.port("udp_port_lidar"),
            imu_port: self.port("udp_port_imu"),
            profile: self.profile()?,
            rows,
            columns,
            columns_per_packet,
            column_window: self.column_window(columns)?,
            pixel_shift_by_row: self.pixel_shift_by_row(&beam_azimuth_deg, columns)?,
            beam_altitude_deg,
            beam_azimuth_deg,
            beam_to_lidar_mm: self.beam_to_lidar()?,
            lidar_to_sensor_mm: self.matrix("lidar_to_sensor_transform")?,
            imu_to_sensor_mm: self.matrix("imu_to_sensor_transform")?,
        })
    }

    fn find(&self, key: &str) -> Option<&'a Value> {
        let sections = [
            "lidar_data_format",
            "data_format",
            "beam_intrinsics",
            "lidar_intrinsics",
            "imu_intrinsics",
            "sensor_info",
            "config_params",
        ];
        let nested = sections.iter().filter_map(|section| self.0.get(section)?.get(key)).next();
        nested.or_else(|| self.0.get(key))
    }

    fn need(&self, key: &'static str) -> Result<&'a Value, OusterMetadataError> {
        self.find(key).ok_or(OusterMetadataError::Missing { key })
    }

    fn numbers(&self, key: &'static str) -> Result<Vec<f64>, OusterMetadataError> {
        let value = self.need(key)?;
        let numbers = value.as_array().and_then(|values| values.iter().map(Value::as_f64).collect());
        numbers.ok_or_else(|| wrong(key, "a list of numbers", value))
    }

    fn matrix(&self, key: &'static str) -> Result<[f64; 16], OusterMetadataError> {
        let numbers = self.numbers(key)?;
        numbers.as_slice().try_into().map_err(|_| wrong(key, "16 numbers", numbers.len()))
    }

    /// A number from 1 to `most`, if it is given.
    fn count(&self, key: &'static str, most: usize) -> Result<Option<usize>, OusterMetadataError> {
        let Some(value) = self.find(key) else { return Ok(None) };
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        let count = count.filter(|count| (1..=most).contains(count));
        count.map(Some).ok_or_else(|| wrong(key, format!("a number from 1 to {most}"), value))
    }

    fn columns_of_mode(&self) -> Result<usize, OusterMetadataError> {
        let mode = self.need("lidar_mode")?;
        let columns = mode.as_str().and_then(|mode| mode.split_once('x')?.0.parse().ok());
        let columns = columns.filter(|columns| (1..=MAX_COLUMNS).contains(columns));
        columns.ok_or_else(|| wrong("lidar_mode", "columns and rate, such as 1024x10", mode))
    }

    fn port(&self, key: &str) -> Option<u16> {
        self.find(key)?.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
    }

    fn serial_number(&self) -> Result<u64, OusterMetadataError> {
        let Some(value) = self.find("prod_sn") else { return Ok(0) };
        let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
        number.or_else(|| (value == "").then_some(0)).ok_or_else(|| wrong("prod_sn", "a serial number", value))
    }

    fn profile(&self) -> Result<OusterProfile, OusterMetadataError> {
        if let Some(header) = self.find("header_type").filter(|header| *header != "STANDARD") {
            return Err(wrong("header_type", "STANDARD", header));
        }
        let key = "udp_profile_lidar";
        let Some(value) = self.find(key) else { return Ok(OusterProfile::Legacy) };
        let profile = value.as_str().and_then(OusterProfile::from_name);
        profile.ok_or_else(|| wrong(key, OusterProfile::ALL.map(OusterProfile::name).join(" or "), value))
    }

    fn column_window(&self, columns: usize) -> Result<[usize; 2], OusterMetadataError> {
        let key = "column_window";
        if self.find(key).is_none() {
            return Ok([0, columns - 1]);
        }
        let numbers = self.numbers(key)?;
        match numbers.as_slice() {
            &[first, last] if first >= 0.0 && last >= 0.0 && first.max(last) < columns as f64 => {
                Ok([first as usize, last as usize])
            }
            _ => Err(wrong(key, format!("two numbers below {columns}"), format!("{numbers:?}"))),
        }
    }

    /// As given, or, by firmware that does not give it, from the beams' azimuths.
    fn pixel_shift_by_row(&self, azimuths_deg: &[f64], columns: usize) -> Result<Vec<i64>, OusterMetadataError> {
        let key = "pixel_shift_by_row";
        let Some(value) = self.find(key) else {
            let least_deg = azimuths_deg.iter().copied().fold(f64::INFINITY, f64::min);
            let shift = |azimuth_deg: &f64| libm::round((azimuth_deg - least_deg) * columns as f64 / 360.0) as i64;
            return Ok(azimuths_deg.iter().map(shift).collect());
        };
        let shifts: Option<Vec<i64>> = value.as_array().and_then(|values| values.iter().map(Value::as_i64).collect());
        let shifts = shifts.filter(|shifts| shifts.len() == azimuths_deg.len());
        shifts.ok_or_else(|| wrong(key, format!("{} whole numbers", azimuths_deg.len()), value))
    }

    /// As given, or, by most sensors, a distance along x.
    fn beam_to_lidar(&self) -> Result<[f64; 16], OusterMetadataError> {
        if self.find("beam_to_lidar_transform").is_some() {
            return self.matrix("beam_to_lidar_transform");
        }
        let key = "lidar_origin_to_beam_origin_mm";
        let x_mm = match self.find(key) {
            Some(value) => value.as_f64().ok_or_else(|| wrong(key, "a number", value))?,
            None => self.default_beam_origin_mm(),
        };
        Ok([1.0, 0.0, 0.0, x_mm, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    }

    /// Of sensors whose firmware is too old to say; the values are those of Ouster's SDK.
    fn default_beam_origin_mm(&self) -> f64 {
        let product_line = self.find("prod_line").and_then(Value::as_str).unwrap_or_default();
        match product_line.get(..5) {
            Some("OS-0-") => 27.67,
            Some("OS-1-") => 15.806,
            Some("OS-2-") => 13.762,
            _ => 12.163,
        }
    }
}

fn wrong(key: &'static str, expected: impl Into<String>, found: impl ToString) -> OusterMetadataError {
    // What is wrong may be a list of any length.
    let found = found.to_string().chars().take(80).collect();
    OusterMetadataError::Value { key, expected: expected.into(), found }
}
