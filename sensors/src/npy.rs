//! NumPy arrays (`.npy` files, format versions 1 to 3) in memory: bytes in, numbers out, nothing copied.
//!
//! The bytes come from a file that the caller read; an [`NpyArray`] borrows them. One- and two-dimensional arrays of
//! little-endian numbers, booleans and byte strings are read, in row order (C) or column order (Fortran). The header is
//! a Python dictionary; only the form that NumPy writes is accepted. See `numpy.lib.format` for the format.

/// Longest header that is read, in bytes. NumPy refuses to load longer ones than this as well.
const MAX_HEADER_BYTES: usize = 10_000;

/// What one element of an array is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// `<f8`
    F64,
    /// `<f4`
    F32,
    /// `<i8`
    I64,
    /// `<i4`
    I32,
    /// `<i2`
    I16,
    /// `|i1`
    I8,
    /// `<u8`
    U64,
    /// `<u4`
    U32,
    /// `<u2`
    U16,
    /// `|u1`
    U8,
    /// `|b1`
    Bool,
    /// `|SN`: a string of so many bytes, filled up with zeros.
    Bytes(usize),
}

impl Dtype {
    /// Reads the type's name in the header; none if it is not one of the above.
    fn from_name(name: &str) -> Option<Dtype> {
        let dtype = match name {
            "<f8" => Dtype::F64,
            "<f4" => Dtype::F32,
            "<i8" => Dtype::I64,
            "<i4" => Dtype::I32,
            "<i2" => Dtype::I16,
            "|i1" | "<i1" => Dtype::I8,
            "<u8" => Dtype::U64,
            "<u4" => Dtype::U32,
            "<u2" => Dtype::U16,
            "|u1" | "<u1" => Dtype::U8,
            "|b1" => Dtype::Bool,
            // Strings of no bytes could claim any number of rows without a body.
            _ => Dtype::Bytes(name.strip_prefix("|S")?.parse().ok().filter(|bytes| *bytes > 0)?),
        };
        Some(dtype)
    }

    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::F64 | Dtype::I64 | Dtype::U64 => 8,
            Dtype::F32 | Dtype::I32 | Dtype::U32 => 4,
            Dtype::I16 | Dtype::U16 => 2,
            Dtype::I8 | Dtype::U8 | Dtype::Bool => 1,
            Dtype::Bytes(bytes) => bytes,
        }
    }
}

/// Why bytes are not an array.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NpyError {
    /// The bytes do not start as every array does.
    #[error("expected a NumPy array (starting with \\x93NUMPY), found {found} bytes that start otherwise")]
    NotNpy {
        /// Bytes that were given.
        found: usize,
    },
    /// The version of the format is not known.
    #[error("expected NumPy format version 1, 2 or 3, found {found}")]
    Version {
        /// The major version.
        found: u8,
    },
    /// The bytes end within the header.
    #[error("expected a NumPy header of {expected} bytes, found {found}")]
    HeaderCutOff {
        /// Bytes that the header should have.
        expected: usize,
        /// Bytes that were given.
        found: usize,
    },
    /// The header is longer than any real one.
    #[error("expected a NumPy header of at most {MAX_HEADER_BYTES} bytes, found {found}")]
    HeaderTooLong {
        /// Bytes that the header should have.
        found: usize,
    },
    /// The header is not the dictionary that it must be.
    #[error("expected a NumPy header with {expected}, found `{found}`")]
    Header {
        /// What should be there.
        expected: &'static str,
        /// What is there, from there on.
        found: String,
    },
    /// The type of the elements is not read.
    #[error(
        "expected elements of type f8, f4, i8, i4, i2, i1, u8, u4, u2, u1, b1 (little-endian) or S, found `{found}`"
    )]
    ElementType {
        /// The type's name in the header.
        found: String,
    },
    /// The array does not have one or two dimensions.
    #[error("expected 1 or 2 dimensions, found {found}")]
    Dimensions {
        /// Number of dimensions.
        found: usize,
    },
    /// The number of bytes behind the header does not fit the shape.
    #[error("expected {rows} x {columns} elements in {expected} bytes, found {found} bytes")]
    Body {
        /// Rows.
        rows: usize,
        /// Columns.
        columns: usize,
        /// Bytes that the shape asks for; the largest number there is if it asks for more than that.
        expected: usize,
        /// Bytes behind the header.
        found: usize,
    },
}

