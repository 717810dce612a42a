//! Plays a log of CAN frames, in the form of `candump -L`, onto an interface with the log's timing.
//!
//! `can_player INTERFACE LOG`

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("CAN sockets are Linux's");
}

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use catseye_sensors::can::socket::{CanSocket, CanSocketError};
    use std::time::{Duration, Instant};

    let mut words = std::env::args().skip(1);
    let (Some(interface), Some(log)) = (words.next(), words.next()) else {
        return Err("expected an interface and a log".into());
    };
    let text = std::fs::read_to_string(&log)?;
    let frames = text.lines().enumerate().map(|(line, words)| {
        player::frame(words).ok_or_else(|| format!("{log}:{}: expected `(SECONDS) INTERFACE ID#DATA`", line + 1))
    });
    let frames = frames.collect::<Result<Vec<_>, _>>()?;
    let mut socket = CanSocket::open(&interface, 0)?;
    let start = Instant::now();
    let first_s = frames.first().map_or(0.0, |(time_s, _)| *time_s);
    let (mut sent, mut refused) = (0, 0);
    for (time_s, frame) in &frames {
        let due = start + Duration::from_secs_f64((time_s - first_s).max(0.0));
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(early);
        }
        match socket.send(frame) {
            Ok(()) => sent += 1,
            Err(CanSocketError::Down { .. } | CanSocketError::QueueFull { .. }) => refused += 1,
            Err(error) => return Err(error.into()),
        }
    }
    println!("{sent} frames sent, {refused} refused, in {:.3} s", start.elapsed().as_secs_f64());
    Ok(())
}

#[cfg(target_os = "linux")]
mod player {
    use catseye_sensors::can::CanFrame;

    /// A line of the log: seconds and a frame.
    pub fn frame(line: &str) -> Option<(f64, CanFrame)> {
        let mut words = line.split_whitespace();
        let time_s = words.next()?.strip_prefix('(')?.strip_suffix(')')?.parse().ok()?;
        let (id, data) = words.nth(1)?.split_once('#')?;
        let (is_fd, data) = match data.strip_prefix('#') {
            // a digit of flags stands before the data of a CAN FD frame
            Some(rest) => (true, rest.get(1..)?),
            None => (false, data),
        };
        let digits = data.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        let data = digits.collect::<Option<Vec<u8>>>()?;
        let number = u32::from_str_radix(id, 16).ok()?;
        Some((time_s, CanFrame::new(number, id.len() > 3, is_fd, 0, &data).ok()?))
    }
}
