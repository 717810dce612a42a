//! What a value of ours looks like as bytes: its schema, its encoding and its digest, all from one description.
//!
//! [`record!`](crate::record!) declares a plain struct and derives from its field list
//! * the `ros2msg` schema text that is embedded in a log, so that Foxglove and ROS 2 tools open our channels as they are;
//! * the CDR encoding (XCDR1, little-endian, as ROS 2 writes it) and its decoder;
//! * one 64-bit digest per field over the same values, little-endian and without padding, NaN canonical.
//!
//! Promises: encoding never fails, decoding never panics and never allocates more than the bytes it was given can
//! justify, and equal values have equal bytes on every machine.

use thiserror::Error;

use crate::runtime::digest::Digester;

/// Where the scalars of a value go: an encoder (which aligns them) or a digester (which does not).
pub trait Sink {
    /// Takes one scalar as little-endian bytes; its length is its alignment.
    fn scalar(&mut self, little_endian: &[u8]);
    /// Takes bytes that have no alignment.
    fn bytes(&mut self, bytes: &[u8]);
}

/// Why bytes could not be read as a value.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end before the value does.
    #[error("the message ends at byte {at}: expected {expected} more bytes, found {found}")]
    Truncated {
        /// Position of the read.
        at: usize,
        /// Bytes the value still needs.
        expected: usize,
        /// Bytes that are left.
        found: usize,
    },
    /// A sequence holds more elements than its type can.
    #[error("a sequence at byte {at} holds {found} elements: expected at most {expected}")]
    TooLong {
        /// Position of the count.
        at: usize,
        /// Capacity of the type.
        expected: usize,
        /// Count found.
        found: usize,
    },
    /// A number that names no variant of an enumeration.
    #[error("{what} has no value {found}")]
    NoSuchVariant {
        /// Name of the enumeration.
        what: &'static str,
        /// Number found.
        found: u8,
    },
    /// Text that is not UTF-8.
    #[error("the text at byte {at} is not UTF-8")]
    NotUtf8 {
        /// Position of the text.
        at: usize,
    },
    /// The first four bytes do not announce little-endian CDR.
    #[error("expected the CDR little-endian header 00 01 00 00, found {found:02x?}")]
    NotCdr {
        /// The first bytes of the message.
        found: [u8; 4],
    },
}

/// Writes CDR into a buffer that keeps its capacity.
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Encoder<'a> {
    /// Starts a message behind what `out` holds, with CDR's little-endian header.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        out.extend_from_slice(&[0, 1, 0, 0]);
        let start = out.len();
        Encoder { out, start }
    }
}

impl Sink for Encoder<'_> {
    #[inline]
    fn scalar(&mut self, little_endian: &[u8]) {
        let align = little_endian.len().max(1);
        let at = self.out.len() - self.start;
        let padded = at.next_multiple_of(align);
        if padded > at {
            self.out.resize(self.start + padded, 0);
        }
        self.out.extend_from_slice(little_endian);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }
}

/// Reads CDR.
pub struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Decoder<'a> {
    /// Reads the CDR header.
    pub fn new(message: &'a [u8]) -> Result<Self, DecodeError> {
        let Some((head, bytes)) = message.split_first_chunk::<4>() else {
            return Err(DecodeError::Truncated { at: 0, expected: 4, found: message.len() });
        };
        if head[..2] != [0, 1] {
            return Err(DecodeError::NotCdr { found: *head });
        }
        Ok(Decoder { bytes, at: 0 })
    }

    /// Takes one scalar of `N` bytes at its alignment.
    pub fn scalar<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let at = self.at.next_multiple_of(N.max(1));
        let found = self.bytes.len().saturating_sub(at);
        let Some(value) = self.bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()) else {
            return Err(DecodeError::Truncated { at, expected: N, found });
        };
        self.at = at + N;
        Ok(*value)
    }

    /// Takes `len` bytes without alignment.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let found = self.bytes.len().saturating_sub(self.at);
        let end = self.at.checked_add(len);
        let Some(value) = end.and_then(|end| self.bytes.get(self.at..end)) else {
            return Err(DecodeError::Truncated { at: self.at, expected: len, found });
        };
        self.at += len;
        Ok(value)
    }

    fn count(&mut self) -> Result<usize, DecodeError> {
        Ok(u32::from_le_bytes(self.scalar::<4>()?) as usize)
    }

    fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }
}

