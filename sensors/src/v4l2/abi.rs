//! The structs and requests of `linux/videodev2.h` that are used, as the kernel lays them out on 64-bit little-endian
//! machines. Where the header has a union there is one struct per variant here, or the union's bytes as one number, so
//! that no union is read. The kernel checks what it is given; what is promised here is only that it never writes beyond
//! the struct: the number of each request carries the struct's size.

use rustix::fd::BorrowedFd;
use rustix::io::{Errno, retry_on_intr};
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// `VIDEO_MAX_PLANES`.
pub(super) const MAX_PLANES: usize = 8;

pub(super) const CAP_VIDEO_CAPTURE: u32 = 0x0000_0001;
pub(super) const CAP_VIDEO_CAPTURE_MPLANE: u32 = 0x0000_1000;
pub(super) const CAP_STREAMING: u32 = 0x0400_0000;
pub(super) const CAP_DEVICE_CAPS: u32 = 0x8000_0000;

pub(super) const BUF_TYPE_VIDEO_CAPTURE: u32 = 1;
pub(super) const BUF_TYPE_VIDEO_CAPTURE_MPLANE: u32 = 9;

pub(super) const FIELD_NONE: u32 = 1;
pub(super) const QUANTIZATION_FULL_RANGE: u32 = 1;
pub(super) const QUANTIZATION_LIM_RANGE: u32 = 2;

pub(super) const MEMORY_MMAP: u32 = 1;
pub(super) const MEMORY_USERPTR: u32 = 2;

pub(super) const BUF_FLAG_ERROR: u32 = 0x0000_0040;
pub(super) const BUF_FLAG_TIMESTAMP_MASK: u32 = 0x0000_E000;
pub(super) const BUF_FLAG_TIMESTAMP_MONOTONIC: u32 = 0x0000_2000;
pub(super) const BUF_FLAG_TSTAMP_SRC_MASK: u32 = 0x0007_0000;
pub(super) const BUF_FLAG_TSTAMP_SRC_SOE: u32 = 0x0001_0000;

pub(super) const FMT_FLAG_EMULATED: u32 = 0x0002;

pub(super) const FRMSIZE_TYPE_DISCRETE: u32 = 1;
pub(super) const FRMIVAL_TYPE_DISCRETE: u32 = 1;

pub(super) const CTRL_TYPE_INTEGER64: u32 = 5;
pub(super) const CTRL_FLAG_NEXT_CTRL: u32 = 0x8000_0000;

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Capability {
    pub(super) driver: [u8; 16],
    pub(super) card: [u8; 32],
    pub(super) bus_info: [u8; 32],
    pub(super) version: u32,
    pub(super) capabilities: u32,
    pub(super) device_caps: u32,
    pub(super) reserved: [u32; 3],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct FormatDescription {
    pub(super) index: u32,
    pub(super) buf_type: u32,
    pub(super) flags: u32,
    pub(super) description: [u8; 32],
    pub(super) pixelformat: u32,
    pub(super) mbus_code: u32,
    pub(super) reserved: [u32; 3],
}

/// Of the union there are the six numbers of the stepwise variant; the discrete one is its first two.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct FrameSize {
    pub(super) index: u32,
    pub(super) pixel_format: u32,
    pub(super) kind: u32,
    pub(super) numbers: [u32; 6],
    pub(super) reserved: [u32; 2],
}

/// Of the union there are the three fractions of the stepwise variant; the discrete one is its first.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct FrameInterval {
    pub(super) index: u32,
    pub(super) pixel_format: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) kind: u32,
    pub(super) fractions: [[u32; 2]; 3],
    pub(super) reserved: [u32; 2],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct PixFormat {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) pixelformat: u32,
    pub(super) field: u32,
    pub(super) bytesperline: u32,
    pub(super) sizeimage: u32,
    pub(super) colorspace: u32,
    pub(super) private: u32,
    pub(super) flags: u32,
    pub(super) ycbcr_enc: u32,
    pub(super) quantization: u32,
    pub(super) xfer_func: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct PlanePixFormat {
    pub(super) sizeimage: u32,
    pub(super) bytesperline: u32,
    pub(super) reserved: [u16; 6],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct PixFormatMplane {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) pixelformat: u32,
    pub(super) field: u32,
    pub(super) colorspace: u32,
    pub(super) plane_fmt: [PlanePixFormat; MAX_PLANES],
    pub(super) num_planes: u8,
    pub(super) flags: u8,
    pub(super) ycbcr_enc: u8,
    pub(super) quantization: u8,
    pub(super) xfer_func: u8,
    pub(super) reserved: [u8; 7],
}

