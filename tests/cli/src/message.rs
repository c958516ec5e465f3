// SPDX-License-Identifier: GPL-2.0-only

//! What can be asked of the kernel and what it tells, as bytes.

use crate::{
    key_file::DirectionKey,
    netlink::{self, Attributes, Error},
    uapi::{
        attribute, command, del_key, del_peer, get_peer, get_peer_response as response, key_dir,
        new_key, new_peer, set_peer, swap_keys, VERSION,
    },
};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::RawFd,
};

/// A peer's addresses in the VPN: at least one, at most one of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VpnAddresses {
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
}

impl VpnAddresses {
    pub(crate) fn new(addresses: &[IpAddr]) -> Result<Self, &'static str> {
        let (mut ipv4, mut ipv6) = (None, None);

        for address in addresses {
            let twice = match *address {
                IpAddr::V4(address) => ipv4.replace(address).is_some(),
                IpAddr::V6(address) => ipv6.replace(address).is_some(),
            };
            if twice {
                return Err("a peer has at most one VPN address of each family");
            }
        }
        if ipv4.is_none() && ipv6.is_none() {
            return Err("the VPN address of the peer is missing");
        }
        Ok(Self { ipv4, ipv6 })
    }
}

/// A peer that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewPeer {
    pub(crate) id: u32,
    /// Where it is; not over TCP.
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) socket: RawFd,
    pub(crate) vpn: VpnAddresses,
    /// The address that it knows this host by.
    pub(crate) local: Option<IpAddr>,
}

/// A place for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Slot {
    /// Seals what is sent, and opens what it fits
    Primary = 0,
    /// Only opens
    Secondary = 1,
}

/// A key that is to be.
pub(crate) struct NewKey {
    pub(crate) peer: u32,
    pub(crate) slot: Slot,
    pub(crate) id: u8,
    /// `enum ovpn_cipher_alg`
    pub(crate) cipher: u16,
    pub(crate) encrypt: DirectionKey,
    pub(crate) decrypt: DirectionKey,
}

/// A request, but for the interface that it is about.
pub(crate) enum Request {
    NewPeer(NewPeer),
    SetPeer {
        peer: u32,
        interval: u32,
        timeout: u32,
    },
    DelPeer {
        peer: u32,
    },
    NewKey(NewKey),
    SwapKeys {
        peer: u32,
    },
    DelKey {
        peer: u32,
        slot: Slot,
    },
    /// One peer, or all.
    GetPeer {
        peer: Option<u32>,
    },
}

impl Request {
    /// What follows the netlink header.
    pub(crate) fn payload(&self, ifindex: u32) -> Vec<u8> {
        let attributes = Attributes::new().put_u32(attribute::IFINDEX, ifindex);

        let (command, attributes) = match self {
            Self::NewPeer(peer) => (
                command::NEW_PEER,
                attributes.put_nest(attribute::NEW_PEER, peer.attributes()),
            ),
            Self::SetPeer {
                peer,
                interval,
                timeout,
            } => (
                command::SET_PEER,
                attributes.put_nest(
                    attribute::SET_PEER,
                    Attributes::new()
                        .put_u32(set_peer::PEER_ID, *peer)
                        .put_u32(set_peer::KEEPALIVE_INTERVAL, *interval)
                        .put_u32(set_peer::KEEPALIVE_TIMEOUT, *timeout),
                ),
            ),
            Self::DelPeer { peer } => (
                command::DEL_PEER,
                attributes.put_nest(
                    attribute::DEL_PEER,
                    Attributes::new().put_u32(del_peer::PEER_ID, *peer),
                ),
            ),
            Self::NewKey(key) => (
                command::NEW_KEY,
                attributes.put_nest(attribute::NEW_KEY, key.attributes()),
            ),
            Self::SwapKeys { peer } => (
                command::SWAP_KEYS,
                attributes.put_nest(
                    attribute::SWAP_KEYS,
                    Attributes::new().put_u32(swap_keys::PEER_ID, *peer),
                ),
            ),
            Self::DelKey { peer, slot } => (
                command::DEL_KEY,
                attributes.put_nest(
                    attribute::DEL_KEY,
                    Attributes::new()
                        .put_u32(del_key::PEER_ID, *peer)
                        .put_u8(del_key::KEY_SLOT, *slot as u8),
                ),
            ),
            Self::GetPeer { peer: Some(peer) } => (
                command::GET_PEER,
                attributes.put_nest(
                    attribute::GET_PEER,
                    Attributes::new().put_u32(get_peer::PEER_ID, *peer),
                ),
            ),
            Self::GetPeer { peer: None } => (command::GET_PEER, attributes),
        };
        generic(command, VERSION, &attributes)
    }
}

