//! A stack that sells seats with nothing but the functions of this repository and an inventory, as the template deploys them:
//! the API behind its gateway, the relay on the table's stream, the rules of the bus, the functions that settle behind their
//! queues, whose calls are signed and go through the same gateway, and the sweep.

use std::{collections::BTreeMap, io, time::Duration};

use shared::waiting_room::table::TableError;
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinHandle},
    time::{Instant, interval_at},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    aws::{AwsError, Rule},
    build::Binaries,
    catalogue::{CATALOGUE, Entry, Fed, System, Trigger, all_fed},
    gateway::{
        AUDIENCE, AccessKey, Gateway, GatewayError, GatewayOptions, Issuer, JwtConfiguration, TIMEOUT, Target,
        sockets::{Sockets, SocketsOptions},
    },
    lambda::{Function, FunctionError, FunctionOptions, Invocation},
    mapping::Delivery,
    postgres::Database,
    queue::{Queue, QueueOptions},
    stack::{BUS, RESERVATIONS, Stack, StackError},
    stream::{StreamDelivery, StreamMapping, StreamOptions},
    template::{SCOPE, Template, TemplateError},
};

/// How many requests of the API are worked on side by side.
const API_ENVIRONMENTS: usize = 4;

/// How many batches of any other function are: as many as the mapping of a queue polls here.
const ENVIRONMENTS: usize = 2;

/// A stack with everything deployed that sells. Nothing polls before [`Sale::run`].
pub struct Sale {
    /// The account.
    pub stack: Stack,
    /// The API.
    pub gateway: Gateway,
    /// The API by which pages hear at once, where it is switched on.
    pub sockets: Option<Sockets>,
    /// Who signs the tokens of its customers.
    pub issuer: Issuer,
    /// All functions, by their names.
    pub functions: BTreeMap<&'static str, Function>,
    /// The queues of those that have one.
    pub queues: BTreeMap<&'static str, Queue>,
    /// What a function behind a stream gave up, by its name.
    pub given_up: BTreeMap<&'static str, Queue>,
    template: Template,
}

/// The loopback ports of a sale, beside those of its stack; 0 is any that is free.
#[derive(Clone, Copy, Debug, Default)]
pub struct SalePorts {
    /// The API's.
    pub gateway: u16,
    /// The issuer's, which is in its tokens.
    pub issuer: u16,
    /// That of the WebSocket API. Nothing: as by the template's default, pages hear nothing.
    pub sockets: Option<u16>,
}

