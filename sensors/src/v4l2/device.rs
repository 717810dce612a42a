//! Cameras that are there, what they offer, and how they are set up.

use super::abi::{self, MAX_PLANES};
use super::format::{CameraFormat, FourCc};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a camera could not be opened, asked or set up.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CameraError {
    /// The camera is gone.
    #[error("camera {camera}: unplugged")]
    Unplugged {
        /// The device's file or the name of its bus.
        camera: String,
    },
    /// The file is no camera that streams.
    #[error("{path}: expected a camera that streams, found capabilities {found:#010x}")]
    NoCamera {
        /// The device's file.
        path: String,
        /// The capabilities that it has (`V4L2_CAP_...`).
        found: u32,
    },
    /// The camera gives another format, size or field order than was asked of it.
    #[error("camera {camera}: expected {expected}, found {found}")]
    OtherFormat {
        /// The device's file.
        camera: String,
        /// Format and size asked.
        expected: String,
        /// Format, size and order that the camera would give.
        found: String,
    },
    /// The camera is in use elsewhere.
    #[error("camera {camera}: in use by another program or capture")]
    Busy {
        /// The device's file.
        camera: String,
    },
    /// The kernel refused for another reason.
    #[error("camera {camera}: {action}: {errno}")]
    Refused {
        /// The device's file.
        camera: String,
        /// What was tried.
        action: &'static str,
        /// The kernel's reason.
        errno: Errno,
    },
}

/// A camera's name and place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraInfo {
    /// The device's file, which may be another after the camera was plugged in again.
    pub path: PathBuf,
    /// The driver's name.
    pub driver: String,
    /// The camera's name.
    pub card: String,
    /// Where the camera is plugged in: the same after it was plugged in there again.
    pub bus: String,
    /// Whether frames come by the interface of several planes.
    pub multiplanar: bool,
}

/// A format that a camera offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatInfo {
    /// The format's code.
    pub fourcc: FourCc,
    /// The format, if it can be asked for here.
    pub format: Option<CameraFormat>,
    /// The driver's words for it.
    pub description: String,
    /// Whether a library makes it, not the camera.
    pub emulated: bool,
}

/// Frame sizes that a camera offers, in pixels: one if the smallest is the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeRange {
    /// Smallest width and height.
    pub min_px: [u32; 2],
    /// Largest width and height.
    pub max_px: [u32; 2],
    /// Step of width and height.
    pub step_px: [u32; 2],
}

/// A time in seconds as a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction {
    /// Above the line.
    pub numerator: u32,
    /// Below the line.
    pub denominator: u32,
}

impl Fraction {
    /// In nanoseconds, rounded down; none for a fraction that is no number.
    pub fn nanoseconds(self) -> Option<i64> {
        (i64::from(self.numerator) * 1_000_000_000).checked_div(i64::from(self.denominator))
    }
}

/// Times between frames that a camera offers: one if the shortest is the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntervalRange {
    /// The shortest, in seconds.
    pub min_s: Fraction,
    /// The longest, in seconds.
    pub max_s: Fraction,
    /// The step, in seconds.
    pub step_s: Fraction,
}

/// A control of a camera: exposure, gain and the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlInfo {
    /// The control's number (`V4L2_CID_...`).
    pub id: u32,
    /// The driver's name for it.
    pub name: String,
    /// What kind of value it has (`V4L2_CTRL_TYPE_...`).
    pub kind: u32,
    /// Smallest value.
    pub min: i64,
    /// Largest value.
    pub max: i64,
    /// Step between values.
    pub step: u64,
    /// Value at first.
    pub default: i64,
    /// What it allows (`V4L2_CTRL_FLAG_...`).
    pub flags: u32,
}

/// How one piece of a frame's memory is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PieceLayout {
    /// Bytes from a row to the next, 0 for compressed frames.
    pub stride_bytes: u32,
    /// The most bytes that a frame takes there.
    pub size_bytes: u32,
}

/// How a camera that was set up lays out its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLayout {
    /// The format.
    pub format: CameraFormat,
    /// Width in pixels.
    pub width_px: u32,
    /// Height in pixels.
    pub height_px: u32,
    /// Whether luma spans 0..=255; none if the driver does not say.
    pub full_range: Option<bool>,
    pub(super) pieces: [PieceLayout; MAX_PLANES],
    pub(super) piece_count: usize,
}

