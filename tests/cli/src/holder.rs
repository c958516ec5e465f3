// SPDX-License-Identifier: GPL-2.0-only

//! The process that keeps the sockets of peers open.

use crate::{
    client::Client,
    message::{Peer, Request},
    netlink::{Heard, Listener},
};
use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    poll::{poll, PollFd, PollFlags, PollTimeout},
    sys::socket::{recv, MsgFlags},
    unistd::{self, ForkResult, Pid},
};
use std::{
    fs::{self, File},
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
};

/// How often sockets are looked at without a reason, in milliseconds: no notification comes if
/// the interface has moved to another network namespace.
const LOOK_EVERY: u16 = 5000;

/// How many packets of one socket are thrown away before the others have their turn.
const BATCH: usize = 64;

/// What a socket is for.
pub(crate) enum Transport {
    /// Peers over UDP.
    Udp,
    /// One peer over TCP.
    Tcp {
        peer: u32,
        /// With the id it tells the peer from one that came later.
        local_port: u16,
    },
}

/// A socket that is kept open.
pub(crate) struct Held {
    socket: OwnedFd,
    transport: Transport,
    /// Whether anything may still arrive.
    readable: bool,
}

impl Held {
    pub(crate) fn new(socket: OwnedFd, transport: Transport) -> Self {
        Self {
            socket,
            transport,
            readable: true,
        }
    }

    /// Throws away what has arrived for userspace, which is nobody.
    fn discard(&mut self) {
        let mut buffer = [0; 1 << 16];

        for _ in 0..BATCH {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                // The end of a stream, or of a connection: the module says when the peer is gone.
                Ok(0) | Err(_) if matches!(self.transport, Transport::Tcp { .. }) => {
                    self.readable = false;
                    return;
                }
                // Empty, or the network's answer to a packet that was sent: more may follow.
                Ok(_) | Err(_) => {}
            }
        }
    }
}

/// The sockets of an interface's peers, held until those are gone.
pub(crate) struct Holder {
    client: Client,
    ifindex: u32,
    notifications: Listener,
    held: Vec<Held>,
}

impl Holder {
    /// To be called before the first peer is added, so that none goes unheard.
    pub(crate) fn new(client: Client, ifindex: u32) -> Result<Self> {
        let notifications = client
            .listen()
            .context("The notifications of the kernel module cannot be heard")?;
        Ok(Self {
            client,
            ifindex,
            notifications,
            held: Vec::new(),
        })
    }

    pub(crate) fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Takes over a socket that peers have.
    pub(crate) fn hold(&mut self, held: Held) {
        self.held.push(held);
    }

    /// Leaves this to a process in the background, and returns its pid.
    pub(crate) fn run_in_background(self) -> Result<Pid> {
        // SAFETY: This program has one thread, so the child may do whatever it likes.
        #[allow(unsafe_code)]
        let fork = unsafe { unistd::fork() };

        match fork.context("No process can be started to hold the socket")? {
            ForkResult::Parent { child } => Ok(child),
            ForkResult::Child => {
                let status = match self.leave_home().and_then(|()| self.run()) {
                    Ok(()) => 0,
                    Err(_) => 1,
                };
                std::process::exit(status)
            }
        }
    }

    /// Returns when no peer needs the sockets any more.
    pub(crate) fn run(mut self) -> Result<()> {
        let mut news = true;

        loop {
            self.let_go(news);
            if self.held.is_empty() {
                return Ok(());
            }
            self.wait()?;
            for held in self.held.iter_mut().filter(|held| held.readable) {
                held.discard();
            }
            news = self.take_notifications()?;
        }
    }

