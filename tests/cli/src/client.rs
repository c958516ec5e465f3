// SPDX-License-Identifier: GPL-2.0-only

//! The module's generic netlink family.

use crate::{
    message::{generic, Request},
    netlink::{find, parse, Ask, Attributes, Connection, Error, Listener, Message},
    uapi,
};
use netlink_sys::protocols::NETLINK_GENERIC;
use std::os::fd::{AsFd, BorrowedFd};

/// The numbers of `linux/genetlink.h`.
mod control {
    pub(super) const ID: u16 = 16;
    pub(super) const VERSION: u8 = 1;
    pub(super) const CMD_GETFAMILY: u8 = 3;
    pub(super) const ATTR_FAMILY_ID: u16 = 1;
    pub(super) const ATTR_FAMILY_NAME: u16 = 2;
    pub(super) const ATTR_MCAST_GROUPS: u16 = 7;
    pub(super) const ATTR_MCAST_GRP_NAME: u16 = 1;
    pub(super) const ATTR_MCAST_GRP_ID: u16 = 2;
}

/// Whoever can ask the module for something.
pub(crate) struct Client {
    connection: Connection,
    family: Family,
}

/// What the kernel has numbered when the module was loaded.
struct Family {
    id: u16,
    peers: u32,
}

impl Client {
    /// Finds the family, which loads the module if it is installed.
    pub(crate) fn open() -> Result<Self, Error> {
        let mut connection = Connection::open(NETLINK_GENERIC)?;
        let name = Attributes::new().put_str(control::ATTR_FAMILY_NAME, uapi::FAMILY);
        let answers = connection.request(
            Ask::Do(0),
            Message {
                kind: control::ID,
                payload: generic(control::CMD_GETFAMILY, control::VERSION, &name),
            },
        )?;
        let family = answers
            .first()
            .map(|answer| Family::parse(answer))
            .unwrap_or_else(|| Err(Error::Malformed("it is empty".into())))?;

        Ok(Self { connection, family })
    }

    /// Asks for something about an interface, and returns what is answered.
    pub(crate) fn request(
        &mut self,
        ifindex: u32,
        request: &Request,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let ask = match request {
            Request::GetPeer { peer: None } => Ask::Dump,
            _ => Ask::Do(0),
        };
        let message = Message {
            kind: self.family.id,
            payload: request.payload(ifindex),
        };
        self.connection.request(ask, message)
    }

    /// Hears of peers that are gone, from now on.
    pub(crate) fn listen(&self) -> Result<Listener, Error> {
        Listener::join(NETLINK_GENERIC, self.family.peers)
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

impl Family {
    fn parse(answer: &[u8]) -> Result<Self, Error> {
        let malformed = |what: &str| Error::Malformed(format!("the family has no {what}"));
        let (_, attributes) = crate::message::split_generic(answer)?;

        let id = find(attributes, control::ATTR_FAMILY_ID)?
            .and_then(|id| id.try_into().ok().map(u16::from_ne_bytes))
            .ok_or_else(|| malformed("id"))?;
        let groups = find(attributes, control::ATTR_MCAST_GROUPS)?.unwrap_or_default();
        let peers = Self::group(&groups, uapi::GROUP_PEERS)?
            .ok_or_else(|| malformed("group of that name"))?;
        Ok(Self { id, peers })
    }

    /// The number of the multicast group with this name.
    fn group(groups: &[u8], wanted: &str) -> Result<Option<u32>, Error> {
        for (_, group) in parse(groups)? {
            let name = find(&group, control::ATTR_MCAST_GRP_NAME)?.unwrap_or_default();
            if name.strip_suffix(&[0]) == Some(wanted.as_bytes()) {
                let id = find(&group, control::ATTR_MCAST_GRP_ID)?;
                return Ok(id.and_then(|id| id.try_into().ok().map(u32::from_ne_bytes)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, id: u32) -> Attributes {
        Attributes::new().put_u32(2, id).put_str(1, name)
    }

    #[test]
    fn a_family_and_its_group() {
        let groups = Attributes::new()
            .put_nest(1, group("peer", 5))
            .put_nest(2, group("peers", 6));
        let family = Attributes::new()
            .put_str(2, "ovpn-dco-v2")
            .put_u16(1, 33)
            .put_nest(7, groups);

        let family = Family::parse(&generic(1, 2, &family)).unwrap();
        assert_eq!((family.id, family.peers), (33, 6));
    }

    #[test]
    fn a_family_without_the_group() {
        let family = Attributes::new()
            .put_u16(1, 33)
            .put_nest(7, Attributes::new().put_nest(1, group("others", 5)));

        assert!(Family::parse(&generic(1, 2, &family)).is_err());
    }
}
