// SPDX-License-Identifier: GPL-2.0

//! The generic netlink family `ovpn-dco-v2`, by which user space manages peers and keys.
//!
//! One file per command. Each first finds the interface that the request is about, then checks the
//! whole request, and only then calls the interface: what is refused leaves no trace. What each
//! attribute may hold stands in the policies; what they can not say is checked by the command.

mod address;
mod del_key;
mod del_peer;
mod get_peer;
mod new_key;
mod new_peer;
mod set_peer;
mod swap_keys;

use crate::{
    abstractions::{
        genl::{Attribute, Attributes, Failure, Family, Group, Operation, Policy, Request},
        rcu::RcuArc,
    },
    bindings::{
        self, ovpn_key_slot_OVPN_KEY_SLOT_PRIMARY as KEY_SLOT_PRIMARY,
        ovpn_key_slot_OVPN_KEY_SLOT_SECONDARY as KEY_SLOT_SECONDARY,
        ovpn_netlink_attrs_OVPN_ATTR_IFINDEX as IFINDEX,
    },
    config::Slot,
    interface::Interface,
    proto::packet::PeerId,
    refusal::Refusal,
};
use kernel::prelude::*;

pub(crate) use crate::abstractions::genl::Registration;
pub(crate) use del_peer::notify_del_peer;

static FAMILY: Family = Family::new(
    bindings::OVPN_NL_NAME,
    1,
    bindings::ovpn_netlink_attrs_OVPN_ATTR_MAX,
    &OPERATIONS,
    &GROUPS,
);

static OPERATIONS: [Operation; 7] = [
    Operation::new::<new_peer::NewPeer>(),
    Operation::new::<set_peer::SetPeer>(),
    Operation::new::<del_peer::DelPeer>(),
    Operation::new::<new_key::NewKey>(),
    Operation::new::<swap_keys::SwapKeys>(),
    Operation::new::<del_key::DelKey>(),
    Operation::with_dump::<get_peer::GetPeer>(),
];

/// The index in [`GROUPS`] of the group that hears of every peer that is gone.
const PEERS: u32 = 0;

static GROUPS: [Group; 1] = [Group::new(bindings::OVPN_NL_MULTICAST_GROUP_PEERS)];

/// Makes the commands available, until the registration is dropped. Once in the module's life.
///
/// Process context. Fails with `EEXIST` if another module has registered the family.
pub(crate) fn register(module: &'static ThisModule) -> Result<Registration> {
    FAMILY.register(module)
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.error, refusal.message)
    }
}

/// The policies of a command whose arguments are in the nest `kind`.
const fn policies<const N: usize>(kind: u32, arguments: &'static [Policy]) -> [Policy; N] {
    Policy::table(&[(IFINDEX, Policy::U32), (kind, Policy::nest(arguments))])
}

/// The interface that a request is about.
fn interface(request: &Request<'_>) -> Result<RcuArc<Interface>, Failure> {
    let ifindex = request
        .attributes()
        .require(IFINDEX, c"the interface index is missing")?;

    Interface::find(request.net(), ifindex.u32()?)
        .map_err(|refusal| ifindex.refuse(refusal.error, refusal.message))
}

/// The arguments of a command, which are in the nest `kind`.
fn arguments<'a>(request: &Request<'a>, kind: u32) -> Result<Attributes<'a>, Failure> {
    request
        .attributes()
        .require(kind, c"the attributes of the command are missing")
        .map(|nest| nest.nest())
}

/// The attribute `kind`, which names a peer.
fn peer_id<'a>(arguments: &Attributes<'a>, kind: u32) -> Result<Attribute<'a>, Failure> {
    arguments.require(kind, c"the peer id is missing")
}

/// The id of a peer that should exist. None exists whose id does not fit the wire.
fn existing(peer_id: &Attribute<'_>) -> Result<PeerId, Failure> {
    PeerId::new(peer_id.u32()?)
        .ok_or_else(|| peer_id.refuse(ENOENT, c"there is no peer with this id"))
}

/// What a key slot may be.
const KEY_SLOT: Policy = Policy::u8_range(KEY_SLOT_PRIMARY as u8, KEY_SLOT_SECONDARY as u8);

/// The key slot that the attribute `kind` names.
fn key_slot(arguments: &Attributes<'_>, kind: u32) -> Result<Slot, Failure> {
    let slot = arguments.require(kind, c"the key slot is missing")?;

    match slot.u8()?.into() {
        KEY_SLOT_PRIMARY => Ok(Slot::Primary),
        KEY_SLOT_SECONDARY => Ok(Slot::Secondary),
        _ => Err(slot.refuse(ERANGE, c"there is no such key slot")),
    }
}
