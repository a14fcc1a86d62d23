//! Values go through every codec and come back; bytes that are no value are an error that says where, and can be skipped.

use std::collections::BTreeMap;
use std::sync::Arc;

use keplordb_disk::MemoryDisk;
use keplordb_log::{
    Codec, CodecError, Json, Log, LogError, Options, Postcard, Timestamp, Typed, TypedReader, TypedWriter,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
enum Command {
    Deposit { account: u64, cents: i64, labels: BTreeMap<String, Vec<u8>> },
    Close(u64),
    Nothing,
}

fn commands() -> Vec<Command> {
    let labels = BTreeMap::from([("näme".to_owned(), vec![0, 255]), (String::new(), vec![])]);
    vec![
        Command::Nothing,
        Command::Deposit { account: u64::MAX, cents: i64::MIN, labels },
        Command::Close(0),
        Command::Nothing,
    ]
}

fn log() -> Log {
    Log::open_with("log", Options { disk: Arc::new(MemoryDisk::default()), ..Options::default() }).unwrap()
}

fn comes_back<C: Codec<Command> + Clone>(codec: C) {
    let (log, commands) = (log(), commands());
    let writer = TypedWriter::new(Arc::new(log.writer().unwrap()), codec.clone());
    let first = writer.write(&commands[0]).unwrap();
    let batch = writer.write_batch(&commands[1..3]).unwrap().unwrap();
    assert_eq!(writer.write_batch(&[]).unwrap(), None);
    let last = Timestamp::from_ns(i64::MAX - 7);
    writer.write_at(last, &commands[3]).unwrap();
    let times = [first, batch.0, batch.1, last];
    let expected: Vec<_> =
        times.into_iter().zip(commands).map(|(time, value)| Typed { time, value }).collect();

    let mut reader = TypedReader::new(log.reader().unwrap(), codec);
    let read: Vec<_> = std::iter::from_fn(|| reader.next().unwrap()).collect();
    assert_eq!(read, expected);
    let mut back: Vec<_> = std::iter::from_fn(|| reader.back().unwrap()).collect();
    back.reverse();
    assert_eq!(back, expected);
    reader.seek(batch.1).unwrap();
    assert_eq!(reader.next().unwrap().unwrap(), expected[2]);
    assert!(reader.wait(std::time::Duration::ZERO).unwrap());
    // A batch is one frame.
    let mut plain = log.from(batch.0).unwrap();
    let offset = plain.next().unwrap().unwrap().offset;
    assert_eq!(plain.next().unwrap().unwrap().offset, offset);
}

#[test]
fn values_come_back_through_json() {
    comes_back(Json);
}

#[test]
fn values_come_back_through_postcard() {
    comes_back(Postcard);
}

#[test]
fn an_entry_that_is_no_value_is_told_and_skipped() {
    let log = log();
    let writer = Arc::new(log.writer().unwrap());
    let commands = TypedWriter::new(Arc::clone(&writer), Postcard);
    commands.write(&Command::Close(1)).unwrap();
    // An unknown variant; then a value with a byte too many.
    let unknown = writer.write(&[9]).unwrap();
    writer.write(&[1, 7, 0]).unwrap();
    commands.write(&Command::Close(2)).unwrap();

    let mut reader = TypedReader::<Command, _>::new(log.reader().unwrap(), Postcard);
    assert_eq!(reader.next().unwrap().unwrap().value, Command::Close(1));
    let error = reader.next().unwrap_err();
    let LogError::Decode { file, offset, time, what } = &error else { panic!("{error}") };
    let start = log.reader().unwrap().next().unwrap().unwrap().segment;
    assert_eq!(file.file_name().unwrap().to_str().unwrap(), start.to_string().replace(':', "_") + ".segment");
    assert_eq!((*offset, *time), (log.from(unknown).unwrap().next().unwrap().unwrap().offset, unknown));
    assert!(!what.is_empty());
    assert!(error.to_string().contains("read on to skip it"), "{error}");
    let error = reader.next().unwrap_err();
    assert!(error.to_string().contains("1 bytes follow the value"), "{error}");
    assert_eq!(reader.next().unwrap().unwrap().value, Command::Close(2));
    // The other way, too.
    reader.back().unwrap();
    assert!(reader.back().is_err() && reader.back().is_err());
    assert_eq!(reader.back().unwrap().unwrap().value, Command::Close(1));
    assert!(TypedReader::<Command, _>::new(log.reader().unwrap(), Json).next().is_err());
}

/// Refuses odd numbers, after it has written half of them.
struct Even;

impl Codec<u8> for Even {
    fn encode(&self, value: &u8, target: &mut Vec<u8>) -> Result<(), CodecError> {
        target.push(*value);
        if value.is_multiple_of(2) { Ok(()) } else { Err("the number is odd".into()) }
    }

    fn decode(&self, bytes: &[u8]) -> Result<u8, CodecError> {
        bytes.first().copied().ok_or_else(|| "no byte".into())
    }
}

#[test]
fn a_value_without_an_encoding_is_not_written() {
    let log = log();
    let writer = TypedWriter::new(Arc::new(log.writer().unwrap()), Even);
    writer.write(&2).unwrap();
    for refused in [writer.write(&3).map(drop), writer.write_batch(&[4, 5, 6]).map(drop)] {
        let error = refused.unwrap_err();
        assert_eq!(error.to_string(), "the value cannot be encoded: the number is odd; nothing was written");
    }
    writer.write(&8).unwrap();
    let mut reader = TypedReader::new(log.reader().unwrap(), Even);
    let read: Vec<u8> = std::iter::from_fn(|| reader.next().unwrap()).map(|typed| typed.value).collect();
    assert_eq!(read, [2, 8]);
}
