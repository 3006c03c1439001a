//! What the program is told, and how to tell it so again.

use clap::{CommandFactory, Parser, builder::PossibleValuesParser, error::ErrorKind};
use redrive::{Choice, functions};

const MORE: &str = "\
Examples:
  cargo redrive payment-approved --stack holdfast
  cargo redrive payment-approved --stack holdfast --code retries_exhausted --send
  cargo redrive payment-approved --dlq-url URL --message ID --message ID --send

How a message comes into a dead-letter queue:
  function     The function sent it, with its reason: no repeat can succeed, or the last receive failed.
  queue        SQS moved it by its receive count. It has no reason; here its code is max_receive_count.
  EventBridge  The rule could not deliver it to the queue. The reason is EventBridge's.
Anything else is shown as unknown, with the code no_reason.

What to do before it is sent back, or in place of it:
  malformed_body, invalid_field   Repair the producer and have it send the event anew; sent back, it only returns.
  unknown_type                    Repair the rule that routes it to this function and have the event sent anew.
  payload_changed                 Find out which of the two events is right; sent back, it only returns.
  not_owner                       Only its guest can give a booking up; if it is right, he sends it himself.
  ambiguous_user                  Have the event sent anew with an identifier that only this user has.
  unknown_line                    Open or correct the line, then send it back. People stand by their arrival, as late
                                  ones; see functions/WAITING-ROOM.md.
  inventory_conflict              Look at the reservation and its seats; refund or reseat.
  incomplete_reservation          Complete the reservation, then send it back.
  downstream_rejected             Read the message: service and worker disagree on the contract.
  refund_not_deliverable          Set EVENT_BUS_NAME and send it back, or refund by hand.
  retries_exhausted               Repair the service that the message names, then send it back.
  max_receive_count               Read the function's log: it died, timed out, or could not start. Then send it back.
  codes of EventBridge            Repair the rule, or the queue's policy for NO_PERMISSIONS, then send it back.

What --send does to a message: it goes to the source queue with its body byte for byte, its own attributes (those that
the function had room for when it dead-lettered it), its X-Ray header and its group, without the reason. It is deleted
here only after SQS has taken it there. If the deletion fails a copy stays here, which is harmless. A completed event
about a reservation or a booking is known for 30 days (IDEMPOTENCY_TTL_DAYS), and who has joined a line stands there
once, so that the copy ends as a duplicate. The waiting room's other messages only say the same again.

Reading hides a message from other readers for up to 60 seconds, longer where it takes longer, and then makes it visible
again. A message that another reader holds at that time is not shown. The age counts from when a message was sent; what
SQS moved keeps its first time.

Credentials and region: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or a profile (AWS_PROFILE) of
~/.aws with keys, with role_arn and source_profile, or with credential_process; web identity, container and instance
roles. AWS_REGION, or the profile's region. For a profile with SSO or `aws login`, run this first:
  eval \"$(aws configure export-credentials --format env)\"
AWS_ENDPOINT_URL sends all calls to a local stack; make sure that it is unset for AWS.

Permissions: sqs:GetQueueUrl on both queues, or with --dlq-url sqs:ListDeadLetterSourceQueues; on the dead-letter queue
sqs:GetQueueAttributes, sqs:ReceiveMessage, sqs:ChangeMessageVisibility, and for --send sqs:DeleteMessage; for --send also
sqs:SendMessage on the source queue; and those of the KMS key where the queues have one of yours.

Exit status: 0 done; 1 something that was chosen could not be sent, no message answers to a --code, --message or
--about that is to be sent, or the queue could not be read to its end; 2 nothing could be run: a wrong argument, no such
queue, no access.";

/// Shows what lies in a function's dead-letter queue, and why. With --send it puts the chosen messages back into the
/// function's queue; without, nothing is changed. Message bodies are never printed.
#[derive(Parser)]
#[command(name = "cargo redrive", bin_name = "cargo redrive", version, verbatim_doc_comment, after_help = MORE)]
pub(crate) struct Arguments {
    /// Whose dead letters
    #[arg(value_parser = PossibleValuesParser::new(functions()))]
    pub(crate) function: String,

