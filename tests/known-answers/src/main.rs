// SPDX-License-Identifier: GPL-2.0-only

//! Writes `vectors.txt`.

fn main() -> std::io::Result<()> {
    std::fs::write(known_answers::FILE, known_answers::vectors())
}