/// A value that can be a field of a record.
pub trait Field: Sized {
    /// The fewest bytes an encoded value takes; bounds what a count in a message can ask for.
    const MIN_BYTES: usize;
    /// Whether the value is a single byte, so that sequences of it are copied whole.
    const IS_BYTE: bool = false;
    /// The element's name in `ros2msg`, as `float32`.
    fn type_name() -> String;
    /// The suffix behind the element's name, as `[<=4]`.
    fn suffix() -> String {
        String::new()
    }
    /// Adds the definitions of nested messages that the text does not hold yet.
    fn nested(_text: &mut String) {}
    /// Hands the value to a sink, scalar by scalar.
    fn put<S: Sink>(&self, sink: &mut S);
    /// Reads the value.
    fn get(from: &mut Decoder) -> Result<Self, DecodeError>;
    /// A byte as a value, for `IS_BYTE` types only.
    fn from_byte(_byte: u8) -> Option<Self> {
        None
    }
}

macro_rules! scalar_fields {
    ($($type:ty => $name:literal),*) => {$(
        impl Field for $type {
            const MIN_BYTES: usize = size_of::<$type>();
            fn type_name() -> String { $name.to_owned() }
            fn put<S: Sink>(&self, sink: &mut S) { sink.scalar(&self.to_le_bytes()); }
            fn get(from: &mut Decoder) -> Result<Self, DecodeError> { Ok(<$type>::from_le_bytes(from.scalar()?)) }
        }
    )*};
}
scalar_fields!(i8 => "int8", u16 => "uint16", i16 => "int16", u32 => "uint32", i32 => "int32", u64 => "uint64", i64 => "int64");

impl Field for u8 {
    const MIN_BYTES: usize = 1;
    const IS_BYTE: bool = true;
    fn type_name() -> String {
        "uint8".to_owned()
    }
    fn put<S: Sink>(&self, sink: &mut S) {
        sink.scalar(&[*self]);
    }
    fn get(from: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(u8::from_le_bytes(from.scalar()?))
    }
    fn from_byte(byte: u8) -> Option<Self> {
        Some(byte)
    }
}

impl Field for bool {
    const MIN_BYTES: usize = 1;
    fn type_name() -> String {
        "bool".to_owned()
    }
    fn put<S: Sink>(&self, sink: &mut S) {
        sink.scalar(&[u8::from(*self)]);
    }
    fn get(from: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(from.scalar::<1>()? != [0])
    }
}

macro_rules! float_fields {
    ($($type:ty => $name:literal),*) => {$(
        impl Field for $type {
            const MIN_BYTES: usize = size_of::<$type>();
            fn type_name() -> String { $name.to_owned() }
            fn put<S: Sink>(&self, sink: &mut S) {
                // The sign and payload of a NaN differ between processors; one NaN stands for all.
                let value = if self.is_nan() { <$type>::NAN.abs() } else { *self };
                sink.scalar(&value.to_le_bytes());
            }
            fn get(from: &mut Decoder) -> Result<Self, DecodeError> { Ok(<$type>::from_le_bytes(from.scalar()?)) }
        }
    )*};
}
float_fields!(f32 => "float32", f64 => "float64");

impl Field for String {
    const MIN_BYTES: usize = 4;
    fn type_name() -> String {
        "string".to_owned()
    }
    fn put<S: Sink>(&self, sink: &mut S) {
        put_text(self, sink);
    }
    fn get(from: &mut Decoder) -> Result<Self, DecodeError> {
        let len = from.count()?;
        let at = from.at;
        let bytes = from.bytes(len)?;
        let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8 { at })?;
        Ok(text.to_owned())
    }
}

fn put_text<S: Sink>(text: &str, sink: &mut S) {
    sink.scalar(&(text.len() as u32 + 1).to_le_bytes());
    sink.bytes(text.as_bytes());
    sink.bytes(&[0]);
}

fn put_sequence<T: Field, S: Sink>(values: &[T], sink: &mut S) {
    sink.scalar(&(values.len() as u32).to_le_bytes());
    for value in values {
        value.put(sink);
    }
}

/// Reads a count and refuses one that the bytes left cannot hold, before anything is reserved.
fn get_count<T: Field>(from: &mut Decoder, capacity: usize) -> Result<usize, DecodeError> {
    let count = from.count()?;
    if count > capacity {
        return Err(DecodeError::TooLong { at: from.at, expected: capacity, found: count });
    }
    let needed = count.saturating_mul(T::MIN_BYTES);
    if needed > from.left() {
        return Err(DecodeError::Truncated { at: from.at, expected: needed, found: from.left() });
    }
    Ok(count)
}

impl<T: Field> Field for Vec<T> {
    const MIN_BYTES: usize = 4;
    fn type_name() -> String {
        T::type_name()
    }
    fn suffix() -> String {
        "[]".to_owned()
    }
    fn nested(text: &mut String) {
        T::nested(text);
    }
    fn put<S: Sink>(&self, sink: &mut S) {
        put_sequence(self, sink);
    }
    fn get(from: &mut Decoder) -> Result<Self, DecodeError> {
        let count = get_count::<T>(from, usize::MAX)?;
        if T::IS_BYTE {
            return Ok(from.bytes(count)?.iter().copied().filter_map(T::from_byte).collect());
        }
        (0..count).map(|_| T::get(from)).collect()
    }
}

