//! The inventory service can be looked at with grpcurl and grpcui, which ask the server itself what it offers.

use local_stack::stack::Stack;
use tonic::transport::Endpoint;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

/// Asks one question and answers with the server's answer.
async fn ask(stack: &Stack, question: MessageRequest) -> MessageResponse {
    let endpoint = Endpoint::from_shared(format!("http://{}", stack.inventory_address)).unwrap();
    let mut client = ServerReflectionClient::new(endpoint.connect().await.unwrap());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap().message_response.unwrap()
}

#[tokio::test]
async fn the_inventory_tells_its_services_and_their_contract() {
    let stack = Stack::start().await.unwrap();
    let answer = ask(&stack, MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(services) = answer else { panic!("no list of services: {answer:?}") };
    let names: Vec<_> = services.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"reservation.v1.InventoryService"), "{names:?}");

    let symbol = "reservation.v1.InventoryService.CommitReservation".to_owned();
    let answer = ask(&stack, MessageRequest::FileContainingSymbol(symbol)).await;
    let MessageResponse::FileDescriptorResponse(files) = answer else { panic!("no descriptor: {answer:?}") };
    assert!(!files.file_descriptor_proto.is_empty());
}
