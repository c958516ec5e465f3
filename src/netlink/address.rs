// SPDX-License-Identifier: GPL-2.0

//! Addresses as they stand in messages: `struct sockaddr_in`, `struct sockaddr_in6`, `struct
//! in_addr` and `struct in6_addr`.

use crate::{
    bindings::{AF_INET, AF_INET6},
    config::{IpAddress, SocketAddress},
};

/// The bytes of a `struct sockaddr_in`.
pub(super) const SOCKADDR_IN_LEN: usize = 16;

/// The bytes of a `struct sockaddr_in6`.
const SOCKADDR_IN6_LEN: usize = 28;

/// The family that addresses of different kinds have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

impl SocketAddress {
    pub(super) fn version(&self) -> Version {
        match self {
            Self::V4 { .. } => Version::V4,
            Self::V6 { .. } => Version::V6,
        }
    }

    /// Reads a `struct sockaddr_in` or `sockaddr_in6`. [`None`] if `bytes` is neither.
    pub(super) fn from_sockaddr(bytes: &[u8]) -> Option<Self> {
        let (family, rest) = bytes.split_first_chunk()?;
        let (port, rest) = rest.split_first_chunk()?;
        let port = u16::from_be_bytes(*port);

        match (u32::from(u16::from_ne_bytes(*family)), bytes.len()) {
            (AF_INET, SOCKADDR_IN_LEN) => Some(Self::V4 {
                address: *rest.first_chunk()?,
                port,
            }),
            (AF_INET6, SOCKADDR_IN6_LEN) => {
                let (_flow_information, rest) = rest.split_first_chunk::<4>()?;
                let (address, scope_id) = rest.split_first_chunk()?;
                let scope_id = u32::from_ne_bytes(*scope_id.first_chunk()?);

                Some(match IpAddress::from_ipv6(*address) {
                    IpAddress::V4(address) => Self::V4 { address, port },
                    IpAddress::V6(address) => Self::V6 {
                        address,
                        port,
                        scope_id,
                    },
                })
            }
            _ => None,
        }
    }

    /// Calls `put` with a `struct sockaddr_in` or `sockaddr_in6`.
    pub(super) fn with_sockaddr<T>(&self, put: impl FnOnce(&[u8]) -> T) -> T {
        match self {
            Self::V4 { address, port } => {
                let mut sockaddr = [0; SOCKADDR_IN_LEN];
                fill(
                    &mut sockaddr,
                    &[&family(AF_INET), &port.to_be_bytes(), address],
                );
                put(&sockaddr)
            }
            Self::V6 {
                address,
                port,
                scope_id,
            } => {
                let flow_information = [0; 4];
                let mut sockaddr = [0; SOCKADDR_IN6_LEN];
                fill(
                    &mut sockaddr,
                    &[
                        &family(AF_INET6),
                        &port.to_be_bytes(),
                        &flow_information,
                        address,
                        &scope_id.to_ne_bytes(),
                    ],
                );
                put(&sockaddr)
            }
        }
    }

    /// The address of the same family that stands for any.
    pub(super) fn unspecified(&self) -> IpAddress {
        match self {
            Self::V4 { .. } => IpAddress::V4([0; 4]),
            Self::V6 { .. } => IpAddress::V6([0; 16]),
        }
    }
}

fn family(number: u32) -> [u8; 2] {
    (number as u16).to_ne_bytes()
}

/// Copies `parts`, one after the other, to the beginning of `to`.
fn fill(to: &mut [u8], parts: &[&[u8]]) {
    for (to, from) in to.iter_mut().zip(parts.iter().copied().flatten()) {
        *to = *from;
    }
}

impl IpAddress {
    pub(super) fn version(&self) -> Version {
        match self {
            Self::V4(_) => Version::V4,
            Self::V6(_) => Version::V6,
        }
    }

    /// Reads 4 or 16 bytes. [`None`] if `bytes` has another length.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if let Ok(address) = bytes.try_into() {
            Some(Self::V4(address))
        } else {
            bytes.try_into().ok().map(Self::from_ipv6)
        }
    }

    /// Tells addresses that are IPv4 addresses mapped into IPv6 (`::ffff:0:0/96`) from others.
    fn from_ipv6(address: [u8; 16]) -> Self {
        match address {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => Self::V4([a, b, c, d]),
            _ => Self::V6(address),
        }
    }

    /// Whether it stands for any address.
    pub(super) fn is_unspecified(&self) -> bool {
        self.as_bytes().iter().all(|byte| *byte == 0)
    }

    /// 4 or 16 bytes in network order.
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::V4(address) => address,
            Self::V6(address) => address,
        }
    }
}
