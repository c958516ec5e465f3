// SPDX-License-Identifier: GPL-2.0-only

//! What cutting and joining inner packets have in common: lengths, TCP flags and the Internet
//! checksum.
//!
//! Source: RFC 791, RFC 8200, RFC 9293 and RFC 768 for the headers, RFC 1071 for the checksum.

/// The TCP header without options.
pub(crate) const TCP_HEADER_LEN: usize = 20;

/// The TCP header with as many options as it can have.
pub(crate) const TCP_HEADER_MAX: usize = 60;

/// The UDP header.
pub(crate) const UDP_HEADER_LEN: usize = 8;

/// TCP as the protocol of an IPv4 header or the next header of an IPv6 header.
pub(crate) const PROTOCOL_TCP: u8 = 6;

/// UDP, in the same places.
pub(crate) const PROTOCOL_UDP: u8 = 17;

/// The flags in byte 13 of the TCP header.
pub(crate) mod flag {
    /// The sender has nothing more to send.
    pub(crate) const FIN: u8 = 0x01;
    /// What has come so far is to be handed to the application.
    pub(crate) const PSH: u8 = 0x08;
    /// The acknowledgement number is valid.
    pub(crate) const ACK: u8 = 0x10;
    /// The network has marked a packet as congested.
    pub(crate) const ECE: u8 = 0x40;
    /// The sender has slowed down after an ECE.
    pub(crate) const CWR: u8 = 0x80;
}

/// The sum over `bytes` that the Internet checksum is made of, for [`fold`].
///
/// It is over words as they lie in memory, in the byte order of the machine, so that it adds to the
/// kernel's own sums. Fields are added to it with `to_be`. For that the order does not matter: the
/// carry goes round. Room is left for some billion more additions of 32 bits.
#[inline]
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let (mut sum, mut rest) = (0u64, bytes);

    while let Some((word, after)) = rest.split_first_chunk() {
        sum = sum.wrapping_add(u32::from_ne_bytes(*word).into());
        rest = after;
    }
    if !rest.is_empty() {
        let mut word = [0; 4];
        for (to, from) in word.iter_mut().zip(rest) {
            *to = *from;
        }
        sum = sum.wrapping_add(u32::from_ne_bytes(word).into());
    }
    sum
}

/// Folds a sum into 16 bits, which are as they are to lie in memory.
///
/// The result is 0 only if the sum is.
#[inline]
pub(crate) fn fold(sum: u64) -> u16 {
    // Adding the halves swapped leaves in the upper half both halves and the carry.
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;

    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}