/// An array of one or two dimensions. A one-dimensional array has one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NpyArray<'a> {
    rows: usize,
    columns: usize,
    dimensions: usize,
    dtype: Dtype,
    column_order: bool,
    data: &'a [u8],
}

impl<'a> NpyArray<'a> {
    /// Reads the header of a whole `.npy` file and borrows its body.
    ///
    /// # Errors
    /// An [`NpyError`] that says what is wrong with the header, or that the body is shorter or longer than the shape.
    pub fn parse(bytes: &'a [u8]) -> Result<NpyArray<'a>, NpyError> {
        let behind_magic = bytes.strip_prefix(b"\x93NUMPY").ok_or(NpyError::NotNpy { found: bytes.len() })?;
        let cut_off = |expected: usize| NpyError::HeaderCutOff { expected, found: bytes.len() };
        let (&[major, _], behind_version) = behind_magic.split_first_chunk::<2>().ok_or_else(|| cut_off(8))?;
        let (length, behind_length) = match major {
            1 => {
                let (length, rest) = behind_version.split_first_chunk::<2>().ok_or_else(|| cut_off(10))?;
                (usize::from(u16::from_le_bytes(*length)), rest)
            }
            2 | 3 => {
                let (length, rest) = behind_version.split_first_chunk::<4>().ok_or_else(|| cut_off(12))?;
                (usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX), rest)
            }
            found => return Err(NpyError::Version { found }),
        };
        if length > MAX_HEADER_BYTES {
            return Err(NpyError::HeaderTooLong { found: length });
        }
        let before_header = bytes.len().saturating_sub(behind_length.len());
        let (header, data) =
            behind_length.split_at_checked(length).ok_or_else(|| cut_off(before_header.saturating_add(length)))?;
        let header = std::str::from_utf8(header).map_err(|_| NpyError::Header {
            expected: "readable text",
            found: String::from_utf8_lossy(header).trim_end().to_string(),
        })?;
        Header::parse(header)?.with_body(data)
    }

    /// Number of rows: the length of the first dimension.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns: the length of the second dimension, 1 if there is none.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// 1 or 2.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// What an element is.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// An element as a floating-point number; none outside the array or if it is a byte string. Integers beyond 2^53 lose
    /// their last digits: [`NpyArray::i64_at`] keeps them. Booleans are 0 and 1.
    pub fn f64_at(&self, row: usize, column: usize) -> Option<f64> {
        let element = self.element(row, column)?;
        match self.dtype {
            Dtype::F64 => element.first_chunk().map(|bytes| f64::from_le_bytes(*bytes)),
            Dtype::F32 => element.first_chunk().map(|bytes| f64::from(f32::from_le_bytes(*bytes))),
            Dtype::U64 => element.first_chunk().map(|bytes| u64::from_le_bytes(*bytes) as f64),
            _ => self.i64_at(row, column).map(|value| value as f64),
        }
    }

    /// An element as an integer; none outside the array, if it is not an integer or a boolean, or if it exceeds 64 signed
    /// bits.
    pub fn i64_at(&self, row: usize, column: usize) -> Option<i64> {
        let element = self.element(row, column)?;
        match self.dtype {
            Dtype::I64 => element.first_chunk().map(|bytes| i64::from_le_bytes(*bytes)),
            Dtype::I32 => element.first_chunk().map(|bytes| i64::from(i32::from_le_bytes(*bytes))),
            Dtype::I16 => element.first_chunk().map(|bytes| i64::from(i16::from_le_bytes(*bytes))),
            Dtype::I8 => element.first_chunk().map(|bytes| i64::from(i8::from_le_bytes(*bytes))),
            Dtype::U64 => element.first_chunk().and_then(|bytes| i64::try_from(u64::from_le_bytes(*bytes)).ok()),
            Dtype::U32 => element.first_chunk().map(|bytes| i64::from(u32::from_le_bytes(*bytes))),
            Dtype::U16 => element.first_chunk().map(|bytes| i64::from(u16::from_le_bytes(*bytes))),
            Dtype::U8 => element.first().map(|byte| i64::from(*byte)),
            Dtype::Bool => element.first().map(|byte| i64::from(*byte != 0)),
            Dtype::F64 | Dtype::F32 | Dtype::Bytes(_) => None,
        }
    }

