//! Preprocessing on the GPU: the pictures of all cameras of a tick, as they came, become one network's batch.
//!
//! A [`BatchPreprocess`] is made of a layout and the cameras' sizes and maps. Its tables are those of
//! [`Preprocessor`](crate::stages::preprocess::Preprocessor) and lie on the device. In every tick the host says where each
//! picture is ([`BatchPreprocess::write_picture`]) in bytes that it copies to the device; format, range and presence may
//! change without a new graph.
//!
//! Promises: values are those of the CPU, bit for bit; a camera without a picture gets zeros; neither telling of a picture
//! nor enqueuing allocates.

use std::sync::Arc;

use catseye_sensors::picture::{PixelFormat, Plane};
use thiserror::Error;

use super::abi::{
    self, CatseyeBatch, CatseyeColumn, CatseyeIsp, CatseyeLine, CatseyePicture, CatseyePlace, CatseyeResizeParams,
};
use super::{Context, DeviceBuffer, GpuError, Kernel, Kernels, Stream};
use crate::stages::preprocess::raw::{CURVE_VALUES, Isp, RawError, RawFormat, raw_stride};
use crate::stages::preprocess::tables::ResizeTables;
use crate::stages::preprocess::{ChannelOrder, Layout, Letterbox, PreprocessError, Remap};

/// Most cameras of a batch.
pub const MAX_CAMERAS: usize = abi::CATSEYE_MAX_CAMERAS as usize;
/// Bytes that tell of one camera's picture.
pub const PICTURE_BYTES: usize = size_of::<CatseyePicture>();

/// Most threads of a block; each makes two pixels of a row.
const MAX_THREADS: u32 = abi::CATSEYE_RESIZE_THREADS;
const WARP_THREADS: u32 = 32;
/// A place that no picture reaches.
const NOWHERE: CatseyePlace = CatseyePlace { x: i32::MIN, y: i32::MIN };
/// A pixel in units of a place.
const PLACE_ONE: i32 = abi::CATSEYE_PLACE_ONE as i32;
/// The largest width and height of a picture whose places fit into 16 bits each, with one that it does not reach.
const MAX_NEAR_PX: u32 = 2046;
/// What the addresses of batches and pictures are multiples of, so that values can be written two at a time.
const ALIGNMENT: u64 = 16;

/// Why a batch cannot be prepared on the GPU.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum BatchPreprocessError {
    /// The layout is not allowed.
    #[error(transparent)]
    Layout(PreprocessError),
    /// A camera's size or map is not allowed.
    #[error("camera {camera}: {source}")]
    Camera {
        /// The camera's number, counted from 0.
        camera: usize,
        /// What is wrong.
        source: PreprocessError,
    },
    /// A raw camera's settings are not allowed.
    #[error("camera {camera}: {source}")]
    Raw {
        /// The camera's number, counted from 0.
        camera: usize,
        /// What is wrong.
        source: RawError,
    },
    /// There are no cameras, or too many.
    #[error("batch of {found} cameras: expected 1 to {MAX_CAMERAS}")]
    Cameras {
        /// How many there are.
        found: usize,
    },
    /// The scale of 8-bit values is no positive number.
    #[error("inverse scale of 8-bit values is {found}: expected a finite number above 0")]
    InverseScale {
        /// The scale.
        found: f32,
    },
    /// An address is not aligned.
    #[error("{what} at address {found:#x}: expected a multiple of {ALIGNMENT}")]
    Alignment {
        /// What lies there.
        what: &'static str,
        /// The address.
        found: u64,
    },
    /// The device did not do it.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

/// Why a picture is not one that its camera may have.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WritePictureError {
    /// There is no such camera.
    #[error("no camera {camera}: the batch has {cameras}, counted from 0")]
    NoCamera {
        /// The number that was asked for.
        camera: usize,
        /// How many there are.
        cameras: usize,
    },
    /// The bytes to be copied to the device are fewer than the cameras need.
    #[error("descriptions of pictures have {found} bytes: expected {expected}")]
    Length {
        /// [`BatchPreprocess::pictures_bytes`].
        expected: usize,
        /// What there is.
        found: usize,
    },
    /// The picture is not as large as the camera's pictures are.
    #[error("camera {camera} has a picture of {} x {} pixels: expected {} x {}", found[0], found[1], expected[0], expected[1])]
    Size {
        /// The camera.
        camera: usize,
        /// Width and height that the tables were made for.
        expected: [u32; 2],
        /// Width and height of the picture.
        found: [u32; 2],
    },
    /// A raw picture was given for a camera without an [`Isp`], or another one for a camera with it.
    #[error("camera {camera} has {}raw pictures: found one of the other kind", if *is_raw { "" } else { "no " })]
    Kind {
        /// The camera.
        camera: usize,
        /// Whether its pictures are raw.
        is_raw: bool,
    },
    /// A raw picture does not fit its size.
    #[error("camera {camera}: {source}")]
    Raw {
        /// The camera.
        camera: usize,
        /// What is wrong.
        source: RawError,
    },
    /// Rows are said to be closer together than they are long.
    #[error("camera {camera} has rows of {expected} bytes, but {found} from a row to the next")]
    ShortStride {
        /// The camera.
        camera: usize,
        /// Bytes of a row.
        expected: usize,
        /// Bytes from row to row.
        found: usize,
    },
    /// A plane ends before its last row does.
    #[error("camera {camera} has a plane {plane} of {found} bytes: expected {expected}")]
    ShortPlane {
        /// The camera.
        camera: usize,
        /// The plane, counted from 0.
        plane: usize,
        /// Bytes that size, format and stride ask for.
        expected: usize,
        /// Bytes there are.
        found: usize,
    },
    /// Rows of U and of V are not equally far apart, or rows of any plane too far.
    #[error("camera {camera} has rows {found:?} bytes apart: expected less than 2^32, and the same for U and V")]
    Strides {
        /// The camera.
        camera: usize,
        /// Bytes from row to row of each plane.
        found: [usize; 3],
    },
    /// The picture ends before its last row does.
    #[error("camera {camera} has a picture of {found} bytes: expected {expected}")]
    ShortPicture {
        /// The camera.
        camera: usize,
        /// Bytes that size, format and stride ask for.
        expected: usize,
        /// Bytes there are.
        found: usize,
    },
}

