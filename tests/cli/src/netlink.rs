// SPDX-License-Identifier: GPL-2.0-only

//! Netlink: requests, their answers, and why the kernel refuses one.

use netlink_packet_core::{
    DefaultNla, Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable, NlasIterator, NLA_F_NESTED, NLMSG_ALIGNTO, NLM_F_ACK, NLM_F_DUMP,
    NLM_F_DUMP_INTR, NLM_F_REQUEST,
};
use netlink_sys::{Socket, SocketAddr};
use std::{
    convert::Infallible,
    fmt, io,
    os::fd::{AsFd, BorrowedFd},
};

/// What goes wrong with a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The kernel said no.
    #[error("{0}")]
    Refused(Refusal),
    /// The netlink socket failed.
    #[error("the netlink socket failed: {0}")]
    Socket(#[from] io::Error),
    /// The kernel's answer is none.
    #[error("the kernel's answer makes no sense: {0}")]
    Malformed(String),
    /// A dump that is not one moment's state.
    #[error("something changed while it was being listed; try again")]
    Interrupted,
}

impl Error {
    /// The error number that the kernel answered, if it answered one.
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused(refusal) => Some(refusal.errno),
            _ => None,
        }
    }
}

/// A request that the kernel refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The positive error number.
    pub(crate) errno: i32,
    /// The message of the extended acknowledgement.
    pub(crate) message: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(message) = &self.message {
            write!(f, "{message}: ")?;
        }
        write!(f, "{}", io::Error::from_raw_os_error(self.errno))
    }
}

impl Refusal {
    /// From a negative error number, and the attributes of the extended acknowledgement.
    fn new(code: i32, attributes: &[u8]) -> Self {
        const NLMSGERR_ATTR_MSG: u16 = 1;

        let message = parse(attributes).ok().and_then(|attributes| {
            let (_, text) = attributes
                .iter()
                .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)?;
            let text = text.strip_suffix(&[0]).unwrap_or(text);
            Some(String::from_utf8_lossy(text).into_owned())
        });
        Self {
            errno: -code,
            message,
        }
    }
}

/// Attributes that are being written.
#[derive(Default)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds an attribute.
    pub(crate) fn put(mut self, kind: u16, value: &[u8]) -> Self {
        let attribute = DefaultNla::new(kind, value.to_vec());
        let start = self.0.len();
        self.0.resize(start + attribute.buffer_len(), 0);
        attribute.emit(&mut self.0[start..]);
        self
    }

    /// Adds an attribute, if there is a value.
    pub(crate) fn put_some(self, kind: u16, value: Option<&[u8]>) -> Self {
        match value {
            Some(value) => self.put(kind, value),
            None => self,
        }
    }

    pub(crate) fn put_u8(self, kind: u16, value: u8) -> Self {
        self.put(kind, &[value])
    }

    pub(crate) fn put_u16(self, kind: u16, value: u16) -> Self {
        self.put(kind, &value.to_ne_bytes())
    }

    pub(crate) fn put_u32(self, kind: u16, value: u32) -> Self {
        self.put(kind, &value.to_ne_bytes())
    }

    pub(crate) fn put_str(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes)
    }

    pub(crate) fn put_nest(self, kind: u16, nest: Attributes) -> Self {
        self.put(kind | NLA_F_NESTED, &nest.0)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The attributes in `bytes`, by their types without flags.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<(u16, Vec<u8>)>, Error> {
    NlasIterator::new(bytes)
        .map(|attribute| match attribute {
            Ok(attribute) => Ok((attribute.kind(), attribute.value().to_vec())),
            Err(error) => Err(Error::Malformed(error.to_string())),
        })
        .collect()
}

/// The value of the first attribute of type `kind` in `bytes`.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Result<Option<Vec<u8>>, Error> {
    let attribute = parse(bytes)?
        .into_iter()
        .find(|attribute| attribute.0 == kind);
    Ok(attribute.map(|(_, value)| value))
}

/// A message of any netlink family: its type, and what follows the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: u16,
    pub(crate) payload: Vec<u8>,
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.payload.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer[..self.payload.len()].copy_from_slice(&self.payload);
    }
}

impl NetlinkDeserializable for Message {
    type Error = Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Infallible> {
        Ok(Self {
            kind: header.message_type,
            payload: payload.to_vec(),
        })
    }
}

/// The messages of one datagram.
fn messages(mut datagram: &[u8]) -> Result<Vec<NetlinkMessage<Message>>, Error> {
    let mut messages = Vec::new();

    while !datagram.is_empty() {
        let message = NetlinkMessage::deserialize(datagram)
            .map_err(|error| Error::Malformed(error.to_string()))?;
        let length = (message.header.length as usize).next_multiple_of(NLMSG_ALIGNTO as usize);
        datagram = datagram.get(length..).unwrap_or_default();
        messages.push(message);
    }
    Ok(messages)
}

/// What one message says about a request.
enum Answer {
    Message(Vec<u8>),
    End,
}

fn answer(message: NetlinkMessage<Message>) -> Result<Answer, Error> {
    if message.header.flags & NLM_F_DUMP_INTR != 0 {
        return Err(Error::Interrupted);
    }
    match message.payload {
        NetlinkPayload::InnerMessage(message) => Ok(Answer::Message(message.payload)),
        NetlinkPayload::Error(error) if error.raw_code() == 0 => Ok(Answer::End),
        NetlinkPayload::Error(error) => {
            // Capped: the header of the request, and then the attributes.
            const HEADER: usize = 16;
            let attributes = error.header.get(HEADER..).unwrap_or_default();
            Err(Error::Refused(Refusal::new(error.raw_code(), attributes)))
        }
        NetlinkPayload::Done(done) if done.code >= 0 => Ok(Answer::End),
        NetlinkPayload::Done(done) => {
            Err(Error::Refused(Refusal::new(done.code, &done.extended_ack)))
        }
        _ => Err(Error::Malformed("a message of an unexpected type".into())),
    }
}