impl FrameLayout {
    /// A lent piece of memory begins at a multiple of so many bytes: the longest line of a cache that a device may
    /// have to be told about.
    pub const PIECE_ALIGNMENT_BYTES: usize = 128;

    /// The pieces of memory that a frame lies in.
    pub fn pieces(&self) -> &[PieceLayout] {
        self.pieces.get(..self.piece_count).unwrap_or(&self.pieces)
    }

    /// How many bytes of lent memory a frame takes: all pieces one after the other, each at a multiple of
    /// [`PIECE_ALIGNMENT_BYTES`](Self::PIECE_ALIGNMENT_BYTES).
    pub fn lent_bytes(&self) -> usize {
        self.pieces().iter().fold(0, |end, piece| Self::piece_start(end) + piece.size_bytes as usize)
    }

    /// Where a piece begins if the one before ends there.
    pub(super) fn piece_start(end: usize) -> usize {
        end.next_multiple_of(Self::PIECE_ALIGNMENT_BYTES)
    }
}

/// Where the kernel puts frames.
#[derive(Debug)]
pub enum Memory {
    /// In so many buffers of its own, which are mapped. The driver may take more or fewer.
    Mapped(u32),
    /// In memory that is lent, one buffer in each, of at least [`FrameLayout::lent_bytes`]. Not every driver can do that
    /// ([`Camera::takes_lent_memory`]), and some only where the memory begins at a multiple of the page size.
    /// The kernel must be able to pin its pages, as it can those of the heap; memory that another device's driver mapped may
    /// be refused when it is queued.
    Lent(Vec<Box<dyn crate::memory::HostMemory>>),
}

/// All cameras that stream, in the order of their numbers. Files that are no camera or cannot be opened are passed over.
pub fn list_cameras() -> Vec<CameraInfo> {
    let numbers = std::fs::read_dir("/dev").into_iter().flatten().flatten().filter_map(|entry| {
        let name = entry.file_name();
        name.to_str()?.strip_prefix("video")?.parse::<u32>().ok()
    });
    let mut numbers: Vec<u32> = numbers.collect();
    numbers.sort_unstable();
    let paths = numbers.into_iter().map(|number| PathBuf::from(format!("/dev/video{number}")));
    paths.filter_map(|path| Camera::open(&path).ok()).map(|camera| camera.info).collect()
}

/// A camera that is open, and set up by asking it.
#[derive(Debug)]
pub struct Camera {
    pub(super) fd: OwnedFd,
    info: CameraInfo,
}

