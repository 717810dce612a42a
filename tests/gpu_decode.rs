//! Decoding and digests on a real device give what the CPU gives, byte for byte and in the same order. Without a device
//! all tests say so and pass.
#![cfg(feature = "cuda")]

use std::sync::Arc;

use catseye::gpu::abi::{self, CatseyeMathParams};
use catseye::gpu::decode::{DecodeAddresses, DecodePlan, HeadDecode, ResultReader, Thresholds};
use catseye::gpu::digest::{DeviceDigest, DeviceValue, ValueKind, read_digests};
use catseye::gpu::{Context, DeviceBuffer, GpuError, Graph, Kernels, Priority, Stream};
use catseye::math::{exp_f32, sigmoid_f32};
use catseye::messages::{CameraDetections, MAX_DETECTIONS};
use catseye::record::Record;
use catseye::runtime::digest::{digest_bytes, digest_f32};
use catseye::stages::decode::{Head, Masks, View};
use catseye::stages::infer::{Tensor, TensorSpec};
use catseye::stages::preprocess::Letterbox;

/// One letterbox per camera, none like the other.
const LETTERBOXES: [Letterbox; 3] = [
    Letterbox { scale_x: 0.5, scale_y: 0.5, pad_left: 0.0, pad_top: 0.0 },
    Letterbox { scale_x: 0.333_333_34, scale_y: 0.333_333_34, pad_left: 0.0, pad_top: 12.0 },
    Letterbox { scale_x: 0.216_666_67, scale_y: 0.385_185_18, pad_left: 3.0, pad_top: 0.0 },
];

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

    /// From 0 to 1.
    fn unit(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / (1 << 24) as f32
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.bits().is_multiple_of(count)
    }
}

/// What a test fills outputs with.
#[derive(Clone, Copy, Debug)]
enum Fill {
    /// Few anchors pass.
    Few,
    /// Many do, and scores come in steps, so that there are ties.
    Ties,
    /// All do.
    All,
    /// Any bit patterns, and many values that are not finite.
    Wild,
}

const FILLS: [Fill; 4] = [Fill::Few, Fill::Ties, Fill::All, Fill::Wild];

impl Fill {
    fn score(self, random: &mut Random) -> f32 {
        match self {
            Fill::Few => {
                if random.one_in(200) {
                    random.unit()
                } else {
                    random.unit() * 0.1
                }
            }
            Fill::Ties => (random.bits() % 9) as f32 / 8.0,
            Fill::All => 0.6 + 0.4 * random.unit(),
            Fill::Wild => self.wild(random, 1.0),
        }
    }

    /// A coordinate or a logit up to `most` in size.
    fn number(self, random: &mut Random, most: f32) -> f32 {
        match self {
            Fill::Wild => self.wild(random, most),
            _ => (random.unit() * 2.0 - 1.0) * most,
        }
    }

    fn wild(self, random: &mut Random, most: f32) -> f32 {
        match random.bits() % 16 {
            0 => f32::NAN,
            1 => f32::INFINITY,
            2 => f32::NEG_INFINITY,
            3 => f32::from_bits(random.bits()),
            4 => -0.0,
            5 => f32::from_bits(random.bits() & 0x807f_ffff),
            _ => random.unit() * most,
        }
    }
}

/// One network, ready to be compared.
struct Case {
    head: Head,
    width: usize,
    height: usize,
    specs: Vec<TensorSpec>,
    outputs: Vec<Tensor>,
}

fn cells(width: usize, height: usize, strides: &[usize]) -> usize {
    strides.iter().map(|stride| width.div_ceil(*stride) * height.div_ceil(*stride)).sum()
}

/// A tensor of `[rows, parts, values]` whose values are made one by one from their place within a row.
fn tensor(shape: &[usize], mut value: impl FnMut(usize) -> f32) -> Tensor {
    let row: usize = shape.iter().skip(1).product();
    let data = (0..shape.iter().product::<usize>()).map(|index| value(index % row)).collect();
    Tensor { shape: heapless::Vec::from_slice(shape).unwrap(), data }
}

