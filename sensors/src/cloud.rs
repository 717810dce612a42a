//! Point clouds in files: bytes in, points out.
//!
//! Reads KITTI's velodyne `.bin`, nuScenes' `.pcd.bin` and PCD files (version 0.7, ascii and binary) from memory into a
//! vector that the caller keeps, so its room is reused. Points without a finite position and what is left over at the end
//! are counted, never passed on. Points are in the frame of the file, mostly the sensor's: x, y, z in metres.

/// One return of a lidar.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Point {
    /// Metres along x of the cloud's frame.
    pub x_m: f32,
    /// Metres along y of the cloud's frame.
    pub y_m: f32,
    /// Metres along z of the cloud's frame.
    pub z_m: f32,
    /// Strength of the return, in the unit of the sensor (KITTI: 0 to 1, most others: 0 to 255); 0 if not given.
    pub intensity: f32,
    /// When it was measured, in nanoseconds from the stamp of the scan; 0 if not given.
    pub offset_ns: i32,
    /// Number of the laser; 0 if not given.
    pub ring: u16,
    /// Number or kind of the return, as the driver counts them; 0 if not given.
    pub return_number: u8,
}

/// What was read and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloudSummary {
    /// Points that were read.
    pub points: usize,
    /// Points left out because a coordinate is not a finite number.
    pub dropped_non_finite: usize,
    /// Points that were read, but whose time does not fit 32 bits of nanoseconds (2.1 s), so that their offset is 0.
    pub unusable_offsets: usize,
    /// Bytes at the end that are not a whole point.
    pub trailing_bytes: usize,
}

impl CloudSummary {
    /// Keeps a point if its position is finite.
    fn keep(&mut self, point: Point, points: &mut Vec<Point>) {
        if point.x_m.is_finite() && point.y_m.is_finite() && point.z_m.is_finite() {
            points.push(point);
            self.points = self.points.saturating_add(1);
        } else {
            self.dropped_non_finite = self.dropped_non_finite.saturating_add(1);
        }
    }
}

/// Why bytes are not a PCD file that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PcdError {
    /// The header does not end with a DATA line.
    #[error("expected a PCD header that ends with a DATA line, found none in {found} bytes")]
    NoData {
        /// Bytes that were searched.
        found: usize,
    },
    /// A line that must be there is missing.
    #[error("expected a {wanted} line in the PCD header, found none")]
    Missing {
        /// The first word of the line.
        wanted: &'static str,
    },
    /// A line does not hold what it must.
    #[error("line {line} of the PCD header: expected {expected}, found `{found}`")]
    Header {
        /// Number of the line, from 1.
        line: usize,
        /// What should be there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// Two lines of the header contradict each other.
    #[error("expected {expected} in the PCD header, found {found}")]
    Contradiction {
        /// What one line says.
        expected: String,
        /// What another line says.
        found: String,
    },
    /// There is no position in the points.
    #[error("expected the PCD fields x, y and z, found `{found}`")]
    NoPosition {
        /// The fields that are there.
        found: String,
    },
    /// The points are compressed.
    #[error("compressed PCD files are not read: convert it with `pcl_convert_pcd_ascii_binary in.pcd out.pcd 1`")]
    Compressed,
    /// There are fewer bytes than points.
    #[error("expected {expected} bytes of points in the PCD file, found {found}")]
    CutOff {
        /// Bytes that the header asks for.
        expected: usize,
        /// Bytes behind the header.
        found: usize,
    },
    /// There are fewer lines than points.
    #[error("expected {expected} lines of points in the PCD file, found {found}")]
    FewLines {
        /// Points that the header names.
        expected: usize,
        /// Lines behind the header.
        found: usize,
    },
    /// A value in the text is not a number.
    #[error("point {point} of the PCD file: expected a number for `{field}`, found `{found}`")]
    Number {
        /// Number of the point, from 1.
        point: usize,
        /// The name of the field.
        field: &'static str,
        /// What is there.
        found: String,
    },
}

