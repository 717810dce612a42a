//! DBC files: which bits of which CAN message mean what. [`Dbc::parse`] takes a file's bytes and compiles them to a
//! table sorted by message identifier; [`Dbc::decode`] reads a signal from a frame with that table. Promised:
//! decoding neither allocates nor panics, and a value is exactly `raw * factor + offset` in f64, in that order.
//!
//! A signal is absent from a frame, rather than wrong, where the frame is shorter than the message that the file
//! declares (or than the signal needs), or where the message's multiplexer selects other signals.

use super::{CanFrame, MAX_EXTENDED_ID, MAX_PAYLOAD_BYTES, MAX_STANDARD_ID};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// The message under which DBC editors keep signals that belong to no message.
const ORPHANS: &str = "VECTOR__INDEPENDENT_SIG_MSG";

/// Where in a DBC file something was defined. Shown as `file:line: MESSAGE` or `file:line: MESSAGE.SIGNAL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's name, as given to [`Dbc::parse`].
    pub file: Arc<str>,
    /// The line of the message's head (`BO_`), from 1.
    pub line: usize,
    /// The message, or the message and its signal.
    pub item: String,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.file, self.line, self.item)
    }
}

/// Why a DBC file, or several together, cannot be used.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum DbcError {
    /// The text does not follow the DBC grammar.
    #[error("{file}: not a DBC file: {cause}")]
    Syntax {
        /// The file.
        file: Arc<str>,
        /// What the grammar expected, with line and column.
        cause: String,
    },
    /// A message definition follows something else on its line, so its identifier cannot be checked.
    #[error("{file}: message {message}: expected its BO_ at the beginning of a line")]
    MessageNotAtLineStart {
        /// The file.
        file: Arc<str>,
        /// The message's name.
        message: String,
    },
    /// A message identifier has more bits than CAN allows.
    #[error("{at}: expected an identifier of 11 bits, or of 29 bits plus 2^31, found {found}")]
    IdTooLarge {
        /// The message.
        at: Place,
        /// The number in the file.
        found: u64,
    },
    /// A message is longer than any CAN frame.
    #[error("{at}: expected a length of at most 64 bytes, found {found}")]
    MessageTooLong {
        /// The message.
        at: Place,
        /// The length in the file, in bytes.
        found: u64,
    },
    /// Two messages share an identifier.
    #[error("{at}: identifier {id:#x} is already taken by {other}")]
    DuplicateId {
        /// The later message.
        at: Place,
        /// The earlier message.
        other: Place,
        /// The identifier, without the flag for 29 bits.
        id: u32,
    },
    /// Two messages share a name, so that `MESSAGE.SIGNAL` would be ambiguous.
    #[error("{at}: this name is already taken by {other}")]
    DuplicateName {
        /// One message.
        at: Place,
        /// The other message.
        other: Place,
    },
    /// Two signals of a message share a name.
    #[error("{at}: the message has two signals of this name")]
    DuplicateSignal {
        /// The signal.
        at: Place,
    },
    /// A signal's width is impossible.
    #[error("{at}: expected a width of 1 to 64 bits, found {found}")]
    SignalWidth {
        /// The signal.
        at: Place,
        /// The width in the file, in bits.
        found: u64,
    },
    /// A signal reaches beyond the longest CAN frame.
    #[error("{at}: expected all bits within 64 bytes, found {width} bits from bit {start_bit}")]
    SignalOutside {
        /// The signal.
        at: Place,
        /// The start bit in the file.
        start_bit: u64,
        /// The width in the file, in bits.
        width: u64,
    },
    /// A factor or offset is too large for an f64.
    #[error("{at}: expected a finite factor and offset, found ({factor},{offset})")]
    Scale {
        /// The signal.
        at: Place,
        /// The factor as read.
        factor: f64,
        /// The offset as read.
        offset: f64,
    },
    /// A floating-point signal (`SIG_VALTYPE_`) does not have the width of its format.
    #[error("{at}: expected a width of {expected} bits for this floating-point signal, found {found}")]
    FloatWidth {
        /// The signal.
        at: Place,
        /// The format's width in bits.
        expected: u32,
        /// The signal's width in bits.
        found: u32,
    },
    /// It is not clear which signal selects this one.
    #[error("{at}: expected one multiplexer for this signal, found {found}")]
    MultiplexerCount {
        /// The multiplexed signal.
        at: Place,
        /// How many there are.
        found: usize,
    },
    /// The multiplexer named by `SG_MUL_VAL_` is not in the message.
    #[error("{at}: expected a multiplexer in the same message, found {multiplexer}, which is not")]
    MultiplexerMissing {
        /// The multiplexed signal.
        at: Place,
        /// The name in `SG_MUL_VAL_`.
        multiplexer: String,
    },
    /// Multiplexers select each other in a circle.
    #[error("{at}: the multiplexers that select this signal form a circle")]
    MultiplexerCircle {
        /// The multiplexed signal.
        at: Place,
    },
}

/// Identifies a message on any bus: whether the identifier has 29 bits, and the identifier.
type MessageKey = (bool, u32);

/// A compiled DBC file, or several merged ones: messages sorted by identifier.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dbc {
    messages: Vec<Message>,
    /// Their keys, close together: a search in the messages themselves would wait for memory at every step.
    keys: Vec<MessageKey>,
}

/// One signal of one [`Dbc`]. With another [`Dbc`] it names another signal or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SignalRef {
    message: usize,
    signal: usize,
}