fn spec(name: &str, tensor: &Tensor) -> TensorSpec {
    TensorSpec { name: name.to_owned(), shape: tensor.shape.iter().map(|size| Some(*size)).collect() }
}

fn mask_logits(rows: usize, width: usize, height: usize, fill: Fill, random: &mut Random) -> Tensor {
    let mut level = 1.0;
    tensor(&[rows, 2, height, width], |place| {
        if place < width * height {
            return if matches!(fill, Fill::Wild) { fill.wild(random, 1.0) } else { 0.0 };
        }
        // runs of some length, and long columns in the lower half
        if random.one_in(if matches!(fill, Fill::Ties) { 4 } else { 40 }) {
            level = -level;
        }
        match fill {
            Fill::All => 1.0,
            Fill::Wild => fill.wild(random, 1.0),
            _ => level,
        }
    })
}

fn yolov8_output(rows: usize, anchors: usize, fill: Fill, random: &mut Random) -> Tensor {
    tensor(&[rows, 4 + 5, anchors], |place| match place / anchors {
        0 | 1 => fill.number(random, 200.0),
        2 | 3 => fill.number(random, 60.0).abs(),
        _ => fill.score(random),
    })
}

fn case(head: Head, rows: usize, [width, height]: [usize; 2], fill: Fill, seed: u64) -> Case {
    let random = &mut Random(seed);
    let to_32 = cells(width, height, &[8, 16, 32]);
    let to_64 = cells(width, height, &[8, 16, 32, 64]);
    let mut names: Vec<&str> = vec!["output"; 8];
    let outputs = match head {
        Head::Yolox => vec![tensor(&[rows, to_32, 5 + 4], |place| match place % 9 {
            0..=3 => fill.number(random, 3.0),
            _ => fill.score(random),
        })],
        Head::YoloV5 => vec![tensor(&[rows, 3 * if seed.is_multiple_of(2) { to_32 } else { to_64 }, 5 + 3], |place| {
            match place % 8 {
                0 | 1 => fill.number(random, 300.0),
                2 | 3 => fill.number(random, 90.0).abs(),
                _ => fill.score(random),
            }
        })],
        Head::YoloV8 => vec![yolov8_output(rows, if seed.is_multiple_of(2) { to_32 } else { to_64 }, fill, random)],
        Head::FastestDet => {
            let (columns, lines) = (width.div_ceil(16), height.div_ceil(16));
            vec![tensor(&[rows, 5 + 3, lines, columns], |place| match place / (columns * lines) {
                1..=4 => fill.number(random, 4.0),
                _ => fill.score(random),
            })]
        }
        Head::PicoDet => {
            let strides: &[usize] = if seed.is_multiple_of(2) { &[8, 16, 32, 64] } else { &[8, 16, 32] };
            let counts: Vec<usize> = strides.iter().map(|stride| cells(width, height, &[*stride])).collect();
            let scores: Vec<_> =
                counts.iter().map(|cells| tensor(&[rows, *cells, 6], |_| fill.score(random))).collect();
            let sides = counts.iter().map(|cells| tensor(&[rows, *cells, 4 * 8], |_| fill.number(random, 5.0)));
            scores.into_iter().chain(sides).collect()
        }
        Head::RtDetr if seed.is_multiple_of(2) => {
            vec![tensor(
                &[rows, 300, 4 + 5],
                |place| if place % 9 < 4 { fill.number(random, 1.0) } else { fill.score(random) },
            )]
        }
        Head::RtDetr => {
            names = vec!["pred_boxes", "logits"];
            vec![
                tensor(&[rows, 300, 4], |_| fill.number(random, 1.0)),
                tensor(&[rows, 300, 5], |_| fill.number(random, 6.0)),
            ]
        }
        Head::TwinLiteNet => {
            names = vec!["ll", "da"];
            vec![mask_logits(rows, width, height, fill, random), mask_logits(rows, width, height, fill, random)]
        }
        Head::Multitask => {
            names = vec!["da", "objects", "ll"];
            vec![
                mask_logits(rows, width, height, fill, random),
                yolov8_output(rows, to_32, fill, random),
                mask_logits(rows, width, height, fill, random),
            ]
        }
    };
    let specs = names.iter().zip(&outputs).map(|(name, output)| spec(name, output)).collect();
    Case { head, width, height, specs, outputs }
}