impl NewPeer {
    fn attributes(&self) -> Attributes {
        let ipv4 = self.vpn.ipv4.map(|address| address.octets());
        let ipv6 = self.vpn.ipv6.map(|address| address.octets());
        let remote = self.remote.as_ref().map(sockaddr);
        let local = self.local.map(octets);

        Attributes::new()
            .put_u32(new_peer::PEER_ID, self.id)
            .put_u32(new_peer::SOCKET, self.socket as u32)
            .put_some(new_peer::SOCKADDR_REMOTE, remote.as_deref())
            .put_some(new_peer::LOCAL_IP, local.as_deref())
            .put_some(new_peer::IPV4, ipv4.as_ref().map(|address| &address[..]))
            .put_some(new_peer::IPV6, ipv6.as_ref().map(|address| &address[..]))
    }
}

impl NewKey {
    fn attributes(&self) -> Attributes {
        Attributes::new()
            .put_u32(new_key::PEER_ID, self.peer)
            .put_u8(new_key::KEY_SLOT, self.slot as u8)
            .put_u8(new_key::KEY_ID, self.id)
            .put_u16(new_key::CIPHER_ALG, self.cipher)
            .put_nest(new_key::ENCRYPT_KEY, self.encrypt.attributes())
            .put_nest(new_key::DECRYPT_KEY, self.decrypt.attributes())
    }
}

impl DirectionKey {
    fn attributes(&self) -> Attributes {
        Attributes::new()
            .put(key_dir::CIPHER_KEY, &self.cipher_key)
            .put(key_dir::NONCE_TAIL, &self.nonce_tail)
    }
}

/// A generic netlink message.
pub(crate) fn generic(command: u8, version: u8, attributes: &Attributes) -> Vec<u8> {
    let mut payload = vec![command, version, 0, 0];
    payload.extend(attributes.as_bytes());
    payload
}