/// `struct v4l2_format` with the variant of one plane. `rest` fills the union's 200 bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct FormatSingle {
    pub(super) buf_type: u32,
    pub(super) padding: u32,
    pub(super) pix: PixFormat,
    pub(super) rest: [u64; 19],
}

/// `struct v4l2_format` with the variant of several planes. `rest` fills the union's 200 bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct FormatMplane {
    pub(super) buf_type: u32,
    pub(super) padding: u32,
    pub(super) pix: PixFormatMplane,
    pub(super) rest: [u64; 1],
}

/// `struct v4l2_streamparm` with the variant of capture. `rest` fills the union's 200 bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct StreamParameters {
    pub(super) buf_type: u32,
    pub(super) capability: u32,
    pub(super) capturemode: u32,
    pub(super) timeperframe: [u32; 2],
    pub(super) extendedmode: u32,
    pub(super) readbuffers: u32,
    pub(super) reserved: [u32; 4],
    pub(super) rest: [u32; 40],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct RequestBuffers {
    pub(super) count: u32,
    pub(super) buf_type: u32,
    pub(super) memory: u32,
    pub(super) capabilities: u32,
    pub(super) flags: u8,
    pub(super) reserved: [u8; 3],
}

/// The union `m` is one number: an address, or in its low half the offset to map.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Plane {
    pub(super) bytesused: u32,
    pub(super) length: u32,
    pub(super) m: u64,
    pub(super) data_offset: u32,
    pub(super) reserved: [u32; 11],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct TimeValue {
    pub(super) seconds: i64,
    pub(super) microseconds: i64,
}

/// The union `m` is one number: an address, or in its low half the offset to map.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Buffer {
    pub(super) index: u32,
    pub(super) buf_type: u32,
    pub(super) bytesused: u32,
    pub(super) flags: u32,
    pub(super) field: u32,
    pub(super) timestamp: TimeValue,
    pub(super) timecode: [u32; 4],
    pub(super) sequence: u32,
    pub(super) memory: u32,
    pub(super) m: u64,
    pub(super) length: u32,
    pub(super) reserved2: u32,
    pub(super) request_fd: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct QueryExtControl {
    pub(super) id: u32,
    pub(super) kind: u32,
    pub(super) name: [u8; 32],
    pub(super) minimum: i64,
    pub(super) maximum: i64,
    pub(super) step: u64,
    pub(super) default_value: i64,
    pub(super) flags: u32,
    pub(super) elem_size: u32,
    pub(super) elems: u32,
    pub(super) nr_of_dims: u32,
    pub(super) dims: [u32; 4],
    pub(super) reserved: [u32; 32],
}

/// Packed in C; the value's two halves make it so here.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct ExtControl {
    pub(super) id: u32,
    pub(super) size: u32,
    pub(super) reserved2: u32,
    pub(super) value: [u32; 2],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ExtControls {
    pub(super) which: u32,
    pub(super) count: u32,
    pub(super) error_idx: u32,
    pub(super) request_fd: i32,
    pub(super) reserved: u32,
    pub(super) controls: *mut ExtControl,
}

/// Sizes of the structs that hold padding or pointers, or stand for a union. All of them are compared with the header in the
/// tests.
const _: () = {
    assert!(size_of::<Capability>() == 104);
    assert!(size_of::<FormatDescription>() == 64);
    assert!(size_of::<FrameSize>() == 44);
    assert!(size_of::<FrameInterval>() == 52);
    assert!(size_of::<PixFormat>() == 48);
    assert!(size_of::<PixFormatMplane>() == 192);
    assert!(size_of::<FormatSingle>() == 208);
    assert!(size_of::<FormatMplane>() == 208);
    assert!(size_of::<StreamParameters>() == 204);
    assert!(size_of::<RequestBuffers>() == 20);
    assert!(size_of::<Plane>() == 64);
    assert!(size_of::<Buffer>() == 88);
    assert!(size_of::<QueryExtControl>() == 232);
    assert!(size_of::<ExtControl>() == 20);
    assert!(size_of::<ExtControls>() == 32);
};