/// Something that a function was invoked for.
#[derive(Debug)]
pub enum Worked {
    /// A batch of a queue, by its function.
    Queue(&'static str, Delivery),
    /// A batch of the stream, by its function.
    Stream(&'static str, StreamDelivery),
    /// The hour of a function.
    Schedule(&'static str, Invocation),
}

/// Why a sale can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum SaleError {
    /// The template says what can't be done here.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The API can't be deployed.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The issuer has no port.
    #[error("listen on 127.0.0.1:{0} for the issuer of tokens: {1}")]
    Issuer(u16, io::Error),
    /// The WebSocket API has no port.
    #[error("listen on 127.0.0.1:{0} for the connections of pages: {1}")]
    Sockets(u16, io::Error),
    /// A function has no binary.
    #[error("deploy a function: {0}")]
    Function(#[from] io::Error),
    /// The table has no stream.
    #[error("read the stream of the reservations: {0}")]
    Stream(#[from] AwsError),
    /// A function was not built.
    #[error("the function {0} was not built")]
    Unbuilt(&'static str),
    /// The clock of the waiting room failed.
    #[error("wind the clock of the waiting room: {0}")]
    Clock(FunctionError),
}

/// Why a sale with people in it was not held to its end.
#[derive(Debug, thiserror::Error)]
pub enum HeldError {
    /// The stack did not start.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// The sale did not open.
    #[error(transparent)]
    Sale(#[from] SaleError),
    /// A table could not be read.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// The waiting room's table could not be read or written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The line could not be opened.
    #[error("open the line: {0}")]
    Line(String),
    /// A function could not be deployed.
    #[error("deploy a function: {0}")]
    Deploy(#[from] io::Error),
    /// No client could be made.
    #[error("make an HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    /// What a customer does is at fault.
    #[error("let a customer in: {0}")]
    Visit(#[from] JoinError),
    /// Something did not come to an end.
    #[error("the sale has not come to rest {} minutes after its last customer: {what}", .after.as_secs() / 60)]
    Stuck {
        /// So long it was waited for.
        after: Duration,
        /// What is left.
        what: String,
    },
}

/// What polls; it ends with this value.
pub struct Running {
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Sale {
    /// Deploys everything on a stack.
    ///
    /// # Errors
    /// What could not be deployed.
    pub async fn open(stack: Stack, binaries: &Binaries, ports: SalePorts) -> Result<Self, SaleError> {
        let template = Template::read()?;
        let issuer = Issuer::start_on(ports.issuer).await.map_err(|error| SaleError::Issuer(ports.issuer, error))?;
        let deploy = |name, environment, environments| deploy(&template, binaries, name, environment, environments);
        let mut functions = BTreeMap::new();
        let mut sockets = None;
        if let Some(port) = ports.sockets {
            let name = waiting_room_connected::NAME;
            let connected = deploy(name, stack.environment(name), ENVIRONMENTS)?;
            sockets = Some(open_sockets(&template, Target::Function(connected.clone()), port).await?);
            functions.insert(name, connected);
        }
        let push_api = sockets.as_ref().map(|sockets| (PUSH_API.to_owned(), sockets.base()));
        let served = CATALOGUE.iter().filter(|entry| entry.trigger == Trigger::Http);
        let mut targets = BTreeMap::new();
        for entry in served {
            let mut environment = stack.environment(entry.name);
            match entry.system {
                System::Reservations => environment.extend(stack.admission()),
                System::WaitingRoom => {
                    environment.extend(sign_in(&issuer));
                    environment.extend(push_api.clone());
                }
                System::Settlement | System::Bookings => {}
            }
            let function = deploy(entry.name, environment, API_ENVIRONMENTS)?;
            targets.insert(entry.name.to_owned(), Target::Function(function.clone()));
            functions.insert(entry.name, function);
        }
        let gateway = Gateway::start(options(&template, &issuer, targets, ports.gateway)?).await?;
        // The address of a server that runs is a URL.
        if let Ok(page) = format!("{}/waiting-room", gateway.url()).parse() {
            issuer.lead_back_to(page);
        }
        // The bookings need a database: see [`Sale::book`].
        let is_served = |entry: &Entry| matches!(entry.trigger, Trigger::Http | Trigger::WebSocket);
        let others = |entry: &&Entry| !is_served(entry) && entry.system != System::Bookings;
        for entry in CATALOGUE.iter().filter(others) {
            let mut environment = stack.environment(entry.name);
            if entry.system != System::Reservations {
                environment.insert("RESERVATION_API_BASE".to_owned(), gateway.url());
                environment.insert("RESERVATION_API_AUTH".to_owned(), "iam".to_owned());
            }
            if entry.name == waiting_room_called::NAME {
                environment.extend(push_api.clone());
            }
            functions.insert(entry.name, deploy(entry.name, environment, ENVIRONMENTS)?);
        }
        let fed = all_fed().filter(|fed| functions.contains_key(fed.name));
        let queue = |fed: Fed| Ok((fed.name, stack.queue_for(fed.name, template.limits(fed.name)?.0)));
        let queues = fed.map(queue).collect::<Result<BTreeMap<_, _>, TemplateError>>()?;
        add_rules(&template, &stack, &queues)?;
        let streaming = CATALOGUE.iter().filter(|entry| entry.trigger == Trigger::Stream);
        let given_up = streaming.map(|entry| {
            let queue = Queue::new(format!("{}-given-up", entry.name), QueueOptions::default());
            stack.aws.add_queue(queue.clone());
            (entry.name, queue)
        });
        Ok(Self { gateway, sockets, issuer, functions, queues, given_up: given_up.collect(), template, stack })
    }

    /// Deploys the bookings too, in this database.
    ///
    /// # Errors
    /// What could not be deployed.
    pub fn book(&mut self, database: &Database, binaries: &Binaries) -> Result<(), SaleError> {
        let mut queues = BTreeMap::new();
        for Entry { name, trigger, .. } in CATALOGUE.into_iter().filter(|entry| entry.system == System::Bookings) {
            let environment = database.environment(&self.stack, name);
            self.functions.insert(name, deploy(&self.template, binaries, name, environment, ENVIRONMENTS)?);
            if trigger == Trigger::Queue {
                queues.insert(name, self.stack.queue(name));
            }
        }
        add_rules(&self.template, &self.stack, &queues)?;
        self.queues.extend(queues);
        Ok(())
    }

    /// The mapping of a function behind the stream of the reservations.
    ///
    /// # Errors
    /// When there is no such function or no stream.
    pub async fn stream(&self, function: &'static str) -> Result<StreamMapping, SaleError> {
        let on_failure = self.given_up.get(function).cloned();
        let options = StreamOptions { on_failure, ..self.template.stream(function)? };
        let function = self.functions.get(function).cloned().ok_or(SaleError::Unbuilt(function))?;
        Ok(StreamMapping::new(self.stack.aws.clone(), RESERVATIONS, function, options).await?)
    }

    /// Invokes the clock of the waiting room now. Its rule does so within a minute, for which who opens a line need not wait.
    ///
    /// # Errors
    /// When it failed, or was not built.
    pub async fn wind(&self) -> Result<(), SaleError> {
        let clock = self.functions.get(waiting_room_clock::NAME);
        let clock = clock.ok_or(SaleError::Unbuilt(waiting_room_clock::NAME))?;
        clock.invoke(EVENT_OF_THE_CLOCK).await.result.map(drop).map_err(SaleError::Clock)
    }

    /// Lets every function be invoked by what triggers it, and tells of each invocation but those of the API. A receiver that
    /// is gone is fine.
    ///
    /// # Errors
    /// When a trigger can't be had.
    pub async fn run(&self, worked: mpsc::UnboundedSender<Worked>) -> Result<Running, SaleError> {
        let mut tasks = Vec::new();
        for entry in &CATALOGUE {
            let name = entry.name;
            let Some(function) = self.functions.get(name).cloned() else { continue };
            match entry.trigger {
                Trigger::Http | Trigger::WebSocket => {}
                Trigger::Queue => {
                    let Some(queue) = self.queues.get(name).cloned() else { continue };
                    let (deliveries, told) = mpsc::unbounded_channel();
                    tasks.push(self.stack.map(queue, function).run(deliveries));
                    let to_worked = move |delivery| Worked::Queue(name, delivery);
                    tasks.push(pass_on(told, to_worked, worked.clone()));
                }
                Trigger::Stream => {
                    let (deliveries, told) = mpsc::unbounded_channel();
                    tasks.push(self.stream(name).await?.run(deliveries));
                    let to_worked = move |delivery| Worked::Stream(name, delivery);
                    tasks.push(pass_on(told, to_worked, worked.clone()));
                }
                Trigger::Schedule => {
                    let worked = worked.clone();
                    tasks.push(every(self.template.schedule(name)?, name, function, worked));
                }
            }
        }
        Ok(Running { _tasks: tasks.into_iter().map(AbortOnDropHandle::new).collect() })
    }
}

/// The variable by which functions know the WebSocket API.
pub const PUSH_API: &str = "PUSH_API_BASE";

/// The WebSocket API as the template has it, in front of its function.
///
/// # Errors
/// When the template has a route that can't be served here, or the port can't be had.
pub async fn open_sockets(template: &Template, function: Target, port: u16) -> Result<Sockets, SaleError> {
    let routes = template.connection_routes()?.into_keys().map(|key| (key, function.clone())).collect();
    let options = SocketsOptions { port, routes, access_keys: vec![access_key()] };
    Sockets::start(options).await.map_err(|error| SaleError::Sockets(port, error))
}

fn deploy(
    template: &Template,
    binaries: &Binaries,
    name: &'static str,
    environment: BTreeMap<String, String>,
    environments: usize,
) -> Result<Function, SaleError> {
    let binary = binaries.get(name).cloned().ok_or(SaleError::Unbuilt(name))?;
    let (timeout, memory_mb) = template.limits(name)?;
    let (name, core) = (name.to_owned(), None);
    Ok(Function::start(FunctionOptions { name, binary, environment, timeout, environments, memory_mb, core })?)
}

/// The variables by which customers sign in on the waiting room's page.
fn sign_in(issuer: &Issuer) -> BTreeMap<String, String> {
    let variables =
        [("LOGIN_ISSUER", issuer.url()), ("LOGIN_CLIENT_ID", AUDIENCE.to_owned()), ("LOGIN_SCOPE", SCOPE.to_owned())];
    variables.map(|(name, value)| (name.to_owned(), value)).into()
}

/// The rules of the bus that lead to these queues.
fn add_rules(template: &Template, stack: &Stack, queues: &BTreeMap<&'static str, Queue>) -> Result<(), TemplateError> {
    for rule in template.rules()? {
        if let Some(target) = queues.get(rule.function.as_str()).cloned() {
            stack.aws.add_rule(Rule { bus: BUS.to_owned(), pattern: rule.pattern, target });
        }
    }
    Ok(())
}

/// The API as the template has it, in front of these functions alone.
///
/// # Errors
/// When the template has a route that can't be served here.
pub fn options(
    template: &Template,
    issuer: &Issuer,
    functions: BTreeMap<String, Target>,
    port: u16,
) -> Result<GatewayOptions, TemplateError> {
    let mut routes = template.routes()?;
    routes.retain(|route| functions.contains_key(&route.function));
    Ok(GatewayOptions {
        port,
        routes,
        functions,
        jwt: Some(JwtConfiguration { issuer: issuer.url(), audience: vec![AUDIENCE.to_owned()] }),
        access_keys: vec![access_key()],
        timeout: TIMEOUT,
    })
}

/// What the local Lambda gives each function in place of a role, and operators have too.
pub fn access_key() -> AccessKey {
    let arn = "arn:aws:sts::000000000000:assumed-role/worker/local".to_owned();
    AccessKey { id: "test".to_owned(), secret: "test".to_owned(), arn }
}

fn pass_on<T: Send + 'static>(
    mut told: mpsc::UnboundedReceiver<T>,
    to_worked: impl Fn(T) -> Worked + Send + 'static,
    worked: mpsc::UnboundedSender<Worked>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(one) = told.recv().await {
            drop(worked.send(to_worked(one)));
        }
    })
}

/// Invokes a function by the clock, the first time when the first period is over.
fn every(
    period: Duration,
    name: &'static str,
    function: Function,
    worked: mpsc::UnboundedSender<Worked>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut ticks = interval_at(Instant::now() + period, period);
        loop {
            ticks.tick().await;
            let invocation = function.invoke(EVENT_OF_THE_CLOCK).await;
            drop(worked.send(Worked::Schedule(name, invocation)));
        }
    })
}

/// What of a scheduled event is the same each time; no function reads more.
const EVENT_OF_THE_CLOCK: &str =
    r#"{"version": "0", "detail-type": "Scheduled Event", "source": "aws.events", "resources": [], "detail": {}}"#;
