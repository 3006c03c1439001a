//! `cargo redrive`: looks into a dead-letter queue, and sends back what a person chooses.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that people read")]

mod arguments;
mod report;

use std::process::ExitCode;

use arguments::Arguments;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_sqs::Client;
use local_stack::redrive::{DeadLetterQueue, HIDDEN_FOR, Letter, RedriveError, Sent};

/// As much as ten messages of 1 MiB take, every byte of them escaped.
const TEN_MESSAGES: usize = 64 * 1024 * 1024;

/// The clients of the functions give up after a second or two. Here somebody watches, so the SDK's own patience serves.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::read();
    let client = shared::aws::http::client_reading(TEN_MESSAGES);
    let config = aws_config::defaults(BehaviorVersion::latest()).http_client(client).load().await;
    match run(&arguments, &config).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}\n{}", place(&config));
            ExitCode::from(2)
        }
    }
}

/// False when something that was chosen could not be sent.
async fn run(arguments: &Arguments, config: &SdkConfig) -> Result<bool, RedriveError> {
    let client = Client::new(config);
    let queue = match &arguments.dlq_url {
        Some(url) => DeadLetterQueue::at(client, url),
        None => DeadLetterQueue::of_stack(client, &arguments.stack, &arguments.function).await?,
    };
    let counts = queue.counts().await?; // Before the reading, which hides everything.
    let source = match (&arguments.queue_url, &arguments.dlq_url) {
        (Some(url), _) => Ok(url.clone()),
        (None, Some(_)) => queue.source().await,
        (None, None) => queue.source_of_stack(&arguments.stack, &arguments.function).await,
    };
    // Only a sending needs it. That it is not known should stop nobody from looking.
    let source = if arguments.send { Some(source?) } else { source.ok() };
    eprintln!("Reading {} ...", queue.url());
    let letters = queue.read().await?;
    let choice = arguments.choice();
    let (chosen, rest): (Vec<&Letter>, Vec<&Letter>) = letters.iter().partition(|letter| choice.takes(letter));
    give_back(&queue, &rest).await;
    if !arguments.send {
        give_back(&queue, &chosen).await;
    }

    report::letters(&chosen, letters.len(), counts);
    report::totals(&letters);
    let unanswered = choice.unanswered(&letters);
    for option in &unanswered {
        eprintln!("No message answers to {option}: another reader holds it, or it is not in this queue.");
    }
    match source {
        Some(source) if arguments.send => Ok(send(&queue, &chosen, &source).await && unanswered.is_empty()),
        source => {
            report::hint(arguments, &letters, chosen.len(), source.is_some());
            Ok(true)
        }
    }
}

/// False when something could not be sent.
async fn send(queue: &DeadLetterQueue, letters: &[&Letter], source: &str) -> bool {
    eprintln!("Sending {} to {source} ...", report::counted(letters.len(), "message"));
    let ends = queue.send(letters, source).await;
    let stays = letters.iter().zip(&ends).filter(|(_, end)| **end != Sent::Moved).map(|(letter, _)| *letter);
    give_back(queue, &stays.collect::<Vec<_>>()).await;
    report::ends(letters, &ends);
    !ends.iter().any(|end| matches!(end, Sent::Refused(_)))
}

async fn give_back(queue: &DeadLetterQueue, letters: &[&Letter]) {
    if let Err((count, reason)) = queue.give_back(letters).await {
        let (messages, seconds) = (report::counted(count, "message"), HIDDEN_FOR.as_secs());
        eprintln!("{messages} could not be made visible again and will be so in {seconds} s: {reason}");
    }
}

/// Where the calls went: the first thing to doubt when a queue is not found.
fn place(config: &SdkConfig) -> String {
    let region = config.region().map_or("no region; set AWS_REGION", |region| region.as_ref());
    let profile = std::env::var("AWS_PROFILE").unwrap_or_else(|_| "default".to_owned());
    let endpoint = config.endpoint_url().map(|url| format!(", endpoint: {url}")).unwrap_or_default();
    format!("(region: {region}, profile: {profile}{endpoint}; cargo redrive --help tells which credentials are found)")
}
