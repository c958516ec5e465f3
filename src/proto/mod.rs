// SPDX-License-Identifier: GPL-2.0-only

//! The OpenVPN data channel as it goes over the wire.
//!
//! Slices and integers in, enums and structs out. Nothing here touches the kernel, allocates or
//! panics, so that the same files compile on the host, where they are tested.
//!
//! A sealed packet of the OpenVPN data channel v2 wire format, all integers big-endian:
//!
//! ```text
//!  0        1                 4                 8                24
//! +--------+-----------------+-----------------+----------------+---------------+
//! | op|key |     peer id     |    packet id    |    AEAD tag    |  ciphertext   |
//! +--------+-----------------+-----------------+----------------+---------------+
//! |<------- additional authenticated data ---->|
//! ```
//!
//! The twelve-byte AEAD nonce is the packet id followed by the nonce tail, which never goes over
//! the wire.

#![forbid(unsafe_code)]

pub(crate) mod headers;
pub(crate) mod ip;
pub(crate) mod merge;
pub(crate) mod message;
pub(crate) mod nonce;
pub(crate) mod packet;
pub(crate) mod packet_id;
pub(crate) mod replay;
pub(crate) mod segment;
pub(crate) mod tcp_frame;
