//! Radar tracks from CAN. [`ToyotaRadar`] reads the sixteen tracks of the radar that Toyota fits behind the grille
//! (`TRACK_A_n`: position and speed, `TRACK_B_n`: quality) through the car's DBC file. Promised: one frame gives at
//! most one track, without allocation, and the track says itself whether the radar holds it for valid.

use crate::can::CanFrame;
use crate::can::dbc::{Dbc, SignalRef};
use thiserror::Error;

/// How many tracks the radar reports.
pub const TOYOTA_TRACKS: u16 = 16;

/// One object as a radar tracks it, relative to the radar: x forward, y left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RadarTrack {
    /// The track's number. The radar gives it to another object after the track ends; `new` marks that.
    pub id: u16,
    /// Distance ahead of the radar, in metres.
    pub long_m: f32,
    /// Distance to the left of the radar's axis, in metres.
    pub lat_m: f32,
    /// Rate of change of the distance, in m/s: negative where the object comes closer.
    pub rel_speed_mps: f32,
    /// Whether the radar holds the track for valid. Where it does not, position and speed mean nothing.
    pub valid: bool,
    /// Whether the track has just begun.
    pub new: bool,
    /// The radar's cycle counter, which position and quality of one cycle share.
    pub counter: u8,
}

/// How sure the radar is of a track.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RadarQuality {
    /// The number of the track.
    pub id: u16,
    /// The radar's score of the track, 0 to 100.
    pub score: f32,
    /// Relative acceleration in the radar's own unit, which the DBC file does not give.
    pub rel_accel_raw: f32,
    /// The radar's cycle counter, which position and quality of one cycle share.
    pub counter: u8,
}

/// Why a DBC file does not describe this radar.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ToyotaRadarError {
    /// A signal is not in the file.
    #[error("expected the signal {expected} in the radar's DBC file, found no such signal")]
    SignalMissing {
        /// The signal's `MESSAGE.SIGNAL`.
        expected: String,
    },
}

#[derive(Clone, Copy, Debug)]
struct TrackSignals {
    id: u16,
    long_m: SignalRef,
    lat_m: SignalRef,
    rel_speed_mps: SignalRef,
    valid: SignalRef,
    new: SignalRef,
    counter: SignalRef,
}

#[derive(Clone, Copy, Debug)]
struct QualitySignals {
    id: u16,
    score: SignalRef,
    rel_accel: SignalRef,
    counter: SignalRef,
}

/// Decoder of Toyota's radar, made from a DBC file with the messages of `toyota_adas.dbc`.
#[derive(Clone, Debug)]
pub struct ToyotaRadar {
    dbc: Dbc,
    tracks: Vec<TrackSignals>,
    qualities: Vec<QualitySignals>,
}

impl ToyotaRadar {
    /// Looks up the signals of all tracks.
    ///
    /// # Errors
    /// If one of them is not in the file.
    pub fn new(dbc: Dbc) -> Result<Self, ToyotaRadarError> {
        let tracks = (0..TOYOTA_TRACKS).map(|id| track_signals(&dbc, id)).collect::<Result<Vec<_>, _>>()?;
        let qualities = (0..TOYOTA_TRACKS).map(|id| quality_signals(&dbc, id)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { dbc, tracks, qualities })
    }

    /// The track in a `TRACK_A_n` frame, `None` for any other frame. Tracks that are not valid are given as well, so
    /// that the end of a track can be seen.
    pub fn track(&self, frame: &CanFrame) -> Option<RadarTrack> {
        self.tracks.iter().find_map(|signals| self.decode_track(signals, frame))
    }

    /// The quality in a `TRACK_B_n` frame, `None` for any other frame.
    pub fn quality(&self, frame: &CanFrame) -> Option<RadarQuality> {
        self.qualities.iter().find_map(|signals| self.decode_quality(signals, frame))
    }

    fn decode_track(&self, signals: &TrackSignals, frame: &CanFrame) -> Option<RadarTrack> {
        let value = |signal| self.dbc.decode(signal, frame);
        Some(RadarTrack {
            id: signals.id,
            long_m: value(signals.long_m)? as f32,
            // The radar counts to the right.
            lat_m: -value(signals.lat_m)? as f32,
            rel_speed_mps: value(signals.rel_speed_mps)? as f32,
            valid: value(signals.valid)? != 0.0,
            new: value(signals.new)? != 0.0,
            counter: value(signals.counter)? as u8,
        })
    }

    fn decode_quality(&self, signals: &QualitySignals, frame: &CanFrame) -> Option<RadarQuality> {
        let value = |signal| self.dbc.decode(signal, frame);
        Some(RadarQuality {
            id: signals.id,
            score: value(signals.score)? as f32,
            rel_accel_raw: value(signals.rel_accel)? as f32,
            counter: value(signals.counter)? as u8,
        })
    }
}

fn find(dbc: &Dbc, message: &str, signal: &str) -> Result<SignalRef, ToyotaRadarError> {
    let path = format!("{message}.{signal}");
    dbc.signal(&path).ok_or(ToyotaRadarError::SignalMissing { expected: path })
}

fn track_signals(dbc: &Dbc, id: u16) -> Result<TrackSignals, ToyotaRadarError> {
    let message = format!("TRACK_A_{id}");
    Ok(TrackSignals {
        id,
        long_m: find(dbc, &message, "LONG_DIST")?,
        lat_m: find(dbc, &message, "LAT_DIST")?,
        rel_speed_mps: find(dbc, &message, "REL_SPEED")?,
        valid: find(dbc, &message, "VALID")?,
        new: find(dbc, &message, "NEW_TRACK")?,
        counter: find(dbc, &message, "COUNTER")?,
    })
}