impl Camera {
    /// Opens the camera of that file.
    ///
    /// # Errors
    /// [`CameraError`] if it cannot be opened or is no camera that streams.
    pub fn open(path: &Path) -> Result<Self, CameraError> {
        let name = path.display().to_string();
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| refusal(&name, "open", errno))?;
        let mut found = abi::Capability::default();
        abi::query_capability(fd.as_fd(), &mut found).map_err(|errno| refusal(&name, "query capabilities", errno))?;
        let has_own = found.capabilities & abi::CAP_DEVICE_CAPS != 0;
        let capabilities = if has_own { found.device_caps } else { found.capabilities };
        let multiplanar = capabilities & abi::CAP_VIDEO_CAPTURE_MPLANE != 0;
        let captures = multiplanar || capabilities & abi::CAP_VIDEO_CAPTURE != 0;
        if !captures || capabilities & abi::CAP_STREAMING == 0 {
            return Err(CameraError::NoCamera { path: name, found: capabilities });
        }
        let info = CameraInfo {
            path: path.to_path_buf(),
            driver: text(&found.driver),
            card: text(&found.card),
            bus: text(&found.bus_info),
            multiplanar,
        };
        Ok(Camera { fd, info })
    }

    /// Opens a camera by the name of its bus: the first one there, or the one after `skip` others where a device is
    /// several cameras.
    ///
    /// # Errors
    /// [`CameraError::Unplugged`] if there is none, otherwise as [`open`](Self::open).
    pub fn open_bus(bus: &str, skip: usize) -> Result<Self, CameraError> {
        let found = list_cameras().into_iter().filter(|camera| camera.bus == bus).nth(skip);
        match found {
            Some(camera) => Self::open(&camera.path),
            None => Err(CameraError::Unplugged { camera: bus.to_string() }),
        }
    }

    /// The camera's name and place.
    pub fn info(&self) -> &CameraInfo {
        &self.info
    }

    pub(super) fn buffer_type(&self) -> u32 {
        if self.info.multiplanar { abi::BUF_TYPE_VIDEO_CAPTURE_MPLANE } else { abi::BUF_TYPE_VIDEO_CAPTURE }
    }

    pub(super) fn refused(&self, action: &'static str, errno: Errno) -> CameraError {
        refusal(&self.info.path.display().to_string(), action, errno)
    }

    /// The formats that the camera offers, in its own order.
    ///
    /// # Errors
    /// [`CameraError`] if the camera does not answer.
    pub fn formats(&self) -> Result<Vec<FormatInfo>, CameraError> {
        self.enumerate("list formats", |index| {
            let mut found =
                abi::FormatDescription { index, buf_type: self.buffer_type(), ..abi::FormatDescription::default() };
            abi::enumerate_format(self.as_fd(), &mut found)?;
            let fourcc = FourCc::from_number(found.pixelformat);
            Ok(FormatInfo {
                fourcc,
                format: CameraFormat::from_fourcc(fourcc),
                description: text(&found.description),
                emulated: found.flags & abi::FMT_FLAG_EMULATED != 0,
            })
        })
    }

    /// The frame sizes that the camera offers in a format; none if it cannot tell.
    ///
    /// # Errors
    /// [`CameraError`] if the camera does not answer.
    pub fn frame_sizes(&self, fourcc: FourCc) -> Result<Vec<SizeRange>, CameraError> {
        self.enumerate("list frame sizes", |index| {
            let mut found = abi::FrameSize { index, pixel_format: fourcc.number(), ..abi::FrameSize::default() };
            abi::enumerate_frame_size(self.as_fd(), &mut found)?;
            let [first, second, step_width, third, fourth, step_height] = found.numbers;
            if found.kind == abi::FRMSIZE_TYPE_DISCRETE {
                return Ok(SizeRange { min_px: [first, second], max_px: [first, second], step_px: [0, 0] });
            }
            Ok(SizeRange { min_px: [first, third], max_px: [second, fourth], step_px: [step_width, step_height] })
        })
    }

    /// The times between frames that the camera offers in a format and size; none if it cannot tell.
    ///
    /// # Errors
    /// [`CameraError`] if the camera does not answer.
    pub fn frame_intervals(
        &self,
        fourcc: FourCc,
        width_px: u32,
        height_px: u32,
    ) -> Result<Vec<IntervalRange>, CameraError> {
        self.enumerate("list frame intervals", |index| {
            let mut found = abi::FrameInterval {
                index,
                pixel_format: fourcc.number(),
                width: width_px,
                height: height_px,
                ..abi::FrameInterval::default()
            };
            abi::enumerate_frame_interval(self.as_fd(), &mut found)?;
            let [min_s, max_s, step_s] = found.fractions.map(fraction);
            if found.kind == abi::FRMIVAL_TYPE_DISCRETE {
                return Ok(IntervalRange { min_s, max_s: min_s, step_s: Fraction { numerator: 0, denominator: 1 } });
            }
            Ok(IntervalRange { min_s, max_s, step_s })
        })
    }

    /// What an index gives, from 0 on until the driver says that there are no more (`EINVAL`) or that it keeps no such
    /// list (`ENOTTY`).
    fn enumerate<T>(
        &self,
        action: &'static str,
        mut ask: impl FnMut(u32) -> Result<T, Errno>,
    ) -> Result<Vec<T>, CameraError> {
        /// No list of a camera is longer; a driver whose list has no end is not waited for.
        const LONGEST: u32 = 4096;
        let mut list = Vec::new();
        for index in 0..LONGEST {
            match ask(index) {
                Ok(item) => list.push(item),
                Err(Errno::INVAL | Errno::NOTTY) => break,
                Err(errno) => return Err(self.refused(action, errno)),
            }
        }
        Ok(list)
    }

    /// The camera's controls.
    ///
    /// # Errors
    /// [`CameraError`] if the camera does not answer.
    pub fn controls(&self) -> Result<Vec<ControlInfo>, CameraError> {
        let mut last = 0;
        self.enumerate("list controls", |_| {
            let control = self.query_control(last | abi::CTRL_FLAG_NEXT_CTRL)?;
            last = control.id;
            Ok(control)
        })
    }

    fn query_control(&self, id: u32) -> Result<ControlInfo, Errno> {
        let mut found = abi::QueryExtControl { id, ..abi::QueryExtControl::default() };
        abi::query_control(self.as_fd(), &mut found)?;
        Ok(ControlInfo {
            id: found.id,
            name: text(&found.name),
            kind: found.kind,
            min: found.minimum,
            max: found.maximum,
            step: found.step,
            default: found.default_value,
            flags: found.flags,
        })
    }

    /// The value of a control.
    ///
    /// # Errors
    /// [`CameraError`] if the camera has no such control, or its value is no number.
    pub fn control(&self, id: u32) -> Result<i64, CameraError> {
        let refused = |errno| self.refused("read a control", errno);
        let info = self.query_control(id).map_err(refused)?;
        let mut control = self.number_control(&info).map_err(refused)?;
        // SAFETY: there is one control behind the pointer, and its value is a number within it.
        unsafe { abi::get_controls(self.as_fd(), &mut controls(&mut control)) }.map_err(refused)?;
        let [low, high] = control.value;
        if info.kind == abi::CTRL_TYPE_INTEGER64 {
            return Ok((u64::from(high) << 32 | u64::from(low)).cast_signed());
        }
        Ok(i64::from(low.cast_signed()))
    }

    /// Sets a control. The driver may take the nearest value that it can.
    ///
    /// # Errors
    /// [`CameraError`] if the camera has no such control, its value is no number, or it cannot be set.
    pub fn set_control(&self, id: u32, value: i64) -> Result<(), CameraError> {
        let refused = |errno| self.refused("set a control", errno);
        let info = self.query_control(id).map_err(refused)?;
        if info.kind != abi::CTRL_TYPE_INTEGER64 && i32::try_from(value).is_err() && u32::try_from(value).is_err() {
            return Err(refused(Errno::RANGE));
        }
        let mut control = self.number_control(&info).map_err(refused)?;
        let bits = value.cast_unsigned();
        control.value = [bits as u32, (bits >> 32) as u32];
        // SAFETY: there is one control behind the pointer, and its value is a number within it.
        unsafe { abi::set_controls(self.as_fd(), &mut controls(&mut control)) }.map_err(refused)
    }

    /// To ask for a control whose value is one number: text and tables lie behind a pointer.
    fn number_control(&self, info: &ControlInfo) -> Result<abi::ExtControl, Errno> {
        const CTRL_TYPE_STRING: u32 = 7;
        const COMPOUND_TYPES: u32 = 0x0100;
        const FLAG_HAS_PAYLOAD: u32 = 0x0100;
        if info.kind == CTRL_TYPE_STRING || info.kind >= COMPOUND_TYPES || info.flags & FLAG_HAS_PAYLOAD != 0 {
            return Err(Errno::NOTSUP);
        }
        Ok(abi::ExtControl { id: info.id, ..abi::ExtControl::default() })
    }

    /// Sets format and size, and tells how frames will lie in memory.
    ///
    /// # Errors
    /// [`CameraError::OtherFormat`] if the camera would give something else, [`CameraError::Busy`] while it streams.
    pub fn set_format(&self, format: CameraFormat, width_px: u32, height_px: u32) -> Result<FrameLayout, CameraError> {
        let asked = Picture {
            width_px,
            height_px,
            fourcc: format.fourcc(),
            field: abi::FIELD_NONE,
            quantization: 0,
            pieces: [PieceLayout::default(); MAX_PLANES],
            piece_count: format.pieces(),
        };
        let given = if self.info.multiplanar { self.set_mplane(&asked) } else { self.set_single(&asked) }
            .map_err(|errno| self.refused("set the format", errno))?;
        let same = (given.width_px, given.height_px, given.fourcc, given.field, given.piece_count)
            == (width_px, height_px, asked.fourcc, asked.field, asked.piece_count);
        if !same {
            let camera = self.info.path.display().to_string();
            return Err(CameraError::OtherFormat { camera, expected: asked.words(), found: given.words() });
        }
        let full_range = match given.quantization {
            abi::QUANTIZATION_FULL_RANGE => Some(true),
            abi::QUANTIZATION_LIM_RANGE => Some(false),
            _ => None,
        };
        let Picture { pieces, piece_count, .. } = given;
        Ok(FrameLayout { format, width_px, height_px, full_range, pieces, piece_count })
    }

    /// Strides and sizes are asked as 0, so that the driver sets them for this format.
    fn set_single(&self, asked: &Picture) -> Result<Picture, Errno> {
        let pix = abi::PixFormat {
            width: asked.width_px,
            height: asked.height_px,
            pixelformat: asked.fourcc.number(),
            field: asked.field,
            ..abi::PixFormat::default()
        };
        let mut format = abi::FormatSingle { buf_type: self.buffer_type(), padding: 0, pix, rest: [0; 19] };
        abi::set_format_single(self.as_fd(), &mut format)?;
        Ok(Picture::of_single(&format.pix))
    }

    fn set_mplane(&self, asked: &Picture) -> Result<Picture, Errno> {
        let pix = abi::PixFormatMplane {
            width: asked.width_px,
            height: asked.height_px,
            pixelformat: asked.fourcc.number(),
            field: asked.field,
            num_planes: asked.piece_count as u8,
            ..abi::PixFormatMplane::default()
        };
        let mut format = abi::FormatMplane { buf_type: self.buffer_type(), padding: 0, pix, rest: [0] };
        abi::set_format_mplane(self.as_fd(), &mut format)?;
        Ok(Picture::of_mplane(&format.pix))
    }

    /// Whether the camera is still set to a layout: another format that was asked for, even one that it lacks, changes that.
    ///
    /// # Errors
    /// [`CameraError::OtherFormat`] if it is not.
    pub(super) fn check_layout(&self, layout: &FrameLayout) -> Result<(), CameraError> {
        let set = self.current().map_err(|errno| self.refused("tell the format", errno))?;
        let FrameLayout { format, width_px, height_px, pieces, piece_count, .. } = *layout;
        let fourcc = format.fourcc();
        let asked = Picture { width_px, height_px, fourcc, field: set.field, quantization: 0, pieces, piece_count };
        // sizes in bytes are bounds, which a camera may set anew with its rate
        let same_stride = |(one, other): (&PieceLayout, &PieceLayout)| one.stride_bytes == other.stride_bytes;
        let is_same = (set.width_px, set.height_px, set.fourcc, set.piece_count)
            == (width_px, height_px, fourcc, piece_count)
            && set.pieces.iter().zip(layout.pieces()).all(same_stride);
        if !is_same {
            let camera = self.info.path.display().to_string();
            return Err(CameraError::OtherFormat { camera, expected: asked.words(), found: set.words() });
        }
        Ok(())
    }

    fn current(&self) -> Result<Picture, Errno> {
        let buf_type = self.buffer_type();
        if self.info.multiplanar {
            let pix = abi::PixFormatMplane::default();
            let mut format = abi::FormatMplane { buf_type, padding: 0, pix, rest: [0] };
            abi::get_format_mplane(self.as_fd(), &mut format)?;
            return Ok(Picture::of_mplane(&format.pix));
        }
        let mut format = abi::FormatSingle { buf_type, padding: 0, pix: abi::PixFormat::default(), rest: [0; 19] };
        abi::get_format_single(self.as_fd(), &mut format)?;
        Ok(Picture::of_single(&format.pix))
    }

    /// Whether the driver can put frames into memory that is lent. Those that need memory in one piece cannot.
    ///
    /// # Errors
    /// [`CameraError::Busy`] while it streams, [`CameraError`] if the camera does not answer.
    pub fn takes_lent_memory(&self) -> Result<bool, CameraError> {
        let (buf_type, memory) = (self.buffer_type(), abi::MEMORY_USERPTR);
        // No buffers are asked for, so that none are made.
        let mut request = abi::RequestBuffers { buf_type, memory, ..abi::RequestBuffers::default() };
        match abi::request_buffers(self.as_fd(), &mut request) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL) => Ok(false),
            Err(errno) => Err(self.refused("ask about lent memory", errno)),
        }
    }

    /// Asks for a time between frames and gives the one that the camera takes.
    ///
    /// # Errors
    /// [`CameraError`] if the camera cannot be asked that.
    pub fn set_interval(&self, interval_s: Fraction) -> Result<Fraction, CameraError> {
        let mut parameters = abi::StreamParameters {
            buf_type: self.buffer_type(),
            capability: 0,
            capturemode: 0,
            timeperframe: [interval_s.numerator, interval_s.denominator],
            extendedmode: 0,
            readbuffers: 0,
            reserved: [0; 4],
            rest: [0; 40],
        };
        abi::set_stream_parameters(self.as_fd(), &mut parameters)
            .map_err(|errno| self.refused("set the frame interval", errno))?;
        Ok(fraction(parameters.timeperframe))
    }
}

