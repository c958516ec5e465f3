// SPDX-License-Identifier: GPL-2.0

//! `OVPN_CMD_GET_PEER`: tells what is known of one peer, or of all.

use crate::{
    abstractions::genl::{Command, Dump, DumpCommand, Failure, Message, Policy, Request},
    bindings::{
        ovpn_netlink_attrs_OVPN_ATTR_GET_PEER as GET_PEER,
        ovpn_netlink_get_peer_attrs_OVPN_GET_PEER_ATTR_MAX as MAX,
        ovpn_netlink_get_peer_attrs_OVPN_GET_PEER_ATTR_PEER_ID as PEER_ID,
        ovpn_nl_commands_OVPN_CMD_GET_PEER as CMD_GET_PEER,
    },
    config::PeerInfo,
};
use kernel::prelude::*;

/// The attributes of the answer.
mod answer {
    pub(super) use crate::bindings::{
        ovpn_netlink_get_peer_response_attrs_OVPN_GET_PEER_RESP_ATTR_IPV4 as IPV4,
        ovpn_netlink_get_peer_response_attrs_OVPN_GET_PEER_RESP_ATTR_IPV6 as IPV6,
        ovpn_netlink_get_peer_response_attrs_OVPN_GET_PEER_RESP_ATTR_KEEPALIVE_INTERVAL as KEEPALIVE_INTERVAL,
        ovpn_netlink_get_peer_response_attrs_OVPN_GET_PEER_RESP_ATTR_KEEPALIVE_TIMEOUT as KEEPALIVE_TIMEOUT,
        ovpn_netlink_get_peer_response_attrs_OVPN_GET_PEER_RESP_ATTR_LINK_RX_BYTES as LINK_RX_BYTES,
        ovpn_netlink_get_peer_response_attrs_OVPN_GET_PEER_RESP_ATTR_LINK_RX_PACKETS as LINK_RX_PACKETS,
        ovpn_netlink_get_peer_response_attrs_OVPN_GET_PEER_RESP_ATTR_LINK_TX_BYTES as LINK_TX_BYTES,
        ovpn_netlink_get_peer_response_attrs_OVPN_GET_PEER_RESP_ATTR_LINK_TX_PACKETS as LINK_TX_PACKETS,
        ovpn_netlink_get_peer_response_attrs_OVPN_GET_PEER_RESP_ATTR_LOCAL_IP as LOCAL_IP,
        ovpn_netlink_get_peer_response_attrs_OVPN_GET_PEER_RESP_ATTR_LOCAL_PORT as LOCAL_PORT,
        ovpn_netlink_get_peer_response_attrs_OVPN_GET_PEER_RESP_ATTR_PEER_ID as PEER_ID,
        ovpn_netlink_get_peer_response_attrs_OVPN_GET_PEER_RESP_ATTR_SOCKADDR_REMOTE as SOCKADDR_REMOTE,
        ovpn_netlink_get_peer_response_attrs_OVPN_GET_PEER_RESP_ATTR_UNSPEC as PAD,
        ovpn_netlink_get_peer_response_attrs_OVPN_GET_PEER_RESP_ATTR_VPN_RX_BYTES as VPN_RX_BYTES,
        ovpn_netlink_get_peer_response_attrs_OVPN_GET_PEER_RESP_ATTR_VPN_RX_PACKETS as VPN_RX_PACKETS,
        ovpn_netlink_get_peer_response_attrs_OVPN_GET_PEER_RESP_ATTR_VPN_TX_BYTES as VPN_TX_BYTES,
        ovpn_netlink_get_peer_response_attrs_OVPN_GET_PEER_RESP_ATTR_VPN_TX_PACKETS as VPN_TX_PACKETS,
    };
}

pub(super) struct GetPeer;

static ARGUMENTS: [Policy; MAX as usize + 1] = Policy::table(&[(PEER_ID, Policy::U32)]);