fn quality_signals(dbc: &Dbc, id: u16) -> Result<QualitySignals, ToyotaRadarError> {
    let message = format!("TRACK_B_{id}");
    Ok(QualitySignals {
        id,
        score: find(dbc, &message, "SCORE")?,
        rel_accel: find(dbc, &message, "REL_ACCEL")?,
        counter: find(dbc, &message, "COUNTER")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::can::comma2k19;
    use std::path::Path;

    fn radar(folder: &Path) -> ToyotaRadar {
        let dbc = Dbc::parse(&comma2k19::dbc_bytes(folder, "toyota_adas.dbc"), "toyota_adas.dbc").unwrap();
        ToyotaRadar::new(dbc).unwrap()
    }

    #[test]
    fn a_file_without_the_radar_is_refused() {
        let error = ToyotaRadar::new(Dbc::default()).unwrap_err();
        assert_eq!(error, ToyotaRadarError::SignalMissing { expected: "TRACK_A_0.LONG_DIST".to_owned() });
    }

    #[test]
    fn a_frame_laid_out_by_hand() {
        let Some(folder) = comma2k19::can_folder() else { return };
        let radar = radar(&folder);
        // Counter 9; 1234 * 0.01 m ahead; -25 * 0.04 m to the right; new; -40 * 0.025 m/s; valid.
        let long = (1234u16 << 1).to_be_bytes();
        let lat = ((-25i16) << 5).to_be_bytes();
        let speed = ((-40i16) << 4).to_be_bytes();
        let payload = [9, long[0], long[1], lat[0], lat[1] | 0x10, speed[0], speed[1] | 1, 0];
        let frame = CanFrame::new(528 + 3, false, false, 1, &payload).unwrap();
        let track = radar.track(&frame).unwrap();
        assert_eq!((track.id, track.counter, track.valid, track.new), (3, 9, true, true));
        assert!((track.long_m - 12.34).abs() < 1e-5);
        assert_eq!((track.lat_m, track.rel_speed_mps), (1.0, -1.0));
        assert_eq!(radar.quality(&frame), None);

        let frame = CanFrame::new(544 + 3, false, false, 1, &[9, 0xFC, 80, 0, 0, 0, 0, 0]).unwrap();
        let quality = RadarQuality { id: 3, score: 80.0, rel_accel_raw: -2.0, counter: 9 };
        assert_eq!(radar.quality(&frame), Some(quality));
        assert_eq!(radar.track(&frame), None);
    }

    /// The recording's tracks as stored: time in seconds, address, forward, left, speed, new. Frames that arrived
    /// together are stored in no particular order, so both sides are sorted.
    fn stored_rows(folder: &Path) -> Vec<[f64; 6]> {
        let times_s = comma2k19::floats(folder, "radar/t");
        let values = comma2k19::floats(folder, "radar/value");
        let rows = values.chunks_exact(7).zip(times_s);
        rows.map(|(row, time_s)| [time_s, row[5], row[0], row[1], row[2], row[6]]).collect()
    }

    fn sorted(mut rows: Vec<[f64; 6]>) -> Vec<[f64; 6]> {
        rows.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
        rows
    }

    #[test]
    fn tracks_of_comma2k19_are_reproduced() {
        // The recording's authors read 13 bits of the distance in steps of 0.04 m and moved the origin by 2.7 m.
        const STEP_M: f64 = 0.04;
        const ORIGIN_M: f64 = 2.7;
        let Some(folder) = comma2k19::can_folder() else { return };
        let radar = radar(&folder);
        let mut decoded = Vec::new();
        for (time_s, frame) in comma2k19::frames(&folder).into_iter().filter(|(_, frame)| frame.bus == 1) {
            let Some(track) = radar.track(&frame).filter(|track| track.valid) else { continue };
            let coarse = ((f64::from(track.long_m) * 100.0).round() / 4.0).floor();
            let long_m = coarse * STEP_M + ORIGIN_M;
            let (lat_m, speed_mps) = (f64::from(track.lat_m), f64::from(track.rel_speed_mps));
            let address = f64::from(528 + track.id);
            decoded.push([time_s, address, long_m, lat_m, speed_mps, f64::from(u8::from(track.new))]);
        }
        let (decoded, stored) = (sorted(decoded), sorted(stored_rows(&folder)));
        assert_eq!((decoded.len(), stored.len()), (10_100, 10_100));
        for (ours, theirs) in decoded.iter().zip(&stored) {
            assert_eq!((ours[0], ours[1], ours[2]), (theirs[0], theirs[1], theirs[2]));
            assert_eq!((ours[3] as f32, ours[4] as f32, ours[5]), (theirs[3] as f32, theirs[4] as f32, theirs[5]));
        }
    }

    #[test]
    fn qualities_of_comma2k19_are_plausible() {
        let Some(folder) = comma2k19::can_folder() else { return };
        let radar = radar(&folder);
        let qualities: Vec<RadarQuality> = comma2k19::frames(&folder)
            .iter()
            .filter(|(_, frame)| frame.bus == 1)
            .filter_map(|(_, frame)| radar.quality(frame))
            .collect();
        assert_eq!(qualities.len(), 16 * 1200);
        assert!(qualities.iter().all(|quality| (0.0..=100.0).contains(&quality.score)));
        assert!(qualities.iter().any(|quality| quality.score > 50.0));
    }
}
