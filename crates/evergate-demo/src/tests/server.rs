use super::*;
use crate::server::{Server, start};

/// Every kind of refusal and success that a client of the bus can meet, one connection for all.
const SCRIPT: &str = "PING
RPUSH a b
FOO
AUTH gateway bad
AUTH gateway
AUTH a b c
AUTH
HELLO
HELLO 4
HELLO 2
HELLO x
HELLO 2 AUTH gateway
HELLO 2 AUTH gateway bad
HELLO 2 AUTH gateway gateway-test
HELLO 2 SETNAME x
HELLO 2 FOO
HELLO
PING
FOO a b
RPUSH a b
RPUSH opensrf:service:x b
RPUSH opensrf:client:x
RPUSH opensrf:client:x 1 2 3
LPOP opensrf:client:x 2
LPOP opensrf:client:x 0
LPOP opensrf:client:x -1
LPOP opensrf:client:x a
LPOP opensrf:client:x +1
LPOP opensrf:client:x
LPOP opensrf:client:x
LPOP opensrf:client:x 1
LPOP opensrf:client:x 0
LPOP opensrf:client:x 1 2
LPOP a
LPOP
BLPOP opensrf:client:x 0.05
BLPOP opensrf:client:x -1
BLPOP opensrf:client:x foo
BLPOP opensrf:client:x nan
BLPOP opensrf:client:x
BLPOP opensrf:client:x opensrf:service:y 1
RPUSH opensrf:client:y one two
BLPOP opensrf:client:x opensrf:client:y 1
DEL a
DEL
DEL opensrf:client:x opensrf:client:y
RPUSH opensrf:client:x 1
DEL opensrf:client:x opensrf:client:x
MULTI
UNLINK a
LLEN opensrf:client:x
LRANGE opensrf:client:x 0 1
BLMPOP 1 1 opensrf:client:x LEFT
LMPOP 1 opensrf:client:x LEFT
CLIENT ID
CLIENT
COMMAND
SELECT 0
INFO
ACL WHOAMI
EXPIRE opensrf:client:x 1
HELLO 3
BLPOP opensrf:client:z 0.05
LPOP opensrf:client:z
LPOP opensrf:client:z 2
HELLO 3 AUTH gateway gateway-test
HELLO 2
LPOP opensrf:client:z
RESET
LPOP a
AUTH default default-test
PING
PING a
PING a b
RPUSH a x
LLEN a
LPOP a
RESET
AUTH wrong
HELLO 2 AUTH gateway gateway-test SETNAME me
*0
QUIT";