static POLICIES: [Policy; GET_PEER as usize + 1] = super::policies(GET_PEER, &ARGUMENTS);

/// More than the attributes of the answer need.
const ANSWER_ROOM: usize = 512;

impl Command for GetPeer {
    const NUMBER: u8 = CMD_GET_PEER as u8;
    const POLICIES: &'static [Policy] = &POLICIES;

    fn run(request: &Request<'_>) -> Result<(), Failure> {
        let interface = super::interface(request)?;
        let arguments = super::arguments(request, GET_PEER)?;
        let id = super::existing(&super::peer_id(&arguments, PEER_ID)?)?;
        let peer = interface.get_peer(id)?;

        request
            .reply(CMD_GET_PEER as u8, ANSWER_ROOM, |message| {
                put(message, &peer)
            })
            .map_err(|error| Failure::new(error, c"the answer can not be sent"))
    }
}

impl DumpCommand for GetPeer {
    fn dump(request: &Request<'_>, dump: &mut Dump<'_>) -> Result<(), Failure> {
        // Refused here and not in a `start` callback: that would answer with an error message, and
        // OpenVPN exits on one that says `ENODEV`. In the dump's last message it does no harm.
        let interface = super::interface(request)?;

        while let Some(peer) = interface.peer_from(dump.cursor()) {
            dump.message(CMD_GET_PEER as u8, |message| put(message, &peer))
                .map_err(|error| Failure::new(error, c"the answer does not fit"))?;
            dump.set_cursor(peer.id.get().saturating_add(1));
        }
        Ok(())
    }
}

/// Adds what is known of `peer`, in the order in which it has always come.
fn put(message: &mut Message<'_>, peer: &PeerInfo) -> Result {
    message.put_nest(GET_PEER, |nest| {
        nest.put_u32(answer::PEER_ID, peer.id.get())?;
        if let Some(address) = &peer.vpn_ipv4 {
            nest.put(answer::IPV4, address)?;
        }
        if let Some(address) = &peer.vpn_ipv6 {
            nest.put(answer::IPV6, address)?;
        }
        nest.put_u32(answer::KEEPALIVE_INTERVAL, peer.keepalive_interval)?;
        nest.put_u32(answer::KEEPALIVE_TIMEOUT, peer.keepalive_timeout)?;

        if let Some(remote) = &peer.remote {
            remote.with_sockaddr(|sockaddr| nest.put(answer::SOCKADDR_REMOTE, sockaddr))?;
        }
        // Where a remote address is, a local one has always been, if only that of all zeroes.
        let unknown = peer.remote.map(|remote| remote.unspecified());
        if let Some(local) = peer.local.or(unknown) {
            nest.put(answer::LOCAL_IP, local.as_bytes())?;
        }
        nest.put_net16(answer::LOCAL_PORT, peer.local_port)?;

        nest.put_u64(answer::VPN_RX_BYTES, peer.vpn.rx_bytes, answer::PAD)?;
        nest.put_u32(answer::VPN_RX_PACKETS, wrapped(peer.vpn.rx_packets))?;
        nest.put_u64(answer::VPN_TX_BYTES, peer.vpn.tx_bytes, answer::PAD)?;
        nest.put_u32(answer::VPN_TX_PACKETS, wrapped(peer.vpn.tx_packets))?;
        nest.put_u64(answer::LINK_RX_BYTES, peer.link.rx_bytes, answer::PAD)?;
        nest.put_u32(answer::LINK_RX_PACKETS, wrapped(peer.link.rx_packets))?;
        nest.put_u64(answer::LINK_TX_BYTES, peer.link.tx_bytes, answer::PAD)?;
        nest.put_u32(answer::LINK_TX_PACKETS, wrapped(peer.link.tx_packets))
    })
}

/// The interface has 32 bits for a number of packets.
fn wrapped(packets: u64) -> u32 {
    packets as u32
}