/// Reads a KITTI velodyne file: x, y, z, intensity of each point as little-endian 32-bit floats. `points` is emptied first.
pub fn read_kitti(bytes: &[u8], points: &mut Vec<Point>) -> CloudSummary {
    let (records, rest) = bytes.as_chunks::<16>();
    let mut summary = start(points, records.len(), rest.len());
    for record in records {
        let [x_m, y_m, z_m, intensity] = floats(record);
        summary.keep(Point { x_m, y_m, z_m, intensity, ..Point::default() }, points);
    }
    summary
}

/// Reads a nuScenes lidar file: x, y, z, intensity, ring of each point as little-endian 32-bit floats. `points` is emptied
/// first.
pub fn read_nuscenes(bytes: &[u8], points: &mut Vec<Point>) -> CloudSummary {
    let (records, rest) = bytes.as_chunks::<20>();
    let mut summary = start(points, records.len(), rest.len());
    for record in records {
        let [x_m, y_m, z_m, intensity, ring] = floats(record);
        // The conversion saturates and takes what is not a number for 0.
        let ring = ring as u16;
        summary.keep(Point { x_m, y_m, z_m, intensity, ring, ..Point::default() }, points);
    }
    summary
}

fn start(points: &mut Vec<Point>, expected: usize, trailing_bytes: usize) -> CloudSummary {
    points.clear();
    points.reserve(expected);
    CloudSummary { trailing_bytes, ..CloudSummary::default() }
}

/// The little-endian floats of a record.
fn floats<const N: usize>(record: &[u8]) -> [f32; N] {
    let mut values = [0.0; N];
    for (value, bytes) in values.iter_mut().zip(record.as_chunks::<4>().0) {
        *value = f32::from_le_bytes(*bytes);
    }
    values
}

/// Reads a PCD file (version 0.7). `points` is emptied first and holds nothing after an error.
///
/// Fields are found by name: `x`, `y`, `z`; `intensity` or `i`; `ring` or `channel`; `return_number` or `return_type`;
/// the time from the scan's stamp as `time_stamp`, `timestamp`, `t`, `time` or `offset_ns`, in nanoseconds if it is stored
/// as an integer, in seconds if it is stored as a float. Other fields are skipped; missing ones are 0.
///
/// # Errors
/// A [`PcdError`] that says what is wrong with the header or that there are fewer points than it says.
pub fn read_pcd(bytes: &[u8], points: &mut Vec<Point>) -> Result<CloudSummary, PcdError> {
    points.clear();
    let header = PcdHeader::parse(bytes)?;
    let outcome = match header.form {
        Form::Ascii => read_ascii(&header, points),
        Form::Binary => read_binary(&header, points),
    };
    if outcome.is_err() {
        points.clear();
    }
    outcome
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Ascii,
    Binary,
}

/// How a number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
}

impl Kind {
    fn from_type_and_size(kind: &str, bytes: usize) -> Option<Kind> {
        let kind = match (kind, bytes) {
            ("F", 4) => Kind::F32,
            ("F", 8) => Kind::F64,
            ("I", 1) => Kind::I8,
            ("I", 2) => Kind::I16,
            ("I", 4) => Kind::I32,
            ("I", 8) => Kind::I64,
            ("U", 1) => Kind::U8,
            ("U", 2) => Kind::U16,
            ("U", 4) => Kind::U32,
            ("U", 8) => Kind::U64,
            _ => return None,
        };
        Some(kind)
    }

    fn is_float(self) -> bool {
        matches!(self, Kind::F32 | Kind::F64)
    }

    /// Reads the number at the start of `bytes`.
    fn read(self, bytes: &[u8]) -> Option<f64> {
        let value = match self {
            Kind::F32 => f64::from(f32::from_le_bytes(*bytes.first_chunk()?)),
            Kind::F64 => f64::from_le_bytes(*bytes.first_chunk()?),
            Kind::I8 => f64::from(i8::from_le_bytes(*bytes.first_chunk()?)),
            Kind::I16 => f64::from(i16::from_le_bytes(*bytes.first_chunk()?)),
            Kind::I32 => f64::from(i32::from_le_bytes(*bytes.first_chunk()?)),
            Kind::I64 => i64::from_le_bytes(*bytes.first_chunk()?) as f64,
            Kind::U8 => f64::from(*bytes.first()?),
            Kind::U16 => f64::from(u16::from_le_bytes(*bytes.first_chunk()?)),
            Kind::U32 => f64::from(u32::from_le_bytes(*bytes.first_chunk()?)),
            Kind::U64 => u64::from_le_bytes(*bytes.first_chunk()?) as f64,
        };
        Some(value)
    }
}

