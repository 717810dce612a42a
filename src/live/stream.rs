//! A stream of bytes from a serial port or from another host, which is opened again when it ends.
//!
//! Promised by [`follow`]: a port that is unplugged, or a connection that ends, is told of, counted, and opened again when it is
//! back.

use std::io::{self, ErrorKind, Read};
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use catseye_calibration::rig::Source;
use catseye_sensors::serial::SerialPort;

use super::{Outlet, again, udp};

/// How long another host may take to answer.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// A line that is silent for so long has sent all that belongs together: its bytes follow each other within some milliseconds.
const SILENCE: Duration = Duration::from_millis(25);

/// What came of a stream.
pub enum Heard<'a> {
    /// Bytes.
    Bytes(&'a [u8]),
    /// Nothing for a moment.
    Silence,
    /// It was opened again: half a message from before is none behind it.
    Again,
}

/// Reads a stream until the run is over.
pub fn follow(
    source: &Source,
    outlet: &mut Outlet,
    opened: &mut dyn FnMut(Result<(), String>),
    hear: &mut dyn FnMut(Heard<'_>, &mut Outlet),
) {
    let open = || Stream::open(source).unwrap_or_else(|| Err(format!("expected a stream of bytes, found {source}")));
    let mut stream = match open() {
        Ok(stream) => stream,
        Err(error) => return opened(Err(error)),
    };
    opened(Ok(()));
    while let Err(error) = listen(&mut stream, outlet, hear) {
        outlet.counts.lost += 1;
        outlet.tell(&error);
        drop(stream);
        hear(Heard::Again, outlet);
        let Some(opened) = again(outlet, || open().ok()) else { return };
        outlet.tell("is back");
        stream = opened;
    }
}

/// Takes what comes until the stream ends, or the run.
fn listen(
    stream: &mut Stream,
    outlet: &mut Outlet,
    hear: &mut dyn FnMut(Heard<'_>, &mut Outlet),
) -> Result<(), String> {
    let mut bytes = [0; 4096];
    while !outlet.is_over() {
        match stream.read(&mut bytes, SILENCE)? {
            0 => hear(Heard::Silence, outlet),
            count => hear(Heard::Bytes(bytes.get(..count).unwrap_or_default()), outlet),
        }
    }
    Ok(())
}

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