impl Dbc {
    /// Compiles a DBC file. `bytes` are UTF-8 or else Latin-1; `file` is its name for messages. References to signals
    /// that do not exist (`SIG_VALTYPE_`, `SG_MUL_VAL_`) are ignored, as editors leave them behind.
    ///
    /// # Errors
    /// If the text is not a DBC file, or describes something that no CAN frame can carry or that is ambiguous.
    pub fn parse(bytes: &[u8], file: &str) -> Result<Self, DbcError> {
        let file: Arc<str> = Arc::from(file);
        let text = text_of(bytes);
        let source = can_dbc::Dbc::try_from(&*text)
            .map_err(|cause| DbcError::Syntax { file: Arc::clone(&file), cause: cause.to_string() })?;
        let mut heads = message_heads(&text);
        let mut messages = Vec::with_capacity(source.messages.len());
        for message in source.messages.iter().filter(|message| message.name != ORPHANS) {
            let head = heads.find(|head| head.name == message.name).ok_or_else(|| DbcError::MessageNotAtLineStart {
                file: Arc::clone(&file),
                message: message.name.clone(),
            })?;
            messages.push(compile_message(&source, message, &head, &file)?);
        }
        Self::from_messages(messages)
    }

    /// One table of several files that describe the same bus.
    ///
    /// # Errors
    /// If two messages share an identifier or a name: files of different buses do, and are kept apart.
    pub fn merge(tables: impl IntoIterator<Item = Self>) -> Result<Self, DbcError> {
        Self::from_messages(tables.into_iter().flat_map(|table| table.messages).collect())
    }

    fn from_messages(mut messages: Vec<Message>) -> Result<Self, DbcError> {
        messages.sort_by_key(|message| message.key);
        for pair in messages.windows(2) {
            if let [other, at] = pair
                && at.key == other.key
            {
                return Err(DbcError::DuplicateId { at: at.place(), other: other.place(), id: at.key.1 });
            }
        }
        let mut by_name: Vec<&Message> = messages.iter().collect();
        by_name.sort_by_key(|message| message.name.as_str());
        for pair in by_name.windows(2) {
            if let [other, at] = pair
                && at.name == other.name
            {
                return Err(DbcError::DuplicateName { at: at.place(), other: other.place() });
            }
        }
        let keys = messages.iter().map(|message| message.key).collect();
        Ok(Self { messages, keys })
    }

    /// All messages, sorted by identifier, those of 11 bits first.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The message of that identifier (`extended`: 29 bits).
    pub fn message(&self, id: u32, extended: bool) -> Option<&Message> {
        self.messages.get(self.keys.binary_search(&(extended, id)).ok()?)
    }

    /// The signal called `MESSAGE.SIGNAL`. Searches by name: look signals up once, then decode with the result.
    pub fn signal(&self, path: &str) -> Option<SignalRef> {
        let (message_name, signal_name) = path.split_once('.')?;
        let message = self.messages.iter().position(|message| message.name == message_name)?;
        let signals = &self.messages.get(message)?.signals;
        let signal = signals.iter().position(|signal| signal.name == signal_name)?;
        Some(SignalRef { message, signal })
    }

    /// What the file says of a signal.
    pub fn describe(&self, signal: SignalRef) -> Option<&Signal> {
        self.messages.get(signal.message)?.signals.get(signal.signal)
    }

    /// The signal's physical value in a frame, in the file's unit. `None` where the frame is another message or does
    /// not hold the signal. Not finite only for floating-point signals that are sent so.
    pub fn decode(&self, signal: SignalRef, frame: &CanFrame) -> Option<f64> {
        let message = self.messages.get(signal.message)?;
        if message.key != (frame.extended, frame.id) {
            return None;
        }
        message.value(message.signals.get(signal.signal)?, frame)
    }

    /// Visits every signal that the frame holds, in the file's order, with its physical value. Returns how many.
    pub fn decode_all(&self, frame: &CanFrame, visit: &mut impl FnMut(&Signal, f64)) -> usize {
        let Some(message) = self.message(frame.id, frame.extended) else {
            return 0;
        };
        if !message.quick.is_empty()
            && frame.len >= message.len_bytes
            && let Some(head) = frame.data.first_chunk()
        {
            let (little, big) = (u64::from_le_bytes(*head), u64::from_be_bytes(*head));
            for (signal, quick) in message.signals.iter().zip(&message.quick) {
                visit(signal, quick.physical(little, big));
            }
            return message.signals.len();
        }
        let mut visited = 0;
        for signal in &message.signals {
            if let Some(value) = message.value(signal, frame) {
                visit(signal, value);
                visited += 1;
            }
        }
        visited
    }
}

/// A message and its signals.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    key: MessageKey,
    name: String,
    len_bytes: u8,
    signals: Vec<Signal>,
    /// How to decode all of them at once; empty where that is not possible.
    quick: Vec<Quick>,
    file: Arc<str>,
    line: usize,
}

impl Message {
    /// The identifier, without the flag for 29 bits.
    pub fn id(&self) -> u32 {
        self.key.1
    }

    /// Whether the identifier has 29 bits.
    pub fn extended(&self) -> bool {
        self.key.0
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The length that the file declares, in bytes. Shorter frames are not decoded.
    pub fn len_bytes(&self) -> u8 {
        self.len_bytes
    }

    /// The signals, in the file's order.
    pub fn signals(&self) -> &[Signal] {
        &self.signals
    }

    /// Where the message is defined.
    pub fn place(&self) -> Place {
        Place { file: Arc::clone(&self.file), line: self.line, item: self.name.clone() }
    }

    fn value(&self, signal: &Signal, frame: &CanFrame) -> Option<f64> {
        if frame.len < self.len_bytes || !self.selects(signal, frame) {
            return None;
        }
        Some(signal.physical(signal.layout.raw(frame)?))
    }

    /// Whether every multiplexer above the signal selects it. Ends because compiled gates form no circle.
    fn selects(&self, signal: &Signal, frame: &CanFrame) -> bool {
        let mut gate = signal.gate.as_ref();
        while let Some(current) = gate {
            let Some(multiplexer) = self.signals.get(current.multiplexer) else {
                return false;
            };
            let Some(raw) = multiplexer.layout.raw(frame) else {
                return false;
            };
            if !current.ranges.iter().any(|(low, high)| (*low..=*high).contains(&raw)) {
                return false;
            }
            gate = multiplexer.gate.as_ref();
        }
        true
    }
}

/// One signal: which bits, and what they mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    name: String,
    unit: String,
    factor: f64,
    offset: f64,
    layout: Layout,
    number: Number,
    gate: Option<Gate>,
}