/// Where a wanted field lies in a point.
#[derive(Clone, Copy, Debug)]
struct Place {
    name: &'static str,
    kind: Kind,
    /// Bytes from the start of a binary point.
    byte: usize,
    /// Words from the start of a line of text.
    word: usize,
}

/// The fields of a [`Point`], as far as a file has them.
#[derive(Clone, Copy, Debug)]
struct Places {
    x: Place,
    y: Place,
    z: Place,
    intensity: Option<Place>,
    ring: Option<Place>,
    return_number: Option<Place>,
    offset: Option<Place>,
}

impl Places {
    /// Reads a point with the help of `value`, which fetches the number at a place.
    fn read<E>(&self, summary: &mut CloudSummary, mut value: impl FnMut(Place) -> Result<f64, E>) -> Result<Point, E> {
        let mut optional = |place: Option<Place>| place.map_or(Ok(0.0), &mut value);
        let intensity = optional(self.intensity)? as f32;
        // Conversions to integers saturate.
        let ring = optional(self.ring)? as u16;
        let return_number = optional(self.return_number)? as u8;
        let time = optional(self.offset)?;
        let in_seconds = self.offset.is_some_and(|place| place.kind.is_float());
        let offset = nanoseconds(if in_seconds { time * 1e9 } else { time });
        if offset.is_none() {
            summary.unusable_offsets = summary.unusable_offsets.saturating_add(1);
        }
        let offset_ns = offset.unwrap_or_default();
        let [x_m, y_m, z_m] = [value(self.x)? as f32, value(self.y)? as f32, value(self.z)? as f32];
        Ok(Point { x_m, y_m, z_m, intensity, offset_ns, ring, return_number })
    }
}

/// Rounds to whole nanoseconds; none if they do not fit 32 bits.
fn nanoseconds(time: f64) -> Option<i32> {
    let rounded = time.round();
    let fits = rounded >= f64::from(i32::MIN) && rounded <= f64::from(i32::MAX);
    fits.then_some(rounded as i32)
}

/// A parsed header and the bytes behind it.
struct PcdHeader<'a> {
    form: Form,
    places: Places,
    point_bytes: usize,
    points: usize,
    body: &'a [u8],
}

/// A line of the header: its number and the words behind the first.
#[derive(Clone)]
struct Line<'a> {
    number: usize,
    words: Vec<&'a str>,
}

impl Line<'_> {
    fn error(&self, expected: &'static str) -> PcdError {
        PcdError::Header { line: self.number, expected, found: self.words.join(" ") }
    }

    fn numbers(&self) -> Result<Vec<usize>, PcdError> {
        let numbers: Result<Vec<usize>, _> = self.words.iter().map(|word| word.parse::<usize>()).collect();
        numbers.map_err(|_| self.error("whole numbers"))
    }

    fn number(&self) -> Result<usize, PcdError> {
        match self.numbers()?.as_slice() {
            [number] => Ok(*number),
            _ => Err(self.error("one whole number")),
        }
    }
}

/// The lines of a header that matter, before they are checked against each other.
#[derive(Default)]
struct PcdLines<'a> {
    fields: Option<Line<'a>>,
    sizes: Option<Line<'a>>,
    types: Option<Line<'a>>,
    counts: Option<Line<'a>>,
    width: Option<Line<'a>>,
    height: Option<Line<'a>>,
    points: Option<Line<'a>>,
    form: Option<Line<'a>>,
}