/// A flat road under a camera, in picture pixels.
fn ground([u, v]: [f64; 2]) -> Option<[f64; 2]> {
    let down = (v - 150.0) / 400.0 + 0.02;
    (down > 1e-6).then(|| [1.8 + 1.4 / down, -(u - 320.0) / 400.0 * 1.4 / down])
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

fn encoded(seen: &CameraDetections) -> Vec<u8> {
    let mut bytes = Vec::new();
    seen.encode(&mut bytes);
    bytes
}

/// Decodes on both sides, twice on the device, and compares all that is seen; gives how many objects there were.
fn compare(context: &Arc<Context>, case: &Case, thresholds: Thresholds, absent: Option<usize>) -> usize {
    let Case { head, width, height, specs, outputs } = case;
    let kernels = Kernels::load(context).unwrap();
    let stream = Stream::new(context, Priority::Normal).unwrap();
    let shapes: Vec<&[usize]> = outputs.iter().map(|output| output.shape.as_slice()).collect();
    let plan = DecodePlan::new(*head, *width, *height, specs, &shapes).unwrap();
    let tensors: Vec<DeviceBuffer> =
        outputs.iter().map(|output| DeviceBuffer::from_bytes(context, &bytes_of(&output.data)).unwrap()).collect();
    let room = |bytes: usize| DeviceBuffer::from_bytes(context, &vec![0xa5; bytes.max(1)]).unwrap();
    let (workspace, results, masks) =
        (room(plan.workspace_bytes()), room(plan.result_bytes()), room(plan.mask_bytes()));
    let present: Vec<u8> = (0..plan.rows()).flat_map(|row| u32::from(absent != Some(row)).to_ne_bytes()).collect();
    let present = DeviceBuffer::from_bytes(context, &present).unwrap();
    let addresses = DecodeAddresses {
        outputs: &tensors.iter().map(DeviceBuffer::address).collect::<Vec<_>>(),
        present: absent.map(|_| present.address()),
        workspace: workspace.address(),
        results: results.address(),
        masks: masks.address(),
    };
    let decode = HeadDecode::new(context, &kernels, &plan, thresholds, &LETTERBOXES, addresses).unwrap();
    let graph = Graph::capture(&stream, |stream| decode.enqueue(stream)).unwrap();
    graph.launch(&stream).unwrap();
    stream.synchronize().unwrap();
    let home = results.to_vec().unwrap();
    graph.launch(&stream).unwrap();
    stream.synchronize().unwrap();
    assert!(home == results.to_vec().unwrap(), "{head:?}: a second run gives other bytes");
    let masks_home = masks.to_vec().unwrap();

    let mut reader = ResultReader::new(&plan);
    let mut decoder = head.decoder(*width, *height, specs);
    let mut objects = 0;
    for (row, letterbox) in LETTERBOXES.into_iter().enumerate().take(plan.rows()) {
        let view = View {
            letterbox,
            score_threshold: thresholds.score,
            iou_threshold: thresholds.iou,
            max_detections: thresholds.max_detections,
            ground_from_picture: Some(&ground),
        };
        let (mut expected, mut found) = (CameraDetections::default(), CameraDetections::default());
        decoder.decode(outputs, row, &view, &mut expected).unwrap();
        if absent == Some(row) {
            expected.objects.clear();
        }
        reader.read(&home, row, &view, &mut found).unwrap();
        assert_eq!(found, expected, "{head:?} {width}x{height}, row {row}");
        assert!(encoded(&found) == encoded(&expected), "{head:?}, row {row}: equal numbers of other bits");
        if let Some(expected) = decoder.masks() {
            let mut found = Masks::default();
            assert!(reader.read_masks(&masks_home, row, &mut found));
            assert!(found == *expected, "{head:?}, row {row}: masks differ");
        }
        objects += found.objects.len();
    }
    objects
}

fn thresholds(score: f32, iou: f32) -> Thresholds {
    Thresholds { score, iou, max_detections: MAX_DETECTIONS }
}

#[test]
fn every_head_sees_what_the_cpu_sees() {
    let Some(context) = device() else { return };
    for head in Head::ALL {
        for (number, fill) in FILLS.into_iter().enumerate() {
            for (size, seed) in [([416, 416], 1), ([328, 200], 2), ([97, 61], 3), ([352, 640], 4)] {
                let case = case(head, 3, size, fill, seed + 4 * number as u64);
                let objects = compare(&context, &case, thresholds(0.3, 0.45), None);
                println!("{} {size:?} {fill:?}: {objects} objects", head.name());
                if matches!(fill, Fill::All) && head != Head::TwinLiteNet {
                    assert!(objects > 0, "{head:?} {size:?}");
                }
            }
        }
    }
}

/// Small enough for tools that follow every access to shared memory.
#[test]
fn a_small_picture_of_every_head() {
    let Some(context) = device() else { return };
    for head in Head::ALL {
        compare(&context, &case(head, 1, [97, 61], Fill::Ties, 5), thresholds(0.3, 0.45), None);
    }
}

#[test]
fn thresholds_limits_and_absent_pictures_hold() {
    let Some(context) = device() else { return };
    for fill in FILLS {
        let case = case(Head::YoloV8, 3, [328, 200], fill, 2);
        for score in [-1.0, 0.0, 0.5, 0.999, f32::NAN] {
            for iou in [-1.0, 0.0, 0.7, 1.0, f32::INFINITY, f32::NAN] {
                compare(&context, &case, thresholds(score, iou), Some(1));
            }
        }
        for max_detections in [0, 1, 5, 127, 128, 1000] {
            compare(&context, &case, Thresholds { score: 0.1, iou: 0.9, max_detections }, None);
        }
    }
}

#[test]
fn all_anchors_of_a_large_network_may_pass() {
    let Some(context) = device() else { return };
    // 25 200 and 102 000 anchors: sorted through the workspace
    for (size, seed) in [([640, 640], 2), ([1280, 1280], 1)] {
        for fill in [Fill::All, Fill::Ties] {
            let case = case(Head::YoloV5, 2, size, fill, seed);
            for iou in [0.0, 0.45, 2.0] {
                let objects = compare(&context, &case, thresholds(0.01, iou), None);
                println!("{size:?} {fill:?} {iou}: {objects} objects");
            }
        }
    }
}

/// Runs `catseye_math` over bit patterns and compares with the CPU's function.
fn compare_math(context: &Arc<Context>, function: u32, positive: bool, of_cpu: impl Fn(f32) -> f32) {
    const COUNT: u32 = 1 << 22;
    let kernel = Kernels::load(context).unwrap().get("catseye_math").unwrap();
    let stream = Stream::new(context, Priority::Normal).unwrap();
    let target = DeviceBuffer::new(context, 4 * COUNT as usize).unwrap();
    // 2^22 steps of 1009 go round the patterns almost once
    let (first, step) = if positive { (1, 509) } else { (0, 1009) };
    let params = CatseyeMathParams { target: target.address(), count: COUNT, first, step, function };
    stream.launch(&kernel, [COUNT / 256, 1, 1], [256, 1, 1], 0, &params).unwrap();
    stream.synchronize().unwrap();
    let found = target.to_vec().unwrap();
    for (index, bytes) in (0..COUNT).zip(found.as_chunks::<4>().0) {
        let x = f32::from_bits(first.wrapping_add(index.wrapping_mul(step)));
        if positive && (x.is_nan() || x <= 0.0) {
            continue;
        }
        let (found, expected) = (f32::from_ne_bytes(*bytes), of_cpu(x));
        let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
        assert!(same, "function {function} of {x:e}: {found:e} instead of {expected:e}");
    }
}

#[test]
fn functions_give_the_bits_of_the_cpu() {
    let Some(context) = device() else { return };
    compare_math(&context, abi::CATSEYE_MATH_EXP, false, exp_f32);
    compare_math(&context, abi::CATSEYE_MATH_SIGMOID, false, sigmoid_f32);
    compare_math(&context, abi::CATSEYE_MATH_TANH, false, libm::tanhf);
    compare_math(&context, abi::CATSEYE_MATH_POW_06, true, |x| libm::powf(x, 0.6));
    compare_math(&context, abi::CATSEYE_MATH_POW_04, true, |x| libm::powf(x, 0.4));
}

/// A half's value, by its definition.
fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    let two_to = |power: i32| f32::from_bits(((127 + power) as u32) << 23);
    match (exponent, fraction) {
        (31, 0.0) => sign * f32::INFINITY,
        (31, _) => f32::NAN,
        (0, _) => sign * fraction * two_to(-24),
        _ => sign * (1.0 + fraction / 1024.0) * two_to(exponent - 15),
    }
}

