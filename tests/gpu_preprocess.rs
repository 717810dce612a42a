//! Preprocessing on a real device gives what the CPU gives, byte for byte. Without a device all tests say so and pass.
#![cfg(feature = "cuda")]

use std::sync::Arc;

use catseye::gpu::preprocess::{
    BatchPreprocess, BatchPreprocessError, CameraInput, DevicePicture, DevicePlane, DevicePlanes, DeviceRawPicture,
    ElementType, WritePictureError,
};
use catseye::gpu::{Context, DeviceBuffer, GpuError, Graph, HostKind, Kernels, PinnedBuffer, Priority, Stream};
use catseye::stages::preprocess::raw::{BayerPattern, Isp, RawFormat, RawPicture};
use catseye::stages::preprocess::{ChannelOrder, Fit, Layout, PreprocessError, Preprocessor, Remap};
use catseye_sensors::picture::{Frame, PixelFormat};

fn device() -> Option<Arc<Context>> {
    match Context::open(0) {
        Ok(context) => Some(context),
        Err(reason @ (GpuError::NoDriver { .. } | GpuError::NoDevice)) => {
            println!("skipped: {reason}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    fn below(&mut self, count: usize) -> usize {
        self.bits() as usize % count
    }

    fn within(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * f64::from(self.bits()) / f64::from(u32::MAX)
    }

    /// Bytes, many of them at the ends, where sums are clamped.
    fn frame(&mut self, width_px: u32, height_px: u32, format: PixelFormat, full_range: bool) -> Frame {
        let bytes = format.bytes_for(width_px, height_px).unwrap();
        let extreme = self.below(3) == 0;
        let data = (0..bytes).map(|_| {
            let bits = self.bits();
            match bits >> 28 {
                0..8 if extreme => 0,
                8..15 if extreme => 255,
                _ => bits as u8,
            }
        });
        Frame::new(width_px, height_px, format, full_range, data.collect()).unwrap()
    }

    fn format(&mut self) -> PixelFormat {
        PixelFormat::ALL[self.below(PixelFormat::ALL.len())]
    }
}

/// One camera in one tick.
struct View {
    size: [u32; 2],
    frame: Option<Frame>,
    stride_bytes: Option<usize>,
    /// Whether each plane is in memory of its own.
    apart: bool,
    remap: Option<Remap>,
    raw: Option<Raw>,
}

/// What the view's frame was developed from.
struct Raw {
    isp: Isp,
    format: RawFormat,
    bytes: Vec<u8>,
}

impl View {
    fn of(frame: Frame) -> View {
        View {
            size: [frame.width_px(), frame.height_px()],
            frame: Some(frame),
            stride_bytes: None,
            apart: false,
            remap: None,
            raw: None,
        }
    }
}

/// The frame's bytes with rows apart; what lies between is never to be seen.
fn strided(frame: &Frame, stride_bytes: Option<usize>) -> Vec<u8> {
    let packed = frame.format().planes(frame.width_px(), frame.height_px(), None).unwrap();
    let apart = frame.format().planes(frame.width_px(), frame.height_px(), stride_bytes).unwrap();
    let (mut rest, mut bytes) = (frame.data(), Vec::new());
    for (packed, apart) in packed.iter().zip(apart) {
        for _ in 0..packed.rows {
            let (row, after) = rest.split_at(packed.row_bytes);
            bytes.extend_from_slice(row);
            bytes.resize(bytes.len() + apart.stride - row.len(), 0xa5);
            rest = after;
        }
    }
    bytes
}

/// The frame's planes, each uploaded by itself with a stride of its own and nothing behind its last row.
fn apart(frame: &Frame, mut upload: impl FnMut(&[u8]) -> u64) -> DevicePlanes {
    let (width_px, height_px, format) = (frame.width_px(), frame.height_px(), frame.format());
    let packed = format.planes(width_px, height_px, None).unwrap();
    let mut planes = [DevicePlane::default(); 3];
    let mut rest = frame.data();
    for ((packed, plane), gap) in packed.iter().zip(&mut planes).zip([5, 32, 32]) {
        let (mut bytes, stride_bytes) = (Vec::new(), packed.row_bytes + gap);
        for row in 0..packed.rows {
            let (pixels, after) = rest.split_at(packed.row_bytes);
            bytes.resize(row * stride_bytes, 0xa5);
            bytes.extend_from_slice(pixels);
            rest = after;
        }
        if packed.rows > 0 {
            *plane = DevicePlane { address: upload(&bytes), bytes: bytes.len(), stride_bytes };
        }
    }
    DevicePlanes { planes, width_px, height_px, format, full_range: frame.full_range() }
}

/// The nearest half, ties to even, by its definition.
fn half(value: f32) -> u16 {
    let sign = if value.is_sign_negative() { 0x8000 } else { 0 };
    let size = f64::from(value.abs());
    if size >= 65_520.0 {
        return sign | 0x7c00;
    }
    let exponent = ((value.to_bits() >> 23 & 0xff) as i32 - 127).max(-14);
    let unit = f64::from(f32::from_bits(((127 + exponent - 10) as u32) << 23));
    let units = (size / unit).round_ties_even() as u16;
    // 2048 units carry into the exponent by themselves
    sign | ((((exponent + 14) as u16) << 10) + units)
}

/// What the batch holds for these values.
fn encoded(values: &[f32], output: ElementType) -> Vec<u8> {
    let bytes = values.iter().map(|&value| match output {
        ElementType::F32 => value.to_ne_bytes().to_vec(),
        ElementType::F16 => half(value).to_ne_bytes().to_vec(),
        ElementType::I8 { inverse_scale } => {
            vec![((value * inverse_scale).round_ties_even().clamp(-128.0, 127.0) as i8).cast_unsigned()]
        }
    });
    bytes.collect::<Vec<_>>().concat()
}

fn expected(layout: Layout, view: &View) -> Vec<f32> {
    let mut planes = vec![0.0; layout.values()];
    let Some(frame) = &view.frame else { return planes };
    let preprocessor = match &view.remap {
        None => Preprocessor::new(layout),
        Some(remap) => Preprocessor::with_remap(layout, remap.clone()),
    };
    preprocessor.unwrap().run(frame, &mut planes).unwrap();
    planes
}

/// Runs ticks, which differ in pictures alone, through one graph, and compares all of each batch.
fn compare(context: &Arc<Context>, layout: Layout, output: ElementType, ticks: &[Vec<View>]) {
    let kernels = Kernels::load(context).unwrap();
    let stream = Stream::new(context, Priority::Normal).unwrap();
    let cameras: Vec<CameraInput<'_>> = ticks[0]
        .iter()
        .map(|view| CameraInput {
            width_px: view.size[0],
            height_px: view.size[1],
            remap: view.remap.as_ref(),
            raw: view.raw.as_ref().map(|raw| &raw.isp),
        })
        .collect();
    // the guard behind the batch is never written
    let guard = 64;
    let batch_bytes = cameras.len() * layout.values() * output.bytes();
    let batch = DeviceBuffer::from_bytes(context, &vec![0xc3; batch_bytes + guard]).unwrap();
    let mut host = PinnedBuffer::new(context, cameras.len() * 48, HostKind::Pinned).unwrap();
    let descriptions = DeviceBuffer::new(context, host.len()).unwrap();
    let preprocess =
        BatchPreprocess::new(context, &kernels, &layout, &cameras, output, batch.address(), descriptions.address())
            .unwrap();
    assert_eq!(preprocess.pictures_bytes(), host.len());
    for (letterbox, view) in preprocess.letterboxes().iter().zip(&ticks[0]) {
        assert_eq!(*letterbox, layout.letterbox(view.size[0], view.size[1]).unwrap());
    }
    let graph = Graph::capture(&stream, |stream| {
        stream.upload(&host, 0..host.len(), &descriptions, 0)?;
        preprocess.enqueue(stream)
    })
    .unwrap();
    for views in ticks {
        let mut pictures = Vec::new();
        for (camera, view) in views.iter().enumerate() {
            let mut upload = |bytes: &[u8]| {
                pictures.push(DeviceBuffer::from_bytes(context, bytes).unwrap());
                pictures.last().unwrap().address()
            };
            let ([width_px, height_px], stride_bytes) = (view.size, view.stride_bytes);
            if let Some(Raw { format, bytes, .. }) = &view.raw {
                let (address, bytes) = (upload(bytes), bytes.len());
                let format = *format;
                let picture = DeviceRawPicture { address, bytes, width_px, height_px, format, stride_bytes };
                let picture = view.frame.is_some().then_some(&picture);
                preprocess.write_raw_picture(camera, picture, &mut host).unwrap();
                continue;
            }
            if view.apart {
                let picture = view.frame.as_ref().map(|frame| apart(frame, upload));
                preprocess.write_planes(camera, picture.as_ref(), &mut host).unwrap();
                continue;
            }
            let picture = view.frame.as_ref().map(|frame| {
                let bytes = strided(frame, stride_bytes);
                let (format, full_range) = (frame.format(), frame.full_range());
                let (address, bytes) = (upload(&bytes), bytes.len());
                DevicePicture { address, bytes, width_px, height_px, format, full_range, stride_bytes }
            });
            preprocess.write_picture(camera, picture.as_ref(), &mut host).unwrap();
        }
        graph.launch(&stream).unwrap();
        stream.synchronize().unwrap();
        let found = batch.to_vec().unwrap();
        let (found, behind) = found.split_at(batch_bytes);
        assert!(behind.iter().all(|&byte| byte == 0xc3), "{layout:?} {output:?}: written behind the batch");
        for ((camera, view), found) in views.iter().enumerate().zip(found.chunks_exact(batch_bytes / views.len())) {
            let expected = encoded(&expected(layout, view), output);
            let differs = found.iter().zip(&expected).position(|(found, expected)| found != expected);
            let format = view.frame.as_ref().map(|frame| (frame.format(), frame.full_range()));
            let (size, stride) = (view.size, view.stride_bytes);
            assert_eq!(differs, None, "camera {camera}: {format:?} {size:?} {stride:?} in {layout:?} as {output:?}");
        }
    }
}

const OUTPUTS: [ElementType; 3] = [ElementType::F32, ElementType::F16, ElementType::I8 { inverse_scale: 60.5 }];

const FITS: [Fit; 3] =
    [Fit::Letterbox { pad: 114, centred: true }, Fit::Letterbox { pad: 251, centred: false }, Fit::Stretch];

fn layout(width: usize, height: usize, mode: Fit, order: ChannelOrder) -> Layout {
    Layout { order, mode, ..Layout::picodet(width, height) }
}

#[test]
fn every_format_range_order_and_fit_is_that_of_the_cpu() {
    let Some(context) = device() else { return };
    let random = &mut Random(1);
    for (width, height) in [(64, 48), (63, 31), (1, 5), (2, 2), (7, 1), (514, 3)] {
        for mode in FITS {
            for order in [ChannelOrder::Rgb, ChannelOrder::Bgr] {
                let mut views = Vec::new();
                for format in PixelFormat::ALL {
                    for size in [[97, 61], [40, 90]] {
                        let full_range = random.below(2) == 0;
                        views.push(View::of(random.frame(size[0], size[1], format, full_range)));
                    }
                }
                let output = OUTPUTS[random.below(3)];
                compare(&context, layout(width, height, mode, order), output, &[views]);
            }
        }
    }
}

#[test]
fn smallest_and_odd_pictures_and_strides_hold() {
    let Some(context) = device() else { return };
    let random = &mut Random(2);
    let sizes = [[2, 2], [3, 2], [2, 3], [3, 3], [5, 2], [2, 1000], [1001, 2], [17, 19], [16_384, 2], [2, 16_384]];
    for (round, format) in PixelFormat::ALL.into_iter().cycle().take(28).enumerate() {
        let views = sizes.map(|[width, height]| {
            let mut view = View::of(random.frame(width, height, format, round % 2 == 0));
            let row_bytes = format.planes(width, height, None).unwrap()[0].row_bytes;
            view.stride_bytes = Some(row_bytes + [0, 1, 2, 13, 256][random.below(5)]);
            view
        });
        let (width, height) = [(33, 20), (16, 16), (3, 3), (128, 7)][round / 7];
        let mode = FITS[round % 3];
        compare(&context, layout(width, height, mode, ChannelOrder::Rgb), OUTPUTS[round % 3], &[Vec::from(views)]);
    }
}

#[test]
fn planes_that_lie_apart_hold() {
    let Some(context) = device() else { return };
    let random = &mut Random(10);
    for (round, size) in [[64, 40], [2, 2], [3, 2], [33, 17]].into_iter().cycle().take(12).enumerate() {
        let layout = layout(31 + round, 20, FITS[round % 3], ChannelOrder::Bgr);
        let mut views = Vec::new();
        for format in PixelFormat::ALL {
            for mapped in [false, true] {
                let mut view = View::of(random.frame(size[0], size[1], format, round % 2 == 0));
                view.apart = true;
                view.remap = mapped.then(|| remap(&layout, size, random.below(4), random));
                views.push(view);
            }
        }
        compare(&context, layout, OUTPUTS[round % 3], &[views]);
    }
}

#[test]
fn random_sizes_hold() {
    let Some(context) = device() else { return };
    let random = &mut Random(3);
    for round in 0..150 {
        let (width, height) = (1 + random.below(90), 1 + random.below(60));
        let views = (0..4).map(|_| {
            let most = if random.below(4) == 0 { 900 } else { 120 };
            let (picture_width, picture_height) = (2 + random.below(most) as u32, 2 + random.below(120) as u32);
            let (format, full_range) = (random.format(), random.below(2) == 0);
            View::of(random.frame(picture_width, picture_height, format, full_range))
        });
        let views = views.collect();
        let order = if random.below(2) == 0 { ChannelOrder::Rgb } else { ChannelOrder::Bgr };
        compare(&context, layout(width, height, FITS[round % 3], order), OUTPUTS[random.below(3)], &[views]);
    }
}

/// A map of one of four kinds: a lens, chaos, the edges, or mostly nothing.
fn remap(layout: &Layout, [width, height]: [u32; 2], kind: usize, random: &mut Random) -> Remap {
    let (w, h) = (f64::from(width), f64::from(height));
    Remap::from_fn(layout, width, height, |column, row| match kind {
        0 => {
            let x = (column as f64 + 0.5) / layout.width as f64 * 2.0 - 1.0;
            let y = (row as f64 + 0.5) / layout.height as f64 * 2.0 - 1.0;
            let radial = 1.1 - 0.2 * (x * x + y * y);
            Some([(x * radial + 1.0) * w / 2.0, (y * radial + 1.0) * h / 2.0])
        }
        1 => Some([random.within(-2.0, w + 1.0), random.within(-2.0, h + 1.0)]),
        2 => {
            let edge = |random: &mut Random, length: f64| {
                let ends =
                    [-1.0, -0.999, -0.5, -0.016, 0.0, 0.5, length - 1.5, length - 1.0, length - 0.5, length - 0.01];
                ends[random.below(ends.len())]
            };
            Some([edge(random, w), edge(random, h)])
        }
        _ => (random.below(3) == 0).then(|| [random.within(0.0, w), random.within(0.0, h)]),
    })
    .unwrap()
}

#[test]
fn maps_are_followed_as_on_the_cpu_beside_cameras_without_one() {
    let Some(context) = device() else { return };
    let random = &mut Random(4);
    for (round, (width, height)) in
        [(64, 48), (63, 31), (1, 9), (130, 5), (2, 2)].into_iter().cycle().take(20).enumerate()
    {
        let order = if round % 2 == 0 { ChannelOrder::Rgb } else { ChannelOrder::Bgr };
        let layout = layout(width, height, FITS[round % 3], order);
        let mut views = Vec::new();
        for (number, format) in PixelFormat::ALL.into_iter().enumerate() {
            let size = [[97, 61], [2, 2], [3, 2], [40, 31]][(number + round) % 4];
            let mut view = View::of(random.frame(size[0], size[1], format, round % 3 == 0));
            if (number + round) % 3 != 0 {
                view.remap = Some(remap(&layout, size, (number + round / 2) % 4, random));
            }
            views.push(view);
        }
        compare(&context, layout, OUTPUTS[round % 3], &[views]);
    }
}

/// A raw camera's view, with settings that reach the ends of all ranges.
fn raw_view(size: [u32; 2], format: RawFormat, pattern: BayerPattern, random: &mut Random) -> View {
    let [width_px, height_px] = size;
    let mut isp = Isp::new(pattern);
    if random.below(3) != 0 {
        isp.black_level = [0, 64, 240, 4094][random.below(4)];
        isp.gains = [0; 3].map(|_: u16| [0, 200, 256, 533, 4096][random.below(5)]);
        isp.matrix = [[0; 3]; 3].map(|row: [i16; 3]| row.map(|_| (random.bits() >> 20) as i16 - 2048));
        isp.matrix[0][0] = [i16::MIN, i16::MAX, 1024][random.below(3)];
        isp.curve.iter_mut().for_each(|byte| *byte = random.bits() as u8);
    }
    let stride = format.row_bytes(width_px) + [0, 0, 1, 7][random.below(4)];
    let bytes: Vec<u8> = (0..stride * height_px as usize)
        .map(|index| match format {
            // mostly samples of the format, some with bits above
            RawFormat::Raw10 | RawFormat::Raw12 if index % 2 == 1 && random.below(50) != 0 => random.bits() as u8 & 0xf,
            _ => random.bits() as u8,
        })
        .collect();
    let mut frame = Frame::default();
    let picture = RawPicture { bytes: &bytes, width_px, height_px, format, stride_bytes: Some(stride) };
    isp.develop(&picture, &mut frame).unwrap();
    View { stride_bytes: Some(stride), raw: Some(Raw { isp, format, bytes }), ..View::of(frame) }
}

#[test]
fn raw_pictures_are_developed_as_on_the_cpu() {
    let Some(context) = device() else { return };
    let random = &mut Random(8);
    let sizes = [[64, 48], [2, 2], [3, 2], [2, 5], [33, 17], [40, 31]];
    for (round, pattern) in BayerPattern::ALL.into_iter().cycle().take(24).enumerate() {
        let (width, height) = [(32, 24), (33, 31), (1, 9), (70, 50)][round % 4];
        let layout = layout(width, height, FITS[round % 3], ChannelOrder::Bgr);
        let mut views = Vec::new();
        for format in RawFormat::ALL {
            for mapped in [false, true] {
                let size = sizes[random.below(sizes.len())];
                let mut view = raw_view(size, format, pattern, random);
                view.remap = mapped.then(|| remap(&layout, size, random.below(4), random));
                views.push(view);
            }
        }
        views.push(View::of(random.frame(50, 30, PixelFormat::Nv12, false)));
        compare(&context, layout, OUTPUTS[round % 3], &[views]);
    }
}

#[test]
fn raw_pictures_of_cars_hold_beside_absent_ones() {
    let Some(context) = device() else { return };
    let random = &mut Random(9);
    let layout = Layout::yolov8(640, 384);
    let mut views = Vec::new();
    for format in RawFormat::ALL {
        views.push(raw_view([1936, 1096], format, BayerPattern::Grbg, random));
        views.push(View { frame: None, ..raw_view([64, 48], format, BayerPattern::Rggb, random) });
    }
    compare(&context, layout, ElementType::F16, &[views]);
}

#[test]
fn formats_and_presence_change_from_tick_to_tick() {
    let Some(context) = device() else { return };
    let random = &mut Random(5);
    for output in OUTPUTS {
        let layout = layout(48, 32, FITS[0], ChannelOrder::Bgr);
        let sizes = [[64, 40], [31, 33], [97, 12], [50, 50]];
        let maps: Vec<_> =
            sizes.iter().enumerate().map(|(k, size)| (k % 2 == 1).then(|| remap(&layout, *size, k, random))).collect();
        let ticks: Vec<Vec<View>> = (0..12)
            .map(|_| {
                let views = sizes.iter().zip(&maps).map(|(&size, map)| {
                    let (format, full_range) = (random.format(), random.below(2) == 0);
                    let frame = (random.below(4) != 0).then(|| random.frame(size[0], size[1], format, full_range));
                    View { size, frame, stride_bytes: None, apart: false, remap: map.clone(), raw: None }
                });
                views.collect()
            })
            .collect();
        compare(&context, layout, output, &ticks);
    }
}

#[test]
fn pictures_of_cars_hold() {
    let Some(context) = device() else { return };
    let random = &mut Random(6);
    let presets = [Layout::yolox(640, 384), Layout::yolov8(640, 384), Layout::picodet(416, 416)];
    for (number, layout) in presets.into_iter().enumerate() {
        let mut views = Vec::new();
        for size in [[1920, 1208], [3840, 2160], [1280, 960], [640, 384]] {
            let format = [PixelFormat::Nv12, PixelFormat::Uyvy, PixelFormat::I420][number];
            views.push(View::of(random.frame(size[0], size[1], format, false)));
        }
        let lens = remap(&layout, [1920, 1208], 0, random);
        let frame = random.frame(1920, 1208, PixelFormat::Rgb8, true);
        views.push(View { remap: Some(lens), ..View::of(frame) });
        compare(&context, layout, OUTPUTS[number], &[views]);
    }
}

#[test]
fn values_out_of_the_types_range_are_held_at_its_ends() {
    let Some(context) = device() else { return };
    let random = &mut Random(7);
    let ranges = [([1.0; 3], [0.0; 3]), ([1e38, -1e36, 500.0], [3e38, -1e38, -1e5]), ([1e-7, 3e-8, -1e-6], [0.0; 3])];
    for (scale, bias) in ranges {
        for output in OUTPUTS {
            let layout = Layout { scale, bias, ..Layout::yolox(20, 12) };
            let frame = random.frame(40, 30, PixelFormat::Rgb8, true);
            compare(&context, layout, output, &[vec![View::of(frame)]]);
        }
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let Some(context) = device() else { return };
    let kernels = Kernels::load(&context).unwrap();
    let layout = Layout::yolox(20, 12);
    let buffer = DeviceBuffer::new(&context, 4096).unwrap();
    let make = |cameras: &[CameraInput<'_>], output, address| {
        BatchPreprocess::new(&context, &kernels, &layout, cameras, output, address, buffer.address())
    };
    let camera = CameraInput { width_px: 40, height_px: 30, remap: None, raw: None };
    let of = |result: Result<BatchPreprocess, BatchPreprocessError>| result.map(|_| ()).unwrap_err();
    let address = buffer.address();
    assert_eq!(of(make(&[], ElementType::F32, address)), BatchPreprocessError::Cameras { found: 0 });
    assert_eq!(of(make(&[camera; 65], ElementType::F32, address)), BatchPreprocessError::Cameras { found: 65 });
    let zero = ElementType::I8 { inverse_scale: 0.0 };
    assert_eq!(of(make(&[camera], zero, address)), BatchPreprocessError::InverseScale { found: 0.0 });
    assert!(matches!(of(make(&[camera], ElementType::F32, address + 4)), BatchPreprocessError::Alignment { .. }));
    let narrow = CameraInput { width_px: 1, ..camera };
    let source = PreprocessError::PictureSize { width_px: 1, height_px: 30 };
    assert_eq!(
        of(make(&[camera, narrow], ElementType::F32, address)),
        BatchPreprocessError::Camera { camera: 1, source }
    );
    let other = Remap::from_fn(&layout, 41, 30, |_, _| None).unwrap();
    let mapped = CameraInput { remap: Some(&other), ..camera };
    let source = PreprocessError::MapPicture { expected: [41, 30], found: [40, 30] };
    assert_eq!(of(make(&[mapped], ElementType::F32, address)), BatchPreprocessError::Camera { camera: 0, source });

    let preprocess = make(&[camera], ElementType::F32, address).unwrap();
    let mut bytes = vec![0xff; preprocess.pictures_bytes()];
    let short = preprocess.write_picture(0, None, &mut bytes[..40]).unwrap_err();
    assert_eq!(short, WritePictureError::Length { expected: 48, found: 40 });
    let nobody = preprocess.write_picture(1, None, &mut bytes).unwrap_err();
    assert_eq!(nobody, WritePictureError::NoCamera { camera: 1, cameras: 1 });
    let picture = DevicePicture {
        address,
        bytes: 4096,
        width_px: 30,
        height_px: 40,
        format: PixelFormat::Mono8,
        full_range: true,
        stride_bytes: None,
    };
    let turned = preprocess.write_picture(0, Some(&picture), &mut bytes).unwrap_err();
    assert_eq!(turned, WritePictureError::Size { camera: 0, expected: [40, 30], found: [30, 40] });
    assert!(bytes.iter().all(|&byte| byte == 0), "a refused picture is none");
    let format = RawFormat::Raw12;
    let raw = DeviceRawPicture { address, bytes: 4096, width_px: 40, height_px: 30, format, stride_bytes: None };
    let other = preprocess.write_raw_picture(0, Some(&raw), &mut bytes).unwrap_err();
    assert_eq!(other, WritePictureError::Kind { camera: 0, is_raw: false });
}
