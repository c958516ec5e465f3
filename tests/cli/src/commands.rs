// SPDX-License-Identifier: GPL-2.0-only

//! What the commands do.

use crate::{
    args::{Cli, Command, HoldArgs},
    client::Client,
    holder::{Held, Holder, Transport},
    key_file::{Direction, KeyFile},
    link,
    message::{NewKey, NewPeer, Peer, PeerGone, Request},
    netlink::Heard,
    peers_file::{self, TcpPeer, UdpPeer},
    transport, uapi,
};
use anyhow::{Context, Error, Result};
use nix::net::if_::{if_indextoname, if_nametoindex};
use std::{
    fmt::Display,
    io::{self, Write},
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd},
};

/// Does what the command line says.
pub(crate) fn run(cli: &Cli) -> Result<()> {
    let name = cli.iface.as_str();

    match &cli.command {
        Command::NewIface { mode } => {
            link::create(name, *mode).with_context(|| refused(format_args!("make {name}")))
        }
        Command::Connect {
            peer_id,
            remote_addr,
            remote_port,
            vpn,
            hold,
        } => {
            let peer = TcpPeer {
                id: *peer_id,
                vpn: vpn.addresses().map_err(Error::msg)?,
            };
            let remote = peers_file::resolve(remote_addr, *remote_port)?;
            let mut holder = Interface::open(cli)?.into_holder()?;
            let stream = transport::connect(remote)?;
            holder.add_tcp(&peer, stream)?;
            holder.keep(*hold)
        }
        Command::Listen {
            local_port,
            peers_file,
            hold,
        } => {
            let peers = peers_file::read::<TcpPeer>(peers_file)?;
            let mut holder = Interface::open(cli)?.into_holder()?;
            let listener = transport::listen(*local_port)?;
            for peer in &peers {
                let (stream, from) = listener.accept().context("No connection can be accepted")?;
                holder.note(format_args!("Peer {} has connected from {from}.", peer.id))?;
                holder.add_tcp(peer, stream)?;
            }
            drop(listener);
            holder.keep(*hold)
        }
        Command::NewPeer {
            local_port,
            peer_id,
            remote_addr,
            remote_port,
            vpn,
            local_ip,
            hold,
        } => {
            let vpn = vpn.addresses().map_err(Error::msg)?;
            let remote = peers_file::resolve(remote_addr, *remote_port)?;
            let peer = UdpPeer {
                id: *peer_id,
                remote,
                vpn,
            };
            let mut holder = Interface::open(cli)?.into_holder()?;
            holder.add_udp(*local_port, &[peer], *local_ip)?;
            holder.keep(*hold)
        }
        Command::NewMultiPeer {
            local_port,
            peers_file,
            hold,
        } => {
            let peers = peers_file::read::<UdpPeer>(peers_file)?;
            let mut holder = Interface::open(cli)?.into_holder()?;
            holder.add_udp(*local_port, &peers, None)?;
            holder.keep(*hold)
        }
        Command::SetPeer {
            peer_id: peer,
            keepalive_interval,
            keepalive_timeout,
        } => {
            let request = Request::SetPeer {
                peer: *peer,
                interval: *keepalive_interval,
                timeout: *keepalive_timeout,
            };
            Interface::open(cli)?.ask(&request, format_args!("set the keepalive of peer {peer}"))
        }
        Command::DelPeer { peer_id: peer } => {
            let request = Request::DelPeer { peer: *peer };
            Interface::open(cli)?.ask(&request, format_args!("delete peer {peer}"))
        }
        Command::NewKey {
            peer_id: peer,
            cipher,
            key_dir,
            key_file,
            slot,
            key_id,
        } => {
            let file = KeyFile::read(key_file)?;
            let [encrypt, decrypt] = file.pair(Direction::from(*key_dir), cipher.key_length());
            let request = Request::NewKey(NewKey {
                peer: *peer,
                slot: *slot,
                id: *key_id,
                cipher: cipher.number(),
                encrypt,
                decrypt,
            });
            Interface::open(cli)?.ask(&request, format_args!("install a key for peer {peer}"))
        }
        Command::DelKey {
            peer_id: peer,
            slot,
        } => {
            let request = Request::DelKey {
                peer: *peer,
                slot: *slot,
            };
            Interface::open(cli)?.ask(&request, format_args!("delete a key of peer {peer}"))
        }
        Command::SwapKeys { peer_id: peer } => {
            let request = Request::SwapKeys { peer: *peer };
            Interface::open(cli)?.ask(&request, format_args!("swap the keys of peer {peer}"))
        }
        Command::GetPeer { peer_id } => Interface::open(cli)?.print_peers(*peer_id),
        Command::ListenMcast => Interface::open(cli)?.print_notifications(),
    }
}

/// An interface, and the kernel module to which it belongs.
struct Interface<'a> {
    cli: &'a Cli,
    index: u32,
    client: Client,
}

impl<'a> Interface<'a> {
    fn open(cli: &'a Cli) -> Result<Self> {
        let name = cli.iface.as_str();
        let index = if_nametoindex(name)
            .map_err(io::Error::from)
            .with_context(|| format!("There is no interface {name}"))?;
        let client = Client::open().map_err(|error| {
            let missing = error.errno() == Some(libc::ENOENT);
            anyhow::Error::from(error).context(if missing {
                format!(
                    "The kernel knows no {}: its module is not loaded",
                    uapi::FAMILY
                )
            } else {
                format!("The kernel module {} cannot be asked", uapi::FAMILY)
            })
        })?;
        Ok(Self { cli, index, client })
    }

