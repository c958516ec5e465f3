// SPDX-License-Identifier: GPL-2.0

//! `OVPN_CMD_NEW_PEER`: adds a peer.

use super::address::SOCKADDR_IN_LEN;
use crate::{
    abstractions::genl::{Attribute, Command, Failure, Policy, Request},
    bindings::{
        ovpn_netlink_attrs_OVPN_ATTR_NEW_PEER as NEW_PEER,
        ovpn_netlink_new_peer_attrs_OVPN_NEW_PEER_ATTR_IPV4 as IPV4,
        ovpn_netlink_new_peer_attrs_OVPN_NEW_PEER_ATTR_IPV6 as IPV6,
        ovpn_netlink_new_peer_attrs_OVPN_NEW_PEER_ATTR_LOCAL_IP as LOCAL_IP,
        ovpn_netlink_new_peer_attrs_OVPN_NEW_PEER_ATTR_MAX as MAX,
        ovpn_netlink_new_peer_attrs_OVPN_NEW_PEER_ATTR_PEER_ID as PEER_ID,
        ovpn_netlink_new_peer_attrs_OVPN_NEW_PEER_ATTR_SOCKADDR_REMOTE as SOCKADDR_REMOTE,
        ovpn_netlink_new_peer_attrs_OVPN_NEW_PEER_ATTR_SOCKET as SOCKET,
        ovpn_nl_commands_OVPN_CMD_NEW_PEER as CMD_NEW_PEER,
    },
    config::{self, IpAddress, SocketAddress},
    interface::{Interface, Mode},
    proto::packet::PeerId,
};
use kernel::prelude::*;

pub(super) struct NewPeer;

static ARGUMENTS: [Policy; MAX as usize + 1] = Policy::table(&[
    (PEER_ID, Policy::U32),
    (SOCKADDR_REMOTE, Policy::min_length(SOCKADDR_IN_LEN as u8)),
    (SOCKET, Policy::U32),
    (IPV4, Policy::U32),
    (IPV6, Policy::exact_length(16)),
    (LOCAL_IP, Policy::max_length(16)),
]);

static POLICIES: [Policy; NEW_PEER as usize + 1] = super::policies(NEW_PEER, &ARGUMENTS);

impl Command for NewPeer {
    const NUMBER: u8 = CMD_NEW_PEER as u8;
    const POLICIES: &'static [Policy] = &POLICIES;

    fn run(request: &Request<'_>) -> Result<(), Failure> {
        let interface = super::interface(request)?;
        let arguments = super::arguments(request, NEW_PEER)?;

        let id = super::peer_id(&arguments, PEER_ID)?;
        let socket = arguments
            .require(SOCKET, c"the peer's socket is missing")?
            .u32()?;
        let vpn_ipv4 = arguments.get(IPV4);
        let vpn_ipv6 = arguments.get(IPV6);
        if matches!(interface.mode(), Mode::Mp) && vpn_ipv4.is_none() && vpn_ipv6.is_none() {
            return Err(Failure::new(
                EINVAL,
                c"a peer of a multi-peer interface needs a VPN address",
            ));
        }

        let id = PeerId::new(id.u32()?)
            .ok_or_else(|| id.refuse(ERANGE, c"the peer id does not fit into 24 bits"))?;
        let remote = arguments
            .get(SOCKADDR_REMOTE)
            .map(|attribute| remote(&attribute))
            .transpose()?;
        let local = match arguments.get(LOCAL_IP) {
            Some(attribute) => local(&attribute, remote.as_ref())?,
            None => None,
        };

        let peer = config::NewPeer {
            id,
            socket,
            remote,
            local,
            vpn_ipv4: vpn_address(vpn_ipv4)?,
            vpn_ipv6: vpn_address(vpn_ipv6)?,
        };
        Ok(Interface::new_peer(&interface, &peer)?)
    }
}

/// The peer's address in the VPN. That of all zeroes is none.
fn vpn_address<const N: usize>(
    attribute: Option<Attribute<'_>>,
) -> Result<Option<[u8; N]>, Failure> {
    let address = attribute.map(|attribute| attribute.array()).transpose()?;

    Ok(address.filter(|address| *address != [0; N]))
}

fn remote(attribute: &Attribute<'_>) -> Result<SocketAddress, Failure> {
    SocketAddress::from_sockaddr(attribute.bytes()).ok_or_else(|| {
        attribute.refuse(
            EINVAL,
            c"the remote address is neither a sockaddr_in nor a sockaddr_in6",
        )
    })
}

/// The address that the peer sends to. That of all zeroes is none.
fn local(
    attribute: &Attribute<'_>,
    remote: Option<&SocketAddress>,
) -> Result<Option<IpAddress>, Failure> {
    let local = IpAddress::from_bytes(attribute.bytes())
        .ok_or_else(|| attribute.refuse(EINVAL, c"the local address has neither 4 nor 16 bytes"))?;

    if remote.is_some_and(|remote| remote.version() != local.version()) {
        return Err(attribute.refuse(
            EINVAL,
            c"the local and the remote address are of different families",
        ));
    }
    Ok(Some(local).filter(|local| !local.is_unspecified()))
}
