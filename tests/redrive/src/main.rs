//! `cargo redrive`: looks into a dead-letter queue, and sends back what a person chooses.

mod arguments;
mod report;

use std::process::ExitCode;

use arguments::Arguments;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_sqs::Client;
use redrive::{
    DeadLetterQueue, Letter, Reading, RedriveError, Sent,
    terminal::{counted, tell, tell_error},
};

/// As much as ten messages of 1 MiB take, every byte of them escaped.
const TEN_MESSAGES: usize = 64 * 1024 * 1024;

/// The clients of the functions give up after a second or two. Here somebody watches, so the SDK's own patience serves.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::read();
    let client = shared::client::aws::http::client_reading(TEN_MESSAGES);
    let config = aws_config::defaults(BehaviorVersion::latest()).http_client(client).load().await;
    match run(&arguments, &config).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tell_error(&error);
            tell(place(&config));
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
    tell(format!("Reading {} ...", queue.url()));
    let reading = queue.read().await?;
    let letters = &reading.letters;
    let choice = arguments.choice();
    let (chosen, rest): (Vec<&Letter>, Vec<&Letter>) = letters.iter().partition(|letter| choice.takes(letter));
    give_back(&queue, &reading, &rest).await;
    if !arguments.send {
        give_back(&queue, &reading, &chosen).await;
    }

    report::letters(&chosen, letters.len(), counts);
    report::totals(letters);
    let unanswered = choice.unanswered(letters);
    for option in &unanswered {
        tell(format!("No message answers to {option}: another reader holds it, or it is not in this queue."));
    }
    let done = match source {
        Some(source) if arguments.send => send(&queue, &reading, &chosen, &source).await && unanswered.is_empty(),
        source => {
            report::hint(arguments, &chosen, source.is_some());
            true
        }
    };
    if let Some(reason) = &reading.cut_short {
        let left = queue.counts().await?;
        let left = left.visible + left.hidden;
        tell(format!(
            "The queue was not read to its end: {reason}. It says that about {left} are left; run this again."
        ));
    }
    Ok(done && reading.cut_short.is_none())
}

/// False when something could not be sent.
async fn send(queue: &DeadLetterQueue, reading: &Reading, letters: &[&Letter], source: &str) -> bool {
    tell(format!("Sending {} to {source} ...", counted(letters.len(), "message")));
    let ends = queue.send(letters, source).await;
    let stays = letters.iter().zip(&ends).filter(|(_, end)| **end != Sent::Moved).map(|(letter, _)| *letter);
    give_back(queue, reading, &stays.collect::<Vec<_>>()).await;
    report::ends(letters, &ends);
    !ends.iter().any(|end| matches!(end, Sent::Refused(_)))
}

async fn give_back(queue: &DeadLetterQueue, reading: &Reading, letters: &[&Letter]) {
    if let Err((count, reason)) = queue.give_back(letters).await {
        let (messages, seconds) = (counted(count, "message"), reading.hidden_for.as_secs());
        tell(format!("{messages} could not be made visible again and will be so in {seconds} s: {reason}"));
    }
}

/// Where the calls went: the first thing to doubt when a queue is not found.
fn place(config: &SdkConfig) -> String {
    let region = config.region().map_or("no region; set AWS_REGION", |region| region.as_ref());
    let profile = std::env::var("AWS_PROFILE").unwrap_or_else(|_| "default".to_owned());
    let endpoint = config.endpoint_url().map(|url| format!(", endpoint: {url}")).unwrap_or_default();
    format!("(region: {region}, profile: {profile}{endpoint}; cargo redrive --help tells which credentials are found)")
}
