//! The figures as tables.

use std::env::consts::ARCH;

use comfy_table::{CellAlignment, Table, presets};
use local_stack::placing::{self, Load};

use crate::{
    api::{self, Api, Requests, Who as Server},
    arguments::Arguments,
    bar::{Bar, Bound},
    batch::FUNCTION,
    bookings::{BOOKING, Bookings, Way, Who},
    cold::Cold,
    cost::{Cost, Share, Traffic},
    figure::{Figure, number},
    memory::{LARGE_BATCH, Memory},
    price::{self, Measured, Mixed},
    room::{self, Design, Price, Room},
    scale::Step,
    sections::Results,
    size::{LEVEL, Size},
    stage::{Latencies, MEMORY_MB},
    warm::{BATCH, Warm},
    workplace::Workplace,
};

/// Prints everything that was measured.
pub(crate) fn print(results: &Results, bars: &[Bar], workplace: &Workplace, arguments: &Arguments) {
    println!("{}\n", conditions(workplace, arguments));
    let Results { cold, warm, cost, memory, sizes, scale, bookings, room, api } = results;
    if let Some(cold) = cold {
        println!("{}\n", starts(cold));
    }
    if let Some(warm) = warm {
        println!("{}\n", batches(warm));
    }
    if let Some(cost) = cost {
        println!("{}\n", processor(cost));
        println!("{}\n", traffic("a record", &cost.record));
        println!("{}\n", traffic("a duplicate", &cost.duplicate));
    }
    if let Some(memory) = memory {
        println!("{}\n", peaks(memory));
    }
    if let Some(sizes) = sizes {
        println!("{}\n", functions(sizes));
    }
    if let Some(scale) = scale {
        println!("{}\n", steps("side by side, services at 0 ms", &scale.busy));
        println!("{}\n", steps(&format!("side by side, services at {}", latencies()), &scale.waiting));
    }
    match bookings {
        Some(Ok(bookings)) => {
            println!("{}\n", ways(bookings));
            println!("{}\n", starts_of_bookings(bookings));
            if let Some(why) = &bookings.left_out {
                println!("Left out, those in Python: {why}.\n");
            }
        }
        Some(Err(why)) => println!("Left out, the bookings: {why}.\n"),
        None => {}
    }
    if let Some(room) = room {
        println!("{}\n", designs(room));
        println!("{}\n", prices(&room.prices));
    }
    if let Some((api, steps)) = api {
        println!("{}\n", requests(api));
        println!("{}\n", processor_and_memory(api));
        println!("{}\n", starts_of_api(api));
        println!("{}\n", closed_loop(steps));
        if let Some(paper) = paper(api) {
            println!("{paper}\n");
        }
        if let Some(why) = &api.left_out {
            println!("Left out, the peer in Node: {why}.\n");
        }
    }
    if let (Some(warm), Some(cost)) = (warm, cost) {
        println!("{}\n", million(warm, cost));
    }
    println!("{}", held_against(bars));
}

fn conditions(workplace: &Workplace, arguments: &Arguments) -> String {
    let cores = match (workplace.own_cores(), workplace.cores()) {
        (Some((driver, function)), Some(cores)) => format!(
            "{cores} cores: the driver and all services on core {driver}, the function on core {function}; environments \
             side by side, and a driver of {cores} threads, on all of them"
        ),
        (_, Some(cores)) => {
            format!("{cores} core: the function and the driver share it, which every time suffers from")
        }
        (_, None) => {
            "this system binds no process to a core, so the function and the driver run where they like".to_owned()
        }
    };
    let quick = if arguments.quick { " A quick run: too few measurements for figures." } else { "" };
    format!("Functions for {ARCH}, {}. {cores}.{quick}", arguments.origin())
}

fn latencies() -> String {
    let Latencies { dynamodb_ms, rest_ms, grpc_ms } = Latencies::NEARBY;
    format!("{dynamodb_ms}, {rest_ms} and {grpc_ms} ms")
}

fn starts(cold: &Cold) -> Table {
    let mut table = table("cold start, ms", &["median", "p5 - p95", "runs"]);
    for (name, starts) in [(FUNCTION, &cold.ours), ("no-op", &cold.no_op)] {
        table.add_row(row(&format!("{name}, to the first poll"), &starts.first_poll));
        table.add_row(row(&format!("{name}, to the first answer"), &starts.first_answer));
    }
    table
}

