// SPDX-License-Identifier: GPL-2.0-only

//! The packet header: opcode, key id, peer id and packet id.
//!
//! Source: the OpenVPN data channel v2 wire format (`P_DATA_V2` in OpenVPN's network protocol
//! documentation).

/// The bytes from the opcode to the packet id, which are the additional data of the AEAD.
pub(crate) const HEADER_LEN: usize = 8;

/// The bytes of the AEAD tag, which stands between the header and the ciphertext.
pub(crate) const TAG_LEN: usize = 16;

/// The bytes by which a sealed packet is longer than the inner packet.
pub(crate) const OVERHEAD: usize = HEADER_LEN + TAG_LEN;

/// The largest key id: it has 3 bits on the wire.
pub(crate) const KEY_ID_MAX: u8 = 0x07;

/// The largest peer id: it has 24 bits on the wire.
pub(crate) const PEER_ID_MAX: u32 = 0x00ff_ffff;

/// The peer id of a sender that was given none. Its packets tell the peer only by the address that
/// they come from.
pub(crate) const PEER_ID_UNDEFINED: PeerId = PeerId(PEER_ID_MAX);

/// The opcode of a data packet that carries a peer id, `P_DATA_V2`.
const OPCODE_DATA_V2: u8 = 9;

/// The key id takes the low bits of the first byte, the opcode the other five.
const OPCODE_SHIFT: u32 = 3;

/// A key id that fits the wire, `0..=KEY_ID_MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyId(u8);

impl KeyId {
    /// Returns [`None`] above [`KEY_ID_MAX`].
    #[inline]
    pub(crate) const fn new(id: u8) -> Option<Self> {
        if id <= KEY_ID_MAX {
            Some(Self(id))
        } else {
            None
        }
    }
}

/// A peer id that fits the wire, `0..=PEER_ID_MAX`. [`PEER_ID_UNDEFINED`] is one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerId(u32);

impl PeerId {
    /// Returns [`None`] above [`PEER_ID_MAX`].
    #[inline]
    pub(crate) const fn new(id: u32) -> Option<Self> {
        if id <= PEER_ID_MAX {
            Some(Self(id))
        } else {
            None
        }
    }

    /// The id as a number in host byte order.
    #[inline]
    pub(crate) const fn get(self) -> u32 {
        self.0
    }
}

/// The header of a sealed data packet.
///
/// What it says is only a claim until the AEAD tag has been verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DataHeader {
    /// Which of the peer's keys seals the packet.
    pub(crate) key_id: KeyId,
    /// The receiver's name for the peer that sends the packet.
    pub(crate) peer_id: PeerId,
    /// Counts the packets under this key from 1, in host byte order.
    pub(crate) packet_id: u32,
}

impl DataHeader {
    /// Writes the header as it goes over the wire and into the additional data.
    #[inline]
    pub(crate) const fn encode(&self) -> [u8; HEADER_LEN] {
        let first = OPCODE_DATA_V2 << OPCODE_SHIFT | self.key_id.0;
        let [_, peer_0, peer_1, peer_2] = self.peer_id.0.to_be_bytes();
        let [id_0, id_1, id_2, id_3] = self.packet_id.to_be_bytes();

        [first, peer_0, peer_1, peer_2, id_0, id_1, id_2, id_3]
    }

    /// Reads a header. Returns [`None`] if the opcode is not that of a data packet.
    ///
    /// Any packet id is read, even 0, which no sender may use: that is for the replay window to
    /// refuse, once the packet has been authenticated.
    #[inline]
    pub(crate) const fn from_bytes(bytes: &[u8; HEADER_LEN]) -> Option<Self> {
        let [first, peer_0, peer_1, peer_2, id_0, id_1, id_2, id_3] = *bytes;

        if first >> OPCODE_SHIFT != OPCODE_DATA_V2 {
            return None;
        }
        Some(Self {
            key_id: KeyId(first & KEY_ID_MAX),
            peer_id: PeerId(u32::from_be_bytes([0, peer_0, peer_1, peer_2])),
            packet_id: u32::from_be_bytes([id_0, id_1, id_2, id_3]),
        })
    }
}

/// Who a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    /// A sealed data packet, which the kernel opens.
    Data(DataHeader),
    /// Anything else, even nothing at all: it goes to the daemon's socket untouched.
    Control,
}

/// The opcode is that of a data packet, but the header breaks off.
///
/// No daemon waits for such a packet, as data packets are the kernel's alone: drop it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Whether a packet that begins with `payload` is for the kernel, by its opcode.
#[inline]
pub(crate) fn is_data(payload: &[u8]) -> bool {
    payload
        .first()
        .is_some_and(|first| first >> OPCODE_SHIFT == OPCODE_DATA_V2)
}

/// Tells data packets from control packets.
///
/// `payload` is the outer payload from the opcode on: what follows the UDP header, or the length
/// prefix over TCP. Its first [`HEADER_LEN`] bytes are enough, fewer only if there are no more.
/// Whether a tag follows the header is for the caller to check, who alone knows the whole length:
/// below [`OVERHEAD`] there is nothing to open.
///
/// # Errors
///
/// [`Malformed`] if a data packet ends before its header does.
#[inline]
pub(crate) fn parse(payload: &[u8]) -> Result<Packet, Malformed> {
    match payload.first() {
        Some(first) if first >> OPCODE_SHIFT == OPCODE_DATA_V2 => payload
            .first_chunk()
            .and_then(DataHeader::from_bytes)
            .map(Packet::Data)
            .ok_or(Malformed),
        _ => Ok(Packet::Control),
    }
}
