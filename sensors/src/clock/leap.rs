//! Leap seconds: how far TAI and GPS time run ahead of UTC, so that a sensor stamped in either is noticed by its
//! offset. The table is that of the IERS ("leap-seconds.list", Bulletin C;
//! <https://hpiers.obspm.fr/iers/bul/bulc/ntp/>), seconds since 1970 instead of 1900. No leap second has been announced
//! after 2017; when one is, the table wants a line.

/// From which second since 1970 (UTC) TAI is ahead of UTC by how many seconds.
const TAI_AHEAD: [(i64, i64); 28] = [
    (63072000, 10),   // 1 Jan 1972
    (78796800, 11),   // 1 Jul 1972
    (94694400, 12),   // 1 Jan 1973
    (126230400, 13),  // 1 Jan 1974
    (157766400, 14),  // 1 Jan 1975
    (189302400, 15),  // 1 Jan 1976
    (220924800, 16),  // 1 Jan 1977
    (252460800, 17),  // 1 Jan 1978
    (283996800, 18),  // 1 Jan 1979
    (315532800, 19),  // 1 Jan 1980
    (362793600, 20),  // 1 Jul 1981
    (394329600, 21),  // 1 Jul 1982
    (425865600, 22),  // 1 Jul 1983
    (489024000, 23),  // 1 Jul 1985
    (567993600, 24),  // 1 Jan 1988
    (631152000, 25),  // 1 Jan 1990
    (662688000, 26),  // 1 Jan 1991
    (709948800, 27),  // 1 Jul 1992
    (741484800, 28),  // 1 Jul 1993
    (773020800, 29),  // 1 Jul 1994
    (820454400, 30),  // 1 Jan 1996
    (867715200, 31),  // 1 Jul 1997
    (915148800, 32),  // 1 Jan 1999
    (1136073600, 33), // 1 Jan 2006
    (1230768000, 34), // 1 Jan 2009
    (1341100800, 35), // 1 Jul 2012
    (1435708800, 36), // 1 Jul 2015
    (1483228800, 37), // 1 Jan 2017
];
/// GPS time has kept its distance from TAI since 1980 (IS-GPS-200).
const TAI_AHEAD_OF_GPS_S: i64 = 19;
const GPS_EPOCH_UNIX_S: i64 = 315_964_800;
const SECOND_NS: i64 = 1_000_000_000;

/// A time scale that knows no leap seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeScale {
    /// Time of the GPS satellites: 18 s ahead of UTC since 2017.
    Gps,
    /// International Atomic Time: 37 s ahead of UTC since 2017. Clocks set by PTP usually keep it.
    Tai,
}

impl TimeScale {
    /// The name for reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gps => "GPS time",
            Self::Tai => "TAI",
        }
    }

    /// How many seconds the scale is ahead of UTC at an instant in ns since 1970 (UTC); `None` before the scale began,
    /// and with it for hosts whose clock counts from their start.
    pub fn ahead_of_utc_s(self, utc_ns: i64) -> Option<i64> {
        let utc_s = utc_ns.div_euclid(SECOND_NS);
        let tai_s = TAI_AHEAD.iter().rev().find(|(from_s, _)| *from_s <= utc_s)?.1;
        match self {
            Self::Tai => Some(tai_s),
            Self::Gps => (utc_s >= GPS_EPOCH_UNIX_S).then_some(tai_s - TAI_AHEAD_OF_GPS_S),
        }
    }

    /// The scale that a sensor keeps whose clock is behind the host's (UTC) by `offset_ns`, to within a second.
    pub fn of_offset(offset_ns: i64, utc_ns: i64) -> Option<Self> {
        [Self::Gps, Self::Tai].into_iter().find(|scale| {
            let Some(ahead_s) = scale.ahead_of_utc_s(utc_ns) else { return false };
            ahead_s > 1 && offset_ns.saturating_add(ahead_s * SECOND_NS).saturating_abs() <= SECOND_NS
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_ahead_by_the_table() {
        let ahead = |utc_s: i64| {
            let utc_ns = utc_s * SECOND_NS;
            (TimeScale::Gps.ahead_of_utc_s(utc_ns), TimeScale::Tai.ahead_of_utc_s(utc_ns))
        };
        assert_eq!(ahead(1_483_228_800), (Some(18), Some(37)));
        assert_eq!(ahead(1_483_228_799), (Some(17), Some(36)));
        assert_eq!(ahead(GPS_EPOCH_UNIX_S), (Some(0), Some(19)));
        assert_eq!(ahead(GPS_EPOCH_UNIX_S - 1), (None, Some(19)));
        assert_eq!(ahead(1000), (None, None));
        assert!(TAI_AHEAD.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 + 1 == pair[1].1));
    }

    #[test]
    fn offsets_are_named_to_within_a_second() {
        let now_ns = 1_700_000_000 * SECOND_NS;
        let named = |offset_s: f64| TimeScale::of_offset((offset_s * 1e9) as i64, now_ns);
        assert_eq!(named(-18.0), Some(TimeScale::Gps));
        assert_eq!(named(-17.1), Some(TimeScale::Gps));
        assert_eq!(named(-16.9), None);
        assert_eq!(named(-37.9), Some(TimeScale::Tai));
        assert_eq!(named(18.0), None);
        assert_eq!(TimeScale::of_offset(i64::MIN, now_ns), None);
        assert_eq!(TimeScale::of_offset(-18 * SECOND_NS, 5), None);
    }
}