/// The command and the attributes of a generic netlink message.
pub(crate) fn split_generic(payload: &[u8]) -> Result<(u8, &[u8]), Error> {
    match payload {
        [command, _version, _, _, attributes @ ..] => Ok((*command, attributes)),
        _ => Err(Error::Malformed(
            "a generic netlink message without its header".into(),
        )),
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A `struct sockaddr_in` or `struct sockaddr_in6`.
fn sockaddr(address: &SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(28);

    match address {
        SocketAddr::V4(address) => {
            bytes.extend((libc::AF_INET as u16).to_ne_bytes());
            bytes.extend(address.port().to_be_bytes());
            bytes.extend(address.ip().octets());
            bytes.extend([0; 8]);
        }
        SocketAddr::V6(address) => {
            bytes.extend((libc::AF_INET6 as u16).to_ne_bytes());
            bytes.extend(address.port().to_be_bytes());
            bytes.extend(address.flowinfo().to_be_bytes());
            bytes.extend(address.ip().octets());
            bytes.extend(address.scope_id().to_ne_bytes());
        }
    }
    bytes
}

/// The reverse of [`sockaddr`].
fn parse_sockaddr(bytes: &[u8]) -> Result<SocketAddr, Error> {
    let family = i32::from(u16::from_ne_bytes(field(bytes, 0)?));
    let port = u16::from_be_bytes(field(bytes, 2)?);

    match family {
        libc::AF_INET => {
            let ip = Ipv4Addr::from(field::<4>(bytes, 4)?);
            Ok(SocketAddrV4::new(ip, port).into())
        }
        libc::AF_INET6 => {
            let flow = u32::from_be_bytes(field(bytes, 4)?);
            let ip = Ipv6Addr::from(field::<16>(bytes, 8)?);
            let scope = u32::from_ne_bytes(field(bytes, 24)?);
            Ok(SocketAddrV6::new(ip, port, flow, scope).into())
        }
        _ => Err(Error::Malformed(format!("an address of family {family}"))),
    }
}

fn parse_ip(bytes: &[u8]) -> Result<IpAddr, Error> {
    match bytes.len() {
        4 => Ok(IpAddr::from(field::<4>(bytes, 0)?)),
        16 => Ok(IpAddr::from(field::<16>(bytes, 0)?)),
        length => Err(Error::Malformed(format!("an IP address of {length} bytes"))),
    }
}

/// `N` bytes of `bytes`, from `start` on.
fn field<const N: usize>(bytes: &[u8], start: usize) -> Result<[u8; N], Error> {
    bytes
        .get(start..)
        .and_then(|bytes| bytes.first_chunk())
        .copied()
        .ok_or_else(|| Error::Malformed(format!("{} bytes are too few", bytes.len())))
}

/// What the kernel tells of a peer. What it does not tell is `None`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) id: Option<u32>,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) vpn_ipv4: Option<Ipv4Addr>,
    pub(crate) vpn_ipv6: Option<Ipv6Addr>,
    pub(crate) local_ip: Option<IpAddr>,
    pub(crate) local_port: Option<u16>,
    pub(crate) keepalive_interval: Option<u32>,
    pub(crate) keepalive_timeout: Option<u32>,
    pub(crate) vpn_rx_bytes: Option<u64>,
    pub(crate) vpn_tx_bytes: Option<u64>,
    pub(crate) vpn_rx_packets: Option<u32>,
    pub(crate) vpn_tx_packets: Option<u32>,
    pub(crate) link_rx_bytes: Option<u64>,
    pub(crate) link_tx_bytes: Option<u64>,
    pub(crate) link_rx_packets: Option<u32>,
    pub(crate) link_tx_packets: Option<u32>,
}

impl Peer {
    /// From a generic netlink message.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, Error> {
        let (_, attributes) = split_generic(payload)?;
        let nest = netlink::find(attributes, attribute::GET_PEER)?
            .ok_or_else(|| Error::Malformed("an answer without a peer".into()))?;
        let mut peer = Self::default();

        for (kind, value) in netlink::parse(&nest)? {
            let u32 = || field(&value, 0).map(u32::from_ne_bytes);
            let u64 = || field(&value, 0).map(u64::from_ne_bytes);
            match kind {
                response::PEER_ID => peer.id = Some(u32()?),
                response::SOCKADDR_REMOTE => peer.remote = Some(parse_sockaddr(&value)?),
                response::IPV4 => peer.vpn_ipv4 = Some(field::<4>(&value, 0)?.into()),
                response::IPV6 => peer.vpn_ipv6 = Some(field::<16>(&value, 0)?.into()),
                response::LOCAL_IP => peer.local_ip = Some(parse_ip(&value)?),
                response::LOCAL_PORT => {
                    peer.local_port = Some(u16::from_be_bytes(field(&value, 0)?));
                }
                response::KEEPALIVE_INTERVAL => peer.keepalive_interval = Some(u32()?),
                response::KEEPALIVE_TIMEOUT => peer.keepalive_timeout = Some(u32()?),
                response::VPN_RX_BYTES => peer.vpn_rx_bytes = Some(u64()?),
                response::VPN_TX_BYTES => peer.vpn_tx_bytes = Some(u64()?),
                response::VPN_RX_PACKETS => peer.vpn_rx_packets = Some(u32()?),
                response::VPN_TX_PACKETS => peer.vpn_tx_packets = Some(u32()?),
                response::LINK_RX_BYTES => peer.link_rx_bytes = Some(u64()?),
                response::LINK_TX_BYTES => peer.link_tx_bytes = Some(u64()?),
                response::LINK_RX_PACKETS => peer.link_rx_packets = Some(u32()?),
                response::LINK_TX_PACKETS => peer.link_tx_packets = Some(u32()?),
                _ => {}
            }
        }
        Ok(peer)
    }
}

