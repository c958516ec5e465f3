// SPDX-License-Identifier: GPL-2.0-only

//! Tells the ovpn-dco-v2 kernel module about peers and pre-shared keys, for tests.

mod args;
mod client;
mod commands;
mod holder;
mod key_file;
mod link;
mod message;
mod netlink;
mod peers_file;
mod transport;
mod uapi;

use std::process::ExitCode;

fn main() -> ExitCode {
    match commands::run(&args::Cli::from_command_line()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}.", format!("{error:#}").trim_end_matches('.'));
            ExitCode::FAILURE
        }
    }
}
