//! Sensor readings: "how warm was it, where, and which device is failing?"
//!
//! Appends three made-up days of 250 devices (108,000 readings, the same each time), as gateways deliver them: in batches,
//! not in order, and one gateway, which was cut off for ten hours, only when it is back. The store syncs once per 5,000
//! readings. One gateway lost the answer to a batch and asks by an id whether the batch had come. Prints: the rollups of
//! days and devices, cold rooms and warm ones, the devices with low batteries, the last readings of a device, and its hour
//! in oldest-first order. Every answer is compared with a plain loop over the same readings; the last line says how many
//! comparisons there were.
//!
//! ```text
//! cargo run --release --example iot_readings
//! ```

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use fastrand::Rng;
use keplordb::{Options, Schema, Store, Sync};
use keplordb_examples::{Checks, human};

/// A reading; of the built-in columns:
/// - `id` is the device's name and the reading's number on it,
/// - `ts_ns` when it was measured, not when it arrived,
/// - `metric` the temperature in thousandths of a degree Celsius, often below 0,
/// - `status` what the sensor says of itself.
#[derive(Schema)]
#[keplordb(id = 1)]
struct Reading {
    #[dim(bloom, rollup)]
    device: String,
    #[dim(rollup)]
    room: String,
    #[counter]
    battery_mv: u32,
    /// 1 where the sensor was out of order, so that rollups know how often.
    #[counter]
    faults: u32,
}

const FINE: u16 = 0;
const OUT_OF_ORDER: u16 = 1;

const ROOMS: [(&str, i64); 4] =
    [("freezer", -20_000), ("cold store", 4_000), ("hall", 17_000), ("oven room", 31_000)];
const DEVICES: usize = 250;
/// Readings per device and day: one every 10 minutes.
const READINGS_PER_DAY: i64 = 144;
const DAYS: i64 = 3;
/// 2026-03-02, 00:00 UTC.
const FIRST_MIDNIGHT_S: i64 = 1_772_409_600;
const DAY_S: i64 = 86_400;
const NS_PER_S: i64 = 1_000_000_000;
const HOUR_NS: i64 = 3_600 * NS_PER_S;
const SEED: u64 = 23;
/// Devices of one gateway.
const GATEWAY_DEVICES: usize = 50;
/// Readings that a power cut may take: gateways keep them until they know better.
const UNSYNCED_READINGS: u32 = 5_000;
const LOW_BATTERY_MV: u32 = 2_250;

/// A reading as the gateway knows it.
#[derive(Debug, Clone, PartialEq)]
struct Measured {
    id: String,
    ts_ns: i64,
    device: usize,
    temperature_mc: i64,
    battery_mv: u32,
    status: u16,
}

impl Measured {
    fn room(&self) -> &'static str {
        ROOMS[self.device % ROOMS.len()].0
    }

    fn day_s(&self) -> i64 {
        (self.ts_ns / NS_PER_S).div_euclid(DAY_S) * DAY_S
    }
}

impl From<&Measured> for ReadingBuilder {
    fn from(measured: &Measured) -> Self {
        let columns = Reading {
            device: device_name(measured.device),
            room: measured.room().to_owned(),
            battery_mv: measured.battery_mv,
            faults: u32::from(measured.status == OUT_OF_ORDER),
        };
        columns.at(measured.ts_ns).id(&measured.id).metric(measured.temperature_mc).status(measured.status)
    }
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path().join("readings"))?;
    let batches = deliveries(&mut Rng::with_seed(SEED));
    let mut checks = Checks::default();
    deliver(&store, &batches, &mut checks)?;
    ask_again(&store, &batches, &mut checks)?;

    let readings: Vec<Measured> = batches.into_iter().flatten().collect();
    show_rooms(&store, &readings, &mut checks)?;
    show_days(&store, &readings, &mut checks)?;
    let device = show_batteries(&store, &readings, &mut checks)?;
    show_device(&store, &readings, device, &mut checks)?;
    println!("\nall {} checks passed", human::count(checks.passed()));
    Ok(())
}

/// A segment per 20,000 readings; by default it would be one per 500,000, and all of these would still be in memory.
fn open(dir: PathBuf) -> Result<Store<Reading>> {
    let config = keplordb::EngineConfig { wal_max_events: 20_000, ..Reading::default_config(dir) };
    let sync = Sync::Every { events: UNSYNCED_READINGS, bytes: u64::MAX };
    Ok(Store::open_with(config, Options::default().sync(sync))?)
}