#[test]
fn digests_are_those_of_the_cpu() {
    let Some(context) = device() else { return };
    let kernels = Kernels::load(&context).unwrap();
    let stream = Stream::new(&context, Priority::Normal).unwrap();
    let random = &mut Random(7);
    let lengths =
        [0, 1, 3, 4, 5, 7, 8, 31, 32, 33, 47, 1023, 1024, 1025, 2047, 4095, 4096, 4097, 8191, 12_288, 100_003];
    let (mut values, mut buffers, mut expected) = (Vec::new(), Vec::new(), Vec::new());
    let mut add = |data: Vec<u8>, count: usize, kind: ValueKind, digest: u64| {
        // never empty, so that there is an address
        let padded = [data, vec![0xee; 8]].concat();
        let buffer = DeviceBuffer::from_bytes(&context, &padded).unwrap();
        values.push(DeviceValue { address: buffer.address(), count, kind });
        buffers.push(buffer);
        expected.push(digest);
    };
    for count in lengths.into_iter().chain([3_500_001]) {
        let bytes: Vec<u8> = (0..count).map(|_| random.bits() as u8).collect();
        let digest = digest_bytes(&bytes);
        add(bytes, count, ValueKind::Bytes, digest);
        let floats: Vec<f32> = (0..count).map(|_| Fill::Wild.wild(random, 1.0)).collect();
        add(bytes_of(&floats), count, ValueKind::F32, digest_f32(&floats));
        let halves: Vec<u16> = (0..count).map(|_| random.bits() as u16).collect();
        let floats: Vec<f32> = halves.iter().map(|bits| half(*bits)).collect();
        let bytes = halves.iter().flat_map(|bits| bits.to_ne_bytes()).collect();
        add(bytes, count, ValueKind::F16, digest_f32(&floats));
    }
    let workspace = DeviceBuffer::new(&context, DeviceDigest::workspace_bytes(&values)).unwrap();
    let results = DeviceBuffer::new(&context, DeviceDigest::result_bytes(&values)).unwrap();
    let digest = DeviceDigest::new(&kernels, &values, workspace.address(), results.address()).unwrap();
    let graph = Graph::capture(&stream, |stream| digest.enqueue(stream)).unwrap();
    for _ in 0..2 {
        graph.launch(&stream).unwrap();
        stream.synchronize().unwrap();
        let home = results.to_vec().unwrap();
        for ((value, found), expected) in values.iter().zip(read_digests(&home)).zip(&expected) {
            assert_eq!(found, *expected, "{} of {:?}", value.count, value.kind);
        }
    }
}