impl<'a> PcdLines<'a> {
    /// Takes lines up to the DATA line; returns them and the bytes behind.
    fn split(bytes: &'a [u8]) -> Result<(PcdLines<'a>, &'a [u8]), PcdError> {
        let mut lines = PcdLines::default();
        let mut rest = bytes;
        let mut number = 0_usize;
        while lines.form.is_none() {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let no_data = || PcdError::NoData { found: bytes.len() };
            let (line, behind) = end.and_then(|end| rest.split_at_checked(end)).ok_or_else(no_data)?;
            rest = behind.get(1..).unwrap_or_default();
            number = number.saturating_add(1);
            let Ok(text) = std::str::from_utf8(line) else {
                let found = String::from_utf8_lossy(line).into_owned();
                return Err(PcdError::Header { line: number, expected: "readable text", found });
            };
            let mut words = text.split_whitespace();
            let Some(first) = words.next() else { continue };
            let slot = match first {
                "FIELDS" => &mut lines.fields,
                "SIZE" => &mut lines.sizes,
                "TYPE" => &mut lines.types,
                "COUNT" => &mut lines.counts,
                "WIDTH" => &mut lines.width,
                "HEIGHT" => &mut lines.height,
                "POINTS" => &mut lines.points,
                "DATA" => &mut lines.form,
                "VERSION" | "VIEWPOINT" => continue,
                comment if comment.starts_with('#') => continue,
                _ => {
                    let found = text.trim_end().to_string();
                    return Err(PcdError::Header { line: number, expected: "a line of the PCD format", found });
                }
            };
            *slot = Some(Line { number, words: words.collect() });
        }
        Ok((lines, rest))
    }
}

fn need<'l, 'a>(line: &'l Option<Line<'a>>, wanted: &'static str) -> Result<&'l Line<'a>, PcdError> {
    line.as_ref().ok_or(PcdError::Missing { wanted })
}

