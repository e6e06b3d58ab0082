//! The echo as the gateway served its clients before it had its own event loop: monoio's ring waits for one set that holds
//! them all, and what comes is received and answered by recv(2) and send(2).

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use evergate_demo::ring as monoio_ring;
use monoio::net::TcpListener;
use nix::sys::epoll::EpollEvent;

use super::echo::{BUFFER_BYTES, echo_frames, shake_hands};
use super::readiness::{Events, Readiness, TURN_MAX};
use super::stream::Stream;

struct Client {
    stream: Stream,
    open: bool,
    /// The bytes of a frame that is not all here yet.
    rest: Vec<u8>,
}

/// Serves `listener` on the calling thread, for ever.
pub fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    monoio_ring::build()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let readiness = Rc::new(Readiness::new()?);
        let clients = Rc::new(RefCell::new(Vec::new()));
        monoio::spawn(read_all(Rc::clone(&readiness), Rc::clone(&clients)));
        loop {
            let stream = Stream::new(listener.accept().await?.0);
            stream.set_nodelay()?;
            let mut clients = clients.borrow_mut();
            readiness.watch(&stream, clients.len() as u32)?;
            clients.push(Some(Client { stream, open: false, rest: Vec::new() }));
        }
    })
}

async fn read_all(readiness: Rc<Readiness>, clients: Rc<RefCell<Vec<Option<Client>>>>) -> io::Result<()> {
    let mut events: Events = [EpollEvent::empty(); TURN_MAX];
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    let on_ring = readiness.on_ring()?;
    loop {
        on_ring.readable(false).await?;
        for slot in readiness.now(&mut events)? {
            let place = &mut clients.borrow_mut()[slot];
            // A client that breaks off, or sends more at once than there is room for, is its own affair.
            if !place.as_mut().is_some_and(|client| echo(client, &mut buffer).unwrap_or(false)) {
                *place = None;
            }
        }
    }
}

/// Answers what has come; false = the client has said goodbye.
fn echo(client: &mut Client, buffer: &mut Vec<u8>) -> io::Result<bool> {
    buffer.clear();
    buffer.append(&mut client.rest);
    match client.stream.read_now(buffer)? {
        Some(0) => return Ok(false),
        None => {
            client.rest.append(buffer);
            return Ok(true);
        }
        Some(_) => {}
    }
    let turn = if client.open { echo_frames(buffer) } else { shake_hands(buffer)? };
    client.rest.extend_from_slice(&buffer[turn.consumed..]);
    if turn.answer > 0 {
        client.open = true;
        if client.stream.send_now(&buffer[..turn.answer])? < turn.answer {
            return Err(io::ErrorKind::WouldBlock.into());
        }
    }
    Ok(!turn.ended)
}
