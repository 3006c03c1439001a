//! One account with everything that the functions need, empty, on loopback ports of its own.

use std::{collections::BTreeMap, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use serde_json::json;
use shared::admission::token::KEY_FIELD;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    admission::KEY,
    aws::{AwsEndpoint, AwsError, Table},
    catalogue::all_fed,
    inventory::{Inventory, SeatState},
    lambda::{Function, FunctionOptions},
    mapping::{Mapping, MappingOptions},
    payments::Payments,
    queue::{Queue, QueueOptions, Redrive},
    realtime::Realtime,
    reservations::{Reservation, Reservations},
    scenario::Given,
};

/// The idempotency table's name.
pub const TABLE: &str = "holdfast-idempotency";
/// The name of the table of reservations.
pub const RESERVATIONS: &str = "holdfast-reservations";
/// The name of the waiting room's table.
pub const WAITING_ROOM: &str = "holdfast-waiting-room";
/// The name of the secret with the keys that places are named by and admissions are signed with.
pub const WAITING_ROOM_SECRET: &str = "holdfast/waiting-room";
/// What it holds.
pub const WAITING_ROOM_KEYS: &str = "1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// The event bus's name.
pub const BUS: &str = "holdfast";
/// Who publishes what becomes of payments.
pub const PAYMENT_SOURCE: &str = "payment-service";
/// A function's last receive: the default of `MAX_RETRIES`, which counts receives.
pub const MAX_RECEIVES: u32 = 12;
/// The receives after which SQS moves a message by itself, as in the template: more than a function's last one, so that a
/// worker that died there, or could not dead-letter the message, gets another try.
pub const MOVED_AFTER: u32 = 24;
/// A function's timeout.
pub const FUNCTION_TIMEOUT: Duration = Duration::from_secs(30);

/// A running stack; it ends when the last clone is dropped.
#[derive(Clone)]
pub struct Stack {
    /// SQS, EventBridge, Secrets Manager and DynamoDB.
    pub aws: AwsEndpoint,
    /// The inventory service.
    pub inventory: Inventory,
    /// Where the inventory service listens.
    pub inventory_address: SocketAddr,
    /// The payment service.
    pub payments: Payments,
    /// Where the payment service listens.
    pub payment_address: SocketAddr,
    /// The realtime service.
    pub realtime: Realtime,
    /// Where the realtime service listens.
    pub realtime_address: SocketAddr,
    /// The reservation API.
    pub reservations: Reservations,
    /// Where the reservation API listens.
    pub reservation_address: SocketAddr,
    dead_letters: BTreeMap<String, Queue>,
    variables: BTreeMap<String, String>,
    _servers: Arc<[AbortOnDropHandle<()>; 4]>,
}

/// Why the stack could not start.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// A loopback port could not be had.
    #[error("listen on {0}")]
    Listen(#[from] io::Error),
    /// The AWS endpoint, or DynamoDB behind it, could not start.
    #[error("start the AWS endpoint: {0}")]
    Aws(#[from] AwsError),
}

/// The loopback ports of the services; 0 is any that is free.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ports {
    /// The inventory's.
    pub inventory: u16,
    /// The payment service's.
    pub payments: u16,
    /// The reservation API's.
    pub reservations: u16,
}

impl Stack {
    /// Starts everything but the functions.
    ///
    /// # Errors
    /// When a part could not start.
    pub async fn start() -> Result<Self, StackError> {
        Self::start_on(Ports::default()).await
    }

    /// As [`Stack::start`], with the services on ports of the caller's choice.
    ///
    /// # Errors
    /// When a part could not start.
    pub async fn start_on(ports: Ports) -> Result<Self, StackError> {
        Self::start_with(Table::default(), ports).await
    }