impl AsFd for Camera {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What both interfaces say of a format.
struct Picture {
    width_px: u32,
    height_px: u32,
    fourcc: FourCc,
    field: u32,
    quantization: u32,
    pieces: [PieceLayout; MAX_PLANES],
    piece_count: usize,
}

impl Picture {
    fn of_single(pix: &abi::PixFormat) -> Self {
        let mut pieces = [PieceLayout::default(); MAX_PLANES];
        if let Some(piece) = pieces.first_mut() {
            *piece = PieceLayout { stride_bytes: pix.bytesperline, size_bytes: pix.sizeimage };
        }
        Picture {
            width_px: pix.width,
            height_px: pix.height,
            fourcc: FourCc::from_number(pix.pixelformat),
            field: pix.field,
            quantization: pix.quantization,
            pieces,
            piece_count: 1,
        }
    }

    fn of_mplane(pix: &abi::PixFormatMplane) -> Self {
        let piece =
            |plane: abi::PlanePixFormat| PieceLayout { stride_bytes: plane.bytesperline, size_bytes: plane.sizeimage };
        Picture {
            width_px: pix.width,
            height_px: pix.height,
            fourcc: FourCc::from_number(pix.pixelformat),
            field: pix.field,
            quantization: u32::from(pix.quantization),
            pieces: pix.plane_fmt.map(piece),
            piece_count: usize::from(pix.num_planes).min(MAX_PLANES),
        }
    }

