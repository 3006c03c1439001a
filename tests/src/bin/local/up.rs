//! `cargo local up`: everything that sells seats, and what happens there line by line.

use std::{
    collections::BTreeMap,
    error::Error,
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use local_stack::{
    admission,
    aws::{AwsError, BusEntry},
    build::{self, workspace},
    gateway::{Gateway, GatewayError, NativeGrpc, NativeGrpcError},
    inventory::SeatState,
    lambda::InvokeApi,
    postgres::Database,
    queue::Queue,
    replay::attribute,
    sale::{Running, Sale, SaleError, SalePorts, Worked},
    stack::{BUS, Ports, RESERVATIONS, Stack, StackError},
    stream::Changes,
    till::{PRICE, Till},
};
use redrive::terminal::{counted, print, print_whole, tell};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{Sidecar, server, services, token::ISSUER_PORT};

/// What is on sale.
const SHOW: &str = "evt_1";
const ROWS: [char; 3] = ['A', 'B', 'C'];
const SEATS_OF_A_ROW: usize = 20;
const PLACES: u32 = 10_000;

/// What people stand in line for.
const SHOW_WITH_LINE: &str = "evt_2";
const TICKETS_OF_THE_LINE: u32 = 4;

/// Who may say that somebody has booked: the default of the template's `BookingEventSources`.
const BOOKING_SOURCE: &str = "booking-service";

/// How often the stack is looked at for changes.
pub(crate) const LOOK: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(crate) struct Options {
    /// Leaves the functions to `cargo lambda watch`, whose environment it writes to target/local.env, or to MiniStack. The
    /// reservation API that settlement asks is then a stand-in, with every reservation of events/ in place
    #[arg(long, conflicts_with_all = ["sidecar", "no_sidecar"])]
    no_functions: bool,
    #[command(flatten)]
    sidecar: Sidecar,
    /// With --no-functions: files whose reservations are put in place too, in every form that `cargo local FILE` takes
    #[arg(requires = "no_functions")]
    pub(crate) files: Vec<PathBuf>,
    /// Whose queue the files belong to
    #[arg(long, value_name = "NAME", requires = "no_functions")]
    pub(crate) function: Option<String>,
    /// Where the API listens, on 127.0.0.1; 0 is any free port, here as for the others
    #[arg(long, value_name = "PORT", default_value_t = 8020)]
    pub(crate) gateway_port: u16,
    /// Where the inventory listens
    #[arg(long, value_name = "PORT", default_value_t = 8021)]
    pub(crate) inventory_port: u16,
    /// Where the reservations are served by native gRPC
    #[arg(long, value_name = "PORT", default_value_t = 8024)]
    pub(crate) grpc_port: u16,
    /// Where the issuer of tokens listens; `cargo local token --issuer-port` has to name the same
    #[arg(long, value_name = "PORT", default_value_t = ISSUER_PORT)]
    pub(crate) issuer_port: u16,
    /// Where customers pay
    #[arg(long, value_name = "PORT", default_value_t = 8023)]
    payment_port: u16,
    /// Where Lambda's Invoke API listens, by which a function is invoked: that of `cargo lambda watch` with --no-functions
    #[arg(long, value_name = "PORT", default_value_t = 9000)]
    pub(crate) invoke_port: u16,
    /// Where the pages of the waiting room open connections, by which they hear at once
    #[arg(long, value_name = "PORT", default_value_t = 8025)]
    pub(crate) push_port: u16,
    /// With --no-functions: where the stand-in of the reservation API listens
    #[arg(long, value_name = "PORT", default_value_t = 8010)]
    pub(crate) reservation_port: u16,
}

/// Runs until Ctrl-C.
pub(crate) async fn run(options: &Options) -> Result<bool, Box<dyn Error>> {
    let ended = if options.no_functions { services::run(options).await } else { sell(options).await };
    ended?;
    print("");
    print("The stack is down; nothing of it is kept.");
    Ok(true)
}

async fn sell(options: &Options) -> Result<(), Box<dyn Error>> {
    tell("Building the functions ...");
    let binaries = build::functions()?;
    // Before anything runs: it may take minutes, in which a sale's time would go by.
    let server = server(&options.sidecar)?;
    let stack = start(Ports { inventory: options.inventory_port, ..Ports::default() }).await?;
    put_on_sale(&stack);
    let (gateway, issuer, sockets) = (options.gateway_port, options.issuer_port, Some(options.push_port));
    let ports = SalePorts { gateway, issuer, sockets };
    let mut sale = Sale::open(stack, binaries, ports).await.map_err(|error| match error {
        SaleError::Gateway(GatewayError::Listen(error)) => taken("gateway", options.gateway_port, &error),
        SaleError::Issuer(port, error) => taken("issuer", port, &error),
        SaleError::Sockets(port, error) => taken("push", port, &error),
        error @ (SaleError::Template(_)
        | SaleError::Gateway(_)
        | SaleError::Function(_)
        | SaleError::Stream(_)
        | SaleError::Unbuilt(_)
        | SaleError::Clock(_)) => error.to_string(),
    })?;
    let database = match server {
        Ok(server) => Ok(server.furnished().await?),
        Err(why) => Err(why),
    };
    if let Ok(database) = &database {
        sale.book(database, binaries)?;
    }
    open_line(&sale).await?;
    let native = native_grpc(options, &sale.gateway).await?;
    let till = Till::start_on(options.payment_port, sale.stack.clone()).await;
    let till = till.map_err(|error| taken("payment", options.payment_port, &error))?;
    let functions = sale.functions.iter().map(|(name, function)| ((*name).to_owned(), function.clone())).collect();
    let invoke = InvokeApi::start_on(options.invoke_port, functions).await;
    let invoke = invoke.map_err(|error| taken("invoke", options.invoke_port, &error))?;
    let (worked, told) = mpsc::unbounded_channel();
    let _running: Running = sale.run(worked).await?;
    sale.wind().await?;
    let log = workspace().join("target").join("local.log");
    fs::create_dir_all(workspace().join("target"))?;
    let log = File::create(log)?;

    introduce(&sale, &native, &till, &invoke, database.as_ref());
    tokio::select! {
        ended = follow(&sale, told, log) => ended?,
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    if let Ok(database) = database {
        database.remove().await?;
    }
    Ok(())
}

/// Opens a line for a show of its own, with few tickets.
async fn open_line(sale: &Sale) -> Result<(), Box<dyn Error>> {
    let stack = &sale.stack;
    stack.inventory.stock(SHOW_WITH_LINE, &[], TICKETS_OF_THE_LINE);
    let (price, currency) = PRICE;
    stack.inventory.price(SHOW_WITH_LINE, price, currency);
    admission::open_line(&stack.aws, SHOW_WITH_LINE, TICKETS_OF_THE_LINE).await?;
    Ok(())
}

/// An empty stack on these ports.
pub(crate) async fn start(ports: Ports) -> Result<Stack, Box<dyn Error>> {
    let stack = Stack::start_on(ports).await.map_err(|error| {
        let taken = matches!(error, StackError::Listen(_));
        let hint = "; end what listens there, or choose other ports by --inventory-port and --reservation-port";
        format!("{error}{}", if taken { hint } else { "" })
    })?;
    Ok(stack)
}

/// The API's reservations by native gRPC, for grpcurl and grpcui.
pub(crate) async fn native_grpc(options: &Options, gateway: &Gateway) -> Result<NativeGrpc, Box<dyn Error>> {
    let native = NativeGrpc::start_on(options.grpc_port, gateway).await;
    Ok(native.map_err(|error| match error {
        NativeGrpcError::Listen(error) => taken("grpc", options.grpc_port, &error),
        error @ NativeGrpcError::Reflection(_) => error.to_string(),
    })?)
}

/// Why a port can't be had, and what to do.
pub(crate) fn taken(whose: &str, port: u16, error: &io::Error) -> String {
    format!("listen on 127.0.0.1:{port}: {error}; end what listens there, or choose another port by --{whose}-port")
}

/// Lets there be something to sell.
pub(crate) fn put_on_sale(stack: &Stack) {
    let row = |row: char| (1..=SEATS_OF_A_ROW).map(move |seat| format!("{row}-{seat}"));
    let seats: Vec<String> = ROWS.into_iter().flat_map(row).collect();
    stack.inventory.stock(SHOW, &seats, PLACES);
    let (price, currency) = PRICE;
    stack.inventory.price(SHOW, price, currency);
}

fn introduce(sale: &Sale, native: &NativeGrpc, till: &Till, invoke: &InvokeApi, database: Result<&Database, &String>) {
    let (api, pay) = (sale.gateway.url(), till.url());
    let last = ROWS[ROWS.len() - 1];
    print(format!(
        "Seats are on sale: {SHOW} has the seats A-1 to {last}-{SEATS_OF_A_ROW}, and {PLACES} places without a name."
    ));
    print("");
    print(format!("  the API        {api} (its page: {api}/swagger-ui.html)"));
    print(format!(
        "  by gRPC        {address}, which tells by: grpcurl -plaintext {address} describe",
        address = native.address()
    ));
    if let Some(sockets) = &sale.sockets {
        print(format!("  pushes         {}, where the page of the waiting room hears at once", sockets.base()));
    }
    print(format!("  payments       {pay} (gRPC: {})", sale.stack.payment_address));
    print(format!(
        "  the inventory  {address}, which tells by: grpcurl -plaintext {address} list",
        address = sale.stack.inventory_address
    ));
    print(format!("  AWS            {}, for aws --endpoint-url", sale.stack.aws.url()));
    print(format!("  Lambda         {}, for cargo lambda invoke and aws lambda invoke --endpoint-url", invoke.url()));
    print("  their logs     target/local.log");
    print("");
    print("A sale, for bash in a second terminal. Seats are held, paid and sold; others are held and given up:");
    print("");
    for line in story(&api, &pay, &sale.issuer.url()) {
        print_whole(format!("  {line}"));
    }
    print("");
    print(
        "Whoever does neither loses his seats after a minute. Payments end by /approve/, /fail/, /delay/ and /timeout/.",
    );
    print(format!(
        "People stand in line for {SHOW_WITH_LINE}, which has {TICKETS_OF_THE_LINE} tickets. Open its page, in a private window for each customer:"
    ));
    print("");
    print_whole(format!("  {api}/waiting-room?event={SHOW_WITH_LINE}"));
    print("");
    print("This looks for lost messages, as it is done each hour:");
    print("");
    print_whole(format!(
        "  curl -sX POST {}/2015-03-31/functions/reservation-sweep/invocations -d '{{}}'",
        invoke.url()
    ));
    print("");
    match database {
        Ok(database) => {
            print("Bookings are rows of PostgreSQL. The first line books the room 101, which has one guest a night:");
            print("");
            bookings(sale.stack.aws.url(), database).iter().for_each(|line| print_whole(format!("  {line}")));
            print("");
        }
        Err(why) => print(format!("Bookings are left out: {why}.")),
    }
    print("What happens is printed here, and Ctrl-C ends it.");
    print("");
}

/// A sale as a person pastes it. The reservation's id is read without other tools than those of every system.
fn story(api: &str, pay: &str, issuer: &str) -> [String; 6] {
    let port = issuer.rsplit(':').next().filter(|port| *port != ISSUER_PORT.to_string());
    let port = port.map(|port| format!(" --issuer-port {port}")).unwrap_or_default();
    let create = "ID=$(curl -sS $API -H \"$AUTH\" -H \"Idempotency-Key: $RANDOM$RANDOM\" -H 'Content-Type: application/json' \
                  -d '{\"eventId\": \"evt_1\", \"quantity\": 2}' | grep -o 'rsv_[a-z2-7]*'); echo $ID";
    [
        format!("API={api}/v1/reservations AUTH=\"Authorization: Bearer $(cargo local token{port})\""),
        create.to_owned(),
        format!("curl -sSX POST {pay}/approve/$ID"),
        "sleep 1; curl -sS $API/$ID -H \"$AUTH\"; echo".to_owned(),
        create.to_owned(),
        "curl -sSX POST $API/$ID/cancel -H \"$AUTH\"; echo".to_owned(),
    ]
}

/// A booking as a person pastes it, and a look at what became of it.
fn bookings(aws: &str, database: &Database) -> [String; 2] {
    let detail = json!({
        "bookingId": "b1", "userId": "jane@example.com", "roomId": "101", "guests": 2, "startDate": "2027-06-10",
        "endDate": "2027-06-12", "paymentId": "pi_b1",
    });
    let entry = json!({
        "EventBusName": BUS, "Source": BOOKING_SOURCE, "DetailType": "booking.created", "Detail": detail.to_string(),
    });
    [
        format!("curl -sS {aws} -H 'X-Amz-Target: AWSEvents.PutEvents' -d '{}'; echo", json!({ "Entries": [entry] })),
        format!("sleep 1; {database} -c 'SELECT booking_id, room_id, start_date, end_date, status FROM bookings'"),
    ]
}

/// Prints what changes, and writes what the functions say.
async fn follow(sale: &Sale, mut told: mpsc::UnboundedReceiver<Worked>, mut log: File) -> Result<(), Box<dyn Error>> {
    let mut reservations = Watched::on(&sale.stack).await?;
    let (mut published, mut dead, mut logged) = (0, BTreeMap::new(), BTreeMap::new());
    loop {
        tokio::time::sleep(LOOK).await;
        // In the order in which one leads to the other, as far as a look can tell.
        let entries = sale.stack.aws.bus_entries();
        entries.iter().skip(published).for_each(|entry| print(on_the_bus(entry)));
        published = entries.len();
        while let Ok(worked) = told.try_recv() {
            lines(&worked).iter().for_each(print);
        }
        reservations.look(&sale.stack).await?.iter().for_each(print);
        for name in sale.queues.keys() {
            let seen = dead.entry(*name).or_insert(0);
            *seen = dead_letters(&format!("dead letter of {name}"), &sale.stack.dead_letters(name), *seen);
        }
        for (name, queue) in &sale.given_up {
            let (messages, seen) = (queue.messages(), dead.entry(*name).or_insert(0));
            messages.iter().skip(*seen).for_each(|message| print(format!("{name} gave up: {}", message.body)));
            *seen = messages.len();
        }
        for (name, function) in &sale.functions {
            let seen: &mut usize = logged.entry(*name).or_default();
            let lines = function.logs_after(*seen);
            *seen += lines.len();
            lines.iter().try_for_each(|line| writeln!(log, "{line}"))?;
        }
    }
}

/// The reservations of the table, and what was told of them.
pub(crate) struct Watched {
    changes: Changes,
    reservations: BTreeMap<String, State>,
}

impl Watched {
    /// Those of a stack, from the first one on.
    pub(crate) async fn on(stack: &Stack) -> Result<Self, AwsError> {
        let changes = Changes::of(stack.aws.clone(), RESERVATIONS).await?;
        Ok(Self { changes, reservations: BTreeMap::new() })
    }

    /// A line for each that has changed since the last look, or whose seats have.
    pub(crate) async fn look(&mut self, stack: &Stack) -> Result<Vec<String>, AwsError> {
        for record in self.changes.next().await? {
            let image = &record["dynamodb"]["NewImage"];
            if let (Some(id), Some(status)) = (image["id"]["S"].as_str(), image["status"]["S"].as_str()) {
                self.reservations.entry(id.to_owned()).or_default().becomes(status);
            }
        }
        let told = self.reservations.iter_mut().filter_map(|(id, state)| {
            let line = state.told(stack.inventory.seat_state(id))?;
            Some(format!("{id}: {line}"))
        });
        Ok(told.collect())
    }
}

/// A reservation, as far as it was told.
#[derive(Debug, Default)]
struct State {
    /// The statuses since it was told: the one that was told then, and all that came after it.
    statuses: Vec<String>,
    seats: Option<SeatState>,
}

impl State {
    fn becomes(&mut self, status: &str) {
        if self.statuses.last().is_none_or(|last| last != status) {
            self.statuses.push(status.to_owned());
        }
    }

    /// What has changed since it was told, with the seats as they are now.
    fn told(&mut self, seats: SeatState) -> Option<String> {
        let known = self.seats.replace(seats);
        let same = self.statuses.len() == 1 && known == Some(seats);
        let moved = known.filter(|known| *known != seats).map(|known| format!("{known} -> ")).unwrap_or_default();
        let line = format!("{}, seats {moved}{seats}", self.statuses.join(" -> "));
        self.statuses.drain(..self.statuses.len().saturating_sub(1));
        Some(line).filter(|_| !same)
    }
}

/// One line for an event, with what tells it from others.
pub(crate) fn on_the_bus(entry: &BusEntry) -> String {
    let told = ["reservation_id", "booking_id", "bookingId", "payment_intent_id", "reason", "by"];
    let told: Vec<&str> = told.iter().filter_map(|name| entry.detail[*name].as_str()).collect();
    format!("on the bus: {} {}", entry.detail_type, told.join(" "))
}

/// Prints the dead letters behind those that were seen, each as what it is called, and tells how many there are.
pub(crate) fn dead_letters(called: &str, queue: &Queue, seen: usize) -> usize {
    let messages = queue.messages();
    for message in messages.iter().skip(seen) {
        let text = |name| attribute(message, name).unwrap_or("-");
        let (id, code, why) = (text("source_message_id"), text("error_code"), text("error_message"));
        print(format!("{called} {id}: {code}: {why}"));
    }
    messages.len()
}

/// What a function made of what it got.
fn lines(worked: &Worked) -> Vec<String> {
    match worked {
        Worked::Queue(name, delivery) => match &delivery.invocation.result {
            Ok(_) => {
                let lines = delivery.invocation.logs.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
                let ended = lines.filter(|line| line["message_id"].is_string() && line["outcome"].is_string());
                ended.map(|line| ended_as(name, &line)).collect()
            }
            Err(error) => vec![format!("{name}: {error}")],
        },
        Worked::Stream(name, delivery) => match &delivery.invocation.result {
            Ok(_) if delivery.done == delivery.batch.len() => Vec::new(), // The bus shows it.
            Ok(_) => {
                let again = counted(delivery.batch.len() - delivery.done, "change");
                vec![format!("{name}: {again} of {} come again; target/local.log says why", delivery.batch.len())]
            }
            Err(error) => vec![format!("{name}: {error}")],
        },
        Worked::Schedule(name, invocation) => match &invocation.result {
            Ok(_) => vec![format!("{name}: its hour is over, and it has swept")],
            Err(error) => vec![format!("{name}: {error}")],
        },
    }
}

fn ended_as(function: &str, line: &Value) -> String {
    let text = |name: &str| line[name].as_str().unwrap_or_default();
    let why = match text("error") {
        "" => String::new(),
        error => format!(" ({error})"),
    };
    format!("{function}: {} {}{}{why}", text("outcome"), text("reservation_id"), text("booking_id"))
}