fn batches(warm: &Warm) -> Table {
    let mut table = table(&format!("warm batch of {BATCH}, ms"), &["p50", "p99", "p5 - p95", "runs"]);
    let Latencies { dynamodb_ms, rest_ms, grpc_ms } = Latencies::NEARBY;
    let limit = number(f64::from(Latencies::NEARBY.limit_ms()));
    let sum =
        format!("the limit: {dynamodb_ms} + {rest_ms} + {grpc_ms} + {dynamodb_ms} of DynamoDB, REST, gRPC, DynamoDB");
    table.add_row([sum, limit]);
    let waiting = format!("{FUNCTION}, services at {}", latencies());
    let rows = [
        Some(("a wait of that time by the driver, and nothing else".to_owned(), &warm.machine)),
        Some((waiting.clone(), &warm.waiting)),
        warm.awake.as_ref().map(|awake| (format!("{waiting}, its core kept awake"), awake)),
        Some((format!("{waiting}, a batch of a single record"), &warm.single)),
        Some((format!("{FUNCTION}, services at 0 ms"), &warm.busy)),
        Some(("no-op".to_owned(), &warm.no_op)),
    ];
    for (name, times) in rows.into_iter().flatten() {
        let (p50, p99) = (number(times.median()), number(times.percentile(99)));
        table.add_row([name, p50, p99, times.spread(), times.runs().to_string()]);
    }
    table
}

fn processor(cost: &Cost) -> Table {
    let mut table = table("processor time of 1,000 records, ms", &["median", "p5 - p95", "runs"]);
    table.add_row(row(&format!("{FUNCTION}, services at 0 ms"), &cost.ours));
    table.add_row(row("no-op", &cost.no_op));
    table.add_row(row("the driver and all services, which are no part of it", &cost.driver));
    table
}

fn traffic(of: &str, traffic: &Traffic) -> Table {
    let mut table =
        table(&format!("{of}: on the wire, headers included"), &["requests", "bytes sent", "bytes received"]);
    let services = [("DynamoDB", traffic.dynamodb), ("reservation API", traffic.rest), ("inventory", traffic.grpc)];
    let sum = |part: fn(&Share) -> f64| services.iter().map(|(_, share)| part(share)).sum::<f64>();
    let (requests, sent, received) =
        (sum(|share| share.requests), sum(|share| share.sent), sum(|share| share.received));
    for (name, share) in services.into_iter().chain([("in all", Share { requests, sent, received })]) {
        let Share { requests, sent, received } = share;
        table.add_row([name.to_owned(), number(requests), format!("{sent:.0}"), format!("{received:.0}")]);
    }
    table
}

fn peaks(memory: &Memory) -> Table {
    let mut table = table("peak memory of a process, MiB", &["median", "p5 - p95", "processes"]);
    table.add_row(row(&format!("{FUNCTION}, batches of {BATCH}"), &memory.usual));
    table.add_row(row(&format!("{FUNCTION}, batches of {LARGE_BATCH}"), &memory.large));
    table
}

fn functions(sizes: &[Size]) -> Table {
    let mut table = table("size, MiB", &["binary", &format!("zipped, deflate {LEVEL}")]);
    for size in sizes {
        table.add_row([size.function.to_owned(), number(size.binary), number(size.zipped)]);
    }
    table
}

fn steps(title: &str, steps: &[Step]) -> Table {
    let mut table = table(title, &["records/s", "p5 - p95", "growth", "processor ms / 1,000", "runs"]);
    let first = steps.first().map_or(f64::NAN, |step| step.rate.median());
    for Step { environments, rate, processor } in steps {
        let name = if *environments == 1 { "1 environment".to_owned() } else { format!("{environments} environments") };
        let growth = format!("{:.2} x", rate.median() / first);
        let (median, cpu, runs) = (number(rate.median()), number(processor.median()), rate.runs().to_string());
        table.add_row([name, median, rate.spread(), growth, cpu, runs]);
    }
    table
}