    /// The byte string in the first column of a row, with the zeros that fill it up; none outside the array or if the
    /// elements are not byte strings. Zero bytes at the end of a string cannot be told from the filling.
    pub fn bytes_at(&self, row: usize) -> Option<&'a [u8]> {
        match self.dtype {
            Dtype::Bytes(_) => self.element(row, 0),
            _ => None,
        }
    }

    fn element(&self, row: usize, column: usize) -> Option<&'a [u8]> {
        if row >= self.rows || column >= self.columns {
            return None;
        }
        let index = if self.column_order {
            column.checked_mul(self.rows)?.checked_add(row)?
        } else {
            row.checked_mul(self.columns)?.checked_add(column)?
        };
        let bytes = self.dtype.bytes();
        let start = index.checked_mul(bytes)?;
        self.data.get(start..start.checked_add(bytes)?)
    }
}

/// The three entries of a header's dictionary.
struct Header {
    dtype: Dtype,
    column_order: bool,
    shape: Vec<usize>,
}

impl Header {
    fn parse(text: &str) -> Result<Header, NpyError> {
        let mut scanner = Scanner { rest: text };
        let (mut dtype, mut column_order, mut shape) = (None, None, None);
        scanner.expect("{", "a dictionary")?;
        while !scanner.accept("}") {
            let key = scanner.string()?;
            scanner.expect(":", "a colon behind a key")?;
            match key {
                "descr" => dtype = Some(scanner.dtype()?),
                "fortran_order" => column_order = Some(scanner.boolean()?),
                "shape" => shape = Some(scanner.shape()?),
                _ => {
                    let expected = "the keys descr, fortran_order and shape only";
                    return Err(NpyError::Header { expected, found: key.to_string() });
                }
            }
            if !scanner.accept(",") {
                scanner.expect("}", "a comma or the end of the dictionary")?;
                break;
            }
        }
        match (dtype, column_order, shape) {
            (Some(dtype), Some(column_order), Some(shape)) => Ok(Header { dtype, column_order, shape }),
            _ => {
                let expected = "the keys descr, fortran_order and shape";
                Err(NpyError::Header { expected, found: text.trim_end().to_string() })
            }
        }
    }

    fn with_body(self, data: &[u8]) -> Result<NpyArray<'_>, NpyError> {
        let Header { dtype, column_order, shape } = self;
        let (rows, columns) = match *shape {
            [rows] => (rows, 1),
            [rows, columns] => (rows, columns),
            _ => return Err(NpyError::Dimensions { found: shape.len() }),
        };
        let expected = rows.checked_mul(columns).and_then(|count| count.checked_mul(dtype.bytes()));
        if expected != Some(data.len()) {
            let expected = expected.unwrap_or(usize::MAX);
            return Err(NpyError::Body { rows, columns, expected, found: data.len() });
        }
        Ok(NpyArray { rows, columns, dimensions: shape.len(), dtype, column_order, data })
    }
}

