//! Preprocessing the pictures of twelve cameras on the GPU, against the time that their bytes take at the least.
//!
//! Pictures become a batch of 3 x 384 x 640 in half precision. The bound counts the unique 32-byte sectors of the pictures that
//! bilinear interpolation has to read, and the bytes that are written; its time is that of the device's own copy of as many
//! bytes. Both go round buffers of at least 512 MB together, since a smaller set would stay in the cache, and both are
//! launched as graphs, in rounds that take turns; medians are told. It needs a GPU.
//!
//! `cargo bench --features cuda --bench gpu_preprocess -- [--rounds N] [--json FILE]`

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use catseye::gpu::preprocess::{
    BatchPreprocess, CameraInput, DevicePicture, DeviceRawPicture, ElementType, PICTURE_BYTES,
};
use catseye::gpu::{Context, DeviceBuffer, Event, Graph, Kernels, Priority, Stream};
use catseye::stages::preprocess::raw::{BayerPattern, Isp, RawFormat};
use catseye::stages::preprocess::{Layout, Remap};
use catseye_sensors::picture::PixelFormat;
use clap::Parser;
use serde_json::json;

const CAMERAS: usize = 12;
const NETWORK: [usize; 2] = [640, 384];
/// All buffers of one case together have at least this size.
const LEAST_BYTES: usize = 512 << 20;
const SECTOR_BYTES: u64 = 32;

#[derive(Parser)]
struct Arguments {
    /// Rounds, in which the kernels and the copy take turns.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Where the figures go as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Cargo says it.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Case {
    Nv12,
    Nv12Undistorted,
    Raw12,
}

impl Case {
    fn name(self) -> &'static str {
        match self {
            Case::Nv12 => "NV12 1920x1208",
            Case::Nv12Undistorted => "NV12 1920x1208, undistorted",
            Case::Raw12 => "RAW12 in 16 bits 3848x2168",
        }
    }

    fn size_px(self) -> [u32; 2] {
        if self == Case::Raw12 { [3848, 2168] } else { [1920, 1208] }
    }

    fn picture_bytes(self) -> usize {
        let [width, height] = self.size_px();
        match self {
            Case::Raw12 => 2 * width as usize * height as usize,
            _ => PixelFormat::Nv12.bytes_for(width, height).unwrap_or(0),
        }
    }

    /// Where a pixel of the network's input lies in the picture.
    fn place(self, column: usize, row: usize) -> [f64; 2] {
        let [width, height] = self.size_px().map(f64::from);
        let [x, y] = [
            (column as f64 + 0.5) * width / NETWORK[0] as f64 - 0.5,
            (row as f64 + 0.5) * height / NETWORK[1] as f64 - 0.5,
        ];
        if self != Case::Nv12Undistorted {
            return [x, y];
        }
        // the barrel of a lens of 120 degrees or so
        let [u, v] = [(x - width / 2.0) / width, (y - height / 2.0) / width];
        let radial = 1.0 - 0.35 * (u * u + v * v);
        [width / 2.0 + width * u * radial, height / 2.0 + width * v * radial]
    }

    /// Sectors of one picture that interpolation cannot do without.
    fn sectors(self) -> u64 {
        let [width, height] = self.size_px().map(i64::from);
        let mut sectors = BTreeSet::new();
        let mut read = |at: i64| sectors.insert(at as u64 / SECTOR_BYTES);
        for row in 0..NETWORK[1] {
            for column in 0..NETWORK[0] {
                let [x, y] = self.place(column, row).map(|value| value.floor() as i64);
                // a raw pixel takes its colours from its neighbours
                let around = if self == Case::Raw12 { 1 } else { 0 };
                for y in (y - around..=y + 1 + around).filter(|y| (0..height).contains(y)) {
                    for x in (x - around..=x + 1 + around).filter(|x| (0..width).contains(x)) {
                        if self == Case::Raw12 {
                            read(2 * (y * width + x));
                        } else {
                            read(y * width + x);
                            read(width * height + (y / 2) * width + x / 2 * 2);
                        }
                    }
                }
            }
        }
        sectors.len() as u64
    }
}

/// One set of buffers: pictures of all cameras, and their batch.
struct Set {
    preprocess: BatchPreprocess,
    _buffers: Vec<DeviceBuffer>,
}