fn ways(bookings: &Bookings) -> Table {
    let titles = ["batch", "round trip, ms", "records/s", "p5 - p95", "processor ms / 1,000", "runs"];
    let mut table = table("bookings, with flushed commits", &titles);
    for Way { who, batch, round_trip_ms, rate, processor } in &bookings.ways {
        let batch = if matches!(who, Who::Original | Who::Plain) { "1".to_owned() } else { batch.to_string() };
        let processor = processor.as_ref().map_or_else(|| "-".to_owned(), |time| number(time.median()));
        let (rate, spread, runs) = (number(rate.median()), rate.spread(), rate.runs().to_string());
        table.add_row([who.name().to_owned(), batch, round_trip_ms.to_string(), rate, spread, processor, runs]);
    }
    table
}

fn starts_of_bookings(bookings: &Bookings) -> Table {
    let mut table = table("cold start with a connection, ms", &["median", "p5 - p95", "runs"]);
    for (name, starts) in [(BOOKING, &bookings.ours), ("no-op", &bookings.no_op)] {
        table.add_row(row(&format!("{name}, to the first poll"), &starts.first_poll));
        table.add_row(row(&format!("{name}, to the first answer"), &starts.first_answer));
    }
    table
}

fn designs(room: &Room) -> Table {
    let Load { people, within, overtaken_by, copied, .. } = room::CALM;
    let seconds = within.as_secs();
    let title =
        format!("{people} joins within {seconds} s, overtaken by {overtaken_by} at most, each {copied}th twice");
    let mut table = table(&title, &["median", "least - most", "runs"]);
    for Design { way, is_calm, figures } in &room.designs {
        let name = match way {
            placing::Way::Ours => "ours",
            placing::Way::Counter => "a counter, by batch",
        };
        for (what, figure) in figures {
            let (least, most) = (number(figure.percentile(0)), number(figure.percentile(100)));
            let (median, runs) = (number(figure.median()), figure.runs().to_string());
            let dying = if *is_calm { String::new() } else { format!(", each {}th batch dies", room::DEATHS) };
            table.add_row([format!("{name}{dying}: {what}"), median, format!("{least} - {most}"), runs]);
        }
    }
    table
}

fn prices(prices: &[Price]) -> Table {
    let titles = ["processor ms", "p5 - p95", "requests", "read units", "write units", "bytes", "customer's bytes"];
    let mut table = table("one of them, at the line's table", &titles);
    for Price { what, processor, requests, read, written, table_bytes, client_bytes } in prices {
        let [requests, read, written] = [requests, read, written].map(|count| number(*count));
        let (median, bytes, own) =
            (number(processor.median()), format!("{table_bytes:.0}"), format!("{client_bytes:.0}"));
        table.add_row([(*what).to_owned(), median, processor.spread(), requests, read, written, bytes, own]);
    }
    table
}

fn requests(api: &Api) -> Table {
    let mut table = table("a request to the reservation API, ms", &["its calls", "p50", "p99", "p5 - p95", "runs"]);
    let each = api.ways.iter().flat_map(|way| way.requests.iter().map(move |requests| (&way.who, requests)));
    let api::Latencies { table_ms, inventory_ms, payments_ms } = api::Latencies::NEARBY;
    let services = format!("table, inventory and payments at {table_ms}, {inventory_ms} and {payments_ms} ms");
    for (who, Requests { asked, waiting, busy, .. }) in each {
        let calls = who.calls_ms(*asked).to_string();
        for (services, calls, times) in
            [(services.as_str(), calls, waiting), ("services at 0 ms", "0".to_owned(), busy)]
        {
            let name = format!("{}, {}, {services}", who.name(), asked.name());
            let (p50, p99) = (number(times.median()), number(times.percentile(99)));
            table.add_row([name, calls, p50, p99, times.spread(), times.runs().to_string()]);
        }
    }
    table
}

fn processor_and_memory(api: &Api) -> Table {
    let mut table = table("processor ms of 1,000 requests; peak memory, MiB", &["median", "p5 - p95", "runs"]);
    for way in &api.ways {
        for Requests { asked, processor, .. } in &way.requests {
            table.add_row(row(&format!("{}, {}", way.who.name(), asked.name()), processor));
        }
    }
    for way in &api.ways {
        table.add_row(row(&format!("{}, peak memory", way.who.name()), &way.memory));
    }
    table
}

fn starts_of_api(api: &Api) -> Table {
    let mut table = table("cold start of an API, ms", &["median", "p5 - p95", "runs"]);
    let ways = api.ways.iter().map(|way| (way.who.name(), &way.starts));
    for (name, starts) in ways.chain([("no-op", &api.no_op)]) {
        table.add_row(row(&format!("{name}, to the first poll"), &starts.first_poll));
        table.add_row(row(&format!("{name}, to the first answer"), &starts.first_answer));
    }
    table
}

