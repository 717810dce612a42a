//! The pixel formats of cameras and their four-character codes (`linux/videodev2.h`, "Pixel format FOURCC").

use crate::picture::PixelFormat;
use std::fmt;

/// A four-character code, as the kernel numbers pixel formats.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FourCc(pub [u8; 4]);

impl FourCc {
    /// The code with this number.
    pub const fn from_number(number: u32) -> Self {
        FourCc(number.to_le_bytes())
    }

    /// The number of this code.
    pub const fn number(self) -> u32 {
        u32::from_le_bytes(self.0)
    }
}

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FourCc({self})")
    }
}

/// The colours of the first two pixels of the first two rows of a raw sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BayerOrder {
    /// Red green, then green blue.
    Rggb,
    /// Green red, then blue green.
    Grbg,
    /// Green blue, then red green.
    Gbrg,
    /// Blue green, then green red.
    Bggr,
}

/// How a pixel of a raw sensor is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BayerDepth {
    /// 8 bits, one byte.
    Bits8,
    /// 10 bits, the low ones of two little-endian bytes.
    Bits10,
    /// 10 bits, four pixels in five bytes: the upper 8 bits of each, then the lower 2 of all.
    Bits10Packed,
    /// 12 bits, the low ones of two little-endian bytes.
    Bits12,
    /// 12 bits, two pixels in three bytes: the upper 8 bits of each, then the lower 4 of both.
    Bits12Packed,
}

/// A format that is asked of a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CameraFormat {
    /// Pixels in one piece of memory, with the planes of a picture one after the other.
    Pixels(PixelFormat),
    /// NV12 with each plane in a piece of memory of its own.
    Nv12Apart,
    /// One JPEG file per frame.
    Mjpeg,
    /// A sensor's pixels, each of one colour.
    Bayer(BayerOrder, BayerDepth),
}

const CODES: [(CameraFormat, &[u8; 4]); 29] = {
    use BayerDepth::{Bits8, Bits10, Bits10Packed, Bits12, Bits12Packed};
    use BayerOrder::{Bggr, Gbrg, Grbg, Rggb};
    use CameraFormat::{Bayer, Mjpeg, Nv12Apart, Pixels};
    [
        (Pixels(PixelFormat::Nv12), b"NV12"),
        (Nv12Apart, b"NM12"),
        (Pixels(PixelFormat::I420), b"YU12"),
        (Pixels(PixelFormat::Yuyv), b"YUYV"),
        (Pixels(PixelFormat::Uyvy), b"UYVY"),
        (Pixels(PixelFormat::Rgb8), b"RGB3"),
        (Pixels(PixelFormat::Bgr8), b"BGR3"),
        (Pixels(PixelFormat::Mono8), b"GREY"),
        (Mjpeg, b"MJPG"),
        (Bayer(Rggb, Bits8), b"RGGB"),
        (Bayer(Grbg, Bits8), b"GRBG"),
        (Bayer(Gbrg, Bits8), b"GBRG"),
        (Bayer(Bggr, Bits8), b"BA81"),
        (Bayer(Rggb, Bits10), b"RG10"),
        (Bayer(Grbg, Bits10), b"BA10"),
        (Bayer(Gbrg, Bits10), b"GB10"),
        (Bayer(Bggr, Bits10), b"BG10"),
        (Bayer(Rggb, Bits10Packed), b"pRAA"),
        (Bayer(Grbg, Bits10Packed), b"pgAA"),
        (Bayer(Gbrg, Bits10Packed), b"pGAA"),
        (Bayer(Bggr, Bits10Packed), b"pBAA"),
        (Bayer(Rggb, Bits12), b"RG12"),
        (Bayer(Grbg, Bits12), b"BA12"),
        (Bayer(Gbrg, Bits12), b"GB12"),
        (Bayer(Bggr, Bits12), b"BG12"),
        (Bayer(Rggb, Bits12Packed), b"pRCC"),
        (Bayer(Grbg, Bits12Packed), b"pgCC"),
        (Bayer(Gbrg, Bits12Packed), b"pGCC"),
        (Bayer(Bggr, Bits12Packed), b"pBCC"),
    ]
};

impl CameraFormat {
    /// Every format, in no order that means anything.
    pub fn all() -> impl Iterator<Item = Self> {
        CODES.into_iter().map(|(format, _)| format)
    }

    /// The kernel's code of this format.
    pub fn fourcc(self) -> FourCc {
        let code = CODES.into_iter().find(|(format, _)| *format == self).map(|(_, code)| *code);
        FourCc(code.unwrap_or_default())
    }

    /// The format with this code, `None` for one that is not known here. Some cameras call their MJPEG `JPEG`, which is not
    /// the same to the kernel and so is none here.
    pub fn from_fourcc(fourcc: FourCc) -> Option<Self> {
        CODES.into_iter().find(|(_, code)| **code == fourcc.0).map(|(format, _)| format)
    }

    /// How many pieces of memory a frame of this format lies in.
    pub fn pieces(self) -> usize {
        if self == Self::Nv12Apart { 2 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back() {
        for format in CameraFormat::all() {
            assert_ne!(format.fourcc(), FourCc([0; 4]));
            assert_eq!(CameraFormat::from_fourcc(format.fourcc()), Some(format));
            assert_eq!(FourCc::from_number(format.fourcc().number()), format.fourcc());
        }
        assert_eq!(CameraFormat::from_fourcc(FourCc(*b"JPEG")), None);
        let pictures = PixelFormat::ALL.map(|format| CameraFormat::Pixels(format).fourcc());
        assert!(!pictures.contains(&FourCc([0; 4])));
    }

    #[test]
    fn every_order_and_depth_has_a_code() {
        use BayerDepth::{Bits8, Bits10, Bits10Packed, Bits12, Bits12Packed};
        for order in [BayerOrder::Rggb, BayerOrder::Grbg, BayerOrder::Gbrg, BayerOrder::Bggr] {
            for depth in [Bits8, Bits10, Bits10Packed, Bits12, Bits12Packed] {
                assert_ne!(CameraFormat::Bayer(order, depth).fourcc(), FourCc([0; 4]));
            }
        }
    }

    #[test]
    fn codes_are_shown_as_written() {
        assert_eq!(FourCc(*b"pRAA").to_string(), "pRAA");
        assert_eq!(FourCc(*b"Y16\xA0").to_string(), "Y16\\xa0");
        assert_eq!(FourCc(*b"YUYV").number(), 0x5659_5559);
    }
}
