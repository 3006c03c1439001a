//! The API as it is deployed: the real function behind the local gateway, with an issuer for its customers.

use std::time::Duration;

use local_stack::{
    build,
    gateway::{
        AUDIENCE, AccessKey, Authorization, Gateway, GatewayOptions, Issuer, JwtConfiguration, Route, TIMEOUT, Target,
    },
    stack::Stack,
};

/// What the tickets of the document's examples are for.
const SHOW: &str = "evt_2026_1001";

/// What a token must allow.
pub(crate) const SCOPE: &str = "reserve";

/// Everything that a customer's request reaches.
pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) gateway: Gateway,
    pub(crate) issuer: Issuer,
}

impl World {
    /// The routes of the template where everything is switched on, in front of `environments` of the function.
    pub(crate) async fn open(environments: usize) -> Self {
        let stack = Stack::start().await.unwrap();
        let seats: Vec<String> = (1..=200).map(|number| format!("A-{number}")).collect();
        stack.inventory.stock(SHOW, &seats, 1_000);
        let binary = build::these_functions(&[reservation_api::NAME]).expect("the function builds");
        let binary = binary[reservation_api::NAME].clone();
        let function = stack.deploy(reservation_api::NAME, binary, environments).unwrap();
        let issuer = Issuer::start_on(0).await.unwrap();
        let route = |key: &str, authorization| Route {
            key: key.parse().unwrap(),
            authorization,
            function: reservation_api::NAME.to_owned(),
        };
        let public = ["GET /health", "GET /actuator/health", "GET /info", "GET /v3/api-docs", "GET /swagger-ui.html"];
        let mut routes: Vec<Route> = public.map(|key| route(key, Authorization::None)).into();
        routes.push(route("ANY /v1/{proxy+}", Authorization::Jwt { scopes: vec![SCOPE.to_owned()] }));
        routes.push(route("ANY /internal/{proxy+}", Authorization::Iam));
        let arn = "arn:aws:sts::000000000000:assumed-role/worker/local".to_owned();
        let gateway = Gateway::start(GatewayOptions {
            port: 0,
            routes,
            functions: [(reservation_api::NAME.to_owned(), Target::Function(function))].into(),
            jwt: Some(JwtConfiguration { issuer: issuer.url(), audience: vec![AUDIENCE.to_owned()] }),
            access_keys: vec![AccessKey { id: "test".to_owned(), secret: "test".to_owned(), arn }],
            timeout: TIMEOUT,
        });
        Self { gateway: gateway.await.unwrap(), stack, issuer }
    }

    /// A token of a customer.
    pub(crate) fn token(&self, sub: &str) -> String {
        self.issuer.token(sub, SCOPE, Duration::from_secs(600)).unwrap()
    }
}