/// What the network's input holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ElementType {
    /// The values of the CPU.
    F32,
    /// Those, as the nearest half, ties to even.
    F16,
    /// Those times a number, as the nearest whole number, ties to even, between -128 and 127.
    I8 {
        /// The number: one over the scale of the network's input.
        inverse_scale: f32,
    },
}

impl ElementType {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            ElementType::F32 => 4,
            ElementType::F16 => 2,
            ElementType::I8 { .. } => 1,
        }
    }
}

/// One camera of the batch.
#[derive(Clone, Copy, Debug)]
pub struct CameraInput<'a> {
    /// Width of its pictures.
    pub width_px: u32,
    /// Height of its pictures.
    pub height_px: u32,
    /// Where pixels come from, if pictures are not just fitted.
    pub remap: Option<&'a Remap>,
    /// How its pictures are developed, if they are raw.
    pub raw: Option<&'a Isp>,
}

/// A raw picture in the device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRawPicture {
    /// Where it begins.
    pub address: u64,
    /// How many bytes there are.
    pub bytes: usize,
    /// Width in pixels.
    pub width_px: u32,
    /// Height in pixels.
    pub height_px: u32,
    /// How samples lie in memory.
    pub format: RawFormat,
    /// Bytes from one row to the next; none if rows follow one another.
    pub stride_bytes: Option<usize>,
}

/// A picture in the device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevicePicture {
    /// Where it begins.
    pub address: u64,
    /// How many bytes there are.
    pub bytes: usize,
    /// Width in pixels.
    pub width_px: u32,
    /// Height in pixels.
    pub height_px: u32,
    /// Layout of the pixels.
    pub format: PixelFormat,
    /// True if luma spans 0..=255, false if it spans 16..=235.
    pub full_range: bool,
    /// Bytes from one row of the first plane to the next; none if rows are tightly packed.
    pub stride_bytes: Option<usize>,
}

/// One plane of a picture in the device's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DevicePlane {
    /// Where it begins.
    pub address: u64,
    /// How many bytes there are.
    pub bytes: usize,
    /// Bytes from one row to the next.
    pub stride_bytes: usize,
}

/// A picture whose planes need not follow one another, as drivers and video decoders leave them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevicePlanes {
    /// In the order of [`PixelFormat::planes`]; those that the format lacks are not looked at.
    pub planes: [DevicePlane; 3],
    /// Width in pixels.
    pub width_px: u32,
    /// Height in pixels.
    pub height_px: u32,
    /// Layout of the pixels.
    pub format: PixelFormat,
    /// True if luma spans 0..=255, false if it spans 16..=235.
    pub full_range: bool,
}

/// Cameras that one kernel serves, in one launch.
#[derive(Debug)]
struct Launch {
    kernel: Kernel,
    grid: [u32; 3],
    threads: [u32; 2],
    params: CatseyeResizeParams,
    /// The kernel holds their addresses.
    _tables: Vec<DeviceBuffer>,
}

impl Launch {
    fn new(
        kernel: Kernel,
        rows: Rows,
        mut params: CatseyeResizeParams,
        cameras: &[usize],
        tables: Vec<DeviceBuffer>,
    ) -> Launch {
        for (place, camera) in params.cameras.iter_mut().zip(cameras) {
            *place = count(*camera);
        }
        // blocks of the same number of warps, so that few threads are left over at the end of a row
        let pairs = params.batch.width.div_ceil(2);
        let Rows { of_block, of_thread } = rows;
        let blocks = pairs.div_ceil(MAX_THREADS / of_block);
        let columns = pairs.div_ceil(blocks).next_multiple_of(WARP_THREADS);
        let grid = [pairs.div_ceil(columns), params.batch.height.div_ceil(of_block * of_thread), count(cameras.len())];
        Launch { kernel, grid, threads: [columns, of_block], params, _tables: tables }
    }
}

