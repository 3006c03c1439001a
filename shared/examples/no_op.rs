//! A function that does nothing: the bare runtime, which takes an SQS event and acknowledges all of it. `cargo bench`
//! measures it beside the real functions, because no function on this runtime can start or answer any sooner.

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use lambda_runtime::{Error, LambdaEvent, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda_runtime::run(service_fn(async |event: LambdaEvent<SqsEvent>| {
        drop(event);
        Ok::<_, Error>(SqsBatchResponse::default())
    }))
    .await
}
