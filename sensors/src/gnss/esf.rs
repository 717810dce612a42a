//! The inertial unit inside a u-blox receiver: UBX messages of the class ESF become samples. Bytes come as they are on the line,
//! in a mixture with all else that the receiver says, and are cut by [`super::frame`]; samples go to the vehicle's motion. Sources:
//! "u-blox 8 / M8 Receiver description" (UBX-13003221), ESF-MEAS, ESF-RAW and the table of their data types, and "ZED-F9R
//! Interface description" (UBX-20053259), the same.
//!
//! A measurement is one axis with the time tag of its sample, 24 bits wide: rates in 2^-12 degrees a second, specific forces in
//! 2^-10 m/s². Tags of ESF-MEAS count milliseconds. Those of ESF-RAW are the sensor's own, of which u-blox names no unit; taken
//! are 24 bits of 39.0625 µs, the counter of the Bosch BMI160 in such receivers (BST-BMI160-DS000, SENSORTIME). They may come
//! several samples a message, each whole within it; ESF-MEAS may spread a sample over several messages. A receiver that sends both
//! says the same twice: its ESF-RAW is taken.
//!
//! Promised: no panic on any input, no allocation once buffers have grown; what is not there is no number, what is strange is
//! counted. Wheel ticks, speeds and temperatures are passed over.

use std::f64::consts::PI;

use super::frame::{Frame, FrameCounts, Framer};

const ESF_MEAS: (u8, u8) = (0x10, 0x02);
const ESF_RAW: (u8, u8) = (0x10, 0x03);

/// Samples that are put together at once: receivers send up to ten in a message.
const MOST_OPEN: usize = 32;

/// What an inertial unit measured at one instant. An axis that did not come is no number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InertialSample {
    /// When, on the unit's own clock, which begins anywhere.
    pub stamp_ns: i64,
    /// Rates about the receiver's axes x, y, z.
    pub angular_velocity_radps: [f64; 3],
    /// Specific forces along them.
    pub acceleration_mps2: [f64; 3],
}

/// What became of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EsfSummary {
    /// Of what the stream consisted.
    pub frames: FrameCounts,
    /// Samples given.
    pub samples: u64,
    /// Of these, without one of their axes.
    pub partial: u64,
    /// ESF messages whose length is none that they can have.
    pub malformed: u64,
    /// ESF-MEAS messages of a receiver that sends ESF-RAW.
    pub twice: u64,
}

/// A counter that begins anew at some number of bits, as nanoseconds that do not.
#[derive(Clone, Copy, Debug)]
struct Unwrapped {
    bits: u32,
    /// A tick, in units of half a nanosecond.
    tick_half_ns: i64,
    last: Option<u32>,
    ticks: i64,
}

impl Unwrapped {
    /// Milliseconds of 32 bits.
    const MEAS: Self = Unwrapped { bits: 32, tick_half_ns: 2_000_000, last: None, ticks: 0 };
    /// 39.0625 µs of 24 bits.
    const RAW: Self = Unwrapped { bits: 24, tick_half_ns: 78_125, last: None, ticks: 0 };

    /// The nearest instant to the last one that has this tag.
    fn stamp_ns(&mut self, tag: u32) -> i64 {
        let unused = 32 - self.bits;
        let step = (tag.wrapping_sub(self.last.unwrap_or(tag)) << unused) as i32 >> unused;
        if self.last.replace(tag).is_none() {
            // never 0, which stamps of clocks that are not set have
            self.ticks = i64::from(tag << unused >> unused) + (1 << self.bits);
        }
        // tags that leap by half their range each time would lead out of what a stamp can hold
        self.ticks = self.ticks.saturating_add(i64::from(step));
        self.ticks.saturating_mul(self.tick_half_ns) / 2
    }
}

/// Turns a receiver's bytes into samples of its inertial unit.
#[derive(Clone, Debug)]
pub struct EsfDecoder {
    framer: Framer,
    meas: Unwrapped,
    raw: Unwrapped,
    sends_raw: bool,
    /// Samples that are being put together, oldest first.
    open: Vec<InertialSample>,
    summary: EsfSummary,
}