impl<'a> PcdHeader<'a> {
    fn parse(bytes: &'a [u8]) -> Result<PcdHeader<'a>, PcdError> {
        let (lines, body) = PcdLines::split(bytes)?;
        let form_line = need(&lines.form, "DATA")?;
        let form = match form_line.words.as_slice() {
            ["ascii"] => Form::Ascii,
            ["binary"] => Form::Binary,
            ["binary_compressed"] => return Err(PcdError::Compressed),
            _ => return Err(form_line.error("ascii or binary")),
        };
        let (places, point_bytes) = find_places(&lines)?;
        let points = count_points(&lines)?;
        Ok(PcdHeader { form, places, point_bytes, points, body })
    }
}

fn count_points(lines: &PcdLines<'_>) -> Result<usize, PcdError> {
    let width = need(&lines.width, "WIDTH")?;
    let height = need(&lines.height, "HEIGHT")?;
    let product = width.number()?.checked_mul(height.number()?);
    let product = product.ok_or_else(|| width.error("a width and height whose product fits memory"))?;
    let Some(line) = &lines.points else { return Ok(product) };
    let points = line.number()?;
    if points != product {
        let (expected, found) = (format!("WIDTH x HEIGHT = {product} points"), format!("POINTS {points}"));
        return Err(PcdError::Contradiction { expected, found });
    }
    Ok(points)
}

/// Finds the wanted fields, and how many bytes a binary point has.
fn find_places(lines: &PcdLines<'_>) -> Result<(Places, usize), PcdError> {
    let fields = need(&lines.fields, "FIELDS")?;
    let sizes_line = need(&lines.sizes, "SIZE")?;
    let sizes = sizes_line.numbers()?;
    let types_line = need(&lines.types, "TYPE")?;
    let counts = match &lines.counts {
        Some(line) => line.numbers()?,
        None => vec![1; fields.words.len()],
    };
    for (name, found) in [("SIZE", sizes.len()), ("TYPE", types_line.words.len()), ("COUNT", counts.len())] {
        if found != fields.words.len() {
            let (expected, found) = (format!("{} fields", fields.words.len()), format!("{found} entries of {name}"));
            return Err(PcdError::Contradiction { expected, found });
        }
    }
    let (mut x, mut y, mut z) = (None, None, None);
    let (mut intensity, mut ring, mut return_number, mut offset) = (None, None, None, None);
    let (mut byte, mut word) = (0_usize, 0_usize);
    let columns = fields.words.iter().zip(&sizes).zip(&types_line.words).zip(&counts);
    for (((name, size), kind), count) in columns {
        let kind =
            Kind::from_type_and_size(kind, *size).ok_or_else(|| types_line.error("types F, I or U of 1 to 8 bytes"))?;
        let place = |name: &'static str| Some(Place { name, kind, byte, word }).filter(|_| *count > 0);
        match *name {
            "x" => x = place("x"),
            "y" => y = place("y"),
            "z" => z = place("z"),
            "intensity" | "i" => intensity = place("intensity"),
            "ring" | "channel" => ring = place("ring"),
            "return_number" | "return_type" => return_number = place("return_number"),
            "time_stamp" | "timestamp" | "t" | "time" | "offset_ns" => offset = place("time"),
            _ => {}
        }
        let end = size.checked_mul(*count).and_then(|bytes| byte.checked_add(bytes)).zip(word.checked_add(*count));
        (byte, word) = end.ok_or_else(|| sizes_line.error("sizes whose sum fits memory"))?;
    }
    let (Some(x), Some(y), Some(z)) = (x, y, z) else {
        return Err(PcdError::NoPosition { found: fields.words.join(" ") });
    };
    Ok((Places { x, y, z, intensity, ring, return_number, offset }, byte))
}

fn read_binary(header: &PcdHeader<'_>, points: &mut Vec<Point>) -> Result<CloudSummary, PcdError> {
    let found = header.body.len();
    let expected = header.points.saturating_mul(header.point_bytes);
    let Some((body, rest)) = header.body.split_at_checked(expected) else {
        return Err(PcdError::CutOff { expected, found });
    };
    let mut summary = start(points, header.points, rest.len());
    for record in body.chunks_exact(header.point_bytes.max(1)) {
        let value = |place: Place| {
            let bytes = record.get(place.byte..).unwrap_or_default();
            place.kind.read(bytes).ok_or(PcdError::CutOff { expected, found })
        };
        let point = header.places.read(&mut summary, value)?;
        summary.keep(point, points);
    }
    Ok(summary)
}

fn read_ascii(header: &PcdHeader<'_>, points: &mut Vec<Point>) -> Result<CloudSummary, PcdError> {
    let mut lines = header.body.split_inclusive(|byte| *byte == b'\n');
    // A point takes more bytes than this, so that a false header cannot ask for more room than the file justifies.
    let mut summary = start(points, header.points.min(header.body.len() / 6), 0);
    for index in 0..header.points {
        let few_lines = PcdError::FewLines { expected: header.points, found: index };
        let line = lines.next().ok_or(few_lines)?;
        let text = String::from_utf8_lossy(line);
        let words: Vec<&str> = text.split_whitespace().collect();
        let value = |place: Place| {
            let word = words.get(place.word).copied().unwrap_or_default();
            word.parse::<f64>().map_err(|_| PcdError::Number {
                point: index.saturating_add(1),
                field: place.name,
                found: word.to_string(),
            })
        };
        let point = header.places.read(&mut summary, value)?;
        summary.keep(point, points);
    }
    summary.trailing_bytes = lines.map(<[u8]>::len).sum();
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/lidar");

    fn real(name: &str) -> Option<Vec<u8>> {
        let bytes = std::fs::read(format!("{DATA}/{name}")).ok();
        if bytes.is_none() {
            eprintln!("skipped: ../shared is absent");
        }
        bytes
    }

    fn le_bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn pcd(form: &str, points: usize, body: &[u8]) -> Vec<u8> {
        let header = format!(
            "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z intensity _ ring t\nSIZE 4 4 4 1 2 2 4\n\
             TYPE F F F U U U I\nCOUNT 1 1 1 1 2 1 1\nWIDTH {points}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\n\
             POINTS {points}\nDATA {form}\n"
        );
        [header.as_bytes(), body].concat()
    }

    #[test]
    fn a_point_is_small() {
        assert_eq!(size_of::<Point>(), 24);
    }

    #[test]
    fn points_without_a_position_and_trailing_bytes_are_counted() {
        let mut bytes = le_bytes(&[1.0, 2.0, 3.0, 0.5, f32::NAN, 0.0, 0.0, 0.0, 4.0, 5.0, 6.0, f32::INFINITY]);
        bytes.extend([1, 2, 3]);
        let mut points = vec![Point::default(); 9];
        let summary = read_kitti(&bytes, &mut points);
        let expected = CloudSummary { points: 2, dropped_non_finite: 1, unusable_offsets: 0, trailing_bytes: 3 };
        assert_eq!(summary, expected);
        assert_eq!(points[0], Point { x_m: 1.0, y_m: 2.0, z_m: 3.0, intensity: 0.5, ..Point::default() });
        assert_eq!((points.len(), points[1].z_m), (2, 6.0));
    }

    #[test]
    fn rings_of_nuscenes_saturate() {
        let bytes = le_bytes(&[1.0, 2.0, 3.0, 4.0, 31.0, 1.0, 2.0, 3.0, 4.0, -1.0, 1.0, 2.0, 3.0, 4.0, f32::NAN]);
        let mut points = Vec::new();
        assert_eq!(read_nuscenes(&bytes, &mut points).points, 3);
        assert_eq!(points.iter().map(|point| point.ring).collect::<Vec<u16>>(), [31, 0, 0]);
    }

    #[test]
    fn real_scans_are_read_whole() {
        let Some(kitti) = real("kitti/velodyne/000000.bin") else { return };
        let Some(sfnd) = real("sfnd_seq/0000000000.bin") else { return };
        let nuscenes = "nuscenes/n015-2018-07-24-11-22-45+0800__LIDAR_TOP__1532402927647951.pcd.bin";
        let Some(nuscenes) = real(nuscenes) else { return };
        let mut points = Vec::new();
        let whole = |points: usize| CloudSummary { points, ..CloudSummary::default() };
        assert_eq!(read_kitti(&kitti, &mut points), whole(115_384));
        assert_eq!((points[0].x_m, points[0].z_m), (18.324, 0.829));
        assert_eq!(read_kitti(&sfnd, &mut points), whole(114_278));
        assert_eq!(read_nuscenes(&nuscenes, &mut points), whole(34_688));
        let last = points.last().unwrap();
        assert_eq!((last.intensity, last.ring), (40.0, 31));
        assert_eq!(points.iter().map(|point| point.ring).max(), Some(31));
    }

    #[test]
    fn real_pcd_files_are_read_whole() {
        let Some(velodyne) = real("packets_velodyne/vlp16/1673400472138016708.pcd") else { return };
        let Some(hesai) = real("packets_hesai/xt32/1673400678101968885.pcd") else { return };
        let mut points = Vec::new();
        let whole = |points: usize| CloudSummary { points, ..CloudSummary::default() };
        assert_eq!(read_pcd(&velodyne, &mut points), Ok(whole(14_831)));
        let first = Point {
            x_m: 0.965_838_73,
            y_m: -0.005_225_742,
            z_m: 0.016_859_025,
            intensity: 100.0,
            offset_ns: 2384,
            ring: 8,
            return_number: 6,
        };
        assert_eq!(points[0], first);
        assert_eq!((points[14_830].ring, points[14_830].offset_ns), (15, 89_856));
        // Every point lies as far away as it was measured: the last point at 0.742 m.
        let last = points[14_830];
        let distance_m = (last.x_m * last.x_m + last.y_m * last.y_m + last.z_m * last.z_m).sqrt();
        assert!((distance_m - 0.742).abs() < 1e-4, "{distance_m}");
        assert_eq!(read_pcd(&hesai, &mut points), Ok(whole(63_021)));
        assert_eq!((points[0].intensity, points[0].ring), (0.0, 0));
    }

    #[test]
    fn text_and_binary_say_the_same() {
        let text = b"1.5 -2 3e1 200 7 8 12 -5\nnan 0 0 0 0 0 0 0\n0 0 1 255 0 0 65535 2147483648\nmore";
        let mut from_text = Vec::new();
        let summary = read_pcd(&pcd("ascii", 3, text), &mut from_text).unwrap();
        let expected = CloudSummary { points: 2, dropped_non_finite: 1, unusable_offsets: 1, trailing_bytes: 4 };
        assert_eq!(summary, expected);
        let mut body = le_bytes(&[1.5, -2.0, 30.0]);
        body.extend([200, 7, 0, 8, 0, 12, 0]);
        body.extend((-5_i32).to_le_bytes());
        let mut from_binary = Vec::new();
        assert_eq!(read_pcd(&pcd("binary", 1, &body), &mut from_binary).unwrap().points, 1);
        assert_eq!(from_text[0], from_binary[0]);
        assert_eq!((from_text[0].ring, from_text[0].offset_ns, from_text[1].offset_ns), (12, -5, 0));
    }

    #[test]
    fn times_in_seconds_become_nanoseconds() {
        let file = b"FIELDS x y z time\nSIZE 4 4 4 8\nTYPE F F F F\nWIDTH 1\nHEIGHT 1\nDATA ascii\n1 2 3 0.0005\n";
        let mut points = Vec::new();
        read_pcd(file, &mut points).unwrap();
        assert_eq!(points[0].offset_ns, 500_000);
    }

    #[test]
    fn what_is_wrong_with_a_pcd_file_is_named() {
        let mut points = vec![Point::default()];
        let mut error = |bytes: &[u8]| read_pcd(bytes, &mut points).unwrap_err();
        assert_eq!(error(b"FIELDS x y z\n"), PcdError::NoData { found: 13 });
        assert_eq!(error(b"FIELDS x\nDATA ascii\n"), PcdError::Missing { wanted: "SIZE" });
        let short = error(&pcd("binary", 2, &[0; 45]));
        assert_eq!(short, PcdError::CutOff { expected: 46, found: 45 });
        assert_eq!(error(&pcd("ascii", 2, b"1 2 3 4 5 6 7 8\n")), PcdError::FewLines { expected: 2, found: 1 });
        let word = error(&pcd("ascii", 1, b"1 two 3 4 5 6 7 8\n"));
        assert_eq!(word, PcdError::Number { point: 1, field: "y", found: "two".to_string() });
        assert_eq!(error(&pcd("binary_compressed", 1, &[])), PcdError::Compressed);
        let unknown = error(b"FIELDS x y z\nCOLOUR red\n");
        assert!(matches!(unknown, PcdError::Header { line: 2, .. }));
        let flat = b"FIELDS x y\nSIZE 4 4\nTYPE F F\nWIDTH 1\nHEIGHT 1\nDATA ascii\n1 2\n";
        assert_eq!(error(flat), PcdError::NoPosition { found: "x y".to_string() });
        let few = b"FIELDS x y z\nSIZE 4 4\nTYPE F F F\nWIDTH 1\nHEIGHT 1\nDATA ascii\n1 2 3\n";
        assert!(matches!(error(few), PcdError::Contradiction { .. }));
        assert!(points.is_empty());
    }

    #[test]
    fn every_truncation_is_an_error_and_no_flipped_bit_panics() {
        let file = pcd("binary", 3, &[1; 69]);
        let mut points = Vec::new();
        for length in 0..file.len() {
            assert!(read_pcd(&file[..length], &mut points).is_err(), "{length}");
        }
        for position in 0..file.len() {
            for bit in 0..8 {
                let mut damaged = file.clone();
                damaged[position] ^= 1 << bit;
                let _ = read_pcd(&damaged, &mut points);
                read_kitti(&damaged[position..], &mut points);
                read_nuscenes(&damaged[position..], &mut points);
            }
        }
    }

    proptest! {
        #[test]
        fn points_survive_a_round_trip(
            values in prop::collection::vec((-200_f32..200.0, -200_f32..200.0, -9_f32..9.0, 0_u8..=255, any::<u16>(), any::<i32>()), 0..30),
        ) {
            let mut body = Vec::new();
            for (x, y, z, intensity, ring, t) in &values {
                body.extend(le_bytes(&[*x, *y, *z]));
                body.push(*intensity);
                body.extend([9; 4]);
                body.extend(ring.to_le_bytes());
                body.extend(t.to_le_bytes());
            }
            let mut points = Vec::new();
            let summary = read_pcd(&pcd("binary", values.len(), &body), &mut points).unwrap();
            prop_assert_eq!(summary, CloudSummary { points: values.len(), ..CloudSummary::default() });
            for (point, (x, y, z, intensity, ring, t)) in points.iter().zip(&values) {
                prop_assert_eq!([point.x_m, point.y_m, point.z_m], [*x, *y, *z]);
                prop_assert_eq!((point.intensity, point.ring, point.offset_ns), (f32::from(*intensity), *ring, *t));
            }
        }
    }
}