impl Signal {
    /// The name, unique within its message.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The unit as the file writes it, often empty.
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// What the raw number is multiplied by.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// What is then added, in the signal's unit.
    pub fn offset(&self) -> f64 {
        self.offset
    }

    fn physical(&self, raw: u64) -> f64 {
        let number = match self.number {
            Number::Whole { sign_bit } => (raw ^ sign_bit).wrapping_sub(sign_bit) as i64 as f64,
            Number::Unsigned64 => raw as f64,
            Number::Float32 => f64::from(f32::from_bits(raw as u32)),
            Number::Float64 => f64::from_bits(raw),
        };
        number * self.factor + self.offset
    }
}

/// How a signal's bits are a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    /// `sign_bit` weighs negative; it is 0 where the number has no sign. One case for both, since a processor cannot
    /// guess which comes next.
    Whole {
        sign_bit: u64,
    },
    /// Does not fit the case above.
    Unsigned64,
    Float32,
    Float64,
}

/// A signal is present only where `multiplexer`, an index into the message's signals, has a raw value in one of the
/// inclusive `ranges`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Gate {
    multiplexer: usize,
    ranges: Vec<(u64, u64)>,
}

/// What it takes to decode a signal that is always there, a whole number, and in the first eight bytes: almost all are. Names, units
/// and gates lie elsewhere, so that the signals of a message are a few lines of memory.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Quick {
    factor: f64,
    offset: f64,
    /// Of the shifted word.
    mask: u64,
    sign_bit: u64,
    shift: u8,
    is_big_endian: bool,
}

impl Quick {
    /// Of all signals of a message of that length; none unless each of them is such.
    fn of_all(signals: &[Signal], len_bytes: u8) -> Vec<Self> {
        let all: Option<Vec<Self>> = signals.iter().map(|signal| Self::of(signal, len_bytes)).collect();
        all.unwrap_or_default()
    }

    fn of(signal: &Signal, len_bytes: u8) -> Option<Self> {
        let Signal { factor, offset, layout, number: Number::Whole { sign_bit }, gate: None, .. } = *signal else {
            return None;
        };
        if layout.end > len_bytes.min(WORD_BYTES as u8) {
            return None;
        }
        // the layout's own word begins at `first`, this one at the first byte; a signal that ends within it is one load
        let shift = match layout.order {
            Order::LittleEndian => layout.shift + 8 * layout.first,
            Order::BigEndian => layout.shift.checked_sub(8 * layout.first)?,
        };
        let (mask, is_big_endian) = (u64::MAX >> (64 - layout.width), layout.order == Order::BigEndian);
        Some(Self { factor, offset, mask, sign_bit, shift, is_big_endian })
    }

    /// The value, of the first eight bytes read in either order.
    fn physical(&self, little: u64, big: u64) -> f64 {
        let word = if self.is_big_endian { big } else { little };
        let raw = (word >> self.shift) & self.mask;
        (raw ^ self.sign_bit).wrapping_sub(self.sign_bit) as i64 as f64 * self.factor + self.offset
    }
}

/// In which direction a signal runs through the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Intel: the start bit is the least significant; bits go up within a byte and on to the next byte's bit 0.
    LittleEndian,
    /// Motorola: the start bit is the most significant; bits go down within a byte and on to the next byte's bit 7.
    BigEndian,
}

/// A signal's place in the payload: bytes `first..=last` read as one integer in that order, shifted right by `shift`,
/// of which the lowest `width` bits are the signal. Bytes that are no more than eight are extended to eight, so that
/// they are one load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    order: Order,
    first: u8,
    last: u8,
    shift: u8,
    width: u8,
    /// How long a payload must be.
    end: u8,
}

/// The bytes of a load.
const WORD_BYTES: u32 = 8;

impl Layout {
    /// From the numbers in the file. Bit `8 * byte + n` is the bit of weight 2^n in that byte, for both orders.
    /// `None` where `width` is not 1 to 64 or a bit lies beyond 64 bytes.
    fn new(start_bit: u64, width: u64, order: Order) -> Option<Self> {
        let width = u32::try_from(width).ok().filter(|width| (1..=64).contains(width))?;
        let start_bit = u32::try_from(start_bit).ok().filter(|bit| *bit < 8 * MAX_PAYLOAD_BYTES as u32)?;
        // Bits of the first byte that come before the signal, in the order in which the signal runs.
        let skipped = match order {
            Order::LittleEndian => start_bit % 8,
            Order::BigEndian => 7 - start_bit % 8,
        };
        let begin = start_bit / 8;
        let end = begin + (skipped + width).div_ceil(8);
        if end > MAX_PAYLOAD_BYTES as u32 {
            return None;
        }
        let first = begin.min(MAX_PAYLOAD_BYTES as u32 - WORD_BYTES);
        let last = (end - 1).max(first + WORD_BYTES - 1);
        let shift = match order {
            Order::LittleEndian => 8 * (begin - first) + skipped,
            Order::BigEndian => 8 * (last + 1 - begin) - skipped - width,
        };
        let [first, last, shift, width, end] = [first, last, shift, width, end].map(|number| number as u8);
        Some(Self { order, first, last, shift, width, end })
    }