const fn read_write<T>(number: u8) -> Opcode {
    opcode::read_write::<T>(b'V', number)
}

const QUERYCAP: Opcode = opcode::read::<Capability>(b'V', 0);
const ENUM_FMT: Opcode = read_write::<FormatDescription>(2);
const G_FMT: Opcode = read_write::<FormatSingle>(4);
const S_FMT: Opcode = read_write::<FormatSingle>(5);
const REQBUFS: Opcode = read_write::<RequestBuffers>(8);
const QUERYBUF: Opcode = read_write::<Buffer>(9);
const QBUF: Opcode = read_write::<Buffer>(15);
const DQBUF: Opcode = read_write::<Buffer>(17);
const STREAMON: Opcode = opcode::write::<u32>(b'V', 18);
const STREAMOFF: Opcode = opcode::write::<u32>(b'V', 19);
const S_PARM: Opcode = read_write::<StreamParameters>(22);
const G_EXT_CTRLS: Opcode = read_write::<ExtControls>(71);
const S_EXT_CTRLS: Opcode = read_write::<ExtControls>(72);
const ENUM_FRAMESIZES: Opcode = read_write::<FrameSize>(74);
const ENUM_FRAMEINTERVALS: Opcode = read_write::<FrameInterval>(75);
const QUERY_EXT_CTRL: Opcode = read_write::<QueryExtControl>(103);

/// Requests whose struct holds no pointer: whatever is in it, the kernel touches nothing else.
macro_rules! plain_requests {
    ($($name:ident = $opcode:ident, $value:ty;)*) => { $(
        pub(super) fn $name(fd: BorrowedFd<'_>, value: &mut $value) -> Result<(), Errno> {
            retry_on_intr(|| {
                // SAFETY: the request's number carries the size of the struct, and any bytes are a value of it.
                unsafe { ioctl(fd, Updater::<$opcode, $value>::new(value)) }
            })
        }
    )* };
}

plain_requests! {
    query_capability = QUERYCAP, Capability;
    enumerate_format = ENUM_FMT, FormatDescription;
    enumerate_frame_size = ENUM_FRAMESIZES, FrameSize;
    enumerate_frame_interval = ENUM_FRAMEINTERVALS, FrameInterval;
    get_format_single = G_FMT, FormatSingle;
    get_format_mplane = G_FMT, FormatMplane;
    set_format_single = S_FMT, FormatSingle;
    set_format_mplane = S_FMT, FormatMplane;
    set_stream_parameters = S_PARM, StreamParameters;
    request_buffers = REQBUFS, RequestBuffers;
    stream_on = STREAMON, u32;
    stream_off = STREAMOFF, u32;
    query_control = QUERY_EXT_CTRL, QueryExtControl;
}

/// Requests whose struct points to more, which the kernel reads and writes.
macro_rules! pointing_requests {
    ($($name:ident = $opcode:ident, $value:ty;)*) => { $(
        /// # Safety
        /// What the struct points to is as large as it says and may be written: for as long as the call lasts, and in the case
        /// of lent memory until the buffer was dequeued, streaming was stopped or the device closed.
        pub(super) unsafe fn $name(fd: BorrowedFd<'_>, value: &mut $value) -> Result<(), Errno> {
            retry_on_intr(|| {
                // SAFETY: the request's number carries the size of the struct; the rest is promised by the caller.
                unsafe { ioctl(fd, Updater::<$opcode, $value>::new(value)) }
            })
        }
    )* };
}