/// The client id and the version may differ between two servers.
fn masked(reply: &str) -> String {
    let mut lines: Vec<&str> = reply.split("\r\n").collect();
    for at in 1..lines.len() {
        if lines[at - 1] == "id" || lines[at] == "version" {
            let value = if lines[at] == "version" { at + 2 } else { at };
            lines[value] = "?";
        }
    }
    // Later versions of Redis word a NOPERM differently; what follows the word is for people.
    if reply.starts_with("-NOPERM") { "-NOPERM".to_owned() } else { lines.join("|") }
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn a_script_of_commands_is_answered_exactly_as_redis_answers_it() {
    let Some(real) = RealRedis::start().await else { return };
    let embedded = start(LOOPBACK, stock_users()).unwrap();
    let (mut ours, mut theirs) = (Bare::connect(embedded.addr()).await, Bare::connect(real.addr).await);
    for command in SCRIPT.lines() {
        if command == "*0" {
            ours.send("*0\r\n").await;
            theirs.send("*0\r\n").await;
            continue;
        }
        let (our, their) = (ours.call(command).await, theirs.call(command).await);
        assert_eq!(masked(&our), masked(&their), "{command}");
    }
    assert_eq!((ours.reply().await, theirs.reply().await), (String::new(), String::new()), "QUIT closes");
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn a_broken_request_is_answered_as_redis_does_and_closes_the_connection() {
    let Some(real) = RealRedis::start().await else { return };
    let embedded = start(LOOPBACK, stock_users()).unwrap();
    let broken =
        ["*x\r\n", "*99999999999\r\n", "*1\r\n:3\r\n", "*1\r\n$-1\r\n", "*1\r\n$x\r\n", "*1\r\n$600000000\r\n"];
    let before_login = ["*11\r\n", "*2\r\n$3\r\nFOO\r\n$20000\r\n"];
    for bytes in broken.iter().chain(&before_login) {
        let login = !before_login.contains(bytes);
        let mut replies = Vec::new();
        for addr in [embedded.addr(), real.addr] {
            let mut bare = if login { Bare::gateway(addr).await } else { Bare::connect(addr).await };
            bare.send(bytes).await;
            replies.push((bare.reply().await, bare.reply().await));
        }
        assert!(replies[0].0.starts_with("-ERR Protocol error"), "{replies:?}");
        assert_eq!(replies[0], replies[1], "{bytes:?}");
    }
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn blocked_readers_are_served_in_the_order_in_which_they_came() {
    let server = start(LOOPBACK, stock_users()).unwrap();
    let mut readers = Vec::new();
    for _ in 0..5 {
        let mut reader = Bare::gateway(server.addr()).await;
        // The DEL's reply leaves when the BLPOP after it waits.
        reader.send("DEL opensrf:client:x\r\nBLPOP opensrf:client:x opensrf:client:x 0\r\n").await;
        reader.reply().await;
        readers.push(reader);
    }
    let mut writer = Bare::gateway(server.addr()).await;
    assert_eq!(writer.call("RPUSH opensrf:client:x 0 1 2").await, ":3\r\n");
    assert_eq!(writer.call("RPUSH opensrf:client:x 3 4 5").await, ":3\r\n");
    for (number, reader) in readers.iter_mut().enumerate() {
        assert!(reader.reply().await.ends_with(&format!("$1\r\n{number}\r\n")));
    }
    assert_eq!(writer.call("LPOP opensrf:client:x").await, "$1\r\n5\r\n");
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn a_reader_that_closed_its_connection_swallows_nothing() {
    let server = start(LOOPBACK, stock_users()).unwrap();
    for round in 0..50 {
        let mut gone = Bare::gateway(server.addr()).await;
        gone.send("DEL opensrf:client:x\r\nBLPOP opensrf:client:x 0\r\n").await;
        gone.reply().await;
        let mut writer = Bare::gateway(server.addr()).await;
        drop(gone);
        writer.send(format!("RPUSH opensrf:client:x {round}\r\n")).await;
        writer.reply().await;
        let reply = writer.call("BLPOP opensrf:client:x 1").await;
        assert!(reply.ends_with(&format!("\r\n{round}\r\n")), "round {round}: {reply:?}");
    }
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn a_pop_that_was_given_up_swallows_nothing() {
    let server = start(LOOPBACK, stock_users()).unwrap();
    let mut caller = Caller::new(server.addr(), "gateway-test").await;
    assert!(timeout(Duration::from_millis(50), caller.popper.pop(&caller.address, WAIT, 1)).await.is_err());
    let Caller { pusher, popper, address } = caller;
    drop(popper);
    sleep(Duration::from_millis(50)).await;
    pusher.push(&[(&address, b"kept")]).await.unwrap();
    assert_eq!(server.list_length(&address), 1);
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn a_blocked_pop_holds_up_only_what_follows_it_on_its_own_connection() {
    let server = start(LOOPBACK, stock_users()).unwrap();
    let mut reader = Bare::gateway(server.addr()).await;
    reader.send("BLPOP opensrf:client:x 0\r\nLPOP opensrf:client:x 10\r\nDEL opensrf:client:y\r\n").await;
    let mut other = Bare::gateway(server.addr()).await;
    assert_eq!(other.call("RPUSH opensrf:client:y 1").await, ":1\r\n");
    sleep(Duration::from_millis(30)).await;
    assert_eq!(server.list_length("opensrf:client:y"), 1, "the DEL waits for its turn");
    assert_eq!(other.call("RPUSH opensrf:client:x a b c").await, ":3\r\n");
    assert!(reader.reply().await.ends_with("$1\r\na\r\n"));
    assert_eq!(reader.reply().await, "*2\r\n$1\r\nb\r\n$1\r\nc\r\n");
    assert_eq!(reader.reply().await, ":1\r\n");
}

/// Starts a server where the last one has just been dropped, as soon as the port is free.
async fn start_again(addr: SocketAddr) -> Server {
    let deadline = Instant::now() + WAIT;
    loop {
        match start(addr, stock_users()) {
            Ok(server) => return server,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(1)).await;
    }
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn client_ids_rise_and_begin_anew_with_a_new_server() {
    async fn id(addr: SocketAddr) -> u64 {
        let reply = Bare::connect(addr).await.call("HELLO 2 AUTH gateway gateway-test").await;
        let (_, rest) = reply.split_once("id\r\n:").unwrap();
        rest.split_once("\r\n").unwrap().0.parse().unwrap()
    }
    let server = start(LOOPBACK, stock_users()).unwrap();
    let addr = server.addr();
    let (first, second) = (id(addr).await, id(addr).await);
    assert!(first < second);
    drop(server);
    let server = start_again(addr).await;
    assert!(id(server.addr()).await < second);
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn a_large_element_and_a_long_pipeline_come_through_whole() {
    let server = start(LOOPBACK, stock_users()).unwrap();
    let mut bare = Bare::gateway(server.addr()).await;
    let big = "x".repeat(3_000_000);
    bare.send(format!("*3\r\n$5\r\nRPUSH\r\n$16\r\nopensrf:client:x\r\n${}\r\n{big}\r\n", big.len())).await;
    assert_eq!(bare.reply().await, ":1\r\n");
    assert!(bare.call("LPOP opensrf:client:x").await == format!("${}\r\n{big}\r\n", big.len()));
    bare.send("RPUSH opensrf:client:x y\r\n".repeat(10_000)).await;
    for length in 1..=10_000 {
        assert_eq!(bare.reply().await, format!(":{length}\r\n"));
    }
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn pops_queued_ahead_for_ever_hold_no_more_than_what_waits() {
    let server = start(LOOPBACK, stock_users()).unwrap();
    let (mut reader, mut writer) = (Bare::gateway(server.addr()).await, Bare::gateway(server.addr()).await);
    // Requests of 60 KB: what one connection sends in all is more than it may have waiting.
    let key = format!("opensrf:client:{}", "k".repeat(60_000));
    let pop = format!("*3\r\n$5\r\nBLPOP\r\n${}\r\n{key}\r\n$1\r\n0\r\n", key.len());
    let push = format!("*3\r\n$5\r\nRPUSH\r\n${}\r\n{key}\r\n$1\r\nx\r\n", key.len());
    reader.send(&pop).await;
    for _ in 0..64 * 1024 * 1024 / pop.len() + 10 {
        reader.send(&pop).await;
        writer.send(&push).await;
        assert_eq!(writer.reply().await, ":1\r\n");
        assert!(reader.reply().await.ends_with("$1\r\nx\r\n"));
    }
}
