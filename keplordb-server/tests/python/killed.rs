//! A server that is killed again and again while clients send: in the end every event is there, once, with the sequence with which it
//! was first acknowledged, and each entity's are in their order.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use keplordb_server::{Capture, EntityLog, Selection};
use serde_json::json;

use super::server::{self, Server};
use super::{Child, Clients, OURS};

const CLIENTS: usize = 8;
const KILLS: usize = 8;
/// Acknowledgments after which the server is killed: fewer than the least and it has hardly begun.
const ACKNOWLEDGED: std::ops::Range<usize> = 20..1500;

/// An event as it was first acknowledged.
#[derive(Debug, PartialEq)]
struct Acknowledged {
    entity_id: String,
    number: u64,
    sequence: u64,
}

/// What was acknowledged, by event id.
#[derive(Debug, Default)]
struct Witness {
    acknowledged: HashMap<String, Acknowledged>,
    /// Acknowledged when they were sent for a second time or a later one.
    tried_again: u64,
    /// Those of them that had been captured, though nobody had heard of it.
    unheard: u64,
    /// Acknowledged once more.
    again: u64,
}

impl Witness {
    fn note(&mut self, line: &str) {
        let words: Vec<_> = line.split_whitespace().collect();
        let [event_id, entity_id, number, sequence, is_duplicate, tries] = words[..] else {
            panic!("{line}");
        };
        let (is_duplicate, tries): (bool, u64) = (is_duplicate == "1", tries.parse().unwrap());
        let sequence = sequence.parse().unwrap();
        if let Some(first) = self.acknowledged.get(event_id) {
            assert!(is_duplicate, "{event_id} was captured twice");
            assert_eq!(sequence, first.sequence, "{event_id}");
            self.again += 1;
            return;
        }
        assert!(!is_duplicate || tries > 1, "{event_id} was there before it was sent");
        self.tried_again += u64::from(tries > 1);
        self.unheard += u64::from(is_duplicate);
        let (entity_id, number) = (entity_id.to_owned(), number.parse().unwrap());
        self.acknowledged.insert(event_id.to_owned(), Acknowledged { entity_id, number, sequence });
    }

    /// The sequences of each entity's events, in the order in which they were sent.
    fn by_entity(&self) -> HashMap<&str, Vec<u64>> {
        let mut numbered: HashMap<&str, Vec<(u64, u64)>> = HashMap::new();
        for event in self.acknowledged.values() {
            numbered.entry(&event.entity_id).or_default().push((event.number, event.sequence));
        }
        let in_order = |(entity_id, mut events): (_, Vec<(u64, u64)>)| {
            events.sort_unstable();
            assert!(events.iter().map(|(number, _)| *number).eq(0..events.len() as u64), "{entity_id}");
            (entity_id, events.into_iter().map(|(_, sequence)| sequence).collect())
        };
        numbered.into_iter().map(in_order).collect()
    }
}

#[test]
fn what_a_killed_server_acknowledged_is_there_once_and_in_order() {
    let Some(clients) = Clients::made("a server that is killed, from Python", OURS.0, OURS.1) else { return };
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let root = clients.root();
    let mut server = Server::start(&root, server::ANY_PORT);
    let address = server.address().to_owned();

    let mut command = clients.command("load.py");
    command.args([&address, &seed.to_string(), &CLIENTS.to_string()]);
    let mut load = Child(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let mut printed = BufReader::new(load.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut witness = Witness::default();
    for _ in 0..KILLS {
        for _ in 0..random.usize(ACKNOWLEDGED) {
            witness.note(&printed.next().expect("the clients send until they are told to end"));
        }
        std::thread::sleep(Duration::from_micros(random.u64(..10_000)));
        server.kill();
        std::thread::sleep(Duration::from_millis(random.u64(..50)));
        server = Server::start(&root, &address);
    }
    drop(load.0.stdin.take());
    printed.for_each(|line| witness.note(&line));
    assert!(load.0.wait().unwrap().success());
    assert!(witness.tried_again > 0 && witness.again > 0, "{witness:?}");
    println!(
        "{} events, {} acknowledged only after more than one try, {} of these captured by a server that was killed before it said so",
        witness.acknowledged.len(),
        witness.tried_again,
        witness.unheard
    );

    check_log(&witness, &EntityLog::beside(&root).unwrap());
    let last = witness.acknowledged.values().map(|event| event.sequence).max().unwrap();
    check_answers(&witness, &clients.run("read.py", &[&address, &last.to_string()]));
    server.kill();
    check_log(&witness, &EntityLog::beside(&root).unwrap());
    // Its publications were stopped as well, anywhere.
    let capture = Capture::open(&root).unwrap();
    capture.publish().unwrap();
    let published = capture.check_published().unwrap();
    assert!(published.is_sound(), "{published:?}");
    assert_eq!(published.checkpoint_seq, last);
    capture.close().unwrap();
}

/// What is on disk.
fn check_log(witness: &Witness, log: &EntityLog) {
    let events = log.events(&Selection::default(), None, usize::MAX).unwrap();
    assert_eq!(events.len(), witness.acknowledged.len());
    for event in events {
        let first = &witness.acknowledged[&event.event_id];
        assert_eq!((&event.entity_id, event.sequence), (&first.entity_id, first.sequence));
        let payload = event.payload.map(serde_json::Value::Object);
        assert_eq!(payload, Some(json!({"number": first.number})));
    }
}

/// What a client is told: all events by a subscription, and of each entity its history and what it is.
fn check_answers(witness: &Witness, printed: &str) {
    let by_entity = witness.by_entity();
    let (mut subscribed, mut histories, mut entities) = (Vec::new(), 0, 0);
    for line in printed.lines() {
        let (kind, rest) = line.split_once(' ').unwrap();
        let words: Vec<_> = rest.split(' ').collect();
        match kind {
            "event" => {
                let first = &witness.acknowledged[words[0]];
                let sequence: u64 = words[2].parse().unwrap();
                assert_eq!((words[1], sequence), (first.entity_id.as_str(), first.sequence));
                subscribed.push(sequence);
            }
            "history" => {
                let sequences: Vec<u64> = words[1..].iter().map(|word| word.parse().unwrap()).collect();
                assert!(sequences.is_sorted_by(|a, b| a < b));
                assert_eq!(by_entity[words[0]], sequences, "{}", words[0]);
                histories += 1;
            }
            "entity" => {
                let events = by_entity[words[0]].len();
                let is = format!("{events} {}", json!({"number": events - 1}));
                assert_eq!(words[1..].join(" "), is, "{}", words[0]);
                entities += 1;
            }
            _ => panic!("{line}"),
        }
    }
    assert!(subscribed.is_sorted_by(|a, b| a < b));
    assert_eq!(subscribed.len(), witness.acknowledged.len());
    assert_eq!((histories, entities), (by_entity.len(), by_entity.len()));
}
