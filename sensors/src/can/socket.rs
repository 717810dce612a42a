//! Live CAN and CAN FD frames of Linux, by a raw SocketCAN socket.
//!
//! [`CanSocket`] is opened on an interface and gives [`CanEvent`]s: data frames with the time at which the kernel, and where
//! there is one the controller, received them, and error frames in which a controller tells of its troubles. The crate
//! `socketcan` opens the socket and sets its options; frames are read here, since stamp and count of dropped frames come
//! with each of them (`recvmsg`). Promised: no allocation per frame, whatever is passed over is counted, and an interface
//! that is down or gone is an error of its own, after which the socket can be opened again. Source: the kernel's
//! "SocketCAN" and "Timestamping" documents, `linux/can.h`, `linux/can/error.h`.

use super::{CanFrame, CanFrameError, MAX_PAYLOAD_BYTES};
use crate::packet::ClockId;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, Timestamps, recvmsg};
use nix::sys::time::TimeSpec;
use socketcan::{CanFdSocket, CanFilter, Socket, SocketOptions};
use std::io::{self, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;
use thiserror::Error;

/// `sizeof(struct can_frame)`: identifier, length, three other bytes, 8 bytes of payload.
const CLASSIC_BYTES: usize = 16;
/// `sizeof(struct canfd_frame)`: the same head, 64 bytes of payload.
const FD_BYTES: usize = HEAD_BYTES + MAX_PAYLOAD_BYTES;
const HEAD_BYTES: usize = 8;

const EXTENDED_FLAG: u32 = 0x8000_0000;
const REMOTE_FLAG: u32 = 0x4000_0000;
const ERROR_FLAG: u32 = 0x2000_0000;
const ID_MASK: u32 = 0x1FFF_FFFF;
const STANDARD_ID_MASK: u32 = 0x7FF;
/// `CANFD_BRS`: the payload is sent at the higher rate.
const FD_RATE_SWITCH: u8 = 0x01;

/// What the kernel may set aside for frames that were not read yet, as far as it allows: some 10,000 frames, a second of
/// a full bus. By default it keeps under 300.
const RECEIVE_BUFFER_BYTES: libc::c_int = 4 << 20;

/// Stamps of the kernel and of the controller, both when a frame is received.
const TIMESTAMPING: u32 = libc::SOF_TIMESTAMPING_RX_SOFTWARE
    | libc::SOF_TIMESTAMPING_SOFTWARE
    | libc::SOF_TIMESTAMPING_RX_HARDWARE
    | libc::SOF_TIMESTAMPING_RAW_HARDWARE;

/// Why a CAN socket could not be opened or gives nothing more.
#[derive(Debug, Error)]
pub enum CanSocketError {
    /// There is no such interface, or it was taken away: open the socket again when it is back.
    #[error("CAN interface {interface}: missing")]
    Missing {
        /// The interface's name.
        interface: String,
    },
    /// The interface is down. The socket gives frames again when it is up.
    #[error("CAN interface {interface}: down")]
    Down {
        /// The interface's name.
        interface: String,
    },
    /// The queue of frames to be sent is full.
    #[error("CAN interface {interface}: queue of frames to send is full")]
    QueueFull {
        /// The interface's name.
        interface: String,
    },
    /// The kernel refused for another reason.
    #[error("CAN interface {interface}: {action}: {source}")]
    Refused {
        /// The interface's name.
        interface: String,
        /// What was tried.
        action: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// When a frame was received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CanStamps {
    /// By the kernel, on [`CanStamps::KERNEL_CLOCK`].
    pub kernel_ns: Option<i64>,
    /// By the controller, on a clock of its own.
    pub hardware_ns: Option<i64>,
}

impl CanStamps {
    /// The clock of the kernel's stamps.
    pub const KERNEL_CLOCK: ClockId = ClockId::HostRealtime;
}

/// What a controller tells of in an error frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusError {
    /// The kinds of error, as bits (`CAN_ERR_...` of `linux/can/error.h`).
    pub classes: u32,
    /// The details, where the kinds have any.
    pub details: [u8; 8],
}

impl BusError {
    /// Whether the controller has left the bus: nothing is sent or received until it is restarted.
    pub fn bus_off(&self) -> bool {
        self.classes & 0x40 != 0
    }

    /// Whether the controller is back on the bus.
    pub fn restarted(&self) -> bool {
        self.classes & 0x100 != 0
    }

    /// Whether the controller lost a frame that it had received, for want of room.
    pub fn receive_overflow(&self) -> bool {
        let [_, controller, ..] = self.details;
        self.classes & 0x04 != 0 && controller & 0x01 != 0
    }
}

/// What came off the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanEvent {
    /// A data frame.
    Frame(CanFrame),
    /// A controller's report of an error.
    Error(BusError),
}

