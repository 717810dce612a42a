//! A stream of bytes from a serial port or from another host, which is opened again when it ends.

use std::io::{self, ErrorKind, Read};
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use catseye_calibration::rig::Source;
use catseye_sensors::serial::SerialPort;

use super::udp;

/// How long another host may take to answer.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// An open stream.
pub enum Stream {
    /// A serial port.
    Serial(SerialPort),
    /// A connection.
    Tcp(TcpStream),
    /// Datagrams, whose bytes follow each other.
    Udp(UdpSocket),
}

impl Stream {
    /// Opens the stream; `None` for a source that is no stream.
    pub fn open(source: &Source) -> Option<Result<Self, String>> {
        Some(match source {
            Source::Serial { device, baud } => {
                SerialPort::open(device, *baud).map(Stream::Serial).map_err(|error| error.to_string())
            }
            Source::Tcp(place) => connect(place).map(Stream::Tcp).map_err(|error| format!("{place}: {error}")),
            Source::Udp(place) => {
                udp::open(place).map(Stream::Udp).map_err(|error| format!("{}: {error}", place.address))
            }
            _ => return None,
        })
    }

    /// Reads what is there, or what comes within the time; 0 bytes if that is nothing.
    ///
    /// # Errors
    /// In words, when the stream has ended.
    pub fn read(&mut self, bytes: &mut [u8], timeout: Duration) -> Result<usize, String> {
        let read = match self {
            Stream::Serial(port) => return port.read(bytes, timeout).map_err(|error| error.to_string()),
            Stream::Tcp(connection) => {
                connection.set_read_timeout(Some(timeout)).and_then(|()| connection.read(bytes)).and_then(|count| {
                    // the other side has ended it
                    if count == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(count) }
                })
            }
            Stream::Udp(socket) => socket.set_read_timeout(Some(timeout)).and_then(|()| socket.recv(bytes)),
        };
        match read {
            Err(error) if is_nothing(&error) => Ok(0),
            read => read.map_err(|error| error.to_string()),
        }
    }
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn connect(place: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(ErrorKind::NotFound);
    for address in place.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_PATIENCE) {
            Ok(connection) => return Ok(connection),
            Err(error) => last = error,
        }
    }
    Err(last)
}
