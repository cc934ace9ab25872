//! The program `smtpd`.

fn main() {}
