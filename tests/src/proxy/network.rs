//! The network between the functions and a stack: a proxy in front of each service.

use std::{collections::BTreeMap, io, ops::AddAssign};

use super::{Counts, Proxy, Service};
use crate::stack::Stack;

/// The proxies of a stack.
#[derive(Clone, Debug)]
pub struct Network {
    /// Before DynamoDB, SQS, EventBridge and Secrets Manager.
    pub aws: Proxy,
    /// Before the reservation API.
    pub reservations: Proxy,
    /// Before the inventory.
    pub inventory: Proxy,
}

/// One of the proxies.
pub type Pick = fn(&Network) -> &Proxy;

impl Network {
    /// What the services are called, and how to get at each.
    pub const SERVICES: [(&str, Pick); 3] = [
        ("AWS", |network| &network.aws),
        ("reservation API", |network| &network.reservations),
        ("inventory", |network| &network.inventory),
    ];

    /// Puts a proxy before each service; everything passes at first.
    ///
    /// # Errors
    /// When there is no loopback port.
    pub async fn before(stack: &Stack, seed: u64) -> io::Result<Self> {
        Ok(Self {
            aws: Proxy::start(Service::Aws, stack.aws.address(), seed).await?,
            reservations: Proxy::start(Service::Rest, stack.reservation_address, seed.wrapping_add(1)).await?,
            inventory: Proxy::start(Service::Grpc, stack.inventory_address, seed.wrapping_add(2)).await?,
        })
    }

    /// The variables that lead a function through the proxies.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let variables = [
            ("AWS_ENDPOINT_URL", format!("http://{}", self.aws.address())),
            ("RESERVATION_API_BASE", format!("http://{}", self.reservations.address())),
            ("INVENTORY_GRPC_ADDR", self.inventory.address().to_string()),
        ];
        variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// As [`Proxy::set_share`], for all of them.
    pub fn set_share(&self, share: f64) {
        Self::SERVICES.iter().for_each(|(_, pick)| pick(self).set_share(share));
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        for (fault, count) in other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
    }
}
