use std::io::Read as _;
use std::net::TcpListener;
use std::time::Duration;

use super::*;
use crate::core::monoio_ring;

#[test]
fn what_the_kernel_does_not_take_at_once_follows_in_its_order() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // More than two sockets' buffers hold.
    let bytes: Vec<u8> = (0..64 * 1024 * 1024_u32).map(|at| (at / 7) as u8).collect();
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        received
    });
    let given_back = monoio_ring::build().unwrap().block_on(async {
        let stream = Stream::connect(address).await.unwrap();
        let (result, given_back) = stream.write(bytes.clone()).await;
        result.unwrap();
        given_back
    });
    assert!(given_back == bytes, "the buffer is given back as it was");
    assert!(peer.join().unwrap() == bytes);
}
