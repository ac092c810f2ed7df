//! A client whose fetches are never answered, while everything else is: as after a change of the leader that librdkafka has
//! lost its way in. It reports no error, and only its place can tell.

use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use govledger::ingest::kafka::KafkaConfig;

use crate::node::{Node, init};
use crate::support::kafka::{Kafka, Options, Record};
use crate::support::parts;
use crate::support::process::free_port;
use crate::support::scratch::Scratch;
use crate::{STAMPED, request};

/// The `api_key` of a Fetch request (Kafka protocol guide).
const FETCH: [u8; 2] = [0, 1];

/// Stands between clients and the broker.
struct Between {
    /// Of so many connections, the first ones, no fetch is handed on.
    deaf: Arc<AtomicUsize>,
    made: Arc<AtomicUsize>,
}

impl Between {
    fn start(port: u16, broker: String) -> Self {
        let between = Self { deaf: Arc::default(), made: Arc::default() };
        let (deaf, made) = (Arc::clone(&between.deaf), Arc::clone(&between.made));
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&broker) else { continue };
                let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut answers, &mut back);
                    let _ = back.shutdown(std::net::Shutdown::Both);
                });
                let (number, deaf) = (made.fetch_add(1, Ordering::SeqCst), Arc::clone(&deaf));
                std::thread::spawn(move || {
                    let _ = hand_on(client, &server, || number < deaf.load(Ordering::SeqCst));
                    let _ = server.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        between
    }

    /// What is connected now has no fetch answered any more; what connects later has.
    fn go_deaf(&self) {
        self.deaf.store(self.made.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

/// Hands requests on: four bytes of length, then `api_key` and the rest.
fn hand_on(mut client: TcpStream, mut server: &TcpStream, is_deaf: impl Fn() -> bool) -> std::io::Result<()> {
    loop {
        let mut length = [0; 4];
        client.read_exact(&mut length)?;
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        client.read_exact(&mut request)?;
        if request.starts_with(&FETCH) && is_deaf() {
            continue;
        }
        server.write_all(&length)?;
        server.write_all(&request)?;
    }
}

#[test]
fn a_client_that_fetches_no_more_is_replaced() {
    let Some(parts) = parts::kafka() else { return };
    let port = free_port();
    let kafka = Kafka::start(&parts, &Options { advertised_port: Some(port), ..Options::default() });
    let between = Between::start(port, kafka.behind());
    kafka.create_topic("stalled-governance", 1, STAMPED);
    kafka.create_topic("stalled-metrics", 2, STAMPED);
    let scratch = Scratch::new("stalled");
    init(&scratch.join("data"), "a", ("stalled-governance", "stalled-metrics"), None);
    let bootstrap_servers = format!("127.0.0.1:{port}");
    // The client's own limit of a request does not help here: it makes the connection anew.
    let config = KafkaConfig { bootstrap_servers, request_timeout_ms: 60_000, ..KafkaConfig::default() };
    let node = Node::start(&scratch.join("data"), &config);
    let produce = |count: usize| {
        let record =
            |index: usize| Record::new(request("sha256:41", index, "0.02")).partition(i32::from(index % 2 == 1));
        kafka.produce("stalled-metrics", &(0..count).map(record).collect::<Vec<_>>());
    };
    produce(20);
    (0..2).for_each(|number| node.wait_size(&format!("metrics-{number}"), 11));

    between.go_deaf();
    // The fetches under way are answered within half a second.
    std::thread::sleep(Duration::from_secs(1));
    produce(10);
    (0..2).for_each(|number| node.wait_size(&format!("metrics-{number}"), 16));
    for number in 0..2 {
        assert_eq!(node.offsets(&format!("metrics-{number}")), (0..15).collect::<Vec<_>>());
    }
    node.stop();
}