    fn words(&self) -> String {
        let order = if self.field == abi::FIELD_NONE { "" } else { ", interlaced" };
        let Picture { fourcc, width_px, height_px, piece_count, .. } = self;
        format!("{fourcc} {width_px}x{height_px} in {piece_count} piece(s){order}")
    }
}

pub(super) fn refusal(camera: &str, action: &'static str, errno: Errno) -> CameraError {
    let camera = camera.to_string();
    match errno {
        Errno::NODEV | Errno::NXIO | Errno::NOENT => CameraError::Unplugged { camera },
        Errno::BUSY => CameraError::Busy { camera },
        _ => CameraError::Refused { camera, action, errno },
    }
}

fn controls(control: &mut abi::ExtControl) -> abi::ExtControls {
    abi::ExtControls { which: 0, count: 1, error_idx: 0, request_fd: 0, reserved: 0, controls: control }
}

fn fraction([numerator, denominator]: [u32; 2]) -> Fraction {
    Fraction { numerator, denominator }
}

/// A name in a field of fixed length, up to its first zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_at_the_first_zero() {
        assert_eq!(text(b"vivid\0\0x"), "vivid");
        assert_eq!(text(b"full"), "full");
        assert_eq!(text(b""), "");
    }

    #[test]
    fn files_that_are_no_camera_are_refused() {
        let missing = Camera::open(Path::new("/dev/no-such-camera")).err();
        assert_eq!(missing, Some(CameraError::Unplugged { camera: "/dev/no-such-camera".to_string() }));
        let null = Camera::open(Path::new("/dev/null")).err();
        // an emulator of another processor knows nothing of cameras
        let wrong = matches!(null, Some(CameraError::Refused { errno: Errno::NOTTY | Errno::NOSYS, .. }));
        assert!(wrong, "{null:?}");
        let bus = Camera::open_bus("no such bus", 0).err();
        assert_eq!(bus, Some(CameraError::Unplugged { camera: "no such bus".to_string() }));
    }

    #[test]
    fn lent_pieces_begin_at_multiples() {
        let mut layout = FrameLayout {
            format: CameraFormat::Nv12Apart,
            width_px: 10,
            height_px: 10,
            full_range: None,
            pieces: [PieceLayout::default(); MAX_PLANES],
            piece_count: 2,
        };
        layout.pieces[0] = PieceLayout { stride_bytes: 10, size_bytes: 100 };
        layout.pieces[1] = PieceLayout { stride_bytes: 10, size_bytes: 50 };
        assert_eq!(layout.lent_bytes(), 178);
        assert_eq!(layout.pieces().len(), 2);
    }

    #[test]
    fn intervals_are_nanoseconds() {
        assert_eq!(Fraction { numerator: 1, denominator: 30 }.nanoseconds(), Some(33_333_333));
        assert_eq!(Fraction { numerator: 1, denominator: 0 }.nanoseconds(), None);
    }
}