impl fmt::Display for Peer {
    /// One line for each thing that is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn line(
            f: &mut fmt::Formatter<'_>,
            label: &str,
            value: Option<impl fmt::Display>,
            unit: &str,
        ) -> fmt::Result {
            match value {
                Some(value) => writeln!(f, "  {label}: {value}{unit}"),
                None => Ok(()),
            }
        }

        match self.id {
            Some(id) => writeln!(f, "peer {id}")?,
            None => writeln!(f, "peer without an id")?,
        }
        line(f, "VPN IPv4", self.vpn_ipv4, "")?;
        line(f, "VPN IPv6", self.vpn_ipv6, "")?;
        line(f, "remote", self.remote, "")?;
        match (self.local_ip, self.local_port) {
            (Some(ip), Some(port)) => line(f, "local", Some(SocketAddr::new(ip, port)), "")?,
            (ip, port) => {
                line(f, "local address", ip, "")?;
                line(f, "local port", port, "")?;
            }
        }
        line(f, "keepalive interval", self.keepalive_interval, " s")?;
        line(f, "keepalive timeout", self.keepalive_timeout, " s")?;
        line(f, "VPN RX bytes", self.vpn_rx_bytes, "")?;
        line(f, "VPN RX packets", self.vpn_rx_packets, "")?;
        line(f, "VPN TX bytes", self.vpn_tx_bytes, "")?;
        line(f, "VPN TX packets", self.vpn_tx_packets, "")?;
        line(f, "link RX bytes", self.link_rx_bytes, "")?;
        line(f, "link RX packets", self.link_rx_packets, "")?;
        line(f, "link TX bytes", self.link_tx_bytes, "")?;
        line(f, "link TX packets", self.link_tx_packets, "")
    }
}

/// The notification that a peer is gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PeerGone {
    pub(crate) ifindex: u32,
    pub(crate) peer: u32,
    /// `enum ovpn_del_peer_reason`
    pub(crate) reason: u8,
}

impl PeerGone {
    /// From a generic netlink message; `None` if that is about something else.
    pub(crate) fn parse(payload: &[u8]) -> Result<Option<Self>, Error> {
        let (command, attributes) = split_generic(payload)?;
        if command != command::DEL_PEER {
            return Ok(None);
        }
        let nest = require(attributes, attribute::DEL_PEER)?;

        Ok(Some(Self {
            ifindex: u32::from_ne_bytes(field(&require(attributes, attribute::IFINDEX)?, 0)?),
            peer: u32::from_ne_bytes(field(&require(&nest, del_peer::PEER_ID)?, 0)?),
            reason: u8::from_ne_bytes(field(&require(&nest, del_peer::REASON)?, 0)?),
        }))
    }
}