/// What a socket has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CanCounts {
    /// Data frames given out.
    pub frames: u64,
    /// Those of them that are CAN FD.
    pub fd_frames: u64,
    /// Data frames that came without the kernel's stamp.
    pub unstamped: u64,
    /// Error frames given out.
    pub errors: u64,
    /// Those of them that tell of a controller that left the bus.
    pub bus_off: u64,
    /// Those of them that tell of frames that a controller lost.
    pub receive_overflows: u64,
    /// Remote frames, which carry no data and are passed over.
    pub remote: u64,
    /// Messages that are no frame, passed over.
    pub malformed: u64,
    /// Frames that the kernel dropped since the socket was not read in time.
    pub dropped: u64,
}

/// A socket on one CAN interface, without waiting.
#[derive(Debug)]
pub struct CanSocket {
    socket: CanFdSocket,
    interface: String,
    bus: u8,
    /// The messages that are taken, all if there are none.
    messages: Vec<(u32, bool)>,
    control: Vec<u8>,
    counts: CanCounts,
    /// The kernel's count of dropped frames, as it was last told.
    kernel_dropped: u32,
}

impl CanSocket {
    /// Opens a socket on an interface; its frames get the number of the bus. An interface that is down can be opened.
    ///
    /// # Errors
    /// [`CanSocketError::Missing`] if there is no such interface.
    pub fn open(interface: &str, bus: u8) -> Result<Self, CanSocketError> {
        Self::open_for(interface, bus, Vec::new())
    }