/// What a request is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// For one thing to be done or told; with additional flags.
    Do(u16),
    /// For a list.
    Dump,
}

/// A connection to the kernel.
pub(crate) struct Connection {
    socket: Socket,
    sequence: u32,
}

impl Connection {
    /// Opens a connection for a netlink protocol.
    pub(crate) fn open(protocol: isize) -> Result<Self, Error> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Sends a request, and returns what is answered.
    pub(crate) fn request(&mut self, ask: Ask, message: Message) -> Result<Vec<Vec<u8>>, Error> {
        let mut answers = Vec::new();

        self.send(ask, message)?;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for message in messages(&datagram)? {
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match answer(message)? {
                    Answer::Message(payload) => answers.push(payload),
                    Answer::End => return Ok(answers),
                }
            }
        }
    }

    fn send(&mut self, ask: Ask, message: Message) -> Result<(), Error> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.sequence_number = self.sequence;
        header.flags = NLM_F_REQUEST
            | match ask {
                Ask::Do(flags) => NLM_F_ACK | flags,
                Ask::Dump => NLM_F_DUMP,
            };
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What came to a member of a multicast group.
pub(crate) enum Heard {
    /// Messages; what follows their headers.
    Messages(Vec<Vec<u8>>),
    /// More than there was room for: some are lost.
    Overrun,
    /// Nothing, and whoever listens did not want to wait.
    Nothing,
}

/// A member of a multicast group.
pub(crate) struct Listener(Socket);

impl Listener {
    /// Joins a group; what is sent to it from now on will be heard.
    pub(crate) fn join(protocol: isize, group: u32) -> Result<Self, Error> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.add_membership(group)?;
        Ok(Self(socket))
    }

    /// Waits for messages.
    pub(crate) fn wait(&self) -> Result<Heard, Error> {
        self.receive(0)
    }

    /// Takes what is there.
    pub(crate) fn take(&self) -> Result<Heard, Error> {
        self.receive(libc::MSG_DONTWAIT)
    }

    fn receive(&self, flags: i32) -> Result<Heard, Error> {
        let mut datagram = Vec::with_capacity(1 << 16);

        match self.0.recv_from(&mut datagram, flags) {
            // Anybody may send to us; the kernel has port 0.
            Ok((_, from)) if from.port_number() != 0 => Ok(Heard::Messages(Vec::new())),
            Ok(_) => Ok(Heard::Messages(
                messages(&datagram)?
                    .into_iter()
                    .filter_map(|message| match message.payload {
                        NetlinkPayload::InnerMessage(message) => Some(message.payload),
                        _ => None,
                    })
                    .collect(),
            )),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Heard::Nothing),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                Ok(Heard::Messages(Vec::new()))
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(Heard::Overrun),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_to_four_bytes() {
        let attributes = Attributes::new().put_u8(2, 7).put_u32(1, 0x0102_0304);

        assert_eq!(
            attributes.as_bytes(),
            [5, 0, 2, 0, 7, 0, 0, 0, 8, 0, 1, 0, 4, 3, 2, 1]
        );
    }

    #[test]
    fn a_nest_says_that_it_is_one() {
        let attributes = Attributes::new().put_nest(3, Attributes::new().put_u16(1, 5));

        assert_eq!(
            attributes.as_bytes(),
            [12, 0, 3, 0x80, 6, 0, 1, 0, 5, 0, 0, 0]
        );
        assert_eq!(
            find(attributes.as_bytes(), 3).unwrap().unwrap(),
            [6, 0, 1, 0, 5, 0, 0, 0]
        );
    }

    #[test]
    fn an_attribute_that_ends_too_early_is_an_error() {
        assert!(parse(&[9, 0, 1, 0, 1]).is_err());
    }

    /// What the kernel answers to a refused request, capped.
    fn refused(message: &[u8]) -> Vec<u8> {
        let mut datagram = vec![0; 16];
        datagram[4] = 2; // NLMSG_ERROR
        datagram.extend((-17i32).to_ne_bytes());
        datagram.extend([0; 16]);
        datagram.extend(message);
        datagram[0] = datagram.len() as u8;
        datagram
    }

    fn refusal(datagram: &[u8]) -> Error {
        let message = messages(datagram).unwrap().remove(0);
        answer(message).err().unwrap()
    }

    #[test]
    fn a_refusal_has_the_kernels_own_message() {
        let attributes = Attributes::new()
            .put_u32(2, 20)
            .put_str(1, "there is a peer with this id already");

        assert_eq!(
            refusal(&refused(attributes.as_bytes())).to_string(),
            "there is a peer with this id already: File exists (os error 17)"
        );
    }

    #[test]
    fn a_refusal_without_a_message_has_the_error_text() {
        let error = refusal(&refused(&[]));

        assert_eq!(error.to_string(), "File exists (os error 17)");
        assert_eq!(error.errno(), Some(17));
    }

    #[test]
    fn a_datagram_may_hold_several_messages() {
        let one = [17, 0, 0, 0, 40, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9];
        let mut datagram = one.to_vec();
        datagram.extend([0; 3]);
        datagram.extend(one);

        let payloads: Vec<_> = messages(&datagram)
            .unwrap()
            .into_iter()
            .map(|message| message.payload)
            .collect();
        let message = Message {
            kind: 40,
            payload: vec![9],
        };
        assert_eq!(payloads, vec![NetlinkPayload::InnerMessage(message); 2]);
    }
}