impl<T: Field, const N: usize> Field for heapless::Vec<T, N> {
    const MIN_BYTES: usize = 4;
    fn type_name() -> String {
        T::type_name()
    }
    fn suffix() -> String {
        format!("[<={N}]")
    }
    fn nested(text: &mut String) {
        T::nested(text);
    }
    fn put<S: Sink>(&self, sink: &mut S) {
        put_sequence(self, sink);
    }
    fn get(from: &mut Decoder) -> Result<Self, DecodeError> {
        let count = get_count::<T>(from, N)?;
        (0..count).map(|_| T::get(from)).collect()
    }
}

impl<T: Field + Copy + Default, const N: usize> Field for [T; N] {
    const MIN_BYTES: usize = N * T::MIN_BYTES;
    fn type_name() -> String {
        T::type_name()
    }
    fn suffix() -> String {
        format!("[{N}]")
    }
    fn nested(text: &mut String) {
        T::nested(text);
    }
    fn put<S: Sink>(&self, sink: &mut S) {
        for value in self {
            value.put(sink);
        }
    }
    fn get(from: &mut Decoder) -> Result<Self, DecodeError> {
        let mut values = [T::default(); N];
        for value in &mut values {
            *value = T::get(from)?;
        }
        Ok(values)
    }
}

/// A struct declared with [`record!`](crate::record!): a message of a log, a field of one, or the state of a stage.
pub trait Record: Field {
    /// The message's name in schemas, as `catseye_msgs/Plan`.
    const NAME: &'static str;

    /// The whole `ros2msg` schema, nested messages included.
    fn schema() -> String;

    /// Calls `each` with every field's name and digest, in declaration order.
    fn digest_fields(&self, each: &mut dyn FnMut(&'static str, u64));

    /// Appends the CDR message to `out`.
    fn encode(&self, out: &mut Vec<u8>) {
        self.put(&mut Encoder::new(out));
    }

    /// Reads a CDR message; bytes behind it are fields that a newer writer appended, and are left alone.
    fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        Self::get(&mut Decoder::new(message)?)
    }

    /// One digest of the whole value.
    fn digest(&self) -> u64 {
        let mut digester = Digester::new();
        self.put(&mut digester);
        digester.finish()
    }
}

/// The line that parts nested definitions in `ros2msg` text.
pub const SCHEMA_RULE: &str = "================================================================================\n";

/// Declares a struct whose schema, encoding and digests follow from its fields. See [`crate::record`](mod@crate::record).
#[macro_export]
macro_rules! record {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* pub $field:ident: $type:ty, )*
        }
    )*) => {$(
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $type, )*
        }

        impl $crate::record::Field for $name {
            const MIN_BYTES: usize = 0 $( + <$type as $crate::record::Field>::MIN_BYTES )*;
            fn type_name() -> String {
                <Self as $crate::record::Record>::NAME.to_owned()
            }
            fn nested(text: &mut String) {
                let head = concat!("MSG: catseye_msgs/", stringify!($name), "\n");
                if text.contains(head) {
                    return;
                }
                text.push_str($crate::record::SCHEMA_RULE);
                text.push_str(head);
                $(
                    text.push_str(&format!("{}{} {}\n", <$type as $crate::record::Field>::type_name(),
                        <$type as $crate::record::Field>::suffix(), stringify!($field)));
                )*
                $( <$type as $crate::record::Field>::nested(text); )*
            }
            fn put<S: $crate::record::Sink>(&self, sink: &mut S) {
                $( $crate::record::Field::put(&self.$field, sink); )*
                // an empty struct has no use for its sink
                let _ = sink;
            }
            fn get(from: &mut $crate::record::Decoder) -> Result<Self, $crate::record::DecodeError> {
                let _ = &from;
                Ok($name { $( $field: $crate::record::Field::get(from)?, )* })
            }
        }

        impl $crate::record::Record for $name {
            const NAME: &'static str = concat!("catseye_msgs/", stringify!($name));
            fn schema() -> String {
                let mut text = String::new();
                $(
                    text.push_str(&format!("{}{} {}\n", <$type as $crate::record::Field>::type_name(),
                        <$type as $crate::record::Field>::suffix(), stringify!($field)));
                )*
                $( <$type as $crate::record::Field>::nested(&mut text); )*
                text
            }
            fn digest_fields(&self, each: &mut dyn FnMut(&'static str, u64)) {
                $({
                    let mut digester = $crate::runtime::digest::Digester::new();
                    $crate::record::Field::put(&self.$field, &mut digester);
                    each(stringify!($field), digester.finish());
                })*
                let _ = each;
            }
        }
    )*};
}

