// SPDX-License-Identifier: GPL-2.0-only

//! The sockets that peers are reached over.

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    time::Duration,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const BACKLOG: i32 = 128;

/// A UDP socket for peers of both families.
///
/// Others like it may share the port: a peer can replace another without waiting for the end of
/// its socket.
pub(crate) fn udp(port: u16) -> Result<OwnedFd> {
    let socket = bind(Type::DGRAM, Protocol::UDP, port, Socket::set_reuse_port)
        .with_context(|| format!("UDP port {port} cannot be bound to"))?;
    Ok(socket.into())
}

/// A TCP socket that listens, for peers of both families.
pub(crate) fn listen(port: u16) -> Result<TcpListener> {
    let socket = bind(Type::STREAM, Protocol::TCP, port, Socket::set_reuse_address)
        .and_then(|socket| socket.listen(BACKLOG).map(|()| socket))
        .with_context(|| format!("TCP port {port} cannot be listened on"))?;
    Ok(socket.into())
}

/// A TCP connection.
pub(crate) fn connect(remote: SocketAddr) -> Result<TcpStream> {
    TcpStream::connect_timeout(&remote, CONNECT_TIMEOUT)
        .with_context(|| format!("{remote} cannot be connected to"))
}

/// Binds to a port of all addresses; of IPv4 ones only where there is no IPv6.
fn bind(
    kind: Type,
    protocol: Protocol,
    port: u16,
    share: fn(&Socket, bool) -> io::Result<()>,
) -> io::Result<Socket> {
    let bound = |domain, address: SocketAddr| {
        let socket = Socket::new(domain, kind, Some(protocol))?;
        share(&socket, true)?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        socket.bind(&SockAddr::from(address))?;
        Ok(socket)
    };

    bound(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into()).or_else(
        |error: io::Error| match error.raw_os_error() {
            Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL) => {
                bound(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into())
            }
            _ => Err(error),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn udp_sockets_share_a_port() {
        let first = UdpSocket::from(udp(0).unwrap());
        let port = first.local_addr().unwrap().port();

        let second = UdpSocket::from(udp(port).unwrap());
        assert_eq!(second.local_addr().unwrap().port(), port);
    }

    #[test]
    fn a_port_that_another_program_has_is_refused() {
        let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = taken.local_addr().unwrap().port();

        let error = format!("{:#}", udp(port).unwrap_err());
        assert_eq!(
            error,
            format!("UDP port {port} cannot be bound to: Address already in use (os error 98)")
        );
    }

    #[test]
    fn a_listener_takes_ipv4_connections() {
        let listener = listen(0).unwrap();
        let port = listener.local_addr().unwrap().port();

        let client = connect(([127, 0, 0, 1], port).into()).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_eq!(
            server.peer_addr().unwrap().port(),
            client.local_addr().unwrap().port()
        );
    }
}