    /// The CloudFormation stack, whose queues are found by their names
    #[arg(long, value_name = "NAME", default_value = "holdfast", conflicts_with = "dlq_url", help_heading = QUEUES)]
    pub(crate) stack: String,
    /// The dead-letter queue, in place of --stack
    #[arg(long, value_name = "URL", help_heading = QUEUES)]
    pub(crate) dlq_url: Option<String>,
    /// Where to send to, in place of the function's own queue
    #[arg(long, value_name = "URL", help_heading = QUEUES)]
    pub(crate) queue_url: Option<String>,

    /// Those with this reason
    #[arg(long, value_name = "CODE", help_heading = CHOICE)]
    code: Vec<String>,
    /// The one with this id, here or in the function's log
    #[arg(long, value_name = "ID", help_heading = CHOICE)]
    message: Vec<String>,
    /// Those about this reservation, booking or place
    // Its old name stays in lines that people have written down.
    #[arg(long, alias = "reservation", value_name = "ID", help_heading = CHOICE)]
    about: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with_all = ["code", "message", "about"], help_heading = CHOICE)]
    all: bool,

    /// Send the chosen messages back; without it they are only shown
    #[arg(long)]
    pub(crate) send: bool,
}

const QUEUES: &str = "Which queue";
const CHOICE: &str = "Which messages (several of one kind are alternatives, different kinds must all hold)";

impl Arguments {
    /// Reads the command line; ends the program with status 2 when it makes no sense.
    pub(crate) fn read() -> Self {
        let arguments = Self::parse();
        if arguments.send && !arguments.all && arguments.choice().is_empty() {
            let missing = "--send needs a choice of messages: --code, --message, --about, or --all\n\n\
                           Without --send they are shown, with their reasons.";
            Self::command().error(ErrorKind::MissingRequiredArgument, missing).exit();
        }
        arguments
    }

    /// Which messages are meant.
    pub(crate) fn choice(&self) -> Choice {
        Choice { codes: self.code.clone(), messages: self.message.clone(), about: self.about.clone() }
    }

    /// The command line that sends what `choice`, in options, means from the same queue.
    pub(crate) fn sending(&self, choice: &[&str], source_known: bool) -> String {
        let mut words = vec!["cargo", "redrive", &self.function];
        match &self.dlq_url {
            Some(url) => words.extend(["--dlq-url", url]),
            None => words.extend(["--stack", &self.stack]),
        }
        match &self.queue_url {
            Some(url) => words.extend(["--queue-url", url]),
            None if !source_known => words.extend(["--queue-url", "URL"]),
            None => {}
        }
        words.extend(choice);
        words.push("--send");
        words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
    }

    /// Whether all messages were chosen by name.
    pub(crate) fn is_all(&self) -> bool {
        self.all
    }

    /// The choice, in options, of those of its messages that have one of these codes.
    pub(crate) fn options_with<'a>(&'a self, codes: &[&'a str]) -> Vec<&'a str> {
        let codes = codes.iter().flat_map(|code| ["--code", code]);
        let others = [("--message", &self.message), ("--about", &self.about)];
        codes
            .chain(others.into_iter().flat_map(|(name, values)| values.iter().flat_map(move |value| [name, value])))
            .collect()
    }

    /// The choice, in options.
    pub(crate) fn options(&self) -> Vec<&str> {
        let kinds = [("--code", &self.code), ("--message", &self.message), ("--about", &self.about)];
        let values = kinds.into_iter().flat_map(|(name, values)| values.iter().flat_map(move |value| [name, value]));
        self.all.then_some("--all").into_iter().chain(values).collect()
    }
}

/// A word that a shell reads as it stands.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
