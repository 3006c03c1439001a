//! `cargo local token`: a token of a customer, signed by the key of the local stack. It needs no running stack.

use std::{error::Error, time::Duration};

use clap::Args;
use local_stack::{
    gateway::{AUDIENCE, Token},
    template::SCOPE,
};
use redrive::terminal::print_whole;

/// Where the issuer listens, which is what a token says of who made it.
pub(crate) const ISSUER_PORT: u16 = 8022;

#[derive(Args)]
pub(crate) struct Options {
    /// The customer; each sees his own reservations only
    #[arg(long, value_name = "NAME", default_value = "usr_1")]
    user: String,
    /// What it allows, as scopes with blanks between them; the API asks for the default
    #[arg(long, value_name = "SCOPES", default_value = SCOPE)]
    scope: String,
    /// Whom it is for; the API takes the default alone
    #[arg(long, value_name = "NAME", default_value = AUDIENCE)]
    audience: String,
    /// How long it is valid
    #[arg(long, value_name = "N", default_value_t = 60)]
    minutes: u64,
    /// The port of `cargo local up --issuer-port`
    #[arg(long, value_name = "PORT", default_value_t = ISSUER_PORT)]
    issuer_port: u16,
}

/// Prints the token.
pub(crate) fn run(options: &Options) -> Result<bool, Box<dyn Error>> {
    let issuer = format!("http://127.0.0.1:{}", options.issuer_port);
    let lifetime = Duration::from_secs(options.minutes.saturating_mul(60));
    let Options { user, scope, audience, .. } = options;
    print_whole(Token { issuer: &issuer, audience, sub: user, scope, lifetime }.signed()?);
    Ok(true)
}
