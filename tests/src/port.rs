//! Ports that are known before somebody listens on them.
//!
//! A port that was bound to 0 and let go is the system's to hand out again, and in a run of the tests thousands of others
//! ask for one each minute. A program that takes a second to start would find it taken, and who waits for that program
//! would talk to a stranger.

use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    sync::{Mutex, PoisonError},
};

use tokio::net::TcpSocket;

/// Below what Linux, macOS and Windows hand out to those who ask for any port.
const NOT_HANDED_OUT: Range<u16> = 16_384..32_768;

/// A port for a program that binds it by itself: nobody listens there on loopback, and nobody is given it meanwhile who asks
/// for any, or who asks here.
///
/// # Errors
/// When a hundred ports in a row can't be had.
pub fn free() -> io::Result<u16> {
    const TRIES: usize = 100;

    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut last = io::Error::other("no port was tried");
    for _ in 0..TRIES {
        let port = fastrand::u16(NOT_HANDED_OUT);
        if !given.insert(port) {
            continue;
        }
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// An address where nobody answers until this socket listens, and which nobody else is given as long as it is kept.
///
/// # Errors
/// When there is no port to be had.
pub fn of_nobody() -> io::Result<(TcpSocket, SocketAddr)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_free_port_is_none_that_is_handed_out_to_others() {
        let port = free().unwrap();
        let _held = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        // Whoever asks for any gets one of the system's own.
        let others: Vec<_> = (0..200).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        for other in &others {
            let given = other.local_addr().unwrap().port();
            assert!(!NOT_HANDED_OUT.contains(&given), "the system hands out {given}");
        }
    }

    #[tokio::test]
    async fn nobody_answers_until_the_socket_listens() {
        let (socket, address) = of_nobody().unwrap();
        assert!(TcpStream::connect(address).is_err());
        assert!(TcpListener::bind(address).is_err(), "nobody else is given it");
        let _listens = socket.listen(1).unwrap();
        assert!(TcpStream::connect(address).is_ok());
    }
}