impl Default for EsfDecoder {
    fn default() -> Self {
        EsfDecoder {
            framer: Framer::default(),
            meas: Unwrapped::MEAS,
            raw: Unwrapped::RAW,
            sends_raw: false,
            open: Vec::with_capacity(MOST_OPEN),
            summary: EsfSummary::default(),
        }
    }
}

impl EsfDecoder {
    /// Takes the next bytes of the stream and adds the samples that they complete.
    pub fn push(&mut self, bytes: &[u8], samples: &mut Vec<InertialSample>) {
        // the framer lends its frames
        let mut framer = std::mem::take(&mut self.framer);
        framer.push(bytes);
        while let Some(frame) = framer.next_frame() {
            match frame {
                Frame::Ubx { message: ESF_MEAS, payload } => self.on_meas(payload, samples),
                Frame::Ubx { message: ESF_RAW, payload } => self.on_raw(payload, samples),
                _ => {}
            }
        }
        self.summary.frames = framer.counts();
        self.framer = framer;
    }

    /// Gives what is at hand: the line fell silent or ended.
    pub fn flush(&mut self, samples: &mut Vec<InertialSample>) {
        for sample in self.open.drain(..) {
            let is_whole = is_whole(&sample);
            self.summary.samples += 1;
            self.summary.partial += u64::from(!is_whole);
            samples.push(sample);
        }
    }

    /// What became of the stream so far.
    pub fn summary(&self) -> EsfSummary {
        self.summary
    }

    fn on_meas(&mut self, payload: &[u8], samples: &mut Vec<InertialSample>) {
        let Some((tag, data)) = meas(payload) else {
            self.summary.malformed += 1;
            return;
        };
        if self.sends_raw {
            self.summary.twice += 1;
            return;
        }
        let axes = || data.chunks_exact(4).filter_map(|word| axis(word, 0x3F));
        if axes().next().is_none() {
            // wheel ticks have tags of their own
            return;
        }
        let stamp_ns = self.meas.stamp_ns(tag);
        if self.open.first().is_some_and(|open| open.stamp_ns != stamp_ns) {
            self.flush(samples);
        }
        axes().for_each(|axis| self.put(stamp_ns, axis));
        if self.open.iter().all(is_whole) {
            self.flush(samples);
        }
    }

    fn on_raw(&mut self, payload: &[u8], samples: &mut Vec<InertialSample>) {
        let blocks = payload.get(4..).filter(|blocks| blocks.len() % 8 == 0);
        let Some(blocks) = blocks else {
            self.summary.malformed += 1;
            return;
        };
        if !std::mem::replace(&mut self.sends_raw, true) {
            // its halves came by ESF-MEAS, and come again
            self.open.clear();
        }
        for block in blocks.chunks_exact(8) {
            let Some((axis, tag)) = axis(block, 0xFF).zip(word(block, 4)) else { continue };
            let stamp_ns = self.raw.stamp_ns(tag);
            if self.open.len() == MOST_OPEN && self.open.iter().all(|open| open.stamp_ns != stamp_ns) {
                self.flush(samples);
            }
            self.put(stamp_ns, axis);
        }
        self.flush(samples);
    }

    fn put(&mut self, stamp_ns: i64, axis: Axis) {
        const NOTHING: [f64; 3] = [f64::NAN; 3];
        let known = self.open.iter().position(|open| open.stamp_ns == stamp_ns);
        let at = known.unwrap_or_else(|| {
            let at = self.open.partition_point(|open| open.stamp_ns < stamp_ns);
            let sample = InertialSample { stamp_ns, angular_velocity_radps: NOTHING, acceleration_mps2: NOTHING };
            self.open.insert(at, sample);
            at
        });
        let Some(sample) = self.open.get_mut(at) else { return };
        let (values, number, value) = match axis {
            Axis::Rate(number, radps) => (&mut sample.angular_velocity_radps, number, radps),
            Axis::Force(number, mps2) => (&mut sample.acceleration_mps2, number, mps2),
        };
        if let Some(place) = values.get_mut(number) {
            *place = value;
        }
    }
}

fn is_whole(sample: &InertialSample) -> bool {
    sample.angular_velocity_radps.iter().chain(&sample.acceleration_mps2).all(|value| !value.is_nan())
}