    /// The signal's bits as a number, `None` where the payload is too short.
    fn raw(&self, frame: &CanFrame) -> Option<u64> {
        if frame.len < self.end {
            return None;
        }
        let bytes = frame.data.get(usize::from(self.first)..=usize::from(self.last))?;
        let window = match (<&[u8; WORD_BYTES as usize]>::try_from(bytes), self.order) {
            (Ok(word), Order::LittleEndian) => u64::from_le_bytes(*word) >> self.shift,
            (Ok(word), Order::BigEndian) => u64::from_be_bytes(*word) >> self.shift,
            (Err(_), order) => joined(bytes, order, self.shift),
        };
        Some(window & (u64::MAX >> (64 - self.width)))
    }
}

/// Nine bytes, which the widest signals take where they begin within a byte, shifted.
fn joined(bytes: &[u8], order: Order, shift: u8) -> u64 {
    let join = |window: u128, byte: &u8| (window << 8) | u128::from(*byte);
    let window = match order {
        Order::LittleEndian => bytes.iter().rev().fold(0, join),
        Order::BigEndian => bytes.iter().fold(0, join),
    };
    (window >> shift) as u64
}

/// UTF-8 where it is valid, else every byte the Latin-1 character of its number. A byte-order mark is dropped.
fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(_) => Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect()),
    }
}

/// The beginning `BO_ id name` of a message definition, from 1.
struct MessageHead<'a> {
    line: usize,
    id: u64,
    name: &'a str,
}

/// The heads in the file's order. The parser keeps neither lines nor the upper bits of an identifier that is too
/// large, so both are read here.
fn message_heads(text: &str) -> impl Iterator<Item = MessageHead<'_>> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let rest = line.trim_start().strip_prefix("BO_")?.trim_start();
        let id_end = rest.find(|c: char| !c.is_ascii_digit())?;
        let (id, rest) = rest.split_at_checked(id_end)?;
        let name = rest.split(':').next()?.trim();
        Some(MessageHead { line: index + 1, id: id.parse().ok()?, name })
    })
}

fn compile_message(
    source: &can_dbc::Dbc,
    message: &can_dbc::Message,
    head: &MessageHead<'_>,
    file: &Arc<str>,
) -> Result<Message, DbcError> {
    let at = Place { file: Arc::clone(file), line: head.line, item: message.name.clone() };
    let Some(key) = message_key(head.id) else {
        return Err(DbcError::IdTooLarge { at, found: head.id });
    };
    let Some(len_bytes) = u8::try_from(message.size).ok().filter(|len| usize::from(*len) <= MAX_PAYLOAD_BYTES) else {
        return Err(DbcError::MessageTooLong { at, found: message.size });
    };
    let mut signals = Vec::with_capacity(message.signals.len());
    for signal in &message.signals {
        signals.push(compile_signal(source, message.id, signal, signal_place(&at, &signal.name))?);
    }
    check_signal_names(&signals, &at)?;
    for (index, signal) in message.signals.iter().enumerate() {
        let gate = compile_gate(source, message, signal, signal_place(&at, &signal.name))?;
        if let Some(compiled) = signals.get_mut(index) {
            compiled.gate = gate;
        }
    }
    if let Some(signal) = signals.iter().find(|signal| in_circle(&signals, signal)) {
        return Err(DbcError::MultiplexerCircle { at: signal_place(&at, &signal.name) });
    }
    let (name, quick) = (message.name.clone(), Quick::of_all(&signals, len_bytes));
    Ok(Message { key, name, len_bytes, signals, quick, file: Arc::clone(file), line: head.line })
}

/// Bit 31 of the number in the file says that the identifier has 29 bits.
fn message_key(id: u64) -> Option<MessageKey> {
    const EXTENDED: u32 = 1 << 31;
    let id = u32::try_from(id).ok()?;
    let extended = id & EXTENDED != 0;
    let id = id & !EXTENDED;
    let max = if extended { MAX_EXTENDED_ID } else { MAX_STANDARD_ID };
    (id <= max).then_some((extended, id))
}

fn signal_place(message: &Place, signal: &str) -> Place {
    Place { file: Arc::clone(&message.file), line: message.line, item: format!("{}.{signal}", message.item) }
}

fn check_signal_names(signals: &[Signal], at: &Place) -> Result<(), DbcError> {
    let mut names: Vec<&str> = signals.iter().map(|signal| signal.name.as_str()).collect();
    names.sort_unstable();
    for pair in names.windows(2) {
        if let [one, other] = pair
            && one == other
        {
            return Err(DbcError::DuplicateSignal { at: signal_place(at, one) });
        }
    }
    Ok(())
}

fn compile_signal(
    source: &can_dbc::Dbc,
    message_id: can_dbc::MessageId,
    signal: &can_dbc::Signal,
    at: Place,
) -> Result<Signal, DbcError> {
    if !(1..=64).contains(&signal.size) {
        return Err(DbcError::SignalWidth { at, found: signal.size });
    }
    let order = match signal.byte_order {
        can_dbc::ByteOrder::LittleEndian => Order::LittleEndian,
        can_dbc::ByteOrder::BigEndian => Order::BigEndian,
    };
    let Some(layout) = Layout::new(signal.start_bit, signal.size, order) else {
        return Err(DbcError::SignalOutside { at, start_bit: signal.start_bit, width: signal.size });
    };
    let (factor, offset) = (signal.factor, signal.offset);
    if !factor.is_finite() || !offset.is_finite() {
        return Err(DbcError::Scale { at, factor, offset });
    }
    let number = number_of(source, message_id, signal, layout.width.into());
    let expected = match number {
        Number::Float32 => 32,
        Number::Float64 => 64,
        Number::Whole { .. } | Number::Unsigned64 => layout.width.into(),
    };
    if u32::from(layout.width) != expected {
        return Err(DbcError::FloatWidth { at, expected, found: layout.width.into() });
    }
    Ok(Signal { name: signal.name.clone(), unit: signal.unit.clone(), factor, offset, layout, number, gate: None })
}

