//! A serial port of Linux as a stream of bytes: 8 data bits, no parity, one stop bit, no flow control, and nothing that a
//! terminal would make of the bytes (termios(3), "raw mode").
//!
//! Receivers on USB, on a UART and on a pseudo-terminal look the same. Promised: reading waits no longer than it is told and
//! allocates nothing, and a port that was unplugged is an error of its own, after which it can be opened again.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{self, ControlModes, OptionalActions};
use thiserror::Error;

/// Why a serial port gives nothing.
#[derive(Debug, Error)]
pub enum SerialError {
    /// It cannot be opened.
    #[error("serial port {device}: {error}")]
    Open {
        /// Its device file.
        device: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// The file is no serial port.
    #[error("{device}: expected a serial port, found another file")]
    NoPort {
        /// The file.
        device: PathBuf,
    },
    /// It cannot be set to that rate, or to pass bytes on as they are.
    #[error("serial port {device}: {baud} baud: {error}")]
    Settings {
        /// Its device file.
        device: PathBuf,
        /// Bits per second.
        baud: u32,
        /// The system's words.
        error: io::Error,
    },
    /// It has been unplugged.
    #[error("serial port {device}: unplugged")]
    Gone {
        /// Its device file.
        device: PathBuf,
    },
    /// It cannot be read for another reason.
    #[error("serial port {device}: read: {error}")]
    Read {
        /// Its device file.
        device: PathBuf,
        /// The system's words.
        error: io::Error,
    },
}

/// An open port. No other program can open it meanwhile, unless it may do everything.
#[derive(Debug)]
pub struct SerialPort {
    fd: OwnedFd,
    device: PathBuf,
}

impl SerialPort {
    /// Opens a port. Bytes that waited in it are gone: nobody could say when they came.
    ///
    /// # Errors
    /// If it is not there, is no port, or cannot have that rate.
    pub fn open(device: &Path, baud: u32) -> Result<Self, SerialError> {
        let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(device, flags, Mode::empty())
            .map_err(|error| SerialError::Open { device: device.to_owned(), error: error.into() })?;
        let port = SerialPort { fd, device: device.to_owned() };
        if !termios::isatty(&port.fd) {
            return Err(SerialError::NoPort { device: port.device });
        }
        port.set(baud).map_err(|error| SerialError::Settings {
            device: device.to_owned(),
            baud,
            error: error.into(),
        })?;
        Ok(port)
    }

    fn set(&self, baud: u32) -> rustix::io::Result<()> {
        termios::ioctl_tiocexcl(&self.fd)?;
        let mut settings = termios::tcgetattr(&self.fd)?;
        settings.make_raw();
        settings.control_modes -= ControlModes::CSTOPB | ControlModes::CRTSCTS;
        settings.control_modes |= ControlModes::CREAD | ControlModes::CLOCAL;
        settings.set_speed(baud)?;
        termios::tcsetattr(&self.fd, OptionalActions::Flush, &settings)
    }

    /// Reads what is there, or what comes within the time; 0 bytes if that is nothing.
    ///
    /// # Errors
    /// [`SerialError::Gone`] if the port has been unplugged.
    pub fn read(&mut self, bytes: &mut [u8], timeout: Duration) -> Result<usize, SerialError> {
        let mut waited = [PollFd::new(&self.fd, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).ok();
        match poll(&mut waited, timeout.as_ref()) {
            Ok(0) | Err(Errno::INTR) => return Ok(0),
            Ok(_) => {}
            Err(error) => return Err(self.failed(error)),
        }
        let [waited] = waited;
        let has_hung_up = waited.revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL);
        match rustix::io::read(&self.fd, bytes) {
            // in raw mode a port without bytes says so by an error: none at all is its end
            Ok(0) => Err(SerialError::Gone { device: self.device.clone() }),
            Ok(count) => Ok(count),
            Err(Errno::AGAIN | Errno::INTR) if !has_hung_up => Ok(0),
            Err(error) if has_hung_up || matches!(error, Errno::IO | Errno::NXIO | Errno::NODEV) => {
                Err(SerialError::Gone { device: self.device.clone() })
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: Errno) -> SerialError {
        SerialError::Read { device: self.device.clone(), error: error.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    const PATIENCE: Duration = Duration::from_millis(500);

    /// None under an emulator that does not hand a port's settings to the kernel.
    fn pair() -> Option<(OwnedFd, SerialPort)> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        match SerialPort::open(Path::new(OsStr::from_bytes(name.as_bytes())), 38_400) {
            Err(SerialError::Settings { error, .. }) if error.kind() == io::ErrorKind::Unsupported => {
                println!("skipped: no settings of serial ports under this emulator");
                None
            }
            port => Some((master, port.unwrap())),
        }
    }

    #[test]
    fn every_byte_comes_as_it_was_sent() {
        let Some((master, mut port)) = pair() else { return };
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(rustix::io::write(&master, &all).unwrap(), 256);
        let (mut found, mut bytes) = (Vec::new(), [0; 100]);
        while found.len() < 256 {
            let count = port.read(&mut bytes, PATIENCE).unwrap();
            assert!(count > 0, "{} bytes came", found.len());
            found.extend_from_slice(&bytes[..count]);
        }
        assert_eq!(found, all);
        assert_eq!(port.read(&mut bytes, Duration::from_millis(5)).unwrap(), 0);
        let settings = termios::tcgetattr(&port.fd).unwrap();
        assert_eq!(settings.output_speed(), 38_400);
    }

    #[test]
    fn an_unplugged_port_says_so() {
        let Some((master, mut port)) = pair() else { return };
        drop(master);
        let error = port.read(&mut [0; 10], PATIENCE).unwrap_err();
        assert!(matches!(error, SerialError::Gone { .. }), "{error}");
    }

    #[test]
    fn what_is_no_port_is_told() {
        let open = |device: &str| SerialPort::open(Path::new(device), 9600).unwrap_err();
        assert!(matches!(open("/dev/null"), SerialError::NoPort { .. }));
        assert!(matches!(open("/dev/no-such-port"), SerialError::Open { .. }));
    }
}
