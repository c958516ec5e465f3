// SPDX-License-Identifier: GPL-2.0-only

//! The command line.

use crate::message::{Slot, VpnAddresses};
use clap::{
    error::{ContextKind, ContextValue, ErrorKind},
    Args, CommandFactory, Parser, Subcommand, ValueEnum,
};
use std::{env, ffi::OsString, net::IpAddr, path::PathBuf};

/// Tells the ovpn-dco-v2 kernel module about peers and pre-shared keys, for tests.
#[derive(Debug, Parser)]
#[command(name = "ovpn-cli", after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// Say more, among it which process holds the socket
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,

    /// The interface
    #[arg(value_parser = interface_name)]
    pub(crate) iface: String,

    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Exits with a usage message if the command line is wrong.
    pub(crate) fn from_command_line() -> Self {
        let arguments: Vec<_> = env::args_os().collect();

        Self::check(&arguments).unwrap_or_else(|error| error.exit())
    }

    fn check(arguments: &[OsString]) -> Result<Self, clap::Error> {
        let mut all = Self::command();
        let meant = meant(&mut all, arguments);

        let cli = Self::try_parse_from(arguments).map_err(|mut error| {
            // clap leaves it out if only a value is wrong.
            if error.use_stderr() {
                let usage = ContextValue::StyledStr(meant.render_usage());
                error.insert(ContextKind::Usage, usage);
            }
            error
        })?;
        if let Command::Connect { vpn, .. } | Command::NewPeer { vpn, .. } = &cli.command {
            vpn.addresses()
                .map_err(|message| meant.error(ErrorKind::ValueValidation, message))?;
        }
        Ok(cli)
    }
}

/// The subcommand that the command line is about, or the whole program.
fn meant<'a>(all: &'a mut clap::Command, arguments: &[OsString]) -> &'a mut clap::Command {
    all.build();
    let name = arguments
        .iter()
        .skip(1)
        .find_map(|argument| all.find_subcommand(argument))
        .map(|command| command.get_name().to_owned());

    match name {
        Some(name) => all.find_subcommand_mut(name).expect("it was found before"),
        None => all,
    }
}

const AFTER_HELP: &str = "\
The socket of a peer:
  A peer lives as long as its socket is open in some process. So new_peer, new_multi_peer, connect
  and listen leave one behind in the background: it holds the socket, throws away what arrives for
  userspace, and ends by itself when all its peers are gone, which they are at the latest when the
  interface is. Its pid is printed with --verbose. Ending it ends its peers. With --foreground no
  process is left behind; the command itself is the holder. A holder keeps the network namespace
  that it was started in: delete the interface before the namespace.

Exit status:
  0 if it was done, 1 if it was not and why is on standard error, 2 if the command line was wrong.";

/// What to do.
#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
pub(crate) enum Command {
    /// Connect to a peer that listens over TCP, and add it
    Connect {
        /// The id in the packets to and from the peer
        peer_id: u32,
        /// Where the peer listens: an address or a host name
        remote_addr: String,
        /// The TCP port there
        #[arg(value_parser = clap::value_parser!(u16).range(1..))]
        remote_port: u16,
        #[command(flatten)]
        vpn: VpnArgs,
        #[command(flatten)]
        hold: HoldArgs,
    },

    /// Wait for peers to connect over TCP, and add them: as many as the file lists, in its order
    Listen {
        /// The TCP port to listen on
        local_port: u16,
        /// A file with a line PEER_ID VPN_ADDR [VPN_ADDR] for each peer
        peers_file: PathBuf,
        #[command(flatten)]
        hold: HoldArgs,
    },

    /// Add a peer over UDP
    NewPeer {
        /// The UDP port to bind to; 0 for any
        local_port: u16,
        /// The id in the packets to and from the peer
        peer_id: u32,
        /// Where the peer is: an address or a host name
        remote_addr: String,
        /// The UDP port there
        remote_port: u16,
        #[command(flatten)]
        vpn: VpnArgs,
        /// The address that the peer knows this host by
        #[arg(long = "local-ip", value_name = "ADDR")]
        local_ip: Option<IpAddr>,
        #[command(flatten)]
        hold: HoldArgs,
    },

