//! gRPC reflection, by which grpcurl and grpcui ask a server what it offers.

use tonic::service::Routes;
use tonic_reflection::server::{Builder, Error};

use crate::proto::DESCRIPTORS;

/// The routes, with what tells of these services of theirs. It comes in both versions, because tools still ask for the older one.
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