    /// The same for some messages only, each by its identifier and whether that has 29 bits: the kernel keeps the others back.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_for(interface: &str, bus: u8, messages: Vec<(u32, bool)>) -> Result<Self, CanSocketError> {
        let socket = open_socket(interface, &messages).map_err(|source| refusal(interface, "open", source))?;
        let control = nix::cmsg_space!(Timestamps, u32);
        let (interface, counts) = (interface.to_string(), CanCounts::default());
        Ok(CanSocket { socket, interface, bus, messages, control, counts, kernel_dropped: 0 })
    }

    /// Opens the socket anew, for an interface that was taken away and is back. The counts go on.
    ///
    /// # Errors
    /// As [`open`](Self::open); the old socket stays then.
    pub fn reopen(&mut self) -> Result<(), CanSocketError> {
        let socket = open_socket(&self.interface, &self.messages);
        self.socket = socket.map_err(|source| refusal(&self.interface, "open", source))?;
        self.kernel_dropped = 0;
        Ok(())
    }

    /// What was seen so far.
    pub fn counts(&self) -> CanCounts {
        self.counts
    }

    /// The next frame or error, `None` if none came within the time.
    ///
    /// # Errors
    /// [`CanSocketError::Down`] once when the interface goes down, [`CanSocketError::Missing`] when it is taken away.
    pub fn receive(&mut self, timeout: Duration) -> Result<Option<(CanEvent, CanStamps)>, CanSocketError> {
        if let Some(event) = self.receive_ready()? {
            return Ok(Some(event));
        }
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(Errno::EINTR) => Ok(None),
            Ok(_) => self.receive_ready(),
            Err(errno) => Err(refusal(&self.interface, "wait", errno.into())),
        }
    }

    /// What is there already, past all that is only counted.
    fn receive_ready(&mut self) -> Result<Option<(CanEvent, CanStamps)>, CanSocketError> {
        loop {
            let mut bytes = [0; FD_BYTES];
            let received = match self.receive_message(&mut bytes) {
                Ok(received) => received,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(refusal(&self.interface, "receive", errno.into())),
            };
            if let Some(total) = received.dropped {
                self.counts.dropped += u64::from(total.wrapping_sub(self.kernel_dropped));
                self.kernel_dropped = total;
            }
            let parsed = parse(bytes.get(..received.len).unwrap_or_default(), self.bus);
            if let Some(event) = self.counts.count(parsed, received.stamps) {
                return Ok(Some((event, received.stamps)));
            }
        }
    }

    fn receive_message(&mut self, bytes: &mut [u8]) -> Result<Message, Errno> {
        let mut parts = [IoSliceMut::new(bytes)];
        let control = Some(self.control.as_mut_slice());
        let message = recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, control, MsgFlags::MSG_DONTWAIT)?;
        let (mut stamps, mut dropped) = (CanStamps::default(), None);
        for part in message.cmsgs()? {
            match part {
                ControlMessageOwned::ScmTimestampsns(stamp) => {
                    stamps = CanStamps { kernel_ns: nanoseconds(stamp.system), hardware_ns: nanoseconds(stamp.hw_raw) };
                }
                ControlMessageOwned::RxqOvfl(total) => dropped = Some(total),
                _ => {}
            }
        }
        Ok(Message { len: message.bytes, stamps, dropped })
    }

    /// Sends a frame. CAN FD frames are sent with the higher rate of the payload.
    ///
    /// # Errors
    /// [`CanSocketError::QueueFull`] if it has to be tried again later, [`CanSocketError::Down`] if the interface is down.
    pub fn send(&mut self, frame: &CanFrame) -> Result<(), CanSocketError> {
        let (bytes, len) = encode(frame);
        let written = self.socket.write(bytes.get(..len).unwrap_or_default());
        // The kernel takes a frame whole or not at all.
        written.map(|_| ()).map_err(|source| refusal(&self.interface, "send", source))
    }
}

/// To wait for several sockets at once.
impl AsFd for CanSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

struct Message {
    len: usize,
    stamps: CanStamps,
    dropped: Option<u32>,
}

fn open_socket(interface: &str, messages: &[(u32, bool)]) -> io::Result<CanFdSocket> {
    let socket = CanFdSocket::open(interface)?;
    socket.set_nonblocking(true)?;
    socket.set_error_filter_accept_all()?;
    if !messages.is_empty() {
        let filters: Vec<CanFilter> = messages.iter().map(|(id, extended)| filter(*id, *extended)).collect();
        socket.set_filters(&filters)?;
    }
    socket.set_timestamping(TIMESTAMPING)?;
    socket.set_socket_option_int(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    // Beyond the system's limit with the right to do so, else up to it.
    if socket.set_socket_option_int(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES).is_err() {
        socket.set_socket_option_int(libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER_BYTES)?;
    }
    Ok(socket)
}

/// Data frames of that identifier alone.
fn filter(id: u32, extended: bool) -> CanFilter {
    let (id, mask) = if extended { (id | EXTENDED_FLAG, ID_MASK) } else { (id, STANDARD_ID_MASK) };
    CanFilter::new(id, mask | EXTENDED_FLAG | REMOTE_FLAG)
}

fn refusal(interface: &str, action: &'static str, source: io::Error) -> CanSocketError {
    let interface = interface.to_string();
    match source.raw_os_error() {
        Some(libc::ENETDOWN) => CanSocketError::Down { interface },
        Some(libc::ENODEV | libc::ENXIO) => CanSocketError::Missing { interface },
        Some(libc::ENOBUFS | libc::EAGAIN) => CanSocketError::QueueFull { interface },
        _ => CanSocketError::Refused { interface, action, source },
    }
}

/// A stamp of all zeros is none.
fn nanoseconds(time: TimeSpec) -> Option<i64> {
    let ns = time.tv_sec().checked_mul(1_000_000_000)?.checked_add(time.tv_nsec())?;
    (ns != 0).then_some(ns)
}

/// What a message of a raw CAN socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parsed {
    Event(CanEvent),
    Remote,
    Malformed,
}

