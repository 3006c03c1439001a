//! gRPC reflection, by which grpcurl and grpcui ask a server what it offers.

use futures_util::TryStreamExt;
use tokio::net::TcpListener;
use tonic::{
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tonic_reflection::server::{Builder, Error};

use crate::{inventory::ServeError, latency::Timed, proto::DESCRIPTORS};

/// Serves a gRPC service until the task is dropped, with reflection.
///
/// # Errors
/// When the listener or the protocol fails.
pub(crate) async fn serve(
    mut server: Server,
    routes: Routes,
    service: &str,
    listener: TcpListener,
) -> Result<(), ServeError> {
    let routes = with_reflection(routes, &[service])?;
    let connections = TcpIncoming::from(listener).with_nodelay(Some(true)).map_ok(Timed::from);
    server.add_routes(routes).serve_with_incoming(connections).await?;
    Ok(())
}

/// The routes, with what tells of these services of theirs. It comes in both versions, because tools still ask for the older
/// one.
///
/// # Errors
/// When the descriptors that the build wrote are not usable.
pub(crate) fn with_reflection(routes: Routes, services: &[&str]) -> Result<Routes, Error> {
    let reflection = || {
        let builder = Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
        services.iter().fold(builder, |builder, service| builder.with_service_name(*service))
    };
    Ok(routes.add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?))
}