/// How many rows a block is high, and of how many each of its threads makes a part.
#[derive(Clone, Copy, Debug)]
struct Rows {
    of_block: u32,
    of_thread: u32,
}

impl Rows {
    const RESIZE: Rows = Rows { of_block: 1, of_thread: abi::CATSEYE_RESIZE_ROWS };
    const REMAP: Rows = Rows { of_block: 1, of_thread: 1 };
    /// Where pictures are raw, the threads of a block together bring the tone curve near.
    const RAW: Rows = Rows { of_block: abi::CATSEYE_RAW_ROWS, of_thread: 1 };
}

/// What a camera's pictures always are.
#[derive(Clone, Copy, Debug)]
struct Camera {
    size: [u32; 2],
    /// Where the [`CatseyeIsp`] is, if they are raw.
    raw: Option<u64>,
}

/// Makes one network's batch out of all cameras' pictures.
#[derive(Debug)]
pub struct BatchPreprocess {
    cameras: Vec<Camera>,
    /// The descriptions of raw pictures hold its address.
    _isps: DeviceBuffer,
    letterboxes: Vec<Letterbox>,
    launches: Vec<Launch>,
}

impl BatchPreprocess {
    /// Makes the tables and finds the kernels. The batch at `output_address` has a row per camera of the layout's values.
    /// At `pictures_address` there are [`BatchPreprocess::pictures_bytes`] bytes of device memory.
    ///
    /// # Errors
    /// [`BatchPreprocessError`], if it cannot be.
    pub fn new(
        context: &Arc<Context>,
        kernels: &Kernels,
        layout: &Layout,
        cameras: &[CameraInput<'_>],
        output: ElementType,
        output_address: u64,
        pictures_address: u64,
    ) -> Result<Self, BatchPreprocessError> {
        if !(1..=MAX_CAMERAS).contains(&cameras.len()) {
            return Err(BatchPreprocessError::Cameras { found: cameras.len() });
        }
        aligned("the batch", output_address)?;
        aligned("descriptions of pictures", pictures_address)?;
        let batch = batch(layout, output, output_address)?;
        let params = CatseyeResizeParams { batch, pictures: pictures_address, ..CatseyeResizeParams::default() };
        let isps = Isps::upload(context, cameras)?;
        let mut launches = Vec::with_capacity(4);
        let whole = (false, ("catseye_resize", Rows::RESIZE), ("catseye_remap", Rows::REMAP));
        let raw = (true, ("catseye_raw_resize", Rows::RAW), ("catseye_raw_remap", Rows::RAW));
        for (is_raw, (resize, resize_rows), (remap, remap_rows)) in [whole, raw] {
            let (mut resized, mut remapped) = (Resized::default(), Remapped::default());
            for (number, camera) in cameras.iter().enumerate().filter(|(_, camera)| camera.raw.is_some() == is_raw) {
                let added = match camera.remap {
                    None => resized.add(number, layout, camera),
                    Some(remap) => remapped.add(number, layout, camera, remap),
                };
                added.map_err(|source| BatchPreprocessError::Camera { camera: number, source })?;
            }
            launches.extend(resized.launch(context, kernels.get(resize)?, resize_rows, params)?);
            launches.extend(remapped.launch(context, kernels.get(remap)?, remap_rows, params)?);
        }
        let letterboxes = cameras.iter().enumerate().map(|(number, camera)| {
            let refused = |source| BatchPreprocessError::Camera { camera: number, source };
            layout.letterbox(camera.width_px, camera.height_px).map_err(refused)
        });
        let letterboxes = letterboxes.collect::<Result<_, _>>()?;
        let cameras = cameras.iter().zip(&isps.addresses).map(|(camera, address)| Camera {
            size: [camera.width_px, camera.height_px],
            raw: camera.raw.map(|_| *address),
        });
        Ok(BatchPreprocess { cameras: cameras.collect(), _isps: isps.buffer, letterboxes, launches })
    }

    /// How each camera's picture lies in the network's input.
    pub fn letterboxes(&self) -> &[Letterbox] {
        &self.letterboxes
    }

    /// Bytes that tell of all cameras' pictures.
    pub fn pictures_bytes(&self) -> usize {
        self.cameras.len() * PICTURE_BYTES
    }

    /// Tells of a camera's picture, or that it has none, in bytes that the host copies to the device. The picture's bytes
    /// are there when the kernels run.
    ///
    /// # Errors
    /// [`WritePictureError`]; the camera then has no picture, if there is such a camera at all.
    pub fn write_picture(
        &self,
        camera: usize,
        picture: Option<&DevicePicture>,
        descriptions: &mut [u8],
    ) -> Result<(), WritePictureError> {
        let (of_camera, description) = self.cleared(camera, descriptions)?;
        let Some(picture) = picture else { return Ok(()) };
        if of_camera.raw.is_some() {
            return Err(WritePictureError::Kind { camera, is_raw: true });
        }
        write(&describe(camera, of_camera.size, picture)?, description);
        Ok(())
    }

    /// As [`BatchPreprocess::write_picture`], for a picture whose planes lie apart.
    ///
    /// # Errors
    /// [`WritePictureError`]; the camera then has no picture, if there is such a camera at all.
    pub fn write_planes(
        &self,
        camera: usize,
        picture: Option<&DevicePlanes>,
        descriptions: &mut [u8],
    ) -> Result<(), WritePictureError> {
        let (of_camera, description) = self.cleared(camera, descriptions)?;
        let Some(picture) = picture else { return Ok(()) };
        if of_camera.raw.is_some() {
            return Err(WritePictureError::Kind { camera, is_raw: true });
        }
        write(&describe_planes(camera, of_camera.size, picture)?, description);
        Ok(())
    }

    /// As [`BatchPreprocess::write_picture`], for a camera with an [`Isp`].
    ///
    /// # Errors
    /// [`WritePictureError`]; the camera then has no picture, if there is such a camera at all.
    pub fn write_raw_picture(
        &self,
        camera: usize,
        picture: Option<&DeviceRawPicture>,
        descriptions: &mut [u8],
    ) -> Result<(), WritePictureError> {
        let (of_camera, description) = self.cleared(camera, descriptions)?;
        let Some(picture) = picture else { return Ok(()) };
        let Some(isp) = of_camera.raw else {
            return Err(WritePictureError::Kind { camera, is_raw: false });
        };
        write(&describe_raw(camera, of_camera.size, isp, picture)?, description);
        Ok(())
    }

    /// The camera, and the bytes that tell of its picture, which now say that there is none.
    fn cleared<'a>(
        &self,
        camera: usize,
        descriptions: &'a mut [u8],
    ) -> Result<(Camera, &'a mut [u8]), WritePictureError> {
        let (expected, found) = (self.pictures_bytes(), descriptions.len());
        let Some(of_camera) = self.cameras.get(camera) else {
            return Err(WritePictureError::NoCamera { camera, cameras: self.cameras.len() });
        };
        let start = camera * PICTURE_BYTES;
        let description = descriptions.get_mut(..expected).and_then(|all| all.get_mut(start..start + PICTURE_BYTES));
        let description = description.ok_or(WritePictureError::Length { expected, found })?;
        description.fill(0);
        Ok((*of_camera, description))
    }

