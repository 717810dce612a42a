//! Whether a camera still gives frames. Sans-I/O: times in, on any one clock that never runs backward; judgements out.

/// What the watch says of a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CameraState {
    /// Frames come.
    Live,
    /// No frame has come for too long.
    Stuck {
        /// Time since the last frame, or since the watch began.
        silent_ns: i64,
    },
}

/// Notices that no frame came for some periods of a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CameraWatch {
    patience_ns: i64,
    last_ns: i64,
    stuck: bool,
    /// How many times the camera was found stuck, each time counted once.
    pub times_stuck: u64,
}

impl CameraWatch {
    /// A watch that begins now and waits for so many periods.
    pub fn new(period_ns: i64, periods: u32, now_ns: i64) -> Self {
        let patience_ns = period_ns.max(0).saturating_mul(i64::from(periods));
        CameraWatch { patience_ns, last_ns: now_ns, stuck: false, times_stuck: 0 }
    }

    /// A frame came, or the camera was opened anew.
    pub fn frame(&mut self, now_ns: i64) {
        self.last_ns = self.last_ns.max(now_ns);
        self.stuck = false;
    }

    /// What to think of the camera at this time.
    pub fn state(&mut self, now_ns: i64) -> CameraState {
        let silent_ns = now_ns.saturating_sub(self.last_ns);
        if silent_ns <= self.patience_ns {
            return CameraState::Live;
        }
        self.times_stuck += u64::from(!self.stuck);
        self.stuck = true;
        CameraState::Stuck { silent_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_beyond_the_periods_is_noticed_once() {
        let mut watch = CameraWatch::new(10, 3, 100);
        assert_eq!(watch.state(130), CameraState::Live);
        assert_eq!(watch.state(131), CameraState::Stuck { silent_ns: 31 });
        assert_eq!(watch.state(140), CameraState::Stuck { silent_ns: 40 });
        assert_eq!(watch.times_stuck, 1);
        watch.frame(145);
        assert_eq!(watch.state(146), CameraState::Live);
        assert_eq!(watch.state(176), CameraState::Stuck { silent_ns: 31 });
        assert_eq!(watch.times_stuck, 2);
    }

    #[test]
    fn times_at_the_ends_of_the_range_are_borne() {
        let mut watch = CameraWatch::new(i64::MAX, u32::MAX, i64::MIN);
        assert_eq!(watch.state(i64::MAX), CameraState::Live);
        let mut hasty = CameraWatch::new(-5, 3, 0);
        assert_eq!(hasty.state(0), CameraState::Live);
        assert_eq!(hasty.state(1), CameraState::Stuck { silent_ns: 1 });
    }
}
