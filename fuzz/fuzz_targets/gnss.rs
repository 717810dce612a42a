//! NMEA and UBX from a serial line, and the inertial unit of such a receiver. The first byte is the length of the chunks, which
//! must make no difference.
#![no_main]

use catseye_sensors::gnss::esf::{EsfDecoder, EsfSummary, InertialSample};
use catseye_sensors::gnss::{GnssDecoder, GnssEvent, GnssSummary};
use libfuzzer_sys::fuzz_target;

fn decode(bytes: &[u8], chunk: usize) -> (Vec<GnssEvent>, GnssSummary) {
    let (mut decoder, mut events) = (GnssDecoder::default(), Vec::new());
    for part in bytes.chunks(chunk) {
        decoder.push(part, &mut events);
    }
    decoder.flush(&mut events);
    (events, decoder.summary())
}

/// Samples as bits, since what is missing of them is no number.
fn inertial(bytes: &[u8], chunk: usize) -> (Vec<(i64, [u64; 6])>, EsfSummary) {
    let (mut decoder, mut samples) = (EsfDecoder::default(), Vec::new());
    for part in bytes.chunks(chunk) {
        decoder.push(part, &mut samples);
    }
    decoder.flush(&mut samples);
    let bits = |sample: &InertialSample| {
        let ([a, b, c], [d, e, f]) = (sample.angular_velocity_radps, sample.acceleration_mps2);
        (sample.stamp_ns, [a, b, c, d, e, f].map(f64::to_bits))
    };
    (samples.iter().map(bits).collect(), decoder.summary())
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let (events, summary) = decode(rest, usize::from(*first).max(1));
    assert!(summary.frames.noise_bytes <= rest.len() as u64);
    for event in &events {
        let GnssEvent::Fix(fix) = event else { continue };
        assert!(fix.lat_deg.is_none_or(|lat| lat.abs() <= 90.0));
        assert!(fix.lon_deg.is_none_or(|lon| lon.abs() <= 180.0));
    }
    assert_eq!((events, summary), decode(rest, rest.len().max(1)));
    let (samples, summary) = inertial(rest, usize::from(*first).max(1));
    assert!(summary.partial <= summary.samples && summary.samples == samples.len() as u64);
    assert_eq!((samples, summary), inertial(rest, rest.len().max(1)));
});