pointing_requests! {
    query_buffer = QUERYBUF, Buffer;
    queue_buffer = QBUF, Buffer;
    dequeue_buffer = DQBUF, Buffer;
    get_controls = G_EXT_CTRLS, ExtControls;
    set_controls = S_EXT_CTRLS, ExtControls;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;
    use std::mem::offset_of;
    use std::process::Command;

    /// Two columns: what C says of an expression, and what is said here.
    fn facts() -> Vec<(String, usize)> {
        let mut facts = Vec::new();
        macro_rules! of_struct {
            ($c:literal, $rust:ty, $($c_field:literal = $field:ident),*) => {
                facts.push((format!("sizeof(struct {})", $c), size_of::<$rust>()));
                $(facts.push((format!("offsetof(struct {}, {})", $c, $c_field), offset_of!($rust, $field)));)*
            };
        }
        macro_rules! of_number {
            ($($c:literal = $rust:expr),*) => { $(facts.push(($c.to_string(), $rust as usize));)* };
        }
        of_struct!("v4l2_capability", Capability, "driver" = driver, "card" = card, "bus_info" = bus_info);
        of_struct!("v4l2_capability", Capability, "capabilities" = capabilities, "device_caps" = device_caps);
        of_struct!("v4l2_fmtdesc", FormatDescription, "type" = buf_type, "flags" = flags, "pixelformat" = pixelformat);
        of_struct!("v4l2_fmtdesc", FormatDescription, "description" = description);
        of_struct!("v4l2_frmsizeenum", FrameSize, "pixel_format" = pixel_format, "type" = kind, "discrete" = numbers);
        of_struct!("v4l2_frmsizeenum", FrameSize, "stepwise" = numbers, "reserved" = reserved);
        of_struct!("v4l2_frmivalenum", FrameInterval, "width" = width, "height" = height, "type" = kind);
        of_struct!("v4l2_frmivalenum", FrameInterval, "discrete" = fractions, "reserved" = reserved);
        of_struct!("v4l2_pix_format", PixFormat, "field" = field, "bytesperline" = bytesperline);
        of_struct!("v4l2_pix_format", PixFormat, "sizeimage" = sizeimage, "quantization" = quantization);
        of_struct!("v4l2_plane_pix_format", PlanePixFormat, "sizeimage" = sizeimage, "bytesperline" = bytesperline);
        of_struct!("v4l2_pix_format_mplane", PixFormatMplane, "field" = field, "plane_fmt" = plane_fmt);
        of_struct!("v4l2_pix_format_mplane", PixFormatMplane, "num_planes" = num_planes, "quantization" = quantization);
        of_struct!("v4l2_format", FormatSingle, "type" = buf_type, "fmt" = pix);
        of_struct!("v4l2_format", FormatMplane, "type" = buf_type, "fmt" = pix);
        of_struct!("v4l2_streamparm", StreamParameters, "type" = buf_type, "parm.capture.capability" = capability);
        of_struct!("v4l2_streamparm", StreamParameters, "parm.capture.timeperframe" = timeperframe);
        of_struct!("v4l2_streamparm", StreamParameters, "parm.capture.reserved" = reserved);
        of_struct!("v4l2_requestbuffers", RequestBuffers, "count" = count, "type" = buf_type, "memory" = memory);
        of_struct!(
            "v4l2_plane",
            Plane,
            "bytesused" = bytesused,
            "length" = length,
            "m" = m,
            "data_offset" = data_offset
        );
        of_struct!("v4l2_buffer", Buffer, "index" = index, "type" = buf_type, "bytesused" = bytesused, "flags" = flags);
        of_struct!("v4l2_buffer", Buffer, "timestamp" = timestamp, "timecode" = timecode, "sequence" = sequence);
        of_struct!("v4l2_buffer", Buffer, "memory" = memory, "m" = m, "length" = length, "request_fd" = request_fd);
        of_struct!("timeval", TimeValue, "tv_sec" = seconds, "tv_usec" = microseconds);
        of_struct!("v4l2_query_ext_ctrl", QueryExtControl, "type" = kind, "name" = name, "minimum" = minimum);
        of_struct!("v4l2_query_ext_ctrl", QueryExtControl, "default_value" = default_value, "flags" = flags);
        of_struct!("v4l2_query_ext_ctrl", QueryExtControl, "dims" = dims, "reserved" = reserved);
        of_struct!("v4l2_ext_control", ExtControl, "id" = id, "size" = size, "value64" = value);
        of_struct!("v4l2_ext_controls", ExtControls, "which" = which, "count" = count, "controls" = controls);
        of_number!("VIDIOC_QUERYCAP" = QUERYCAP, "VIDIOC_ENUM_FMT" = ENUM_FMT, "VIDIOC_S_FMT" = S_FMT);
        of_number!("VIDIOC_G_FMT" = G_FMT);
        of_number!("VIDIOC_REQBUFS" = REQBUFS, "VIDIOC_QUERYBUF" = QUERYBUF, "VIDIOC_QBUF" = QBUF);
        of_number!("VIDIOC_DQBUF" = DQBUF, "VIDIOC_STREAMON" = STREAMON, "VIDIOC_STREAMOFF" = STREAMOFF);
        of_number!("VIDIOC_S_PARM" = S_PARM, "VIDIOC_G_EXT_CTRLS" = G_EXT_CTRLS, "VIDIOC_S_EXT_CTRLS" = S_EXT_CTRLS);
        of_number!("VIDIOC_ENUM_FRAMESIZES" = ENUM_FRAMESIZES, "VIDIOC_ENUM_FRAMEINTERVALS" = ENUM_FRAMEINTERVALS);
        of_number!("VIDIOC_QUERY_EXT_CTRL" = QUERY_EXT_CTRL, "VIDEO_MAX_PLANES" = MAX_PLANES);
        of_number!("V4L2_CAP_VIDEO_CAPTURE" = CAP_VIDEO_CAPTURE, "V4L2_CAP_STREAMING" = CAP_STREAMING);
        of_number!("V4L2_CAP_VIDEO_CAPTURE_MPLANE" = CAP_VIDEO_CAPTURE_MPLANE, "V4L2_FIELD_NONE" = FIELD_NONE);
        of_number!("V4L2_CAP_DEVICE_CAPS" = CAP_DEVICE_CAPS, "V4L2_BUF_TYPE_VIDEO_CAPTURE" = BUF_TYPE_VIDEO_CAPTURE);
        of_number!("V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE" = BUF_TYPE_VIDEO_CAPTURE_MPLANE);
        of_number!("V4L2_QUANTIZATION_FULL_RANGE" = QUANTIZATION_FULL_RANGE, "V4L2_MEMORY_MMAP" = MEMORY_MMAP);
        of_number!("V4L2_QUANTIZATION_LIM_RANGE" = QUANTIZATION_LIM_RANGE, "V4L2_MEMORY_USERPTR" = MEMORY_USERPTR);
        of_number!("V4L2_BUF_FLAG_ERROR" = BUF_FLAG_ERROR, "V4L2_BUF_FLAG_TIMESTAMP_MASK" = BUF_FLAG_TIMESTAMP_MASK);
        of_number!("V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC" = BUF_FLAG_TIMESTAMP_MONOTONIC);
        of_number!("V4L2_BUF_FLAG_TSTAMP_SRC_MASK" = BUF_FLAG_TSTAMP_SRC_MASK);
        of_number!("V4L2_BUF_FLAG_TSTAMP_SRC_SOE" = BUF_FLAG_TSTAMP_SRC_SOE);
        of_number!("V4L2_FMT_FLAG_EMULATED" = FMT_FLAG_EMULATED, "V4L2_CTRL_TYPE_INTEGER64" = CTRL_TYPE_INTEGER64);
        of_number!(
            "V4L2_FRMSIZE_TYPE_DISCRETE" = FRMSIZE_TYPE_DISCRETE,
            "V4L2_CTRL_FLAG_NEXT_CTRL" = CTRL_FLAG_NEXT_CTRL
        );
        of_number!("V4L2_FRMIVAL_TYPE_DISCRETE" = FRMIVAL_TYPE_DISCRETE);
        facts
    }

    #[test]
    fn structs_and_numbers_are_those_of_the_header() {
        let facts = facts();
        let mut source =
            String::from("#include <linux/videodev2.h>\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {\n");
        for (expression, _) in &facts {
            writeln!(source, "printf(\"%lu\\n\", (unsigned long)({expression}));").unwrap();
        }
        source.push_str("return 0; }\n");
        let folder = std::env::temp_dir().join(format!("catseye-v4l2-abi-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (c, program) = (folder.join("abi.c"), folder.join("abi"));
        std::fs::write(&c, source).unwrap();
        let built = Command::new("cc").arg(&c).arg("-o").arg(&program).status();
        let output = match built {
            Ok(status) if status.success() => Command::new(&program).output().ok(),
            _ => None,
        };
        std::fs::remove_dir_all(&folder).unwrap();
        let Some(output) = output else {
            eprintln!("skipped: no C compiler, or none that finds linux/videodev2.h");
            return;
        };
        let found = String::from_utf8(output.stdout).unwrap();
        assert_eq!(found.lines().count(), facts.len());
        for ((expression, here), in_c) in facts.iter().zip(found.lines()) {
            assert_eq!(here.to_string(), in_c, "{expression}");
        }
    }
}