    /// Add peers that share one UDP socket: all that the file lists, or none
    NewMultiPeer {
        /// The UDP port to bind to; 0 for any
        local_port: u16,
        /// A file with a line PEER_ID REMOTE_ADDR REMOTE_PORT VPN_ADDR [VPN_ADDR] for each peer
        peers_file: PathBuf,
        #[command(flatten)]
        hold: HoldArgs,
    },

    /// Set the keepalive of a peer
    SetPeer {
        /// Which peer
        peer_id: u32,
        /// After how many seconds of our silence the peer gets a message; 0 for never
        keepalive_interval: u32,
        /// After how many seconds of its silence the peer is given up; 0 for never
        keepalive_timeout: u32,
    },

    /// Delete a peer
    DelPeer {
        /// Which peer
        peer_id: u32,
    },

    /// Install a key
    NewKey {
        /// Which peer
        peer_id: u32,
        /// What to seal packets with
        cipher: Cipher,
        /// 0 at one end, 1 at the other: which of the file's keys encrypts
        #[arg(value_parser = clap::value_parser!(u8).range(0..=1))]
        key_dir: u8,
        /// A file of base64, at least 72 bytes: two keys of 32 bytes, 8 bytes of the nonces
        key_file: PathBuf,
        /// Where to install it
        #[arg(long, value_enum, default_value_t = Slot::Primary)]
        slot: Slot,
        /// The id in the packets under this key
        #[arg(long = "key-id", value_name = "ID", default_value_t = 0)]
        key_id: u8,
    },

    /// Delete a key
    DelKey {
        /// Which peer
        peer_id: u32,
        /// Which key
        #[arg(long, value_enum, default_value_t = Slot::Primary)]
        slot: Slot,
    },

    /// Let the primary and the secondary key of a peer change places
    SwapKeys {
        /// Which peer
        peer_id: u32,
    },

    /// Print what the kernel knows of a peer, or of all
    GetPeer {
        /// Which peer; without it, all
        peer_id: Option<u32>,
    },

    /// Print a line for each peer that is gone, of any interface, until interrupted
    ListenMcast,

    /// Make the interface, which ip(8) can only do in the mode p2p
    NewIface {
        /// How many peers it has
        #[arg(value_enum, default_value_t = Mode::P2p)]
        mode: Mode,
    },
}

/// The addresses of a peer inside the tunnel.
#[derive(Debug, Args)]
pub(crate) struct VpnArgs {
    /// The peer's address in the VPN; two, if it has one of each family
    #[arg(required = true, num_args = 1..=2, value_name = "VPN_ADDR")]
    addresses: Vec<IpAddr>,
}

impl VpnArgs {
    /// The addresses; [`Cli::from_command_line`] has made sure that they are right.
    pub(crate) fn addresses(&self) -> Result<VpnAddresses, &'static str> {
        VpnAddresses::new(&self.addresses)
    }
}

/// What becomes of the socket.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct HoldArgs {
    /// Hold the socket in this process, which then lasts until the peers are gone
    #[arg(short, long)]
    pub(crate) foreground: bool,
}

/// What packets are sealed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cipher {
    /// AES-256-GCM
    #[value(alias = "aes-256")]
    Aes,
    /// AES-192-GCM
    #[value(name = "aes-192")]
    Aes192,
    /// AES-128-GCM
    #[value(name = "aes-128")]
    Aes128,
    /// ChaCha20-Poly1305
    Chachapoly,
    /// Nothing: only with a module built with DEBUG=1
    None,
}

impl Cipher {
    /// `enum ovpn_cipher_alg`
    pub(crate) fn number(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Aes | Self::Aes192 | Self::Aes128 => 1,
            Self::Chachapoly => 2,
        }
    }

    /// Bytes of a key.
    pub(crate) fn key_length(self) -> usize {
        match self {
            Self::Aes | Self::Chachapoly | Self::None => 32,
            Self::Aes192 => 24,
            Self::Aes128 => 16,
        }
    }
}