    /// As [`Stack::start_on`], with a database of the caller's choice.
    ///
    /// # Errors
    /// When a part could not start.
    pub async fn start_with(table: Table, ports: Ports) -> Result<Self, StackError> {
        let aws = AwsEndpoint::start_with(table).await?;
        aws.create_idempotency_table(TABLE).await?;
        if table == Table::Emulated {
            aws.create_reservations_table(RESERVATIONS).await?;
            aws.create_waiting_room_table(WAITING_ROOM).await?;
        }
        aws.put_secret(
            WAITING_ROOM_SECRET,
            &json!({"waiting_room_key": WAITING_ROOM_KEYS, KEY_FIELD: KEY}).to_string(),
        );
        aws.add_bus(BUS);
        let dead_letters: BTreeMap<_, _> = all_fed()
            .filter(|function| function.keeps_dead_letters)
            .map(|function| {
                let retention_only = QueueOptions::default();
                let queue = Queue::new(format!("{}-dlq", function.name), retention_only);
                aws.add_queue(queue.clone());
                (function.name.to_owned(), queue)
            })
            .collect();

        let (inventory, reservations) = (Inventory::default(), Reservations::default());
        let (payments, realtime) = (Payments::default(), Realtime::default());
        payments.publish_by({
            let aws = aws.clone();
            move |(detail_type, detail)| {
                // The bus is there, and takes what is so short.
                drop(aws.publish(BUS, PAYMENT_SOURCE, detail_type, &detail));
            }
        });
        let (inventory_listener, inventory_address) = listen(ports.inventory).await?;
        let (payment_listener, payment_address) = listen(ports.payments).await?;
        let (realtime_listener, realtime_address) = listen(0).await?;
        let (reservation_listener, reservation_address) = listen(ports.reservations).await?;
        let servers = [
            tokio::spawn({
                let inventory = inventory.clone();
                async move { drop(inventory.serve(inventory_listener).await) }
            }),
            tokio::spawn({
                let payments = payments.clone();
                async move { drop(payments.serve(payment_listener).await) }
            }),
            tokio::spawn({
                let realtime = realtime.clone();
                async move { drop(realtime.serve(realtime_listener).await) }
            }),
            tokio::spawn({
                let reservations = reservations.clone();
                async move { drop(reservations.serve(reservation_listener).await) }
            }),
        ];
        let servers = Arc::new(servers.map(AbortOnDropHandle::new));
        Ok(Self {
            aws,
            inventory,
            inventory_address,
            payments,
            payment_address,
            realtime,
            realtime_address,
            reservations,
            reservation_address,
            dead_letters,
            variables: BTreeMap::new(),
            _servers: servers,
        })
    }

    /// The dead-letter queue of a function. An unknown function has an empty one of its own.
    pub fn dead_letters(&self, function: &str) -> Queue {
        let unknown = || Queue::new(format!("{function}-dlq"), QueueOptions::default());
        self.dead_letters.get(function).cloned().unwrap_or_else(unknown)
    }

    /// A new, empty queue of a function. It takes the place of an earlier one under the same name, whose waiting messages
    /// are gone with it.
    pub fn queue(&self, function: &str) -> Queue {
        self.queue_for(function, FUNCTION_TIMEOUT)
    }

    /// As [`Stack::queue`], for a function with a timeout of its own, of which the time that messages are hidden is six times.
    pub fn queue_for(&self, function: &str, timeout: Duration) -> Queue {
        let dead_letters = self.dead_letters.get(function).cloned();
        let redrive = dead_letters.map(|queue| Redrive { queue, max_receive_count: MOVED_AFTER });
        let options = QueueOptions { visibility: timeout * 6, redrive };
        let queue = Queue::new(function, options);
        self.aws.add_queue(queue.clone());
        queue
    }