/// A power cut takes at most what came since the last sync of a shard; a killed process loses nothing. The `sync` at the end is
/// for the gateways, which may now forget what they sent.
fn deliver(store: &Store<Reading>, batches: &[Vec<Measured>], checks: &mut Checks) -> Result<()> {
    for batch in batches {
        store.append_batch(batch)?;
    }
    store.sync()?;
    let (stats, sent) = (store.stats(), batches.iter().map(Vec::len).sum::<usize>() as u64);
    let (readings, syncs) = (human::count(sent), stats.syncs);
    println!(
        "{readings} readings in {} batches, {} segments, {syncs} syncs",
        human::count(batches.len() as u64),
        stats.segments
    );
    checks.equal("readings", &stats.events, &sent)?;
    checks.equal("fewer syncs than a tenth of the batches", &(syncs * 10 < batches.len() as u64), &true)
}

/// A batch is all or nothing, so one id of it tells whether it had come.
fn ask_again(store: &Store<Reading>, batches: &[Vec<Measured>], checks: &mut Checks) -> Result<()> {
    let unsure = batches.last().context("there are batches")?;
    let first = unsure.first().context("a batch has readings")?;
    if store.get(&first.id)?.is_none() {
        store.append_batch(unsure)?;
    }
    println!("the gateway that was not answered need not send its {} readings again", unsure.len());
    let sent: usize = batches.iter().map(Vec::len).sum();
    checks.equal("readings, none of them twice", &store.stats().events, &(sent as u64))?;
    checks.equal("a reading that never was", &store.get("device-000/none")?.is_none(), &true)
}

fn show_rooms(store: &Store<Reading>, readings: &[Measured], checks: &mut Checks) -> Result<()> {
    println!("\nroom           coldest      mean   warmest   out of order");
    for (room, _) in ROOMS {
        // What a broken sensor says of the temperature is left out.
        let fine = store.query(Reading::filter().room(room).status(FINE..FINE + 1)).totals()?;
        let all = store.query(Reading::filter().room(room)).totals()?;
        let [_, faults] = all.counters;
        let mean = fine.metric / i64::try_from(fine.event_count.max(1))?;
        let (coldest, warmest) = (fine.metric_min.unwrap_or(0), fine.metric_max.unwrap_or(0));
        let [coldest_c, mean_c, warmest_c] = [coldest, mean, warmest].map(degrees);
        println!(
            "  {room:<11} {coldest_c:>8} {mean_c:>9} {warmest_c:>9} {:>14}",
            human::percent(faults, all.event_count)
        );

        let of_room: Vec<_> = readings.iter().filter(|reading| reading.room() == room).collect();
        let temperatures =
            || of_room.iter().filter(|reading| reading.status == FINE).map(|r| r.temperature_mc);
        checks.equal("readings of a room", &all.event_count, &(of_room.len() as u64))?;
        checks.equal("sum of a room", &fine.metric, &temperatures().sum())?;
        checks.equal("coldest of a room", &fine.metric_min, &temperatures().min())?;
        checks.equal("warmest of a room", &fine.metric_max, &temperatures().max())?;
        checks.equal("faults of a room", &faults, &((of_room.len() - temperatures().count()) as u64))?;
    }
    Ok(())
}

/// Readings, sum of the temperatures and faults, by day (its UTC midnight, in epoch seconds), device and room.
type Days = BTreeMap<(i64, String, String), (u64, i64, u64)>;

/// Late and unordered readings count on the day on which they were measured.
fn show_days(store: &Store<Reading>, readings: &[Measured], checks: &mut Checks) -> Result<()> {
    let mut days = Days::new();
    let last_midnight_s = FIRST_MIDNIGHT_S + (DAYS - 1) * DAY_S;
    for (key, value) in store.rollups(FIRST_MIDNIGHT_S, last_midnight_s, &[])? {
        let [device, room] =
            <[String; 2]>::try_from(key.dims).map_err(|dims| anyhow!("a rollup of {dims:?}"))?;
        days.insert((key.day, device, room), (value.event_count, value.metric, value.counters[1]));
    }
    println!("\nmean of the day");
    for ((midnight_s, device, room), (count, sum, faults)) in
        days.iter().filter(|((_, device, _), _)| device == "device-002")
    {
        let day = 1 + (midnight_s - FIRST_MIDNIGHT_S) / DAY_S;
        let mean = degrees(sum / i64::try_from(*count)?);
        println!("  day {day}  {device} in the {room}: {mean} of {count} readings, {faults} out of order");
    }
    let mut right = Days::new();
    for reading in readings {
        let key = (reading.day_s(), device_name(reading.device), reading.room().to_owned());
        let (count, sum, faults) = right.entry(key).or_default();
        *count += 1;
        *sum += reading.temperature_mc;
        *faults += u64::from(reading.status == OUT_OF_ORDER);
    }
    checks.equal("rollups by day, device and room", &days, &right)
}

