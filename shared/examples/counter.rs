//! Another design of a line, for `cargo bench` to measure beside ours: that of AWS's Virtual Waiting Room, written anew from
//! its description. A batch of n joins takes the next n numbers by one `ADD` on the line's counter, in the order in which the
//! queue hands it over, and then everybody's record is written with his number. Nobody looks whether he has one already, and
//! numbers of a batch that dies in between are never given out again.

use std::{collections::BTreeMap, env};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, PutRequest, ReturnValue, WriteRequest},
};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use shared::{client::aws, waiting_room::message::JoinMessage};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let table = env::var("WAITING_ROOM_TABLE")?;
    let client = Client::new(&aws::sdk_config().await);
    let (client, table) = (&client, table.as_str());
    lambda_runtime::run(service_fn(async |event: LambdaEvent<SqsEvent>| {
        // The whole batch comes back where the invocation fails.
        number(client, table, &event.payload).await.map(|()| SqsBatchResponse::default())
    }))
    .await
}

/// Gives everybody of a batch a number, and writes it down.
async fn number(client: &Client, table: &str, event: &SqsEvent) -> Result<(), Error> {
    let bodies = event.records.iter().map(|record| record.body.as_deref().unwrap_or_default());
    let joins: Vec<JoinMessage> =
        bodies.map(JoinMessage::parse).collect::<Result<_, _>>().map_err(|failure| failure.message().to_owned())?;
    let Some(first) = joins.first() else { return Ok(()) };
    let text = |text: String| AttributeValue::S(text);
    let counted = client
        .update_item()
        .table_name(table)
        .key("pk", text(format!("counter#{}", first.scope.show_id)))
        .key("sk", text("counter".to_owned()))
        .update_expression("ADD numbers :count")
        .expression_attribute_values(":count", AttributeValue::N(joins.len().to_string()))
        .return_values(ReturnValue::UpdatedNew)
        .send()
        .await?;
    let last = counted.attributes().and_then(|item| item.get("numbers")?.as_n().ok()?.parse::<u64>().ok());
    let last = last.ok_or("the counter has no number")?;
    // One request can't have one key twice: of two copies in a batch the later one is written.
    let mut people = BTreeMap::new();
    for (number, join) in (last + 1 - joins.len() as u64..).zip(&joins) {
        let record = PutRequest::builder()
            .item("pk", text(format!("request#{}", join.user_id)))
            .item("sk", text("request".to_owned()))
            .item("number", AttributeValue::N(number.to_string()))
            .item("arrival", AttributeValue::N(join.arrival.to_string()))
            .build()?;
        people.insert(&join.user_id, WriteRequest::builder().put_request(record).build());
    }
    let written = client.batch_write_item().request_items(table, people.into_values().collect()).send().await?;
    match written.unprocessed_items().is_some_and(|left| !left.is_empty()) {
        false => Ok(()),
        true => Err("some were not written".into()),
    }
}