    /// Waits until something has arrived, or it is time to look.
    fn wait(&self) -> Result<()> {
        let mut sources = vec![PollFd::new(self.notifications.as_fd(), PollFlags::POLLIN)];
        let readable = self.held.iter().filter(|held| held.readable);
        sources.extend(readable.map(|held| PollFd::new(held.socket.as_fd(), PollFlags::POLLIN)));

        match poll(&mut sources, PollTimeout::from(LOOK_EVERY)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether some peer is gone.
    fn take_notifications(&self) -> Result<bool> {
        let mut news = false;

        loop {
            match self.notifications.take()? {
                Heard::Nothing => return Ok(news),
                Heard::Messages(_) | Heard::Overrun => news = true,
            }
        }
    }

    /// Closes the sockets that have no peers any more. A notification alone does not say that: it
    /// may be that of an earlier peer with the same id.
    fn let_go(&mut self, news: bool) {
        let (client, ifindex) = (&mut self.client, self.ifindex);

        self.held.retain(|held| match held.transport {
            Transport::Udp => is_attached(&held.socket),
            Transport::Tcp { peer, local_port } => {
                !news || is_present(client, ifindex, peer, local_port)
            }
        });
    }

    /// What a process does that is not to disturb anybody: it has a session of its own, and none
    /// of the files that it was started with.
    fn leave_home(&self) -> Result<()> {
        unistd::setsid()?;
        unistd::chdir("/")?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        unistd::dup2_stdin(&null)?;
        unistd::dup2_stdout(&null)?;
        unistd::dup2_stderr(&null)?;

        let own = [self.client.as_fd(), self.notifications.as_fd()];
        let mut kept: Vec<RawFd> = own.iter().map(AsRawFd::as_raw_fd).collect();
        kept.extend(self.held.iter().map(|held| held.socket.as_raw_fd()));
        kept.extend([0, 1, 2, null.as_raw_fd()]);
        for descriptor in open_descriptors() {
            if !kept.contains(&descriptor) {
                // The one that the list was read from is closed already.
                let _ = unistd::close(descriptor);
            }
        }
        Ok(())
    }
}

/// All file descriptors of this process; none where /proc is not mounted.
fn open_descriptors() -> Vec<RawFd> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// Whether a kernel module has a UDP socket: ours does while it has peers.
fn is_attached(socket: &OwnedFd) -> bool {
    let mut encapsulation: libc::c_int = 0;
    let mut length = size_of_val(&encapsulation) as libc::socklen_t;

    // SAFETY: The two pointers are to a c_int and to its size.
    #[allow(unsafe_code)]
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_ENCAP,
            (&raw mut encapsulation).cast(),
            &raw mut length,
        )
    };
    status == 0 && encapsulation != 0
}

/// Whether the peer over TCP with this id and local port is there.
fn is_present(client: &mut Client, ifindex: u32, peer: u32, local_port: u16) -> bool {
    match client.request(ifindex, &Request::GetPeer { peer: Some(peer) }) {
        Ok(answers) => answers.iter().any(|answer| {
            Peer::parse(answer)
                .is_ok_and(|peer| peer.local_port.is_none_or(|port| port == local_port))
        }),
        // There is no such peer, no such interface, or another one has taken its index.
        Err(error) => !matches!(
            error.errno(),
            Some(libc::ENOENT | libc::ENODEV | libc::EINVAL)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        net::{TcpListener, TcpStream, UdpSocket},
    };

    #[test]
    fn a_socket_without_peers_is_not_attached() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();

        assert!(!is_attached(&socket.into()));
    }

    #[test]
    fn what_arrives_over_udp_is_thrown_away() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let mut held = Held::new(socket.try_clone().unwrap().into(), Transport::Udp);

        for packet in [&b"control"[..], b"", b"packets"] {
            socket.send_to(packet, address).unwrap();
        }
        held.discard();
        assert!(held.readable);
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 16]).is_err());
    }

    #[test]
    fn a_tcp_stream_that_has_ended_is_not_read_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let transport = Transport::Tcp {
            peer: 1,
            local_port: 1,
        };
        let mut held = Held::new(server.into(), transport);

        held.discard();
        assert!(held.readable);
        client.write_all(b"control packets").unwrap();
        drop(client);
        held.discard();
        assert!(!held.readable);
    }
}