/// Declares an enumeration of named bytes that can be a field of a record.
#[macro_export]
macro_rules! record_enum {
    ($(
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$variant_meta:meta])* $variant:ident = $value:literal => $text:literal, )*
        }
    )*) => {$(
        $(#[$meta])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $( $(#[$variant_meta])* $variant = $value, )*
        }

        impl $name {
            /// The variant's name in words.
            pub const fn name(self) -> &'static str {
                match self { $( $name::$variant => $text, )* }
            }
            /// The variant with this number.
            pub const fn from_u8(value: u8) -> Option<Self> {
                match value { $( $value => Some($name::$variant), )* _ => None }
            }
        }

        impl $crate::record::Field for $name {
            const MIN_BYTES: usize = 1;
            fn type_name() -> String { "uint8".to_owned() }
            fn put<S: $crate::record::Sink>(&self, sink: &mut S) { sink.scalar(&[*self as u8]); }
            fn get(from: &mut $crate::record::Decoder) -> Result<Self, $crate::record::DecodeError> {
                let [found] = from.scalar::<1>()?;
                $name::from_u8(found).ok_or($crate::record::DecodeError::NoSuchVariant { what: stringify!($name), found })
            }
        }
    )*};
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    record! {
        /// A nested message.
        pub struct Inner {
            /// A byte before a wide field, so that alignment shows.
            pub flag: u8,
            /// A wide field.
            pub value: f64,
        }
        /// One field of every kind.
        pub struct Outer {
            /// Text.
            pub name: String,
            /// Narrow.
            pub small: u16,
            /// Fixed.
            pub corners: [f32; 3],
            /// Bounded.
            pub inner: heapless::Vec<Inner, 4>,
            /// Bytes.
            pub blob: Vec<u8>,
            /// Truth.
            pub yes: bool,
        }
    }

    fn outer() -> Outer {
        let mut inner = heapless::Vec::new();
        inner.push(Inner { flag: 7, value: -1.5 }).unwrap();
        inner.push(Inner { flag: 8, value: 2.5 }).unwrap();
        Outer { name: "a".into(), small: 513, corners: [1.0, -0.0, 3.0], inner, blob: vec![9, 8], yes: true }
    }

    #[test]
    fn encodes_as_ros_2_does() {
        let mut bytes = Vec::new();
        Inner { flag: 7, value: 1.0 }.encode(&mut bytes);
        assert_eq!(bytes, [0, 1, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
    }

    #[test]
    fn schema_names_nested_messages_once() {
        let text = Outer::schema();
        assert!(text.starts_with(
            "string name\nuint16 small\nfloat32[3] corners\ncatseye_msgs/Inner[<=4] inner\nuint8[] blob\nbool yes\n"
        ));
        assert_eq!(text.matches("MSG: catseye_msgs/Inner\n").count(), 1);
    }

    #[test]
    fn a_round_trip_keeps_the_value_and_tolerates_appended_fields() {
        let mut bytes = Vec::new();
        outer().encode(&mut bytes);
        assert_eq!(Outer::decode(&bytes).unwrap(), outer());
        bytes.extend_from_slice(&[1, 2, 3]);
        assert_eq!(Outer::decode(&bytes).unwrap(), outer());
    }

    #[test]
    fn every_truncation_is_an_error() {
        let mut bytes = Vec::new();
        outer().encode(&mut bytes);
        for len in 0..bytes.len() {
            assert!(Outer::decode(&bytes[..len]).is_err(), "{len} bytes were enough");
        }
    }

    #[test]
    fn a_count_beyond_the_bytes_reserves_nothing() {
        let bytes = [0, 1, 0, 0, 0xff, 0xff, 0xff, 0x7f];
        let error = <Vec<u64> as Field>::get(&mut Decoder::new(&bytes).unwrap()).unwrap_err();
        assert!(matches!(error, DecodeError::Truncated { .. }));
    }

    #[test]
    fn a_digest_sees_every_bit_and_no_nan_payload() {
        let base = Inner { flag: 1, value: 1.0 };
        let next = Inner { flag: 1, value: f64::from_bits(1.0f64.to_bits() + 1) };
        assert_ne!(base.digest(), next.digest());
        let one = Inner { flag: 1, value: f64::from_bits(0x7ff8_0000_0000_0001) };
        let two = Inner { flag: 1, value: f64::from_bits(0xfff8_0000_0000_0002) };
        assert_eq!(one.digest(), two.digest());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Outer::decode(&bytes);
            let mut with_header = vec![0, 1, 0, 0];
            with_header.extend_from_slice(&bytes);
            let _ = Outer::decode(&with_header);
        }
    }
}
