// SPDX-License-Identifier: GPL-2.0

//! Sends UDP packets round and round over many flows, for `tests/bench/run --scale`.
//!
//!     spray FIRST COUNT PACKETS SIZE SENDERS
//!
//! Flow N goes from 10.8.a.b to 10.9.a.b, where N is 256 a + b; it is the N of FIRST and the
//! COUNT - 1 after it. Each flow has sockets of its own, as many as SENDERS, which take turns, and each
//! of which sends one packet before the clock starts. Prints how many nanoseconds the rest took.

use std::{
    env,
    error::Error,
    net::{Ipv4Addr, UdpSocket},
    time::Instant,
};

const PORT: u16 = 9;

fn flow(number: u32) -> std::io::Result<UdpSocket> {
    let [_, _, a, b] = number.to_be_bytes();
    let socket = UdpSocket::bind((Ipv4Addr::new(10, 8, a, b), 0))?;
    socket.connect((Ipv4Addr::new(10, 9, a, b), PORT))?;
    Ok(socket)
}

fn main() -> Result<(), Box<dyn Error>> {
    let numbers = env::args()
        .skip(1)
        .map(|each| each.parse())
        .collect::<Result<Vec<u32>, _>>()?;
    let [first, count, packets, size, senders] = numbers[..] else {
        return Err("usage: spray FIRST COUNT PACKETS SIZE SENDERS".into());
    };
    let flows = (0..senders)
        .flat_map(|_| (first..first + count).map(flow))
        .collect::<Result<Vec<_>, _>>()?;
    let payload = vec![0; size as usize];
    for socket in &flows {
        socket.send(&payload)?;
    }
    let began = Instant::now();
    for socket in flows.iter().cycle().take(packets as usize) {
        socket.send(&payload)?;
    }
    println!("{}", began.elapsed().as_nanos());
    Ok(())
}
