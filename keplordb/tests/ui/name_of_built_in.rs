// Every table has these columns already.

use keplordb::Schema;

#[derive(Schema)]
#[keplordb(id = 1)]
struct Call {
    #[dim]
    id: String,
    #[counter]
    ts_ns: u32,
    #[counter]
    metric: u32,
    #[counter]
    latency_ms: u32,
    #[counter]
    latency_detail_ms: u32,
    #[dim]
    r#status: String,
    #[label]
    flags: String,
}

fn main() {
    let _ = Call::new(1).status(200).metric(5).id("a");
}
