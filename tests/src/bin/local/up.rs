//! `cargo local up`: the stack without the functions, for `cargo lambda watch` and for functions deployed to MiniStack.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs,
    path::PathBuf,
    time::Duration,
};

use local_stack::{
    build::workspace,
    catalogue::QUEUED,
    inventory::SeatState,
    replay::attribute,
    reservations::Status,
    scenario::{self, EventFile, Given},
    stack::{Ports, Stack, StackError},
};
use redrive::terminal::{counted, print};

/// How often the stack is looked at for changes.
const LOOK: Duration = Duration::from_millis(200);

/// `cargo lambda watch` gives one environment to all functions, so they share one dead-letter queue here.
const SHARED_DEAD_LETTERS: &str = QUEUED[0];

/// Runs until Ctrl-C.
pub(crate) async fn run(ports: Ports, own: &[PathBuf], function: Option<&str>) -> Result<bool, Box<dyn Error>> {
    let mut files = scenario::load_all(scenario::events_folder())?;
    if !own.is_empty() {
        files.extend(crate::read(own, function)?);
    }
    let stack = Stack::start_on(ports).await.map_err(|error| {
        let taken = matches!(error, StackError::Listen(_));
        let hint = "; end what listens there, or choose other ports by --inventory-port and --reservation-port";
        format!("{error}{}", if taken { hint } else { "" })
    })?;
    for file in &files {
        // What a file of events/ gives stays as it is there.
        let is_new = |given: &&Given| stack.reservations.get(&given.reservation_id).is_none();
        let new: Vec<Given> = file.scenario.given.iter().filter(is_new).cloned().collect();
        stack.seed(&new);
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
    print(format!("To look at the seats:  grpcurl -plaintext {} list", stack.inventory_address));
    print("");
    print("What changes is printed here; there are no metrics and no alarms. Ctrl-C ends it.");
    print("");

    tokio::select! {
        () = watch(&stack, &files) => {}
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    print("");
    print("The stack is down; nothing of it is kept.");
    Ok(true)
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
async fn watch(stack: &Stack, files: &[EventFile]) {
    let ids: BTreeSet<&str> =
        files.iter().flat_map(|file| &file.scenario.given).map(|given| given.reservation_id.as_str()).collect();
    let look = |id: &str| (stack.reservations.get(id).map(|found| found.status), stack.inventory.seat_state(id));
    let mut seen: BTreeMap<&str, (Option<Status>, SeatState)> = ids.iter().map(|id| (*id, look(id))).collect();
    let (mut dead, mut published) = (0, 0);
    loop {
        tokio::time::sleep(LOOK).await;
        for (id, before) in &mut seen {
            let now = look(id);
            if now != *before {
                let status = |status: Option<Status>| status.map(|status| status.to_string()).unwrap_or_default();
                print(format!("{id}: {} -> {}, seats {} -> {}", status(before.0), status(now.0), before.1, now.1));
                *before = now;
            }
        }
        let messages = stack.dead_letters(SHARED_DEAD_LETTERS).messages();
        for message in messages.iter().skip(dead) {
            let text = |name| attribute(message, name).unwrap_or("-");
            let (id, code, why) = (text("source_message_id"), text("error_code"), text("error_message"));
            print(format!("dead letter {id}: {code}: {why}"));
        }
        dead = messages.len();
        let entries = stack.aws.bus_entries();
        for entry in entries.iter().skip(published) {
            print(format!("on the bus: {} {}", entry.detail_type, entry.detail));
        }
        published = entries.len();
    }
}