/// Time tag and measurements of ESF-MEAS, if their number fits its length. Older firmware leaves the number 0.
fn meas(payload: &[u8]) -> Option<(u32, &[u8])> {
    let (tag, flags) = (word(payload, 0)?, word(payload, 4)?);
    let (has_calibrated_tag, told) = (flags & 8 != 0, (flags >> 11 & 0x1F) as usize);
    let data = payload.get(8..payload.len().checked_sub(if has_calibrated_tag { 4 } else { 0 })?)?;
    let fits = data.len() % 4 == 0 && (told == 0 || data.len() == 4 * told);
    fits.then_some((tag, data))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

/// A number of x, y, z, and its value in SI units.
#[derive(Clone, Copy)]
enum Axis {
    Rate(usize, f64),
    Force(usize, f64),
}

/// A measurement's type and value; `None` for what is no axis. The type has fewer bits in ESF-MEAS.
fn axis(bytes: &[u8], type_bits: u32) -> Option<Axis> {
    let data = word(bytes, 0)?;
    let value = f64::from((data << 8) as i32 >> 8);
    let rate_radps = value / 4096.0 * (PI / 180.0);
    Some(match data >> 24 & type_bits {
        14 => Axis::Rate(0, rate_radps),
        13 => Axis::Rate(1, rate_radps),
        5 => Axis::Rate(2, rate_radps),
        16 => Axis::Force(0, value / 1024.0),
        17 => Axis::Force(1, value / 1024.0),
        18 => Axis::Force(2, value / 1024.0),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The six axes, x, y, z of rates and then of forces, as types.
    const TYPES: [u32; 6] = [14, 13, 5, 16, 17, 18];

    fn frame((class, number): (u8, u8), payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u16).to_le_bytes();
        let body = [[class, number].as_slice(), &length, payload].concat();
        let (a, b) = body.iter().fold((0u8, 0u8), |(a, b), byte| {
            let a = a.wrapping_add(*byte);
            (a, b.wrapping_add(a))
        });
        [[0xB5, 0x62].as_slice(), &body, &[a, b]].concat()
    }

    fn data(kind: u32, value: i32) -> [u8; 4] {
        (kind << 24 | value as u32 & 0xFF_FFFF).to_le_bytes()
    }

    fn meas(tag_ms: u32, measured: &[(u32, i32)]) -> Vec<u8> {
        let flags = (measured.len() as u16) << 11;
        let words: Vec<u8> = measured.iter().flat_map(|(kind, value)| data(*kind, *value)).collect();
        frame(ESF_MEAS, &[&tag_ms.to_le_bytes(), flags.to_le_bytes().as_slice(), &[0; 2], &words].concat())
    }

    fn raw(measured: &[(u32, i32, u32)]) -> Vec<u8> {
        let blocks = measured.iter().flat_map(|(kind, value, tag)| [data(*kind, *value), tag.to_le_bytes()].concat());
        frame(ESF_RAW, &[vec![0; 4], blocks.collect()].concat())
    }

    fn decode(bytes: &[u8], chunk: usize) -> (Vec<InertialSample>, EsfSummary) {
        let (mut decoder, mut samples) = (EsfDecoder::default(), Vec::new());
        bytes.chunks(chunk).for_each(|part| decoder.push(part, &mut samples));
        decoder.flush(&mut samples);
        (samples, decoder.summary())
    }

    #[test]
    fn values_have_their_units_and_signs() {
        let values = [4096 * 90, -4096 * 180, 1, 1024 * 5, -10_035, -1];
        let measured: Vec<_> = TYPES.into_iter().zip(values).collect();
        let wheel_and_temperature = meas(70, &[(10, 5), (12, 2500)]);
        // rates and forces of one instant in two messages, a wheel's tick between them
        let stream = [meas(77, &measured[..3]), wheel_and_temperature, meas(77, &measured[3..])].concat();
        let (samples, summary) = decode(&stream, 1);
        let [sample] = samples.as_slice() else { panic!("{samples:?}") };
        let [x, y, z] = sample.angular_velocity_radps;
        assert!((x - PI / 2.0).abs() < 1e-12 && (y + PI).abs() < 1e-12 && (z - PI / 180.0 / 4096.0).abs() < 1e-15);
        assert_eq!(sample.acceleration_mps2, [5.0, -10_035.0 / 1024.0, -1.0 / 1024.0]);
        assert_eq!((summary.samples, summary.partial, summary.malformed, summary.frames.ubx), (1, 0, 0, 3));
    }

    #[test]
    fn several_samples_of_a_message_come_in_order_of_time() {
        // three samples over the end of the counter, all of an axis together
        let tags = [0xFF_FF00, 0, 0x100];
        let blocks: Vec<_> = TYPES.iter().flat_map(|kind| tags.map(|tag| (*kind, tag as i32 + 1, tag))).collect();
        let (samples, summary) = decode(&raw(&blocks), 7);
        let stamps: Vec<i64> = samples.iter().map(|sample| sample.stamp_ns - samples[0].stamp_ns).collect();
        assert_eq!(stamps, [0, 10_000_000, 20_000_000]);
        assert_eq!((summary.samples, summary.partial), (3, 0));
        assert!(samples[0].stamp_ns > 0);
        assert_eq!(samples[2].acceleration_mps2, [257.0 / 1024.0; 3]);
    }

    #[test]
    fn what_is_missing_is_no_number_and_counted() {
        let (samples, summary) = decode(&[meas(10, &[(5, 4096)]), meas(20, &[(5, 8192)])].concat(), 64);
        assert_eq!((samples.len(), summary.partial), (2, 2));
        assert_eq!(samples[1].stamp_ns - samples[0].stamp_ns, 10_000_000);
        let [x, y, z] = samples[1].angular_velocity_radps;
        assert!(x.is_nan() && y.is_nan() && (z - PI / 90.0).abs() < 1e-12);
        assert!(samples[1].acceleration_mps2.iter().all(|value| value.is_nan()));
    }

    #[test]
    fn of_a_receiver_that_sends_both_the_raw_ones_are_taken() {
        let whole = |tag: u32| TYPES.map(|kind| (kind, 1, tag));
        let stream = [meas(10, &[(5, 1)]), raw(&whole(100)), meas(10, &[(16, 1)]), raw(&whole(356))].concat();
        let (samples, summary) = decode(&stream, 1000);
        assert_eq!((samples.len(), summary.partial, summary.twice), (2, 0, 1));
    }

    #[test]
    fn a_calibrated_tag_is_no_measurement_and_a_wrong_length_is_counted() {
        let payload = |flags: u16, words: usize| {
            let head = [50u32.to_le_bytes().as_slice(), &flags.to_le_bytes(), &[0; 2]].concat();
            frame(ESF_MEAS, &[head, data(5, 4096).repeat(words)].concat())
        };
        let (samples, summary) = decode(&payload(1 << 11 | 8, 2), 100);
        assert_eq!((samples.len(), summary.malformed), (1, 0));
        assert_eq!(decode(&payload(0, 2), 100).0.len(), 1, "the number may be left out");
        for wrong in [payload(2 << 11, 1), payload(8, 0), frame(ESF_MEAS, &[0; 7]), frame(ESF_RAW, &[0; 13])] {
            let (samples, summary) = decode(&wrong, 100);
            assert_eq!((samples.len(), summary.malformed), (0, 1));
        }
        assert_eq!(decode(&frame(ESF_RAW, &[0; 3]), 100).1.malformed, 1);
    }

    #[test]
    fn tags_that_leap_lead_nowhere() {
        for step in [0x7FFF_FFFFu32, 0x8000_0000] {
            let mut clock = Unwrapped::MEAS;
            let stamps: Vec<i64> = (0..10_000).map(|number| clock.stamp_ns(step.wrapping_mul(number))).collect();
            assert!(stamps[0] > 0 && (stamps.is_sorted() || stamps.iter().rev().is_sorted()), "{step:#x}");
        }
    }

    #[test]
    fn no_cut_and_no_flipped_bit_does_harm() {
        let whole: Vec<_> = (0..10).flat_map(|tag| TYPES.map(|kind| (kind, 7, tag * 256))).collect();
        let stream = [raw(&whole), meas(3, &[(5, 1), (16, 2)]), raw(&whole)].concat();
        let all = decode(&stream, stream.len()).0.len();
        assert_eq!(all, 20);
        for length in 0..stream.len() {
            assert!(decode(&stream[..length], 13).0.len() <= all);
        }
        for bit in 0..stream.len() * 8 {
            let mut broken = stream.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            let (samples, summary) = decode(&broken, 64);
            assert_eq!(samples.len() as u64, summary.samples);
        }
    }
}