fn closed_loop(steps: &[api::Step]) -> Table {
    let titles = ["environments", "creates/s", "p5 - p95", "ms, p50", "ms, p95", "503s", "rounds"];
    let mut table = table("a closed loop through the local HTTP API", &titles);
    for api::Step { who, environments, rate, time, refused } in steps {
        let (creates, rounds) = (number(rate.median()), rate.runs().to_string());
        let (p50, p95) = (number(time.median()), number(time.percentile(95)));
        let (name, environments, refused) = (who.name().to_owned(), environments.to_string(), refused.to_string());
        table.add_row([name, environments, creates, rate.spread(), p50, p95, refused, rounds]);
    }
    table
}

/// The paper sum of 30,000 requests a second, by our figures.
fn paper(api: &Api) -> Option<Table> {
    let ours = api.ways.iter().find(|way| way.who == Server::Ours)?;
    let mixed = |asked, a_second| {
        let Requests { waiting, processor, .. } = ours.requests.iter().find(|requests| requests.asked == asked)?;
        Some(Mixed { a_second, milliseconds: waiting.median(), processor_ms: processor.median() / 1_000.0 })
    };
    let kinds =
        [mixed(api::Asked::Create, 1_500.0)?, mixed(api::Asked::Confirm, 800.0)?, mixed(api::Asked::Get, 27_700.0)?];
    let served = price::served(&kinds, api::MEMORY_MB);
    let mut table = table("30,000 requests a second, on paper", &["", "arithmetic"]);
    table.add_row(["1,500 creates, 800 confirms, the rest gets".to_owned(), String::new(), String::new()]);
    table.add_row(["environments at work".to_owned(), format!("{:.0}", served.environments), String::new()]);
    table.add_row(["processors at work".to_owned(), number(served.processors), String::new()]);
    for item in &served.hour {
        let what = format!("an hour, {}, USD", item.what);
        table.add_row([what, format!("{:.2}", item.price), item.arithmetic.clone()]);
    }
    if let Some(column) = table.column_mut(2) {
        column.set_cell_alignment(CellAlignment::Left);
    }
    Some(table)
}

fn million(warm: &Warm, cost: &Cost) -> Table {
    let items = price::items(&Measured {
        batch: BATCH,
        milliseconds: warm.waiting.median(),
        memory_mb: MEMORY_MB,
        writes: cost.record.dynamodb.requests,
        log_bytes: cost.record.log_bytes,
    });
    let mut table = table("a million events, arm64", &["USD", "arithmetic"]);
    for item in &items {
        table.add_row([item.what.to_owned(), format!("{:.4}", item.price), item.arithmetic.clone()]);
    }
    let total: f64 = items.iter().map(|item| item.price).sum();
    table.add_row([
        "in all".to_owned(),
        format!("{total:.4}"),
        "without alarms, metrics and stored records".to_owned(),
    ]);
    if let Some(column) = table.column_mut(2) {
        column.set_cell_alignment(CellAlignment::Left);
    }
    table
}

fn held_against(bars: &[Bar]) -> Table {
    let mut table = table("held against its bar", &["measured", "bar", "", ""]);
    for bar in bars {
        let (sign, bound) = match bar.bound {
            Bound::AtMost(bound) => ("at most", bound),
            Bound::Below(bound) => ("below", bound),
            Bound::AtLeast(bound) => ("at least", bound),
        };
        let verdict = match (&bar.unjudged, bar.is_met()) {
            (Some(_), _) => "not judged",
            (None, true) => "met",
            (None, false) => "MISSED",
        };
        let note = bar.unjudged.as_ref().unwrap_or(&bar.derived);
        let measured = format!("{} {}", number(bar.measured), bar.unit);
        table.add_row([
            bar.what.clone(),
            measured,
            format!("{sign} {}", number(bound)),
            verdict.to_owned(),
            note.clone(),
        ]);
    }
    for index in [3, 4] {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Left);
        }
    }
    table
}

fn row(name: &str, figure: &Figure) -> [String; 4] {
    [name.to_owned(), number(figure.median()), figure.spread(), figure.runs().to_string()]
}

fn table(left: &str, right: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(std::iter::once(&left).chain(right).map(|title| title.to_uppercase()));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