/// `width` is from 1 to 64.
fn number_of(source: &can_dbc::Dbc, message_id: can_dbc::MessageId, signal: &can_dbc::Signal, width: u32) -> Number {
    match source.extended_value_type_for_signal(message_id, &signal.name) {
        Some(can_dbc::SignalExtendedValueType::IEEEfloat32Bit) => return Number::Float32,
        Some(can_dbc::SignalExtendedValueType::IEEEdouble64bit) => return Number::Float64,
        Some(can_dbc::SignalExtendedValueType::SignedOrUnsignedInteger) | None => {}
    }
    match signal.value_type {
        can_dbc::ValueType::Signed => Number::Whole { sign_bit: 1 << (width - 1) },
        can_dbc::ValueType::Unsigned if width < u64::BITS => Number::Whole { sign_bit: 0 },
        can_dbc::ValueType::Unsigned => Number::Unsigned64,
    }
}

/// What selects a signal. `SG_MUL_VAL_` (extended multiplexing) names the multiplexer and its ranges; without it,
/// `mN` means that the message's one `M` signal equals N.
fn compile_gate(
    source: &can_dbc::Dbc,
    message: &can_dbc::Message,
    signal: &can_dbc::Signal,
    at: Place,
) -> Result<Option<Gate>, DbcError> {
    use can_dbc::MultiplexIndicator::{MultiplexedSignal, Multiplexor, MultiplexorAndMultiplexedSignal, Plain};

    let mut rules = source
        .extended_multiplex
        .iter()
        .filter(|rule| rule.message_id == message.id && rule.signal_name == signal.name);
    if let Some(rule) = rules.next() {
        let others = rules.count();
        if others > 0 {
            return Err(DbcError::MultiplexerCount { at, found: 1 + others });
        }
        let name = &rule.multiplexor_signal_name;
        let Some(multiplexer) = message.signals.iter().position(|candidate| candidate.name == *name) else {
            return Err(DbcError::MultiplexerMissing { at, multiplexer: name.clone() });
        };
        let ranges = rule.mappings.iter().map(|range| (range.min_value, range.max_value)).collect();
        return Ok(Some(Gate { multiplexer, ranges }));
    }

    let selected_by = match signal.multiplexer_indicator {
        Plain | Multiplexor => return Ok(None),
        MultiplexedSignal(value) | MultiplexorAndMultiplexedSignal(value) => value,
    };
    let is_multiplexer = |candidate: &can_dbc::Signal| candidate.multiplexer_indicator == Multiplexor;
    let found = message.signals.iter().filter(|candidate| is_multiplexer(candidate)).count();
    match message.signals.iter().position(is_multiplexer) {
        Some(multiplexer) if found == 1 => Ok(Some(Gate { multiplexer, ranges: vec![(selected_by, selected_by)] })),
        _ => Err(DbcError::MultiplexerCount { at, found }),
    }
}

