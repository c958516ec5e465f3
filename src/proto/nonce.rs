// SPDX-License-Identifier: GPL-2.0-only

//! The AEAD nonce.
//!
//! Source: the OpenVPN data channel v2 wire format. The length is that of RFC 5116, which AES-GCM
//! and ChaCha20-Poly1305 share.

/// The bytes of an AEAD nonce.
pub(crate) const NONCE_LEN: usize = 12;

/// The bytes of a nonce that both ends keep to themselves.
pub(crate) const NONCE_TAIL_LEN: usize = 8;

/// The part of the nonce that both ends derive from the key exchange and that never goes over the
/// wire.
///
/// It is as secret as the key, so there is no `Debug` that could print it to the log.
pub(crate) struct NonceTail([u8; NONCE_TAIL_LEN]);

impl NonceTail {
    /// Takes the bytes in the order in which the daemon gives them.
    #[inline]
    pub(crate) const fn new(bytes: [u8; NONCE_TAIL_LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes, for whoever wipes them when the key goes.
    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; NONCE_TAIL_LEN] {
        &mut self.0
    }
}

/// The nonce of one packet: its id, big-endian, followed by the tail.
#[inline]
pub(crate) const fn nonce(packet_id: u32, tail: &NonceTail) -> [u8; NONCE_LEN] {
    let [id_0, id_1, id_2, id_3] = packet_id.to_be_bytes();
    let [t_0, t_1, t_2, t_3, t_4, t_5, t_6, t_7] = tail.0;

    [
        id_0, id_1, id_2, id_3, t_0, t_1, t_2, t_3, t_4, t_5, t_6, t_7,
    ]
}