    /// Puts the kernels into the stream, behind the copies of pictures and descriptions. Can be captured.
    ///
    /// # Errors
    /// Those of [`Stream::launch`].
    pub fn enqueue(&self, stream: &Stream) -> Result<(), GpuError> {
        for Launch { kernel, grid, threads: [columns, rows], params, .. } in &self.launches {
            stream.launch(kernel, *grid, [*columns, *rows, 1], 0, params)?;
        }
        Ok(())
    }
}

fn aligned(what: &'static str, found: u64) -> Result<(), BatchPreprocessError> {
    if found.is_multiple_of(ALIGNMENT) { Ok(()) } else { Err(BatchPreprocessError::Alignment { what, found }) }
}

/// The layout as the kernels want it: per colour, and not per plane.
fn batch(layout: &Layout, output: ElementType, address: u64) -> Result<CatseyeBatch, BatchPreprocessError> {
    layout.check().map_err(BatchPreprocessError::Layout)?;
    let (element, inverse_scale) = match output {
        ElementType::F32 => (abi::CATSEYE_ELEMENT_F32, 1.0),
        ElementType::F16 => (abi::CATSEYE_ELEMENT_F16, 1.0),
        ElementType::I8 { inverse_scale } => (abi::CATSEYE_ELEMENT_I8, inverse_scale),
    };
    if !(inverse_scale.is_finite() && inverse_scale > 0.0) {
        return Err(BatchPreprocessError::InverseScale { found: inverse_scale });
    }
    let by_colour = |[first, second, third]: [f32; 3]| match layout.order {
        ChannelOrder::Rgb => [first, second, third],
        ChannelOrder::Bgr => [third, second, first],
    };
    Ok(CatseyeBatch {
        address,
        width: count(layout.width),
        height: count(layout.height),
        element,
        pad: u32::from(layout.pad()),
        plane: if layout.order == ChannelOrder::Rgb { [0, 1, 2] } else { [2, 1, 0] },
        scale: by_colour(layout.scale),
        bias: by_colour(layout.bias),
        inverse_scale,
    })
}