/// Reads the few forms of Python that a header is made of.
struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn accept(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str, expected: &'static str) -> Result<(), NpyError> {
        if self.accept(token) { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    fn unexpected(&self, expected: &'static str) -> NpyError {
        NpyError::Header { expected, found: self.rest.trim_end().to_string() }
    }

    /// A string in single or double quotes.
    fn string(&mut self) -> Result<&'a str, NpyError> {
        let quote = if self.accept("'") {
            '\''
        } else if self.accept("\"") {
            '"'
        } else {
            return Err(self.unexpected("a string in quotes"));
        };
        let (string, rest) = self.rest.split_once(quote).ok_or_else(|| self.unexpected("the end of a string"))?;
        self.rest = rest;
        Ok(string)
    }

    fn boolean(&mut self) -> Result<bool, NpyError> {
        if self.accept("True") {
            return Ok(true);
        }
        self.expect("False", "True or False")?;
        Ok(false)
    }

    fn dtype(&mut self) -> Result<Dtype, NpyError> {
        let name = self.string()?;
        Dtype::from_name(name).ok_or_else(|| NpyError::ElementType { found: name.to_string() })
    }

    /// A tuple of whole numbers: `()`, `(3,)`, `(3, 4)`.
    fn shape(&mut self) -> Result<Vec<usize>, NpyError> {
        self.expect("(", "a shape in parentheses")?;
        let mut shape = Vec::new();
        while !self.accept(")") {
            self.rest = self.rest.trim_start();
            let end = self.rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(self.rest.len());
            let (digits, rest) = self.rest.split_at(end);
            let length = digits.parse::<usize>().map_err(|_| self.unexpected("a whole number in the shape"))?;
            shape.push(length);
            self.rest = rest;
            if !self.accept(",") {
                self.expect(")", "a comma or the end of the shape")?;
                break;
            }
        }
        Ok(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEGMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/can/comma2k19/segment");

    fn write(major: u8, header: &str, body: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY".to_vec();
        bytes.extend([major, 0]);
        if major == 1 {
            bytes.extend((header.len() as u16).to_le_bytes());
        } else {
            bytes.extend((header.len() as u32).to_le_bytes());
        }
        bytes.extend(header.as_bytes());
        bytes.extend(body);
        bytes
    }

    fn header(descr: &str, fortran_order: bool, shape: &str) -> String {
        let order = if fortran_order { "True" } else { "False" };
        format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}     \n")
    }

    fn segment(name: &str) -> Option<Vec<u8>> {
        let bytes = std::fs::read(format!("{SEGMENT}/{name}")).ok();
        if bytes.is_none() {
            eprintln!("skipped: ../shared is absent");
        }
        bytes
    }

    #[test]
    fn rows_and_columns_are_found_in_both_orders() {
        let body = [1, 2, 3, 4, 5, 6];
        for major in [1, 2, 3] {
            let by_row = write(major, &header("|u1", false, "(2, 3)"), &body);
            let by_row = NpyArray::parse(&by_row).unwrap();
            assert_eq!((by_row.rows(), by_row.columns(), by_row.dimensions()), (2, 3, 2));
            assert_eq!((by_row.i64_at(0, 1), by_row.i64_at(1, 0)), (Some(2), Some(4)));
            assert_eq!((by_row.i64_at(2, 0), by_row.i64_at(0, 3)), (None, None));
        }
        let by_column = write(1, &header("|u1", true, "(2, 3)"), &body);
        let by_column = NpyArray::parse(&by_column).unwrap();
        assert_eq!((by_column.i64_at(0, 1), by_column.i64_at(1, 0)), (Some(3), Some(2)));
        let flat = write(1, &header("|u1", true, "(6,)"), &body);
        let flat = NpyArray::parse(&flat).unwrap();
        assert_eq!((flat.rows(), flat.columns(), flat.dimensions(), flat.i64_at(5, 0)), (6, 1, 1, Some(6)));
    }

    #[test]
    fn every_type_is_read() {
        let body = [0xFE_u8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
        let cases = [
            ("<i8", 1, Some(-2)),
            ("<i4", 2, Some(-2)),
            ("<i2", 4, Some(-2)),
            ("|i1", 8, Some(-2)),
            ("<u8", 1, None),
            ("<u4", 2, Some(0xFFFF_FFFE)),
            ("<u2", 4, Some(0xFFFE)),
            ("|u1", 8, Some(0xFE)),
            ("|b1", 8, Some(1)),
            ("<f8", 1, None),
            ("<f4", 2, None),
            ("|S4", 2, None),
        ];
        for (descr, count, expected) in cases {
            let bytes = write(1, &header(descr, false, &format!("({count},)")), &body);
            let array = NpyArray::parse(&bytes).unwrap();
            assert_eq!(array.i64_at(0, 0), expected, "{descr}");
        }
        let doubles = write(1, &header("<f8", false, "(1,)"), &2.5_f64.to_le_bytes());
        assert_eq!(NpyArray::parse(&doubles).unwrap().f64_at(0, 0), Some(2.5));
        let floats = write(1, &header("<f4", false, "(1,)"), &(-0.75_f32).to_le_bytes());
        assert_eq!(NpyArray::parse(&floats).unwrap().f64_at(0, 0), Some(-0.75));
        let strings = write(1, &header("|S3", false, "(2,)"), b"ab\0xyz");
        let strings = NpyArray::parse(&strings).unwrap();
        assert_eq!((strings.bytes_at(0), strings.bytes_at(1)), (Some(&b"ab\0"[..]), Some(&b"xyz"[..])));
        assert_eq!((strings.bytes_at(2), strings.f64_at(0, 0)), (None, None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |bytes: &[u8]| NpyArray::parse(bytes).unwrap_err();
        assert_eq!(error(b"PK\x03\x04"), NpyError::NotNpy { found: 4 });
        assert_eq!(error(&write(4, "", &[])), NpyError::Version { found: 4 });
        let big_endian = error(&write(1, &header(">f8", false, "(1,)"), &[0; 8]));
        assert_eq!(big_endian, NpyError::ElementType { found: ">f8".to_string() });
        assert_eq!(error(&write(1, &header("<f8", false, "()"), &[0; 8])), NpyError::Dimensions { found: 0 });
        assert_eq!(error(&write(1, &header("<f8", false, "(1, 1, 1)"), &[0; 8])), NpyError::Dimensions { found: 3 });
        let short = error(&write(1, &header("<f8", false, "(2, 3)"), &[0; 47]));
        assert_eq!(short, NpyError::Body { rows: 2, columns: 3, expected: 48, found: 47 });
        let huge = error(&write(1, &header("<f8", false, "(9999999999999, 9999999999999)"), &[0; 8]));
        assert!(matches!(huge, NpyError::Body { expected: usize::MAX, found: 8, .. }));
        let structure = error(&write(1, "{'descr': [('x', '<f8')], 'fortran_order': False, 'shape': (1,)}", &[]));
        assert!(matches!(structure, NpyError::Header { expected: "a string in quotes", .. }));
        let incomplete = error(&write(1, "{'descr': '<f8', 'shape': (1,)}", &[]));
        assert!(matches!(incomplete, NpyError::Header { expected: "the keys descr, fortran_order and shape", .. }));
        assert_eq!(error(&write(2, &" ".repeat(10_001), &[])), NpyError::HeaderTooLong { found: 10_001 });
    }

    #[test]
    fn every_truncation_is_an_error_and_no_flipped_bit_panics() {
        let bytes = write(1, &header("<i2", true, "(3, 2)"), &[7; 12]);
        for length in 0..bytes.len() {
            assert!(NpyArray::parse(&bytes[..length]).is_err(), "{length}");
        }
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[position] ^= 1 << bit;
                if let Ok(array) = NpyArray::parse(&damaged) {
                    let last = (array.rows().saturating_sub(1), array.columns().saturating_sub(1));
                    let _ = (array.f64_at(last.0, last.1), array.i64_at(0, 0), array.bytes_at(0));
                }
            }
        }
    }

    #[test]
    fn a_real_drive_is_read() {
        let Some(data) = segment("processed_log/CAN/raw_can/data") else { return };
        let Some(address) = segment("processed_log/CAN/raw_can/address") else { return };
        let Some(time) = segment("processed_log/CAN/raw_can/t") else { return };
        let Some(wheels) = segment("processed_log/CAN/wheel_speed/value") else { return };
        let Some(acceleration) = segment("processed_log/IMU/accelerometer/value") else { return };
        let data = NpyArray::parse(&data).unwrap();
        assert_eq!((data.rows(), data.columns(), data.dtype()), (135_468, 1, Dtype::Bytes(8)));
        assert_eq!(data.bytes_at(135_467).map(<[u8]>::len), Some(8));
        let address = NpyArray::parse(&address).unwrap();
        assert!((0..address.rows()).all(|row| address.i64_at(row, 0).is_some_and(|id| (0..0x800).contains(&id))));
        let time = NpyArray::parse(&time).unwrap();
        let duration_s = time.f64_at(time.rows() - 1, 0).unwrap() - time.f64_at(0, 0).unwrap();
        assert!((59.0..61.0).contains(&duration_s), "{duration_s}");
        let wheels = NpyArray::parse(&wheels).unwrap();
        assert_eq!((wheels.rows(), wheels.columns()), (4974, 4));
        for row in 0..wheels.rows() {
            let [left, right] = [0, 1].map(|column| wheels.f64_at(row, column).unwrap());
            assert!((left - right).abs() < 2.0, "row {row}: {left} {right}");
        }
        // Column order: read the wrong way round, gravity would not stay on the third axis.
        let acceleration = NpyArray::parse(&acceleration).unwrap();
        assert_eq!((acceleration.rows(), acceleration.columns()), (6256, 3));
        let on_axis = |row: usize, axis: usize| acceleration.f64_at(row, axis).unwrap();
        assert!((0..acceleration.rows()).all(|row| on_axis(row, 2) < -3.0 && on_axis(row, 1) > -4.0));
    }

    proptest! {
        #[test]
        fn numbers_survive_a_round_trip(values in prop::collection::vec(any::<f64>(), 0..40), columns in 1_usize..4) {
            let rows = values.len() / columns;
            let values = &values[..rows * columns];
            let body: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let bytes = write(2, &header("<f8", false, &format!("({rows}, {columns})")), &body);
            let array = NpyArray::parse(&bytes).unwrap();
            for (index, value) in values.iter().enumerate() {
                let found = array.f64_at(index / columns, index % columns).unwrap();
                prop_assert_eq!(found.to_bits(), value.to_bits());
            }
        }
    }
}