impl CanCounts {
    fn count(&mut self, parsed: Parsed, stamps: CanStamps) -> Option<CanEvent> {
        let event = match parsed {
            Parsed::Event(event) => event,
            Parsed::Remote => {
                self.remote += 1;
                return None;
            }
            Parsed::Malformed => {
                self.malformed += 1;
                return None;
            }
        };
        match event {
            CanEvent::Frame(frame) => {
                self.frames += 1;
                self.fd_frames += u64::from(frame.fd);
                self.unstamped += u64::from(stamps.kernel_ns.is_none());
            }
            CanEvent::Error(error) => {
                self.errors += 1;
                self.bus_off += u64::from(error.bus_off());
                self.receive_overflows += u64::from(error.receive_overflow());
            }
        }
        Some(event)
    }
}

/// Reads `struct can_frame` or `struct canfd_frame`: the length of the message tells which.
fn parse(bytes: &[u8], bus: u8) -> Parsed {
    let fd = match bytes.len() {
        CLASSIC_BYTES => false,
        FD_BYTES => true,
        _ => return Parsed::Malformed,
    };
    let Some(([id_0, id_1, id_2, id_3, len, ..], payload)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
        return Parsed::Malformed;
    };
    let word = u32::from_ne_bytes([*id_0, *id_1, *id_2, *id_3]);
    if word & ERROR_FLAG != 0 {
        let details = payload.first_chunk().copied().unwrap_or_default();
        return Parsed::Event(CanEvent::Error(BusError { classes: word & ID_MASK, details }));
    }
    if word & REMOTE_FLAG != 0 {
        return Parsed::Remote;
    }
    let extended = word & EXTENDED_FLAG != 0;
    let id = word & if extended { ID_MASK } else { STANDARD_ID_MASK };
    let frame = payload.get(..usize::from(*len)).map(|payload| CanFrame::new(id, extended, fd, bus, payload));
    frame
        .and_then(|frame: Result<_, CanFrameError>| frame.ok())
        .map_or(Parsed::Malformed, |frame| Parsed::Event(CanEvent::Frame(frame)))
}

