//! One side of the decoders' benchmarks in `benches/peers/decoders`: decodes what a file holds, over and over.
//!
//! ```text
//! decode_rate can DBC FRAMES [VALUES]      decode_rate velodyne PACKETS      decode_rate nmea LOG
//! decode_rate ouster METADATA PACKETS      decode_rate hesai PACKETS
//! ```
//!
//! Everything is read first. Then each line on standard input asks for one pass, which is answered by a line of JSON:
//! the processor's time it took, what was taken and what came of it. So whoever asks can let another decoder run in between. FRAMES
//! are records of 70 bytes: identifier (bit 31: of 29 bits), whether it is CAN FD, length, payload. PACKETS are stamps
//! in ns (8 bytes), lengths (4 bytes) and payloads. Numbers are little-endian. VALUES gets a line
//! `FRAME,MESSAGE,SIGNAL,VALUE` for each value of the frames, before the first pass.

use catseye_sensors::can::CanFrame;
use catseye_sensors::can::dbc::{Dbc, Signal};
use catseye_sensors::gnss::{GnssDecoder, GnssEvent};
use catseye_sensors::lidar::hesai::{HesaiCorrection, HesaiDecoder, HesaiModel};
use catseye_sensors::lidar::ouster::{OusterDecoder, OusterFrame, OusterGeometry, OusterMetadata};
use catseye_sensors::lidar::velodyne::{VelodyneCalibration, VelodyneDecoder, VelodyneModel};
use catseye_sensors::lidar::{Azimuth, LidarDecoder, LidarScan};
use catseye_sensors::packet::ClockId;
use std::error::Error;
use std::fmt::Display;
use std::fs;
use std::hint::black_box;
use std::io::{self, BufRead, BufWriter, Write};
use std::time::Duration;

type Failure = Box<dyn Error>;

/// More frames than a recording has.
const FRAMES_A_PASS: u16 = 100;

/// What a pass took and gave.
#[derive(Default)]
struct Pass {
    inputs: usize,
    outputs: usize,
    refused: usize,
}

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match *words.as_slice() {
        ["can", dbc, frames] => can(dbc, frames, None),
        ["can", dbc, frames, values] => can(dbc, frames, Some(values)),
        ["velodyne", packets] => velodyne(packets),
        ["hesai", packets] => hesai(packets),
        ["ouster", metadata, packets] => ouster(metadata, packets),
        ["nmea", log] => nmea(log),
        _ => Err("expected can, velodyne, hesai, ouster or nmea, and its files".into()),
    }
}

/// A pass for each line of standard input, until it ends.
fn serve(mut pass: impl FnMut() -> Pass) -> Result<(), Failure> {
    for line in io::stdin().lock().lines() {
        line?;
        let start = cpu_time()?;
        let Pass { inputs, outputs, refused } = pass();
        let ns = cpu_time()?.saturating_sub(start).as_nanos();
        println!("{{\"ns\": {ns}, \"inputs\": {inputs}, \"outputs\": {outputs}, \"refused\": {refused}}}");
    }
    Ok(())
}

/// What this thread has had of a processor, which others on the machine cannot lengthen.
fn cpu_time() -> Result<Duration, Failure> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Ok(Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?))
}

fn read(path: &str) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(named(path))
}

fn named<E: Display>(path: &str) -> impl Fn(E) -> Failure {
    move |error| format!("{path}: {error}").into()
}

fn can(dbc: &str, frames: &str, values: Option<&str>) -> Result<(), Failure> {
    let dbc = Dbc::parse(&read(dbc)?, dbc)?;
    let frames = can_frames(&read(frames)?)?;
    if let Some(path) = values {
        write_values(&dbc, &frames, path)?;
    }
    serve(|| {
        let mut sum = 0.0;
        let outputs = frames.iter().map(|frame| dbc.decode_all(frame, &mut |_, value| sum += value)).sum();
        black_box(sum);
        Pass { inputs: frames.len(), outputs, refused: 0 }
    })
}

fn can_frames(bytes: &[u8]) -> Result<Vec<CanFrame>, Failure> {
    let record = |[i0, i1, i2, i3, fd, len, data @ ..]: &[u8; 70]| -> Result<CanFrame, Failure> {
        let id = u32::from_le_bytes([*i0, *i1, *i2, *i3]);
        let payload = data.get(..usize::from(*len)).ok_or("a frame of more than 64 bytes")?;
        Ok(CanFrame::new(id & !(1 << 31), id >> 31 != 0, *fd != 0, 0, payload)?)
    };
    bytes.as_chunks().0.iter().map(record).collect()
}