/// Whether following the gates up from a signal never ends.
fn in_circle(signals: &[Signal], signal: &Signal) -> bool {
    let mut gate = signal.gate.as_ref();
    for _ in 0..=signals.len() {
        let Some(current) = gate else {
            return false;
        };
        gate = signals.get(current.multiplexer).and_then(|multiplexer| multiplexer.gate.as_ref());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::can::comma2k19;
    use proptest::prelude::*;

    const DEMO: &str = r#"VERSION ""

BO_ 256 MUXED: 8 XXX
 SG_ SWITCH M : 0|8@1+ (1,0) [0|0] "" XXX
 SG_ ONE m1 : 8|8@1- (0.5,10) [0|0] "deg" XXX
 SG_ TWO m2 : 8|16@1+ (1,0) [0|0] "" XXX
 SG_ ALWAYS : 31|8@0+ (1,0) [0|0] "" XXX

BO_ 2147483904 FLOATS: 12 XXX
 SG_ SINGLE : 0|32@1- (2,1) [0|0] "" XXX
 SG_ DOUBLE : 39|64@0- (1,0) [0|0] "" XXX

BO_ 257 NESTED: 3 XXX
 SG_ ROOT M : 0|8@1+ (1,0) [0|0] "" XXX
 SG_ MIDDLE m1M : 8|8@1+ (1,0) [0|0] "" XXX
 SG_ LEAF m5 : 16|8@1+ (1,0) [0|0] "" XXX

SIG_VALTYPE_ 2147483904 SINGLE : 1;
SIG_VALTYPE_ 2147483904 DOUBLE : 2;
SG_MUL_VAL_ 257 MIDDLE ROOT 1-1;
SG_MUL_VAL_ 257 LEAF MIDDLE 5-7, 9-9;
"#;

    fn demo() -> Dbc {
        Dbc::parse(DEMO.as_bytes(), "demo.dbc").unwrap()
    }

    fn frame(id: u32, payload: &[u8]) -> CanFrame {
        CanFrame::new(id, false, payload.len() > 8, 0, payload).unwrap()
    }

    fn value(dbc: &Dbc, path: &str, frame: &CanFrame) -> Option<f64> {
        dbc.decode(dbc.signal(path).unwrap(), frame)
    }

    /// Parses one message `BO_ 100 M: 8 X` with that body.
    fn parse_signals(body: &str) -> Result<Dbc, DbcError> {
        let text = format!("VERSION \"\"\n\nBO_ 100 M: 8 X\n{body}\n");
        Dbc::parse(text.as_bytes(), "t.dbc")
    }

    #[test]
    fn multiplexer_selects_signals() {
        let dbc = demo();
        let one = frame(256, &[1, 0xFE, 0, 42, 0, 0, 0, 0]);
        assert_eq!(value(&dbc, "MUXED.SWITCH", &one), Some(1.0));
        assert_eq!(value(&dbc, "MUXED.ONE", &one), Some(9.0));
        assert_eq!(value(&dbc, "MUXED.TWO", &one), None);
        assert_eq!(value(&dbc, "MUXED.ALWAYS", &one), Some(42.0));
        let two = frame(256, &[2, 0xFE, 1, 42, 0, 0, 0, 0]);
        assert_eq!(value(&dbc, "MUXED.ONE", &two), None);
        assert_eq!(value(&dbc, "MUXED.TWO", &two), Some(510.0));
    }

    #[test]
    fn extended_multiplexing_needs_every_level() {
        let dbc = demo();
        let leaf = |payload: [u8; 3]| value(&dbc, "NESTED.LEAF", &frame(257, &payload));
        assert_eq!(leaf([1, 5, 77]), Some(77.0));
        assert_eq!(leaf([1, 7, 77]), Some(77.0));
        assert_eq!(leaf([1, 8, 77]), None);
        assert_eq!(leaf([1, 9, 77]), Some(77.0));
        assert_eq!(leaf([0, 5, 77]), None);
    }

    #[test]
    fn floating_point_signals() {
        let dbc = demo();
        let mut payload = [0; 12];
        payload[..4].copy_from_slice(&(-1.5f32).to_le_bytes());
        payload[4..].copy_from_slice(&0.1f64.to_be_bytes());
        let frame = CanFrame::new(256, true, true, 0, &payload).unwrap();
        assert_eq!(value(&dbc, "FLOATS.SINGLE", &frame), Some(-2.0));
        assert_eq!(value(&dbc, "FLOATS.DOUBLE", &frame), Some(0.1));
    }

    #[test]
    fn other_messages_and_short_frames_hold_nothing() {
        let dbc = demo();
        let switch = dbc.signal("MUXED.SWITCH").unwrap();
        assert_eq!(dbc.decode(switch, &frame(255, &[1; 8])), None);
        assert_eq!(dbc.decode(switch, &frame(256, &[1; 7])), None);
        assert_eq!(dbc.decode(switch, &CanFrame::new(256, true, false, 0, &[1; 8]).unwrap()), None);
        assert_eq!(dbc.decode(switch, &frame(256, &[1; 12])), Some(1.0));
        assert_eq!(dbc.signal("MUXED.NONE"), None);
        assert_eq!(dbc.signal("MUXED"), None);
        assert_eq!(Dbc::default().decode(switch, &frame(256, &[1; 8])), None);
        assert!(Dbc::default().describe(switch).is_none());
    }

    #[test]
    fn decode_all_visits_what_is_present() {
        let dbc = demo();
        let mut seen = Vec::new();
        let frame = frame(256, &[1, 2, 0, 3, 0, 0, 0, 0]);
        let count = dbc.decode_all(&frame, &mut |signal, value| seen.push((signal.name().to_owned(), value)));
        let expected = [("SWITCH", 1.0), ("ONE", 11.0), ("ALWAYS", 3.0)];
        assert_eq!(count, 3);
        assert_eq!(seen, expected.map(|(name, value)| (name.to_owned(), value)));
        let one = dbc.describe(dbc.signal("MUXED.ONE").unwrap()).unwrap();
        assert_eq!((one.unit(), one.factor(), one.offset()), ("deg", 0.5, 10.0));
    }

    #[test]
    fn messages_are_found_by_identifier() {
        let dbc = demo();
        assert_eq!(dbc.message(256, false).unwrap().name(), "MUXED");
        let floats = dbc.message(256, true).unwrap();
        assert_eq!((floats.name(), floats.len_bytes(), floats.place().line), ("FLOATS", 12, 9));
        assert!(floats.extended());
        assert_eq!(floats.id(), 256);
        assert!(dbc.message(1, false).is_none());
    }

    #[test]
    fn latin_1_text_is_read() {
        let bytes = b"VERSION \"\"\n\nBO_ 1 M: 1 X\n SG_ S : 0|8@1+ (1,0) [0|0] \"\xb0C\" X\n";
        let dbc = Dbc::parse(bytes, "t.dbc").unwrap();
        assert_eq!(dbc.describe(dbc.signal("M.S").unwrap()).unwrap().unit(), "\u{b0}C");
    }

    #[test]
    fn wrong_files_name_place_and_cause() {
        let text = Dbc::parse(b"VERSION \"\"\n\nBO_ ?\n", "t.dbc").unwrap_err().to_string();
        assert!(text.starts_with("t.dbc: not a DBC file:") && text.contains("3:"), "{text}");

        let wide = parse_signals(" SG_ S : 0|65@1+ (1,0) [0|0] \"\" X").unwrap_err();
        assert_eq!(wide.to_string(), "t.dbc:3: M.S: expected a width of 1 to 64 bits, found 65");
        let none = parse_signals(" SG_ S : 0|0@1+ (1,0) [0|0] \"\" X");
        assert!(matches!(none, Err(DbcError::SignalWidth { found: 0, .. })));
        let outside = parse_signals(" SG_ S : 505|8@1+ (1,0) [0|0] \"\" X");
        assert!(matches!(outside, Err(DbcError::SignalOutside { start_bit: 505, width: 8, .. })));
        let infinite = parse_signals(" SG_ S : 0|8@1+ (1e999,0) [0|0] \"\" X");
        assert!(matches!(infinite, Err(DbcError::Scale { .. })));
        let twice = parse_signals(" SG_ S : 0|8@1+ (1,0) [0|0] \"\" X\n SG_ S : 8|8@1+ (1,0) [0|0] \"\" X");
        assert!(matches!(twice, Err(DbcError::DuplicateSignal { .. })));
        let lonely = parse_signals(" SG_ S m1 : 0|8@1+ (1,0) [0|0] \"\" X");
        assert!(matches!(lonely, Err(DbcError::MultiplexerCount { found: 0, .. })));
        let narrow = parse_signals(" SG_ S : 0|8@1+ (1,0) [0|0] \"\" X\nSIG_VALTYPE_ 100 S : 1;");
        assert!(matches!(narrow, Err(DbcError::FloatWidth { expected: 32, found: 8, .. })));
    }

    #[test]
    fn wrong_multiplexers_are_refused() {
        let pair = " SG_ A m1M : 0|8@1+ (1,0) [0|0] \"\" X\n SG_ B m1M : 8|8@1+ (1,0) [0|0] \"\" X\n";
        let circle = parse_signals(&format!("{pair}\nSG_MUL_VAL_ 100 A B 1-1;\nSG_MUL_VAL_ 100 B A 1-1;"));
        assert!(matches!(circle, Err(DbcError::MultiplexerCircle { .. })));
        let missing = parse_signals(&format!("{pair}\nSG_MUL_VAL_ 100 A C 1-1;"));
        assert!(matches!(missing, Err(DbcError::MultiplexerMissing { .. })));
        let twice = parse_signals(&format!("{pair}\nSG_MUL_VAL_ 100 A B 1-1;\nSG_MUL_VAL_ 100 A B 2-2;"));
        assert!(matches!(twice, Err(DbcError::MultiplexerCount { found: 2, .. })));
    }

    #[test]
    fn impossible_messages_are_refused() {
        let parse = |head: &str| Dbc::parse(format!("VERSION \"\"\n\n{head}\n").as_bytes(), "t.dbc");
        // 65541 is 5 in its lower 16 bits.
        assert!(matches!(parse("BO_ 65541 M: 8 X"), Err(DbcError::IdTooLarge { found: 65541, .. })));
        assert!(matches!(parse("BO_ 2048 M: 8 X"), Err(DbcError::IdTooLarge { .. })));
        assert!(matches!(parse("BO_ 3221225473 M: 8 X"), Err(DbcError::IdTooLarge { .. })));
        assert!(matches!(parse("BO_ 1 M: 65 X"), Err(DbcError::MessageTooLong { found: 65, .. })));
        assert!(matches!(parse("BO_ 1 M: 8 X\n\nBO_ 1 N: 8 X"), Err(DbcError::DuplicateId { id: 1, .. })));
        assert!(matches!(parse("BO_ 1 M: 8 X\n\nBO_ 2 M: 8 X"), Err(DbcError::DuplicateName { .. })));
        let orphans = parse("BO_ 3221225472 VECTOR__INDEPENDENT_SIG_MSG: 0 Vector__XXX").unwrap();
        assert!(orphans.messages().is_empty());
    }

    #[test]
    fn merged_files_keep_all_messages() {
        let other = Dbc::parse(b"VERSION \"\"\n\nBO_ 3 N: 1 X\n SG_ S : 7|8@0+ (1,0) [0|0] \"\" X\n", "n.dbc").unwrap();
        let both = Dbc::merge([demo(), other.clone()]).unwrap();
        assert_eq!(both.messages().len(), 4);
        assert_eq!(value(&both, "N.S", &frame(3, &[5])), Some(5.0));
        assert_eq!(value(&both, "MUXED.SWITCH", &frame(256, &[6; 8])), Some(6.0));
        let error = Dbc::merge([other.clone(), other]).unwrap_err();
        assert_eq!(error.to_string(), "n.dbc:3: N: identifier 0x3 is already taken by n.dbc:3: N");
    }

    #[test]
    fn opendbc_files_parse() {
        let Some(folder) = comma2k19::can_folder() else { return };
        let counts = [
            ("ESR.dbc", 80),
            ("ford_fusion_2018_adas.dbc", 64),
            ("mazda_radar.dbc", 9),
            ("tesla_can.dbc", 44),
            ("toyota_adas.dbc", 33),
            ("toyota_new_mc_pt_generated.dbc", 58),
            ("vw_mqb.dbc", 113),
        ];
        for (file, count) in counts {
            let dbc = Dbc::parse(&comma2k19::dbc_bytes(&folder, file), file).unwrap();
            assert_eq!(dbc.messages().len(), count, "{file}");
        }
    }

    #[test]
    fn steering_angle_of_comma2k19_is_exact() {
        let Some(folder) = comma2k19::can_folder() else { return };
        let file = "toyota_new_mc_pt_generated.dbc";
        let dbc = Dbc::parse(&comma2k19::dbc_bytes(&folder, file), file).unwrap();
        let angle = dbc.signal("STEER_ANGLE_SENSOR.STEER_ANGLE").unwrap();
        let fraction = dbc.signal("STEER_ANGLE_SENSOR.STEER_FRACTION").unwrap();
        let mut stored = comma2k19::floats(&folder, "steering_angle/value").into_iter();
        for (_, frame) in comma2k19::frames(&folder) {
            if let (0, Some(angle_deg)) = (frame.bus, dbc.decode(angle, &frame)) {
                let fraction_deg = dbc.decode(fraction, &frame).unwrap();
                assert_eq!(Some(angle_deg + fraction_deg), stored.next());
            }
        }
        assert_eq!(stored.next(), None);
    }

    #[test]
    fn wheel_speeds_of_comma2k19_are_exact() {
        const MPS_PER_KPH: f64 = 1.0 / 3.6;
        let Some(folder) = comma2k19::can_folder() else { return };
        let file = "toyota_new_mc_pt_generated.dbc";
        let dbc = Dbc::parse(&comma2k19::dbc_bytes(&folder, file), file).unwrap();
        let wheels =
            ["FL", "FR", "RL", "RR"].map(|wheel| dbc.signal(&format!("WHEEL_SPEEDS.WHEEL_SPEED_{wheel}")).unwrap());
        let mut stored = comma2k19::floats(&folder, "wheel_speed/value").into_iter();
        let mut count = 0;
        for (_, frame) in comma2k19::frames(&folder).into_iter().filter(|(_, frame)| frame.bus == 0) {
            for speed_kph in wheels.iter().filter_map(|wheel| dbc.decode(*wheel, &frame)) {
                assert_eq!(Some(speed_kph * MPS_PER_KPH), stored.next());
                count += 1;
            }
        }
        assert_eq!((count, stored.next()), (4 * 4974, None));
    }

    /// The positions of a signal's bits from the least significant up, found by walking from bit to bit.
    fn walk(start_bit: usize, width: usize, big_endian: bool) -> Vec<usize> {
        let mut positions = Vec::new();
        let mut position = start_bit;
        for _ in 0..width {
            positions.push(position);
            position = match (big_endian, position % 8) {
                (false, _) => position + 1,
                (true, 0) => position + 15,
                (true, _) => position - 1,
            };
        }
        if big_endian {
            positions.reverse();
        }
        positions
    }

    proptest! {
        #[test]
        fn bits_agree_with_a_walk(
            start_bit in 0usize..520,
            width in 1usize..=64,
            big_endian in any::<bool>(),
            payload in proptest::collection::vec(any::<u8>(), 64),
        ) {
            let order = if big_endian { Order::BigEndian } else { Order::LittleEndian };
            let layout = Layout::new(start_bit as u64, width as u64, order);
            let positions = walk(start_bit, width, big_endian);
            let walked = positions.iter().all(|position| *position < 512).then(|| {
                positions.iter().enumerate().fold(0u64, |raw, (weight, position)| {
                    raw | (u64::from((payload[position / 8] >> (position % 8)) & 1) << weight)
                })
            });
            let frame = frame(1, &payload);
            prop_assert_eq!(layout.and_then(|layout| layout.raw(&frame)), walked);
        }

        #[test]
        fn written_values_come_back(
            start_bit in 0usize..512,
            width in 1usize..=64,
            big_endian in any::<bool>(),
            number in any::<i64>(),
            background in any::<u8>(),
        ) {
            let positions = walk(start_bit, width, big_endian);
            prop_assume!(positions.iter().all(|position| *position < 512));
            let bits = (number as u64) >> (64 - width);
            let number = number >> (64 - width);
            let mut payload = [background; 64];
            for (weight, position) in positions.iter().enumerate() {
                let bit = ((number >> weight) & 1) as u8;
                let byte = &mut payload[position / 8];
                *byte = (*byte & !(1 << (position % 8))) | (bit << (position % 8));
            }
            let order = u8::from(!big_endian);
            let signal = format!("SG_ S : {start_bit}|{width}@{order}- (0.25,-3) [0|0] \"\" X");
            let text = format!("VERSION \"\"\n\nBO_ 100 M: 64 X\n {signal}\n");
            let dbc = Dbc::parse(text.as_bytes(), "t.dbc").unwrap();
            let expected = number as f64 * 0.25 + -3.0;
            prop_assert_eq!(value(&dbc, "M.S", &frame(100, &payload)), Some(expected));
            let dbc = Dbc::parse(text.replace("- (", "+ (").as_bytes(), "t.dbc").unwrap();
            let expected = bits as f64 * 0.25 + -3.0;
            prop_assert_eq!(value(&dbc, "M.S", &frame(100, &payload)), Some(expected));
        }

        #[test]
        fn all_signals_at_once_are_as_one_by_one(
            signals in proptest::collection::vec(
                (prop_oneof![3 => 0usize..72, 1 => 0usize..512], 1usize..=64, any::<bool>(), any::<bool>()),
                1..6,
            ),
            (len, short) in (0_u8..=9, 0_u8..2),
            payload in proptest::collection::vec(any::<u8>(), 12),
        ) {
            let mut text = format!("VERSION \"\"\n\nBO_ 100 M: {len} X\n");
            for (number, (start_bit, width, is_little, is_signed)) in signals.iter().enumerate() {
                let (order, sign) = (u8::from(*is_little), if *is_signed { '-' } else { '+' });
                text += &format!(" SG_ S{number} : {start_bit}|{width}@{order}{sign} (0.25,-3) [0|0] \"\" X\n");
            }
            // one that runs over the end of all that a frame can have is refused
            let Ok(dbc) = Dbc::parse(text.as_bytes(), "t.dbc") else { return Ok(()) };
            let frame = frame(100, &payload[..usize::from(len.min(8).saturating_sub(short))]);
            let mut found = Vec::new();
            let count = dbc.decode_all(&frame, &mut |signal, value| found.push((signal.name().to_owned(), value)));
            let names = (0..signals.len()).map(|number| format!("S{number}"));
            let one = |name: &String| value(&dbc, &format!("M.{name}"), &frame);
            let expected: Vec<_> = names.filter_map(|name| Some((name.clone(), one(&name)?))).collect();
            prop_assert_eq!((count, found), (expected.len(), expected));
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut text = b"VERSION \"\"\n\nBO_ 1 M: 8 X\n SG_ ".to_vec();
            text.extend(bytes);
            let _ = Dbc::parse(&text, "t.dbc");
        }
    }
}