/// The frame as a message of a raw CAN socket, and the message's length.
fn encode(frame: &CanFrame) -> ([u8; FD_BYTES], usize) {
    let mut bytes = [0; FD_BYTES];
    let word = frame.id | if frame.extended { EXTENDED_FLAG } else { 0 };
    let flags = if frame.fd { FD_RATE_SWITCH } else { 0 };
    let [id_0, id_1, id_2, id_3] = word.to_ne_bytes();
    let head = [id_0, id_1, id_2, id_3, frame.payload().len() as u8, flags, 0, 0];
    for (to, from) in bytes.iter_mut().zip(head.iter().chain(frame.payload())) {
        *to = *from;
    }
    (bytes, if frame.fd { FD_BYTES } else { CLASSIC_BYTES })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(word: u32, len: u8, payload: &[u8], bytes: usize) -> Vec<u8> {
        let mut message = word.to_ne_bytes().to_vec();
        message.extend([len, 0, 0, 0]);
        message.extend(payload);
        message.resize(bytes, 0);
        message
    }

    fn frame(parsed: Parsed) -> Option<CanFrame> {
        match parsed {
            Parsed::Event(CanEvent::Frame(frame)) => Some(frame),
            _ => None,
        }
    }

    #[test]
    fn sizes_are_those_of_the_kernel() {
        assert_eq!(CLASSIC_BYTES, size_of::<libc::can_frame>());
        assert_eq!(FD_BYTES, size_of::<libc::canfd_frame>());
        assert_eq!((EXTENDED_FLAG, REMOTE_FLAG), (libc::CAN_EFF_FLAG, libc::CAN_RTR_FLAG));
        assert_eq!((ERROR_FLAG, ID_MASK), (libc::CAN_ERR_FLAG, libc::CAN_ERR_MASK));
    }

    #[test]
    fn frames_come_back() {
        let frames = [
            CanFrame::new(0x123, false, false, 3, &[1, 2, 3]).unwrap(),
            CanFrame::new(0x1234_5678, true, false, 3, &[]).unwrap(),
            CanFrame::new(0x7FF, false, true, 3, &[9; 64]).unwrap(),
            CanFrame::new(0x1FFF_FFFF, true, true, 3, &[8; 12]).unwrap(),
        ];
        for sent in frames {
            let (bytes, len) = encode(&sent);
            assert_eq!(frame(parse(&bytes[..len], 3)), Some(sent));
        }
    }

    #[test]
    fn error_frames_tell_of_the_controller() {
        let overflow = parse(&message(ERROR_FLAG | 0x44, 8, &[0, 1], 16), 0);
        let Parsed::Event(CanEvent::Error(error)) = overflow else { panic!("{overflow:?}") };
        assert!(error.bus_off() && error.receive_overflow() && !error.restarted());
        let mut counts = CanCounts::default();
        assert_eq!(counts.count(overflow, CanStamps::default()), Some(CanEvent::Error(error)));
        assert_eq!((counts.errors, counts.bus_off, counts.receive_overflows), (1, 1, 1));
        let restarted = parse(&message(ERROR_FLAG | 0x100, 8, &[], 16), 0);
        assert!(matches!(restarted, Parsed::Event(CanEvent::Error(error)) if error.restarted() && !error.bus_off()));
    }

    #[test]
    fn what_is_no_data_frame_is_counted() {
        let mut counts = CanCounts::default();
        let stamps = CanStamps::default();
        assert_eq!(counts.count(parse(&message(REMOTE_FLAG | 5, 0, &[], 16), 0), stamps), None);
        for bytes in
            [message(5, 9, &[0; 8], 16), message(5, 65, &[0; 64], 72), message(5, 9, &[0; 64], 72), vec![0; 15]]
        {
            assert_eq!(counts.count(parse(&bytes, 0), stamps), None, "{bytes:?}");
        }
        assert!(counts.count(parse(&message(5, 1, &[7], 16), 0), stamps).is_some());
        assert_eq!((counts.remote, counts.malformed, counts.frames, counts.unstamped), (1, 4, 1, 1));
    }

    #[test]
    fn an_interface_that_is_not_there_is_missing() {
        let missing = CanSocket::open("nocan7", 0).err();
        assert!(matches!(missing, Some(CanSocketError::Missing { .. })), "{missing:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_borne(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            for len in 0..=bytes.len() {
                let _ = parse(&bytes[..len], 1);
            }
        }

        #[test]
        fn any_frame_sized_bytes_give_a_payload_within(mut bytes in prop::collection::vec(any::<u8>(), 72), fd: bool) {
            bytes.truncate(if fd { FD_BYTES } else { CLASSIC_BYTES });
            if let Some(frame) = frame(parse(&bytes, 1)) {
                prop_assert_eq!(frame.payload(), &bytes[HEAD_BYTES..HEAD_BYTES + usize::from(frame.len)]);
            }
        }
    }
}