fn require(attributes: &[u8], kind: u16) -> Result<Vec<u8>, Error> {
    netlink::find(attributes, kind)?
        .ok_or_else(|| Error::Malformed(format!("attribute {kind} is missing")))
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    fn vpn(addresses: &[&str]) -> VpnAddresses {
        let addresses: Vec<_> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        VpnAddresses::new(&addresses).unwrap()
    }

    /// Command, version, reserved, and the interface with index 3.
    fn head(command: u8) -> Vec<u8> {
        vec![command, 1, 0, 0, 8, 0, 1, 0, 3, 0, 0, 0]
    }

    #[test]
    fn new_peer_over_ipv4() {
        let request = Request::NewPeer(NewPeer {
            id: 0x010203,
            remote: Some("192.0.2.1:1194".parse().unwrap()),
            socket: 5,
            vpn: vpn(&["10.8.0.2"]),
            local: None,
        });

        let mut bytes = head(1);
        bytes.extend([48, 0, 2, 0x80]);
        bytes.extend([8, 0, 1, 0, 3, 2, 1, 0]);
        bytes.extend([8, 0, 3, 0, 5, 0, 0, 0]);
        bytes.extend([
            20, 0, 2, 0, 2, 0, 0x04, 0xaa, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
        bytes.extend([8, 0, 4, 0, 10, 8, 0, 2]);
        assert_eq!(request.payload(3), bytes);
    }

    #[test]
    fn new_peer_over_ipv6() {
        let remote = SocketAddrV6::new("fe80::1".parse().unwrap(), 1194, 0, 7);
        let request = Request::NewPeer(NewPeer {
            id: 1,
            remote: Some(remote.into()),
            socket: 4,
            vpn: vpn(&["fd00::2", "10.8.0.2"]),
            local: Some("fe80::2".parse().unwrap()),
        });

        let mut bytes = head(1);
        bytes.extend([100, 0, 2, 0x80]);
        bytes.extend([8, 0, 1, 0, 1, 0, 0, 0]);
        bytes.extend([8, 0, 3, 0, 4, 0, 0, 0]);
        bytes.extend([32, 0, 2, 0, 10, 0, 0x04, 0xaa, 0, 0, 0, 0]);
        bytes.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        bytes.extend([7, 0, 0, 0]);
        bytes.extend([20, 0, 6, 0]);
        bytes.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        bytes.extend([8, 0, 4, 0, 10, 8, 0, 2]);
        bytes.extend([20, 0, 5, 0]);
        bytes.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(request.payload(3), bytes);
    }

    #[test]
    fn new_peer_over_tcp_has_no_remote_address() {
        let request = Request::NewPeer(NewPeer {
            id: 2,
            remote: None,
            socket: 5,
            vpn: vpn(&["10.8.0.2"]),
            local: None,
        });

        let mut bytes = head(1);
        bytes.extend([28, 0, 2, 0x80]);
        bytes.extend([8, 0, 1, 0, 2, 0, 0, 0]);
        bytes.extend([8, 0, 3, 0, 5, 0, 0, 0]);
        bytes.extend([8, 0, 4, 0, 10, 8, 0, 2]);
        assert_eq!(request.payload(3), bytes);
    }

    #[test]
    fn set_peer() {
        let request = Request::SetPeer {
            peer: 9,
            interval: 10,
            timeout: 60,
        };

        let mut bytes = head(2);
        bytes.extend([28, 0, 3, 0x80]);
        bytes.extend([8, 0, 1, 0, 9, 0, 0, 0]);
        bytes.extend([8, 0, 2, 0, 10, 0, 0, 0]);
        bytes.extend([8, 0, 3, 0, 60, 0, 0, 0]);
        assert_eq!(request.payload(3), bytes);
    }

    #[test]
    fn del_peer() {
        let mut bytes = head(3);
        bytes.extend([12, 0, 4, 0x80, 8, 0, 2, 0, 9, 0, 0, 0]);
        assert_eq!(Request::DelPeer { peer: 9 }.payload(3), bytes);
    }

    #[test]
    fn new_key() {
        let key = |byte| DirectionKey {
            cipher_key: vec![byte; 16],
            nonce_tail: [0xee; 8],
        };
        let request = Request::NewKey(NewKey {
            peer: 1,
            slot: Slot::Secondary,
            id: 7,
            cipher: 1,
            encrypt: key(0xaa),
            decrypt: key(0xbb),
        });

        let mut bytes = head(4);
        bytes.extend([108, 0, 5, 0x80]);
        bytes.extend([8, 0, 1, 0, 1, 0, 0, 0]);
        bytes.extend([5, 0, 2, 0, 1, 0, 0, 0]);
        bytes.extend([5, 0, 3, 0, 7, 0, 0, 0]);
        bytes.extend([6, 0, 4, 0, 1, 0, 0, 0]);
        bytes.extend([36, 0, 5, 0x80, 20, 0, 1, 0]);
        bytes.extend([0xaa; 16]);
        bytes.extend([12, 0, 2, 0]);
        bytes.extend([0xee; 8]);
        bytes.extend([36, 0, 6, 0x80, 20, 0, 1, 0]);
        bytes.extend([0xbb; 16]);
        bytes.extend([12, 0, 2, 0]);
        bytes.extend([0xee; 8]);
        assert_eq!(request.payload(3), bytes);
    }

    #[test]
    fn swap_keys() {
        let mut bytes = head(5);
        bytes.extend([12, 0, 6, 0x80, 8, 0, 1, 0, 9, 0, 0, 0]);
        assert_eq!(Request::SwapKeys { peer: 9 }.payload(3), bytes);
    }

    #[test]
    fn del_key() {
        let mut bytes = head(6);
        bytes.extend([20, 0, 7, 0x80]);
        bytes.extend([8, 0, 1, 0, 9, 0, 0, 0]);
        bytes.extend([5, 0, 2, 0, 0, 0, 0, 0]);
        let request = Request::DelKey {
            peer: 9,
            slot: Slot::Primary,
        };
        assert_eq!(request.payload(3), bytes);
    }

    #[test]
    fn get_peer() {
        assert_eq!(Request::GetPeer { peer: None }.payload(3), head(7));

        let mut bytes = head(7);
        bytes.extend([12, 0, 8, 0x80, 8, 0, 1, 0, 9, 0, 0, 0]);
        assert_eq!(Request::GetPeer { peer: Some(9) }.payload(3), bytes);
    }

    #[test]
    fn everything_of_an_answer_is_understood_and_shown() {
        let nest = Attributes::new()
            .put_u32(1, 9)
            .put(2, &sockaddr(&"192.0.2.1:1194".parse().unwrap()))
            .put(3, &[10, 8, 0, 2])
            .put(4, &"fd00::2".parse::<Ipv6Addr>().unwrap().octets())
            .put(5, &[192, 0, 2, 2])
            .put(0x4000 | 6, &1195u16.to_be_bytes())
            .put_u32(7, 10)
            .put_u32(8, 60)
            .put(9, &1000u64.to_ne_bytes())
            .put(10, &2000u64.to_ne_bytes())
            .put_u32(11, 11)
            .put_u32(12, 12)
            .put(13, &3000u64.to_ne_bytes())
            .put(14, &4000u64.to_ne_bytes())
            .put_u32(15, 15)
            .put_u32(16, 16);
        let attributes = Attributes::new().put_nest(8, nest);

        let peer = Peer::parse(&generic(7, 1, &attributes)).unwrap();
        assert_eq!(
            peer.to_string(),
            "peer 9\n\
             \x20 VPN IPv4: 10.8.0.2\n\
             \x20 VPN IPv6: fd00::2\n\
             \x20 remote: 192.0.2.1:1194\n\
             \x20 local: 192.0.2.2:1195\n\
             \x20 keepalive interval: 10 s\n\
             \x20 keepalive timeout: 60 s\n\
             \x20 VPN RX bytes: 1000\n\
             \x20 VPN RX packets: 11\n\
             \x20 VPN TX bytes: 2000\n\
             \x20 VPN TX packets: 12\n\
             \x20 link RX bytes: 3000\n\
             \x20 link RX packets: 15\n\
             \x20 link TX bytes: 4000\n\
             \x20 link TX packets: 16\n"
        );
    }

    #[test]
    fn a_peer_over_tcp_has_only_a_port() {
        let nest = Attributes::new()
            .put_u32(1, 9)
            .put(6, &1195u16.to_be_bytes());
        let attributes = Attributes::new().put_nest(8, nest);

        let peer = Peer::parse(&generic(7, 1, &attributes)).unwrap();
        assert_eq!(peer.to_string(), "peer 9\n  local port: 1195\n");
    }

    #[test]
    fn socket_addresses_survive() {
        let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 1194, 0, 7).into();

        for address in ["192.0.2.1:1194".parse().unwrap(), scoped] {
            assert_eq!(parse_sockaddr(&sockaddr(&address)).unwrap(), address);
        }
        assert!(parse_sockaddr(&[2, 0, 4]).is_err());
        assert!(parse_sockaddr(&[1, 0, 4, 0xaa, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn the_notification_of_a_peer_that_is_gone() {
        let mut bytes = head(3);
        bytes.extend([20, 0, 4, 0x80]);
        bytes.extend([5, 0, 1, 0, 2, 0, 0, 0]);
        bytes.extend([8, 0, 2, 0, 9, 0, 0, 0]);

        let gone = PeerGone {
            ifindex: 3,
            peer: 9,
            reason: 2,
        };
        assert_eq!(PeerGone::parse(&bytes).unwrap(), Some(gone));
        assert_eq!(PeerGone::parse(&head(7)).unwrap(), None);
        assert!(PeerGone::parse(&head(3)).is_err());
    }

    #[test]
    fn vpn_addresses_are_of_different_families() {
        let parse = |addresses: &[&str]| {
            let addresses: Vec<_> = addresses.iter().map(|a| a.parse().unwrap()).collect();
            VpnAddresses::new(&addresses)
        };

        assert!(parse(&["10.8.0.2", "fd00::2"]).is_ok());
        assert!(parse(&["10.8.0.2", "10.8.0.3"]).is_err());
        assert!(parse(&["fd00::2", "fd00::3"]).is_err());
        assert!(parse(&[]).is_err());
    }
}
