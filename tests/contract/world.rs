//! The API as it is deployed: the real functions behind the local gateway, with an issuer for its customers.

use std::time::Duration;

use local_stack::{
    build,
    gateway::{Gateway, Issuer, Target},
    sale,
    stack::Stack,
    template::{SCOPE, Template},
};

/// What the tickets of the document's examples are for.
const SHOW: &str = "evt_2026_1001";

/// Everything that a customer's request reaches.
pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) gateway: Gateway,
    pub(crate) issuer: Issuer,
}

impl World {
    /// The routes of the template where everything is switched on, in front of `environments` of each function.
    pub(crate) async fn open(environments: usize) -> Self {
        let stack = Stack::start().await.unwrap();
        let seats: Vec<String> = (1..=200).map(|number| format!("A-{number}")).collect();
        stack.inventory.stock(SHOW, &seats, 1_000);
        let names = [reservation_api::NAME, reservation_rpc::NAME];
        let binaries = build::these_functions(&names).expect("the functions build");
        let issuer = Issuer::start_on(0).await.unwrap();
        let deploy = |name: &str| stack.deploy(name, binaries[name].clone(), environments).unwrap();
        let functions = names.map(|name| (name.to_owned(), Target::Function(deploy(name)))).into();
        let gateway = Gateway::start(sale::options(&Template::read().unwrap(), &issuer, functions, 0).unwrap());
        Self { gateway: gateway.await.unwrap(), stack, issuer }
    }

    /// A token of a customer.
    pub(crate) fn token(&self, sub: &str) -> String {
        self.issuer.token(sub, SCOPE, Duration::from_secs(600)).unwrap()
    }
}