fn set(context: &Arc<Context>, kernels: &Kernels, case: Case, seed: u8) -> Result<Set, Box<dyn std::error::Error>> {
    let layout = Layout::twinlitenet(NETWORK[0], NETWORK[1]);
    let [width_px, height_px] = case.size_px();
    let isp = Isp::new(BayerPattern::Rggb);
    let remap = (case == Case::Nv12Undistorted)
        .then(|| Remap::from_fn(&layout, width_px, height_px, |column, row| Some(case.place(column, row))))
        .transpose()?;
    let raw = (case == Case::Raw12).then_some(&isp);
    let camera = CameraInput { width_px, height_px, remap: remap.as_ref(), raw };
    let bytes = case.picture_bytes();
    let output = DeviceBuffer::new(context, CAMERAS * layout.values() * 2)?;
    let table = DeviceBuffer::new(context, CAMERAS * PICTURE_BYTES)?;
    let preprocess = BatchPreprocess::new(
        context,
        kernels,
        &layout,
        &[camera; CAMERAS],
        ElementType::F16,
        output.address(),
        table.address(),
    )?;
    let mut descriptions = vec![0; CAMERAS * PICTURE_BYTES];
    let mut buffers = Vec::new();
    for camera in 0..CAMERAS {
        let byte = |at: usize| ((at as u64 * 2_654_435_761) >> 13) as u8 ^ seed;
        // the high byte of a raw sample holds four bits
        let mask = |at: usize| if case == Case::Raw12 && at % 2 == 1 { 0x0f } else { 0xff };
        let noise = (0..bytes).map(|at| byte(at) & mask(at)).collect::<Vec<u8>>();
        let picture = DeviceBuffer::from_bytes(context, &noise)?;
        let address = picture.address();
        if case == Case::Raw12 {
            let format = RawFormat::Raw12;
            let raw = DeviceRawPicture { address, bytes, width_px, height_px, format, stride_bytes: None };
            preprocess.write_raw_picture(camera, Some(&raw), &mut descriptions)?;
        } else {
            let format = PixelFormat::Nv12;
            let nv12 =
                DevicePicture { address, bytes, width_px, height_px, format, full_range: false, stride_bytes: None };
            preprocess.write_picture(camera, Some(&nv12), &mut descriptions)?;
        }
        buffers.push(picture);
    }
    table.upload_now(0, &descriptions)?;
    buffers.extend([output, table]);
    Ok(Set { preprocess, _buffers: buffers })
}

/// Milliseconds of one launch of a graph.
fn time(graph: &Graph, stream: &Stream, events: &[Event; 2]) -> Result<f64, Box<dyn std::error::Error>> {
    stream.record(&events[0])?;
    graph.launch(stream)?;
    stream.record(&events[1])?;
    events[1].synchronize()?;
    Ok(f64::from(events[1].elapsed_ms(&events[0])?))
}

fn measure(
    context: &Arc<Context>,
    kernels: &Kernels,
    case: Case,
    rounds: usize,
) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let written = (CAMERAS * 3 * NETWORK[0] * NETWORK[1] * 2) as u64;
    let read = case.sectors() * SECTOR_BYTES * CAMERAS as u64;
    let per_set = CAMERAS * case.picture_bytes() + written as usize;
    let sets = LEAST_BYTES.div_ceil(per_set).max(2);
    let all = (0..sets).map(|number| set(context, kernels, case, number as u8)).collect::<Result<Vec<_>, _>>()?;
    let stream = Stream::new(context, Priority::High)?;
    let turns = 2 * sets;
    let ours = Graph::capture(&stream, |stream| {
        all.iter().cycle().take(turns).try_for_each(|set| set.preprocess.enqueue(stream))
    })?;
    // a copy of half the bytes reads as many as it writes; one that begins at no round address would be slower
    let half = ((read + written) / 2).next_multiple_of(4096) as usize;
    let places = LEAST_BYTES.div_ceil(2 * half).max(2);
    let [from, to] = [DeviceBuffer::new(context, places * half)?, DeviceBuffer::new(context, places * half)?];
    let copy = Graph::capture(&stream, |stream| {
        (0..turns).try_for_each(|turn| {
            let start = turn % places * half;
            stream.copy(&from, start..start + half, &to, start)
        })
    })?;
    let events = [Event::new(context)?, Event::new(context)?];
    for graph in [&ours, &copy] {
        time(graph, &stream, &events)?;
    }
    let (mut ours_us, mut copy_us) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours_us.push(time(&ours, &stream, &events)? * 1e3 / turns as f64);
        copy_us.push(time(&copy, &stream, &events)? * 1e3 / turns as f64);
    }
    let (ours_us, copy_us) = (median(ours_us), median(copy_us));
    println!(
        "{:<30} {ours_us:8.1} us, bound {copy_us:8.1} us ({:.1} MB read, {:.1} MB written): {:.1} %",
        case.name(),
        read as f64 * 1e-6,
        written as f64 * 1e-6,
        100.0 * copy_us / ours_us
    );
    Ok(json!({
        "case": case.name(), "ours_us": ours_us, "bound_us": copy_us, "read_bytes": read, "written_bytes": written,
        "sets": sets, "part_of_bound": copy_us / ours_us,
    }))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let context = match Context::open(0) {
        Ok(context) => context,
        Err(reason) => {
            println!("skipped: {reason}");
            return Ok(());
        }
    };
    let kernels = Kernels::load(&context)?;
    println!("{}, {CAMERAS} cameras to 3x{}x{} FP16", context.name(), NETWORK[1], NETWORK[0]);
    let mut cases = Vec::new();
    for case in [Case::Nv12, Case::Nv12Undistorted, Case::Raw12] {
        cases.push(measure(&context, &kernels, case, arguments.rounds)?);
    }
    if let Some(path) = &arguments.json {
        let value = json!({ "device": context.name(), "cameras": CAMERAS, "cases": cases });
        std::fs::write(path, format!("{value:#}\n"))?;
    }
    Ok(())
}