/// How many peers an interface has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// One: all packets go there
    P2p = 0,
    /// Many: the routing table says which packet goes where
    Mp = 1,
}

fn interface_name(name: &str) -> Result<String, &'static str> {
    match name.len() {
        1..=15 => Ok(name.into()),
        _ => Err("an interface's name has 1 to 15 bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Command {
        Cli::try_parse_from(line.split_whitespace())
            .unwrap()
            .command
    }

    fn error(line: &str) -> ErrorKind {
        Cli::try_parse_from(line.split_whitespace())
            .unwrap_err()
            .kind()
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn new_peer_as_ever() {
        let line = "ovpn-cli tun0 new_peer 1194 0 192.0.2.1 1194 10.8.0.2";

        let Command::NewPeer {
            local_port,
            peer_id,
            remote_addr,
            remote_port,
            vpn,
            local_ip,
            hold,
        } = parse(line)
        else {
            panic!()
        };
        assert_eq!((local_port, peer_id, remote_port), (1194, 0, 1194));
        assert_eq!(remote_addr, "192.0.2.1");
        assert_eq!(vpn.addresses, ["10.8.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(local_ip, None);
        assert!(!hold.foreground);
    }

    #[test]
    fn new_peer_with_ipv6_everywhere() {
        let line = "ovpn-cli tun0 new_peer 1 1 fe80::1%eth0 1 10.8.0.2 fd00::2 --local-ip fe80::2";

        let Command::NewPeer {
            remote_addr,
            vpn,
            local_ip,
            ..
        } = parse(line)
        else {
            panic!()
        };
        assert_eq!(remote_addr, "fe80::1%eth0");
        assert_eq!(vpn.addresses.len(), 2);
        assert_eq!(local_ip, Some("fe80::2".parse().unwrap()));
    }

    #[test]
    fn new_key_as_ever() {
        let line = "ovpn-cli tun0 new_key 0 aes 1 data64.key";

        let Command::NewKey {
            peer_id,
            cipher,
            key_dir,
            key_file,
            slot,
            key_id,
        } = parse(line)
        else {
            panic!()
        };
        assert_eq!((peer_id, cipher, key_dir), (0, Cipher::Aes, 1));
        assert_eq!(key_file, PathBuf::from("data64.key"));
        assert_eq!((slot, key_id), (Slot::Primary, 0));
    }

    #[test]
    fn new_key_elsewhere() {
        let line = "ovpn-cli tun0 new_key 0 chachapoly 0 data64.key --slot secondary --key-id 3";

        let Command::NewKey {
            cipher,
            slot,
            key_id,
            ..
        } = parse(line)
        else {
            panic!()
        };
        assert_eq!(
            (cipher, slot, key_id),
            (Cipher::Chachapoly, Slot::Secondary, 3)
        );
    }

    #[test]
    fn ciphers_have_their_numbers_and_key_lengths() {
        let known = |name| {
            let cipher = Cipher::from_str(name, false).unwrap();
            (cipher.number(), cipher.key_length())
        };

        assert_eq!(known("none"), (0, 32));
        assert_eq!(known("aes"), (1, 32));
        assert_eq!(known("aes-256"), (1, 32));
        assert_eq!(known("aes-192"), (1, 24));
        assert_eq!(known("aes-128"), (1, 16));
        assert_eq!(known("chachapoly"), (2, 32));
    }

    #[test]
    fn the_other_commands() {
        assert!(matches!(
            parse("ovpn-cli tun0 connect 1 10.10.1.1 1194 5.5.5.1"),
            Command::Connect {
                peer_id: 1,
                remote_port: 1194,
                ..
            }
        ));
        assert!(matches!(
            parse("ovpn-cli tun0 listen 1194 tcp_peers.txt"),
            Command::Listen {
                local_port: 1194,
                ..
            }
        ));
        assert!(matches!(
            parse("ovpn-cli tun0 new_multi_peer 1194 udp_peers.txt -f"),
            Command::NewMultiPeer {
                local_port: 1194,
                hold: HoldArgs { foreground: true },
                ..
            }
        ));
        assert!(matches!(
            parse("ovpn-cli tun0 set_peer 1 10 60"),
            Command::SetPeer {
                peer_id: 1,
                keepalive_interval: 10,
                keepalive_timeout: 60
            }
        ));
        assert!(matches!(
            parse("ovpn-cli tun0 del_peer 1"),
            Command::DelPeer { peer_id: 1 }
        ));
        assert!(matches!(
            parse("ovpn-cli tun0 del_key 1"),
            Command::DelKey {
                peer_id: 1,
                slot: Slot::Primary
            }
        ));
        assert!(matches!(
            parse("ovpn-cli tun0 del_key 1 --slot secondary"),
            Command::DelKey {
                peer_id: 1,
                slot: Slot::Secondary
            }
        ));
        assert!(matches!(
            parse("ovpn-cli tun0 swap_keys 1"),
            Command::SwapKeys { peer_id: 1 }
        ));
        assert!(matches!(
            parse("ovpn-cli tun0 get_peer 1"),
            Command::GetPeer { peer_id: Some(1) }
        ));
        assert!(matches!(
            parse("ovpn-cli tun0 get_peer"),
            Command::GetPeer { peer_id: None }
        ));
        assert!(matches!(
            parse("ovpn-cli tun0 listen_mcast"),
            Command::ListenMcast
        ));
        assert!(matches!(
            parse("ovpn-cli tun0 new_iface"),
            Command::NewIface { mode: Mode::P2p }
        ));
        assert!(matches!(
            parse("ovpn-cli tun0 new_iface mp"),
            Command::NewIface { mode: Mode::Mp }
        ));
    }

    #[test]
    fn verbose_goes_before_and_after_the_command() {
        for line in [
            "ovpn-cli -v tun0 get_peer",
            "ovpn-cli tun0 get_peer --verbose",
        ] {
            assert!(
                Cli::try_parse_from(line.split_whitespace())
                    .unwrap()
                    .verbose
            );
        }
    }

    #[test]
    fn what_is_missing_or_too_much_is_refused() {
        use ErrorKind::{MissingRequiredArgument, UnknownArgument};

        assert_eq!(
            error("ovpn-cli"),
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        );
        assert_eq!(error("ovpn-cli tun0"), ErrorKind::MissingSubcommand);
        assert_eq!(error("ovpn-cli tun0 no_such_command"), UnknownArgument);
        assert_eq!(
            error("ovpn-cli tun0 new_peer 1194 0 192.0.2.1 1194"),
            MissingRequiredArgument
        );
        assert_eq!(
            error("ovpn-cli tun0 new_key 0 aes 1"),
            MissingRequiredArgument
        );
        assert_eq!(error("ovpn-cli tun0 del_peer"), MissingRequiredArgument);
        assert_eq!(error("ovpn-cli tun0 del_peer 1 2"), UnknownArgument);
        assert_eq!(
            error("ovpn-cli tun0 set_peer 1 10"),
            MissingRequiredArgument
        );
    }

    #[test]
    fn what_is_no_number_address_or_name_is_refused() {
        use ErrorKind::{InvalidValue, ValueValidation};

        assert_eq!(
            error("ovpn-cli tun0 new_peer 65536 0 192.0.2.1 1194 10.8.0.2"),
            ValueValidation
        );
        assert_eq!(
            error("ovpn-cli tun0 new_peer 1194 0 192.0.2.1 1194 10.8.0"),
            ValueValidation
        );
        assert_eq!(error("ovpn-cli tun0 del_peer 4294967296"), ValueValidation);
        assert_eq!(error("ovpn-cli tun0 del_peer one"), ValueValidation);
        assert_eq!(
            error("ovpn-cli tun0 new_key 0 rot13 1 data64.key"),
            InvalidValue
        );
        assert_eq!(
            error("ovpn-cli tun0 new_key 0 aes 2 data64.key"),
            ValueValidation
        );
        assert_eq!(
            error("ovpn-cli a-name-of-16-byte get_peer"),
            ValueValidation
        );
    }
}