/// Returns the device whose battery is lowest.
fn show_batteries(store: &Store<Reading>, readings: &[Measured], checks: &mut Checks) -> Result<usize> {
    let mut low = Vec::new();
    for device in 0..DEVICES {
        let newest = store.query(Reading::filter().device(device_name(device))).limit(1).rows()?;
        let newest = newest.first().context("each device has readings")?;
        let last =
            readings.iter().filter(|reading| reading.device == device).max_by_key(|reading| reading.ts_ns);
        checks.equal("newest of a device", &Some(newest.id()), &last.map(|reading| reading.id.as_str()))?;
        if newest.battery_mv() < LOW_BATTERY_MV {
            low.push((newest.battery_mv(), device));
        }
    }
    low.sort_unstable();
    println!("\nnew batteries for {} devices, these first", low.len());
    for (battery_mv, device) in low.iter().take(3) {
        println!("  {}  {battery_mv} mV", device_name(*device));
    }
    low.first().map(|(_, device)| *device).context("some battery is low")
}

fn show_device(
    store: &Store<Reading>,
    readings: &[Measured],
    device: usize,
    checks: &mut Checks,
) -> Result<()> {
    let name = device_name(device);
    let noon_ns = (FIRST_MIDNIGHT_S + DAY_S / 2) * NS_PER_S;
    let hour = noon_ns..noon_ns + HOUR_NS;
    let rows = store.query(Reading::filter().device(&name)).between(hour.clone()).oldest_first().rows()?;
    println!("\n{name}, from 12:00 on the first day");
    for row in &rows {
        let minutes = (row.ts_ns() - noon_ns) / NS_PER_S / 60;
        println!("  12:{minutes:02}  {:>8}  {} mV", degrees(row.metric()), row.battery_mv());
    }
    let mut right: Vec<_> =
        readings.iter().filter(|reading| reading.device == device && hour.contains(&reading.ts_ns)).collect();
    right.sort_by_key(|reading| reading.ts_ns);
    let ids = |ids: Vec<&str>| ids.join(" ");
    let answered = ids(rows.iter().map(ReadingRow::id).collect());
    checks.equal(
        "an hour of a device",
        &answered,
        &ids(right.iter().map(|reading| reading.id.as_str()).collect()),
    )
}

fn device_name(device: usize) -> String {
    format!("device-{device:03}")
}

fn degrees(thousandths: i64) -> String {
    format!("{:.1} °C", thousandths as f64 / 1e3)
}

/// The batches in the order in which they arrive.
fn deliveries(rng: &mut Rng) -> Vec<Vec<Measured>> {
    let step_ns = DAY_S * NS_PER_S / READINGS_PER_DAY;
    let begin_ns = FIRST_MIDNIGHT_S * NS_PER_S;
    // (when it arrives, the batch)
    let mut batches: Vec<(i64, Vec<Measured>)> = Vec::new();
    for gateway in 0..DEVICES / GATEWAY_DEVICES {
        for number in 0..DAYS * READINGS_PER_DAY {
            let ts_ns = begin_ns + number * step_ns;
            let devices = gateway * GATEWAY_DEVICES..(gateway + 1) * GATEWAY_DEVICES;
            let mut batch: Vec<_> = devices.map(|device| a_reading(rng, device, number, ts_ns)).collect();
            // The air decides which device is heard first.
            rng.shuffle(&mut batch);
            // One gateway was cut off in the second night, and sends the newest readings first.
            let cut_off = gateway == 1 && (150..210).contains(&number);
            let arrives_ns =
                if cut_off { begin_ns + 210 * step_ns + (210 - number) * NS_PER_S } else { ts_ns };
            batches.push((arrives_ns + rng.i64(..NS_PER_S), batch));
        }
    }
    batches.sort_by_key(|(arrives_ns, _)| *arrives_ns);
    batches.into_iter().map(|(_, batch)| batch).collect()
}

fn a_reading(rng: &mut Rng, device: usize, number: i64, ts_ns: i64) -> Measured {
    let (_, usual_mc) = ROOMS[device % ROOMS.len()];
    let status = if rng.u32(..400) == 0 { OUT_OF_ORDER } else { FINE };
    let drained_mv = u32::try_from(number).unwrap_or(0) / 8 + u32::try_from(device % 90).unwrap_or(0) * 8;
    Measured {
        id: format!("{}/{number}", device_name(device)),
        // No two devices measure at the same nanosecond.
        ts_ns: ts_ns + device as i64 * 1_000,
        device,
        temperature_mc: if status == FINE { usual_mc + rng.i64(-1_500..1_500) } else { 85_000 },
        battery_mv: 3_000 - drained_mv,
        status,
    }
}