    /// Asks for something to be done; `what` says it in words.
    fn ask(&mut self, request: &Request, what: impl Display) -> Result<()> {
        let name = &self.cli.iface;
        self.client
            .request(self.index, request)
            .with_context(|| refused(format_args!("{what} on {name}")))?;
        Ok(())
    }

    fn print_peers(&mut self, peer: Option<u32>) -> Result<()> {
        let name = &self.cli.iface;
        let answers = self
            .client
            .request(self.index, &Request::GetPeer { peer })
            .with_context(|| match peer {
                Some(peer) => refused(format_args!("tell of peer {peer} on {name}")),
                None => refused(format_args!("list the peers of {name}")),
            })?;
        for answer in answers {
            print(Peer::parse(&answer)?)?;
        }
        Ok(())
    }

    fn print_notifications(&self) -> Result<()> {
        let listener = self
            .client
            .listen()
            .context("The notifications of the kernel module cannot be heard")?;
        note(self.cli, "Listening.")?;

        loop {
            match listener.wait()? {
                Heard::Messages(messages) => {
                    for message in messages {
                        if let Some(gone) = PeerGone::parse(&message)? {
                            self.print_gone(&gone)?;
                        }
                    }
                }
                Heard::Overrun => eprintln!("Some notifications came too fast and are lost."),
                Heard::Nothing => {}
            }
        }
    }

    fn print_gone(&self, gone: &PeerGone) -> Result<()> {
        // The interface may be gone, too; for that nix 0.31 gives an empty name.
        let known = if_indextoname(gone.ifindex)
            .ok()
            .filter(|name| !name.is_empty());
        let name = match known {
            Some(name) => name.to_string_lossy().into_owned(),
            None if gone.ifindex == self.index => self.cli.iface.clone(),
            None => format!("interface {}", gone.ifindex),
        };
        let reason = uapi::reason(gone.reason);
        print(format_args!(
            "{name}: peer {} is gone: {reason}\n",
            gone.peer
        ))
    }

    fn into_holder(self) -> Result<PeerHolder<'a>> {
        Ok(PeerHolder {
            cli: self.cli,
            index: self.index,
            holder: Holder::new(self.client, self.index)?,
        })
    }
}

/// Adds peers, and sees to it that their sockets stay open.
struct PeerHolder<'a> {
    cli: &'a Cli,
    index: u32,
    holder: Holder,
}

impl PeerHolder<'_> {
    /// Adds peers that share a socket: all of them or none.
    fn add_udp(&mut self, port: u16, peers: &[UdpPeer], local: Option<IpAddr>) -> Result<()> {
        let socket = transport::udp(port)?;

        for (index, peer) in peers.iter().enumerate() {
            let request = NewPeer {
                id: peer.id,
                remote: Some(peer.remote),
                socket: socket.as_raw_fd(),
                vpn: peer.vpn,
                local,
            };
            if let Err(error) = self.add(request) {
                for earlier in &peers[..index] {
                    // It may be gone already; the first error is the one to tell of.
                    let request = Request::DelPeer { peer: earlier.id };
                    let _ = self.holder.client().request(self.index, &request);
                }
                return Err(error);
            }
        }
        self.holder.hold(Held::new(socket, Transport::Udp));
        Ok(())
    }

    /// Adds a peer over TCP.
    fn add_tcp(&mut self, peer: &TcpPeer, stream: std::net::TcpStream) -> Result<()> {
        let local_port = stream
            .local_addr()
            .context("The connection has ended")?
            .port();
        let socket = OwnedFd::from(stream);

        self.add(NewPeer {
            id: peer.id,
            remote: None,
            socket: socket.as_raw_fd(),
            vpn: peer.vpn,
            local: None,
        })?;
        let transport = Transport::Tcp {
            peer: peer.id,
            local_port,
        };
        self.holder.hold(Held::new(socket, transport));
        Ok(())
    }

    fn add(&mut self, peer: NewPeer) -> Result<()> {
        let (id, name) = (peer.id, &self.cli.iface);

        self.holder
            .client()
            .request(self.index, &Request::NewPeer(peer))
            .with_context(|| refused(format_args!("add peer {id} to {name}")))?;
        Ok(())
    }

    /// Keeps the sockets open, here or in a process of their own.
    fn keep(self, hold: HoldArgs) -> Result<()> {
        let cli = self.cli;

        if hold.foreground {
            note(
                cli,
                format_args!("This process, {}, holds the socket.", std::process::id()),
            )?;
            return self.holder.run();
        }
        let pid = self.holder.run_in_background()?;
        note(cli, format_args!("Process {pid} holds the socket."))
    }

    fn note(&self, line: impl Display) -> Result<()> {
        note(self.cli, line)
    }
}

/// The beginning of a sentence that goes on with the kernel's reason.
fn refused(what: impl Display) -> String {
    format!("The kernel refuses to {what}")
}

/// Prints a line for those who want to know more.
fn note(cli: &Cli, line: impl Display) -> Result<()> {
    if cli.verbose {
        print(format_args!("{line}\n"))?;
    }
    Ok(())
}

/// Prints at once; that nobody reads it is not an error.
fn print(text: impl Display) -> Result<()> {
    let mut output = io::stdout().lock();

    match write!(output, "{text}").and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("Standard output cannot be written to")
        }
        _ => Ok(()),
    }
}
