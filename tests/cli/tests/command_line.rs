// SPDX-License-Identifier: GPL-2.0-only

//! The program as whole, as far as it gets without the kernel module.

use std::process::{Command, Output};

fn ovpn_cli(line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ovpn-cli"))
        .args(line.split_whitespace())
        .output()
        .unwrap()
}

fn failure(line: &str) -> (Option<i32>, String) {
    let output = ovpn_cli(line);

    assert!(output.stdout.is_empty());
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn wrong_usage_is_refused_with_a_usage_message() {
    for line in [
        "",
        "tun0",
        "tun0 no_such_command",
        "tun0 new_peer 1194 0 192.0.2.1 1194",
        "tun0 new_peer 1194 0 192.0.2.1 1194 10.8.0.2 10.8.0.3",
        "tun0 get_peer one",
    ] {
        let (status, message) = failure(line);
        assert_eq!(status, Some(2), "{line}");
        assert!(message.contains("Usage:"), "{line}: {message}");
    }
}

#[test]
fn what_cannot_be_done_is_a_sentence() {
    for (line, sentence) in [
        (
            "no-such-iface get_peer",
            "There is no interface no-such-iface: No such device (os error 19).\n",
        ),
        (
            "lo new_key 0 aes 1 /no/such/file",
            "The key file /no/such/file cannot be read: No such file or directory (os error 2).\n",
        ),
        (
            "lo new_key 0 aes 1 Cargo.toml",
            "Cargo.toml is not a file of pre-shared keys: it is not base64: \
             Invalid symbol 35, offset 0.\n",
        ),
        (
            "lo new_multi_peer 1194 ../data64.key",
            "../data64.key is not a list of peers: line 1: \
             a line is: PEER_ID REMOTE_ADDR REMOTE_PORT VPN_ADDR [VPN_ADDR].\n",
        ),
    ] {
        assert_eq!(failure(line), (Some(1), sentence.into()));
    }
}

#[test]
fn the_help_tells_of_the_holder() {
    let output = ovpn_cli("--help");
    let help = String::from_utf8(output.stdout).unwrap();

    assert!(output.status.success());
    assert!(help.contains("new_multi_peer"));
    assert!(help.contains("ends by itself when all its peers are gone"));
}
