// SPDX-License-Identifier: GPL-2.0-only

//! Files that list peers, one a line.
//!
//! What stands in a line is separated by white space. Empty lines and what follows a `#` say
//! nothing.

use crate::message::VpnAddresses;
use anyhow::{anyhow, bail, Context, Result};
use std::{
    fs,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    path::Path,
    str::FromStr,
};

/// A peer over UDP: `PEER_ID REMOTE_ADDR REMOTE_PORT VPN_ADDR [VPN_ADDR]`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UdpPeer {
    pub(crate) id: u32,
    pub(crate) remote: SocketAddr,
    pub(crate) vpn: VpnAddresses,
}

/// A peer over TCP: `PEER_ID VPN_ADDR [VPN_ADDR]`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TcpPeer {
    pub(crate) id: u32,
    pub(crate) vpn: VpnAddresses,
}

/// A line of such a file.
pub(crate) trait Line: Sized {
    fn parse(fields: &[&str]) -> Result<Self>;
}

impl Line for UdpPeer {
    fn parse(fields: &[&str]) -> Result<Self> {
        let [id, host, port, vpn @ ..] = fields else {
            bail!("a line is: PEER_ID REMOTE_ADDR REMOTE_PORT VPN_ADDR [VPN_ADDR]");
        };
        Ok(Self {
            id: number(id, "peer id")?,
            remote: resolve(host, number(port, "port")?)?,
            vpn: vpn_addresses(vpn)?,
        })
    }
}

impl Line for TcpPeer {
    fn parse(fields: &[&str]) -> Result<Self> {
        let [id, vpn @ ..] = fields else {
            bail!("a line is: PEER_ID VPN_ADDR [VPN_ADDR]");
        };
        Ok(Self {
            id: number(id, "peer id")?,
            vpn: vpn_addresses(vpn)?,
        })
    }
}

/// The peers that a file lists.
pub(crate) fn read<T: Line>(path: &Path) -> Result<Vec<T>> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("The list of peers {} cannot be read", path.display()))?;
    parse(&text).with_context(|| format!("{} is not a list of peers", path.display()))
}

fn parse<T: Line>(text: &str) -> Result<Vec<T>> {
    let mut peers = Vec::new();

    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let fields: Vec<_> = line.split_whitespace().collect();
        if !fields.is_empty() {
            peers.push(T::parse(&fields).with_context(|| format!("line {}", index + 1))?);
        }
    }
    if peers.is_empty() {
        bail!("it lists none");
    }
    Ok(peers)
}

/// The first address of a host, which may be a name, an address, or an address with a scope.
pub(crate) fn resolve(host: &str, port: u16) -> Result<SocketAddr> {
    (host, port)
        .to_socket_addrs()
        .with_context(|| format!("{host} is neither an address nor a host that can be found"))?
        .next()
        .ok_or_else(|| anyhow!("{host} has no address"))
}

fn number<T: FromStr>(text: &str, what: &str) -> Result<T> {
    text.parse().map_err(|_| anyhow!("{text} is not a {what}"))
}

fn vpn_addresses(fields: &[&str]) -> Result<VpnAddresses> {
    let addresses = fields
        .iter()
        .map(|field| {
            field
                .parse()
                .map_err(|_| anyhow!("{field} is not an IP address"))
        })
        .collect::<Result<Vec<IpAddr>>>()?;
    VpnAddresses::new(&addresses).map_err(|message| anyhow!(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error<T: Line>(text: &str) -> String {
        format!("{:#}", parse::<T>(text).err().unwrap())
    }

    #[test]
    fn peers_over_udp() {
        let peers: Vec<UdpPeer> =
            parse("1 10.10.1.2 1 5.5.5.2\n\n# two\n2\tfd00::2 1194 5.5.5.3 fd55::3 # both\n")
                .unwrap();

        assert_eq!(peers.len(), 2);
        assert_eq!((peers[0].id, peers[1].id), (1, 2));
        assert_eq!(peers[0].remote, "10.10.1.2:1".parse().unwrap());
        assert_eq!(peers[1].remote, "[fd00::2]:1194".parse().unwrap());
        assert_eq!(
            peers[1].vpn,
            vpn_addresses(&["5.5.5.3", "fd55::3"]).unwrap()
        );
    }

    #[test]
    fn peers_over_tcp() {
        let peers: Vec<TcpPeer> = parse("1 5.5.5.2\n2 fd55::3\n").unwrap();

        assert_eq!(peers.len(), 2);
        assert_eq!(peers[1].vpn, vpn_addresses(&["fd55::3"]).unwrap());
    }

    #[test]
    fn an_error_says_where_it_is() {
        assert_eq!(
            error::<TcpPeer>("1 5.5.5.2\nx 5.5.5.3\n"),
            "line 2: x is not a peer id"
        );
        assert_eq!(
            error::<UdpPeer>("1 10.10.1.2\n"),
            "line 1: a line is: PEER_ID REMOTE_ADDR REMOTE_PORT VPN_ADDR [VPN_ADDR]"
        );
        assert_eq!(
            error::<UdpPeer>("1 10.10.1.2 70000 5.5.5.2\n"),
            "line 1: 70000 is not a port"
        );
        assert_eq!(
            error::<TcpPeer>("1\n"),
            "line 1: the VPN address of the peer is missing"
        );
        assert_eq!(error::<TcpPeer>("# nobody\n"), "it lists none");
    }
}