/// Sizes here are checked to be far below 2^32.
fn count(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// All raw cameras' settings on the device.
struct Isps {
    buffer: DeviceBuffer,
    /// Where each camera's [`CatseyeIsp`] is, zeros for a camera without settings.
    addresses: Vec<u64>,
}

impl Isps {
    /// Structs first, curves behind them.
    fn upload(context: &Arc<Context>, cameras: &[CameraInput<'_>]) -> Result<Isps, BatchPreprocessError> {
        let structs = (cameras.len() * size_of::<CatseyeIsp>()).next_multiple_of(ALIGNMENT as usize);
        let raw = cameras.iter().filter(|camera| camera.raw.is_some()).count();
        let buffer = DeviceBuffer::new(context, structs + raw * CURVE_VALUES)?;
        let (mut addresses, mut bytes, mut curves) = (Vec::new(), Vec::new(), Vec::new());
        for (number, camera) in cameras.iter().enumerate() {
            addresses.push(buffer.address() + bytes.len() as u64);
            if let Some(isp) = camera.raw {
                isp.check().map_err(|source| BatchPreprocessError::Raw { camera: number, source })?;
                write_isp(isp, buffer.address() + (structs + curves.len()) as u64, &mut bytes);
                curves.extend_from_slice(&isp.curve);
            }
            bytes.resize((number + 1) * size_of::<CatseyeIsp>(), 0);
        }
        bytes.resize(structs, 0);
        bytes.append(&mut curves);
        buffer.upload_now(0, &bytes)?;
        Ok(Isps { buffer, addresses })
    }
}

/// Writes the fields of a [`CatseyeIsp`] in their order.
fn write_isp(isp: &Isp, curve: u64, bytes: &mut Vec<u8>) {
    bytes.extend(curve.to_ne_bytes());
    words(&isp.pattern.red().map(count), bytes);
    let gains = isp.gains.map(i32::from);
    let matrix = isp.matrix.as_flattened().iter().map(|factor| i32::from(*factor));
    for whole in [i32::from(isp.black_level)].into_iter().chain(gains).chain(matrix) {
        bytes.extend(whole.to_ne_bytes());
    }
}

/// Tables of the cameras whose pictures are fitted.
#[derive(Default)]
struct Resized {
    cameras: Vec<usize>,
    columns: Vec<u8>,
    lines: Vec<u8>,
}

impl Resized {
    fn add(&mut self, number: usize, layout: &Layout, camera: &CameraInput<'_>) -> Result<(), PreprocessError> {
        let tables = ResizeTables::new(layout, camera.width_px, camera.height_px)?;
        self.cameras.push(number);
        let even = layout.width.next_multiple_of(2);
        for tap in tables.columns.iter().copied().chain([None]).take(even) {
            let column = tap.map_or(CatseyeColumn::default(), |tap| CatseyeColumn {
                left: tap.left,
                weights: u32::from(tap.weights[0]) | u32::from(tap.weights[1]) << 16,
            });
            words(&[column.left, column.weights], &mut self.columns);
        }
        for tap in &tables.lines {
            let line = tap.map_or(CatseyeLine::default(), |tap| CatseyeLine {
                upper: tap.upper,
                lower: tap.lower,
                upper_weight: u32::from(tap.weights[0]),
                lower_weight: u32::from(tap.weights[1]),
            });
            words(&[line.upper, line.lower, line.upper_weight, line.lower_weight], &mut self.lines);
        }
        Ok(())
    }

    fn launch(
        self,
        context: &Arc<Context>,
        kernel: Kernel,
        rows: Rows,
        params: CatseyeResizeParams,
    ) -> Result<Option<Launch>, GpuError> {
        if self.cameras.is_empty() {
            return Ok(None);
        }
        let columns = DeviceBuffer::from_bytes(context, &self.columns)?;
        let lines = DeviceBuffer::from_bytes(context, &self.lines)?;
        let params = CatseyeResizeParams { columns: columns.address(), lines: lines.address(), ..params };
        Ok(Some(Launch::new(kernel, rows, params, &self.cameras, vec![columns, lines])))
    }
}

/// Places of the cameras with a map.
#[derive(Default)]
struct Remapped {
    cameras: Vec<usize>,
    places: Vec<CatseyePlace>,
    /// Whether a picture is too large for places of 16 bits.
    is_wide: bool,
}

impl Remapped {
    fn add(
        &mut self,
        number: usize,
        layout: &Layout,
        camera: &CameraInput<'_>,
        remap: &Remap,
    ) -> Result<(), PreprocessError> {
        let (expected, found) = ([layout.width, layout.height], remap.network());
        if expected != found {
            return Err(PreprocessError::MapNetwork { expected, found });
        }
        let (expected, found) = (remap.picture(), [camera.width_px, camera.height_px]);
        if expected != found {
            return Err(PreprocessError::MapPicture { expected, found });
        }
        self.cameras.push(number);
        self.is_wide |= camera.width_px.max(camera.height_px) > MAX_NEAR_PX;
        let even = layout.width.next_multiple_of(2);
        for row in remap.places().chunks_exact(layout.width) {
            let places = row.iter().copied().chain([None]).take(even);
            self.places.extend(places.map(|place| place.map_or(NOWHERE, |[x, y]| CatseyePlace { x, y })));
        }
        Ok(())
    }

    /// The places as the kernel reads them.
    fn table(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for place in &self.places {
            if self.is_wide {
                words(&[place.x.cast_unsigned(), place.y.cast_unsigned()], &mut bytes);
            } else {
                words(&[near(*place)], &mut bytes);
            }
        }
        bytes
    }

    fn launch(
        self,
        context: &Arc<Context>,
        kernel: Kernel,
        rows: Rows,
        params: CatseyeResizeParams,
    ) -> Result<Option<Launch>, GpuError> {
        if self.cameras.is_empty() {
            return Ok(None);
        }
        let places = DeviceBuffer::from_bytes(context, &self.table())?;
        let near_places = u32::from(!self.is_wide);
        let params = CatseyeResizeParams { places: places.address(), near_places, ..params };
        Ok(Some(Launch::new(kernel, rows, params, &self.cameras, vec![places])))
    }
}

/// A place in one word, see `near_places` in `cuda/catseye.h`.
fn near(CatseyePlace { x, y }: CatseyePlace) -> u32 {
    let half = |value: i32| u32::from(u16::try_from(value.saturating_add(PLACE_ONE)).unwrap_or(u16::MAX));
    half(x) | half(y) << 16
}

fn words(words: &[u32], into: &mut Vec<u8>) {
    into.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
}

/// Where the parts of a picture are.
fn describe(camera: usize, expected: [u32; 2], picture: &DevicePicture) -> Result<CatseyePicture, WritePictureError> {
    let DevicePicture { address, bytes, width_px, height_px, format, full_range, stride_bytes } = *picture;
    let found = [width_px, height_px];
    if found != expected {
        return Err(WritePictureError::Size { camera, expected, found });
    }
    let short = |expected| WritePictureError::ShortPicture { camera, expected, found: bytes };
    let planes = format.planes(width_px, height_px, stride_bytes).ok_or_else(|| short(usize::MAX))?;
    let (expected, found) = (planes[0].row_bytes, planes[0].stride);
    if found < expected {
        return Err(WritePictureError::ShortStride { camera, expected, found });
    }
    let (starts, end) = span(planes).ok_or_else(|| short(usize::MAX))?;
    if end > bytes {
        return Err(short(end));
    }
    let starts = starts.map(|start| address.wrapping_add(start as u64));
    let row_bytes = |plane: Plane| u32::try_from(plane.stride).map_err(|_| short(usize::MAX));
    let row_bytes = [row_bytes(planes[0])?, row_bytes(planes[1])?];
    Ok(description([width_px, height_px], format, full_range, starts, row_bytes))
}

/// Where the parts of a picture are whose planes lie apart.
fn describe_planes(
    camera: usize,
    expected: [u32; 2],
    picture: &DevicePlanes,
) -> Result<CatseyePicture, WritePictureError> {
    let DevicePlanes { planes, width_px, height_px, format, full_range } = *picture;
    let found = [width_px, height_px];
    if found != expected {
        return Err(WritePictureError::Size { camera, expected, found });
    }
    let strides = planes.map(|plane| plane.stride_bytes);
    let refused = WritePictureError::Strides { camera, found: strides };
    let packed = format.planes(width_px, height_px, None).ok_or_else(|| refused.clone())?;
    let mut row_bytes = [0; 3];
    for (number, (packed, plane)) in packed.iter().zip(&planes).enumerate() {
        let Some(rows_before_last) = packed.rows.checked_sub(1) else { continue };
        let (expected, found) = (packed.row_bytes, plane.stride_bytes);
        if found < expected {
            return Err(WritePictureError::ShortStride { camera, expected, found });
        }
        let before_last = plane.stride_bytes.checked_mul(rows_before_last);
        let expected = before_last.and_then(|bytes| bytes.checked_add(packed.row_bytes)).unwrap_or(usize::MAX);
        if plane.bytes < expected {
            return Err(WritePictureError::ShortPlane { camera, plane: number, expected, found: plane.bytes });
        }
        if let Some(row_bytes) = row_bytes.get_mut(number) {
            *row_bytes = u32::try_from(plane.stride_bytes).map_err(|_| refused.clone())?;
        }
    }
    let [first, second, third] = row_bytes;
    if format == PixelFormat::I420 && second != third {
        return Err(refused);
    }
    Ok(description(expected, format, full_range, planes.map(|plane| plane.address), [first, second]))
}

/// A picture as the kernels want it, whose planes begin at `starts`; `row_bytes` of the first plane and of the others.
fn description(
    [width, height]: [u32; 2],
    format: PixelFormat,
    full_range: bool,
    [first, second, third]: [u64; 3],
    row_bytes: [u32; 2],
) -> CatseyePicture {
    let behind = |start: u64, bytes: u64| start.wrapping_add(bytes);
    let (kind, planes) = match format {
        PixelFormat::Rgb8 => (abi::CATSEYE_PICTURE_COLOURS, [first, behind(first, 1), behind(first, 2)]),
        PixelFormat::Bgr8 => (abi::CATSEYE_PICTURE_COLOURS, [behind(first, 2), behind(first, 1), first]),
        PixelFormat::Mono8 => (abi::CATSEYE_PICTURE_GREY, [first; 3]),
        PixelFormat::Nv12 => {
            let is_even = second.is_multiple_of(2) && row_bytes[1].is_multiple_of(2);
            let kind = if is_even { abi::CATSEYE_PICTURE_NV12 } else { abi::CATSEYE_PICTURE_NV12_ODD };
            (kind, [first, second, behind(second, 1)])
        }
        PixelFormat::I420 => (abi::CATSEYE_PICTURE_I420, [first, second, third]),
        PixelFormat::Yuyv => (abi::CATSEYE_PICTURE_PACKED, [first, behind(first, 1), behind(first, 3)]),
        PixelFormat::Uyvy => (abi::CATSEYE_PICTURE_PACKED, [behind(first, 1), first, behind(first, 2)]),
    };
    // packed chroma lies in the rows of luma
    let row_bytes = if kind == abi::CATSEYE_PICTURE_PACKED { [row_bytes[0]; 2] } else { row_bytes };
    CatseyePicture { planes, row_bytes, kind, full_range: u32::from(full_range), width, height }
}

/// Where a raw picture and its settings are.
fn describe_raw(
    camera: usize,
    expected: [u32; 2],
    isp: u64,
    picture: &DeviceRawPicture,
) -> Result<CatseyePicture, WritePictureError> {
    let DeviceRawPicture { address, bytes, width_px, height_px, format, stride_bytes } = *picture;
    let found = [width_px, height_px];
    if found != expected {
        return Err(WritePictureError::Size { camera, expected, found });
    }
    let refused = |source| WritePictureError::Raw { camera, source };
    let stride = raw_stride(format, width_px, height_px, stride_bytes, bytes).map_err(refused)?;
    let too_long = |_| WritePictureError::ShortPicture { camera, expected: usize::MAX, found: bytes };
    let kind = match format {
        RawFormat::Raw10 => abi::CATSEYE_PICTURE_RAW10,
        RawFormat::Raw12 => abi::CATSEYE_PICTURE_RAW12,
        RawFormat::Raw10Packed => abi::CATSEYE_PICTURE_RAW10_PACKED,
        RawFormat::Raw12Packed => abi::CATSEYE_PICTURE_RAW12_PACKED,
    };
    Ok(CatseyePicture {
        planes: [address, isp, 0],
        row_bytes: [u32::try_from(stride).map_err(too_long)?, 0],
        kind,
        full_range: 1,
        width: width_px,
        height: height_px,
    })
}

/// Where planes begin, one behind the other, and where the last row of the last one ends.
fn span(planes: [Plane; 3]) -> Option<([usize; 3], usize)> {
    let (mut starts, mut next, mut end) = ([0; 3], 0_usize, 0);
    for (start, plane) in starts.iter_mut().zip(planes) {
        *start = next;
        let Some(rows_before_last) = plane.rows.checked_sub(1) else { continue };
        end = next.checked_add(plane.stride.checked_mul(rows_before_last)?)?.checked_add(plane.row_bytes)?;
        next = next.checked_add(plane.stride.checked_mul(plane.rows)?)?;
    }
    Some((starts, end))
}

/// Writes a picture's fields in their order.
fn write(picture: &CatseyePicture, bytes: &mut [u8]) {
    let CatseyePicture { planes, row_bytes, kind, full_range, width, height } = *picture;
    let addresses = planes.iter().flat_map(|plane| plane.to_ne_bytes());
    let words = row_bytes.into_iter().chain([kind, full_range, width, height]).flat_map(u32::to_ne_bytes);
    for (byte, value) in bytes.iter_mut().zip(addresses.chain(words)) {
        *byte = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width_px: u32, height_px: u32, format: PixelFormat, stride_bytes: Option<usize>) -> DevicePicture {
        DevicePicture { address: 0x1000, bytes: 1 << 20, width_px, height_px, format, full_range: true, stride_bytes }
    }

    fn described(picture: &DevicePicture) -> Result<CatseyePicture, WritePictureError> {
        describe(3, [picture.width_px, picture.height_px], picture)
    }

    #[test]
    fn planes_lie_where_frames_have_them() {
        let nv12 = described(&picture(5, 3, PixelFormat::Nv12, None)).unwrap();
        assert_eq!((nv12.planes, nv12.row_bytes), ([0x1000, 0x1000 + 15, 0x1000 + 16], [5, 6]));
        assert_eq!(nv12.kind, abi::CATSEYE_PICTURE_NV12_ODD, "chroma begins behind 15 bytes");
        let even = described(&picture(6, 3, PixelFormat::Nv12, None)).unwrap();
        assert_eq!((even.planes[1], even.kind), (0x1000 + 18, abi::CATSEYE_PICTURE_NV12));
        let i420 = described(&picture(5, 3, PixelFormat::I420, Some(9))).unwrap();
        assert_eq!((i420.planes, i420.row_bytes), ([0x1000, 0x1000 + 27, 0x1000 + 37], [9, 5]));
        let uyvy = described(&picture(5, 3, PixelFormat::Uyvy, Some(16))).unwrap();
        assert_eq!((uyvy.planes, uyvy.row_bytes), ([0x1001, 0x1000, 0x1002], [16, 16]));
        let bgr = described(&picture(5, 3, PixelFormat::Bgr8, None)).unwrap();
        assert_eq!((bgr.planes, bgr.row_bytes[0]), ([0x1002, 0x1001, 0x1000], 15));
    }

    #[test]
    fn pictures_that_do_not_fit_are_refused() {
        let small = picture(4, 4, PixelFormat::Rgb8, None);
        let error = describe(3, [4, 5], &small).unwrap_err().to_string();
        assert_eq!(error, "camera 3 has a picture of 4 x 4 pixels: expected 4 x 5");
        let short = described(&DevicePicture { bytes: 47, ..small }).unwrap_err();
        assert_eq!(short, WritePictureError::ShortPicture { camera: 3, expected: 48, found: 47 });
        let stride = described(&picture(4, 4, PixelFormat::Rgb8, Some(11))).unwrap_err();
        assert_eq!(stride, WritePictureError::ShortStride { camera: 3, expected: 12, found: 11 });
        let huge = described(&picture(4, 4, PixelFormat::I420, Some(usize::MAX))).unwrap_err();
        assert_eq!(huge, WritePictureError::ShortPicture { camera: 3, expected: usize::MAX, found: 1 << 20 });
        // the last row needs no bytes behind it
        assert!(described(&DevicePicture { bytes: 3 * 16 + 12, stride_bytes: Some(16), ..small }).is_ok());
    }

    fn plane(address: u64, bytes: usize, stride_bytes: usize) -> DevicePlane {
        DevicePlane { address, bytes, stride_bytes }
    }

    #[test]
    fn planes_that_lie_apart_are_found() {
        let planes = [plane(0x9000, 36, 16), plane(0x100, 14, 8), plane(0x4000, 14, 8)];
        let of = |format, planes| {
            let picture = DevicePlanes { planes, width_px: 4, height_px: 3, format, full_range: false };
            describe_planes(3, [4, 3], &picture)
        };
        let nv12 = of(PixelFormat::Nv12, planes).unwrap();
        assert_eq!((nv12.planes, nv12.row_bytes), ([0x9000, 0x100, 0x101], [16, 8]));
        let i420 = of(PixelFormat::I420, planes).unwrap();
        assert_eq!((i420.planes, i420.row_bytes), ([0x9000, 0x100, 0x4000], [16, 8]));
        let yuyv = of(PixelFormat::Yuyv, [plane(0x9000, 40, 16), DevicePlane::default(), planes[2]]).unwrap();
        assert_eq!((yuyv.planes, yuyv.row_bytes), ([0x9000, 0x9001, 0x9003], [16, 16]));

        let short = of(PixelFormat::Nv12, [planes[0], plane(0x100, 11, 8), planes[2]]).unwrap_err();
        assert_eq!(short, WritePictureError::ShortPlane { camera: 3, plane: 1, expected: 12, found: 11 });
        let narrow = of(PixelFormat::Nv12, [planes[0], plane(0x100, 14, 3), planes[2]]).unwrap_err();
        assert_eq!(narrow, WritePictureError::ShortStride { camera: 3, expected: 4, found: 3 });
        let uneven = of(PixelFormat::I420, [planes[0], planes[1], plane(0x4000, 14, 9)]).unwrap_err();
        assert_eq!(uneven, WritePictureError::Strides { camera: 3, found: [16, 8, 9] });
        let far = of(PixelFormat::Mono8, [plane(0, usize::MAX, 1 << 32), planes[1], planes[2]]).unwrap_err();
        assert_eq!(far, WritePictureError::Strides { camera: 3, found: [1 << 32, 8, 8] });
        let endless = of(PixelFormat::Mono8, [plane(0, 36, usize::MAX), planes[1], planes[2]]).unwrap_err();
        let expected = usize::MAX;
        assert_eq!(endless, WritePictureError::ShortPlane { camera: 3, plane: 0, expected, found: 36 });
    }

    #[test]
    fn descriptions_are_as_long_as_the_struct() {
        let mut bytes = [0xff; PICTURE_BYTES];
        write(&described(&picture(5, 3, PixelFormat::Mono8, None)).unwrap(), &mut bytes);
        assert_eq!(bytes[32..36], abi::CATSEYE_PICTURE_GREY.to_ne_bytes());
        assert_eq!(bytes[40..], [5, 3].map(u32::to_ne_bytes).concat());
    }
}
