//! The inventory service can be looked at with grpcurl and grpcui, which ask the server itself what it offers.

use local_stack::stack::Stack;
use tonic::transport::Endpoint;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

/// Asks one question and answers with the server's answer.
async fn ask(address: &str, question: MessageRequest) -> MessageResponse {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = ServerReflectionClient::new(endpoint.connect().await.unwrap());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap().message_response.unwrap()
}

/// The services that the server at this address tells of.
pub(crate) async fn services_at(address: &str) -> Vec<String> {
    let answer = ask(address, MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(services) = answer else { panic!("no list of services: {answer:?}") };
    services.service.into_iter().map(|service| service.name).collect()
}

#[tokio::test]
async fn the_inventory_tells_its_services_and_their_contract() {
    let stack = Stack::start().await.unwrap();
    let address = stack.inventory_address.to_string();
    let names = services_at(&address).await;
    assert!(names.contains(&"reservation.v1.InventoryService".to_owned()), "{names:?}");

    let symbol = "reservation.v1.InventoryService.CommitReservation".to_owned();
    let answer = ask(&address, MessageRequest::FileContainingSymbol(symbol)).await;
    let MessageResponse::FileDescriptorResponse(files) = answer else { panic!("no descriptor: {answer:?}") };
    assert!(!files.file_descriptor_proto.is_empty());
}