    /// The same stack, whose functions have this variable too, or in place of their own.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The variables that a function is configured with, as the template will set them.
    pub fn environment(&self, function: &str) -> BTreeMap<String, String> {
        let variables = [
            ("AWS_ENDPOINT_URL", self.aws.url().to_owned()),
            ("IDEMPOTENCY_TABLE", TABLE.to_owned()),
            ("INVENTORY_GRPC_ADDR", self.inventory_address.to_string()),
            ("PAYMENT_GRPC_ADDR", self.payment_address.to_string()),
            ("GRPC_REALTIME_SERVICE_ENDPOINT", self.realtime_address.to_string()),
            ("RESERVATION_API_BASE", format!("http://{}", self.reservation_address)),
            ("EVENT_BUS_NAME", BUS.to_owned()),
            ("JOINED_QUEUE_URL", format!("{}/000000000000/waiting-room-joined", self.aws.url())),
            ("TICK_QUEUE_URL", format!("{}/000000000000/waiting-room-ticked", self.aws.url())),
            ("RESERVATIONS_TABLE", RESERVATIONS.to_owned()),
            ("EXPIRY_QUEUE_URL", format!("{}/000000000000/reservation-expired", self.aws.url())),
        ];
        let dead_letters = self.dead_letters.get(function).map(|queue| {
            let url = format!("{}/000000000000/{}", self.aws.url(), queue.name());
            ("DLQ_URL", url)
        });
        // The only secret of a stack is that of the waiting room; settlement's are put there by the tests of secrets.
        // A reservation API that is given the table asks for tokens.
        let room = self.admission().into_iter().filter(|_| function.starts_with("waiting-room"));
        let own = variables.into_iter().chain(dead_letters).map(|(name, value)| (name.to_owned(), value));
        own.chain(room).chain(self.variables.clone()).collect()
    }

    /// The variables by which a function knows the lines of the waiting room and the keys of admissions.
    pub fn admission(&self) -> BTreeMap<String, String> {
        let own = [
            ("WAITING_ROOM_TABLE", WAITING_ROOM),
            ("USE_SECRET_MANAGER", "true"),
            ("SECRET_NAME", WAITING_ROOM_SECRET),
        ];
        own.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// Deploys a function; its processes start when they are needed, `environments` of them at most.
    ///
    /// # Errors
    /// When the binary is not there.
    pub fn deploy(&self, name: &str, binary: PathBuf, environments: usize) -> io::Result<Function> {
        self.deploy_with(name, binary, environments, self.environment(name))
    }

    /// As [`Stack::deploy`], with variables of the caller's choice.
    ///
    /// # Errors
    /// When the binary is not there.
    pub fn deploy_with(
        &self,
        name: &str,
        binary: PathBuf,
        environments: usize,
        environment: BTreeMap<String, String>,
    ) -> io::Result<Function> {
        let name = name.to_owned();
        Function::start(FunctionOptions {
            name,
            binary,
            environment,
            timeout: FUNCTION_TIMEOUT,
            environments,
            memory_mb: 256,
            core: None,
        })
    }

    /// Maps a queue to a function as the template will.
    pub fn map(&self, queue: Queue, function: Function) -> Mapping {
        Mapping::new(queue, function, MappingOptions::default())
    }

    /// Puts reservations and their seats in place.
    pub fn seed(&self, given: &[Given]) {
        for given in given {
            self.reservations.put(Reservation {
                reservation_id: given.reservation_id.clone(),
                event_id: given.event_id.clone(),
                user_id: given.user_id.clone(),
                status: given.status,
                seat_ids: given.seat_ids.clone(),
                quantity: given.quantity,
                payment_intent_id: given.payment_intent_id.clone(),
            });
            let (event, reservation) = (&given.event_id, &given.reservation_id);
            match given.seats {
                SeatState::Held => self.inventory.hold(event, reservation, &given.seat_ids, given.quantity),
                SeatState::Sold => self.inventory.sell(event, reservation, &given.seat_ids, given.quantity),
                SeatState::Free => self.inventory.release(event, reservation, &given.seat_ids, given.quantity),
                SeatState::Unknown => {}
            }
        }
    }
}

async fn listen(port: u16) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await;
    let listener = listener.map_err(|error| io::Error::new(error.kind(), format!("127.0.0.1:{port}: {error}")))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