fn write_values(dbc: &Dbc, frames: &[CanFrame], path: &str) -> Result<(), Failure> {
    let mut file = BufWriter::new(fs::File::create(path).map_err(named(path))?);
    for (number, frame) in frames.iter().enumerate() {
        let Some(message) = dbc.message(frame.id, frame.extended) else { continue };
        let mut written = Ok(());
        dbc.decode_all(frame, &mut |signal: &Signal, value| {
            // a number's shortest text reads back as the same bits
            let line = writeln!(file, "{number},{},{},{value}", message.name(), signal.name());
            written = std::mem::replace(&mut written, Ok(())).and(line);
        });
        written?;
    }
    Ok(file.flush()?)
}

fn packets(path: &str) -> Result<Vec<(i64, Vec<u8>)>, Failure> {
    let bytes = read(path)?;
    let (mut rest, mut packets) = (bytes.as_slice(), Vec::new());
    while let Some((stamp_ns, behind)) = rest.split_first_chunk() {
        let (length, behind) = behind.split_first_chunk().ok_or("a packet without a length")?;
        let length = u32::from_le_bytes(*length) as usize;
        let (payload, behind) = behind.split_at_checked(length).ok_or("a packet that is cut off")?;
        packets.push((i64::from_le_bytes(*stamp_ns), payload.to_vec()));
        rest = behind;
    }
    Ok(packets)
}

fn velodyne(path: &str) -> Result<(), Failure> {
    let calibration = VelodyneCalibration::nominal(VelodyneModel::Vlp16);
    turning(VelodyneDecoder::new(calibration, Azimuth::default(), ClockId::Sensor), path)
}

fn hesai(path: &str) -> Result<(), Failure> {
    let correction = HesaiCorrection::nominal(HesaiModel::PandarXt32);
    turning(HesaiDecoder::new(correction, Azimuth::default(), ClockId::Sensor), path)
}

/// A lidar that turns. What ends a recording lets the decoder begin anew.
fn turning(mut decoder: impl LidarDecoder, path: &str) -> Result<(), Failure> {
    let packets = packets(path)?;
    let mut scan = LidarScan::default();
    serve(|| {
        let mut pass = Pass { inputs: packets.len(), ..Pass::default() };
        for (stamp_ns, payload) in &packets {
            match decoder.decode(payload, *stamp_ns, &mut scan) {
                Ok(true) => pass.outputs += black_box(&scan).points.len(),
                Ok(false) => {}
                Err(_) => pass.refused += 1,
            }
        }
        if decoder.finish(&mut scan) {
            pass.outputs += black_box(&scan).points.len();
        }
        pass
    })
}

fn ouster(metadata: &str, path: &str) -> Result<(), Failure> {
    let metadata = OusterMetadata::from_json(&read(metadata)?)?;
    let geometry = OusterGeometry::new(&metadata);
    let mut packets = packets(path)?;
    let mut decoder = OusterDecoder::new(metadata);
    let (mut frame, mut points) = (OusterFrame::default(), Vec::new());
    serve(|| {
        let mut pass = Pass { inputs: packets.len(), ..Pass::default() };
        for (_, payload) in &mut packets {
            // frames that were there before would be late: each pass is the turns that follow
            if let Some([low, high]) = payload.get_mut(2..4) {
                [*low, *high] = (u16::from_le_bytes([*low, *high]).wrapping_add(FRAMES_A_PASS)).to_le_bytes();
            }
            match decoder.decode(payload, &mut frame) {
                Ok(true) => pass.outputs += geometry.points(black_box(&frame), &mut points).points,
                Ok(false) => {}
                Err(_) => pass.refused += 1,
            }
            black_box(&points);
        }
        pass
    })
}

fn nmea(path: &str) -> Result<(), Failure> {
    let bytes = read(path)?;
    let mut events: Vec<GnssEvent> = Vec::new();
    serve(|| {
        let mut decoder = GnssDecoder::default();
        let mut outputs = 0;
        for chunk in bytes.chunks(64) {
            decoder.push(chunk, &mut events);
            outputs += black_box(&events).len();
            events.clear();
        }
        decoder.flush(&mut events);
        outputs += black_box(&events).len();
        events.clear();
        Pass { inputs: decoder.summary().frames.nmea as usize, outputs, refused: 0 }
    })
}
