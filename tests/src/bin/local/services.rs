//! `cargo local up --no-functions`: the stack without the functions, for `cargo lambda watch` and for functions deployed to
//! MiniStack.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs,
};

use local_stack::{
    aws::AwsError,
    build::workspace,
    catalogue::{CATALOGUE, QUEUED, Trigger},
    gateway::{Gateway, GatewayError, Issuer, Target},
    inventory::SeatState,
    replay,
    reservations::Status,
    sale,
    scenario::{self, EventFile, Given},
    stack::{Ports, Stack},
    template::Template,
};
use redrive::terminal::{counted, print};

use crate::up::{self, LOOK, Options, Watched};

/// `cargo lambda watch` gives one environment to all functions, so they share one dead-letter queue here.
const SHARED_DEAD_LETTERS: &str = QUEUED[0];

/// Runs until Ctrl-C.
pub(crate) async fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let mut files = scenario::load_all(scenario::events_folder())?;
    if !options.files.is_empty() {
        files.extend(crate::read(&options.files, options.function.as_deref())?);
    }
    files.retain(|file| file.booked.is_none()); // They are about no reservation.
    let ports = Ports { inventory: options.inventory_port, payments: 0, reservations: options.reservation_port };
    let stack = up::start(ports).await?;
    let (gateway, _issuer) = gateway(options).await?;
    let native = up::native_grpc(options, &gateway).await?;
    up::put_on_sale(&stack);
    for file in &files {
        // What a file of events/ gives stays as it is there.
        let is_new = |given: &&Given| stack.reservations.get(&given.reservation_id).is_none();
        let new: Vec<Given> = file.scenario.given.iter().filter(is_new).cloned().collect();
        stack.seed(&new);
        for known in file.invoked.iter().flat_map(|invoked| &invoked.known) {
            replay::put(&stack, known).await?;
        }
        for on_sale in file.invoked.iter().flat_map(|invoked| &invoked.on_sale) {
            stack.inventory.stock(&on_sale.event_id, &on_sale.seat_ids, on_sale.quantity);
        }
    }
    for function in QUEUED {
        stack.queue(function);
    }
    let variables = variables(&stack);
    let env_file = workspace().join("target").join("local.env");
    if let Some(folder) = env_file.parent() {
        fs::create_dir_all(folder)?;
    }
    let lines: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    fs::write(&env_file, lines.concat())?;

    print(format!(
        "The stack is up, with the reservations of {}. The functions' environment:",
        counted(files.len(), "event file")
    ));
    print("");
    for (name, value) in &variables {
        print(format!("  export {name}={value}"));
    }
    print("");
    print("In a second terminal:  cargo lambda watch --env-file target/local.env");
    print(
        "In a third:            cargo lambda invoke payment-approved --data-file events/payment-approved/single.json",
    );
    print(format!("To try the API:        curl {}/health", gateway.url()));
    print(format!("By native gRPC:        grpcurl -plaintext {} describe", native.address()));
    print(format!("To look at the seats:  grpcurl -plaintext {} list", stack.inventory_address));
    print("");
    print("What changes is printed here; there are no metrics and no alarms. Ctrl-C ends it.");
    print("");

    tokio::select! {
        ended = watch(&stack, &files) => ended?,
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    Ok(())
}

/// The API in front of the functions of `cargo lambda watch`, which need not run yet.
async fn gateway(options: &Options) -> Result<(Gateway, Issuer), Box<dyn Error>> {
    let issuer = Issuer::start_on(options.issuer_port).await;
    let issuer = issuer.map_err(|error| up::taken("issuer", options.issuer_port, &error))?;
    let url = format!("http://127.0.0.1:{}", options.invoke_port);
    let served = CATALOGUE.iter().filter(|entry| entry.trigger == Trigger::Http);
    let target = |name: &str| Target::InvokeApi { url: url.clone(), name: name.to_owned() };
    let functions = served.map(|entry| (entry.name.to_owned(), target(entry.name))).collect();
    let gateway = Gateway::start(sale::options(&Template::read()?, &issuer, functions, options.gateway_port)?).await;
    let gateway = gateway.map_err(|error| match error {
        GatewayError::Listen(error) => up::taken("gateway", options.gateway_port, &error),
        error @ (GatewayError::Conflict(_) | GatewayError::Function(..) | GatewayError::Authorizer(_)) => {
            error.to_string()
        }
    })?;
    Ok((gateway, issuer))
}

fn variables(stack: &Stack) -> BTreeMap<String, String> {
    let mut variables = stack.environment(SHARED_DEAD_LETTERS);
    for (name, value) in [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_REGION", "us-east-1")]
    {
        variables.insert(name.to_owned(), value.to_owned());
    }
    variables
}

/// Prints each change of a reservation, its seats, the dead-letter queue and the bus.
async fn watch(stack: &Stack, files: &[EventFile]) -> Result<(), AwsError> {
    // Those of functions without a queue are in the table as well, where they are seen to change.
    let queued = files.iter().filter(|file| file.invoked.is_none());
    let ids: BTreeSet<&str> =
        queued.flat_map(|file| &file.scenario.given).map(|given| given.reservation_id.as_str()).collect();
    let look = |id: &str| (stack.reservations.get(id).map(|found| found.status), stack.inventory.seat_state(id));
    let mut seen: BTreeMap<&str, (Option<Status>, SeatState)> = ids.iter().map(|id| (*id, look(id))).collect();
    let (mut dead, mut published) = (0, 0);
    let mut reservations = Watched::on(stack).await?;
    reservations.look(stack).await?; // What is given is no change.
    loop {
        tokio::time::sleep(LOOK).await;
        reservations.look(stack).await?.iter().for_each(print);
        for (id, before) in &mut seen {
            let now = look(id);
            if now != *before {
                let status = |status: Option<Status>| status.map(|status| status.to_string()).unwrap_or_default();
                print(format!("{id}: {} -> {}, seats {} -> {}", status(before.0), status(now.0), before.1, now.1));
                *before = now;
            }
        }
        dead = up::dead_letters("dead letter", &stack.dead_letters(SHARED_DEAD_LETTERS), dead);
        let entries = stack.aws.bus_entries();
        entries.iter().skip(published).for_each(|entry| print(up::on_the_bus(entry)));
        published = entries.len();
    }
}
